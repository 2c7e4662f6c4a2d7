"""What contrasts found, in words: of whom, by which test, and what they could have told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self

from harness.reports.cells import (
    OWN_LOSS,
    WIDEST,
    between,
    by_the_bound,
    in_points,
    in_unit,
    p_cell,
    points_cell,
    seeds_words,
)
from harness.reports.measured import own_losses
from harness.results.schema import (
    ContrastFigures,
    Disagreement,
    LuckFigures,
    MeasureContrast,
    MeasureFacts,
    Results,
    VersusFigures,
)
from harness.run.rows import is_anchor
from harness.statistics.contrasts import Equivalence
from harness.statistics.summary import SetContrast

CHOSEN = "chosen afterwards"
DECLARED = "declared before the run"
FAMILIES = (
    "p is corrected (Holm) within each family: methods against each other, and methods against the start or the "
    "ceiling; of each single sets by themselves, and domains of several"
)
POWER = "*80% power from*: the true difference that four runs of five like this one would find, at Holm's first step"
VERSUS = (
    "The judge's verdicts on the two rows' own responses, wins being the first's. The interval of the rate holds the "
    "checkpoints fixed, and is corrected for no other. Beside it what the same pair differs by in rates against the "
    "teacher. These are two quantities, and need not agree: a rate of direct wins lies within ±100 points, a "
    "difference of rates within ±200."
)
CHECKPOINTS = "‡"  # a difference of checkpoints, on a board where others are of methods
ROUGH = 5  # degrees of freedom below which a standard deviation may be off several-fold


@dataclass(frozen=True)
class Whom:
    """Of whom contrasts speak. untrained: rows that no training made. own, shared: whether it is known what a seed
    moves in a row for itself, and in all of them alike."""

    untrained: frozenset[str] = frozenset()
    own: bool = True
    shared: bool = True

    @classmethod
    def of(cls, results: Results, measure: str = "") -> Self:
        """measure: empty for the judge's rates."""
        found = luck_of(results, measure)
        untrained = frozenset(row.method for row in results.rows if is_anchor(row.kind))
        return cls(untrained, bool(found and found.own_degrees), found is not None)

    @classmethod
    def of_one(cls, made: SetContrast) -> Self:
        """Of a contrast that says it itself."""
        rows = zip((made.first, made.second), made.trained, strict=True)
        return cls(frozenset(name for name, trained in rows if not trained), made.methods, made.methods)

    def methods(self, made: ContrastFigures | MeasureContrast | SetContrast) -> bool:
        """Whether a contrast speaks of methods: what another seed moves is in its test."""
        with_untrained = made.first in self.untrained or made.second in self.untrained
        return made.seeds > 1 and (self.shared if with_untrained else self.own)

    def checkpoints(self, made: ContrastFigures | MeasureContrast | SetContrast) -> bool:
        """Whether it speaks of checkpoints; two rows that no training made are none."""
        return not self.methods(made) and not {made.first, made.second} <= self.untrained

    def row(self, name: str, seeds: int) -> str:
        """One that was trained is its checkpoints."""
        return name if name in self.untrained else f"{_these(seeds)} of {name}"


def mark_of(results: Results, measure: str = "") -> Callable[[ContrastFigures | MeasureContrast], str]:
    """What stands behind a difference of checkpoints, where other contrasts of the board speak of methods.

    measure: empty for the judge's rates.
    """
    if not _of_methods(results) or not _of_checkpoints(results):
        return lambda made: ""
    whom = Whom.of(results, measure)
    return lambda made: f" {CHECKPOINTS}" if made.difference is not None and whom.checkpoints(made) else ""


