"""Every column of a table, once: what it is called, and what a cell of it says, sorts by and draws.

Tables of the board, the report, the card, `stats` and `judge` are chosen from here. A column of rates fits whatever has
rates: a row of results, a comparison of `stats`. Markdown writes a cell's text, the page draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from tabulate import tabulate

from harness.core.records import Status
from harness.core.units import in_bytes
from harness.reports.cells import (
    HARM,
    KINDS,
    PARTS,
    components_cell,
    difference_cell,
    difference_unit,
    in_unit,
    kappa_cell,
    measure_cell,
    measure_digits,
    p_cell,
    parts_of,
    points_cell,
    rank_cell,
    rate_cell,
    retention_cell,
    slope_cell,
    spread_cell,
    spread_words,
)
from harness.reports.findings import (
    CHOSEN,
    DECLARED,
    Whom,
    contrast_words,
    equivalence_words,
    mark_of,
    measure_words,
    moved_words,
    power_cell,
    versus_contrast,
)
from harness.reports.measured import SEVERAL, Measured, seconds
from harness.results.schema import (
    ContrastFigures,
    CostFacts,
    JudgingFigures,
    LengthFigures,
    Lengths,
    LuckFigures,
    MeasureContrast,
    MeasureFacts,
    MethodFacts,
    Results,
    RetentionFacts,
    Row,
    VersusFigures,
)
from harness.statistics.agreement import JudgeAgreement
from harness.statistics.contrasts import Candidates, Difference
from harness.statistics.length import LengthControl
from harness.statistics.outcomes import STATUSES
from harness.statistics.rates import Rates
from harness.statistics.ratios import RatioDifference
from harness.statistics.summary import ComparisonRates, Ranked, SetContrast

Ends = Sequence[float] | None
BETTER_BY_TASK = {True: "higher", False: "lower", None: ""}
R_contra = TypeVar("R_contra", contravariant=True)
Whole = TypeVar("Whole")


@dataclass(frozen=True)
class Cell:
    """text, and what it sorts by; a figure may carry (low, figure, high) to draw, and the range of the drawing.

    swatch: the class of colour of the system that the cell names. count: a whole number, grouped on a page. band: how
    far from 0 a figure must be to be told from it, to draw behind it. line: whether it is one line on a page too.
    """

    text: str
    sort: float | str
    drawn: tuple[float, float, float] | None = None
    span: tuple[float, float] = (-1.0, 1.0)
    swatch: str = ""
    count: bool = False
    band: float | None = None
    line: bool = False

    @property
    def grouped(self) -> str:
        """The text as a page has it."""
        return f"{int(self.sort):,}" if self.count else self.text

    @property
    def order(self) -> str | None:
        """What a page sorts by; None where that is the text itself."""
        if isinstance(self.sort, str):
            return None if self.sort == self.text.casefold() else self.sort
        return f"{self.sort:.9g}"

    def place(self, value: float) -> str:
        """Where a value lies in the drawing, as SVG writes it."""
        return self.share(value - self.span[0])

    def share(self, width: float) -> str:
        """How much of the drawing a width is."""
        return f"{100 * width / (self.span[1] - self.span[0]):.2f}%"


@dataclass(frozen=True)
class Column(Generic[R_contra]):
    head: str
    cell: Callable[[R_contra], Cell]

    def named(self, head: str) -> Column[R_contra]:
        """The same under another heading."""
        return replace(self, head=head)

    def of(self, part: Callable[[Whole], R_contra]) -> Column[Whole]:
        """The same for rows of which this is a part."""
        return Column(self.head, lambda row: self.cell(part(row)))


def marked(found: Column[R_contra], mark: Callable[[Any], str]) -> Column[R_contra]:
    """The same with a mark behind some cells."""

    def cell(row: R_contra) -> Cell:
        plain = found.cell(row)
        return replace(plain, text=f"{plain.text}{mark(row)}")

    return replace(found, cell=cell)


def markdown(columns: Iterable[Column[Any]], rows: Sequence[Any]) -> str:
    """A table; empty where it has no rows. A cell is one line, and has no bar of its own."""
    shown = list(columns)
    cells = [[_in_line(column.cell(row).text) for column in shown] for row in rows]
    return pipes([_in_line(column.head) for column in shown], cells) if rows else ""


def pipes(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of text, as it is; whole numbers stand on the right."""
    return tabulate(rows, heads, tablefmt="pipe", disable_numparse=True)


