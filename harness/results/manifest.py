"""The manifest of a run: what each of its figures was made with, and the hash of every file in its folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue

from harness.core.files import file_sha256
from harness.core.records import Partial, Record
from harness.models.hub import hub_origin
from harness.results.folder import (
    BOARD,
    CONFIG,
    CURVES,
    RESULTS,
    RUN_MEASURED,
    RUN_PROMPTS,
    RUN_RESPONSES,
    RUN_TOKENS,
    read_part,
)
from harness.results.schema import Results, StampFacts
from harness.run.declaring import contrasted, family_of
from harness.run.jobs import VERDICTS, TrainJob
from harness.run.road import Road
from harness.run.trainings import TEACHER_SEED
from harness.statistics.agreement import KAPPA_SEED
from harness.store import MANIFEST, Store

MANIFEST_SCHEMA = 1
FILES = (RESULTS, VERDICTS, RUN_RESPONSES, RUN_PROMPTS, RUN_MEASURED, RUN_TOKENS, CONFIG, BOARD)
LATER = (RUN_MEASURED, RUN_TOKENS)  # that older versions did not write


class FileFacts(Record):
    """A file as it was written."""

    bytes: int = Field(description="its size")
    sha256: str = Field(description="its content")


class Stage(Partial):
    """An artifact of the run. Of a judging that lacks verdicts there is none: it has the first three fields alone."""

    label: str = Field(description="what it is, in words")
    ref: str = Field(description="stage/key in the store")
    made: bool = Field(description="whether it is there")
    created: str = Field(default="", description="when it was made, ISO 8601")
    seconds: float = Field(default=0.0, description="how long that took")
    peak_memory: int | None = Field(
        default=None, description="bytes of its device that it took at most; null where unknown"
    )
    environment: int = Field(default=0, description="what it was made with: a place in `environments`")
    facts: dict[str, JsonValue] = Field(default={}, description="what the stage says of its work")
    cost: float | None = Field(default=None, description="of a judging paid by tokens; null where prices are unknown")
    computing: dict[str, JsonValue] = Field(
        default={}, description="of a training: settings that say only how it was computed"
    )
    files: dict[str, FileFacts] = Field(default={}, description="the artifact's files")

    @property
    def paid(self) -> bool:
        """Whether it is a judging that is paid by tokens."""
        return "cost" in self.model_fields_set


class DeclaredFacts(StampFacts):
    """A contrast's stamp, as the results have it, and what it follows from."""

    responses: tuple[str, ...] = Field(description="refs of the rows' responses, by which the store keeps the stamp")
    stages: tuple[str, ...] = Field(
        description="refs of what tells of either row, by the times of which `began` is held"
    )


Member = tuple[str, str, str]


class FamilyFacts(Record):
    """What was declared together: each contrast as its prompt set and the refs of its rows' responses."""

    digest: str = Field(description="of all of it, as stamps name it")
    members: tuple[Member, ...] = Field(description="the contrasts")
    primary: tuple[Member, ...] = Field(description="those of them that are the primary one")
    margin: float | None = Field(description="what was to count as no difference, in the rate's unit")


class FromResults(Record):
    """What a manifest says that the results of its run say too."""

    name: str = Field(description="of the run")
    command: str = Field(description="what reproduces it")
    weights: dict[str, str | tuple[str, ...] | None] = Field(
        description="digest or artifact of student and teacher, null behind a server; and digests of all `others`"
    )
    prompts: dict[str, str] = Field(description="digest of each prompt set")
    judges: dict[str, dict[str, str]] = Field(description="each judge's digest and setup")


class Sums(Record):
    """Of all stages that were made."""

    seconds: float = Field(description="how long they took")
    cost: float | None = Field(description="what they cost, in the currency of `judge.prices`; null where unknown")


class _Version(Record):
    version: int = Field(default=MANIFEST_SCHEMA, alias="schema", description="version of this schema")


class _MadeWith(Record):
    environments: tuple[dict[str, JsonValue] | None, ...] = Field(
        default=(), description="versions and machines that stages were made with"
    )
    seeds: dict[str, int] = Field(default={}, description="of the run, of what all runs share, and of two judges' κ")
    revisions: tuple[str, ...] = Field(default=(), description="models of the hub, as owner/name@commit")
    methods: dict[str, str] = Field(default={}, description="digest of the sources of each training's method")


class _Contents(Record):
    declared: tuple[DeclaredFacts, ...] = Field(
        default=(), description="when each contrast was declared; nothing in older ones"
    )
    families: tuple[FamilyFacts, ...] = Field(
        default=(), description="the families of these, by which `dropped` is held; nothing in older ones"
    )
    stages: tuple[Stage, ...] = Field(description="every artifact of the run, in the order they were made")
    files: dict[str, FileFacts] = Field(description="the files of the run's folder, but this one")


class Manifest(_Contents, Sums, _MadeWith, FromResults, _Version):
    """All that a run's folder says in manifest.json."""


