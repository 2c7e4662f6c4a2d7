"""How results are said in words: shared by the board, the report and what commands print."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import floor, log10

from harness.core.units import first_named
from harness.generation.protocol import Sampling
from harness.measures.measure import Bound, direction, is_share
from harness.results.labelled import labels_of
from harness.results.naming import point_words
from harness.results.schema import (
    UNTOLD,
    Harm,
    JudgeFacts,
    LengthFigures,
    MeasureContrast,
    MeasureFacts,
    MeasureRow,
    Results,
    RetentionFacts,
    Row,
    SetFacts,
)
from harness.run.jobs import NAMED_AT_MOST
from harness.statistics.agreement import Agreement
from harness.statistics.effects import Components
from harness.statistics.length import LengthControl
from harness.statistics.panel import SUMMARIES
from harness.statistics.rates import Interval
from harness.statistics.summary import Ranked

KINDS = {"ceiling": "ceiling", "untrained": "start", "control": "control", "method": "method", "teacher": "teacher"}
BOUNDS: dict[Bound, str] = {"exact": "", "lower": "≥ ", "upper": "≤ "}
OWN_LOSS = "†"  # a row that was trained to minimise the very measure
OWN_LOSS_SAID = f"{OWN_LOSS} its training minimises this measure, at temperature 1, on other prompts."
HARM = "⚠"  # a row that is further from the teacher than before training
HARM_SAID = (
    f"{HARM} marks a row that is further from the teacher by this measure than the untrained student is, on the same "
    "prompts: p ≤ 0.05 after Holm over all trained rows and sets."
)
HARMS_AT_MOST = 6  # on single sets, in one sentence; the tables mark all of these
BOUNDS_SAID = "≥ and ≤ mark bounds, as a server gave the teacher's likeliest tokens alone"
NO_BOUND = "A difference of two bounds is no bound of the difference."
NOWHERE = "No pair is told apart in opposite orders, by measures or by a measure and the judge."
WIDEST = 2.0  # two preference rates are never further apart
UNSEEN = 1e-6  # of the largest part: a standard deviation that is rounding alone
PARTS = {"prompt": "prompt", "seed": "seed", "residual": "rest", "within": "within"}  # of a row's variance
MOST_DIGITS = 6  # decimals; a width that asks for more is rounding


def rate_cell(rate: float | None, interval: Sequence[float] | None, signed: bool = False) -> str:
    if rate is None or interval is None:
        return "none judged"
    return _figure(rate, interval, _hundredths(interval), 100.0, "+" if signed else "", "%")


def points_cell(difference: float | None, interval: Sequence[float] | None) -> str:
    """A difference of two rates, in points of a hundred."""
    if difference is None or interval is None:
        return "none judged"
    return _figure(difference, interval, _hundredths(interval), 100.0, "+")


def _hundredths(interval: Sequence[float]) -> int:
    """As many digits as it takes for a rate's interval to have a width in hundredths."""
    return next((d for d in (1, 2, 3) if f"{100 * interval[0]:.{d}f}" != f"{100 * interval[1]:.{d}f}"), 4)


def _figure(
    value: float, interval: Sequence[float] | None, digits: int, factor: float = 1.0, sign: str = "", unit: str = ""
) -> str:
    """A number with its interval, if it has one: the same digits in both. sign: "+" for a difference."""
    # z: what rounds to zero has no minus
    shown, *ends = (f"{factor * number:{sign}z.{digits}f}" for number in (value, *(interval or ())))
    return f"{shown}{unit}" + (f" [{', '.join(ends)}]" if ends else "")


def p_cell(p: float | None) -> str:
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def rank_cell(row: Row | Ranked) -> str:
    """A row's place; those of neighbours that cannot be told apart are one range."""
    if row.rank is None:
        return ""
    first, last = row.rank
    return str(first) if first == last else f"{first}–{last}"