def _in_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# ---- cells


BLANK = Cell("", "")


def text(value: str, swatch: str = "") -> Cell:
    return Cell(value, value.casefold(), swatch=swatch)


def number(value: float, said: str) -> Cell:
    return Cell(said, float(value))


def known(value: float | None, form: str, unit: str = "") -> Cell:
    """A number in a format; blank where there is none."""
    return BLANK if value is None else number(value, format(value, form) + unit)


def rate(value: float | None, interval: Ends, signed: bool) -> Cell:
    """A share of one with its interval, in percent; drawn in −1..1 where it has a sign, else in 0..1."""
    said = rate_cell(value, interval, signed)
    if value is None or interval is None:
        return Cell(said, "")
    return Cell(said, float(value), (interval[0], float(value), interval[1]), (-1.0 if signed else 0.0, 1.0))


def column(head: str, said: Callable[[R_contra], str]) -> Column[R_contra]:
    """A column of text."""
    return Column(head, lambda row: text(said(row)))


def counts(head: str, count: Callable[[R_contra], int]) -> Column[R_contra]:
    """A column of whole numbers."""

    def cell(row: R_contra) -> Cell:
        found = count(row)
        return Cell(str(found), float(found), count=True)

    return Column(head, cell)


def _of(count: int, n: int, none: str) -> Cell:
    return number(count / n, f"{count} of {n}") if n else Cell(none, "")


# ---- rates

PREFERENCE: Column[Rates] = Column(
    "preference rate", lambda row: rate(row.preference_rate, row.preference_interval, signed=True)
)
WIN: Column[Rates] = Column("win rate", lambda row: rate(row.win_rate, row.win_interval, signed=False))
HALF_TIE: Column[Rates] = Column(
    "half-tie win rate", lambda row: replace(rate(row.half_tie_rate, row.half_tie_interval, signed=False), drawn=None)
)
MEAN_PREFERENCE: Column[Rates] = Column(
    "mean preference",
    lambda row: replace(rate(row.mean_preference, row.mean_preference_interval, signed=False), drawn=None),
)
WINS: Column[Rates] = counts("wins", lambda row: row.wins)
TIES: Column[Rates] = counts("ties", lambda row: row.ties)
LOSSES: Column[Rates] = counts("losses", lambda row: row.losses)
OUTCOMES: Column[Rates] = column("W / T / L", lambda row: f"{row.wins} / {row.ties} / {row.losses}")
N: Column[Rates] = counts("N", lambda row: row.n)
PROMPTS: Column[Rates] = counts("prompts", lambda row: row.prompts)
N_AND_PROMPTS: Column[Rates] = column(
    "N", lambda row: f"{row.n}" + (f" ({row.prompts} prompts)" if row.prompts != row.n else "")
)
LACKING: Column[Rates] = counts("missing", lambda row: row.missing)
MISSING: Column[Rates] = Column(
    "missing",
    lambda row: number(row.missing, f"{row.missing} ({row.missing_share:.0%})" if row.missing else "0"),
)
MISSING_SHARE: Column[Rates] = Column(
    "missing", lambda row: number(row.missing, f"{row.missing} ({row.missing_share:.1%})")
)
FAILED: Column[Rates] = counts("failed verdicts", lambda row: row.failed_verdicts)
ORDERS: Column[Rates] = column("orders", lambda row: row.orders)
FLIPS: Column[Row | ComparisonRates | VersusFigures] = Column(
    "flips", lambda row: _of(row.flips.count, row.flips.n, "no orders")
)
# where the orders stand beside it
FLIPS_ALONE: Column[Row | ComparisonRates] = Column("flips", lambda row: _of(row.flips.count, row.flips.n, ""))
TOKENS: Column[Lengths] = Column("tokens", lambda row: known(row.mean_tokens, ".0f"))
CUT: Column[Lengths] = Column("cut", lambda row: known(row.cut_share, ".0%"))
RANK: Column[Row | Ranked] = Column("rank", lambda row: Cell(rank_cell(row), float(row.rank[0]) if row.rank else ""))
SPREAD: Column[Row] = Column(
    "SD of runs", lambda row: Cell(spread_cell(row), "" if row.spread is None else float(row.spread))
)


