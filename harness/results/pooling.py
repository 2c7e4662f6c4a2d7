"""Several runs on one board: those of one kind (pair, judge, template, prompt sets, sampling) share tables.

A method that was trained alike in several runs is one row, whose prompts have an outcome from each run: prompts are
still what intervals are over, and the spread between runs stands apart. Trainings that differ are rows of their own. A
measure is shown where it is the same one in all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.files import canonical_hash
from harness.core.records import RunMeasured, Verdict, plain
from harness.results.costs import mean_costs
from harness.results.declared import Declared, Stamps
from harness.results.figures import RunRows, figures
from harness.results.folder import declared_in, read_made
from harness.results.naming import grid_points, row_names
from harness.results.reading import read_results
from harness.results.retention import mean_retention
from harness.results.schema import MeasureFacts, MethodFacts, Results, SetFacts
from harness.run.rows import TEACHER, Kind

Mark = tuple[str, int, str | None]  # a row by its name on the common board, its seed and its training


def boards(folders: Sequence[Path], rank_incomplete: bool = False) -> list[Results]:
    """The results of each kind of run among the folders, in their order.

    Raises:
        UserError: a folder that holds no run, or one run twice.
    """
    return [board_of(kind, rank_incomplete) for kind in kinds_of(folders)]


def kinds_of(folders: Sequence[Path]) -> list[dict[Path, Results]]:
    """The runs of each kind, by their folders. What of a run's families is in another of them is not left out.

    Raises:
        UserError: as `boards`.
    """
    read: dict[Path, Results] = {}
    seen: dict[str, Path] = {}
    for folder in folders:
        results = read_results(folder)
        if results.name in seen:
            raise UserError(f"{folder} is the same run as {seen[results.name]}: it would count twice")
        seen[results.name] = folder
        read[folder] = results
    kinds: dict[str, dict[Path, Results]] = {}
    for folder, results in zip(read, beside_each_other(list(read.values())), strict=True):
        kinds.setdefault(pool_of(results), {})[folder] = results
    return list(kinds.values())


def beside_each_other(runs: Sequence[Results]) -> list[Results]:
    """Runs whose stamps say how many contrasts of a family none of the runs has, where each says which itself has
    not: what was declared together, as the runs of a study are, is whole where all of it is shown."""
    here = {stamp.contrast for run in runs for stamp in run.stamps}
    return [_lacking_less(run, here) for run in runs]


def _lacking_less(run: Results, here: Collection[str]) -> Results:
    """A run's results, where these contrasts are there too."""
    (facts,) = run.runs
    lacking = {family: tuple(one for one in left if one not in here) for family, left in facts.lacking.items()}
    if lacking == facts.lacking:
        return run
    stamps = tuple(
        stamp.model_copy(update={"dropped": len(lacking[stamp.family])}) if stamp.family in lacking else stamp
        for stamp in run.stamps
    )
    return run.model_copy(update={"stamps": stamps, "runs": (facts.model_copy(update={"lacking": lacking}),)})


def board_of(kind: Mapping[Path, Results], rank_incomplete: bool = False) -> Results:
    """The results of runs of one kind, by their folders."""
    runs = list(kind.values())
    if len(runs) == 1 and not rank_incomplete and _as_declared(runs[0]):
        return runs[0]
    return pooled(runs, [read_made(folder) for folder in kind], rank_incomplete)


def _as_declared(run: Results) -> bool:
    """Whether a run's figures follow from its stamps: not where those of other runs beside it changed them."""
    declared = declared_in(run)
    return all(one.declared == declared.was_declared(one.first, one.second, one.scope) for one in run.contrasts)


def pool_of(results: Results) -> str:
    """A digest of what runs must have in common for their rows to stand in one ranking."""
    return canonical_hash(
        [
            plain(results.pair),
            results.judge,
            [[judge.name, judge.digest] for judge in results.judges],
            results.judge_samples,
            [[entry.name, entry.in_domain, entry.digest] for entry in results.prompt_sets],
            plain(results.evaluation),
        ]
    )


