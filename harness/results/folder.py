"""A run's results: made from its artifacts, written into its folder, and read from there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

import harness
from harness.config import to_yaml
from harness.core.errors import UserError
from harness.core.files import canonical_hash, write_atomically
from harness.core.parsing import parse_json
from harness.core.records import (
    METRICS,
    Facts,
    Measured,
    Record,
    Ref,
    Response,
    RunMeasured,
    RunPrompt,
    RunResponse,
    Verdict,
    plain,
    read_records,
    write_jsonl,
)
from harness.judging import Judge
from harness.judging.relation import Known, relation_of
from harness.measures import Measure
from harness.methods import methods
from harness.models.lineage import lineage
from harness.prompts import PromptSet
from harness.prompts.overlap import overlap
from harness.results.costs import costs_of
from harness.results.declared import Declared, Stamps
from harness.results.figures import RunRows, figures
from harness.results.retention import retention_of
from harness.results.schema import (
    EvaluationFacts,
    JudgeFacts,
    MeasureFacts,
    MethodFacts,
    PairFacts,
    PruningFacts,
    RecordedSettings,
    Results,
    RunFacts,
    SetFacts,
    StampFacts,
    TrainedFacts,
    TrainingFacts,
)
from harness.results.searched import search_facts
from harness.results.tokens import TOKENS_SCHEMA, Compared, TokenViews, as_compact_json, token_views
from harness.run.declaring import contrasted, digest_of, family_of, left_out, stamp_of
from harness.run.evaluating import Evaluation
from harness.run.jobs import LEFT_OUT, MEASURED, RESPONSES, VERDICTS, PruneJob, RespondJob
from harness.run.known import began_of
from harness.run.measuring import declared_first
from harness.run.road import Road, run_digest
from harness.run.rows import TEACHER, Entry
from harness.statistics.panel import SUMMARIES
from harness.store import Store

RESULTS, CONFIG, BOARD = "results.json", "config.yaml", "leaderboard.md"
P = TypeVar("P", bound=Record)
RUN_PROMPTS, RUN_RESPONSES, RUN_MEASURED, CURVES = "prompts.jsonl", "responses.jsonl", "measures.jsonl", "metrics"
RUN_TOKENS = "tokens.json"


def as_file_name(model: str) -> str:
    """A model's name, folder or hub id as one part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).name).strip(".-") or "model"


def declared(road: Road, stamps: Sequence[StampFacts] = ()) -> Declared:
    """What the road's configuration says that its board is to show."""
    config, candidates = road.config, {one.name: one.kind for one in road.evaluations[0].candidates}
    return Declared(
        sets={evaluation.name: evaluation.in_domain for evaluation in road.evaluations},
        candidates=candidates,
        judges=config.judge.names,
        parts=[judge.name for judge, _ in road.judges],
        contrasts=config.contrasts or (),
        primary=config.primary,
        margin=config.margin and config.margin / 100,
        stamps=[Stamps(candidates, stamps)],
        versus=config.versus,
        measures=measures_of(road),
        own_losses={entry.name: methods.get(entry.method).minimises for entry in road.entries},
    )


def measures_of(road: Road) -> list[MeasureFacts]:
    """The measures that are shown on any set, and what they are of this teacher."""
    shown = {measure.name: measure for evaluation in road.evaluations for measure in evaluation.shown.measures}
    served = road.weights["teacher"].served is not None
    return [
        MeasureFacts(
            **{name: getattr(one, name) for name in _SAID_OF_A_MEASURE},
            **bounds(one, served),
            head=one.head or one.name,
        )
        for one in shown.values()
    ]


def bounds(measure: Measure, served: bool) -> dict[str, Any]:
    """What its values, and the teacher's own, are. served: whether the teacher is behind a server."""
    return {
        "bound": measure.bound if served else "exact",
        "teacher_bound": measure.teacher_bound if served else "exact",
    }