def components(rows: Sequence[Row]) -> list[Column[Row]]:
    """What an outcome's distance from its row's rate is made of, in points; no column where seeds and samples are one
    each."""
    parts = parts_of(row.components for row in rows)
    return [Column(_parts_head(parts), lambda row: _parts(components_cell(row.components, parts)))] if parts else []


def _parts(said: str) -> Cell:
    return replace(text(said), line=True)


def _parts_head(parts: Sequence[str]) -> str:
    return f"SD: {' / '.join(PARTS[name] for name in parts)}"


KIND: Column[Row | Measured | RetentionFacts] = column("kind", lambda row: KINDS[row.kind])
IDENTICAL: Column[Row] = counts("identical", lambda row: row.identical)
PROMPT_SET: Column[Row | LengthFigures | VersusFigures] = column("on", lambda row: row.prompt_set)
JUDGE: Column[Row | LengthFigures | JudgingFigures | ComparisonRates] = column("judge", lambda row: row.judge)


Named = Row | LengthFigures | Measured | CostFacts | RetentionFacts


def method(colours: Mapping[str, str] | None = None) -> Column[Named]:
    """Whom a row is of, in the colour of its system on a page."""
    return Column("method", lambda row: text(row.method, _swatch(colours, row.method)))


METHOD = method()


def _swatch(colours: Mapping[str, str] | None, name: str) -> str:
    return "" if colours is None else colours.get(name, "start")


# ---- method against method

PAIR: Column[Candidates] = column("first − second", lambda row: f"{row.first} − {row.second}")
SCOPE: Column[ContrastFigures | MeasureContrast] = column("on", lambda row: row.scope)
P: Column[Difference | RatioDifference] = Column("p", lambda row: Cell(p_cell(row.p), "" if row.p is None else row.p))
P_HOLM: Column[Difference | RatioDifference] = Column(
    "p (Holm)", lambda row: Cell(p_cell(row.p_holm), "" if row.p_holm is None else row.p_holm)
)
JUDGED: Column[Difference | RatioDifference] = counts("N", lambda row: row.n)
LEFT_OUT: Column[Difference | RatioDifference] = counts("left out", lambda row: row.left_out)
EQUIVALENCE: Column[ContrastFigures | SetContrast] = column(
    "by the 90% interval", lambda row: equivalence_words(row.equivalence)
)
WHEN: Column[ContrastFigures | MeasureContrast] = column("", lambda row: DECLARED if row.declared else CHOSEN)
POWER: Column[Difference] = Column(
    "80% power from",
    lambda row: BLANK if row.detectable is None else number(row.detectable, power_cell(row.detectable)),
)


def finding(whom: Whom, power: bool = True) -> Column[ContrastFigures]:
    """power: whether what could have been told is in it."""
    return column("finding", lambda row: contrast_words(row, whom, power))


def difference(most: float = 2.0) -> Column[Difference]:
    """In points of a hundred, drawn in −most..most."""

    def cell(row: Difference) -> Cell:
        said = points_cell(row.difference, row.interval)
        if row.difference is None or row.interval is None:
            return Cell(said, "")
        drawn = (row.interval[0], row.difference, row.interval[1])
        return Cell(said, row.difference, drawn, (-most, most), band=band(row.detectable, most))

    return Column("difference in points", cell)


