"""What a run can tell, before it is paid for: the differences that 80% power finds, and what it takes to find smaller
ones. docs/statistics.md has the formulas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rich.table import Table

from harness.measures.measure import is_share
from harness.planning.spread import ASSUMED, Known, Spreads
from harness.run.evaluating import Evaluation
from harness.run.road import Road
from harness.run.rows import domains_of, primary_scope
from harness.statistics.power import Spread, floor, prompts_for, seeds_for, told
from harness.store import Store

NOTHING = "–"  # of one prompt, or of prompts that are all alike
WANTED = (10, 5)  # points, which one would like to tell
LUCK = (2, 5)  # points: about the least and the most that another seed moves a row by
SEEDS = (1, 3, 5)


@dataclass(frozen=True)
class Scope:
    """A prompt set, or the sets of a domain together. tests: of Holm's family of methods there."""

    name: str
    prompts: int
    tests: int
    known: Known


def scopes(road: Road, spreads: Spreads) -> list[Scope]:
    """Every evaluation set, then every domain of several. Of a panel by its judge whose values differ most."""
    config, found = road.config, []
    asked = [judge for judge, _ in road.judges if judge.name in config.judge.names]
    for evaluation in road.evaluations:
        known = max((spreads.judged(evaluation, judge) for judge in asked), key=lambda one: one.spread.variance)
        found.append(Scope(evaluation.name, len(evaluation.prompt_set.prompts), 0, known))
    pools = []
    for name, sets in domains_of(_sets(road)).items():
        parts = [scope for scope in found if scope.name in sets]
        if len(parts) > 1:
            prompts = sum(part.prompts for part in parts)
            variance = sum(part.prompts * part.known.spread.variance for part in parts) / prompts
            whose = parts[0].known.whose if len({part.known.whose for part in parts}) == 1 else "several"
            pools.append(Scope(name, prompts, 0, Known(Spread(variance), whose)))
    # in no family; with an anchor it is not of the methods to begin with
    primary = primary_scope(_sets(road)) if config.primary in spreads.pairs else ""
    return [replace(scope, tests=_tests(spreads, group, primary)) for group in (found, pools) for scope in group]


def _sets(road: Road) -> dict[str, bool]:
    """Whether each set is in-domain."""
    return {one.name: one.in_domain for one in road.evaluations}


def _tests(spreads: Spreads, group: Sequence[Scope], primary: str) -> int:
    """Every contrast of trained rows on every one of these, but the primary one on its own."""
    return len(spreads.pairs) * len(group) - any(scope.name == primary for scope in group)


def judge_table(known: Sequence[Scope], samples: int) -> Table:
    """A row a scope: what is told with one seed, and what it takes to tell WANTED."""
    title = "What the judge can tell two trained rows apart by: points of preference rate, 80% power, two-sided 5%"
    table = Table(title=title, title_justify="left")
    wanted = " / ".join(map(str, WANTED))
    seeds = [f"seeds for {wanted}, luck {luck}" for luck in LUCK]
    for name in ("on", "prompts", "SD of a prompt", "alone", "with Holm", f"prompts for {wanted}", *seeds):
        table.add_column(name, justify="left" if name == "on" else "right")
    for scope in known:
        sd = scope.known.spread.at(samples)
        holm = told(sd, scope.prompts, tests=scope.tests) if scope.tests > 1 else None
        table.add_row(
            scope.name,
            f"{scope.prompts:,}",
            f"{sd:.2f} ({scope.known.whose})",
            _points(told(sd, scope.prompts)),
            f"{_points(holm)} (of {scope.tests})" if scope.tests > 1 else "",
            " / ".join(_count(prompts_for(points / 100, sd)) for points in WANTED),
            *(
                " / ".join(f"{seeds_for(points / 100, sd, scope.prompts, luck / 100):,}" for points in WANTED)
                for luck in LUCK
            ),
        )
    return table


def measures_table(road: Road, spreads: Spreads) -> Table | None:
    """A row a measure, a column a set: what is told alone, and with Holm. None where nothing is known of any."""
    known = {evaluation.name: spreads.measured(evaluation) for evaluation in road.evaluations}
    measures = {measure.name: measure for one in road.evaluations for measure in one.shown.measures}
    if not any(known.values()):
        return None
    table = Table(title="What measures can tell them apart by, in their units: alone / with Holm", title_justify="left")
    table.add_column("measure")
    for name in known:
        table.add_column(name, justify="right")
    tests = _family(road.evaluations, spreads)
    for name, measure in measures.items():
        unit = 100 if is_share(measure.unit) else 1
        cells = [
            _measured(found.get(name), evaluation, road.config.samples, tests, unit)
            for evaluation, found in zip(road.evaluations, known.values(), strict=True)
        ]
        table.add_row(f"{name} ({'points' if unit == 100 else measure.unit})", *cells)
    return table


def _family(evaluations: Sequence[Evaluation], spreads: Spreads) -> int:
    return max(1, len(spreads.pairs) * len(evaluations))


def _measured(spread: Spread | None, evaluation: Evaluation, samples: int, tests: int, unit: int) -> str:
    if spread is None:
        return ""
    prompts = len(evaluation.prompt_set.prompts)
    alone, holm = (told(spread.at(samples), prompts, tests=some) for some in (1, tests))
    return " / ".join(NOTHING if value is None else f"{unit * value:.3g}" for value in (alone, holm))


def lines(road: Road, known: Sequence[Scope]) -> list[str]:
    """What the table of the judge leaves to be said."""
    floors = "; ".join(
        f"{', '.join(f'{floor(seeds, luck):.1f}' for seeds in SEEDS)} where its SD is {luck} points" for luck in LUCK
    )
    found = [
        "Another seed moves a row too (training luck), and no number of prompts takes that away: what can be told of "
        f"methods with {', '.join(map(str, SEEDS))} seeds is at least {floors}. Columns without luck are about the "
        "checkpoints of one run."
    ]
    config = road.config
    if config.primary:
        where = primary_scope(_sets(road))
        first, second = config.primary
        found.append(f"primary, corrected for no other: {first} − {second} on {where}; all others are tested with Holm")
    if any(scope.known.whose == ASSUMED for scope in known):
        found.append(
            f"SD of a prompt: of a prompt's difference between two rows in value (1 win, 0 tie, −1 loss); {ASSUMED} "
            "where this judge has not judged before in this store."
        )
    if config.samples > 1:
        unknown = any(scope.known.spread.within is None for scope in known)
        found.append(f"{config.samples} responses a prompt: {_UNKNOWN if unknown else _SHRUNK}")
    return found


UNMEASURED = "measures: what they can tell is not known before something like it has been measured in this store"
_SHRUNK = "what of the SD is within a prompt is divided by them"
_UNKNOWN = (
    "what of the SD is within a prompt is not known before several have been judged; the SD is that of one response"
)


def _points(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}"


def _count(prompts: int | None) -> str:
    return "more than there are" if prompts is None else f"{prompts:,}"


def printed(road: Road, store: Store) -> Iterable[Table | str]:
    """All of it, in order."""
    spreads = Spreads(road, store)
    known = scopes(road, spreads)
    yield judge_table(known, road.config.samples)
    yield from lines(road, known)
    if any(one.shown.measures for one in road.evaluations):
        yield measures_table(road, spreads) or UNMEASURED
