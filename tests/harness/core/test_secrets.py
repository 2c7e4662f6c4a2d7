"""What `hide` takes out of a text, and what it leaves."""

from __future__ import annotations

import pytest

from harness.core.secrets import hide, hide_long


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("http://user:s3cret@host/v1 is down", "http://***@host/v1 is down"),
        ("https://token@host:8000", "https://***@host:8000"),
        ("socks5://u:p@proxy, http://v:q@host", "socks5://***@proxy, http://***@host"),
        ("http://user:p@ss@host/v1", "http://***@host/v1"),
        ("http://user:pa/ss?w#rd@host/v1", "http://***@host/v1"),
        ("given: 'http://user:it's@host/v1'", "given: 'http://***@host/v1'"),
        ('{"url":"http://u:p@host","mail":"me@home"}', '{"url":"http://***@host","mail":"me@home"}'),
    ],
)
def test_what_stands_before_the_host_of_a_url_is_hidden(text: str, hidden: str) -> None:
    assert hide(text) == hidden
    assert hide(hidden) == hidden


@pytest.mark.parametrize("text", ["", "me@home.org", "http://host/v1", "a://b c@d", "http://host/v1 asks for me@home"])
def test_other_text_stays(text: str) -> None:
    assert hide(text) == text


def test_keys_and_tokens_of_the_environment_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1")
    monkeypatch.setenv("HF_TOKEN", "hf_secret-2")
    monkeypatch.setenv("OTHER_API_KEY", "sk-secret-1-and-more")  # the longer one goes as a whole
    monkeypatch.setenv("SHORT_KEY", "none")
    monkeypatch.setenv("EMPTY_KEY", "")
    monkeypatch.setenv("EDITOR_NAME", "no-secret-at-all")
    text = "sk-secret-1-and-more, (sk-secret-1) hf_secret-2; none of no-secret-at-all"
    assert hide(text) == "***, (***) ***; none of no-secret-at-all"


def test_secrets_that_are_given_are_hidden_however_short() -> None:
    assert hide("pw and pw2", ("pw", "pw2")) == "*** and ***"
    assert hide("an answer, not a key: (a)", ("a",)) == "an answer, not *** key: (***)"
    assert hide("wrong key 'k?y.'", ("k?y.", "")) == "wrong key '***'"


def test_what_a_model_wrote_is_searched_for_long_secrets_alone() -> None:
    text = "1234567 is a prime, 12345678 is none; [[A]]"
    assert hide_long(text, ("a", "A", "1234567", "")) == text
    assert hide_long(text, ("12345678",)) == "1234567 is a prime, *** is none; [[A]]"
