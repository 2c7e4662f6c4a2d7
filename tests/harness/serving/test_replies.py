"""What a chat completion says, in whatever words and parts; and which replies are failed calls."""

from __future__ import annotations

from typing import Any

import pytest

from harness.serving.replies import Said, lacks, said_in


def reply(content: Any = "Yes.", finish: Any = "stop", tokens: Any = 5, **message: Any) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"completion_tokens": tokens}}


ENDINGS = {
    "stop": ["stop", "STOP", "eos", "eos_token", "end_turn", "stop_sequence", "COMPLETE", "FinishReason.STOP"],
    "length": ["length", "MAX_TOKENS", "max_tokens", "model_length", "max_output_tokens", {"type": "length"}],
    "filtered": ["content_filter", "SAFETY", "content_filter: PROHIBITED_CONTENT", "recitation", "refusal"],
    "unsaid": [None, "", "null"],
}


@pytest.mark.parametrize(("wanted", "word"), [(key, word) for key, words in ENDINGS.items() for word in words])
def test_how_a_reply_ended_in_the_words_of_the_field(wanted: str, word: Any) -> None:
    said = said_in(reply(finish=word))
    assert (said.finish, said.text, lacks(reply(finish=word))) == (wanted, "Yes.", None)


@pytest.mark.parametrize(
    "word", ["error", "abort", "tool_calls", "function_call", "insufficient_system_resource", "OTHER", "load", 7, ["x"]]
)
def test_an_ending_that_is_none_is_a_failed_call(word: Any) -> None:
    assert lacks(reply(finish=word)) == f"a reply that ended by '{word}'"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Yes.", "Yes."),
        (["Yes", "."], "Yes."),
        ([{"type": "text", "text": "Yes"}, {"type": "output_text", "text": "."}], "Yes."),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "No?"}]}, {"type": "text", "text": "Yes."}],
            "Yes.",
        ),
        ([{"type": "reasoning", "text": "No?"}, {"text": "Yes."}], "Yes."),
        ([{"type": "reasoning_text", "text": "No?"}, {"type": "output_text", "text": "Yes."}], "Yes."),
        ([{"text": "No reasoning?", "thought": True}, {"text": "Yes."}], "Yes."),
        ([{"type": "text", "text": {"value": "Yes.", "annotations": []}}], "Yes."),
        ({"type": "text", "text": "Yes."}, "Yes."),
        ([{"type": "image_url", "image_url": {"url": "x"}}, None, 3], ""),
        (None, ""),
        (5, ""),
    ],
    ids=str,
)
def test_the_parts_of_a_content_are_its_text(content: Any, text: str) -> None:
    said = said_in(reply(content))
    assert said.text == text
    assert said.thought == ("thinking" in str(content) or "reasoning" in str(content))


def test_a_refusal_and_thoughts_stand_apart_from_the_text() -> None:
    assert said_in(reply(None, refusal="I cannot.")) == Said("", "I cannot.", False, "stop", "stop")
    assert said_in(reply([{"type": "refusal", "refusal": "I cannot."}])).refusal == "I cannot."
    assert all(said_in(reply("", **{name: "Hm."})).thought for name in ("reasoning_content", "reasoning", "thinking"))
    counted = reply("", "length") | {"usage": {"completion_tokens_details": {"reasoning_tokens": 9}}}
    assert said_in(counted).thought and lacks(counted) is None


@pytest.mark.parametrize(
    ("odd", "lack"),
    [
        ({}, "a reply without a choice"),
        ({"choices": []}, "a reply without a choice"),
        ({"choices": [None]}, "a reply without a choice"),
        ({"choices": [{}]}, "a reply without a text, which does not say how it ended"),
        (reply("", None), "a reply without a text, which does not say how it ended"),
        (reply("", "stop", 0), "a reply without a text and without tokens"),
        (reply(None, "stop", None), "a reply without a text and without tokens"),
        (reply("", "stop", 1), None),  # it ended its turn at once
        (reply("", "length", 0), None),
        (reply(None, "content_filter", 0), None),
        (reply(None, "stop", 0, refusal="I cannot."), None),
        (reply(None, "stop", 0, reasoning_content="Hm."), None),
    ],
    ids=str,
)
def test_a_reply_that_says_nothing_is_a_failed_call(odd: dict[str, Any], lack: str | None) -> None:
    assert lacks(odd) == lack


@pytest.mark.parametrize(
    "told", [{"promptFeedback": {"blockReason": "SAFETY"}}, {"choices": [], "prompt_feedback": {"block_reason": 4}}]
)
def test_a_prompt_that_is_blocked_has_no_choice(told: dict[str, Any]) -> None:
    assert lacks(told) is None and said_in(told) == Said("", "", False, "filtered", "blocked")


def test_a_letter_may_have_no_text_where_its_log_probs_came() -> None:
    whole = reply("", "stop", None)
    whole["choices"][0]["logprobs"] = {"content": [{"token": "A", "logprob": -0.1}]}
    assert lacks(whole) is None
