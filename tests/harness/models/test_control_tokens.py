"""Control tokens of all families are broken up; markup and code are not."""

from __future__ import annotations

import pytest

from harness.judging.templates import SPACE, without_control_tokens
from tests.harness.templates import CONTROL


@pytest.mark.parametrize("token", CONTROL)
def test_control_tokens_of_all_families_are_broken_up(token: str) -> None:
    for text in (token, token * 2, f"<{token}", f"a{token}b", f"<|{token}|>"):
        sent = without_control_tokens(text)
        assert token not in sent
        assert sent.replace(SPACE, "") == text
        assert without_control_tokens(sent) == sent


@pytest.mark.parametrize(
    "text",
    [
        "<div class='a'><p>x</p><pre>y</pre></div><br/>",
        "a < b || c > d; x <= y; a << 2 >> 1; vector<int> v; List<String>",
        "[1, 2][0] a[i] [link](https://example.org) - [x] done [a|b] {a|b}",
        "if a | b: cat x | sort > y",
        "",
        "$x<y|z>w$ and <a|b>c <|> x",
    ],
)
def test_markup_and_code_stay_as_they_are(text: str) -> None:
    assert without_control_tokens(text) == text
