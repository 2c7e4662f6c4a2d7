"""Results with people's labels: each rate and declared contrast that enough labels were given for, corrected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean

import numpy as np
from pydantic import Field

from harness.core.errors import UserError
from harness.core.records import Record, Verdict
from harness.results.declared import Declared
from harness.results.figures import RunRows, by_seed, judged_outcomes
from harness.results.folder import declared_in, read_made
from harness.results.label_pairs import Pair, RunPairs, labels_of_runs, rows_and_sets
from harness.results.pooling import as_one, board_of, kinds_of
from harness.results.schema import Results
from harness.statistics.agreement import Agreement, JudgeAgreement, agreement
from harness.statistics.contrasts import Scope, luck_of
from harness.statistics.effects import Part
from harness.statistics.labelled import DIFFERENCE, Corrected, Units, corrected, estimate
from harness.statistics.outcomes import Outcome, Outcomes, from_runs, outcomes
from harness.statistics.rates import Interval, rates_of

PEOPLE = "people"
Key = tuple[str, str, str, int]  # seed, prompt set, prompt id, sample


class LabelledRate(Corrected):
    """A row's preference rate, of its checkpoints."""

    scope: str = Field(description="the prompt set, or the domain of several")
    method: str = Field(description="the row")
    agreement: Agreement = Field(description="of the judge and people, on win, tie and loss")


class LabelledContrast(Corrected, Scope):
    """first − second, in preference rate, on the outcomes that both have; of several seeds with the luck of those, as
    the judge's verdicts show it."""


class LabelFigures(Record):
    """What people's labels say of a board."""

    people: tuple[str, ...] = Field(description="who labelled: the names of their files")
    labels: int = Field(description="outcomes that were labelled, each by one of them or by several")
    runs: tuple[str, ...] = Field(description="the runs that these are of; figures by the judge beside them are too")
    rates: tuple[LabelledRate, ...] = Field(description="rows with labels, on single sets, then on domains of several")
    contrasts: tuple[LabelledContrast, ...] = Field(description="declared contrasts, both of whose rows have labels")
    agreement: JudgeAgreement = Field(description="of the judge and people over all that was labelled")
    between: tuple[JudgeAgreement, ...] = Field(description="of each two of the people who labelled the same")


class LabelledResults(Results):
    """Results, and what people's labels say of them."""

    labels: LabelFigures = Field(description="what people's labels say")


def labels_of(results: Results) -> LabelFigures | None:
    return results.labels if isinstance(results, LabelledResults) else None


# ---- from folders


