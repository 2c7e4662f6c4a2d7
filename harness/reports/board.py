"""leaderboard.md: a pure function of results."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.core.records import plain
from harness.measures.measure import Group
from harness.reports import columns as c
from harness.reports import measured as m
from harness.reports.cells import (
    KINDS,
    OWN_LOSS,
    difference_short,
    difference_unit,
    disagreement_words,
    facts,
    is_share,
    lengths,
    measure_cell,
    provenance,
    retention_cell,
    setup_text,
    warnings,
)
from harness.reports.columns import Column, markdown
from harness.reports.measured import Measured
from harness.results.schema import MeasureContrast, MeasureFacts, Results, RetentionFacts, Row, SetFacts

WITH_ENDS = 3  # fidelity columns that have their intervals on the board; all have them in the report
AT_MOST: Mapping[Group, int] = {"fidelity": 7, "text": 6}  # columns of measures on the board; the report has them all
NEARLY_SAID = ("ended", "distinct_1")  # measures that others of the board nearly say: in the report alone
TASKS_AT_MOST = 6  # columns of a table of retention

_LEGEND = """\
Students against their teacher on prompts that training never saw. **Preference rate** is (wins − losses) / N, ties
counting 0: 0 is parity with the teacher, negative is worse. Brackets hold 95% intervals: a bootstrap over prompts, or
Wilson's where all outcomes are alike; they do not cover another seed or judge. *Missing* prompts have a failed or
unparsable verdict and are not in N. *Flips* are prompts where the judge contradicts itself when the responses change
places: they are ties. *Rank* is a range where no row can be told from the next; its first and last may well differ: the
contrasts say. Formulas: [docs/statistics.md](docs/statistics.md).
"""
_MEASURED = f"""\
**Fidelity** asks no judge: at each token of a held-out response, how far is the student's distribution from the
teacher's? Both are read at the temperature that drew the responses. The teacher itself would have a KL of 0 and agree
with itself in 100%; its own NLL is its entropy, below which no student comes on average. {OWN_LOSS} marks a row whose
training minimises that very measure, on other prompts: it is at home there. ≥ and ≤ mark bounds, where a server gave
the teacher's likeliest tokens alone. **Text and cost**: what the responses are like, the teacher's own first, and what
a row took with all that it rests on, as if nothing were shared. Each measure, what it misses and how to read it beside
a judge: [docs/measures.md](docs/measures.md).
"""


def board_markdown(runs: Sequence[Results]) -> str:
    """The board of one or several results, each in a section of its own: rows of different kinds share no table."""
    head = "# Leaderboard\n\n"
    if not runs:
        return head + "No run is recorded yet: `python -m harness record RUN_DIR`.\n"
    legend = _LEGEND + (f"\n{_MEASURED}" if any(run.measures for run in runs) else "")
    return head + legend + "\n" + "\n".join(_section(Results.model_validate(_in_lines(plain(run)))) for run in runs)


def _in_lines(data: Any) -> Any:
    """The same, with no line break in any text: a name cannot add a line to the board."""
    if isinstance(data, str):
        return " ".join(data.splitlines())
    if isinstance(data, dict):
        return {_in_lines(key): _in_lines(value) for key, value in data.items()}
    return [_in_lines(value) for value in data] if isinstance(data, list | tuple) else data


def _code(text: str) -> str:
    """In backticks, more of them than the text has in a row."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks} {text} {ticks}" if "`" in text else f"`{text}`"


