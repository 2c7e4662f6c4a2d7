"""What a run, or the board of a study, can tell, before it is paid for: the differences that 80% power finds, and what
it takes to find smaller ones. docs/statistics.md has the formulas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.table import Table

from harness.config.study import in_words
from harness.core.files import canonical_hash
from harness.measures.measure import is_share
from harness.planning.spread import ASSUMED, Known, Spreads
from harness.run.evaluating import Evaluation
from harness.run.road import Road
from harness.run.rows import ANCHORS, domains_of, primary_scope
from harness.statistics.contrasts import family_of
from harness.statistics.power import Spread, floor, prompts_for, seeds_for, told, told_of_methods
from harness.store import Store

NOTHING = "–"  # of one prompt, or of prompts that are all alike
WANTED = (10, 5)  # points, which one would like to tell
LUCK = (2, 5)  # points: about the least and the most that another seed moves a row by
SEEDS = (1, 3, 5)


@dataclass(frozen=True)
class Board:
    """The board that runs share. road: of the first of them. seeds: that every row has. rows: that are trained, at each
    setting one. contrasts: of two of these. primary: the one that all runs name which have its rows, and at which point
    these are where not all are; each_its_own: whether there is none because they name several. where: the points of its
    runs, in words."""

    road: Road
    seeds: int
    rows: int
    contrasts: int
    primary: tuple[str, str] | None
    primary_at: str
    each_its_own: bool
    where: str


def boards_of(roads: Sequence[Road]) -> list[Board]:
    """Runs share a board where their rows are judged by the same judges on the same prompts, drawn in the same way, as
    results/pooling.py has it."""
    kinds: dict[str, list[Road]] = {}
    for road in roads:
        kinds.setdefault(_kind(road), []).append(road)
    return [board_of(found) for found in kinds.values()]


def _kind(road: Road) -> str:
    config = road.config
    return canonical_hash(
        [
            [road.pair.student, road.pair.teacher, road.weights["student"].weights, road.weights["teacher"].weights],
            [config.judge.name, config.judge.samples, [judge.digest for judge, _ in road.judges]],
            [[one.name, one.in_domain, one.prompt_set.digest] for one in road.evaluations],
            config.eval_sampling.model_dump(mode="json"),
        ]
    )


def board_of(roads: Sequence[Road]) -> Board:
    """Of runs of one kind. A row is a training at the first seed: what other seeds make of it is the same row."""
    first = [road for road in roads if road.config.seed == roads[0].config.seed]
    trained = {ref for road in first for ref in road.trainings.values()}
    pairs = {pair for road in first for pair in _trained_pairs(road)}
    named = {pair for road in first if (pair := _as_trained(road, road.config.primary))}
    having = [road for road in first if len(named) == 1 and set(*named) <= set(_rows(road))]
    primaries = [road.config.primary for road in having]
    called = {pair for pair in primaries if pair}
    # of a row that is another one at each point of a grid no contrast is that of the study
    primaries += [road.config.primary for road in first if any(set(pair) <= set(_called(road)) for pair in called)]
    return Board(
        road=roads[0],
        seeds=len({road.config.seed for road in roads}),
        rows=len(trained),
        contrasts=len(pairs),
        primary=primaries[0] if primaries and all(primaries) else None,
        primary_at="; ".join(in_words(road.point) for road in having) if len(having) < len(first) else "",
        each_its_own=len(named) > 1,
        where="; ".join(dict.fromkeys(in_words(road.point) for road in roads)),
    )


def _called(road: Road) -> list[str]:
    return [*road.trainings, *ANCHORS]


def _rows(road: Road) -> list[str]:
    """What its rows are, whatever they are called: trainings, else their names."""
    return [*road.trainings.values(), *ANCHORS]


def _as_trained(road: Road, pair: tuple[str, str] | None) -> tuple[str, str] | None:
    return None if pair is None else (road.trainings.get(pair[0], pair[0]), road.trainings.get(pair[1], pair[1]))


def _trained_pairs(road: Road) -> Iterator[tuple[str, str] | None]:
    """Its contrasts of two trained rows."""
    return (_as_trained(road, one) for one in road.config.contrasts or () if family_of(*one, ANCHORS) == "methods")


@dataclass(frozen=True)
class Scope:
    """A prompt set, or the sets of a domain together. tests: of Holm's family of methods there."""

    name: str
    prompts: int
    tests: int
    known: Known


def scopes(road: Road, spreads: Spreads, board: Board | None = None) -> list[Scope]:
    """Every evaluation set, then every domain of several. Of a panel by its judge whose values differ most. board: what
    the run is on, where it is not alone there."""
    config, found = road.config, []
    board = board or board_of([road])
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
    of_methods = board.primary is not None and family_of(*board.primary, ANCHORS) == "methods"
    primary = primary_scope(_sets(road)) if of_methods else ""
    return [replace(scope, tests=_tests(board, group, primary)) for group in (found, pools) for scope in group]


def _sets(road: Road) -> dict[str, bool]:
    """Whether each set is in-domain."""
    return {one.name: one.in_domain for one in road.evaluations}


