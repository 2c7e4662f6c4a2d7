"""A study made by one command, against the same runs made one by one, each in a store of its own.

    python -m benchmarks.speed.study --json benchmarks/speed/results/study.json

The study is seeds and a search; its teacher is the embedded SmolLM2-135M, its student the same with noise in its
weights, so that no store has to convert or prune anything. Its side is one process and one store. The other side makes
the same artifacts, as somebody does who gives one command after another on machines that share nothing: a process and a
store for each value that is tried (with all methods, at the first seed), and for each seed with what was found. It is
spared what such commands would do besides (judging the tries, planning). A side's seconds are those of its processes,
start and loading included. Counted are, by stage:

jobs     artifacts that were made
passes   forward passes of a language model's body (each reads its embedding once)
ids      tokens that went through it, padding of prompts included
tokens   as the stages count them: written (`respond`), trained on (`train`, with what was written for it), read (all
         other stages)
loads    models that were read from disk

Sharing may change nothing: every artifact of the separate runs is held against the study's of the same key, byte for
byte. And nothing may be done twice in the study. No key is made twice (`made_twice`: labels of any). No model's work
ends in the same content under two keys (`same_content` names any). What a frozen model says of the same responses is
read once (`read_again`: the labels of jobs where two of them read it, and how often). Ends with status 1 where an
artifact differs or a key was made twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from torch.nn import functional

from benchmarks.speed.train import another_student, machine, model_folder
from harness.cli.options import RunRequest, open_store
from harness.config import study_of
from harness.core.progress import Tick, plain_console
from harness.core.records import Facts, Ref
from harness.models import loading
from harness.models.reference import Model
from harness.run.jobs import Job, PruneJob, TrainJob, job_from
from harness.run.launch import run_jobs
from harness.run.launchers import inline
from harness.run.road import build_roads, together
from harness.serving.resident import let_go_of_all
from harness.store import Store
from harness.store.gc import refs_in

STUDY = "study"
MODEL = "smollm2-135m"
WORK = RunRequest(  # without its models
    preset="quick",
    methods="ddpo,dadpo",
    controls="none",
    judge="typicality",  # no model of its own
    seeds="0,1",
    tune=["training.learning_rate=1e-5,1e-4"],
    set=["validation=0.3", "training.batch_size=3"],
)
OF_THE_CLOCK = ("metrics.jsonl",)  # of a training: seconds stand in it


@dataclass
class Counts:
    """What was done, by stage."""

    jobs: Counter[str] = field(default_factory=Counter)
    passes: Counter[str] = field(default_factory=Counter)
    ids: Counter[str] = field(default_factory=Counter)
    loads: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    made: Counter[Ref] = field(default_factory=Counter)
    stage: str = ""

    def perform(self, job: Job, store: Store, work: Path, tick: Tick) -> Facts:
        """A job, counted."""
        self.stage, began = job.stage, time.perf_counter()
        facts = inline(job, store, work, tick)
        self.seconds[job.stage] = self.seconds.get(job.stage, 0.0) + time.perf_counter() - began
        self.jobs[job.stage] += 1
        self.made[job.ref] += 1
        return facts


@contextlib.contextmanager
def counting() -> Iterator[Counts]:
    """Counts of what models do meanwhile."""
    counts = Counts()
    embedding, load = functional.embedding, loading.load_model

    def embedded(ids: Any, *rest: Any, **how: Any) -> Any:
        counts.passes[counts.stage] += 1
        counts.ids[counts.stage] += ids.numel()
        return embedding(ids, *rest, **how)

    def loaded(*what: Any, **how: Any) -> Any:
        counts.loads[counts.stage] += 1
        return load(*what, **how)

    with mock.patch.object(functional, "embedding", embedded), mock.patch.object(loading, "load_model", loaded):
        yield counts


def of_study(request: RunRequest) -> dict[str, Any]:
    """The whole study, in this process; `parts`: by name the jobs, in order, that runs of their own would make."""
    study = study_of(request.layers()[1])
    store = open_store(study.base)
    with counting() as counts:

        def make(jobs: Iterable[Job]) -> None:
            run_jobs(jobs, store, plain_console(), counts.perform)

        roads = build_roads(study, store, download=True, make=make)
        jobs = together(roads)
        make(jobs.values())
    parts: dict[str, list[Ref]] = {}
    if roads[0].search is not None:
        for number in range(len(roads[0].search.tries) // len(roads[0].search.found)):
            tries = [roads[0].search.of(method)[number] for method in roads[0].search.found]
            parts[f"try {number + 1}"] = resting(jobs, [ref for one in tries for ref in (one.training, one.value)])
    for member, road in zip(study.members, roads, strict=True):
        parts[member.name] = resting(jobs, [*road.trainings.values(), *road.evaluating])
    plain = {ref: job.model_dump(mode="json") for ref, job in jobs.items()}
    return done(counts, jobs, store) | {"parts": {name: [plain[ref] for ref in refs] for name, refs in parts.items()}}


def resting(jobs: Mapping[Ref, Job], wanted: Iterable[Ref]) -> list[Ref]:
    """Artifacts and all that they are made from, in the jobs' order."""
    found: set[Ref] = set()
    ahead = list(wanted)
    while ahead:
        ref = ahead.pop()
        if ref not in found:
            found.add(ref)
            ahead += refs_in(jobs[ref].model_dump(mode="json"))
    return [ref for ref in jobs if ref in found]