def spread_cell(row: Row) -> str:
    """Standard deviation of the preference rate between runs, in points, and how many runs there are."""
    return _spread(None if row.spread is None else f"{100 * row.spread:.1f}", row.judged_in)


def spread_words(row: MeasureRow, facts: MeasureFacts) -> str:
    """The same of a measure, in its unit; of a share in points."""
    runs = sum(value is not None for value in row.by_run)
    if row.spread is None:
        return _spread(None, runs)
    return _spread(_size(row.spread, facts) if row.spread else "0.0", runs)


def _spread(shown: str | None, runs: int) -> str:
    counted = f"({runs} run{'' if runs == 1 else 's'})"
    return counted if shown is None else f"{shown} {counted}"


def parts_of(rows: Iterable[Components]) -> list[str]:
    """The components of variance that any of the rows has; none where that of prompts is all there is."""
    found = list(rows)
    known = [name for name in PARTS if any(getattr(one, name) is not None for one in found)]
    return known if len(known) > 1 else []


def comparable(found: Components, several: bool) -> Components:
    """several: whether others beside it are of several seeds. What one seed has of prompts is all in which they differ,
    the rest with it: another quantity than theirs."""
    return found.model_copy(update={"prompt": None}) if several and found.seed is None else found


def components_cell(found: Components, parts: Sequence[str], facts: MeasureFacts | None = None) -> str:
    """Standard deviations of a row's components, in points or a measure's unit. One that was estimated as zero, or
    below, was not seen: that says nothing of how large it may be."""
    shown = comparable(found, "seed" in parts)
    sizes = [getattr(shown, name) for name in parts]
    largest = max((size for size in sizes if size is not None), default=0.0)
    return " / ".join(
        "–" if size is None else "not seen" if size <= UNSEEN * largest else _size(size, facts) for size in sizes
    )


def spread_legend(runs: Sequence[Results]) -> list[tuple[str, str]]:
    """What stands beside figures of several runs or samples: the head of each column, and what it is."""
    said = {
        ("SD of runs", _SPREAD): any(len(run.runs) > 1 for run in runs),
        ("SD: prompt / seed / rest", _COMPONENTS): any(parts_of(row.components for row in run.rows) for run in runs),
    }
    return [head for head, true in said.items() if true]


_SPREAD = (
    "how far a row's figures of single runs are spread: what a seed moves with the luck of these prompts, its square "
    "being about seed² + rest² / prompts, of one sample each"
)
_COMPONENTS = (
    "what one outcome's distance from its row's rate is made of, in points (of a measure in its unit): what all seeds "
    "share of a prompt (where all rows have one seed, all in which prompts differ), what all prompts share of a seed, "
    "and the rest: the luck of sampling, where that is not apart (within, of several samples), and what a seed moves "
    "on one prompt alone. A row of one seed has – for what it cannot tell; not seen was estimated at zero or below, "
    "which does not say that it is zero"
)


def _size(size: float, facts: MeasureFacts | None) -> str:
    """A size without its unit: a rate's in points, with two figures of it."""
    shown = size * (100 if facts is None or facts.share else 1)
    return f"{shown:.{min(MOST_DIGITS, _two_figures(shown))}f}"


def in_points(size: float) -> str:
    """The size of a difference of rates, with two figures."""
    return f"{_size(size, None)} points"


def in_unit(size: float, facts: MeasureFacts) -> str:
    """The same of a measure; of a share in points."""
    return f"{_size(size, facts)} {difference_unit(facts)}"


def kappa_cell(pair: Agreement) -> str:
    if pair.kappa is None:
        return "undefined"
    interval = pair.kappa_interval
    return f"{pair.kappa:.2f}" + ("" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]")


def measure_value(
    value: float,
    interval: Interval | None,
    unit: str,
    sign: str = "",
    ends: bool = True,
    digits: int | None = None,
) -> str:
    """A value with its interval, or without. digits: those of its column; else those that its own interval asks for.
    What rounds to zero in all of them has no more than its unit has at least."""
    factor, percent = (100.0, "" if sign else "%") if is_share(unit) else (1.0, "")
    if digits is None:
        digits = measure_digits([interval], unit, sign)
    if not any(round(factor * number, digits) for number in (value, *(interval or ()))):
        digits = min(digits, _least_digits(unit))
    return _figure(value, interval if ends else None, digits, factor, sign, percent)


