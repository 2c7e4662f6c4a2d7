"""Log-probs of responses under a teacher behind a server, by hand; what a server leaves out is one line."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.logprobs import served
from harness.logprobs.batching import Example
from harness.logprobs.served import response_log_prob, served_log_probs, served_tokens, served_top
from harness.serving.settings import ModelServer
from tests import serving
from tests.serving import Call, Fault, Reply, Server, input_logprobs, prompt_logprobs

PAIRS = [
    Example(0, [5, 6, 7], ([8, 9], [10, 11, 12])),
    Example(1, [5], ([8], [8, 8])),
    Example(2, [20, 21], ([22, 23, 24], [2])),
]


def value(place: int, token: int) -> float:
    return -(token + place / 8)


def entries(ids: list[int]) -> list[Any]:
    """What vLLM says of a prompt: nothing of its first token; of the others their log-prob, and a likelier token's."""
    rows: list[Any] = [None]
    for place, token in enumerate(ids[1:], 1):
        said = {str(token): {"logprob": value(place, token), "rank": 3, "decoded_token": "x"}}
        rows.append({**said, "499": {"logprob": -0.001, "rank": 1, "decoded_token": "y"}})
    return rows


def answering(call: Call) -> Reply:
    return prompt_logprobs(entries(call.body["prompt"]))


def at(server: Server, **settings: Any) -> ModelServer:
    return ModelServer.model_validate({"base_url": server.base_url, "model": "teacher-7b", "tries": 1, **settings})


def test_a_response_s_log_prob_is_the_sum_over_its_own_tokens() -> None:
    with Server(answering) as server:
        sums = served_log_probs(at(server), PAIRS)
    # by hand: 8 at place 3 and 9 at place 4 are -(8 + 3/8) - (9 + 4/8), and so on
    assert sums.tolist() == [[-17.875, -34.5], [-8.125, -16.375], [-70.125, -2.25]]


def test_a_response_is_sent_as_the_end_of_its_prompt_and_nothing_is_drawn() -> None:
    with Server(answering) as server:
        served_log_probs(at(server, concurrency=1), PAIRS[:1])
    assert {call.path for call in server.calls} == {"/v1/completions"}
    common = {"model": "teacher-7b", "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    assert [call.body for call in server.calls] == [
        {**common, "prompt": [5, 6, 7, 8, 9]},
        {**common, "prompt": [5, 6, 7, 10, 11, 12]},
    ]


def test_sums_are_in_the_order_of_the_examples_whatever_comes_first() -> None:
    many = [Example(number, [5, 6], ([number + 10],)) for number in range(20)]

    def last_first(call: Call) -> Reply | Fault:
        return serving.gather(3, answering(call)) if 0 < call.number < 19 else answering(call)

    with Server(last_first) as server:
        sums = served_log_probs(at(server), many)
    assert server.peak >= 3 and sums.tolist() == [[value(2, number + 10)] for number in range(20)]


def without(place: int, odd: Any) -> list[Any]:
    rows = entries([5, 6, 7, 8, 9])
    rows[place] = odd
    return rows


NONE_OF = "gives no log-prob of token 9 at place 4 of a prompt"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            None,
            "returns no log-probs of prompts: a teacher whose .* must be served by one that gives them: vLLM, or",
        ),
        ({}, "returns no log-probs of prompts"),
        ([], "read 0 tokens where 5 were sent"),
        (entries([5, 6, 7, 8]), "read 4 tokens where 5 were sent: is it another model"),
        (entries([1, 5, 6, 7, 8, 9]), "read 6 tokens where 5 were sent"),
        (without(4, None), NONE_OF),
        (without(4, {}), NONE_OF),
        (without(4, []), NONE_OF),
        (without(4, {"9": None}), NONE_OF),
        (without(4, {"9": -1.0}), NONE_OF),
        (without(4, {"9": {"logprob": None}}), NONE_OF),
        (without(4, {"9": {"logprob": -math.inf}}), NONE_OF),
        (without(4, {"9": {"logprob": math.nan}}), NONE_OF),
        (without(4, {"10": {"logprob": -1.0}}), NONE_OF),
        (without(3, None), "gives no log-prob of token 8 at place 3"),
    ],
    ids=str,
)
def test_what_a_server_leaves_out_is_one_line(rows: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"^teacher_server {message}") as caught:
        response_log_prob(rows, 3, [8, 9])
    assert "\n" not in str(caught.value)


def test_entries_of_the_prompt_itself_are_not_read() -> None:
    rows = [None, None, None, *entries([5, 6, 7, 8, 9])[3:]]
    assert response_log_prob(rows, 3, [8, 9]) == -17.875