def band(detectable: float | None, most: float) -> float | None:
    """What is drawn of a difference that can be told, in −most..most."""
    return None if detectable is None else min(detectable, most)


# ---- measures


def measure(facts: MeasureFacts, rows: Sequence[Measured], ends: bool = True) -> Column[Measured]:
    """A measure of each of the rows, in the digits that all of their intervals need. ends: with its interval."""
    digits = measure_digits([row.values[facts.name].interval for row in rows if facts.name in row.values], facts.unit)

    def cell(row: Measured) -> Cell:
        found = row.values.get(facts.name)
        if found is None or found.value is None:
            return BLANK
        mark = f" {HARM}" if facts.name in row.harmed else ""
        return number(found.value, f"{measure_cell(found, facts, ends, digits)}{mark}")

    return Column(facts.head, cell)


def measure_spread(facts: MeasureFacts) -> Column[Measured]:
    """Standard deviation of a measure between runs, in points where it is a share."""

    def cell(row: Measured) -> Cell:
        found = row.values.get(facts.name)
        return (
            BLANK if found is None else Cell(spread_words(found, facts), "" if found.spread is None else found.spread)
        )

    return Column("SD of runs", cell)


def measure_components(facts: MeasureFacts, rows: Sequence[Measured]) -> list[Column[Measured]]:
    """What a prompt's distance from its row's value is made of, in the measure's unit; of shares in points."""
    parts = parts_of(row.values[facts.name].components for row in rows if facts.name in row.values)

    def cell(row: Measured) -> Cell:
        found = row.values.get(facts.name)
        return BLANK if found is None else _parts(components_cell(found.components, parts, facts))

    return [Column(_parts_head(parts), cell)] if parts else []


def measure_difference(facts: MeasureFacts) -> Column[MeasureContrast]:
    def cell(row: MeasureContrast) -> Cell:
        said = difference_cell(row, facts)
        return Cell(said, "" if row.difference is None else row.difference)

    return Column(f"difference in {difference_unit(facts)}", cell)


def measure_power(facts: MeasureFacts) -> Column[MeasureContrast]:
    return Column(
        "80% power from",
        lambda row: BLANK if row.detectable is None else number(row.detectable, in_unit(row.detectable, facts)),
    )


def measure_finding(
    facts: MeasureFacts, own: Collection[str], whom: Whom, power: bool = True
) -> Column[MeasureContrast]:
    """own: the rows whose training minimises the measure. power: as in `finding`."""
    return column("finding", lambda row: measure_words(row, facts, own, whom, power))


# ---- rows against each other directly

AGAINST: Column[VersusFigures] = column("first against second", lambda row: f"{row.first} against {row.second}")
DIRECT: Column[VersusFigures] = Column("preference rate", lambda row: PREFERENCE.cell(row))


def indirect(results: Results) -> Column[VersusFigures]:
    """What the same pair differs by against the teacher, from its contrast; where there is none from the two rates,
    without an interval."""
    rates = {(row.prompt_set, row.method): row.preference_rate for row in results.rows if row.judge == results.judge}

    def cell(row: VersusFigures) -> Cell:
        if found := versus_contrast(results, row):
            return marked(difference(), mark_of(results)).cell(found)
        first, second = (rates.get((row.prompt_set, name)) for name in (row.first, row.second))
        return BLANK if first is None or second is None else number(first - second, f"{100 * (first - second):+z.1f}")

    return Column("against the teacher, points", cell)


def indirect_finding(results: Results) -> Column[VersusFigures]:
    whom = Whom.of(results)

    def said(row: VersusFigures) -> str:
        found = versus_contrast(results, row)
        return "no contrast of them" if found is None else contrast_words(found, whom)

    return column("finding there", said)


# ---- what another seed moves