def _found_in(results: Results) -> list[tuple[Whom, ContrastFigures | MeasureContrast]]:
    """Every contrast that found a difference, by the judge and by measures, and of whom it speaks."""
    measures = dict.fromkeys(one.measure for one in results.measure_contrasts)
    whom = {measure: Whom.of(results, measure) for measure in ("", *measures)}
    found: list[tuple[Whom, ContrastFigures | MeasureContrast]] = [(whom[""], one) for one in results.contrasts]
    found += [(whom[one.measure], one) for one in results.measure_contrasts]
    return [(of, one) for of, one in found if one.difference is not None]


def _of_methods(results: Results) -> list[int]:
    """The seeds of each contrast that speaks of methods."""
    return [one.seeds for whom, one in _found_in(results) if whom.methods(one)]


def _of_checkpoints(results: Results) -> list[int]:
    """The same of checkpoints."""
    return [one.seeds for whom, one in _found_in(results) if whom.checkpoints(one)]


def luck_of(results: Results, measure: str) -> LuckFigures | None:
    return next((one for one in results.luck if one.measure == measure), None)


def _these(seeds: int) -> str:
    return "this checkpoint" if seeds == 1 else "these checkpoints"


def _found(made: ContrastFigures | MeasureContrast | SetContrast, better: str, how: tuple[str, str], whom: Whom) -> str:
    """A finding of methods, or of checkpoints. how: with its verb, of one and of several."""
    if whom.methods(made):
        return f"{better} {how[0]}"
    other = made.second if better == made.first else made.first
    several = made.seeds > 1 and better not in whom.untrained
    rest = whom.row(other, made.seeds)
    if not {better, other} & whom.untrained:
        rest = f"{'that' if made.seeds == 1 else 'those'} of {other}"
    return f"{whom.row(better, made.seeds)} {how[several]} than {rest}"


BETTER, NEARER, MORE = (
    ("is better", "are better"),
    ("is nearer to the teacher", "are nearer to the teacher"),
    ("has more", "have more"),
)


def contrast_words(made: ContrastFigures | SetContrast, whom: Whom, power: bool = True) -> str:
    """What a contrast of rates found. power: whether to say what it could have told."""
    if made.difference is None:
        return "no prompt was judged for both"
    if not made.distinguishable:
        size = made.detectable if power else None
        return _untold(size, in_points, size is not None and size > WIDEST)
    return _found(made, made.first if made.difference > 0 else made.second, BETTER, whom)


def _untold(size: float | None, said: Callable[[float], str], beyond: bool = False, by: str = "") -> str:
    words = f"not told apart{by}"
    if size is None:
        return words
    return f"{words}: no difference has 80% power here" if beyond else f"{words}: 80% power from {said(size)}"


def measure_words(
    made: MeasureContrast, facts: MeasureFacts, own: Collection[str], whom: Whom, power: bool = True
) -> str:
    """What a contrast found in a measure. own: the rows whose training minimises it. power: as in contrast_words."""
    if made.difference is None:
        return "no prompt was measured for both"
    by = by_the_bound(facts)
    if not made.distinguishable:
        return _untold(made.detectable if power else None, lambda size: in_unit(size, facts), by=by)
    if not made.better:
        return f"{_found(made, made.first if made.difference > 0 else made.second, MORE, whom)}{by}"
    near = facts.group == "fidelity" and facts.by_token  # a distance, or an agreement, token by token
    mark = f" ({OWN_LOSS})" if made.better in own else ""
    return f"{_found(made, made.better, NEARER if near else BETTER, whom)}{by}{mark}"