_SAID_OF_A_MEASURE = ("name", "digest", "group", "aside", "reads", "summary", "misses", "unit", "better")


def declared_in(results: Results) -> Declared:
    """The same, as a results file has it."""
    candidates = {row.method: row.kind for row in results.rows}
    return Declared(
        sets={entry.name: entry.in_domain for entry in results.prompt_sets},
        candidates=candidates,
        judges=results.configured.judge.names,
        parts=[judge.name for judge in results.judges if judge.name not in SUMMARIES],
        contrasts=results.configured.contrasts or (),
        primary=results.configured.primary,
        margin=results.configured.margin and results.configured.margin / 100,
        stamps=[Stamps(candidates, results.stamps)],
        versus=results.configured.versus,
        measures=results.measured,
        own_losses={one.name: one.minimises for one in results.methods},
    )


def stamps_of(road: Road, store: Store, run: str) -> tuple[tuple[StampFacts, ...], dict[str, tuple[str, ...]]]:
    """When the contrasts of a finished run were declared, of those that have a stamp; and the digests of what it lacks,
    by the families that these name, of those that are kept."""
    found, pairs = [], contrasted(road)
    of_run = [pair.responses for pair in pairs]
    rows = [row.responses for evaluation in road.evaluations for row in evaluation.candidates]
    others = left_out(rows, of_run, store)
    lacking: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        stamp = stamp_of(pair.responses, store)
        if stamp is None:
            continue
        if stamp.family not in lacking and (family := family_of(stamp.family, store)):
            lacking[stamp.family] = tuple(sorted(map(digest_of, family.lacking(of_run) | others)))
        made = [store.read(ref).manifest for ref in pair.about if store.has(ref)]
        known = [(stamp.began, 0.0)] if stamp.began else []
        began = began_of(known + [(one["created"], one["seconds"]) for one in made])
        found.append(
            StampFacts(
                run=run,
                prompt_set=pair.prompt_set,
                first=pair.first,
                second=pair.second,
                **{**asdict(stamp), "began": began},
                dropped=len(lacking[stamp.family]) if stamp.family in lacking else None,
                contrast=digest_of(pair.responses),
            )
        )
    return tuple(found), lacking


def made_by(road: Road, store: Store) -> RunRows:
    """The verdicts and responses of a finished road, and what was measured of them, as its folder keeps them: without
    the prompts that the teacher's server gave no answer to, whoever else answered them.

    Raises:
        UserError: there is no other in a set.
    """
    verdicts: list[Verdict] = []
    responses: list[RunResponse] = []
    measured: list[RunMeasured] = []
    for evaluation in road.evaluations:
        responses += _responses(evaluation, TEACHER, evaluation.reference, store)
        measured += _measured(evaluation, TEACHER, evaluation.measured, store)
        for candidate in evaluation.candidates:
            responses += _responses(evaluation, candidate.name, candidate.responses, store)
            measured += _measured(evaluation, candidate.name, candidate.measured, store)
            for ref in candidate.verdicts.values():
                verdicts += judged(ref, store)
        for versus in evaluation.versus:
            for ref in versus.verdicts.values():
                verdicts += judged(ref, store)
    left_out = {evaluation.name: left_out_of(road, evaluation.prompt_set, store) for evaluation in road.evaluations}
    for evaluation in road.evaluations:
        if len(left_out[evaluation.name]) == len(evaluation.prompt_set.prompts):
            raise UserError(
                f"every prompt of {evaluation.name} lacks some answer of the teacher's server: none is left"
            )
    return RunRows(verdicts, responses, measured).without(left_out)


def left_out_of(road: Road, found: PromptSet, store: Store) -> dict[str, str]:
    """The prompts of a set that the teacher's server gave no answer to, by id with the reason, in the set's order."""
    asked = [
        job.ref
        for job in road.jobs.values()
        if isinstance(job, RespondJob) and job.model.served and road.prompts[job.prompts].digest == found.digest
    ]
    reasons = {name: why for ref in asked for name, why in store.read(ref).facts.get(LEFT_OUT, {}).items()}
    return {prompt.id: reasons[prompt.id] for prompt in found.prompts if prompt.id in reasons}