def moved(head: str, of: Callable[[LuckFigures], tuple[float, int]], facts: Mapping[str, MeasureFacts]) -> Column[Any]:
    """facts: of each measure."""

    def cell(row: LuckFigures) -> Cell:
        size, degrees = of(row)
        return number(size, moved_words(size, degrees, facts.get(row.measure))) if degrees else BLANK

    return Column(head, cell)


TRAINED_IN_ALL: Column[CostFacts] = Column("tokens trained", lambda row: known(row.trained_tokens, ",d"))
READ: Column[CostFacts] = Column("the teacher read", lambda row: known(row.teacher_read_tokens, ",d"))
SAMPLED: Column[CostFacts] = Column("the teacher wrote", lambda row: known(row.teacher_sampled_tokens, ",d"))
ROLLED: Column[CostFacts] = Column("the student wrote", lambda row: known(row.student_sampled_tokens, ",d"))
SECONDS: Column[CostFacts] = Column(
    "seconds on that machine, shared work counted whole", lambda row: known(seconds(row), ",.0f")
)
PEAK_MEMORY: Column[CostFacts] = Column(
    "peak memory", lambda row: BLANK if row.peak_memory is None else number(row.peak_memory, in_bytes(row.peak_memory))
)
DEVICE: Column[CostFacts] = column("device", lambda row: row.device)


def stage_seconds(stage: str) -> Column[CostFacts]:
    return Column(f"{stage}, s", lambda row: known(None if SEVERAL in row.device else row.seconds.get(stage), ",.1f"))


# ---- what models still can

TASK: Column[RetentionFacts] = column("task", lambda row: row.task)
METRIC: Column[RetentionFacts] = column("metric", lambda row: row.metric)
RETAINED: Column[RetentionFacts] = Column("value", lambda row: number(row.value, retention_cell(row)))
RETAINED_BETTER: Column[RetentionFacts] = column("better", lambda row: BETTER_BY_TASK[row.higher_is_better])
DOCUMENTS: Column[RetentionFacts] = counts("documents", lambda row: row.n)

# ---- length

# What a reader who knows AlpacaEval's figures is told beside every table of these; docs/statistics.md has the table.
NOT_ALPACA_EVALS = (
    "A rate at equal length is not AlpacaEval's length-controlled win rate, which models the judge's graded "
    "preferences, with difficulties learnt from its own board and a pull towards long and short answers of its "
    "baseline. Of 40 models of that board, with difficulty from the 55 others, (1 + rate) / 2 was off by 2.9 points in "
    "the median, and by 6.6 at most; of the 7 that have 15% of the responses on either side of equal length, and so a "
    "rate, by 1.6 and 4.2 (each alone, without a difficulty term, by 1.3 and 5.2)."
)
AS_IT_IS: Column[LengthControl | Ranked] = Column(
    "preference rate",
    lambda row: (
        BLANK if row.preference_rate is None else number(row.preference_rate, f"{100 * row.preference_rate:+.1f}%")
    ),
)
CONTROLLED: Column[LengthControl] = Column(
    "at equal length",
    lambda row: BLANK if row.reason else rate(row.controlled_rate, row.controlled_interval, signed=True),
)
CONTROLLED_OR_WHY: Column[LengthControl] = Column(
    "at equal length", lambda row: Cell(row.reason, "") if row.reason else CONTROLLED.cell(row)
)
OWN_LENGTH: Column[LengthControl] = Column("mean length", lambda row: known(row.candidate_mean, ".0f", f" {row.unit}"))
TEACHERS_LENGTH: Column[LengthControl] = Column(
    "the teacher's", lambda row: known(row.reference_mean, ".0f", f" {row.unit}")
)
BOTH_LENGTHS: Column[LengthControl] = column(
    "mean length", lambda row: f"{row.candidate_mean:.0f} against {row.reference_mean:.0f} {row.unit}"
)
SLOPE: Column[LengthControl] = Column(
    "logits for each SD more",
    lambda row: BLANK if row.coefficient is None else number(row.coefficient, slope_cell(row)),
)
SLOPE_AND_SD: Column[LengthControl] = Column(
    "logits for each SD of length",
    lambda row: (
        BLANK
        if row.coefficient is None
        else number(row.coefficient, f"{slope_cell(row)} for {row.spread:.0f} {row.unit}")
    ),
)
DIFFICULTY: Column[LengthControl] = column(
    "difficulty", lambda row: "" if row.difficulty is None else "from the others" if row.difficulty else "no term"
)
MODELLED: Column[LengthControl] = counts("N", lambda row: row.n)


