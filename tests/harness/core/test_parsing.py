from __future__ import annotations

import pytest

from harness.core.parsing import parse_json


def test_json_as_plain_data() -> None:
    assert parse_json('{"a": [1, {"b": null}], "c": "\\u00e9"}') == {"a": [1, {"b": None}], "c": "é"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 20_000 + "]" * 20_000, "it is nested too deep"),
        ('{"a":' * 20_000 + "1" + "}" * 20_000, "it is nested too deep"),
        ('[{"a": 1, "b": 2, "b": 2}]', "'b' is there twice in one object"),
        ("9" * 5000, "5000 digits"),
        ("{", "Expecting property name"),
    ],
)
def test_json_that_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_json(text)


def test_half_a_surrogate_pair_is_told_apart() -> None:
    with pytest.raises(UnicodeEncodeError):
        parse_json('"\\ud800"')