def measure_digits(intervals: Iterable[Interval | None], unit: str, sign: str = "") -> int:
    """As many digits as say two figures of each interval's width. A mean of whole numbers a response has one decimal; a
    width that is rounding alone asks for none."""
    factor, least = 100.0 if is_share(unit) else 1.0, _least_digits(unit)
    if not sign and unit.endswith(" a response"):
        return least
    widths = (factor * (ends[1] - ends[0]) for ends in intervals if ends is not None and ends[1] > ends[0])
    return max([least, *(digits for width in widths if (digits := _two_figures(width)) <= MOST_DIGITS)])


def _least_digits(unit: str) -> int:
    return 3 if unit.startswith("nats") else 1


def _two_figures(size: float) -> int:
    """The decimals that say two figures of a size above zero."""
    return max(0, 1 - floor(log10(size)))


def measure_cell(row: MeasureRow | None, facts: MeasureFacts, ends: bool = True, digits: int | None = None) -> str:
    """A measure of a system; with a mark where it is a bound, and where the system was trained on it."""
    if row is None or row.value is None:
        return ""
    bound = BOUNDS[facts.teacher_bound if row.kind == "teacher" else facts.bound]
    own = f" {OWN_LOSS}" if row.own_loss else ""
    return f"{bound}{measure_value(row.value, row.interval, facts.unit, ends=ends, digits=digits)}{own}"


def measure_terms(facts: MeasureFacts, bound: bool = True) -> str:
    """A measure's unit and direction; and what it is here where it is no exact value."""
    here = (
        f"here {'a lower' if facts.bound == 'lower' else 'an upper'} bound" if bound and facts.bound != "exact" else ""
    )
    return "; ".join(part for part in (facts.unit, direction(facts.better), here) if part)


def by_the_bound(facts: MeasureFacts) -> str:
    """What is said of a comparison of two bounds; nothing of one of exact values."""
    return "" if facts.bound == "exact" else " by the bound"


def temperatures(shown: Sequence[MeasureFacts], results: Results) -> str:
    """The temperature at which these measures read student and teacher; empty where none reads them."""
    drawn = f"{results.evaluation.sampling.temperature:g}"
    tempered = any(facts.by_token for facts in shown)
    pairs = [facts.head for facts in shown if facts.reads == "pairs"]
    said = [f"both at temperature {drawn}"] if tempered else []
    if pairs and not (tempered and drawn == "1"):
        said.append(f"{', '.join(pairs)} at temperature 1")
    return ", ".join(said)


def seeds_of(results: Results, row: Row) -> int:
    """In how many seeds a row was judged; runs of one seed are one."""
    return len({run.seed for run, rate in zip(results.runs, row.by_run, strict=False) if rate is not None})


def between(counts: Collection[int]) -> str:
    """The least and the most of some counts."""
    least, most = min(counts), max(counts)
    return f"{most}" if least == most else f"{least} to {most}"


def seeds_words(*counts: int) -> str:
    return "one seed" if set(counts) == {1} else f"{between(counts)} seeds"


def resolution(results: Results, entry: SetFacts) -> str:
    """From which difference on neighbours of a set's table are told apart; empty where nothing says."""
    rows = [row for row in results.rows_of(entry.name) if row.preference_rate is not None]
    if entry.detectable is None or not rows:
        return ""
    seeds = seeds_words(*(seeds_of(results, row) for row in rows))
    return f"{max(row.prompts for row in rows)} prompts and {seeds} tell neighbours apart {told_from(entry.detectable)}"


def told_from(size: float) -> str:
    """From which difference of rates on two rows are told apart."""
    return f"{f'from {in_points(size)} on' if size <= WIDEST else 'at no difference'} (80% power)"