def pooled(runs: Sequence[Results], made: Sequence[RunRows], rank_incomplete: bool = False) -> Results:
    """The results of several runs of one kind as one."""
    names, left_out = row_names(runs), _left_out(runs)
    points = grid_points(runs, names)
    kinds: dict[str, Kind] = {}
    methods: dict[str, MethodFacts] = {}
    contrasts: dict[tuple[str, str], None] = {}
    versus: dict[tuple[str, str], None] = {}
    primaries: list[tuple[str, str] | None] = []
    margins: set[float | None] = set()
    for run, known in zip(runs, names, strict=True):
        declared = declared_in(run)
        kinds |= {known[name]: kind for name, kind in declared.candidates.items() if known[name] not in kinds}
        methods |= {known[one.name]: _method_as(one, known, points) for one in run.methods}
        contrasts |= dict.fromkeys((known[first], known[second]) for first, second in declared.contrasts)
        versus |= dict.fromkeys((known[first], known[second]) for first, second in declared.versus)
        primaries.append(declared.primary and (known[declared.primary[0]], known[declared.primary[1]]))
        margins.add(declared.margin)
    first = declared_in(runs[0])
    primary = _primary(primaries, [{common: own for own, common in known.items()} for known in names])
    searches = [run.search and run.search.outcome for run in runs]
    differ = {
        "primary": primary is None and any(primaries),
        "margin": len(margins) > 1,
        "training": any(_trained_on(run) != _trained_on(runs[0]) for run in runs),
        "search": any(one != searches[0] for one in searches),
    }
    measured, unpooled = _measures(runs)
    stamps = [
        Stamps(
            known.values(),
            [
                stamp.model_copy(update={"first": known[stamp.first], "second": known[stamp.second]})
                for stamp in run.stamps
            ],
        )
        for run, known in zip(runs, names, strict=True)
    ]
    together = Declared(
        sets=first.sets,
        candidates=_in_order(kinds),
        judges=first.judges,
        parts=first.parts,
        contrasts=list(contrasts),
        primary=primary,
        margin=None if differ["margin"] else first.margin,
        stamps=stamps,
        versus=list(versus),
        measures=measured,
        own_losses={name: one.minimises for name, one in methods.items()},
    )
    rows = as_one(runs, made)
    found = figures(together, rows, rank_incomplete, {run.name: run.runs[0].seed for run in runs})
    said = {entry.name: entry for entry in runs[0].prompt_sets}
    return runs[0].model_copy(
        update={
            "name": ", ".join(run.name for run in runs),
            "runs": tuple(one for run in runs for one in run.runs),
            "methods": tuple(methods.values()),
            "measured": tuple(measured),
            "first_measure": runs[0].first_measure if len({run.first_measure for run in runs}) == 1 else "",
            "stamps": tuple(stamp for one in stamps for stamp in one.stamps),
            "differing": tuple(what for what, so in differ.items() if so),
            "search": None if differ["search"] else runs[0].search,
            "costs": mean_costs(runs, names),
            "retention": mean_retention(runs, names),
            **dict(found),
            "prompt_sets": tuple(
                said[entry.name].model_copy(
                    update={
                        **dict(entry),
                        **_said_of(left_out[entry.name]),
                        **_unmeasured([_set_of(run, entry.name) for run in runs], unpooled),
                    }
                )
                for entry in found.prompt_sets
            ),
        }
    )


def _trained_on(run: Results) -> list[Any]:
    return [run.training.digest, run.training.left_out, plain(run.training.sampling)]


def _primary(named: Sequence[tuple[str, str] | None], rows: Sequence[Mapping[str, str]]) -> tuple[str, str] | None:
    """The one that all runs name that have rows of its names, whatever these are trained with: of a row that is another
    at each point of a grid no contrast is that of the study. named: by each run, as its rows are called on the common
    board. rows: of each run, as it calls them itself, by their common names."""
    found = {pair for pair in named if pair}
    if len(found) != 1:
        return None
    (pair,) = found
    of_runs = list(zip(named, rows, strict=True))
    own = next({known[name] for name in pair} for one, known in of_runs if one == pair)
    return pair if all(one == pair for one, known in of_runs if own <= set(known.values())) else None


def as_one(runs: Sequence[Results], made: Sequence[RunRows]) -> dict[str, RunRows]:
    """What runs of one kind made, under the names that their rows have on the common board; what two of them share is
    the first one's."""
    left_out = _left_out(runs)
    return _renamed(runs, row_names(runs), [rows.without(left_out) for rows in made])


def _left_out(runs: Sequence[Results]) -> dict[str, dict[str, str]]:
    """The prompts of each set that some run had no answer to, by id with the reason: they count for none."""
    found: dict[str, dict[str, str]] = {}
    for run in runs:
        for entry in run.prompt_sets:
            found[entry.name] = {**entry.left_out, **found.get(entry.name, {})}
    return found


def _said_of(left_out: dict[str, str]) -> dict[str, Any]:
    return {"left_out": left_out} if left_out else {}


