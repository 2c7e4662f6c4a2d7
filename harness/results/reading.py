"""The results of a run's folder: as written where this version wrote them, computed again where an older one did.

Every figure follows from the verdicts, the responses and what was measured; what stands beside the figures is in the
manifest and in the configuration. Only a little is nowhere else than in the older file, and is taken from there: what a
judge misses in words and how it is related to the teacher, which measures are shown and which was declared first, what
rows took, what models still can, whether a prompt set is in-domain, where prompts are from and their overlap with the
training set. When contrasts were declared is not: an older version stamped nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config import Config
from harness.core.errors import UserError
from harness.core.records import Facts, RunMeasured, read_records
from harness.core.section import parse_yaml
from harness.judging.proxies import JUDGES
from harness.results.declared import Declared
from harness.results.figures import RunRows, figures
from harness.results.folder import (
    CONFIG,
    RESULTS,
    RUN_MEASURED,
    declared_in,
    described_entry,
    first_fault,
    lengths_in,
    panel_misses,
    read_made,
    read_part,
    read_versioned,
)
from harness.results.manifest import Manifest, Stage, read_manifest
from harness.results.measured import harms, sums_by_set
from harness.results.schema import (
    RESULTS_SCHEMA,
    Configured,
    CostFacts,
    EvaluationFacts,
    Harm,
    JudgeFacts,
    MeasureFacts,
    MethodFacts,
    PairFacts,
    PruningFacts,
    Results,
    RetentionFacts,
    RunFacts,
    SetFacts,
    TrainingFacts,
)
from harness.run.rows import ANCHORS, TEACHER, Kind, entries_of
from harness.statistics.panel import SUMMARIES

Older = Mapping[str, Any]  # a results file of whatever version
# stages by the labels that they have in the manifests of older versions
_TEACHER, _SAMPLES, _TRAINING = "responses: teacher, training prompts", "responses: teacher for judging,", "train "


def read_results(folder: Path) -> Results:
    """The results of a run's folder. Those of an older version are computed again, which is said on stderr.

    Raises:
        UserError: there are none, or of a newer version; or they are damaged.
    """
    if not is_older(folder):
        return _with_harms(folder, read_part(folder, RESULTS, "results", Results, RESULTS_SCHEMA))
    old, path = read_versioned(folder, RESULTS, "results", RESULTS_SCHEMA), folder / RESULTS
    version = f"{path} is of an older version ({old['schema']}, this program writes {RESULTS_SCHEMA})"
    made, manifest = read_made(folder), read_manifest(folder)
    try:
        kept = _kept(folder, old, made, manifest)
    except (UserError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise _not_again(version, error) from error
    try:
        found = _computed(kept, {manifest.name: made})
    except ValidationError as error:  # what was kept is not what it should be; any other error is our own
        raise _not_again(version, error) from error
    print(f"note: {version}; computed again from its verdicts and responses", file=sys.stderr)
    return found


def _with_harms(folder: Path, found: Results) -> Results:
    """The same with the rows that are further from their teacher, where the file is from before that was said: it
    follows from what was measured."""
    if "harms" in found.model_fields_set:
        return found
    told: list[Harm] = []
    if found.measures and (folder / RUN_MEASURED).is_file():
        declared, rows = declared_in(found), read_records(folder / RUN_MEASURED, RunMeasured)
        by_set = sums_by_set(declared.measures, [TEACHER, *declared.candidates], declared.sets, [rows])
        told = harms(declared, by_set, {})
    return found.model_copy(update={"harms": tuple(told)})


def _not_again(version: str, error: Exception) -> UserError:
    what = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
    if isinstance(error, ValidationError):
        what = first_fault(error).removeprefix("it has ")
    return UserError(f"{version} and cannot be computed again ({what}); run it again")


def is_older(folder: Path) -> bool:
    """Whether an older version wrote the results.

    Raises:
        UserError: as `read_results`.
    """
    return bool(read_versioned(folder, RESULTS, "results", RESULTS_SCHEMA)["schema"] < RESULTS_SCHEMA)


@dataclass(frozen=True)
class _Kept:
    """What the figures do not say. sets: of each prompt set. parts: fields of Results."""

    declared: Declared
    sets: Mapping[str, Facts]
    parts: Mapping[str, Any]


def _computed(kept: _Kept, runs: Mapping[str, RunRows]) -> Results:
    """This version's results.

    Raises:
        ValidationError: what was kept is not what it should be.
    """
    found = figures(kept.declared, runs)
    sets = tuple(SetFacts(**dict(entry), **kept.sets[entry.name]) for entry in found.prompt_sets)
    return Results(**{**dict(found), **kept.parts, "prompt_sets": sets})


def _kept(folder: Path, old: Older, made: RunRows, manifest: Manifest) -> _Kept:
    """What has no other source than `old` is taken from there, and left out where it lacks it.

    Raises:
        UserError, ValidationError, LookupError, TypeError, AttributeError, ValueError: what is needed is nowhere, or is
            not what it should be.
    """
    plain_config = _config(folder, old)
    config = Configured.model_validate(plain_config)
    judges = _judges(old, manifest, config.judge.names)
    stages = [stage for stage in manifest.stages if stage.made]
    labelled = {stage.label: stage for stage in stages}
    methods = _methods(old, plain_config, labelled)
    measured = [MeasureFacts.model_validate(row) for row in _rows(old, "measured")]
    declared = Declared(
        sets=_sets(old, made),
        candidates=_candidates(config, made),
        judges=config.judge.names,
        parts=[judge.name for judge in judges if judge.name not in SUMMARIES],
        contrasts=config.contrasts or (),
        primary=config.primary,
        margin=config.margin and config.margin / 100,
        versus=config.versus,
        measures=measured,
        own_losses={one.name: one.minimises for one in methods},
    )
    run = _named(_rows(old, "runs"), manifest.name)
    pruned = next((stage.facts for stage in stages if stage.ref.startswith("prune/")), None)
    sets = {
        name: {"digest": manifest.prompts[name], **_beside(_named(_rows(old, "prompt_sets"), name))}
        for name in declared.sets
    }
    parts = {
        "name": manifest.name,
        "runs": (
            RunFacts(
                name=manifest.name,
                seed=config.seed,
                date=max(stage.created for stage in stages)[:10],
                harness=run.get("harness") or _harness(manifest, stages[-1]),
                command=manifest.command,
            ),
        ),
        "pair": PairFacts.model_validate(
            {
                "student": config.student,
                "teacher": config.teacher,
                "weights": {role: weights for role, weights in manifest.weights.items() if role != "others"},
            }
        ),
        "pruning": None if pruned is None else PruningFacts.model_validate(pruned),
        "judge": declared.judge,
        "judges": tuple(judges),
        "judge_samples": config.judge.samples if any(label.startswith(_SAMPLES) for label in labelled) else 0,
        "training": _training(old, config, manifest, labelled[_TEACHER].facts),
        "evaluation": EvaluationFacts.model_validate({"sampling": config.eval_sampling}),
        "methods": tuple(methods),
        "measured": tuple(measured),
        "first_measure": old.get("first_measure") or "",
        "costs": tuple(CostFacts.model_validate(row) for row in _rows(old, "costs")),
        "retention": tuple(RetentionFacts.model_validate(row) for row in _rows(old, "retention")),
        "config": plain_config,
    }
    return _Kept(declared, sets, parts)


def _harness(manifest: Manifest, stage: Stage) -> Any:
    return (manifest.environments[stage.environment] or {}).get("harness")


def _config(folder: Path, old: Older) -> dict[str, Any]:
    if isinstance(old.get("config"), dict):
        return dict(old["config"])
    return parse_yaml((folder / CONFIG).read_text(encoding="utf-8"), str(folder / CONFIG))


def _sets(old: Older, made: RunRows) -> dict[str, bool]:
    """The prompt sets in their order, and whether each is in-domain, which the older file's sets or rows say."""
    told: dict[str, bool] = {}
    for row in [*_rows(old, "rows"), *_rows(old, "prompt_sets")]:
        name = row.get("prompt_set") or row.get("name")
        if name and "in_domain" in row:
            told[name] = row["in_domain"]
    return {name: told[name] for name in dict.fromkeys(response.prompt_set for response in made.responses)}