def unpooled_words(entry: SetFacts, results: Results) -> str:
    """The measures that several runs do not have alike; empty where there are none."""
    heads = {facts.name: facts.head for facts in results.measured}
    named = ", ".join(heads.get(name, name) for name in entry.unpooled)
    return f"Not pooled, as the runs do not have them alike: {named}." if named else ""


def first_words(results: Results) -> str:
    """What was declared as the first measure, where it is not on the board; else empty."""
    name = results.first_measure
    missing = name and all(facts.name != name for facts in results.measured)
    return f"{name}, declared as the first, is not measured here." if missing else ""


def difference_unit(facts: MeasureFacts) -> str:
    """What the difference of two values is in."""
    return "points" if facts.share else facts.unit


def difference_cell(contrast: MeasureContrast, facts: MeasureFacts) -> str:
    """first − second; of shares in points of a hundred."""
    if contrast.difference is None:
        return "none measured"
    return measure_value(contrast.difference, contrast.interval, facts.unit, "+")


def difference_short(
    contrast: MeasureContrast, facts: MeasureFacts, own: Collection[str] = (), ends: bool = False
) -> str:
    """The same in Markdown: in bold where the two are told apart. own: as for measure_words. ends: with its
    interval."""
    if contrast.difference is None:
        return "none measured"
    said = measure_value(contrast.difference, contrast.interval, facts.unit, "+", ends=ends)
    mark = f" {OWN_LOSS}" if contrast.better in own else ""
    return f"**{said}**{mark}" if contrast.distinguishable else said


def retention_cell(found: RetentionFacts) -> str:
    error = "" if found.standard_error is None else f" ± {found.standard_error:.3f}"
    return f"{found.value:.3f}{error}"


def slope_cell(control: LengthControl) -> str:
    """What each standard deviation more length is worth at equal length, in logits."""
    if control.coefficient is None or control.coefficient_interval is None:
        return ""
    low, high = control.coefficient_interval
    return f"{control.coefficient:+.2f} [{low:+.2f}, {high:+.2f}]"


def sampling_text(sampling: Sampling) -> str:
    top_p = "" if sampling.top_p == 1 else f", top-p {sampling.top_p:g}"
    return f"temperature {sampling.temperature:g}{top_p}, at most {sampling.max_new_tokens} tokens"


def setup_text(judge: JudgeFacts) -> str:
    """Model, server, template: what an answer depends on; empty where there is nothing to say."""
    return ", ".join(f"{name} {value}" for name, value in judge.setup.items())


def lengths(controls: Sequence[LengthFigures]) -> tuple[list[LengthFigures], list[str]]:
    """Length controls that have a rate, and the reasons of those that have none, each once with where it holds."""
    where: dict[str, list[str]] = {}
    for control in controls:
        if control.reason:
            where.setdefault(control.reason, []).append(f"{control.method} on {control.prompt_set}")
    every = len(controls)
    reasons = [
        f"{'everywhere' if len(places) == every else '; '.join(places)}: {reason}" for reason, places in where.items()
    ]
    return [control for control in controls if not control.reason], reasons


# Its Tables 2 and 3: two students of Mistral-7B, one of each of two judges' models; how far each judge's win rate of
# its own student lies above the mean of both judges', relative to that mean.
LEAKAGE = (
    "Judges favour students of what they are related to (preference leakage): in Li et al. (2025, arXiv 2502.01534) "
    "two judges' win rates of their own students lay above the mean of both by 24% of it where judge and teacher were "
    "one model, by 9% where of one series, by 3% where of two series of one vendor; by 24% after SFT, and 5% after DPO."
)

HARMED = "Further from the teacher than before training"