def make_manifest(road: Road, store: Store, results: Results, out: Path) -> Manifest:
    """Of a finished run whose folder is written. Costs are in the currency of `judge.prices`, null where unknown."""
    environments: list[Any] = []
    stages: list[Stage] = []
    for ref, job in road.jobs.items():
        if not store.has(ref):  # verdicts that failed: no artifact
            stages.append(Stage(label=job.label, ref=ref, made=False))
            continue
        manifest = store.read(ref).manifest
        made_with = manifest.get("environment")
        if made_with not in environments:
            environments.append(made_with)
        stages.append(
            Stage(
                label=job.label,
                ref=ref,
                made=True,
                created=manifest["created"],
                seconds=manifest["seconds"],
                peak_memory=manifest.get("peak_memory"),
                environment=environments.index(made_with),
                facts=manifest["facts"],
                **job.recorded(manifest),
                files=manifest["files"],
            )
        )
    told = from_results(results)
    return Manifest(
        **{**dict(told), "weights": {**told.weights, "others": sorted(_outside(road) - set(_known(results)))}},
        environments=tuple(environments),
        seeds={
            "run": road.config.seed,
            "teacher responses on training prompts": TEACHER_SEED,
            # every other interval is by a formula
            **({"bootstrap of two judges' kappa": KAPPA_SEED} if results.agreement else {}),
        },
        revisions=tuple(revisions(road)),
        methods={job.label: job.method_source for job in road.jobs.values() if isinstance(job, TrainJob)},
        **dict(sums(stages)),
        declared=tuple(_declared(road, results)),
        families=tuple(_families(results, store)),
        stages=tuple(stages),
        files={
            name: FileFacts(bytes=(out / name).stat().st_size, sha256=file_sha256(out / name)) for name in files_in(out)
        },
    )


def _declared(road: Road, results: Results) -> Iterator[DeclaredFacts]:
    pairs = {(pair.first, pair.second, pair.prompt_set): pair for pair in contrasted(road)}
    for stamp in results.stamps:
        pair = pairs[stamp.first, stamp.second, stamp.prompt_set]
        yield DeclaredFacts(**dict(stamp), responses=pair.responses, stages=pair.about)


def _families(results: Results, store: Store) -> Iterator[FamilyFacts]:
    for digest in dict.fromkeys(stamp.family for stamp in results.stamps):
        if family := family_of(digest, store):
            known = {"members": family.members, "primary": family.primary, "margin": family.margin}
            yield FamilyFacts.model_validate({"digest": digest, **known})


def from_results(results: Results) -> FromResults:
    """What a manifest says that the results of its run say too."""
    return FromResults(
        name=results.name,
        command=results.runs[0].command,
        weights=dict(results.pair.weights),
        prompts={
            results.training.prompt_set: results.training.digest,
            **{entry.name: entry.digest for entry in results.prompt_sets},
        },
        judges={judge.name: {"digest": judge.digest, **judge.setup} for judge in results.judges},
    )


def sums(stages: Sequence[Stage]) -> Sums:
    done = [stage for stage in stages if stage.made]
    costs = [stage.cost for stage in done if stage.paid]
    known = [cost for cost in costs if cost is not None]
    return Sums(
        seconds=round(sum(stage.seconds for stage in done), 1),
        cost=sum(known) if known and len(known) == len(costs) else None,
    )


def _outside(road: Road) -> set[str]:
    """Digests of all weights that come from outside the store."""
    return {model.digest for job in road.jobs.values() for model in job.models if model.digest}


def revisions(road: Road) -> list[str]:
    """The models that came from the hub, each as owner/name@commit."""
    paths = [model.path for job in road.jobs.values() for model in job.models]
    return sorted({"@".join(origin) for path in paths if path and (origin := hub_origin(Path(path)))})


def _known(results: Results) -> Iterator[str]:
    yield from (weights for weights in results.pair.weights.values() if weights)


def files_in(folder: Path) -> list[str]:
    """The names of the files in a run's folder that its manifest vouches for."""
    curves = sorted(path.relative_to(folder).as_posix() for path in (folder / CURVES).glob("*.jsonl"))
    return [*(name for name in FILES if (folder / name).is_file()), *curves]


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a run's folder.

    Raises:
        UserError: there is none, or none of this version.
    """
    return read_part(folder, MANIFEST, "a manifest", Manifest, MANIFEST_SCHEMA)


def changed_files(folder: Path) -> list[str]:
    """What is wrong with the files that the manifest vouches for, one line each; empty where they are as written."""
    found, vouched = [], read_manifest(folder).files
    for name, known in vouched.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif file_sha256(path) != known.sha256:
            found.append(f"{name} is not the file that the run wrote: its sha256 is not that of {MANIFEST}")
    always = [name for name in FILES if name not in LATER]
    others = [name for name in dict.fromkeys([*always, *files_in(folder)]) if name not in vouched]
    return found + [f"{MANIFEST} does not vouch for {name}" for name in others]
