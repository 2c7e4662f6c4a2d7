"""The manifest of a run: what each of its figures was made with, and the hash of every file in its folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.core.files import file_sha256
from harness.methods import COMPUTING
from harness.models.hub import hub_origin
from harness.results.figures import Results
from harness.results.folder import BOARD, CONFIG, CURVES, RESULTS, RUN_PROMPTS, RUN_RESPONSES, read_part
from harness.run.jobs import VERDICTS, Job, JudgeJob, TrainJob
from harness.run.road import TEACHER_SEED, Road
from harness.store import MANIFEST, Store

SCHEMA = 1


KEYS = ("name", "command", "weights", "prompts", "judges", "seconds", "cost", "stages", "files")


FILES = (RESULTS, VERDICTS, RUN_RESPONSES, RUN_PROMPTS, CONFIG, BOARD)


def make_manifest(road: Road, store: Store, results: Results, out: Path) -> Results:
    """Of a finished run whose folder is written. Costs are in the currency of `judge.prices`, null where unknown."""
    environments: list[Any] = []
    stages: list[Results] = []
    for ref, job in road.jobs.items():
        if not store.has(ref):  # verdicts that failed: no artifact
            stages.append({"label": job.label, "ref": ref, "made": False})
            continue
        manifest = store.read(ref).manifest
        made_with = manifest.get("environment")
        if made_with not in environments:
            environments.append(made_with)
        stages.append(
            {
                "label": job.label,
                "ref": ref,
                "made": True,
                "created": manifest["created"],
                "seconds": manifest["seconds"],
                "environment": environments.index(made_with),
                "facts": manifest["facts"],
                **_cost(job, manifest["facts"]),
                **_computing(job, manifest["job"]),
                "files": manifest["files"],
            }
        )
    told = from_results(results)
    return {
        "schema": SCHEMA,
        **told,
        "environments": environments,
        "seeds": {"run": road.config.seed, "teacher responses on training prompts": TEACHER_SEED, "bootstrap": 0},
        "weights": {**told["weights"], "others": sorted(_outside(road) - set(_known(results)))},
        "revisions": revisions(road),
        "methods": {job.label: job.method_source for job in road.jobs.values() if isinstance(job, TrainJob)},
        **sums(stages),
        "stages": stages,
        "files": {
            name: {"bytes": (out / name).stat().st_size, "sha256": file_sha256(out / name)} for name in files_in(out)
        },
    }


def from_results(results: Results) -> Results:
    """What a manifest says that the results of its run say too."""
    return {
        "name": results["name"],
        "command": results["runs"][0]["command"],
        "weights": results["pair"]["weights"],
        "prompts": {
            results["training"]["prompt_set"]: results["training"]["digest"],
            **{entry["name"]: entry["digest"] for entry in results["prompt_sets"]},
        },
        "judges": {judge["name"]: {"digest": judge["digest"], **judge["setup"]} for judge in results["judges"]},
    }


def sums(stages: Sequence[Results]) -> Results:
    """Seconds and costs of all stages that were made."""
    done = [stage for stage in stages if stage["made"]]
    costs = [stage["cost"] for stage in done if "cost" in stage]
    return {
        "seconds": round(sum(stage["seconds"] for stage in done), 1),
        "cost": sum(costs) if costs and None not in costs else None,
    }


def _cost(job: Job, facts: Results) -> Results:
    """What a judging that is paid by tokens took; nothing for other stages."""
    if not isinstance(job, JudgeJob) or not facts["input_tokens"]:
        return {}
    tokens = facts["input_tokens"], facts["output_tokens"]
    return {"cost": job.judging.of(job.judge).prices.cost(*tokens)}


def _computing(job: Job, made_by: Results) -> Results:
    """How a training was computed, by the job that made it, which may have said other than this run; nothing for other
    stages."""
    if not isinstance(job, TrainJob):
        return {}
    return {"computing": {name: value for name, value in made_by["settings"].items() if name in COMPUTING}}


def _outside(road: Road) -> set[str]:
    """Digests of all weights that come from outside the store."""
    return {model.digest for job in road.jobs.values() for model in job.models if model.digest}


def revisions(road: Road) -> list[str]:
    """The models that came from the hub, each as owner/name@commit."""
    paths = [model.path for job in road.jobs.values() for model in job.models]
    return sorted({"@".join(origin) for path in paths if path and (origin := hub_origin(Path(path)))})


def _known(results: Results) -> Iterator[str]:
    yield from (weights for weights in results["pair"]["weights"].values() if weights)


def files_in(folder: Path) -> list[str]:
    """The names of the files in a run's folder that its manifest vouches for."""
    curves = sorted(path.relative_to(folder).as_posix() for path in (folder / CURVES).glob("*.jsonl"))
    return [*(name for name in FILES if (folder / name).is_file()), *curves]


def read_manifest(folder: Path) -> Results:
    """The manifest in a run's folder.

    Raises:
        UserError: there is none, or none of this version.
    """
    return read_part(folder, MANIFEST, "a manifest", SCHEMA, KEYS)


def changed_files(folder: Path) -> list[str]:
    """What is wrong with the files that the manifest vouches for, one line each; empty where they are as written."""
    found, vouched = [], read_manifest(folder)["files"]
    for name, known in vouched.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif file_sha256(path) != known["sha256"]:
            found.append(f"{name} is not the file that the run wrote: its sha256 is not that of {MANIFEST}")
    others = [name for name in dict.fromkeys([*FILES, *files_in(folder)]) if name not in vouched]
    return found + [f"{MANIFEST} does not vouch for {name}" for name in others]