def pairs_to_label(
    results: Results, made: RunRows, count: int, rows: Sequence[str] | None, sets: Sequence[str] | None
) -> tuple[list[Pair], list[str]]:
    """Pairs of a run, as many as asked for or as there are, and the rows that they are of: each prompt has one of every
    row, so there may be some more.

    Raises:
        UserError: names that the run does not have; nothing that was judged for all of the rows.
    """
    chosen, wanted = rows_and_sets(results, rows, sets)
    seeds = {results.name: results.runs[0].seed}
    found = judged_outcomes(declared_in(results), {results.name: made}, seeds).judged
    judged = {(key[1], key[2], key[3], name) for name in chosen for key in _values(found.where(candidate=name))}
    pairs = RunPairs.of(made.responses).drawn(chosen, wanted, -(-count // len(chosen)), judged)
    if not pairs:
        raise UserError(f"no prompt of {', '.join(wanted)} was judged for {' and '.join(chosen)}: nothing to label")
    return pairs, chosen


def labelled_boards(folders: Sequence[Path], files: Sequence[Path], rank_incomplete: bool = False) -> list[Results]:
    """As `pooling.boards`, with what the labels say of each board that they are of.

    Raises:
        UserError: as `pooling.boards` and `labels_of_runs`.
    """
    kinds = kinds_of(folders)
    if not files:
        return [board_of(kind, rank_incomplete) for kind in kinds]
    made = {folder: read_made(folder) for kind in kinds for folder in kind}
    people, said = labels_of_runs(
        files, {run.name: RunPairs.of(made[folder].responses) for kind in kinds for folder, run in kind.items()}
    )
    return [_labelled(board_of(kind, rank_incomplete), kind, made, people, said) for kind in kinds]


def labelled_run(folder: Path, results: Results, files: Sequence[Path]) -> Results:
    """A run's results, with what the labels say of it.

    Raises:
        UserError: as `labels_of_runs`.
    """
    made = read_made(folder)
    people, said = labels_of_runs(files, {results.name: RunPairs.of(made.responses)})
    return _labelled(results, {folder: results}, {folder: made}, people, said)


def _labelled(
    board: Results,
    kind: Mapping[Path, Results],
    made: Mapping[Path, RunRows],
    people: Sequence[str],
    said: Mapping[str, Sequence[Verdict]],
) -> Results:
    runs = list(kind.values())
    if not any(said[run.name] for run in runs):
        return board
    judged = as_one(runs, [RunRows(made[folder].verdicts, ()) for folder in kind])
    labelled = as_one(runs, [RunRows(said[run.name], ()) for run in runs])
    return with_labels(board, judged, labelled, people)


def with_labels(
    board: Results, judged: Mapping[str, RunRows], labelled: Mapping[str, RunRows], people: Sequence[str]
) -> LabelledResults:
    """judged, labelled: verdicts of the board's judges, and of people, by run, under the names that rows have on it."""
    declared = declared_in(board)
    seeds = {run.name: run.seed for run in board.runs}
    heard = {verdict.judge for rows in labelled.values() for verdict in rows.verdicts}
    people = [who for who in people if who in heard]
    by_judge = judged_outcomes(declared, judged, seeds).judged
    by_people = {
        who: _of_seeds({run: [v for v in rows.verdicts if v.judge == who] for run, rows in labelled.items()}, seeds)
        for who in people
    }
    found = _Board(board, declared, by_judge, by_people)
    return LabelledResults(
        **{name: getattr(board, name) for name in Results.model_fields},
        labels=LabelFigures(
            people=tuple(people),
            labels=sum(len(values) for values in found.labels.values()),
            runs=tuple(run.name for run in board.runs if labelled[run.name].verdicts),
            rates=tuple(found.rates()),
            contrasts=tuple(found.contrasts()),
            agreement=found.agreement(),
            between=tuple(found.between()),
        ),
    )


# ---- figures
def _of_seeds(runs: Mapping[str, Sequence[Verdict]], seeds: Mapping[str, int]) -> Outcomes:
    return by_seed(outcomes(from_runs(runs, one_of_a_name=True)), seeds)


def _values(found: Outcomes) -> dict[Key, float]:
    """The mean of what was said of each outcome: two runs of one seed may both have it."""
    names, several = found.names, dict[Key, list[float]]()
    columns = (found.run.tolist(), found.prompt_set.tolist(), found.prompt_ids, found.sample.tolist())
    for run, prompt_set, prompt_id, sample, value in zip(*columns, found.value.tolist(), strict=True):
        several.setdefault((names.run[run], names.prompt_set[prompt_set], prompt_id, sample), []).append(value)
    return {key: mean(values) for key, values in several.items()}


def _words(values: Mapping[Key, float]) -> dict[Key, Outcome]:
    return {key: "win" if value > 0 else "loss" if value < 0 else "tie" for key, value in values.items()}


class _Board:
    """The outcomes of a board by the judge and by people, row by row."""

    def __init__(
        self, board: Results, declared: Declared, by_judge: Outcomes, by_people: Mapping[str, Outcomes]
    ) -> None:
        self.board, self.declared, self.by_judge = board, declared, by_judge
        rows = list(dict.fromkeys(row.method for row in board.rows))
        codes = zip(by_judge.prompt_set.tolist(), by_judge.prompt_ids, by_judge.prompt.tolist(), strict=True)
        self.cluster = {(by_judge.names.prompt_set[of], name): code for of, name, code in codes}
        self.judged = {name: _values(by_judge.where(candidate=name)) for name in rows}
        self.said = {
            who: {name: _values(found.where(candidate=name)) for name in rows} for who, found in by_people.items()
        }
        self.labels: dict[str, dict[Key, float]] = {}
        for name in rows:
            every: dict[Key, list[float]] = {}
            for of_one in self.said.values():
                for key, value in of_one[name].items():
                    every.setdefault(key, []).append(value)
            if every:
                self.labels[name] = {key: mean(values) for key, values in every.items()}

    def scopes(self) -> list[tuple[str, list[str]]]:
        domains = [(name, sets) for name, sets in self.declared.domains.items() if len(sets) > 1]
        return [*((name, [name]) for name in self.declared.sets), *domains]

    def rates(self) -> Iterator[LabelledRate]:
        for scope, sets in self.scopes():
            for name, labels in self.labels.items():
                judged = {key: value for key, value in self.judged[name].items() if key[1] in sets}
                found = self.units(judged, labels)
                if found is None:
                    continue
                units, seeds = found
                shared = {key: labels[key] for key in judged.keys() & labels.keys()}
                yield LabelledRate(
                    scope=scope,
                    method=name,
                    agreement=agreement(
                        _words({key: judged[key] for key in shared}), _words(shared), cluster=lambda key: key[1:3]
                    ),
                    **dict(corrected(units, self.by_judge_alone(name, sets, seeds))),
                )

    def contrasts(self) -> Iterator[LabelledContrast]:
        known = dict(self.scopes())
        for made in self.board.contrasts:
            pair = made.first, made.second
            if made.scope not in known or any(name not in self.labels for name in pair):
                continue
            judged, labels = (_apart(*(of[name] for name in pair)) for of in (self.judged, self.labels))
            found = self.units({key: value for key, value in judged.items() if key[1] in known[made.scope]}, labels)
            if found is None:
                continue
            units, seeds = found
            parts = self.luck(pair, seeds)
            whole = Units(np.zeros(len(units.judged)), units.judged, units.prompts, np.zeros_like(units.strata))
            alone = estimate(whole, 0.0, DIFFERENCE).with_parts(parts)
            yield LabelledContrast(
                first=made.first,
                second=made.second,
                scope=made.scope,
                **dict(corrected(units, (alone.value, alone.interval(DIFFERENCE)), DIFFERENCE, parts)),
            )

    def units(self, judged: Mapping[Key, float], labels: Mapping[Key, float]) -> tuple[Units, dict[str, int]] | None:
        """The outcomes of the seeds that have labels, and how many each has: of seeds with labels of all sets, where
        any has; None without a label, or of one prompt alone."""
        strata = {key[:2] for key in judged}
        labelled = {key[:2] for key in judged.keys() & labels.keys()}
        some = {seed for seed, _ in labelled}
        seeds = {seed for seed in some if all(one in labelled for one in strata if one[0] == seed)} or some
        keys = [key for key in judged if key[0] in seeds]
        prompts = np.unique([self.cluster[key[1], key[2]] for key in keys], return_inverse=True)[1]
        if not labelled or prompts.max() == 0:
            return None
        places = {stratum: place for place, stratum in enumerate(sorted({key[:2] for key in keys}))}
        units = Units(
            judged=np.array([judged[key] for key in keys]),
            labelled=np.array([labels.get(key, np.nan) for key in keys]),
            prompts=prompts,
            strata=np.array([places[key[:2]] for key in keys], dtype=np.int64),
        )
        return units, Counter(key[0] for key in keys)

    def by_judge_alone(self, row: str, sets: Collection[str], seeds: Collection[str]) -> tuple[float, Interval | None]:
        """As the board has it, of these seeds."""
        names = self.by_judge.names
        of_seeds = np.isin(self.by_judge.run, [code for code, name in enumerate(names.run) if name in seeds])
        of_sets = np.isin(
            self.by_judge.prompt_set, [code for code, name in enumerate(names.prompt_set) if name in sets]
        )
        table = self.by_judge.select(of_seeds & of_sets)
        groups = {name: table.where(candidate=name) for name in self.judged}
        rows = dict(zip(groups, rates_of(list(groups.values())), strict=True))
        rate = rows[row].preference_rate
        assert rate is not None  # it has judged outcomes here
        return rate, rows[row].preference_interval

    def luck(self, pair: tuple[str, str], seeds: Mapping[str, int]) -> list[Part]:
        """What seeds add to the variance of a difference, by the judge's verdicts on all rows that were trained."""
        found = luck_of(self.by_judge, self.declared.untrained) if len(seeds) > 1 else None
        if found is None:
            return []
        weights = np.array(list(seeds.values())) / sum(seeds.values())
        first, second = (weights * (name not in self.declared.untrained) for name in pair)
        return found.parts(first, second)

    def agreement(self) -> JudgeAgreement:
        judge = {(name, key): word for name, of in self.judged.items() for key, word in _words(of).items()}
        people = {(name, key): word for name, of in self.labels.items() for key, word in _words(of).items()}
        judge = {key: judge[key] for key in judge.keys() & people.keys()}
        return _agreement(self.board.judge, judge, PEOPLE, {key: people[key] for key in judge})

    def between(self) -> Iterator[JudgeAgreement]:
        words = {
            who: {(name, key): word for name, of in rows.items() for key, word in _words(of).items()}
            for who, rows in self.said.items()
        }
        for first, second in combinations(words, 2):
            if words[first].keys() & words[second].keys():
                yield _agreement(first, words[first], second, words[second])


def _agreement(
    first: str, one: Mapping[tuple[str, Key], Outcome], second: str, other: Mapping[tuple[str, Key], Outcome]
) -> JudgeAgreement:
    found = agreement(one, other, cluster=lambda key: key[1][1:3])
    return JudgeAgreement(first=first, second=second, **dict(found))


def _apart(first: Mapping[Key, float], second: Mapping[Key, float]) -> dict[Key, float]:
    return {key: value - second[key] for key, value in first.items() if key in second}