def disagreement_words(found: Disagreement, results: Results) -> str:
    """Two rows, and by which measures, or the judge, each is the better one: of methods where all of these are."""
    heads = {facts.name: facts.head for facts in results.measured}
    names, whom = (*found.for_first, *found.for_second), Whom.of(results)
    told = [
        (of, one)
        for of, one in _found_in(results)
        if (one.scope, one.first, one.second) == (found.scope, found.first, found.second)
        and (one.measure if isinstance(one, MeasureContrast) else one.judge) in names
    ]
    methods = bool(told) and all(of.methods(one) for of, one in told)
    seeds = min((one.seeds for _, one in told), default=1)

    def side(row: str, by: Sequence[str]) -> str:
        said = [heads.get(name, f"the judge ({name})") for name in by]
        own = [f" {OWN_LOSS}" if row in own_losses(results, name) else "" for name in by]
        who = row if methods else whom.row(row, seeds)
        verb = "is" if who == row or seeds == 1 else "are"
        return f"{who} {verb} better by " + ", ".join(map("".join, zip(said, own, strict=True)))

    return (
        f"{found.first} against {found.second} on {found.scope}: {side(found.first, found.for_first)}; "
        f"{side(found.second, found.for_second)}"
    )


def versus_contrast(results: Results, pair: VersusFigures) -> ContrastFigures | None:
    """The contrast of two rows that were judged against each other, on the same set and in the same direction."""
    for one in results.contrasts:
        if one.scope == pair.prompt_set and (one.first, one.second) == (pair.first, pair.second):
            return one
        if one.scope == pair.prompt_set and (one.first, one.second) == (pair.second, pair.first):
            turned: dict[str, Any] = {"first": one.second, "second": one.first, "equivalence": None}
            turned["difference"] = None if one.difference is None else -one.difference
            turned["interval"] = None if one.interval is None else (-one.interval[1], -one.interval[0])
            return one.model_copy(update=turned)
    return None


def equivalence_words(found: Equivalence | None) -> str:
    """Whether a difference is small, by its 90% interval."""
    if found is None:
        return ""
    margin = f"{100 * found.margin:g}"
    said = {"equivalent": f"equivalent within ±{margin}", "not worse": f"not worse than −{margin}"}
    words = said.get(found.finding, f"neither, at ±{margin}")
    if found.interval is None:
        return words
    low, high = (100 * end for end in found.interval)
    return f"{words} [{low:+z.1f}, {high:+z.1f}]"


# ---- before the tables


def whom_words(results: Results) -> str:
    """Whom contrasts speak of."""
    methods, checkpoints = _of_methods(results), _of_checkpoints(results)
    if methods and checkpoints:
        return (
            "What is found over several seeds is of the methods: seeds are random draws, and what another one would "
            f"move is in the test. {CHECKPOINTS} marks a difference of checkpoints, of one seed or of rows that do not "
            "share two: what another seed moves is not in its test."
        )
    if methods:
        return (
            f"What is found is of the methods: the {between(methods)} seeds are random draws, and what another one "
            "would move is in every test."
        )
    if any(seeds > 1 for seeds in checkpoints):
        return (
            "The trained rows do not share two seeds, so that nothing is known of what a seed moves: what is found is "
            "of these checkpoints."
        )
    return "One seed: what is found is of these checkpoints, not of the methods."


def declared_words(results: Results) -> str:
    """Whether contrasts were declared, where that is the same of all; and the margin."""
    known = _declared(results)
    if len(known) > 1:
        said = "Those that are called declared were stamped before either row had a verdict or a measure, and nothing "
        said += "was left out of their family since."
    elif True in known:
        said = "All were declared before the run: stamped before either row had a verdict or a measure."
    elif any(one.early for one in results.stamps):
        said = f"All count as {CHOSEN}: some that were declared with them are left out, or they came too late."
    elif results.stamps:
        said = f"All were {CHOSEN}: no stamp is older than the first verdict or measure of either row."
    else:
        said = f"All count as {CHOSEN}: nothing says that they were declared before the run."
    return said + _margin_words(results)


def _margin_words(results: Results) -> str:
    small = [one for one in results.contrasts if one.equivalence]
    if not small:
        return ""
    declared = [one.margin_declared for one in small]
    when = "declared with them" if all(declared) else "declared with some alone" if any(declared) else CHOSEN
    margin = next(one.equivalence.margin for one in small if one.equivalence)
    return f" The margin of ±{100 * margin:g} points was {when}."


