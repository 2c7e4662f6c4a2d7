"""Judges and teachers behind servers: what fails inside a good reply, what is refused, what a moderator takes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.judging import api
from tests import serving
from tests.cases.conftest import Case, refused, written
from tests.conftest import Ended
from tests.serving import Call, Fault, Reply, Server, completion, prompt_logprobs, status, to_json

KEY = "sk-0123456789abcdef"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("harness.serving.endpoint.FIRST_WAIT", 0.001)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    yield
    for session in api._sessions.values():
        session.close()
    api._sessions.clear()


# ---- judges


def first_wins(call: Call) -> Reply:
    """The judge's verdict for `mine`, in the form that it is asked in."""
    text = json.dumps(call.body["messages"])
    letter = "A" if text.find("mine says") < text.find("base says") else "B"
    if call.body.get("logprobs"):
        return completion(letter, [(letter, -0.05), ("AB".replace(letter, ""), -3.0)])
    said = json.dumps({"rationale": "Clear.", "verdict": letter}) if "response_format" in call.body else None
    return completion(said or f"Clear. [[{letter}]]", completion_tokens=9)


def judged(case: Case, answering: Callable[[Call], Reply | Fault], *options: str) -> tuple[Ended, list[dict[str, Any]]]:
    """Four comparisons of `mine` with `base` in both orders: how the command ended, and its verdicts."""
    files = [
        written(
            case.root / f"{name}.jsonl",
            [{"prompt_id": f"p{n}", "prompt": f"Question {n}?", "response": f"{name} says {n}."} for n in range(4)],
        )
        for name in ("mine", "base")
    ]
    out = case.root / "verdicts.jsonl"
    with Server(answering) as server:
        where = ("--judge", "openai:m", "--set", f"judge.base_url={server.base_url}", "--set", "judge.tries=3")
        command = ("judge", "--candidate", files[0], "--reference", files[1], *where, "--out", out, *options)
        ended = case.cli(*command)
        server.answering = lambda call: status(500)
        again = case.cli(*command)  # what was an answer is kept, and nothing else
    verdicts = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    kept = sum(row["status"] in ("ok", "unparsable") for row in verdicts)
    assert f"{kept} from the cache, {8 - kept} asked for now" in again.out
    return ended, verdicts


def in_choice(**more: Any) -> Reply:
    """A good reply whose choice says something else."""
    whole = serving.completion_json("")
    whole["choices"][0] |= more
    whole["usage"] = {"prompt_tokens": 50, "completion_tokens": 0, "total_tokens": 50}
    return to_json("in the choice", whole)


FAILED_INSIDE = {
    "an error in the choice": in_choice(finish_reason="error", error={"code": 502, "message": "upstream went away"}),
    "an error as a text": in_choice(finish_reason="stop", error="upstream went away"),
    "finish error": in_choice(finish_reason="error"),
    "aborted": in_choice(finish_reason="abort", message={"role": "assistant", "content": "A"}),
    "out of resources": in_choice(finish_reason="insufficient_system_resource"),
    "called a tool": in_choice(finish_reason="tool_calls", message={"content": None, "tool_calls": [{}]}),
    "no tokens": in_choice(finish_reason="stop"),
    "no end and no text": in_choice(finish_reason=None),
    "an error beside it": to_json("beside", {**serving.completion_json("A"), "error": "the provider failed"}),
}


@pytest.mark.parametrize("failed", FAILED_INSIDE.values(), ids=FAILED_INSIDE)
def test_a_failure_inside_a_good_reply_is_made_again_and_never_kept(case: Case, failed: Reply) -> None:
    ended, verdicts = judged(case, lambda call: failed if call.number < 2 else first_wins(call))
    assert ended.status == 0 and [row["status"] for row in verdicts] == ["ok"] * 8
    assert "4 / 0 / 0" in ended.out

    ended, verdicts = judged(case, lambda call: failed)
    assert ended.status == 3 and {row["status"] for row in verdicts} == {"failed"}


