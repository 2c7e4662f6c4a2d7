"""How results are said in words: shared by the board, the report and what commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.core.units import first_named
from harness.generation.protocol import Sampling
from harness.results.figures import RANKABLE_PROMPTS
from harness.results.schema import (
    ContrastFigures,
    JudgeFacts,
    LengthFigures,
    Results,
    Row,
    SetFacts,
)
from harness.run.jobs import NAMED_AT_MOST
from harness.statistics.agreement import Agreement
from harness.statistics.length import LengthControl
from harness.statistics.summary import Ranked, SetContrast

KINDS = {"ceiling": "ceiling", "untrained": "start", "control": "control", "method": "method"}


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
    counted = f"({row.judged_in} run{'' if row.judged_in == 1 else 's'})"
    return counted if row.spread is None else f"{100 * row.spread:.1f} {counted}"


def kappa_cell(pair: Agreement) -> str:
    if pair.kappa is None:
        return "undefined"
    interval = pair.kappa_interval
    return f"{pair.kappa:.2f}" + ("" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]")


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
                f"points are noise. This run demonstrates the road; {rows} in a fixed order.",
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
