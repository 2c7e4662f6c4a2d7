"""By how much prompts differ in what two rows differ in: of what this store's runs have judged and measured, this one
where it is there, else earlier ones. A few of them are read, once; what comes of them is kept in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from statistics import fmean
from typing import Any

from harness.core.records import Measured, Ref, Verdict, read_records
from harness.judging import Judge
from harness.measures.measure import is_share
from harness.run.evaluating import Evaluation
from harness.run.jobs import MEASURED, VERDICTS, RespondJob
from harness.run.road import Road
from harness.run.rows import ANCHORS, TEACHER
from harness.statistics.contrasts import cells_of, contrast, family_of, row_components
from harness.statistics.effects import Compared
from harness.statistics.outcomes import from_records, outcomes
from harness.statistics.power import Spread
from harness.statistics.ratios import Sums, ratio_contrasts
from harness.store import Store
from harness.store.artifacts import read_manifest

# SD of a prompt's difference between two trained rows in value (1 win, 0 tie, −1 loss), where none was judged here:
# by a judge that reads, near parity (.30 wins, .40 ties, .30 losses, a correlation of .325; the table of
# docs/statistics.md supposes .28, which gives .93); by a proxy, which ties more
OF_A_JUDGE, OF_A_PROXY = 0.9, 0.55
ROWS_READ = 4  # of an earlier run: six differences of two
VERSION = 1  # of what is kept: raised where another figure comes of the same rows
HERE, EARLIER, ASSUMED = "this run", "earlier", "assumed"
Pairs = Sequence[tuple[str, str]]
Made = Sequence[tuple[Ref, Mapping[str, Any]]]  # artifacts of one stage with their manifests, newest first


@dataclass(frozen=True)
class Known:
    """What is known of it, and whose it is."""

    spread: Spread
    whose: str


class Spreads:
    """Of a road, from its store."""

    def __init__(self, road: Road, store: Store) -> None:
        self.road, self.store = road, store
        self.pairs: Pairs = [pair for pair in road.config.contrasts or () if family_of(*pair, ANCHORS) == "methods"]
        self._made: dict[str, Made] = {}

    def judged(self, evaluation: Evaluation, judge: Judge) -> Known:
        """Of values by a judge on a set: this run's contrasts, else earlier ones of the same judge, on the same prompts
        before any others."""
        here = {one.name: one.verdicts[judge.name] for one in evaluation.candidates}
        if found := self._of_verdicts(here, self.pairs):
            return Known(found, HERE)
        if found := self._of_verdicts(self._earlier_judgings(evaluation, judge)):
            return Known(found, EARLIER)
        return Known(Spread((OF_A_PROXY if judge.misses else OF_A_JUDGE) ** 2), ASSUMED)

    def measured(self, evaluation: Evaluation) -> dict[str, Spread]:
        """Of each measure's ratio on a set, where something like it has been measured."""
        measures = {one.name: one.digest for one in evaluation.shown.measures}
        units = {one.name: one.unit for one in evaluation.shown.measures}
        here = {one.name: one.measured for one in evaluation.candidates if one.measured}
        found = self._of_values(here, units, self.pairs)
        if lacking := [name for name in measures if name not in found]:
            earlier = self._earlier_measures(evaluation, {name: measures[name] for name in lacking})
            found = {**self._of_values(earlier, {name: units[name] for name in lacking}), **found}
        return found

    # ---- what earlier runs have

    def made(self, stage: str) -> Made:
        """The artifacts of a stage, newest first."""
        if stage not in self._made:
            refs = [ref for ref in self.store.refs() if ref.startswith(f"{stage}/")]
            found = [(ref, manifest) for ref in refs if (manifest := read_manifest(self.store.path(ref)))]
            self._made[stage] = sorted(found, key=lambda one: str(one[1]["created"]), reverse=True)
        return self._made[stage]

    def _earlier_judgings(self, evaluation: Evaluation, judge: Judge) -> dict[str, Ref]:
        prompts = self._prompts(evaluation)
        groups: dict[tuple[Ref, Ref], dict[str, Ref]] = {}
        for ref, manifest in self.made("judge"):
            job = manifest["job"]
            # manifests of older versions may say less
            beside_teacher = job.get("reference_name") == TEACHER and job.get("candidate_name") not in ANCHORS
            if job.get("judge_source") == judge.digest and beside_teacher:
                group = groups.setdefault((job["prompts"], job["reference"]), {})
                group.setdefault(job["candidate_name"], ref)
        return self._nearest([(asked == prompts, rows) for (asked, _), rows in groups.items()])

    def _earlier_measures(self, evaluation: Evaluation, measures: Mapping[str, str]) -> dict[str, Ref]:
        """Of rows that were trained from this student, with any of the measures."""
        student, prompts = self.road.weights["student"].weights, self._prompts(evaluation)
        groups: dict[tuple[Ref, int | None], dict[str, Ref]] = {}
        for ref, manifest in self.made("measure"):
            job = manifest["job"]
            same = any(job["measures"].get(name) == digest for name, digest in measures.items())
            drawn = self._job(job["responses"]) if same else {}
            if self._trained_from(drawn.get("model", {})) == student:
                group = groups.setdefault((job["prompts"], drawn.get("seed")), {})
                group.setdefault(str(job.get("label")).removeprefix("measure ").rpartition(", ")[0], ref)
        return self._nearest([(asked == prompts, rows) for (asked, _), rows in groups.items()])

    def _job(self, ref: Ref) -> Mapping[str, Any]:
        """What made an artifact; nothing where it is gone."""
        manifest = read_manifest(self.store.path(ref)) if self.store.has(ref) else None
        return manifest["job"] if manifest else {}

    def _trained_from(self, model: Mapping[str, Any]) -> str | None:
        """The artifact or digest of what a trained model was before training; None of any other."""
        training = _training(model)
        while training:
            model = self._job(training).get("start", {})
            if not _training(model):
                return model.get("artifact") or model.get("digest")
            training = _training(model)
        return None

    def _prompts(self, evaluation: Evaluation) -> Ref:
        job = self.road.jobs[evaluation.reference]
        assert isinstance(job, RespondJob)
        return job.prompts

    def _nearest(self, groups: Sequence[tuple[bool, dict[str, Ref]]]) -> dict[str, Ref]:
        """Of groups of at least two rows, (whether they are of the same prompts, rows), the first of those on the same
        prompts with the most of this run's contrasts."""

        def near(group: tuple[bool, dict[str, Ref]]) -> tuple[bool, int]:
            return group[0], sum(set(pair) <= set(group[1]) for pair in self.pairs)

        return max((group for group in groups if len(group[1]) > 1), key=near, default=(False, {}))[1]

    # ---- what follows

    def _of_verdicts(self, rows: Mapping[str, Ref], pairs: Pairs | None = None) -> Spread | None:
        there, pairs = self._there(rows, pairs)
        key = [VERSION, there, pairs]
        found = self.store.recall("spreads", key, lambda: _of_verdicts(self.store, there, pairs)) if pairs else None
        return Spread(*found) if found else None

    def _of_values(
        self, rows: Mapping[str, Ref], units: Mapping[str, str], pairs: Pairs | None = None
    ) -> dict[str, Spread]:
        there, pairs = self._there(rows, pairs)
        key = [VERSION, there, pairs, dict(units)]
        found = self.store.recall("spreads", key, lambda: _of_values(self.store, there, units, pairs)) if pairs else {}
        return {name: Spread(variance) for name, variance in found.items()}

    def _there(self, rows: Mapping[str, Ref], pairs: Pairs | None) -> tuple[dict[str, Ref], Pairs]:
        """The rows that are made, and which two of them are compared. Of an earlier run (no pairs): those that this one
        declares, else some of its rows, each with each."""
        if pairs is None:
            pairs = [pair for pair in self.pairs if set(pair) <= set(rows)]
            pairs = pairs or list(combinations(islice(rows, ROWS_READ), 2))
        named = {name for pair in pairs for name in pair}
        there = {name: ref for name, ref in rows.items() if name in named and self.store.intact(ref)}
        return there, [pair for pair in pairs if set(pair) <= set(there)]