def lengths_in(unit: str) -> Column[LengthControl]:
    """Mean lengths in a unit; blank for rows in another."""
    return column(
        f"{unit}, teacher's",
        lambda row: f"{row.candidate_mean:.0f}, {row.reference_mean:.0f}" if row.unit == unit else "",
    )


# ---- judges


def _status(status: Status) -> Column[JudgingFigures]:
    return counts(status, lambda row: getattr(row, status))


VERDICTS: Column[JudgingFigures] = counts("verdicts", lambda row: row.verdicts)
STATUS: Sequence[Column[JudgingFigures]] = [_status(status) for status in STATUSES]
ALIKE: Column[JudgingFigures] = counts("identical", lambda row: row.identical)
TIES_OF: Column[JudgingFigures] = Column("ties", lambda row: _of(row.ties, row.outcomes, f"{row.ties} of 0"))
CONTRADICTS: Column[JudgingFigures] = Column(
    "contradicts itself", lambda row: _of(row.flips, row.both_orders, "no orders")
)
TRUNCATED: Column[JudgingFigures] = counts("read in part", lambda row: row.truncated)
FORMS: Column[JudgingFigures] = column(
    "asked for", lambda row: ", ".join(f"{form}: {count}" for form, count in row.forms.items())
)
JUDGES: Column[JudgeAgreement] = column("judges", lambda row: f"{row.first}, {row.second}")
KAPPA: Column[JudgeAgreement] = Column("κ", lambda row: Cell(kappa_cell(row), "" if row.kappa is None else row.kappa))
SAME: Column[JudgeAgreement] = Column("same outcome", lambda row: _of(row.agreement.count, row.n, "0 of 0"))
UNSHARED: Column[JudgeAgreement] = counts("missing", lambda row: row.missing)
NOTE: Column[JudgeAgreement] = column("note", lambda row: row.note)


# ---- trainings

_STARTS = {"student": "untrained student", "sft": "SFT student"}


def trained(colours: Mapping[str, str] | None = None) -> Column[MethodFacts]:
    """What was trained, in the colour of its system on a page."""
    return Column("method", lambda row: text(row.name, _swatch(colours, row.name)))


START: Column[MethodFacts] = column("starts from", lambda row: _STARTS[row.settings.start])
LEARNING_RATE: Column[MethodFacts] = Column("learning rate", lambda row: known(row.settings.learning_rate, "g"))
EPOCHS: Column[MethodFacts] = column("epochs", lambda row: "by tokens" if row.matches else str(row.settings.epochs))
BATCH: Column[MethodFacts] = Column("batch", lambda row: known(row.settings.batch_size, "d"))
STEPS: Column[MethodFacts] = counts("steps", lambda row: row.facts.steps)
TRAINED_TOKENS: Column[MethodFacts] = Column("tokens", lambda row: known(row.facts.tokens, ",d"))


def _own(row: MethodFacts) -> str:
    own = dict(row.settings.own)
    if own.get("fresh_share") == 0 and own.get("stored") == "teacher":
        del own["stored"]  # a pair's are not the teacher's alone
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in own.items()
    )


OWN_SETTINGS: Column[MethodFacts] = column("its own settings", _own)
CONTROL_OF: Column[MethodFacts] = column("control of", lambda row: f"{row.controls}: {row.why}" if row.controls else "")