@pytest.mark.parametrize("how", ["an error", "thoughts alone", "a least limit"])
def test_a_limit_without_room_for_thoughts_leads_to_the_next_form(case: Case, how: str) -> None:
    replies = {
        "an error": status(400, "The answer could not be finished because max_tokens or the output limit was reached."),
        "thoughts alone": in_choice(finish_reason="length", message={"content": None, "reasoning_content": "Hm, so"}),
        "a least limit": status(400, "Invalid 'max_output_tokens': integer below minimum value. Expected >= 16."),
    }
    ended, verdicts = judged(case, lambda call: replies[how] if call.body["max_tokens"] < 64 else first_wins(call))
    assert ended.status == 0 and [row["status"] for row in verdicts] == ["ok"] * 8
    assert {row["form"] for row in verdicts} == {"structured"}


def test_a_limit_that_is_too_small_in_every_form_says_what_to_set(case: Case) -> None:
    reply = status(400, "Could not finish the message because max_tokens or model output limit was reached.")
    ended, verdicts = judged(case, lambda call: reply)
    assert ended.status == 3 and {row["status"] for row in verdicts} == {"unparsable"}
    assert "judge.max_tokens" in ended.out and "run the same command" not in ended.out


def test_content_in_parts_is_read_as_a_text_without_its_thoughts(case: Case) -> None:
    def in_parts(call: Call) -> Reply:
        whole = json.loads(first_wins(call).body)
        text = whole["choices"][0]["message"]["content"]
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Perhaps [[C]]?"}]}
        # the thought comes last: a reader of everything would take its verdict
        whole["choices"][0] |= {"logprobs": None, "message": {"content": [{"type": "text", "text": text}, thought]}}
        return to_json("parts", whole)

    for form in ("rationale", "structured"):
        ended, verdicts = judged(case, in_parts, "--set", f"judge.form={form}")
        assert ended.status == 0 and "4 / 0 / 0" in ended.out
        assert not any("thinking" in row["raw"] for row in verdicts)


def test_a_question_that_a_moderator_refuses_is_asked_no_more(case: Case) -> None:
    def moderated(call: Call) -> Reply:
        refusal = status(403, f"Your input was flagged (key {KEY})")
        return refusal if "Question 2?" in json.dumps(call.body) else first_wins(call)

    ended, verdicts = judged(case, moderated)
    assert ended.status == 3
    assert [row["prompt_id"] for row in verdicts if row["status"] == "unparsable"] == ["p2"] * 2
    assert "a moderator refused it (403: Your input was flagged" in ended.out and KEY not in ended.out
    assert KEY not in (case.root / "verdicts.jsonl").read_text()


def test_a_question_that_is_refused_is_not_asked_for_again_by_advice(case: Case) -> None:
    def too_long(call: Call) -> Reply:
        return status(413, "this is too much") if "Question 1?" in json.dumps(call.body) else first_wins(call)

    ended, verdicts = judged(case, too_long)
    assert [row["prompt_id"] for row in verdicts if row["status"] == "failed"] == ["p1"] * 2
    assert "refused: 413: this is too much): p1; asked again, it would be refused again" in ended.out


# ---- teachers


def teaching(
    odd: Callable[[Call, str], Reply | None] = lambda call, text: None,
) -> Callable[[Call], Reply]:
    """A teacher with log-probs of prompts, and a judge: but for what `odd` says to the conversation's text."""

    def answering(call: Call) -> Reply:
        if call.path.endswith("/v1/completions"):
            ids, k = call.body["prompt"], call.body["prompt_logprobs"]
            if k > 20:
                return status(400, f"Requested prompt logprobs of {k}, which is greater than max allowed: 20")
            likeliest = {str(3 + token): {"logprob": -2.0 - token / 10} for token in range(k)}
            return prompt_logprobs([None, *({str(token): {"logprob": -token / 50}, **likeliest} for token in ids[1:])])
        text = json.dumps(call.body["messages"])
        if "RESPONSE A" in text:
            return first_wins(call)
        return odd(call, text) or completion(f"A fine thing, {text[-12:-4]}.", completion_tokens=6)

    return answering


