"""Prompts of several turns, and sampling and scoring that were killed and go on, whatever draws or scores."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config import resolve
from harness.core.errors import UserError
from harness.core.records import Message, Prompt, Response, read_records, write_jsonl
from harness.generation import sampler
from harness.generation.local import LocalGenerator
from harness.generation.protocol import Draw, Drawn, Request, Sampling
from harness.models.chat import encode_chat
from harness.models.reference import Model
from harness.models.tokenizers import load_tokenizer
from harness.run.jobs import PROMPTS, RESPONSES, RespondJob
from harness.run.launchers import launcher
from harness.run.stages import score
from harness.run.stages.inputs import data_of
from harness.serving.settings import VLLM, ModelServer
from harness.store import Store
from tests.harness.making import TEXTS, Rows, make, quiet, respond_job, score_job, scored
from tests.serving import Call, Reply, Server, completion, prompt_logprobs, status

TURNS = [("And butter?", "Why?"), (), ("Say more.",), (), ("Is snow rain?",)]
KEPT = Sampling(max_new_tokens=6)


class Interrupted(BaseException):
    """Stands for a kill."""


def conversations(store: Store, name: str = "turns") -> str:
    """The artifact of five prompts; the user goes on after the first, the third and the last."""
    ref = f"prompts/{name}"
    rows = [
        Prompt(id=f"p{n}", messages=(Message(role="user", content=text),), turns=TURNS[n])
        for n, text in enumerate(TEXTS)
    ]
    with store.making(ref) as work:
        write_jsonl(work / PROMPTS, rows)
        store.commit(ref, work, {"stage": "prompts"}, {}, 0.0)
    return ref


def drawn(store: Store, ref: str) -> list[Response]:
    return read_records(store.read(ref).path / RESPONSES, Response)


def user(text: str) -> Message:
    return Message(role="user", content=text)


def said(text: str) -> Message:
    return Message(role="assistant", content=text)


# ---- several turns


def test_each_turn_follows_the_model_s_own_answers_before_it(
    store: Store, student: Model, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer is the one that the generator gives to the conversation so far, and the response holds them all."""
    asked: list[Request] = []
    draw = LocalGenerator.draw

    def watched(generator: LocalGenerator, rows: list[Request], how: Draw) -> list[Drawn]:
        asked.extend(rows)
        return draw(generator, rows, how)

    with monkeypatch.context() as patch:
        patch.setattr(LocalGenerator, "draw", watched)
        ref = make(store, respond_job(student, conversations(store), sampling=KEPT))
    tokenizer = load_tokenizer(checkpoints["llama"])
    generator, how = LocalGenerator(checkpoints["llama"], tokenizer), Draw(KEPT, 0, "chosen")
    for number, response in enumerate(drawn(store, ref)):
        messages, answers = [user(TEXTS[number])], []
        for turn, text in enumerate((*TURNS[number], None)):
            name = f"p{number}/0" + (f"/turn {turn}" if turn else "")
            row = Request(name, tuple(messages), encode_chat(tokenizer, messages))
            assert row in asked
            answers += generator.draw([row], how)
            messages += [said(answers[-1].text), user(str(text))]
        assert response.token_ids == tuple(token for answer in answers for token in answer.token_ids)
        parts = [answers[0].text]
        for text, answer in zip(TURNS[number], answers[1:], strict=True):
            parts.append(f"### User:\n{text}\n\n### Assistant:\n{answer.text}")
        assert response.text == "\n\n".join(parts)
        assert response.finish == ("length" if any(a.finish == "length" for a in answers) else "stop")
    assert len(asked) == 5 + 3 + 1


def test_a_prompt_of_one_turn_is_answered_as_ever(store: Store, student: Model) -> None:
    """Its random numbers do not depend on whether other prompts have further turns."""
    job = respond_job(student, conversations(store), sampling=KEPT, batch_size=1)
    rows = [Prompt(id=f"p{n}", messages=(user(text),)) for n, text in enumerate(TEXTS)]
    with store.making("prompts/plain") as work:
        write_jsonl(work / PROMPTS, rows)
        store.commit("prompts/plain", work, {"stage": "prompts"}, {}, 0.0)
    plain = drawn(store, make(store, job.model_copy(update={"prompts": "prompts/plain"})))
    several = drawn(store, make(store, job))
    for number, turns in enumerate(TURNS):
        first = plain[number]
        assert several[number].token_ids[: len(first.token_ids)] == first.token_ids
        assert (several[number] == first) is (not turns)