def _section(run: Results) -> str:
    pair = run.pair
    parts = [f"## {pair.student}, taught by {pair.teacher}", _banner(run), _facts(run)]
    parts += [_prompt_set(run, entry) for entry in run.prompt_sets]
    parts += [_contrasts(run), _measure_contrasts(run), _disagreements(run), _retention(run), _length(run)]
    parts += [_other_rates(run), _judges(run), _measures(run), _methods(run)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _banner(run: Results) -> str:
    return "\n>\n".join(f"> **{title}** {text}" for title, text in warnings(run))


def _facts(run: Results) -> str:
    lines = [f"- {name}: {text}" for name, text in facts(run)]
    commands = "; ".join(_code(one.command) for one in run.runs)
    return "\n".join([*lines, f"- to reproduce: {commands} (every setting: config.yaml of the record)"])


def _prompt_set(run: Results, entry: SetFacts) -> str:
    domain = "in-domain" if entry.in_domain else "out-of-domain"
    judge = run.judge_named(run.judge)
    tokens, cut = (column.cell(entry.teacher).text or "?" for column in (c.TOKENS, c.CUT))
    setup = f" ({setup_text(judge)})" if judge.setup else ""
    misses = f", a proxy: it misses {judge.misses}" if judge.misses else ""
    parts = [
        f"### {entry.name} ({domain}, {entry.prompts} prompts)",
        f"Judge: {judge.name}{setup}{misses}. The teacher's responses: {tokens} tokens, {cut} cut.{_origin(entry)}",
        _set_table(run, run.rows_of(entry.name)),
        f"No fidelity here: {entry.unmeasured}." if entry.unmeasured else "",
        _fidelity(run, entry),
        _text(run, entry),
    ]
    return "\n\n".join(part for part in parts if part)


def _origin(entry: SetFacts) -> str:
    said = provenance(entry)
    return f" The prompts: {said}." if said else ""


def _set_table(run: Results, rows: Sequence[Row]) -> str:
    return markdown(
        [
            *([c.RANK] if any(row.rank for row in rows) else []),
            c.KIND.named(""),
            c.METHOD,
            c.PREFERENCE,
            *([c.SPREAD] if len(run.runs) > 1 else []),
            c.OUTCOMES,
            c.N_AND_PROMPTS,
            c.MISSING,
            *([c.FLIPS] if any(row.flips.n for row in rows) else []),
            *([] if m.of_group(run, "text") else [c.TOKENS, c.CUT]),
        ],
        rows,
    )


def _fidelity(run: Results, entry: SetFacts) -> str:
    rows = m.students(run, entry.name, "fidelity")
    shown, more = _shown(run, "fidelity", rows)
    if not shown:
        return ""
    first, teacher = shown[0], m.of_teacher(run, entry, "fidelity")
    most = max((row.values[first.name] for row in rows if first.name in row.values), key=lambda row: row.count)
    own = [f"{one.head} {measure_cell(teacher[one.name], one)}" for one in shown if one.name in teacher]
    said = [
        f"Fidelity to the teacher, both at temperature {run.evaluation.sampling.temperature:g}{_units(shown)}",
        f"A row's {first.head} is a mean over {most.count:,} tokens of {most.prompts} prompts",
        *([f"The teacher's own {', '.join(own)}"] if own else []),
        *more,
    ]
    columns: list[Column[Any]] = [c.measure(one, ends=place < WITH_ENDS) for place, one in enumerate(shown)]
    if len(run.runs) > 1:
        columns.insert(1, c.measure_spread(first))
    return f"{'. '.join(said)}.\n\n{markdown([_KIND, c.METHOD, *columns], rows)}"


def _shown(run: Results, group: Group, rows: Sequence[Measured]) -> tuple[list[MeasureFacts], list[str]]:
    """The measures of a group that have a column on the board, and in words which others there are."""
    found = m.present(m.of_group(run, group), rows)
    shown = [one for one in found if one.name not in NEARLY_SAID][: AT_MOST[group]] or found
    more = [one.head for one in found if one not in shown]
    return shown, [f"In the report too: {', '.join(more)}"] if more else []


def _units(shown: Sequence[MeasureFacts]) -> str:
    """The units that no sign in a cell says, each with what is in it."""
    heads: dict[str, list[str]] = {}
    for one in shown:
        if one.unit and not is_share(one.unit):
            heads.setdefault(one.unit, []).append(one.head)
    return "".join(f"; {', '.join(names)} in {unit}" for unit, names in heads.items())


_KIND: Column[Row | Measured] = c.KIND.named("")


def _text(run: Results, entry: SetFacts) -> str:
    rows = m.systems(run, entry.name, "text")
    shown, more = _shown(run, "text", rows)
    costs = [column for column in _COSTS if any(column.cell(row).text for row in rows)]
    if not shown and not costs:
        return ""
    said = [" and ".join([*(["text"] if shown else []), *(["cost"] if costs else [])]).capitalize(), *more]
    columns = [c.measure(one, ends=False) for one in shown]
    return f"{'. '.join(said)}.\n\n{markdown([_KIND, c.METHOD, *columns, *costs], rows)}"


_COSTS = [c.of_cost(column) for column in (c.TRAINED_IN_ALL, c.SECONDS, c.PEAK_MEMORY)]


def _contrasts(run: Results) -> str:
    if not run.contrasts:
        return ""
    columns: list[Column[Any]] = [c.PAIR, c.SCOPE, c.difference(), c.P, c.P_HOLM, c.JUDGED, c.LEFT_OUT, c.FINDING]
    return (
        "### Method against method\n\n"
        "Declared before the run: differences of preference rate on the same prompts, with a sign-flip test. p is "
        "corrected (Holm) over all contrasts on single sets, and over those on whole domains; left out are prompts "
        f"that were not judged for both.\n\n{markdown(columns, run.contrasts)}"
    )


def _measure_contrasts(run: Results) -> str:
    """The first measure's contrasts whole, those of the other fidelity measures in a table of a line each."""
    compared = m.compared(run)
    if not compared:
        return ""
    first, others = compared[0], [one for one in compared[1:] if one.group == "fidelity"]
    columns: list[Column[Any]] = [
        *(c.PAIR, c.SCOPE, c.measure_difference(first), c.P, c.P_HOLM),
        *(c.JUDGED, c.LEFT_OUT, c.measure_finding(first)),
    ]
    rows = m.contrasts_of(run, first.name)
    parts = [
        f"The same pairs by {first.head}, the measure that was declared as the first ({first.unit}, "
        f"{_better(first)}; in its test the two change places prompt by prompt):",
        markdown(columns, rows),
    ]
    if others:
        parts.append(
            "And by the others: first − second, in bold where the two are told apart (each measure is a family of "
            f"Holm's of its own). {_ways(others)}. Intervals, and what is "
            "measured of texts, are in the report."
        )
        parts.append(markdown([c.PAIR, c.SCOPE, *(_found(run, one) for one in others)], rows))
    return "\n\n".join(parts)


def _ways(shown: Sequence[MeasureFacts]) -> str:
    """Each unit and direction, with the measures of it."""
    heads: dict[str, list[str]] = {}
    for one in shown:
        heads.setdefault(f"{difference_unit(one)}, {_better(one)}", []).append(one.head)
    return "; ".join(f"{', '.join(names)}: {way}" for way, names in heads.items())


def _better(facts: MeasureFacts) -> str:
    return "no way is better" if facts.better == "neither" else f"{facts.better} is better"


def _found(run: Results, facts: MeasureFacts) -> Column[MeasureContrast]:
    """What a measure has of another one's contrast."""
    known = {(one.first, one.second, one.scope): one for one in m.contrasts_of(run, facts.name)}

    def said(row: MeasureContrast) -> str:
        found = known.get((row.first, row.second, row.scope))
        return "" if found is None else difference_short(found, facts)

    return c.column(facts.head, said)


def _disagreements(run: Results) -> str:
    if not run.disagreements:
        return ""
    lines = "\n".join(f"- {disagreement_words(found, run)}" for found in run.disagreements)
    return (
        "### Where measures disagree\n\n"
        "Pairs that two instruments tell apart, each the other way round: they ask different things, and neither "
        f"order is the methods' order.\n\n{lines}"
    )


def _retention(run: Results) -> str:
    """What models still can: a row a model, a column a task and metric."""
    if not run.retention:
        return ""
    by_model: dict[str, dict[tuple[str, str], RetentionFacts]] = {}
    for found in run.retention:
        by_model.setdefault(found.method, {})[found.task, found.metric] = found
    tasks = {(found.task, found.metric): found for found in run.retention}
    parts = [
        "### What the models still can\n\n"
        "By tasks of lm-evaluation-harness, with its standard errors over their documents; the teacher and the "
        "untrained student beside."
    ]
    for start in range(0, len(tasks), TASKS_AT_MOST):
        columns = [_task(found) for found in list(tasks.values())[start : start + TASKS_AT_MOST]]
        parts.append(markdown([_RETAINED_KIND, _RETAINED, *columns], list(by_model.values())))
    return "\n\n".join(parts)


def _task(task: RetentionFacts) -> Column[Mapping[tuple[str, str], RetentionFacts]]:
    way = {True: ", higher is better", False: ", lower is better", None: ""}[task.higher_is_better]
    key = (task.task, task.metric)
    return c.column(
        f"{task.task}: {task.metric} (n = {task.n}{way})", lambda row: retention_cell(row[key]) if key in row else ""
    )


_RETAINED_KIND: Column[Mapping[tuple[str, str], RetentionFacts]] = c.column(
    "", lambda row: KINDS[next(iter(row.values())).kind]
)
_RETAINED: Column[Mapping[tuple[str, str], RetentionFacts]] = c.column(
    "method", lambda row: next(iter(row.values())).method
)


def _length(run: Results) -> str:
    controlled, reasons = lengths(run.length)
    parts = ["### How much of it is length"]
    if controlled:
        units = [c.lengths_in(unit) for unit in dict.fromkeys(control.unit for control in controlled)]
        parts.append(markdown([c.METHOD, c.PROMPT_SET, *units, c.AS_IT_IS, c.CONTROLLED, c.SLOPE], controlled))
    parts += [f"Not modelled, {reason}." for reason in reasons]
    return "\n\n".join(parts) if len(parts) > 1 else ""


def _other_rates(run: Results) -> str:
    rows = [row for entry in run.prompt_sets for row in run.rows_of(entry.name)]
    columns: list[Column[Any]] = [
        *(c.METHOD, c.PROMPT_SET, c.WIN, c.HALF_TIE, c.MEAN_PREFERENCE),
        *(c.ORDERS, c.FAILED, c.IDENTICAL),
    ]
    return (
        "### The same verdicts by other rates\n\n"
        "The win rate is wins / N: ties are not wins. The half-tie win rate is (wins + ties / 2) / N, the mean "
        "preference that of the judge's own strengths: 50% is parity. Orders: *both* were judged, or the judge sees "
        "*none*. Identical responses are ties that no judge was asked about.\n\n"
        f"{markdown(columns, rows)}"
    )


def _judges(run: Results) -> str:
    lines = []
    for judge in run.judges:
        setup = f" ({setup_text(judge)})" if judge.setup else ""
        misses = f" A proxy; it misses {judge.misses}." if judge.misses else ""
        lines.append(f"- **{judge.name}**{setup}: {judge.summary}.{misses}")
    parts = ["### The judges" if len(run.judges) > 1 else "### The judge", "\n".join(lines)]
    parts.append(markdown(_JUDGING, run.judging))
    alone = [judge.name for judge in run.judges if judge.name != run.judge]
    if alone:
        parts.append(f"Preference rates by each judge beside {run.judge} (with what it misses as above):")
        parts.append(_alone_table(run, alone))
    if run.agreement:
        parts.append(
            "Agreement of the judges on win, tie and loss, all rows and sets together; the interval of Cohen's κ "
            "resamples prompts, each with all its rows:"
        )
        parts.append(markdown([c.JUDGES, c.KAPPA, c.SAME, c.UNSHARED, c.NOTE], run.agreement))
    return "\n\n".join(parts)


_JUDGING: list[Column[Any]] = [c.JUDGE, c.VERDICTS, *c.STATUS, c.ALIKE, c.TIES_OF, c.CONTRADICTS, c.TRUNCATED, c.FORMS]


def _alone_table(run: Results, judges: list[str]) -> str:
    sets = [prompt_set.name for prompt_set in run.prompt_sets]
    known = {(row.method, row.prompt_set, row.judge): row for row in run.rows}

    def by(judge: str, prompt_set: str) -> Column[Row]:
        def said(row: Row) -> str:
            mine = known.get((row.method, prompt_set, judge))
            return c.PREFERENCE.cell(mine).text if mine else "none judged"

        return c.column(f"{judge}, {prompt_set}", said)

    columns: list[Column[Row]] = [c.METHOD, *(by(judge, name) for name in sets for judge in judges)]
    return markdown(columns, run.rows_of(sets[0]))


def _measures(run: Results) -> str:
    if not run.measured:
        return ""
    lines = [f"- **{one.head}** ({_reading(one)}): {one.summary}. Misses: {one.misses}." for one in run.measured]
    return "### The measures\n\n" + "\n".join(lines)


def _reading(facts: MeasureFacts) -> str:
    bound = {"exact": "", "lower": "; here a lower bound", "upper": "; here an upper bound"}[facts.bound]
    return f"{facts.unit}; {_better(facts)}{bound}" if facts.unit else f"{_better(facts)}{bound}"


def _methods(run: Results) -> str:
    columns = [
        c.trained(),
        c.START,
        c.LEARNING_RATE,
        c.EPOCHS,
        c.BATCH,
        c.STEPS,
        c.TRAINED_TOKENS,
        c.OWN_SETTINGS,
        c.CONTROL_OF,
    ]
    return "### What was trained\n\n" + markdown(columns, run.methods)