def harm_words(run: Results) -> str:
    """The rows that are, by which measure, where and by how much, without an end; empty where none is. Every row is
    there before any is there twice."""
    known = {facts.name: facts for facts in run.measured}
    places: Counter[str] = Counter()
    ordered = []
    for harm in sorted(run.harms, key=lambda harm: harm.measure != run.first_measure):
        ordered.append((places[harm.method], harm))
        places[harm.method] += 1
    shown = [harm for _, harm in sorted(ordered, key=lambda one: one[0])]
    sets = {entry.name for entry in run.prompt_sets}  # no table has a row of a domain
    kept = [harm for place, harm in enumerate(shown) if place < HARMS_AT_MOST or harm.scope not in sets]
    named = [_harm(harm, known[harm.measure], run) for harm in kept]
    rest = len(shown) - len(named)
    return "; ".join([*named, *([f"and {rest} more, which {HARM} marks in the tables"] if rest else [])])


def _harm(harm: Harm, facts: MeasureFacts, run: Results) -> str:
    """With one seed, or where nothing is known of what a seed moves, it is of checkpoints."""
    whose = harm.method
    if harm.seeds == 1 or all(one.measure != harm.measure for one in run.luck):
        whose = f"{'this checkpoint' if harm.seeds == 1 else 'these checkpoints'} of {whose}"
    by = measure_value(harm.difference or 0.0, harm.interval, facts.unit, "+")
    return f"{whose} by {facts.head}{_of_bounds(facts)} on {harm.scope}, {by} {difference_unit(facts)}"


def _of_bounds(facts: MeasureFacts) -> str:
    return "" if facts.bound == "exact" else " (bounds)"


OF_READERS = " Those judges read; of proxies no such figures are known."


def warnings(run: Results) -> list[tuple[str, str]]:
    """What a reader must know before any figure: (title, text)."""
    found = []
    if harmed := harm_words(run):
        found.append((f"{HARMED}:", f"{harmed}."))
    untold = [entry for entry in run.prompt_sets if entry.unranked == UNTOLD]
    if untold:
        named = first_named([entry.name for entry in untold], NAMED_AT_MOST)
        widest = max(untold, key=lambda entry: entry.detectable or 0.0)
        where = "There" if len(untold) == 1 else f"On {widest.name}"
        can = f"{where} {said}. " if (said := resolution(run, widest)) else ""
        found.append((f"No row is told from the next on {named}.", f"{can}The rows stand in no order of rates."))
    for entry in run.prompt_sets:
        if entry.unranked and entry not in untold:
            found.append((f"{entry.name} is not ranked.", f"{entry.unranked[:1].upper()}{entry.unranked[1:]}."))
    for entry in run.prompt_sets:
        if entry.left_out:
            found.append(
                ("Prompts are left out.", left_out_text(entry.left_out, entry.prompts, entry.name, "row") + ".")
            )
    silent = {
        "unparsable": sum(judge.unparsable for judge in run.judging),
        "failed": sum(judge.failed for judge in run.judging),
        "skipped": sum(judge.skipped for judge in run.judging),
    }
    if any(silent.values()):
        counts = ", ".join(f"{count} {status}" for status, count in silent.items() if count)
        total = sum(judge.verdicts for judge in run.judging)
        found.append(("Verdicts are missing.", f"Of {total}: {counts}. Their prompts are in no rate."))
    found += _proxies(run)
    if said := _relations(run.judges):
        # what is known is of judges that read
        proxies = "" if any(judge.relation and not judge.misses for judge in run.judges) else OF_READERS
        found.append(("Judge and teacher are related.", f"{said}. {LEAKAGE}{proxies}"))
    return found