@pytest.mark.parametrize("cut", [None, 0, 1, 2])
def test_a_conversation_is_cut_where_any_answer_was(
    store: Store, student: Model, monkeypatch: pytest.MonkeyPatch, cut: int | None
) -> None:
    def told(generator: LocalGenerator, rows: list[Request], how: Draw) -> list[Drawn]:
        found = []
        for row in rows:
            turn = len(row.messages) // 2
            finish: Any = "length" if turn == cut else "stop"
            found.append(Drawn(token_ids=(10 + turn,), text=f"answer {turn}", finish=finish))
        return found

    monkeypatch.setattr(LocalGenerator, "draw", told)
    ref = make(store, respond_job(student, conversations(store)))
    first = drawn(store, ref)[0]
    assert first.token_ids == (10, 11, 12)
    assert first.text == (
        "answer 0\n\n### User:\nAnd butter?\n\n### Assistant:\nanswer 1\n\n### User:\nWhy?\n\n### Assistant:\nanswer 2"
    )
    assert first.finish == ("stop" if cut is None else "length")
    turns = [1 + len(turns) for turns in TURNS]
    assert store.read(ref).facts["cut"] == (0 if cut is None else sum(cut < count for count in turns))
    assert store.read(ref).facts["tokens"] == sum(turns)


def test_every_sample_goes_on_from_its_own_answers(store: Store, student: Model) -> None:
    rows = drawn(store, make(store, respond_job(student, conversations(store), samples=2, sampling=KEPT)))
    assert [(row.prompt_id, row.sample) for row in rows] == [(f"p{n}", s) for n in range(5) for s in (0, 1)]
    assert len({row.token_ids for row in rows}) == 10


# ---- a kill

BATCHES = [2, 2, 1, 2, 1, 1]  # of two: five first answers, three second ones, one third