def _candidates(config: Configured, made: RunRows) -> dict[str, Kind]:
    """Verdicts are written candidate by candidate, in the board's order."""
    kinds: dict[str, Kind] = {**ANCHORS}
    kinds |= dict.fromkeys(config.methods, "method")
    names = dict.fromkeys(verdict.candidate for verdict in made.verdicts)
    return {name: kinds.get(name, "control") for name in names}


def _judges(old: Older, manifest: Manifest, members: Iterable[str]) -> list[JudgeFacts]:
    """The judges as the manifest has them; what each does and misses is in the older file, or known of a proxy."""
    proxies = {judge.name: {"summary": judge.summary, "misses": judge.misses} for judge in JUDGES}
    words = {name: {"summary": "", "misses": "", **proxies.get(name, {})} for name in manifest.judges}
    for name in words:
        was = _named(_rows(old, "judges"), name)
        words[name] |= {key: was[key] for key in ("summary", "misses", "relation") if key in was}
    misses = panel_misses([words[name]["misses"] for name in members if name in words])
    words |= {name: {"summary": text, "misses": misses} for name, text in SUMMARIES.items() if name in words}
    return [
        JudgeFacts(
            name=name,
            **words[name],
            setup={key: value for key, value in entry.items() if key != "digest"},
            digest=entry["digest"],
        )
        for name, entry in manifest.judges.items()
    ]


