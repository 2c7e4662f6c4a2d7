"""Runs that took no model: roads of tiny checkpoints, whose artifacts hold what a test says was made."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import layers
from harness.core.records import METRICS, SHORT, Measured, Prompt, Response, Verdict, plain, read_records, write_jsonl
from harness.reports import board
from harness.results.folder import as_json, collect, write_run
from harness.results.manifest import make_manifest
from harness.results.schema import Results
from harness.run.jobs import (
    DEPARTURES,
    LEFT_OUT,
    MEASURED,
    PIECES,
    PROMPTS,
    RESPONSES,
    RETENTION,
    TOKENS,
    VERDICTS,
    CompareJob,
    Job,
    JudgeJob,
    MeasureJob,
    PromptsJob,
    RespondJob,
    RetentionJob,
    ScoreJob,
    TrainJob,
)
from harness.run.road import Road, build_road
from harness.store import MANIFEST, Store
from tests.conftest import tiny_model, trained_tokenizer
from tests.harness.tabular import BOTH, verdict

WIN, LOSS, TIE, FLIP = (1.0, 1.0), (0.0, 0.0), (0.5, 0.5), (1.0, 0.0)
Said = tuple[float | None, ...]  # a preference in both orders, or in none; None failed
Say = Callable[[str, int], Said]  # candidate and number of the prompt → what the judge said
REASON = "refused by its moderator (400: no)"
COMMAND = "python -m harness run --student small"
READ = 40  # tokens of each scoring
FACTS: dict[str, Any] = {"steps": 3, "tokens": 1234, "prompts_cut": 0, "retokenised": False}


def judged(candidate: str, said: Sequence[Said], first: int = 0, **fields: Any) -> list[Verdict]:
    """Verdicts on prompts p0, p1, … (or from another number on)."""
    return [
        verdict(f"p{number}", order, preference, candidate=candidate, **fields)
        for number, both in enumerate(said, first)
        for order, preference in zip(BOTH if len(both) == 2 else ("none",), both, strict=True)
    ]


def by_number(candidate: str, number: int) -> Said:
    """Every candidate wins, ties, loses and flips in turn, each from another place on."""
    return (WIN, TIE, LOSS, FLIP)[(number + len(candidate)) % 4]


@dataclass
class Run:
    folder: Path
    store: Store
    road: Road
    results: Results

    @property
    def data(self) -> dict[str, Any]:
        """The results as their file has them."""
        return plain(self.results)

    def ref(self, label: str) -> str:
        return next(ref for ref, job in self.road.jobs.items() if job.label == label)


@functools.cache
def _tokenizer() -> Any:
    return trained_tokenizer(512)


def make_folder(
    root: Path,
    name: str = "run",
    say: Say = by_number,
    prompts: int = 4,
    left_out: Mapping[str, str] | None = None,
    **layer: Any,
) -> Run:
    """A run's folder, root/name, of the configuration in `layer`; runs of one root share inputs and store.

    A pair of `small` and `large`, SFT and dDPO, a judge that reads, an in-domain set `near` and another one, `far`.
    left_out: the teacher is behind a server, which gives no answer to a prompt, by whose responses these would be.
    """
    root.mkdir(exist_ok=True)
    for seed, model in enumerate(("small", "large", "huge")):
        if not (root / model).is_dir():
            tiny_model("llama", seed).save_pretrained(root / model)
            _tokenizer().save_pretrained(root / model)
    inputs = root / f"prompts-{prompts}"
    inputs.mkdir(exist_ok=True)
    for found, count in (("train", 3), ("near", prompts), ("far", prompts)):
        write_jsonl(inputs / f"{found}.jsonl", [{"id": f"p{n}", "prompt": f"{found} {n}?"} for n in range(count)])
    judge = {"name": "openai:m", "base_url": "http://me:pa55word@host/v1", **layer.pop("judge", {})}
    teacher = str(root / layer.pop("teacher", "large"))
    served = {"teacher_server": {"base_url": "http://host/v1", "model": teacher}} if left_out is not None else {}
    given = {
        "student": str(root / "small"),
        "teacher": teacher,
        **served,
        "methods": ["sft", "ddpo"],
        "controls": "none",
        "contrasts": [["ddpo", "sft"]],
        "judge": judge,
        "train_prompts": str(inputs / "train.jsonl"),
        "eval": [f"in:{inputs / 'near.jsonl'}", str(inputs / "far.jsonl")],
        **layer,
    }
    store = Store(root / "artifacts")
    road = build_road(layers.resolve([given]), store, download=False)
    for job in road.jobs.values():
        _make(job, road, store, say, left_out or {})
    results, made = collect(road, store, COMMAND)
    out = root / name
    write_run(out, road, store, results, made, board.board_markdown([results]))
    (out / MANIFEST).write_text(as_json(make_manifest(road, store, results, out)))
    return Run(out, store, road, results)


def _make(job: Job, road: Road, store: Store, say: Say, left_out: Mapping[str, str]) -> None:
    if store.has(job.ref):
        return
    facts: dict[str, Any] = {}
    with store.making(job.ref) as work:
        match job:
            case PromptsJob():
                write_jsonl(work / PROMPTS, road.prompts[job.ref].prompts)
            case RespondJob():
                prompts = enumerate(road.prompts[job.prompts].prompts)
                rows = [_response(job, n, prompt, sample) for n, prompt in prompts for sample in range(job.samples)]
                none = left_out.get(job.label.removeprefix("responses: "))
                rows = [row for row in rows if row.prompt_id != none]
                write_jsonl(work / RESPONSES, rows)
                facts = {"responses": len(rows), "tokens": sum(len(row.token_ids) for row in rows), "cut": 1}
                facts |= {LEFT_OUT: {none: REASON}} if none else {}
            case CompareJob():
                rows = list(read_records(store.read(job.responses).path / RESPONSES, Response))
                said = [(row.prompt_id, len(row.token_ids), row.sample) for row in rows]
                write_comparison(work, said, len(job.label) / 100)
            case MeasureJob():
                rows = list(read_records(store.read(job.responses).path / RESPONSES, Response))
                first = [row for row in rows if row.sample == 0]
                write_jsonl(work / MEASURED, [_measured(job, n, row) for n, row in enumerate(first)])
            case TrainJob():
                write_jsonl(work / METRICS, [{"step": step, "loss": 1 / step} for step in (1, 2, 3)])
                facts = FACTS
            case JudgeJob():
                drawn = road.jobs[job.candidate]
                assert isinstance(drawn, RespondJob)
                rows = _verdicts(job, road.prompts[job.prompts].prompts, drawn.samples, say)
                none = [store.read(ref).facts.get(LEFT_OUT, {}) for ref in (job.candidate, job.reference)]
                rows = [row for row in rows if not any(row.prompt_id in ids for ids in none)]
                write_jsonl(work / VERDICTS, rows)
                facts = {"input_tokens": 100 * len(rows), "output_tokens": len(rows)}
                if any(row.unanswered for row in rows):
                    return  # what failed keeps it from being an artifact
            case RetentionJob():
                score = {"metric": "acc", "value": len(job.label) / 100, "standard_error": None, "n": 4}
                rows = [{"task": name, **score, "higher_is_better": True} for name in job.tasks]
                (work / RETENTION).write_text(json.dumps(rows), encoding="utf-8")
            case ScoreJob():
                (work / "made").write_text(job.label)
                facts = {"tokens": READ}
            case _:
                (work / "made").write_text(job.label)
        environment = {"python": "3.11", "cores": 2}
        store.commit(job.ref, work, job.model_dump(mode="json"), facts, 1.5, environment)


def _response(job: RespondJob, number: int, prompt: Prompt, sample: int) -> Response:
    """3, 4, 5, … tokens, and one more in each further sample; the first one was cut."""
    ids, finish = tuple(range(3 + number + sample)), "length" if number == 0 else "stop"
    text = f"{job.label}: {number} {job.seed}{f' again {sample}' if sample else ''}"
    return Response(prompt_id=prompt.id, sample=sample, token_ids=ids, text=text, finish=finish)


def write_comparison(folder: Path, responses: Sequence[tuple[str, int] | tuple[str, int, int]], kl: float) -> None:
    """What a comparison writes. responses: (prompt id, tokens) of each, and which sample it is. Its forward KL is `kl`
    at the first token, and 0.01 more at each after it; its reverse KL 1 more."""
    responses = [(one[0], one[1], one[2] if len(one) > 2 else 0) for one in responses]
    lengths = [tokens for _, tokens, _ in responses]
    places = np.concatenate([np.arange(n) for n in lengths])
    forward = (kl + places / 100).astype(np.float32)
    np.savez(
        folder / TOKENS,
        forward_kl=forward,
        reverse_kl=forward + 1,
        prompt_ids=np.array([name for name, *_ in responses]),
        samples=np.array([sample for *_, sample in responses], np.int32),
        lengths=np.array(lengths, np.int32),
    )
    pieces = [
        {"prompt_id": name, "sample": sample, "pieces": [f"{name}.{i}" for i in range(n)]}
        for name, n, sample in responses
    ]
    write_jsonl(folder / PIECES, pieces)
    words = {"before": "…", "token": "a", "teacher_top": "b", "student_top": "c"}
    last = [
        {"prompt_id": name, "sample": sample, "position": n - 1, "kl": kl + (n - 1) / 100}
        for name, n, sample in responses
        if n
    ]
    write_jsonl(folder / DEPARTURES, [{**row, **words} for row in sorted(last, key=lambda row: -row["kl"])])


def _measured(job: MeasureJob, number: int, row: Response) -> Measured:
    """Of as many values as the response has tokens, by its number and the length of the job's label."""
    n = len(row.token_ids)
    values = {name: (n * (len(job.label) + number + place) / 100, n) for place, name in enumerate(job.measures)}
    return Measured(prompt_id=row.prompt_id, values=values)


def _verdicts(job: JudgeJob, prompts: Sequence[Prompt], samples: int, say: Say) -> list[Verdict]:
    """What is said of a further sample is what is said of the next prompt; of two rows, what is said of the first."""
    lengths = {"candidate_tokens": 4, "reference_tokens": 4, "input_tokens": 100, "output_tokens": 1, "form": "letter"}
    digest = {prompt.id: prompt.digest for prompt in prompts}
    who = {"prompt_set": job.prompt_set, "judge": job.judge, "judge_digest": job.judge_source[:SHORT]}
    rows = [
        row.model_copy(update={"reference": job.reference_name, "sample": sample})
        for number in range(len(prompts))
        for sample in range(samples)
        for row in judged(job.candidate_name, [say(job.candidate_name, number + sample)], number, **who, **lengths)
    ]
    return [row.model_copy(update={"prompt_digest": digest[row.prompt_id]}) for row in rows]


# ---- changing what was made


def rewrite(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON file in place."""
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def rewrite_line(path: Path, number: int, **values: Any) -> None:
    """Change one row of a JSONL file."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[number] |= values
    write_jsonl(path, rows)