def taught_by(case: Case, server: Server, *options: str) -> Ended:
    case.settings = {
        "teacher_server.base_url": server.base_url.replace("//", "//me:pa55word@"),
        "teacher_server.model": case.teacher,
        "teacher_server.tries": 2,
        "judge.base_url": server.base_url,
    }
    ended = case.run(*options)
    assert KEY not in ended.out + ended.err and "pa55word" not in ended.out + ended.err
    return ended


def test_methods_that_compare_distributions_and_those_that_write_train_on_a_served_teacher(case: Case) -> None:
    case.methods = "sft,kd,gkd,opd,distillm2"
    with Server(teaching()) as server:
        ended = taught_by(case, server, "--set", f"teacher_server.tokenizer={case.teacher}")
        assert ended.status == 0, ended.err
        calls = len(server.calls)
        asked = {call.body["prompt_logprobs"] for call in server.calls if "prompt_logprobs" in call.body}
        again = taught_by(case, server, "--set", f"teacher_server.tokenizer={case.teacher}")
        assert again.status == 0 and len(server.calls) == calls  # nothing is asked again
    assert asked == {0, 20}
    assert {"sft", "kd", "gkd", "opd", "distillm2"} <= {row["method"] for row in case.results()["rows"]}
    settings = {entry["name"]: entry["settings"] for entry in case.results()["methods"]}
    assert [settings["kd"][name] for name in ("teacher_signal", "support", "top_k")] == ["stored", "tail", 20]
    assert [settings["gkd"][name] for name in ("teacher_signal", "support", "top_k")] == ["online", "tail", 20]


def test_more_log_probs_than_the_server_gives_end_a_run_with_its_limit(case: Case) -> None:
    case.methods = "kd"
    with Server(teaching()) as server:
        options = ("--set", f"teacher_server.tokenizer={case.teacher}", "--set", "settings.kd.top_k=64")
        said = refused(taught_by(case, server, *options))
    assert "gives at most 20 log-probs of a token where 64 are asked for: set settings.METHOD.top_k=20" in said
    assert "\n" not in said and "again to go on" not in said


REFUSED = status(400, f"The prompt was filtered: {KEY} me:pa55word.", code="content_filter", param="prompt")


def test_a_prompt_that_a_moderator_refuses_counts_for_none_and_is_counted(case: Case) -> None:
    """One training prompt; one evaluation prompt of the reference, and one of the other samples alone."""
    seen: set[int] = set()

    def odd(call: Call, text: str) -> Reply | None:
        if "thing number 2" in text:
            return REFUSED
        if "after step 1" in text:
            return completion(None, finish="content_filter", completion_tokens=0)
        if "after step 3" in text:
            seen.add(call.body["seed"])
            return REFUSED if call.body["seed"] != min(seen, key=list(seen).index) and len(seen) > 1 else None
        return None

    case.methods, case.judge = "sft,dadpo", "openai:m,typicality"
    case.evaluation = written(
        case.root / "test.jsonl", [{"id": f"e{n}", "prompt": f"What comes after step {n}?"} for n in range(6)]
    )
    with Server(teaching(odd)) as server:
        ended = taught_by(case, server)
        assert ended.status == 0, ended.err
        assert "no answer to 1 prompts (t2), left out: refused by its moderator (400: " in ended.err
        results = case.results()
        calls = len(server.calls)
        assert taught_by(case, server).status == 0 and len(server.calls) == calls  # nothing is asked again
        assert case.results() == results
    (entry,), training = results["prompt_sets"], results["training"]
    assert training["prompts"] == 3 and list(training["left_out"]) == ["t2"]
    assert entry["prompts"] == 4 and list(entry["left_out"]) == ["e1", "e3"]
    assert entry["left_out"]["e1"] == "refused by its moderator (content_filter)"
    assert {row["n"] + row["missing"] for row in results["rows"]} == {4}
    assert all(method["facts"]["examples"] == 3 for method in results["methods"])
    told = {
        name: {json.loads(line)["prompt_id"] for line in (case.out / name).read_text().splitlines()}
        for name in ("verdicts.jsonl", "responses.jsonl")
    }
    assert told["verdicts.jsonl"] == told["responses.jsonl"] == {"e0", "e2", "e4", "e5"}
    board = (case.out / "leaderboard.md").read_text()
    assert (
        "2 of 6 prompts of test got no answer from the teacher's server and are left out of every row: e1, e3" in board
    )
    assert "1 of 4 prompts of" in board and "left out of every training: t2" in board
    for command in ("verify", "leaderboard", "report"):
        more = () if command == "verify" else ("--out", case.root / f"{command}.html")
        checked = case.cli(command, case.out, *more)
        assert checked.status == 0, checked.out + checked.err
    assert "left out of every row: e1, e3" in (case.root / "leaderboard.html").read_text()
    shown = case.example("--index", "2")
    assert shown.status == 0 and shown.out.count("gives no answer to it (refused by its moderator (400: ") == 2
    assert "rejected:" not in shown.out and "rejected:" in case.example("--index", "1").out
    for path in [*case.out.rglob("*"), *Path(case.root / "store").rglob("*")]:
        if path.suffix in (".json", ".jsonl", ".md", ".yaml"):
            text = path.read_text(encoding="utf-8")
            assert KEY not in text and "pa55word" not in text, path