def of_jobs(plain: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """These jobs, in a store in that folder, in this process."""
    jobs = {job.ref: job for job in map(job_from, plain)}
    store = Store(folder)
    with counting() as counts:
        run_jobs(jobs.values(), store, plain_console(), counts.perform)
    return done(counts, jobs, store)


def done(counts: Counts, jobs: Mapping[Ref, Job], store: Store) -> dict[str, Any]:
    """What was done, as plain data."""
    let_go_of_all()
    manifests = {ref: store.read(ref).manifest for ref in jobs}
    digests = {ref: digest_of(manifest) for ref, manifest in manifests.items()}
    reading = {stage for stage, passes in counts.passes.items() if passes}
    return {
        "stages": stages_of(counts, jobs, manifests),
        "loads": counts.loads.total(),
        "made_twice": sorted(jobs[ref].label for ref, times in counts.made.items() if times > 1),
        "same_content": same_content(jobs, digests, reading),
        "read_again": read_again(jobs.values()),
        "digests": digests,
    }


def stages_of(
    counts: Counts, jobs: Mapping[Ref, Job], manifests: Mapping[Ref, Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    tokens: Counter[str] = Counter()
    for ref, job in jobs.items():
        facts = manifests[ref]["facts"]
        tokens[job.stage] += int(facts.get("tokens", 0)) + int(facts.get("fresh_tokens", 0))
    return {
        stage: {
            "jobs": counts.jobs[stage],
            "passes": counts.passes[stage],
            "ids": counts.ids[stage],
            "tokens": tokens[stage],
            "seconds": round(counts.seconds[stage], 2),
        }
        for stage in sorted(counts.jobs)
    }


def digest_of(manifest: Mapping[str, Any]) -> str:
    """What an artifact holds, in one line."""
    files = {name: known["sha256"] for name, known in manifest["files"].items() if name not in OF_THE_CLOCK}
    return json.dumps(files, sort_keys=True)


def same_content(jobs: Mapping[Ref, Job], digests: Mapping[Ref, str], stages: Collection[str]) -> list[list[str]]:
    """Labels of jobs of one of these stages that made the same under different keys."""
    found: dict[tuple[str, str], list[str]] = {}
    for ref, job in jobs.items():
        if job.stage in stages:
            found.setdefault((job.stage, digests[ref]), []).append(job.label)
    return [labels for labels in found.values() if len(labels) > 1]


def read_again(jobs: Iterable[Job]) -> dict[str, int]:
    """By the labels of two jobs or more in which one frozen model goes over the same responses, how often that is so;
    what a training asks as it goes is not among it."""
    found: dict[tuple[str, Ref], list[str]] = {}
    for job in jobs:
        if isinstance(job, TrainJob | PruneJob):
            continue
        said = dict(job)
        responses = said.get("responses", ())
        reading = [said.get("model"), *([said.get("teacher")] if said.get("states") is None else [])]
        for model in (model for model in reading if isinstance(model, Model)):
            for ref in responses if isinstance(responses, tuple) else (responses,):
                found.setdefault((json.dumps(model.in_key, sort_keys=True, default=str), ref), []).append(job.label)
    return dict(Counter(" + ".join(sorted(labels)) for labels in found.values() if len(labels) > 1))


def in_a_process(work: Mapping[str, Any]) -> dict[str, Any]:
    """A side's work, or a part of it, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.speed.study", "--side"]
    ended = subprocess.run(command, input=json.dumps(work), stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{work['name']} failed")
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def performed(work: Mapping[str, Any]) -> dict[str, Any]:
    """The same in this process. work: its name, the folder of its store, and a study's request or jobs."""
    if "jobs" in work:
        return of_jobs(work["jobs"], Path(work["store"]))
    request = RunRequest(**work["request"])
    return of_study(replace(request, set=[*(request.set or ()), f"store={work['store']}"]))


def options(request: RunRequest) -> dict[str, Any]:
    """Those that are given, by their names."""
    return {name: value for name, value in asdict(request).items() if value is not None}


def embedded(folder: Path) -> dict[str, Any]:
    """The study of the benchmark. folder: of its student."""
    teacher = model_folder(MODEL)
    student = shutil.move(another_student(teacher), folder / "student")
    return options(replace(WORK, student=str(student), teacher=str(teacher)))


def one(name: str, **work: Any) -> dict[str, Any]:
    """A side's work, or a part of it, in a store of its own, which goes afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        found = in_a_process({"name": name, "store": folder, **work})
        found["seconds"] = round(time.perf_counter() - began, 1)
    jobs, passes = (sum(stage[what] for stage in found["stages"].values()) for what in ("jobs", "passes"))
    seconds, loads = found["seconds"], found["loads"]
    print(f"{name:40} {seconds:7.1f} s, {jobs:4} artifacts, {passes:6,} passes, {loads} loads", flush=True)
    return found


def summed(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What parts did together."""
    stages: dict[str, Counter[str]] = {}
    for part in parts:
        for stage, done in part["stages"].items():
            stages.setdefault(stage, Counter()).update(done)
    rounded = {stage: {what: round(count, 2) for what, count in stages[stage].items()} for stage in sorted(stages)}
    everything: Counter[str] = Counter()
    for done in rounded.values():
        everything.update(done)
    return {
        "processes": len(parts),
        "seconds": round(sum(part["seconds"] for part in parts), 1),
        "jobs": everything["jobs"],
        "passes": everything["passes"],
        "ids": everything["ids"],
        "loads": sum(part["loads"] for part in parts),
        "written": rounded["respond"]["tokens"],
        "trained": rounded["train"]["tokens"],
        "read": sum(done["tokens"] for stage, done in rounded.items() if stage not in ("respond", "train")),
        "stages": rounded,
    }


def compared(request: Mapping[str, Any]) -> dict[str, Any]:
    """Both sides, one after the other. request: options of `run`."""
    study = one(STUDY, request=request)
    separate = [one(name, jobs=jobs) for name, jobs in study["parts"].items()]
    differing = sorted(
        ref for part in separate for ref, digest in part["digests"].items() if study["digests"].get(ref) != digest
    )
    sides = {STUDY: summed([study]), "separate": summed(separate)}
    return {
        "request": request,
        "sides": sides,
        "ratio": {what: round(sides["separate"][what] / sides[STUDY][what], 2) for what in ROWS},
        "differing": differing,
        **{name: study[name] for name in ("made_twice", "same_content", "read_again")},
    }


# what the table has a row of
ROWS = {
    "seconds": "seconds, processes' start included",
    "jobs": "artifacts made",
    "passes": "forward passes",
    "ids": "tokens through a model",
    "loads": "models loaded",
    "written": "tokens written",
    "trained": "tokens trained on",
    "read": "tokens read",
}


def table(found: Mapping[str, Any]) -> str:
    """As benchmarks/speed/README.md has it."""
    study, separate = found["sides"][STUDY], found["sides"]["separate"]
    lines = [f"| | one study | {separate['processes']} separate runs | |", "|:--|--:|--:|--:|"]
    lines += [
        f"| {words} | {study[what]:,} | {separate[what]:,} | **×{found['ratio'][what]:.2f}** |"
        for what, words in ROWS.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--request", help="other options of `run`, by their names, as JSON")
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(performed(json.load(sys.stdin))))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = compared(json.loads(args.request) if args.request else embedded(Path(folder)))
    print(table(found))
    print("made twice:", found["made_twice"] or "nothing")
    print("the same content under two keys:", found["same_content"] or "none")
    for labels, times in found["read_again"].items():
        print(f"read again, {times} times: {labels}")
    if args.json:
        about = {"machine": machine() | {"cores": os.cpu_count()}, "python": platform.python_version()}
        args.json.write_text(json.dumps({**about, **found}, indent=1) + "\n")
    if found["differing"] or found["made_twice"]:
        sys.exit(f"not the same, or made twice: {found['differing'] or found['made_twice']}")


if __name__ == "__main__":
    main()
