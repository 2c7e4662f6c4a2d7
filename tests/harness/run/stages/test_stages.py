"""What each stage refuses, and how it goes on where an interrupted attempt ended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.core.errors import UserError
from harness.core.records import METRICS, Response, Verdict, read_jsonl, read_records, write_jsonl
from harness.generation import sampler
from harness.generation.protocol import Sampling
from harness.judging import judges
from harness.judging.proxies import TYPICALITY
from harness.judging.registry import whole
from harness.models.reference import Model
from harness.models.tokenizers import load_tokenizer
from harness.run.jobs import EMBEDDINGS, RESPONSES, SCORES, TOP_K, VERDICTS, Job, JudgeJob, RespondJob
from harness.run.stages.perform import perform
from harness.store import MANIFEST, Store
from tests.conftest import tiny_model
from tests.harness.making import (
    TEXTS,
    Rows,
    distributions_job,
    jsonl,
    log_prob,
    losses,
    make,
    model_at,
    prompt_file,
    prompt_ids,
    put,
    quiet,
    read_job,
    respond_job,
    saved,
    score_job,
    scored,
    stock,
    train_job,
)


@pytest.fixture
def prompts(store: Store, tmp_path: Path) -> str:
    """The artifact of two prompts, p0 and p1."""
    return make(store, read_job(prompt_file(tmp_path / "two.jsonl", TEXTS[:2])))


CHOSEN: Rows = {"p0": [5, 6, 2], "p1": [7, 2]}
REJECTED: Rows = {"p0": [8, 9, 10, 2], "p1": [11, 2]}


# ---- refusals: what does not belong together


@pytest.mark.parametrize(
    "others", [{"p0": [5, 2]}, {**CHOSEN, "p2": [5, 2]}, {"p0": [5, 2], "q": [5, 2]}], ids=["fewer", "more", "other"]
)
@pytest.mark.parametrize("stage", ["score", "train"])
def test_responses_to_different_prompts_are_refused(
    store: Store, student: Model, prompts: str, responses: Callable[[str, Rows], str], others: Rows, stage: str
) -> None:
    refs = (responses("a", CHOSEN), responses("b", others))
    job = score_job(student, prompts, *refs) if stage == "score" else train_job("ddpo", student, prompts, refs)
    with pytest.raises(UserError, match="respond/b and respond/a do not hold the same prompts and samples"):
        make(store, job)
    assert not store.has(job.ref)


def test_responses_are_joined_by_prompt_and_not_by_place(
    store: Store, student: Model, prompts: str, responses: Callable[[str, Rows], str]
) -> None:
    turned = dict(reversed(REJECTED.items()))
    one = score_job(student, prompts, responses("a", CHOSEN), responses("b", REJECTED))
    two = score_job(student, prompts, "respond/a", responses("c", turned))
    files = [(store.read(make(store, job)).path / SCORES).read_bytes() for job in (one, two)]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    "others",
    [{"p0": [5, 2], "p1": [7, 2]}, {"p0": [15, 16, 2], "p1": [17, 2]}],
    ids=["of other lengths", "of the same lengths"],
)
def test_signals_of_other_responses_are_refused(
    store: Store, student: Model, prompts: str, responses: Callable[[str, Rows], str], others: Rows
) -> None:
    refs = (responses("a", CHOSEN), responses("b", REJECTED))
    scores = make(store, score_job(student, prompts, responses("c", others), refs[1]))
    job = train_job("ddpo", student, prompts, refs, signals={"reference": scores})
    with pytest.raises(UserError, match="was computed on other responses than"):
        make(store, job)


def test_signals_of_other_prompts_are_refused(
    store: Store, student: Model, prompts: str, responses: Callable[[str, Rows], str]
) -> None:
    refs = (responses("a", CHOSEN), responses("b", REJECTED))
    fewer = [responses(name, {"p0": [5, 6, 2]}) for name in ("c", "d")]
    scores = make(store, score_job(student, prompts, *fewer))
    job = train_job("ddpo", student, prompts, refs, signals={"reference": scores})
    with pytest.raises(UserError, match="was computed on other responses than"):
        make(store, job)


def judge_job(judge: str, prompts: str, candidate: str, reference: str, **others: Any) -> JudgeJob:
    fields = {"judge_source": "s", "prompt_set": "set", "candidate_name": "c", "reference_name": "r", **others}
    return JudgeJob(judge=judge, prompts=prompts, candidate=candidate, reference=reference, **fields)


def test_a_judge_is_shown_answers_to_the_same_prompts_alone(
    store: Store, prompts: str, responses: Callable[[str, Rows], str]
) -> None:
    refs = (responses("a", CHOSEN), responses("b", {"p0": [5, 2]}))
    with pytest.raises(UserError, match="do not hold the same prompts and samples"):
        make(store, judge_job("typicality", prompts, *refs, samples=refs[0], measures={}))


@pytest.mark.parametrize(
    ("judge", "stage", "name", "of"),
    [("embedding", "embed", "embedding", "respond/b"), ("typicality", "score", "teacher_nll", ["respond/b"])],
)
def test_a_measure_of_other_responses_is_refused(
    store: Store, prompts: str, responses: Callable[[str, Rows], str], judge: str, stage: str, name: str, of: Any
) -> None:
    ref, measure = responses("a", CHOSEN), f"{stage}/m"
    responses("b", REJECTED)
    with store.making(measure) as work:
        np.save(work / EMBEDDINGS, np.ones((2, 3)))
        rows = [{"prompt_id": p, "sample": 0, "log_probs": [-1.0], "tokens": [len(r)]} for p, r in REJECTED.items()]
        write_jsonl(work / SCORES, rows)
        store.commit(measure, work, {"stage": stage, "responses": of}, {}, 0.0)
    measures = {f"{name}/{role}": measure for role in ("candidate", "reference", "samples")}
    with pytest.raises(UserError, match="other responses"):
        make(store, judge_job(judge, prompts, ref, ref, samples=ref, measures=measures))


# ---- refusals: what changed under a job


def test_a_judge_of_a_measure_of_responses_alone_reads_nothing_else(
    store: Store, prompts: str, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = replace(TYPICALITY, name="as-distinct", measure="distinct_1")
    monkeypatch.setattr(judges, "_entries", {**dict(judges.items()), "as-distinct": whole(own)})

    def said(name: str, *rows: tuple[str, int, str]) -> str:
        made = [Response(prompt_id=p, sample=n, token_ids=(5, 2), text=text, finish="stop") for p, n, text in rows]
        return put(store, name, made, load_tokenizer(checkpoints["llama"]))

    candidate = said("a", ("p0", 0, "all words differ"), ("p1", 0, "?!"))
    reference = said("b", ("p0", 0, "so so so so"), ("p1", 0, "Fine."))
    samples = said("c", ("p0", 0, "one more time"), ("p0", 1, "…"), ("p1", 0, "a"), ("p1", 1, "b"))
    measures = {"distinct_1/candidate": candidate, "distinct_1/reference": reference, "distinct_1/samples": samples}
    job = judge_job("as-distinct", prompts, candidate, reference, samples=samples, measures=measures)
    first, second = read_records(store.read(make(store, job)).path / VERDICTS, Verdict)
    # 1 against 1/4, where the samples with words have 1
    assert (first.status, first.preference) == ("ok", 1.0)
    assert (second.status, second.detail) == (
        "unparsable",
        "the measure 'distinct_1' says nothing of one of the responses",
    )


def test_a_sample_is_judged_by_what_is_measured_of_it(
    store: Store, prompts: str, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = replace(TYPICALITY, name="as-distinct", measure="distinct_1")
    monkeypatch.setattr(judges, "_entries", {**dict(judges.items()), "as-distinct": whole(own)})
    tokenizer = load_tokenizer(checkpoints["llama"])

    def said(name: str, *texts: tuple[str, str]) -> str:
        rows = [
            Response(prompt_id=f"p{p}", sample=n, token_ids=(5,) * (1 + p + 2 * n), text=text, finish="stop")
            for p, samples in enumerate(texts)
            for n, text in enumerate(samples)
        ]
        return put(store, name, rows, tokenizer)

    many, few = "all words differ", "so so so so"
    candidate, reference = said("a", (many, few), (few, few)), said("b", (few, many), (many, "so so so"))
    samples = said("c", ("one more time", "once again"), ("a", "b"))  # 1 throughout
    measures = {"distinct_1/candidate": candidate, "distinct_1/reference": reference, "distinct_1/samples": samples}
    job = judge_job("as-distinct", prompts, candidate, reference, samples=samples, measures=measures)
    rows = read_records(store.read(make(store, job)).path / VERDICTS, Verdict)
    found = [(row.prompt_id, row.sample, row.preference) for row in rows]
    # 1 of many, 1/4 of few, 1/3 of three
    assert found == [("p0", 0, 1.0), ("p0", 1, 0.0), ("p1", 0, 0.0), ("p1", 1, 0.0)]
    assert [row.candidate_tokens for row in rows] == [1, 3, 2, 4]


def test_a_prompt_file_that_changed_since_the_job_was_made_is_refused(store: Store, tmp_path: Path) -> None:
    path = prompt_file(tmp_path / "set.jsonl", TEXTS)
    job = read_job(path)
    prompt_file(path, [*TEXTS[:-1], "What is snow?"])
    with pytest.raises(UserError, match="has changed since this job was made"):
        make(store, job)
    assert not store.has(job.ref)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "chat_template.jinja", "added_tokens.json"])
def test_a_model_folder_that_changed_since_the_job_was_made_is_refused(
    store: Store, tmp_path: Path, checkpoints: dict[str, Path], prompts: str, name: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoints["llama"], folder)
    job = respond_job(model_at(folder, store), prompts)
    with (folder / name).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(UserError, match="has changed since this job was made"):
        make(store, job)
    assert not store.has(job.ref)


# ---- refusals: broken weights


@pytest.fixture
def broken(tmp_path: Path, store: Store, tokenizer: Any) -> Model:
    """A checkpoint with one weight that is not a number."""
    model = tiny_model("llama", 0)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    return model_at(saved(tmp_path / "broken", model, tokenizer), store)


def test_log_probs_that_are_not_finite_are_refused(
    store: Store, broken: Model, prompts: str, responses: Callable[[str, Rows], str]
) -> None:
    job = score_job(broken, prompts, responses("a", CHOSEN))
    with pytest.raises(UserError, match=r"log-probs of prompt p0 .* weights are broken"):
        make(store, job)
    assert not store.has(job.ref)


def test_training_of_broken_weights_is_refused(
    store: Store, broken: Model, prompts: str, responses: Callable[[str, Rows], str]
) -> None:
    with pytest.raises(UserError, match="the loss of sft is nan"):
        make(store, train_job("sft", broken, prompts, (responses("a", CHOSEN),)))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_sampling_from_broken_weights_is_refused(store: Store, broken: Model, prompts: str, temperature: float) -> None:
    with pytest.raises(UserError):
        make(store, respond_job(broken, prompts, sampling=Sampling(max_new_tokens=3, temperature=temperature)))


# ---- long prompts


@pytest.mark.parametrize("stage", ["score", "distributions", "train"])
@pytest.mark.parametrize("kept", [1, 20, 10_000])
def test_longer_prompts_lose_their_beginning(
    store: Store,
    checkpoints: dict[str, Path],
    student: Model,
    prompts: str,
    responses: Callable[[str, Rows], str],
    stage: str,
    kept: int,
) -> None:
    causal_lm, tokenizer = stock(checkpoints["llama"]), load_tokenizer(checkpoints["llama"])
    whole = {f"p{i}": prompt_ids(tokenizer, text) for i, text in enumerate(TEXTS[:2])}
    assert len(whole["p0"]) < 20 < len(whole["p1"])
    wanted = {name: log_prob(causal_lm, ids[-kept:], CHOSEN[name]) for name, ids in whole.items()}
    ref = responses("a", CHOSEN)
    job: Job = {
        "score": score_job(student, prompts, ref, max_prompt_tokens=kept),
        "distributions": distributions_job(student, prompts, ref, top_k=512, max_prompt_tokens=kept),
        "train": train_job("sft", student, prompts, (ref,), max_prompt_tokens=kept),
    }[stage]
    artifact = store.read(make(store, job))
    if stage == "score":
        found = {name: row["log_probs"][0] for name, row in scored(store, job.ref).items()}
    elif stage == "distributions":
        labels = np.array([token for name in whole for token in CHOSEN[name]])
        stored = np.load(artifact.path / TOP_K)
        mine = stored["log_probs"][stored["ids"] == labels[:, None]]
        found = {"p0": mine[:3].sum(), "p1": mine[3:].sum()}
    else:
        wanted = {"all": -sum(wanted.values()) / 5}
        found = {"all": losses(store, job.ref)[0]}
    assert found == pytest.approx(wanted, abs=1e-4)
    assert artifact.facts["prompts_cut"] == sum(len(ids) > kept for ids in whole.values())
    assert artifact.facts["tokens"] == sum(min(len(ids), kept) for ids in whole.values()) + 5


def test_without_a_limit_no_prompt_is_cut(
    store: Store, student: Model, prompts: str, responses: Callable[[str, Rows], str]
) -> None:
    ref = responses("a", CHOSEN)
    for job in (score_job(student, prompts, ref), train_job("sft", student, prompts, (ref,))):
        assert store.read(make(store, job)).facts["prompts_cut"] == 0


@pytest.mark.parametrize("stage", ["score", "distributions", "train"])
def test_a_prompt_that_fills_a_batch_alone_is_refused_by_name(
    store: Store,
    checkpoints: dict[str, Path],
    student: Model,
    prompts: str,
    responses: Callable[[str, Rows], str],
    stage: str,
) -> None:
    length = len(prompt_ids(load_tokenizer(checkpoints["llama"]), TEXTS[1]))
    ref, budget = responses("a", CHOSEN), length - 1
    sft = {"micro_batch_tokens": budget}
    jobs: dict[str, Callable[[int | None], Job]] = {
        "score": lambda kept: score_job(student, prompts, ref, batch_tokens=budget, max_prompt_tokens=kept),
        "distributions": lambda kept: distributions_job(
            student, prompts, ref, batch_tokens=budget, max_prompt_tokens=kept
        ),
        "train": lambda kept: train_job("sft", student, prompts, (ref,), sft, max_prompt_tokens=kept),
    }
    setting = "micro_batch_tokens" if stage == "train" else "scoring_batch_tokens"
    for job in (jobs[stage](None), jobs[stage](length)):
        with pytest.raises(
            UserError, match=f"^prompt p1 has {length} tokens, more than {setting} = {budget}; "
        ) as caught:
            make(store, job)
        assert "max_prompt_tokens" in str(caught.value) and not store.has(job.ref)
    make(store, jobs[stage](budget))


def test_a_matched_training_counts_the_tokens_that_are_left(
    store: Store, student: Model, prompts: str, responses: Callable[[str, Rows], str]
) -> None:
    refs = (responses("a", CHOSEN), responses("b", REJECTED))
    scores = make(store, score_job(student, prompts, *refs, max_prompt_tokens=4))
    job = train_job("ddpo", student, prompts, refs, {"epochs": 3}, signals={"reference": scores}, max_prompt_tokens=4)
    pairs = make(store, job)
    job = train_job("sft", student, prompts, refs[:1], {"batch_size": 1}, match=pairs, max_prompt_tokens=4)
    matched, seen = (store.read(ref).facts["tokens"] for ref in (make(store, job), pairs))
    assert seen == 3 * (4 + 4 + 5 + 6)
    assert seen <= matched < seen + 4 + 3


# ---- interrupted sampling


class Interrupted(BaseException):
    """Stands for a kill."""


@pytest.fixture
def undisturbed(tmp_path: Path, student: Model) -> tuple[Store, RespondJob]:
    """Five responses in three batches, made at one go in another store."""
    other = Store(tmp_path / "undisturbed")
    job = respond_job(student, make(other, read_job(prompt_file(tmp_path / "five.jsonl", TEXTS))))
    make(other, job)
    return other, job


def decoded(monkeypatch: pytest.MonkeyPatch, fail_at: int | None = None) -> list[int]:
    """The sizes of the batches that are decoded from now on; the kill comes at the one of that number."""
    sizes: list[int] = []
    decode = sampler.decode_batch

    def counting(model: Any, prompts: Any, *others: Any) -> Any:
        if len(sizes) == fail_at:
            raise Interrupted
        sizes.append(len(prompts))
        return decode(model, prompts, *others)

    monkeypatch.setattr(sampler, "decode_batch", counting)
    return sizes


def assert_the_same(ref: str, store: Store, other: Store) -> None:
    one, two = store.read(ref), other.read(ref)
    assert one.manifest["files"] == two.manifest["files"]
    facts = ({k: v for k, v in artifact.facts.items() if k != "resumed"} for artifact in (one, two))
    assert next(facts) == next(facts)


@pytest.mark.parametrize("fail_at", [0, 1, 2])
def test_a_killed_sampling_keeps_the_batches_that_were_finished(
    store: Store, tmp_path: Path, undisturbed: tuple[Store, RespondJob], monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    other, job = undisturbed
    assert make(store, read_job(tmp_path / "five.jsonl")) == job.prompts
    with monkeypatch.context() as patch:
        decoded(patch, fail_at)
        with pytest.raises(Interrupted):
            make(store, job)
    assert not store.has(job.ref)
    sizes = decoded(monkeypatch)
    make(store, job)
    assert sizes == [2, 2, 1][fail_at:]
    assert_the_same(job.ref, store, other)


@pytest.mark.parametrize("left_over", [False, True], ids=["its batches deleted", "a batch not yet deleted"])
def test_a_sampling_killed_after_its_last_batch_is_taken_as_it_is(
    store: Store,
    tmp_path: Path,
    undisturbed: tuple[Store, RespondJob],
    monkeypatch: pytest.MonkeyPatch,
    left_over: bool,
) -> None:
    other, job = undisturbed
    make(store, read_job(tmp_path / "five.jsonl"))

    def killed(*_: Any) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(store, "commit", killed)
        with pytest.raises(Interrupted):
            make(store, job)
    if left_over:
        (store.workspace(job.ref) / "batch-00002.jsonl").write_text("{}\n")
    sizes = decoded(monkeypatch)
    make(store, job)
    assert sizes == []
    assert_the_same(job.ref, store, other)


def test_responses_do_not_depend_on_the_other_prompts_of_the_set(
    store: Store, tmp_path: Path, undisturbed: tuple[Store, RespondJob]
) -> None:
    other, job = undisturbed
    fewer = make(store, read_job(prompt_file(tmp_path / "one.jsonl", TEXTS[:1])))
    alone = make(store, job.model_copy(update={"prompts": fewer}))
    first = [
        (at.read(ref).path / RESPONSES).read_text().splitlines()[0] for at, ref in ((store, alone), (other, job.ref))
    ]
    assert first[0] == first[1]


def test_samples_of_a_prompt_are_draws_of_their_own(store: Store, student: Model, prompts: str) -> None:
    ref = make(store, respond_job(student, prompts, samples=3))
    rows = [json.loads(line) for line in (store.read(ref).path / RESPONSES).read_text().splitlines()]
    assert [(row["prompt_id"], row["sample"]) for row in rows] == [(p, s) for p in ("p0", "p1") for s in range(3)]
    assert len({tuple(row["token_ids"]) for row in rows}) > 2
    assert store.read(ref).facts["responses"] == 6


def test_of_several_samples_each_column_of_log_probs_is_of_its_own(store: Store, student: Model, prompts: str) -> None:
    ref = make(store, respond_job(student, prompts, samples=3))
    apart, together = (
        jsonl(store.read(make(store, job)).path / SCORES)
        for job in (score_job(student, prompts, ref), score_job(student, prompts, ref, ref, samples=(2, 0)))
    )
    each = {(row["prompt_id"], row["sample"]): row["log_probs"][0] for row in apart}
    assert [(row["prompt_id"], row["sample"]) for row in together] == [("p0", 0), ("p1", 0)]
    for row in together:
        expected = [each[row["prompt_id"], sample] for sample in (2, 0)]
        assert row["log_probs"] == pytest.approx(expected, abs=1e-4) and expected[0] != expected[1]


# ---- training


def test_pair_training_reports_the_pairs_whose_responses_are_equal(
    store: Store, student: Model, prompts: str, responses: Callable[[str, Rows], str]
) -> None:
    refs = (responses("a", CHOSEN), responses("b", {**REJECTED, "p1": CHOSEN["p1"]}))
    scores = make(store, score_job(student, prompts, *refs))
    job = train_job("ddpo", student, prompts, refs, signals={"reference": scores})
    facts = store.read(make(store, job)).facts
    assert facts["equal_pairs"] == 1 and facts["examples"] == 2


def test_training_on_responses_alone_has_no_equal_pairs(
    store: Store, student: Model, prompts: str, responses: Callable[[str, Rows], str]
) -> None:
    facts = store.read(make(store, train_job("sft", student, prompts, (responses("a", CHOSEN),)))).facts
    assert facts["equal_pairs"] == 0


def test_a_matched_training_sees_as_many_tokens_as_it_is_told(
    store: Store, student: Model, prompts: str, responses: Callable[[str, Rows], str]
) -> None:
    refs = (responses("a", CHOSEN), responses("b", REJECTED))
    scores = make(store, score_job(student, prompts, *refs))
    pairs_ref = make(store, train_job("ddpo", student, prompts, refs, signals={"reference": scores}))
    pairs = store.read(pairs_ref)
    matched = store.read(make(store, train_job("sft", student, prompts, refs[:1], match=pairs_ref)))
    assert matched.facts["tokens"] >= pairs.facts["tokens"] == matched.facts["budget"]


def test_a_budget_counts_where_trainings_start(
    store: Store, student: Model, prompts: str, responses: Callable[[str, Rows], str]
) -> None:
    refs = (responses("a", CHOSEN), responses("b", REJECTED))
    scores = {"reference": make(store, score_job(student, prompts, *refs))}
    sft = make(store, train_job("sft", student, prompts, refs[:1]))
    start = student.made(sft)
    named = make(store, train_job("ddpo", start, prompts, refs, {"epochs": 2}, signals=scores))
    took, before = (store.read(ref).facts["tokens"] for ref in (named, sft))

    def tokens(method: str, start: Model, match: str = named, **how: Any) -> tuple[int, int]:
        """That it took, and of its last step at most."""
        settings = {"batch_size": 1}
        signals = scores if method == "ddpo" else {}
        read = refs if method == "ddpo" else refs[:1]
        ref = make(store, train_job(method, start, prompts, read, settings, signals=signals, match=match, **how))
        rows = [row for _, row in read_jsonl(store.read(ref).path / METRICS)]
        return rows[-1]["tokens"], rows[-1]["tokens"] - (rows[-2]["tokens"] if len(rows) > 1 else 0)

    for method, where, budget in [
        ("ddpo", start, took),  # where rows start alike, starts cancel
        ("sft", student, took + before),
        ("kd", student, took + before),
        ("sft", start, took),
    ]:
        teacher = {"teacher": student} if method == "kd" else {}
        seen, last = tokens(method, where, **teacher)
        assert seen - last < budget <= seen, (method, budget)
    with pytest.raises(
        UserError, match=rf"^[^\n]*nothing is left [^\n]* {before:,}, [^\n]* took {before:,}; match [^\n]*$"
    ):
        tokens("ddpo", start, match=sft)


def test_responses_that_a_policy_writes_are_matched_as_they_are_written(
    store: Store, student: Model, prompts: str, responses: Callable[[str, Rows], str]
) -> None:
    stored = responses("a", CHOSEN)
    named = make(store, train_job("sft", student, prompts, (stored,), {"epochs": 9}))
    sampling = {"sampling": Sampling(max_new_tokens=5), "batch_size": 2}
    settings = {"batch_size": 1, "fresh_share": 1.0, "epochs": 1}
    job = train_job("gkd", student, prompts, (None,), settings, teacher=student, match=named, **sampling)
    made = store.read(make(store, job))
    rows = [row for _, row in read_jsonl(made.path / METRICS)]
    budget = store.read(named).facts["tokens"]
    assert rows[-2]["tokens"] < budget <= rows[-1]["tokens"] == made.facts["tokens"]
    assert (made.facts["steps"], made.facts["budget"]) == (len(rows), budget) and len(rows) > 2
    assert 0 < made.facts["fresh_tokens"] < made.facts["tokens"]


def test_a_training_killed_before_its_commit_ends_with_the_same_weights(
    store: Store, tmp_path: Path, student: Model, prompts: str, responses: Callable[[str, Rows], str]
) -> None:
    job = train_job("sft", student, prompts, (responses("a", CHOSEN),))
    work = tmp_path / "undisturbed"
    work.mkdir()
    perform(job, store, work, quiet)

    def killed(*_: Any) -> None:
        raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "commit", killed)
        with pytest.raises(Interrupted):
            make(store, job)
    made = store.read(make(store, job)).path
    assert (made / "model.safetensors").read_bytes() == (work / "model.safetensors").read_bytes()
    assert [len((folder / METRICS).read_text().splitlines()) for folder in (made, work)] == [1, 1]
    assert {path.name for path in made.iterdir()} == {path.name for path in work.iterdir()} | {MANIFEST}
