from __future__ import annotations

from typing import Any

import pytest

from harness.core.errors import RefusedError, UserError


def test_an_error_is_one_line_whatever_it_quotes() -> None:
    assert UserError("cannot be read (two\n  lines)").lines == ("cannot be read (two lines)",)


def test_several_refusals_are_a_line_each(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> None:
        raise RefusedError(["the first;\n of two", "the second"])

    monkeypatch.setattr("harness.results.recording.record", refuses)
    ended = cli("record", "somewhere")
    assert (ended.status, ended.err) == (2, "error: the first; of two\nerror: the second\n")