def _measures(runs: Sequence[Results]) -> tuple[list[MeasureFacts], list[str]]:
    """The measures that are the same in all runs; and the names of those that are not, which nothing is pooled of."""
    known = [{one.name: one for one in run.measured} for run in runs]
    every = list(dict.fromkeys(name for found in known for name in found))
    same = []
    for name in every:
        read = [_read(found[name], run) for found, run in zip(known, runs, strict=True) if name in found]
        if len(read) == len(runs) and all(one == read[0] for one in read):
            same.append(name)
    return [known[0][name] for name in same], [name for name in every if name not in same]


def _read(measure: MeasureFacts, run: Results) -> list[Any]:
    """What a measure's values follow from, beside the responses: what all samples say of a prompt depends on how many
    they are, and what models say of one on how it is read."""
    config = run.configured
    of_all_samples = measure.reads == "responses"
    how = [config.samples] if of_all_samples else [config.max_prompt_tokens, config.scoring_precision]
    return [measure.digest, measure.bound, measure.teacher_bound, *how]


def _set_of(run: Results, name: str) -> SetFacts:
    return next(entry for entry in run.prompt_sets if entry.name == name)


def _unmeasured(of_runs: Sequence[SetFacts], unpooled: Sequence[str]) -> dict[str, Any]:
    """Why a set lacks measures, by any of the runs; and those that it lacks by their being together."""
    reasons = dict.fromkeys(entry.unmeasured for entry in of_runs if entry.unmeasured)
    return {
        **({"unmeasured": "; ".join(reasons)} if reasons else {}),
        **({"unpooled": tuple(unpooled)} if unpooled else {}),
    }


def _in_order(kinds: Mapping[str, Kind]) -> dict[str, Kind]:
    place = {"ceiling": 0, "untrained": 1, "method": 2, "control": 3}
    return dict(sorted(kinds.items(), key=lambda item: place[item[1]]))


def _renamed(
    runs: Sequence[Results], names: Sequence[Mapping[str, str]], made: Sequence[RunRows]
) -> dict[str, RunRows]:
    """Each run's rows under their common names; what two runs share (one seed, one training) is in the first of them
    alone, and counts once."""
    seen: set[Mark] = set()
    pairs: set[tuple[Mark, Mark]] = set()  # that were judged against each other: two known rows may be new as a pair
    found = {}
    for run, known, rows in zip(runs, names, made, strict=True):
        artifacts = {one.name: one.artifact for one in run.methods}
        seed = run.runs[0].seed
        marks = {name: (known[name], seed, artifacts.get(name)) for name in known} | {TEACHER: (TEACHER, seed, None)}
        new = {name for name, mark in marks.items() if mark not in seen}
        seen |= set(marks.values())
        direct = {(row.candidate, row.reference) for row in rows.verdicts if row.reference != TEACHER}
        of_pairs = {pair: (marks[pair[0]], marks[pair[1]]) for pair in direct}
        fresh = {pair for pair, of in of_pairs.items() if of not in pairs}
        pairs |= set(of_pairs.values())
        verdicts = [
            _as(row, known)
            for row in rows.verdicts
            if (row.candidate in new if row.reference == TEACHER else (row.candidate, row.reference) in fresh)
        ]
        responses = [
            row.model_copy(update={"system": known.get(row.system, row.system)})
            for row in rows.responses
            if row.system in new or row.system == TEACHER
        ]
        measured = [_measured_as(row, known.get(row.system, row.system)) for row in rows.measured if row.system in new]
        found[run.name] = RunRows(verdicts, responses, measured)
    return found


def _method_as(one: MethodFacts, known: Mapping[str, str], points: Mapping[str, dict[str, Any]]) -> MethodFacts:
    """Under its common name, with those of the rows that it names. points: by common names."""
    name = known[one.name]
    said: dict[str, Any] = {key: known.get(row, row) for key, row in (("controls", one.controls), ("match", one.match))}
    said |= {"name": name, "own_name": one.name if name != one.name else "", "point": points[name]}
    return one.model_copy(update={key: value for key, value in said.items() if value != getattr(one, key)})


def _measured_as(row: RunMeasured, name: str) -> RunMeasured:
    return row if row.system == name else row.model_copy(update={"system": name})


def _as(verdict: Verdict, names: Mapping[str, str]) -> Verdict:
    told = {"candidate": names[verdict.candidate], "reference": names.get(verdict.reference, verdict.reference)}
    same = (verdict.candidate, verdict.reference) == tuple(told.values())
    return verdict if same else verdict.model_copy(update=told)