@pytest.mark.parametrize("fail_at", range(len(BATCHES)))
def test_a_sampling_killed_at_any_batch_of_any_turn_goes_on_to_the_same_text(
    store: Store, tmp_path: Path, student: Model, monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    other = Store(tmp_path / "undisturbed")
    job = respond_job(student, conversations(other), sampling=KEPT)
    make(other, job)
    conversations(store)
    decode, sizes = sampler.decode_batch, []

    def counting(kill_at: int | None) -> Callable[..., Any]:
        def decoding(model: Any, prompts: Any, *others: Any) -> Any:
            if len(sizes) == kill_at:
                raise Interrupted
            sizes.append(len(prompts))
            return decode(model, prompts, *others)

        return decoding

    with monkeypatch.context() as patch:
        patch.setattr(sampler, "decode_batch", counting(fail_at))
        with pytest.raises(Interrupted):
            make(store, job)
    assert not store.has(job.ref) and sizes == BATCHES[:fail_at]
    sizes.clear()
    monkeypatch.setattr(sampler, "decode_batch", counting(None))
    make(store, job)
    assert sizes == BATCHES[fail_at:]
    one, two = store.read(job.ref), other.read(job.ref)
    assert one.manifest["files"] == two.manifest["files"]
    assert [path.name for path in one.path.glob("batch-*")] == []


def at(server: Server, **settings: Any) -> ModelServer:
    told = {"base_url": server.base_url, "model": "teacher-7b", "tries": 1, **settings}
    return ModelServer.model_validate(told)


def repeated(call: Call) -> Reply:
    """An answer that follows from the seed: a server that keeps its word."""
    return completion(f"{len(call.body['messages'])} {call.body['seed']}")


def test_a_served_teacher_is_not_asked_again_for_what_it_answered(store: Store, tmp_path: Path, student: Model) -> None:
    with Server(repeated) as server:
        served = student.model_copy(update={"served": at(server, concurrency=1)})
        job = respond_job(served, conversations(store), generator="server", batch_size=1)
        make(store, job)
        whole = drawn(store, job.ref)
        assert len(server.calls) == 5 + 3 + 1
        assert store.read(job.ref).facts["server"] == f"teacher-7b at {server.base_url}"
        again = Store(tmp_path / "again")
        conversations(again)

        def killed(call: Call) -> Reply:
            return repeated(call) if call.number < 9 + 6 else Reply("down", b"{}", 500)

        server.answering = killed
        with pytest.raises(Exception, match="run the same command again to go on"):
            make(again, job)
        before = len(server.calls)
        server.answering = repeated
        make(again, job)
    # batches of four: all of the first is kept, and what the broken one had
    assert len(server.calls) - before == 9 - 6
    assert drawn(again, job.ref) == whole


# ---- prompts that a server gives no answer to

REFUSED = status(400, "no", code="content_filter")
WHY = "refused by its moderator (400: no)"


def test_a_prompt_that_is_refused_in_one_sample_or_turn_is_left_out_whole(store: Store, student: Model) -> None:
    """The first one's second turn, of one sample; the fourth at once; the third goes on."""
    seen: list[tuple[str, int]] = []

    def moderated(call: Call) -> Reply:
        first, turn = call.body["messages"][0]["content"], len(call.body["messages"]) // 2
        seen.append((first, turn))
        odd = first == TEXTS[0] and turn == 1 and sum(one == (first, turn) for one in seen) == 2
        return REFUSED if odd or first == TEXTS[3] else repeated(call)

    with Server(moderated) as server:
        served = student.model_copy(update={"served": at(server, concurrency=1)})
        job = respond_job(served, conversations(store), generator="server", samples=2)
        artifact = store.read(make(store, job))
    assert [(row.prompt_id, row.sample) for row in drawn(store, job.ref)] == [
        (name, sample) for name in ("p1", "p2", "p4") for sample in (0, 1)
    ]
    facts = artifact.facts
    assert facts["left_out"] == {"p0": WHY, "p3": WHY} and facts["responses"] == 6 and "without" not in facts
    assert (TEXTS[0], 2) not in seen  # a conversation that broke off is not gone on with
    assert "no answer to 2 prompts (p0, p3), left out: refused by its moderator" in job.note(facts)


def test_a_kill_keeps_what_was_refused_and_learnt(store: Store, student: Model) -> None:
    def moderated(call: Call) -> Reply:
        if "seed" in call.body:
            return status(400, "Unknown parameter: 'seed'.")
        return REFUSED if call.body["messages"][0]["content"] == TEXTS[1] else completion("Yes.")

    prompts = conversations(store)
    with Server(moderated) as server:
        served = student.model_copy(update={"served": at(server, concurrency=1)})
        job = respond_job(served, prompts, generator="server", batch_size=1)
        server.answering = lambda call: moderated(call) if len(call.body["messages"]) == 1 else status(500)
        with pytest.raises(UserError, match="again to go on"):
            make(store, job)
        server.answering = lambda call: moderated(call) if len(call.body["messages"]) > 1 else status(500)
        facts = store.read(make(store, job)).facts
        asked = len(server.calls)
        whole = drawn(store, job.ref)
        assert facts["left_out"] == {"p1": WHY} and facts["without"] == ["seed"]
        # killed between the last batch and the commit: the responses are there, and no batch is
        path = store.path(job.ref)
        with store.making(job.ref) as work:
            for name in (RESPONSES, "server.json"):
                shutil.copyfile(path / name, work / name)
        store.discard(job.ref)
        again = store.read(make(store, job)).facts
    assert len(server.calls) == asked and drawn(store, job.ref) == whole
    assert (again["left_out"], again["without"]) == (facts["left_out"], ["seed"])


def test_what_arrived_beside_a_call_that_failed_is_kept(store: Store, student: Model) -> None:
    def odd(call: Call) -> Reply:
        texts = {TEXTS[1]: status(400, "too much"), TEXTS[2]: REFUSED, TEXTS[4]: status(413, "far too much")}
        return texts.get(call.body["messages"][0]["content"]) or repeated(call)

    with Server(odd) as server:
        served = student.model_copy(update={"served": at(server, concurrency=1)})
        job = respond_job(served, conversations(store, "plain"), generator="server", batch_size=2)
        with pytest.raises(UserError, match=r"prompt 'p4': 413: far too much \(1 more failed: p1\)$"):
            make(store, job)
        assert len(server.calls) == 5  # the others were asked all the same
        server.answering = repeated
        make(store, job)
        first = [call.body["messages"][0]["content"] for call in server.calls[5:] if len(call.body["messages"]) == 1]
    # but what was answered is not asked for again
    assert sorted(first) == sorted([TEXTS[1], TEXTS[2], TEXTS[4]])
    assert [row.prompt_id for row in drawn(store, job.ref)] == [f"p{n}" for n in range(5)]
    assert not list(store.path(job.ref).glob("batch*"))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_more_than_half_without_an_answer_is_one_line_and_nothing_is_kept(
    store: Store, student: Model, count: int
) -> None:
    def moderated(call: Call) -> Reply:
        return REFUSED if call.body["messages"][0]["content"] in TEXTS[:count] else repeated(call)

    with Server(moderated) as server:
        served = student.model_copy(update={"served": at(server)})
        job = respond_job(served, conversations(store), generator="server")
        if count == 2:
            assert len(drawn(store, make(store, job))) == 3
            return
        names = ", ".join(f"p{n}" for n in range(count))
        message = rf"gives no answer to {count} of 5 prompts \({names}\), .* half .* the first: refused by its mod"
        with pytest.raises(UserError, match=message) as caught:
            make(store, job)
        assert "\n" not in str(caught.value)
        server.answering = repeated  # it was mended there
        assert len(drawn(store, make(store, job))) == 5


def test_what_was_left_out_is_joined_with_nothing(
    store: Store, student: Model, responses: Callable[[str, Rows], str], tokenizer: Any
) -> None:
    """The student's responses to such a prompt are in no example, whichever comes first."""
    mine = responses("mine", {f"p{n}": [8, 9 + n, 2] for n in range(5)})

    def moderated(call: Call) -> Reply:
        return REFUSED if call.body["messages"][0]["content"] == TEXTS[1] else repeated(call)

    prompts = conversations(store)
    with Server(moderated) as server:
        served = student.model_copy(update={"served": at(server)})
        theirs = make(store, respond_job(served, prompts, generator="server"))
    for refs in ([theirs, mine], [mine, theirs]):
        assert [key[0] for key in data_of(prompts, refs, tokenizer, store).keys] == ["p0", "p2", "p3", "p4"]
    short = responses("short", {f"p{n}": [8, 2] for n in range(4)})
    with pytest.raises(UserError, match="do not hold the same prompts"):
        data_of(prompts, [theirs, short], tokenizer, store)


# ---- log-probs of a served teacher

CHOSEN: Rows = {f"p{n}": [5 + n, 6, 2] for n in range(5)}
REJECTED: Rows = {f"p{n}": [8, 9 + n, 10, 2] for n in range(5)}


def tokens_as_log_probs(call: Call) -> Reply:
    return prompt_logprobs([None, *({str(token): {"logprob": -token / 8}} for token in call.body["prompt"][1:])])


@pytest.mark.parametrize("fail_at", [0, 1, 2])
def test_a_served_scoring_killed_at_any_part_goes_on_without_asking_again(
    store: Store,
    student: Model,
    responses: Callable[[str, Rows], str],
    monkeypatch: pytest.MonkeyPatch,
    fail_at: int,
) -> None:
    monkeypatch.setattr(score, "SERVED_AT_ONCE", 2)
    prompts, refs = conversations(store), (responses("a", CHOSEN), responses("b", REJECTED))
    ask, parts = score.served_log_probs, []

    def asking(server: Any, examples: Any) -> Any:
        if len(parts) == fail_at:
            raise Interrupted
        parts.append(len(examples))
        return ask(server, examples)

    with Server(tokens_as_log_probs) as server:
        job = score_job(student.model_copy(update={"served": at(server)}), prompts, *refs)
        with monkeypatch.context() as patch:
            patch.setattr(score, "served_log_probs", asking)
            with pytest.raises(Interrupted):
                make(store, job)
        assert not store.has(job.ref) and len(server.calls) == 4 * fail_at
        artifact = store.read(make(store, job))
    assert len(server.calls) == 10  # five examples with two responses each: nothing was asked twice
    assert [path.name for path in artifact.path.glob("part*")] == []
    assert artifact.facts["responses"] == 10 and artifact.facts["server"] == server.base_url
    for name, row in scored(store, job.ref).items():
        assert row["log_probs"] == [-sum(CHOSEN[name]) / 8, -sum(REJECTED[name]) / 8]
        assert row["tokens"] == [3, 4]


# ---- where it is performed


@pytest.mark.parametrize("kind", ["respond", "score"])
def test_a_server_s_credentials_reach_it_whatever_the_launcher(
    store: Store, student: Model, responses: Callable[[str, Rows], str], kind: str
) -> None:
    """They are in no job's file, so what asks a server is performed in this process."""
    base = {"student": "s", "teacher": "t", "launcher": "process"}
    with Server(lambda call: repeated(call) if kind == "respond" else tokens_as_log_probs(call)) as server:
        url = server.base_url.replace("//", "//me:pa55word@")
        served = student.model_copy(update={"served": at(server, base_url=url)})
        prompts = conversations(store)
        job = (
            respond_job(served, prompts, generator="server")
            if kind == "respond"
            else score_job(served, prompts, responses("a", CHOSEN))
        )
        with store.making(job.ref) as work:
            launcher(resolve([base]))(job, store, work, quiet)
    assert {call.headers["authorization"] for call in server.calls} == {"Basic bWU6cGE1NXdvcmQ="}


def test_vllm_s_interpreter_is_known_whatever_the_launcher(
    store: Store, student: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[RespondJob] = []
    monkeypatch.setattr("harness.run.launchers.process.inline", lambda job, *others: seen.append(job) or {})
    base = {"student": "s", "teacher": "t", "launcher": "process"}
    job = respond_job(student, "prompts/1", generator="vllm", vllm=VLLM(python=sys.executable))
    launcher(resolve([base]))(job, store, tmp_path, quiet)
    assert seen == [job] and seen[0].vllm.python == sys.executable