def _training(old: Older, config: Configured, manifest: Manifest, facts: Facts) -> TrainingFacts:
    """facts: of the teacher's responses to the training prompts."""
    return TrainingFacts.model_validate(
        {
            "prompt_set": config.train_prompts,
            "prompts": facts["responses"],
            "digest": manifest.prompts[config.train_prompts],
            **_beside(old.get("training")),
            "sampling": config.train_sampling,
            **lengths_in(facts),
        }
    )


def _methods(old: Older, config: dict[str, Any], labelled: Mapping[str, Stage]) -> list[MethodFacts]:
    """The rows that were trained, each with its training's artifact and facts: as the older file has them where it says
    all that is needed (the defaults of then were in force), else as the configuration asks for them. Before there were
    measures, none was said to be minimised."""
    said = {name: field for name, field in MethodFacts.model_fields.items() if name not in ("artifact", "facts")}
    needed = {name for name, field in said.items() if field.is_required()}
    rows = [{key: row[key] for key in said if key in row} for row in _rows(old, "methods")]
    if not rows or any(needed - row.keys() for row in rows):
        entries = entries_of(Config.model_validate(config))
        return [described_entry(entry, s.ref, s.facts) for entry in entries for s in [labelled[_TRAINING + entry.name]]]
    trained = [labelled[_TRAINING + row["name"]] for row in rows]
    return [
        MethodFacts.model_validate({**row, "artifact": stage.ref, "facts": stage.facts})
        for row, stage in zip(rows, trained, strict=True)
    ]


def _beside(entry: Any) -> dict[str, Any]:
    """Where prompts are from, and what training saw of them, as far as it is known."""
    keys = ("source", "license", "duplicates", "left_out", "unmeasured", "overlap")
    return {key: entry[key] for key in keys if key in entry} if isinstance(entry, Mapping) else {}


def _rows(old: Older, key: str) -> list[Mapping[str, Any]]:
    rows = old.get(key)
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _named(rows: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next((row for row in rows if row.get("name") == name), {})
