"""A run's results: made from its artifacts, written beside its board, and recorded in benchmarks/results."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import harness
from harness.config import MACHINE, parse_yaml, to_yaml
from harness.errors import UserError
from harness.jobs import METRICS, VERDICTS, PruneJob, Ref
from harness.judging import Judge
from harness.judging.asking import IDENTICAL
from harness.judging.panel import MAJORITY, SUMMARIES, panel_verdicts
from harness.pipeline import Candidate, Evaluation, Road, run_digest
from harness.records import Status, Verdict, read_records, write_jsonl
from harness.statistics import rates
from harness.statistics.agreement import agreements, flips
from harness.store import Store, write_atomically

SCHEMA = 1
RESULTS, CONFIG, BOARD = "results.json", "config.yaml", "leaderboard.md"
RECORDED = (RESULTS, VERDICTS, CONFIG)
Results = dict[str, Any]


def results_folder() -> Path:
    """benchmarks/results of this checkout.

    Raises:
        UserError: the harness runs from an installed package, which is no place to record in.
    """
    folder = Path(str(resources.files("benchmarks") / "results"))
    if not (folder.parents[1] / "pyproject.toml").is_file():
        raise UserError("recorded results live in a checkout of the project; here, name run folders and --out FILE")
    return folder


def as_file_name(model: str) -> str:
    """A model's name, folder or hub id as one part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).name).strip(".-") or "model"


def collect(road: Road, store: Store, command: str) -> tuple[Results, list[Verdict]]:
    """Every figure of a finished road, and the verdicts that they follow from."""
    config = road.config
    verdicts: list[Verdict] = []
    rows: list[Results] = []
    several = len(config.judge.names) > 1
    for evaluation in road.evaluations:
        for candidate in evaluation.candidates:
            by_judge = {judge: judged(ref, store) for judge, ref in candidate.verdicts.items()}
            verdicts += [verdict for found in by_judge.values() for verdict in found]
            if several:
                by_judge |= panel_verdicts({name: by_judge[name] for name in config.judge.names})
            rows += [_row(evaluation, candidate, judge, found, store) for judge, found in by_judge.items()]
    manifests = {ref: store.read(ref).manifest for ref in road.jobs if store.has(ref)}
    dates = sorted(manifest["created"] for manifest in manifests.values())
    results: Results = {
        "schema": SCHEMA,
        "harness": harness.__version__,
        "name": f"{as_file_name(road.pair.student)}-seed{config.seed}-{run_digest(road)}",
        "date": dates[-1][:10],
        "command": command,
        "pair": road.pair.model_dump(include={"student", "teacher"}),
        "pruning": next((manifests[ref]["facts"] for ref, job in road.jobs.items() if isinstance(job, PruneJob)), None),
        "seed": config.seed,
        "judge": MAJORITY if several else config.judge.name,
        "judges": [*(_panels(road) if several else []), *(described(judge) for judge, _ in road.judges)],
        "judging": [quality(judge.name, verdicts) for judge, _ in road.judges],
        "agreement": agreements(verdicts, config.judge.names),
        "judge_samples": config.judge.samples if any(judge.measures for judge, _ in road.judges) else 0,
        "prompt_sets": [
            {
                "name": evaluation.name,
                "in_domain": evaluation.in_domain,
                "prompts": len(road.eval_prompts[evaluation.name]),
                "teacher": _response_facts(evaluation.reference, store),
            }
            for evaluation in road.evaluations
        ],
        "training": {
            "prompt_set": config.train_prompts,
            "prompts": len(road.train_prompts),
            "sampling": config.train_sampling.model_dump(),
            **_response_facts(road.teacher_responses, store),
        },
        "evaluation": {"sampling": config.eval_sampling.model_dump()},
        "methods": [
            {
                "name": entry.name,
                "method": entry.method,
                "controls": entry.controls,
                "token_matched": entry.match_tokens,
                "why": entry.why,
                "settings": entry.settings.model_dump(mode="json"),
                "artifact": road.trainings[entry.name],
                "facts": store.read(road.trainings[entry.name]).facts,
            }
            for entry in road.entries
        ],
        "rows": rows,
        "stages": [
            {
                "label": job.label,
                "ref": ref,
                "seconds": manifests[ref]["seconds"],
                "facts": manifests[ref]["facts"],
            }
            for ref, job in road.jobs.items()
            if ref in manifests
        ],
        "config": config.model_dump(mode="json", exclude=set(MACHINE)),
    }
    return results, verdicts


def judged(ref: Ref, store: Store) -> list[Verdict]:
    """A judging's verdicts. Those that failed keep it from being an artifact; they count on the board all the same."""
    folder = store.read(ref).path if store.has(ref) else store.workspace(ref)
    return read_records(folder / VERDICTS, Verdict)