def _proxies(run: Results) -> list[tuple[str, str]]:
    """Which judges do not read, and who does."""
    judges = [judge for judge in run.judges if judge.name not in SUMMARIES]
    proxies, others = ([judge.name for judge in judges if bool(judge.misses) == proxy] for proxy in (True, False))
    if not proxies:
        return []
    one, named, labels = len(proxies) == 1, ", ".join(proxies), labels_of(run)
    says = f"{'It says' if one else 'They say'} how much a student's responses resemble its teacher's, not how good"
    people = f"people read those of {labels.labels} outcomes, and their labels have a table below" if labels else ""
    if others:
        title = f"Not all judges read: {named} {'is a declared proxy' if one else 'are declared proxies'}."
        read = (
            f"{', '.join(others)} read{'s' if len(others) == 1 else ''} the responses{f'; {people}' if people else ''}"
        )
        return [(title, f"{says} they are. {read}.")]
    title = f"The judge is a declared proxy ({named})." if one else f"The judges are declared proxies ({named})."
    read = f"No model has read these responses; {people}" if people else _UNREAD
    return [(title, f"{read}. {says} they are.")]


_UNREAD = "No one, human or model, has read these responses"


def relation_words(run: Results) -> str:
    """How the judge that decides is related to the teacher, or which of a panel's are; empty where nothing is known."""
    judge = run.judge_named(run.judge)
    return f"of its judges, {said}" if judge.name in SUMMARIES and (said := _relations(run.judges)) else judge.relation


def _relations(judges: Sequence[JudgeFacts]) -> str:
    return "; ".join(f"{judge.name}: {judge.relation}" for judge in judges if judge.relation)


def left_out_text(left_out: Mapping[str, str], kept: int, name: str, where: str) -> str:
    """How many of a set's prompts count nowhere, which ones, and why."""
    count, (why, *_) = len(left_out), left_out.values()
    return (
        f"{count} of {count + kept} prompts of {name} got no answer from the teacher's server and are left out of "
        f"every {where}: {first_named(left_out, NAMED_AT_MOST)} ({'the first ' if count > 1 else ''}{why})"
    )


def facts(run: Results) -> list[tuple[str, str]]:
    """What the run was: (name, text)."""
    training, pruned = run.training, run.pruning
    student = f"{run.pair.student}, as it comes"
    if pruned:
        change = pruned.parameters / pruned.parameters_before - 1
        student = (
            f"{run.pair.student}, pruned from {pruned.parameters_before:,} to {pruned.parameters:,} "
            f"parameters ({change:+.1%}) before training"
        )
    samples = f"; {run.judge_samples} further teacher samples a prompt" if run.judge_samples else ""
    return [
        ("student", student),
        ("teacher", run.pair.teacher),
        ("judge", f"{run.judge}{samples}"),
        (
            "training",
            f"{training.prompts} prompts of {training.prompt_set}; teacher at "
            f"{sampling_text(training.sampling)} ({training.cut_share:.0%} of its responses cut)",
        ),
        ("evaluation", f"everyone at {sampling_text(run.evaluation.sampling)}"),
        *_matched(run),
        *_prepared(run),
        *(
            (
                "run" if len(run.runs) == 1 else f"run {number}",
                ", ".join(
                    [
                        f"seed {one.seed}",
                        *([point_words(one.point)] if one.point else []),
                        *(one.date, f"harness {one.harness}", one.name),
                    ]
                ),
            )
            for number, one in enumerate(run.runs, 1)
        ),
        *_stamps(run),
        *_differing(run),
    ]


def _matched(run: Results) -> list[tuple[str, str]]:
    """The rows whose tokens all others take, where one was named; of several runs each one's own."""
    named = list(dict.fromkeys(one.match for one in run.methods if one.match))
    if not named:
        return []
    whose = named[0] if len(named) == 1 else f"that of its own run ({', '.join(named)})"
    return [("budget", f"every row takes as many tokens as {whose}, both with those of their start")]