def _training(model: Mapping[str, Any]) -> Ref | None:
    artifact = str(model.get("artifact"))
    return artifact if artifact.startswith("train/") else None


def _of_verdicts(store: Store, rows: Mapping[str, Ref], pairs: Pairs) -> list[float | None] | None:
    """[variance, within] of the pairs on average, at one response of each row."""
    named = {name for pair in pairs for name in pair}
    verdicts = [
        row.model_copy(update={"candidate": name})
        for name in sorted(named)
        for row in read_records(store.path(rows[name]) / VERDICTS, Verdict)
    ]
    found = outcomes(from_records(verdicts))
    variances, withins = [], []
    for pair in pairs:
        variance = _variance(contrast(found, pair, ""))
        if variance is None:
            continue
        of_rows = [
            (row_components(found, name).within, cells) for name, cells in zip(pair, cells_of(found, pair), strict=True)
        ]
        known = [(sd**2, float(cells.count[cells.known].mean())) for sd, cells in of_rows if sd is not None]
        within = sum(part for part, _ in known) if len(known) == len(pair) else None
        # what several responses have taken off is put back
        variances.append(variance + sum(part * (1 - 1 / samples) for part, samples in known))
        withins.append(within)
    if not variances:
        return None
    return [fmean(variances), None if None in withins else fmean(one for one in withins if one is not None)]


def _of_values(store: Store, rows: Mapping[str, Ref], units: Mapping[str, str], pairs: Pairs) -> dict[str, float]:
    """Each measure's variance of the pairs on average."""
    cells = {
        (row.prompt_id, name): row.values
        for name, ref in rows.items()
        for row in read_records(store.path(ref) / MEASURED, Measured)
    }
    sums = Sums.of(list(units), list(rows), [cells])
    shares = [name for name, unit in units.items() if is_share(unit)]
    found: dict[str, list[float]] = {}
    for made in ratio_contrasts({"": sums}, pairs, shares):
        if (variance := _variance(made)) is not None:
            found.setdefault(made.measure, []).append(variance)
    return {name: fmean(variances) for name, variances in found.items()}


def _variance(found: Compared) -> float | None:
    """Of a prompt's difference, from that of their mean; None where two rows differ on no prompt, as one model does."""
    return None if found.error is None or not found.differing else found.error**2 * found.n