def described(judge: Judge) -> Results:
    """What a board says of a judge."""
    return {"name": judge.name, "summary": judge.summary, "misses": judge.misses, "setup": judge.setup}


def quality(judge: str, verdicts: Sequence[Verdict]) -> Results:
    """One judge's verdicts over all candidates and sets, counted: by status and by the form that it was asked in, those
    on texts that it read in part, and of the comparisons with both orders those that contradict each other."""
    own = [verdict for verdict in verdicts if verdict.judge == judge]
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in own:
        groups.setdefault((verdict.prompt_set, verdict.candidate), []).append(verdict)
    turned = [flips(group) for group in groups.values()]
    statuses = Counter(verdict.status for verdict in own)
    return {
        "judge": judge,
        "verdicts": len(own),
        **{status: statuses[status] for status in get_args(Status)},
        "identical": sum(verdict.detail == IDENTICAL.detail for verdict in own),
        "truncated": sum(verdict.truncated for verdict in own),
        "forms": dict(Counter(verdict.form for verdict in own if verdict.form)),
        "flips": sum(found.count for found in turned),
        "both_orders": sum(found.n for found in turned),
    }


def _panels(road: Road) -> list[Results]:
    """A panel is a proxy only where all of its judges are."""
    members = [judge for judge, _ in road.judges if judge.name in road.config.judge.names]
    misses = "; ".join(judge.misses for judge in members) if all(judge.misses for judge in members) else ""
    setup = {"judges": ", ".join(judge.name for judge in members)}
    return [{"name": name, "summary": text, "misses": misses, "setup": setup} for name, text in SUMMARIES.items()]


def _row(evaluation: Evaluation, candidate: Candidate, judge: str, verdicts: list[Verdict], store: Store) -> Results:
    return {
        "prompt_set": evaluation.name,
        "in_domain": evaluation.in_domain,
        "method": candidate.name,
        "kind": candidate.kind,
        "judge": judge,
        **asdict(rates(verdicts)),
        "flips": asdict(flips(verdicts)),
        "identical": len({v.prompt_id for v in verdicts if v.detail == IDENTICAL.detail}),
        **_response_facts(candidate.responses, store),
    }


def _response_facts(ref: Ref, store: Store) -> Results:
    facts = store.read(ref).facts
    return {"mean_tokens": facts["tokens"] / facts["responses"], "cut_share": facts["cut"] / facts["responses"]}


def write_run(out: Path, road: Road, store: Store, results: Results, verdicts: list[Verdict], board: str) -> None:
    """The run's output folder; each file is whole or as before. metrics/NAME.jsonl is each training's curve."""
    for old in (out / "metrics").glob("*.jsonl"):
        if old.stem not in road.trainings:
            old.unlink()
    for name, ref in road.trainings.items():
        curve = (store.read(ref).path / METRICS).read_text(encoding="utf-8")
        write_atomically(out / "metrics" / f"{name}.jsonl", curve)
    write_atomically(out / CONFIG, to_yaml(road.config))
    write_jsonl(out / VERDICTS, verdicts)
    write_atomically(out / RESULTS, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_atomically(out / BOARD, board)


def read_results(folder: Path) -> Results:
    """The results of a run's folder.

    Raises:
        UserError: there are none, or of another version.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise UserError(f"{folder} holds no {RESULTS}; give the output folder of a finished run")
    try:
        results: Results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(results, dict) or results.get("schema") != SCHEMA:
        raise UserError(f"{path}: not results of this version of the harness (schema {SCHEMA})")
    return results


def record(run: Path) -> Path:
    """Copy a run's small result files to benchmarks/results; the folder there."""
    results = read_results(run)
    for name in RECORDED:
        if not (run / name).is_file():
            raise UserError(f"{run} holds no {name}; run it again (nothing is computed twice)")
    known = {key: value for key, value in results["config"].items() if key != "training"}
    if parse_yaml((run / CONFIG).read_text(encoding="utf-8"), str(run / CONFIG)) != known:
        raise UserError(f"{run / CONFIG} is not the configuration of {run / RESULTS}; run it again")
    target = results_folder() / as_file_name(str(results["name"]))
    if target.resolve() != run.resolve():
        target.mkdir(parents=True, exist_ok=True)
        for name in RECORDED:
            shutil.copyfile(run / name, target / name)
    return target


def recorded() -> list[Path]:
    """The folders of all recorded runs, by name."""
    return sorted(path.parent for path in results_folder().glob(f"*/{RESULTS}"))