def _responses(evaluation: Evaluation, system: str, ref: Ref, store: Store) -> Iterable[RunResponse]:
    for row in read_records(store.read(ref).path / RESPONSES, Response):
        yield RunResponse(
            prompt_set=evaluation.name,
            prompt_id=row.prompt_id,
            system=system,
            text=row.text,
            tokens=len(row.token_ids),
            finish=row.finish,
            sample=row.sample,
        )


def _measured(evaluation: Evaluation, system: str, ref: Ref | None, store: Store) -> Iterable[RunMeasured]:
    for row in read_records(store.read(ref).path / MEASURED, Measured) if ref else ():
        yield RunMeasured(prompt_set=evaluation.name, system=system, **dict(row))


def collect(road: Road, store: Store, command: str) -> tuple[Results, RunRows]:
    """Every figure of a finished road, and the rows that they follow from."""
    config, made = road.config, made_by(road, store)
    manifests = {ref: store.read(ref).manifest for ref in road.jobs if store.has(ref)}
    name = f"{as_file_name(road.pair.student)}-seed{config.seed}-{run_digest(road)}"
    date = max(manifest["created"] for manifest in manifests.values())[:10]
    stamps, lacking = stamps_of(road, store, name)
    of_study: dict[str, Any] = {"point": dict(road.point), "lacking": lacking if any(lacking.values()) else {}}
    found = figures(declared(road, stamps), {name: made})
    several = len(config.judge.names) > 1
    pruned = next((manifests[ref]["facts"] for ref, job in road.jobs.items() if isinstance(job, PruneJob)), None)
    results = Results(
        name=name,
        runs=(
            RunFacts(
                name=name,
                seed=config.seed,
                date=date,
                harness=harness.__version__,
                command=command,
                **{key: value for key, value in of_study.items() if value},
            ),
        ),
        pair=PairFacts(
            student=road.pair.student,
            teacher=road.pair.teacher,
            weights={role: model.weights for role, model in road.weights.items()},
        ),
        pruning=None if pruned is None else PruningFacts.model_validate(pruned),
        judge=declared(road).judge,
        judges=(*(_panels(road) if several else ()), *_judges(road)),
        judge_samples=config.judge.samples if any(judge.measures for judge, _ in road.judges) else 0,
        training=TrainingFacts(
            prompt_set=config.train_prompts,
            prompts=len(road.train.prompts) - len(left_out_of(road, road.train, store)),
            digest=road.train.digest,
            **_source(road, road.train, store),
            sampling=config.train_sampling,
            **lengths_in(store.read(road.teacher_responses).facts),
        ),
        evaluation=EvaluationFacts(sampling=config.eval_sampling),
        methods=tuple(
            described_entry(entry, ref, manifests[ref]["facts"])
            for entry in road.entries
            for ref in [road.trainings[entry.name]]
        ),
        measured=tuple(measures_of(road)),
        first_measure=declared_first(road.config),
        stamps=stamps,
        costs=costs_of(road, manifests),
        retention=retention_of(road, store),
        search=search_facts(road.search, left_out_of(road, road.search.validation, store), store)
        if road.search
        else None,
        **{
            **dict(found),
            "prompt_sets": tuple(SetFacts(**dict(e), **_set_facts(road, e.name, store)) for e in found.prompt_sets),
        },
        config=config.model_dump(mode="json"),
    )
    return results, made