def test_a_server_without_log_probs_of_prompts_is_one_line() -> None:
    reply = serving.to_json("plain", {"choices": [{"index": 0, "text": "x", "finish_reason": "length"}]})
    with Server(lambda call: reply) as server, pytest.raises(UserError, match="returns no log-probs of prompts"):
        served_log_probs(at(server), PAIRS)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (serving.empty_choices(), r"a reply without a choice \(1 tries\)"),
        (serving.to_json("odd", {"choices": [None]}), r"a reply without a choice \(1 tries\)"),
        (serving.status(404, "no such model"), "has no such model or address"),
        (serving.status(400, "too long"), "400: too long$"),
    ],
    ids=lambda value: value.name if isinstance(value, Reply) else "",
)
def test_a_call_that_fails_is_one_line(reply: Reply, message: str) -> None:
    with Server(lambda call: reply) as server, pytest.raises(UserError, match=message) as caught:
        served_log_probs(at(server), PAIRS)
    assert str(caught.value).startswith(f"teacher_server {server.base_url}: ") and "\n" not in str(caught.value)
    assert len(server.calls) == 1


def test_once_log_probs_came_a_reply_without_is_a_failed_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.serving.endpoint.FIRST_WAIT", 0.001)
    faults = [
        prompt_logprobs(None),
        serving.to_json("plain", {"choices": [{"index": 0, "text": "x", "finish_reason": "length"}]}),
        serving.to_json("error", {"choices": [{"error": {"code": 502, "message": "went away"}}]}),
        serving.to_json("aborted", {"choices": [{"text": "", "finish_reason": "abort", "prompt_logprobs": [None]}]}),
    ]

    def passing(call: Call) -> Reply:
        return faults[call.number - 1] if 0 < call.number <= len(faults) else answering(call)

    with Server(passing) as server:
        sums = served_log_probs(at(server, tries=5, concurrency=1), PAIRS)
    assert sums.tolist() == [[-17.875, -34.5], [-8.125, -16.375], [-70.125, -2.25]]
    assert len(server.calls) == 6 + len(faults)
    monkeypatch.setattr("harness.serving.endpoint.FIRST_WAIT", 0.001)
    with (
        Server(lambda call: prompt_logprobs(None) if call.number else answering(call)) as server,
        pytest.raises(UserError, match=r"prompt 'p1': a reply without prompt_logprobs \(2 tries\)"),
    ):
        served_log_probs(at(server, tries=2), [Example(0, [5], ([8],), "p0"), Example(1, [6], ([8],), "p1")])


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (serving.status(400, "flagged"), r": prompt 'p0' with a response to it: 400: flagged; take the prompt out$"),
        (
            serving.status(400, "Unrecognized request argument supplied: prompt_logprobs"),
            r"does not take prompt_logprobs \(400: .*\); a teacher whose log-probs are read must be served by one that",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Reply) else "",
)
def test_a_server_that_refuses_to_read_a_response_is_one_line(reply: Reply, message: str) -> None:
    with Server(lambda call: reply) as server, pytest.raises(UserError, match=message) as caught:
        served_log_probs(at(server), [Example(0, [5], ([8],), "p0")])
    assert "\n" not in str(caught.value) and "again" not in str(caught.value)


def test_what_does_not_shape_a_log_prob_may_be_left_out() -> None:
    def fixed(call: Call) -> Reply:
        return serving.status(400, "temperature is fixed") if "temperature" in call.body else answering(call)

    with Server(fixed) as server:
        assert served_log_probs(at(server), PAIRS[:1]).tolist() == [[-17.875, -34.5]]
    assert len(server.calls) == 3


# ---- the likeliest ids


TAKEN = [Example(0, [5, 6], ([8, 9],), "p0"), Example(1, [5], ([40],), "p1")]


def with_likeliest(call: Call) -> Reply:
    """What vLLM says where the likeliest ids are asked for: those of 30, 31, … and the token's own, in any order."""
    k = call.body["prompt_logprobs"]
    rows: list[Any] = [None]
    for place, token in enumerate(call.body["prompt"][1:], 1):
        said = {str(token): value(place, token), **{str(30 + i): -0.5 * (i + 1) for i in reversed(range(k))}}
        rows.append({name: {"logprob": logprob, "rank": 1} for name, logprob in said.items()})
    return prompt_logprobs(rows)