def test_what_a_teacher_s_server_does_not_take_is_left_out_and_its_parts_are_one_text(case: Case) -> None:
    def odd(call: Call, text: str) -> Reply | None:
        if "seed" in call.body:
            extra = [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]
            return to_json("422", {"detail": extra}, 422)
        if "max_tokens" in call.body:
            return status(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        whole = serving.completion_json("")  # and its answers are in parts
        parts = [{"type": "thinking", "thinking": "Hm."}, {"type": "output_text", "text": "A fine "}, "thing."]
        whole["choices"][0] |= {"message": {"content": parts, "reasoning_content": "Hm."}, "finish_reason": "end_turn"}
        return to_json("parts", whole)

    with Server(teaching(odd)) as server:
        ended = taught_by(case, server)
    assert ended.status == 0, ended.err
    assert "without seed, which the server does not take: asked anew, it would say something else" in ended.err
    manifest = json.loads((case.out / "manifest.json").read_text())
    stages = [stage for stage in manifest["stages"] if "server" in stage["facts"] and "cut" in stage["facts"]]
    assert stages and all(stage["facts"]["without"] == ["seed"] for stage in stages)
    last = [call.body for call in server.calls if "max_completion_tokens" in call.body]
    assert {body["max_completion_tokens"] for body in last} == {8}
    rows = [json.loads(line) for line in (case.out / "responses.jsonl").read_text().splitlines()]
    assert {row["text"] for row in rows if row["system"] == "teacher"} == {"A fine thing."}


def no_thought(call: Call, text: str) -> Reply:
    return in_choice(finish_reason="length", message={"content": None, "reasoning_content": "Hm, so"})


def fails_at_two(reply: Reply) -> Callable[[Call, str], Reply | None]:
    return lambda call, text: reply if "thing number 2" in text else None


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (lambda call, text: REFUSED, r"gives no answer to 4 of 4 prompts (t0, t1, t2, t3)"),
        (no_thought, "its thoughts took the whole limit of 8 tokens: raise the sampling's max_new_tokens"),
        (fails_at_two(status(400, "this is too long")), "prompt 't2': 400: this is too long"),
        (
            fails_at_two(in_choice(finish_reason="tool_calls")),
            "prompt 't2': a reply that ended by 'tool_calls' (2 tries)",
        ),
        (lambda call, text: status(400, "'temperature' is fixed"), "does not take temperature (400: 'temp"),
    ],
    ids=["all refused", "no room for thoughts", "too long", "a tool", "temperature"],
)
def test_what_ends_a_run_is_one_line_that_says_what_to_do(
    case: Case, odd: Callable[[Call, str], Reply | None], words: str
) -> None:
    with Server(teaching(odd)) as server:
        said = refused(taught_by(case, server, "--set", "train_sampling.temperature=0.7"))
    assert words in said and "\n" not in said
    assert ("again to go on" in said) == ("tries" in said)  # not where the same would come again