def described_entry(entry: Entry, artifact: Ref, facts: Facts) -> MethodFacts:
    """What a board says of a row that is trained, and of its training."""
    other: dict[str, Any] = {"match": entry.match} if entry.match not in ("", entry.controls) else {}
    return MethodFacts(
        name=entry.name,
        method=entry.method,
        controls=entry.controls,
        token_matched=bool(entry.match),
        **other,
        why=entry.why,
        settings=RecordedSettings.model_validate(entry.shaping),
        minimises=methods.get(entry.method).minimises,
        artifact=artifact,
        facts=TrainedFacts.model_validate(facts),
    )


def _set_facts(road: Road, name: str, store: Store) -> dict[str, Any]:
    """What a board says of an evaluation set beside its figures: where it is from, and what training saw of it."""
    evaluation = next(evaluation for evaluation in road.evaluations if evaluation.name == name)
    found, unmeasured = evaluation.prompt_set, evaluation.shown.unmeasured
    return {
        "digest": found.digest,
        **_source(road, found, store),
        **({"unmeasured": unmeasured} if unmeasured else {}),
        "overlap": overlap(road.train.prompts, found.prompts),
    }


def _source(road: Road, found: PromptSet, store: Store) -> dict[str, Any]:
    left_out = left_out_of(road, found, store)
    known = {"source": found.source, "license": found.license, "duplicates": found.duplicates}
    return {**known, **({"left_out": left_out} if left_out else {})}


def judged(ref: Ref, store: Store) -> list[Verdict]:
    """A judging's verdicts. Those that failed keep it from being an artifact; they count on the board all the same."""
    folder = store.read(ref).path if store.has(ref) else store.workspace(ref)
    return read_records(folder / VERDICTS, Verdict)


def _judges(road: Road) -> list[JudgeFacts]:
    teacher = road.weights["teacher"]
    served = teacher.served.public_url if teacher.served else ""
    known = Known(lineage(road.pair.teacher, road.pair.specs), None if served else teacher.weights, served)
    return [
        described(judge, relation_of(judge, model.weights if model else None, known)) for judge, model in road.judges
    ]


def described(judge: Judge, relation: str = "") -> JudgeFacts:
    """What a board says of a judge; its digest is of everything that an answer depends on."""
    return JudgeFacts(
        name=judge.name,
        summary=judge.summary,
        misses=judge.misses,
        setup=judge.setup,
        digest=judge.digest,
        relation=relation,
    )


def _panels(road: Road) -> list[JudgeFacts]:
    members = [judge for judge, _ in road.judges if judge.name in road.config.judge.names]
    misses = panel_misses([judge.misses for judge in members])
    setup = {"judges": ", ".join(judge.name for judge in members)}
    digest = canonical_hash([judge.digest for judge in members])
    return [
        JudgeFacts(name=name, summary=text, misses=misses, setup=setup, digest=digest)
        for name, text in SUMMARIES.items()
    ]


def panel_misses(members: Sequence[str]) -> str:
    """What a panel misses, from what each of its judges does: it is a proxy only where all of them are."""
    return "; ".join(members) if all(members) else ""


def lengths_in(facts: Facts) -> dict[str, Any]:
    """The lengths of a stage's responses, by the stage."""
    return {"mean_tokens": facts["tokens"] / facts["responses"], "cut_share": facts["cut"] / facts["responses"]}


def as_json(data: Record | Sequence[Record]) -> str:
    """One record, or several, as files of a run have them."""
    found = plain(data) if isinstance(data, Record) else [plain(one) for one in data]
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def write_run(out: Path, road: Road, store: Store, results: Results, made: RunRows, board: str) -> None:
    """The run's output folder; each file is whole or as before. metrics/NAME.jsonl is each training's curve."""
    for old in (out / CURVES).glob("*.jsonl"):
        if old.stem not in road.trainings:
            old.unlink()
    for name, ref in road.trainings.items():
        curve = (store.read(ref).path / METRICS).read_text(encoding="utf-8")
        write_atomically(out / CURVES / f"{name}.jsonl", curve)
    write_atomically(out / CONFIG, to_yaml(road.config))
    prompts = [
        RunPrompt(prompt_set=evaluation.name, **dict(prompt))
        for evaluation in road.evaluations
        for prompt in evaluation.prompt_set.prompts
    ]
    write_jsonl(out / RUN_PROMPTS, prompts)
    write_jsonl(out / RUN_RESPONSES, made.responses)
    write_jsonl(out / VERDICTS, made.verdicts)
    write_jsonl(out / RUN_MEASURED, made.measured)
    write_atomically(out / RUN_TOKENS, as_compact_json(_token_views(road, store)))
    write_atomically(out / RESULTS, as_json(results))
    write_atomically(out / BOARD, board)