def test_the_likeliest_ids_and_the_token_that_is_there() -> None:
    with Server(with_likeliest) as server:
        found = served_top(at(server, concurrency=1), TAKEN, 3, 512)
    assert [call.body["prompt_logprobs"] for call in server.calls] == [3, 3]
    assert found.ids.tolist() == [[30, 31, 32]] * 3 and found.log_probs.tolist() == [[-0.5, -1.0, -1.5]] * 3
    assert found.labels.tolist() == [value(2, 8), value(3, 9), value(1, 40)]


def test_a_token_that_is_among_the_likeliest_is_so_once() -> None:
    with Server(with_likeliest) as server:
        found = served_top(at(server), [Example(0, [5], ([31],))], 2, 512)
    assert found.ids.tolist() == [[30, 31]] and found.labels.tolist() == [-1.0]


@pytest.mark.parametrize(
    ("k", "vocabulary", "message"),
    [
        (
            4,
            512,
            r"gives at most 2 log-probs of a token where 4 are asked for: set settings\.METHOD\.top_k=2, or start it",
        ),
        (3, 31, r"gives token 31 \('p0'\): is its tokenizer teacher_server.tokenizer\?$"),
    ],
)
def test_other_log_probs_than_were_asked_for_are_refused(k: int, vocabulary: int, message: str) -> None:
    def fewer(call: Call) -> Reply:
        return with_likeliest(replace(call, body={**call.body, "prompt_logprobs": 2 if k == 4 else k}))

    with Server(fewer) as server, pytest.raises(UserError, match=message) as caught:
        served_top(at(server), TAKEN, k, vocabulary)
    assert "\n" not in str(caught.value)


def test_a_server_that_gives_no_likeliest_ids_is_one_line_that_says_what_to_do() -> None:
    reply = serving.to_json("plain", {"choices": [{"index": 0, "text": "x", "finish_reason": "length"}]})
    said = r"returns no log-probs of prompts: distribution-level methods.* or set methods and measures"
    with Server(lambda call: reply) as server, pytest.raises(UserError, match=said) as caught:
        served_top(at(server), TAKEN, 20, 512)
    assert "\n" not in str(caught.value) and "daDPO" not in str(caught.value)


def test_a_server_that_says_nothing_of_other_ids_is_no_teacher_of_distributions() -> None:
    def alone(call: Call) -> Reply:
        return with_likeliest(replace(call, body={**call.body, "prompt_logprobs": 0}))

    with Server(alone) as server, pytest.raises(UserError, match="own tokens alone: distribution-level methods"):
        served_top(at(server), TAKEN, 4, 512)


@pytest.mark.parametrize("named", [{}, {"param": "prompt_logprobs"}], ids=["in words", "named"])
def test_more_likeliest_ids_than_a_server_gives_are_one_line_with_its_limit(named: dict[str, str]) -> None:
    """vLLM's words, in versions that name the parameter and in those that do not."""
    reply = serving.status(400, "Requested prompt logprobs of 64, which is greater than max allowed: 20", **named)
    with Server(lambda call: reply) as server, pytest.raises(UserError) as caught:
        served_top(at(server), TAKEN, 64, 512)
    assert str(caught.value) == (
        f"teacher_server {server.base_url} gives at most 20 log-probs of a token where 64 are asked for: set "
        "settings.METHOD.top_k=20, or start it with --max-logprobs 64 (vLLM gives 20 where that is not said); of "
        "measures, name those that read responses alone (list measures)"
    )
    assert len(server.calls) == 1


# ---- token by token, between the steps of a training


def test_each_token_s_log_prob_in_the_order_of_examples_and_responses() -> None:
    with Server(answering) as server:
        found = served_tokens(at(server), PAIRS[:2])
    assert [row.dtype for row in found] == ["float32"] * 4
    assert [row.tolist() for row in found] == [[-8.375, -9.5], [-10.375, -11.5, -12.625], [-8.125], [-8.125, -8.25]]


