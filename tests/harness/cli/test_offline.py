"""When the hub is not asked."""

from __future__ import annotations

import pytest

from harness.core.hub import offline


@pytest.mark.parametrize(
    ("hub", "transformers", "found"),
    [
        (None, None, False),
        ("1", None, True),
        (None, "1", True),
        ("0", "1", False),
        ("", "yes", True),
        ("ON", "0", True),
    ],
)
def test_either_variable_says_that_the_hub_is_not_asked(
    hub: str | None, transformers: str | None, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("HF_HUB_OFFLINE", hub), ("TRANSFORMERS_OFFLINE", transformers)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert offline() is found