def _token_views(road: Road, store: Store) -> TokenViews:
    compared, prompts = [], {}
    for evaluation in road.evaluations:
        left_out = left_out_of(road, evaluation.prompt_set, store)
        prompts[evaluation.name] = [one.id for one in evaluation.prompt_set.prompts if one.id not in left_out]
        for candidate in evaluation.candidates:
            for reads, ref in candidate.tokens.items():
                writer = TEACHER if reads == "teacher_tokens" else candidate.name
                compared.append(Compared(evaluation.name, candidate.name, writer, store.read(ref).path))
    return token_views(compared, prompts, road.config.eval_sampling.max_new_tokens)


def read_tokens(folder: Path) -> TokenViews:
    """What a run's folder has to show token by token: nothing where an older version did not.

    Raises:
        UserError: it is damaged, or of another version.
    """
    if not (folder / RUN_TOKENS).is_file():
        return TokenViews()
    return read_part(folder, RUN_TOKENS, "token views", TokenViews, TOKENS_SCHEMA)


def read_made(folder: Path) -> RunRows:
    """The verdicts and responses in a run's folder, and what was measured of them: nothing where an older version did
    not measure.

    Raises:
        UserError: a file is not there, or a line of it is none of these.
    """
    for name in (VERDICTS, RUN_RESPONSES):
        if not (folder / name).is_file():
            raise UserError(f"{folder} holds no {name}; run it again (nothing is computed twice)")
    measured = folder / RUN_MEASURED
    return RunRows(
        read_records(folder / VERDICTS, Verdict),
        read_records(folder / RUN_RESPONSES, RunResponse),
        read_records(measured, RunMeasured) if measured.is_file() else (),
    )


def read_part(folder: Path, name: str, what: str, kind: type[P], schema: int) -> P:
    """A JSON file of a run's folder that holds `what`, in a schema's version.

    Raises:
        UserError: it is not there, not that, of another version, or damaged.
    """
    path, found = folder / name, read_versioned(folder, name, what, schema)
    if found["schema"] < schema:
        older = f"of an older version ({found['schema']}, this program reads {schema})"
        raise UserError(f"{path}: {what} {older}; run it again (nothing is computed twice)")
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise UserError(f"{path}: damaged, {first_fault(error)}; run it again (nothing is computed twice)") from error


def first_fault(error: ValidationError) -> str:
    """What is wrong with the data of a file, in words."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"it has no '{where}'"
    return f"it has an unknown '{where}'" if first["type"] == "extra_forbidden" else f"{where}: {first['msg']}"


def read_versioned(folder: Path, name: str, what: str, schema: int) -> dict[str, Any]:
    """A JSON file of a run's folder that holds `what`, of this schema's version or an older one.

    Raises:
        UserError: it is not there, not that, or of a newer version.
    """
    path = folder / name
    if not path.is_file():
        raise UserError(f"{folder} holds no {name}; give the output folder of a finished run")
    try:
        found: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    version = found.get("schema") if isinstance(found, dict) else None
    if type(version) is not int or version < 1:
        raise UserError(f"{path}: not {what} of a run, it says no version; run it again (nothing is computed twice)")
    if version > schema:
        newer = f"of a newer version ({version}, this program knows {schema})"
        raise UserError(f"{path}: {what} {newer}; update the harness")
    return found