def test_a_server_that_is_away_is_waited_for_and_what_it_said_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It answers two of twelve calls, is away for longer than all tries of a call take, and comes back."""
    waited: list[float] = []
    monkeypatch.setattr("harness.serving.endpoint.FIRST_WAIT", 0.001)
    monkeypatch.setattr(served, "time", SimpleNamespace(sleep=waited.append))
    many = [Example(number, [5, 6], ([number + 10],), f"p{number}") for number in range(12)]

    def away(call: Call) -> Reply:
        return answering(call) if call.number < 2 or len(waited) > 2 else serving.status(503)

    with Server(away) as server:
        found = served_tokens(at(server, concurrency=1, tries=2), many)
        asked = [call.body["prompt"][-1] for call in server.calls]
    assert [row.tolist() for row in found] == [[value(2, number + 10)] for number in range(12)]
    assert waited == list(served.WAITS[:3]) and asked.count(10) == asked.count(11) == 1
    waited.clear()
    with (
        Server(lambda call: serving.status(503)) as server,
        pytest.raises(UserError, match="run the same command again"),
    ):
        served_top(at(server), many, 1, 512, patient=True)
    assert waited == list(served.WAITS)


@pytest.mark.parametrize("patient", [True, False])
def test_what_does_not_pass_by_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, patient: bool) -> None:
    monkeypatch.setattr(served, "time", SimpleNamespace(sleep=lambda seconds: pytest.fail("it waited")))
    reply = serving.status(400, "too long") if patient else serving.status(503)
    with Server(lambda call: reply) as server, pytest.raises(UserError):
        served_top(at(server), TAKEN, 1, 512, patient)


# ---- SGLang


def sglang(call: Call) -> Reply:
    """What SGLang says: from `logprob_start_len` on, of the first token nothing."""
    body = call.body
    start, k, ids = body["logprob_start_len"], body["top_logprobs_num"], body["input_ids"]
    own = [[None if place == start else value(place, ids[place]), ids[place], None] for place in range(start, len(ids))]
    tops = [[[-0.5 * (i + 1), 30 + i, None] for i in range(k)] if place else None for place in range(len(own))]
    return input_logprobs(own, tops if k else None)


def beside(server: Server, **settings: Any) -> ModelServer:
    return at(server, api="sglang", **settings)


def test_sglang_says_the_same_at_its_own_address() -> None:
    with Server(sglang) as server:
        sums = served_log_probs(beside(server, concurrency=1), PAIRS[:1])
        tokens = served_tokens(beside(server), PAIRS[:1])
        found = served_top(beside(server), TAKEN, 3, 512)
    assert {call.path for call in server.calls} == {"/generate"}
    common = {"return_logprob": True, "logprob_start_len": 2, "top_logprobs_num": 0}
    drawn = {"sampling_params": {"max_new_tokens": 1, "temperature": 1.0}}
    assert server.calls[0].body == {**common, **drawn, "input_ids": [5, 6, 7, 8, 9]}
    assert sums.tolist() == [[-17.875, -34.5]]
    assert [row.tolist() for row in tokens] == [[-8.375, -9.5], [-10.375, -11.5, -12.625]]
    with Server(with_likeliest) as server:
        theirs = served_top(at(server), TAKEN, 3, 512)
    for name in ("ids", "log_probs", "labels"):
        assert getattr(found, name).tolist() == getattr(theirs, name).tolist()


def test_the_last_id_of_a_vocabulary_which_sglang_writes_as_0_is_read() -> None:
    reply = input_logprobs([[None, 5, None], [-1.5, 0, None]])
    with Server(lambda call: reply) as server:
        assert served_log_probs(beside(server), [Example(0, [4, 5], ([511],))]).tolist() == [[-1.5]]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (input_logprobs([[None, 5, None], [-1.5, 9, None]]), r"gives no log-prob of token 8 at place 1 of a prompt"),
        (input_logprobs([[None, 5, None], [None, 8, None]]), r"gives no log-prob of token 8 at place 1 of a prompt"),
        (input_logprobs([[None, 5, None]]), r"read 1 tokens where 2 were sent \('p0'\): is it another model"),
        (input_logprobs([None, "x"]), r"gives no log-prob of token 8"),
        (input_logprobs(None), r"returns no log-probs of prompts: a teacher"),
        (serving.to_json("none", {"text": "x"}), r"a reply without a meta_info \(1 tries\)"),
        (input_logprobs([], finish={"type": "abort", "message": "x"}), r"a reply that ended by .*abort"),
        (serving.status(404, "Not Found"), "has no such model or address"),
    ],
    ids=str,
)
def test_what_sglang_leaves_out_is_one_line(reply: Reply, message: str) -> None:
    with Server(lambda call: reply) as server, pytest.raises(UserError, match=message) as caught:
        served_log_probs(beside(server), [Example(0, [5], ([8],), "p0")])
    assert str(caught.value).startswith("teacher_server ") and "\n" not in str(caught.value)


def test_the_tokens_of_a_prompt_before_its_last_one_are_not_asked_of_sglang() -> None:
    with Server(sglang) as server:
        served_top(beside(server, base_url=server.base_url + "/"), [Example(0, [5] * 40, ([8, 9],))], 2, 512)
    (call,) = server.calls
    assert call.body["logprob_start_len"] == 39 and call.body["input_ids"] == [*[5] * 40, 8, 9]
