"""How results are said in words: shared by the board, the report and what commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, log10

from harness.core.units import first_named
from harness.generation.protocol import Sampling
from harness.measures.measure import Bound
from harness.results.figures import RANKABLE_PROMPTS
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
from harness.statistics.summary import Ranked, SetContrast

KINDS = {"ceiling": "ceiling", "untrained": "start", "control": "control", "method": "method", "teacher": "teacher"}
BOUNDS: dict[Bound, str] = {"exact": "", "lower": "≥ ", "upper": "≤ "}
OWN_LOSS = "†"  # a row that was trained to minimise the very measure


def rate_cell(rate: float | None, interval: Sequence[float] | None, signed: bool = False) -> str:
    if rate is None or interval is None:
        return "none judged"
    return _points(rate, interval, "+" if signed else "", "%")


def points_cell(difference: float | None, interval: Sequence[float] | None) -> str:
    """A difference of two rates, in points of a hundred."""
    if difference is None or interval is None:
        return "none judged"
    return _points(difference, interval, "+", "")


def _points(value: float, interval: Sequence[float], sign: str, unit: str) -> str:
    """In hundredths, with as many digits as it takes for the interval to have a width."""
    digits = next((d for d in (1, 2, 3) if f"{100 * interval[0]:.{d}f}" != f"{100 * interval[1]:.{d}f}"), 4)
    # z: what rounds to zero has no minus
    shown, low, high = (f"{100 * number:{sign}z.{digits}f}" for number in (value, *interval))
    return f"{shown}{unit} [{low}, {high}]"


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
    size = row.spread * (100 if is_share(facts.unit) else 1)
    return _spread(f"{size:.{_two_figures(size) if size else 1}f}", runs)


def _spread(shown: str | None, runs: int) -> str:
    counted = f"({runs} run{'' if runs == 1 else 's'})"
    return counted if shown is None else f"{shown} {counted}"


def kappa_cell(pair: Agreement) -> str:
    if pair.kappa is None:
        return "undefined"
    interval = pair.kappa_interval
    return f"{pair.kappa:.2f}" + ("" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]")


def is_share(unit: str) -> bool:
    """Whether a measure's values are shown in percent."""
    return unit.startswith("share")


def measure_value(value: float, interval: Sequence[float] | None, unit: str, sign: str = "", ends: bool = True) -> str:
    """A value with its interval, or without, with as many digits as say two figures of the interval's width; nats have
    three decimals at least, all else has one."""
    factor, percent = (100.0, "" if sign else "%") if is_share(unit) else (1.0, "")
    digits = 3 if unit.startswith("nats") else 1
    if interval is not None and interval[1] > interval[0]:
        digits = max(_two_figures(factor * (interval[1] - interval[0])), digits)
    shown = f"{factor * value:{sign}z.{digits}f}{percent}"
    if interval is None or not ends:
        return shown
    low, high = (f"{factor * end:{sign}z.{digits}f}" for end in interval)
    return f"{shown} [{low}, {high}]"


def _two_figures(size: float) -> int:
    """The decimals that say two figures of a size above zero."""
    return min(6, max(0, 1 - floor(log10(size))))


def measure_cell(row: MeasureRow | None, facts: MeasureFacts, ends: bool = True) -> str:
    """A measure of a system; with a mark where it is a bound, and where the system was trained on it."""
    if row is None or row.value is None:
        return ""
    bound = BOUNDS[facts.bound] if row.kind != "teacher" else ""
    own = f" {OWN_LOSS}" if row.own_loss else ""
    return f"{bound}{measure_value(row.value, row.interval, facts.unit, ends=ends)}{own}"


def difference_unit(facts: MeasureFacts) -> str:
    """What the difference of two values is in."""
    return "points" if is_share(facts.unit) else facts.unit


def difference_cell(contrast: MeasureContrast, facts: MeasureFacts) -> str:
    """first − second; of shares in points of a hundred."""
    if contrast.difference is None:
        return "none measured"
    return measure_value(contrast.difference, contrast.interval, facts.unit, "+")


def difference_short(contrast: MeasureContrast, facts: MeasureFacts) -> str:
    """The same in Markdown without its interval: in bold where the two are told apart."""
    if contrast.difference is None:
        return "none measured"
    said = measure_value(contrast.difference, contrast.interval, facts.unit, "+", ends=False)
    return f"**{said}**" if contrast.distinguishable else said


def measure_words(contrast: MeasureContrast, facts: MeasureFacts) -> str:
    """What a declared contrast found in a measure."""
    if contrast.difference is None:
        return "no prompt was measured for both"
    if not contrast.distinguishable:
        return "not told apart"
    if not contrast.better:
        return f"{contrast.first if contrast.difference > 0 else contrast.second} has more"
    near = facts.group == "fidelity" and "token" in facts.unit  # a distance, or an agreement, token by token
    return f"{contrast.better} is {'nearer to the teacher' if near else 'better'}"


def disagreement_words(found: Disagreement, results: Results) -> str:
    """Two rows, and by which measures, or the judge, each is the better one."""
    heads = {facts.name: facts.head for facts in results.measured}

    def listed(names: Sequence[str]) -> str:
        return ", ".join(heads.get(name, f"the judge ({name})") for name in names)

    return (
        f"{found.first} against {found.second} on {found.scope}: {found.first} is better by "
        f"{listed(found.for_first)}; {found.second} by {listed(found.for_second)}"
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
    """What one standard deviation more length is worth, in logits."""
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


def warnings(run: Results) -> list[tuple[str, str]]:
    """What a reader must know before any figure: (title, text)."""
    found = []
    smallest = min((row.prompts for row in run.rows if row.judge == run.judge), default=0)
    seeds = len({one.seed for one in run.runs})
    if smallest < RANKABLE_PROMPTS:
        some = any(not entry.unranked for entry in run.prompt_sets)
        rows = f"rows of sets below {RANKABLE_PROMPTS} stand" if some else "rows stand"
        found.append(
            (
                "Too small to rank.",
                f"The smallest set has {smallest} judged prompts and there {_seeds(seeds)}: differences of tens of "
                f"points in the judge's rates are noise. This run demonstrates the road; {rows} in a fixed order.",
            )
        )
    for entry in run.prompt_sets:
        lacking = [row for row in run.rows_of(entry.name) if row.prompts < RANKABLE_PROMPTS]
        if entry.unranked and not lacking:
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