def mixed(results: Results) -> bool:
    """Whether some contrasts were declared before the run, and some were not."""
    return len(_declared(results)) > 1


def _declared(results: Results) -> set[bool]:
    return {one.declared for one in results.contrasts} | {one.declared for one in results.measure_contrasts}


def primaries(results: Results) -> list[ContrastFigures]:
    """The primary contrast that was named, where there is one."""
    return [one for one in results.contrasts if one.primary or one.family == "primary"]


def primary_words(made: ContrastFigures, results: Results) -> str:
    """The primary contrast in one sentence, without its end; one named afterwards is corrected as any other."""
    alone = made.family == "primary"
    p = f"p {_equals(p_cell(made.p))}, corrected for no other"
    if not alone:
        p = f"p {_equals(p_cell(made.p_holm))} after Holm with its family"
    figure = ""
    if made.difference is not None:
        figure = f" {points_cell(made.difference, made.interval)}{mark_of(results)(made)} points, {p}:"
    pooled = all(entry.name != made.scope for entry in results.prompt_sets)
    scope = f"{made.scope}, sets pooled" if pooled else made.scope
    small = "" if made.equivalence is None else f"; {equivalence_words(made.equivalence)} by the 90% interval"
    when = DECLARED if alone else "named as that afterwards"
    return (
        f"Primary contrast, {when}: {made.first} − {made.second} on {scope},"
        f"{figure} {contrast_words(made, Whom.of(results))}{small}"
    )


def _equals(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def power_cell(size: float) -> str:
    """A detectable difference of rates; two are never as far apart as some would have to be."""
    return in_points(size) if size <= WIDEST else "no difference"


def power_words(made: Sequence[ContrastFigures] | Sequence[MeasureContrast], facts: MeasureFacts | None = None) -> str:
    """From which differences on several contrasts have power, behind a comma; empty where nothing says."""
    known = [one.detectable for one in made if one.detectable is not None]
    if not known:
        return ""
    if facts is None and max(known) > WIDEST:
        return f", 80% power from {power_cell(min(known))} at best"
    least, most = (in_points(end) if facts is None else in_unit(end, facts) for end in (min(known), max(known)))
    size = least if least == most else f"{least.partition(' ')[0]} to {most}"
    return f", 80% power from {size}"


def luck_words(found: LuckFigures, facts: MeasureFacts | None = None) -> str:
    """What another seed moves in a row's figure, and where that is. facts: of the measure; None: preference rate."""
    parts = [(found.shared, found.shared_degrees, "in all trained rows alike")]
    if found.own_degrees:
        parts.insert(0, (found.own, found.own_degrees, "in each trained row for itself"))
    moved = ", ".join(f"{where} {moved_words(size, degrees, facts)}" for size, degrees, where in parts)
    part = (
        "Over several seeds the first is in every contrast of two trained rows, both in those with the start or the "
        "ceiling"
        if found.own_degrees
        else "Of one row its own part cannot be told from what rows share"
    )
    rough = " So few degrees leave an SD rough." if min(degrees for _, degrees, _ in parts) < ROUGH else ""
    clipped = (
        " Not seen: the estimate came out at zero or below, which does not say that it is zero."
        if any(not size for size, *_ in parts)
        else ""
    )
    return (
        f"What another seed moves in {facts.head if facts else 'the preference rate'}, as an SD: {moved}; from "
        f"{found.rows} row{'s' if found.rows > 1 else ''}, {seeds_words(found.seeds)} and {found.prompts} prompts. "
        f"{part}.{rough}{clipped}"
    )


def moved_words(size: float, degrees: int, facts: MeasureFacts | None) -> str:
    """A standard deviation between seeds; one that was estimated at zero or below was not seen."""
    of = f"{degrees} degree{'s' if degrees != 1 else ''} of freedom"
    said = (in_points(size) if facts is None else in_unit(size, facts)) if size else "not seen"
    return f"{said} ({of})"