def _stamps(run: Results) -> list[tuple[str, str]]:
    """When contrasts were declared together, by the runs that have them, and when the first verdict or measure of their
    rows was begun."""
    began: dict[tuple[str, str, int | None], dict[str, list[str]]] = {}
    for stamp in run.stamps:
        dropped = stamp.dropped if stamp.early else 0  # else it is no matter
        began.setdefault((stamp.time, stamp.family, dropped), {}).setdefault(stamp.run, []).append(stamp.began)
    places = {one.name: number for number, one in enumerate(run.runs, 1)}
    found = []
    for (time, family, dropped), by_run in began.items():
        first = min((start for times in by_run.values() for start in times if start), default="")
        since = f"; the first verdict or measure of one of their rows is of {_to_the_second(first)}" if first else ""
        where = "" if len(run.runs) == 1 else f" of {runs_words([places[name] for name in by_run])}"
        lacking = "not known" if dropped is None else f"{dropped} of it left out since" if dropped else ""
        of = f"family {family[:12]}{f' ({lacking})' if lacking else ''}"
        found.append((f"contrasts{where}", f"stamped {_to_the_second(time)}, {of}{since}"))
    return found


def runs_words(numbers: Sequence[int]) -> str:
    """Runs by their numbers; those that follow one another as from … to."""
    said: list[list[int]] = []
    for number in sorted(numbers):
        if said and number == said[-1][-1] + 1:
            said[-1].append(number)
        else:
            said.append([number])
    parts = [f"{part[0]}–{part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in said]
    return f"run{'s' if len(numbers) > 1 else ''} {', '.join(parts)}"


def commands(run: Results) -> list[tuple[str, str]]:
    """What reproduces the runs: those of each command, and the command. One that is the same for all is once there."""
    found: dict[str, list[int]] = {}
    for number, one in enumerate(run.runs, 1):
        found.setdefault(one.command, []).append(number)
    return [("" if len(found) == 1 else runs_words(numbers), command) for command, numbers in found.items()]


def _differing(run: Results) -> list[tuple[str, str]]:
    """What several runs named differently, or did not train on alike."""
    grid = all(one.point for one in run.runs)
    why = (
        "none: its rows are others at each point of the grid, so that each point has a primary contrast of its own"
        if grid
        else "none: the runs that have its rows name different ones, or not all name one"
    )
    said = {
        "primary": ("primary contrast", why),
        "margin": ("margin", "none: the runs name different ones, or not all name one"),
        "search": ("settings", "the runs were not tuned alike, or not all were: each one's own board says how"),
        "training": (
            "other training prompts",
            "what is said of them above is of run 1; rows are named by what differs",
        ),
    }
    return [said[what] for what in run.differing]


def _to_the_second(time: str) -> str:
    return re.sub(r"\.\d+", "", time)


def provenance(entry: SetFacts) -> str:
    """Where a prompt set is from, and what training saw of it."""
    parts = [f"from {entry.source}"] if entry.source else []
    if entry.duplicates:
        parts.append(f"{entry.duplicates} duplicates removed")
    if found := entry.overlap:
        parts.append(
            f"{found.exact} of its prompts are training prompts, {found.shared} share eight words in a row with them"
        )
    return "; ".join(parts)


def _prepared(run: Results) -> list[tuple[str, str]]:
    """What was done to the training data that a reader should know."""
    cut = max((method.facts.prompts_cut for method in run.methods), default=0)
    training, found = run.training, []
    if training.left_out:
        text = left_out_text(training.left_out, training.prompts, training.prompt_set, "training")
        found.append(("prompts left out", text))
    if cut:
        limit = run.configured.max_prompt_tokens
        found.append(("prompts cut", f"{cut} training prompts lost their beginning: max_prompt_tokens = {limit}"))
    if any(method.facts.retokenised for method in run.methods):
        found.append(("tokenizers", "student and teacher have two: responses of one were split anew for the other"))
    if dropping := [method for method in run.methods if method.facts.dropout]:
        rates = {f"{name} {rate:g}": None for method in dropping for name, rate in method.facts.dropout.items()}
        on = [method.name for method in dropping if method.facts.dropout_on]
        off = [method.name for method in dropping if not method.facts.dropout_on]
        said = [f"on while {', '.join(on)} trained"] if on else []
        said += [f"off for {', '.join(off)}"] if off else []
        found.append(("dropout", f"the student's checkpoint has {', '.join(rates)}: {'; '.join(said)}"))
    return found
