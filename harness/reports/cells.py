"""How results are said in words: shared by the board, the report and what commands print."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import floor, log10

from harness.core.units import first_named
from harness.generation.protocol import Sampling
from harness.measures.measure import Bound, direction, is_share
from harness.reports.measured import own_losses
from harness.results.schema import (
    ContrastFigures,
    Disagreement,
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
from harness.statistics.length import LengthControl
from harness.statistics.rates import Interval
from harness.statistics.summary import Ranked, SetContrast

KINDS = {"ceiling": "ceiling", "untrained": "start", "control": "control", "method": "method", "teacher": "teacher"}
BOUNDS: dict[Bound, str] = {"exact": "", "lower": "≥ ", "upper": "≤ "}
OWN_LOSS = "†"  # a row that was trained to minimise the very measure
OWN_LOSS_SAID = f"{OWN_LOSS} its training minimises this measure, at temperature 1, on other prompts."
BOUNDS_SAID = "≥ and ≤ mark bounds, as a server gave the teacher's likeliest tokens alone"
NO_BOUND = "A difference of two bounds is no bound of the difference."
NOWHERE = "No declared pair is told apart in opposite orders, by measures or by a measure and the judge."
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
    size = row.spread * (100 if facts.share else 1)
    return _spread(f"{size:.{min(MOST_DIGITS, _two_figures(size)) if size else 1}f}", runs)


def _spread(shown: str | None, runs: int) -> str:
    counted = f"({runs} run{'' if runs == 1 else 's'})"
    return counted if shown is None else f"{shown} {counted}"


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


def whom(results: Results) -> str:
    """Whom contrasts speak of."""
    seeds = len({one.seed for one in results.runs})
    if seeds == 1:
        return "One seed: these are checkpoints, not methods."
    return f"What is found is of these {seeds} seeds, which the test holds fixed."


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


def difference_short(contrast: MeasureContrast, facts: MeasureFacts, own: Collection[str] = ()) -> str:
    """The same in Markdown without its interval: in bold where the two are told apart. own: as for measure_words."""
    if contrast.difference is None:
        return "none measured"
    said = measure_value(contrast.difference, contrast.interval, facts.unit, "+", ends=False)
    mark = f" {OWN_LOSS}" if contrast.better in own else ""
    return f"**{said}**{mark}" if contrast.distinguishable else said


def measure_words(contrast: MeasureContrast, facts: MeasureFacts, own: Collection[str] = ()) -> str:
    """What a declared contrast found in a measure. own: the rows whose training minimises it."""
    if contrast.difference is None:
        return "no prompt was measured for both"
    if not contrast.distinguishable:
        return f"not told apart{by_the_bound(facts)}"
    if not contrast.better:
        return f"{contrast.first if contrast.difference > 0 else contrast.second} has more{by_the_bound(facts)}"
    near = facts.group == "fidelity" and facts.by_token  # a distance, or an agreement, token by token
    mark = f" ({OWN_LOSS})" if contrast.better in own else ""
    return f"{contrast.better} is {'nearer to the teacher' if near else 'better'}{by_the_bound(facts)}{mark}"


def disagreement_words(found: Disagreement, results: Results) -> str:
    """Two rows, and by which measures, or the judge, each is the better one."""
    heads = {facts.name: facts.head for facts in results.measured}

    def listed(names: Sequence[str], row: str) -> str:
        said = [heads.get(name, f"the judge ({name})") for name in names]
        own = [f" {OWN_LOSS}" if row in own_losses(results, name) else "" for name in names]
        return ", ".join(map("".join, zip(said, own, strict=True)))

    return (
        f"{found.first} against {found.second} on {found.scope}: {found.first} is better by "
        f"{listed(found.for_first, found.first)}; {found.second} by {listed(found.for_second, found.second)}"
    )


def retention_cell(found: RetentionFacts) -> str:
    error = "" if found.standard_error is None else f" ± {found.standard_error:.3f}"
    return f"{found.value:.3f}{error}"


def contrast_words(contrast: ContrastFigures | SetContrast) -> str:
    """What a declared contrast found."""
    if contrast.difference is None:
        return "no prompt was judged for both"
    if not contrast.distinguishable:
        return "not told apart"
    return f"{contrast.first if contrast.difference > 0 else contrast.second} is better"


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


def warnings(run: Results) -> list[tuple[str, str]]:
    """What a reader must know before any figure: (title, text)."""
    found = []
    for entry in run.prompt_sets:
        if entry.unranked:
            found.append((f"{entry.name} is not ranked.", f"{entry.unranked}."))
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
    proxies = [judge.name for judge in run.judges if judge.misses]
    if proxies:
        found.append(
            (
                f"The judge is a declared proxy ({', '.join(proxies)}).",
                "No one, human or model, has read these responses. It says how much a student's responses resemble "
                "its teacher's, not how good they are.",
            )
        )
    related = [judge for judge in run.judges if judge.relation]
    if related:
        said = "; ".join(f"{judge.name}: {judge.relation}" for judge in related)
        reading = not all(judge.misses for judge in related)
        found.append(("Judge and teacher are related.", f"{said}.{f' {LEAKAGE}' if reading else ''}"))
    return found


def left_out_text(left_out: Mapping[str, str], kept: int, name: str, where: str) -> str:
    """How many of a set's prompts count nowhere, which ones, and why."""
    count, (why, *_) = len(left_out), left_out.values()
    return (
        f"{count} of {count + kept} prompts of {name} got no answer from the teacher's server and are left out of "
        f"every {where}: {first_named(left_out, NAMED_AT_MOST)} ({'the first ' if count > 1 else ''}{why})"
    )


def _seeds(count: int) -> str:
    return "is one seed" if count == 1 else f"are {count} seeds"


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
        *_prepared(run),
        *(
            (
                "run" if len(run.runs) == 1 else f"run {number}",
                f"seed {one.seed}, {one.date}, harness {one.harness}, {one.name}",
            )
            for number, one in enumerate(run.runs, 1)
        ),
    ]


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