def _tests(board: Board, group: Sequence[Scope], primary: str) -> int:
    """Every contrast of trained rows on every one of these, but the primary one on its own."""
    return board.contrasts * len(group) - any(scope.name == primary for scope in group)


def judge_table(known: Sequence[Scope], samples: int, board: Board) -> Table:
    """A row a scope: what is told with one seed; and what it takes to tell WANTED or, where several seeds are planned,
    what is told with these."""
    title = "What the judge can tell two trained rows apart by: points of preference rate, 80% power, two-sided 5%"
    table = Table(title=title, title_justify="left")
    wanted = " / ".join(map(str, WANTED))
    several = board.seeds > 1
    seeds = [f"{board.seeds} seeds, luck {luck}" if several else f"seeds for {wanted}, luck {luck}" for luck in LUCK]
    alone = "one seed alone" if several else "alone"
    for name in ("on", "prompts", "SD of a prompt", alone, "with Holm", f"prompts for {wanted}", *seeds):
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
            *(_with_seeds(scope, sd, board, luck) if several else _seeds_for(scope, sd, luck) for luck in LUCK),
        )
    return table


def _seeds_for(scope: Scope, sd: float, luck: int) -> str:
    return " / ".join(f"{seeds_for(points / 100, sd, scope.prompts, luck / 100):,}" for points in WANTED)


def _with_seeds(scope: Scope, sd: float, board: Board, luck: int) -> str:
    """What is told of methods with the seeds that are planned: alone, and with Holm."""
    tests = [1, scope.tests] if scope.tests > 1 else [1]
    return " / ".join(
        _points(told_of_methods(sd, scope.prompts, board.seeds, luck / 100, board.rows, some)) for some in tests
    )


def measures_table(road: Road, spreads: Spreads, board: Board | None = None) -> Table | None:
    """A row a measure, a column a set: what is told with one seed alone, and with Holm. None where nothing is known of
    any."""
    board = board or board_of([road])
    known = {evaluation.name: spreads.measured(evaluation) for evaluation in road.evaluations}
    measures = {measure.name: measure for one in road.evaluations for measure in one.shown.measures}
    if not any(known.values()):
        return None
    alone = "one seed alone" if board.seeds > 1 else "alone"
    title = f"What measures can tell them apart by, in their units: {alone} / with Holm"
    table = Table(title=title, title_justify="left")
    table.add_column("measure")
    for name in known:
        table.add_column(name, justify="right")
    tests = max(1, board.contrasts * len(road.evaluations))
    for name, measure in measures.items():
        unit = 100 if is_share(measure.unit) else 1
        cells = [
            _measured(found.get(name), evaluation, road.config.samples, tests, unit)
            for evaluation, found in zip(road.evaluations, known.values(), strict=True)
        ]
        table.add_row(f"{name} ({'points' if unit == 100 else measure.unit})", *cells)
    return table


def _measured(spread: Spread | None, evaluation: Evaluation, samples: int, tests: int, unit: int) -> str:
    if spread is None:
        return ""
    prompts = len(evaluation.prompt_set.prompts)
    alone, holm = (told(spread.at(samples), prompts, tests=some) for some in (1, tests))
    return " / ".join(NOTHING if value is None else f"{unit * value:.3g}" for value in (alone, holm))


def lines(road: Road, known: Sequence[Scope], board: Board) -> list[str]:
    """What the table of the judge leaves to be said."""
    asked = sorted({*SEEDS, board.seeds})
    floors = "; ".join(
        f"{', '.join(f'{floor(seeds, luck):.1f}' for seeds in asked)} where its SD is {luck} points" for luck in LUCK
    )
    found = [
        "Another seed moves a row too (training luck), and no number of prompts takes that away: what can be told of "
        f"methods with {', '.join(map(str, asked))} seeds is at least {floors}. Columns without luck are about the "
        "checkpoints of one run."
    ]
    config = road.config
    if board.seeds > 1:
        found.append(
            f"{board.seeds} seeds, luck {LUCK[0]}: what is told of methods, alone / with Holm, where another seed "
            f"moves each of the {board.rows} trained rows by an SD of {LUCK[0]} points"
        )
    if board.each_its_own:
        found.append("primary: none, as runs of the study name several; all are tested with Holm")
    elif board.primary:
        where = primary_scope(_sets(road))
        first, second = board.primary
        at = f" ({board.primary_at})" if board.primary_at else ""
        found.append(
            f"primary, corrected for no other: {first} − {second}{at} on {where}; all others are tested with Holm"
        )
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


def printed(roads: Sequence[Road], store: Store) -> Iterable[Table | str]:
    """All of it, in order, of each board that the runs will have."""
    boards = boards_of(roads)
    for board in boards:
        road = board.road
        spreads = Spreads(road, store)
        known = scopes(road, spreads, board)
        if len(boards) > 1:
            yield f"on the board of {board.where}:"
        yield judge_table(known, road.config.samples, board)
        yield from lines(road, known, board)
        if any(one.shown.measures for one in road.evaluations):
            yield measures_table(road, spreads, board) or UNMEASURED
