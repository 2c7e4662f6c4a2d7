"""leaderboard.md: a pure function of results."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from harness.core.escape import plain as as_text
from harness.core.records import plain
from harness.measures.measure import Group, direction
from harness.reports import columns as c
from harness.reports import labels, searched
from harness.reports import measured as m
from harness.reports.cells import (
    BOUNDS_SAID,
    HARM_SAID,
    NO_BOUND,
    NOWHERE,
    OWN_LOSS,
    between,
    by_the_bound,
    commands,
    difference_short,
    difference_unit,
    facts,
    first_words,
    lengths,
    measure_cell,
    measure_terms,
    points_cell,
    provenance,
    relation_words,
    resolution,
    retention_cell,
    setup_text,
    spread_legend,
    temperatures,
    unpooled_words,
    warnings,
)
from harness.reports.columns import Column, markdown
from harness.reports.findings import (
    CHOSEN,
    DECLARED,
    FAMILIES,
    POWER,
    VERSUS,
    Whom,
    declared_words,
    disagreement_words,
    luck_of,
    luck_words,
    mark_of,
    mixed,
    power_words,
    primaries,
    primary_words,
    whom_words,
)
from harness.reports.grids import study_words
from harness.reports.measured import Measured
from harness.results.schema import (
    ContrastFigures,
    FoundFacts,
    LengthFigures,
    MeasureContrast,
    MeasureFacts,
    Results,
    RetentionFacts,
    Row,
    SetFacts,
)

C = TypeVar("C", ContrastFigures, MeasureContrast)

WITH_ENDS = 3  # fidelity columns that have their intervals on the board; all have them in the report
AT_MOST: Mapping[Group, int] = {"fidelity": 7, "text": 6}  # columns of measures on the board; the report has them all
TASKS_AT_MOST = 6  # columns of a table of retention

_LEGEND = """\
Students against their teacher on prompts that training never saw. **Preference rate** is (wins − losses) / N, ties
counting 0: 0 is parity with the teacher, negative is worse. Brackets hold 95% intervals over prompts. **A row's own
hold its checkpoints fixed**, and cover neither another seed nor another judge; that two of them overlap says nothing
of a difference: contrasts do. *Missing* prompts have a failed or unparsable verdict and are not in N. *Flips* are
prompts where the judge contradicts itself when it sees the two responses in the other order: they are ties. *Rank* is
a range where no row can be told from the next; its first and last may well differ. Formulas:
[docs/statistics.md](docs/statistics.md).
"""
_FIDELITY = (
    "**Fidelity** asks no judge: at each token of a held-out response, how far is the student's distribution from the "
    "teacher's? Both are read at the temperature that drew the responses. The teacher itself would have a KL of 0 and "
    "agree with itself in 100%; its own NLL is its entropy, below which no student comes on average."
)
_OWN_LOSS = (
    f"{OWN_LOSS} marks a row whose training minimises this measure, at temperature 1, on other prompts: it is at home "
    "there."
)
_TEXT = "**Text**: what the responses are like, the teacher's own first."
_COST = (
    "**Cost**: what a row took with all that it rests on, in tokens and in seconds of the machine that made it, as if "
    "nothing were shared; peak memory is of its own training alone, on a CPU of the whole process."
)
_FINDINGS = "Findings follow p after Holm, which may say less than an interval."
_PAGE = "Each measure, what it misses and how to read it beside a judge: [docs/measures.md](docs/measures.md)."


def board_markdown(runs: Sequence[Results]) -> str:
    """The board of one or several results, each in a section of its own: rows of different kinds share no table."""
    head = "# Leaderboard\n\n"
    if not runs:
        return head + "No run is recorded yet: `python -m harness record RUN_DIR`.\n"
    shown = [type(run).model_validate(_as_data(plain(run))) for run in runs]
    several = len(shown) > 1
    parts = [_LEGEND, *(_filled(f"*{head}*: {text}.") for head, text in spread_legend(shown))]
    parts += [_measured_legend(shown)] if any(run.measures for run in shown) else []
    parts += [_section(run, definitions=not several) for run in shown]
    if several and (defined := _measures(shown, "##")):
        parts.append(f"{defined}\n")
    return head + "\n".join(parts)


def _measured_legend(runs: Sequence[Results]) -> str:
    """What a reader of tables of measures must know: of what is there."""
    facts, rows = [one for run in runs for one in run.measured], [row for run in runs for row in run.measures]
    said = {
        _FIDELITY: any(one.group == "fidelity" for one in facts),
        _OWN_LOSS: any(row.own_loss for row in rows),
        HARM_SAID: any(run.harms for run in runs),
        f"{BOUNDS_SAID}.": any({one.bound, one.teacher_bound} != {"exact"} for one in facts),
        _TEXT: any(one.group == "text" for one in facts),
        _COST: any(run.costs for run in runs),
        _FINDINGS: any(run.measure_contrasts for run in runs),
        _PAGE: True,
    }
    return _filled(" ".join(sentence for sentence, true in said.items() if true))


def _filled(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"


# what measures, their plug-ins and tasks say in sentences: it holds names, and texts of tokens
_TEXTS = ("unmeasured", "head", "unit", "summary", "misses", "task", "metric", "device")


def _as_data(data: Any, of: str = "") -> Any:
    """The same, with no line break in any text, and no tag: a name cannot add a line to the board, nor hide one.

    of: the field that it is of.
    """
    if isinstance(data, str):
        line = " ".join(data.splitlines())
        if of in _TEXTS:
            return as_text(line)
        return line if of == "command" else line.replace("<", "\\<")  # a command stands in backticks
    if isinstance(data, dict):
        return {_as_data(key): _as_data(value, key) for key, value in data.items()}
    return [_as_data(value, of) for value in data] if isinstance(data, list | tuple) else data


def _code(text: str) -> str:
    """In backticks, more of them than the text has in a row."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks} {text} {ticks}" if "`" in text else f"`{text}`"


def _section(run: Results, definitions: bool) -> str:
    """definitions: whether what each measure is stands here, and not once for all runs."""
    pair = run.pair
    parts = [f"## {pair.student}, taught by {pair.teacher}", study_words(run), _banner(run), _facts(run)]
    parts += [_prompt_set(run, entry) for entry in run.prompt_sets]
    parts += [labels.section(run)]
    parts += [_contrasts(run), _versus(run), _disagreements(run), _retention(run), _costs(run), _length(run)]
    parts += [_other_rates(run), _judges(run), _measures([run]) if definitions else "", _methods(run), _search(run)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _banner(run: Results) -> str:
    return "\n>\n".join(f"> **{title}** {text}" for title, text in warnings(run))


def _facts(run: Results) -> str:
    lines = [f"- {name}: {text}" for name, text in facts(run)]
    made_by = "; ".join(_code(command) for _, command in commands(run))
    return "\n".join([*lines, f"- to reproduce: {made_by} (every setting: config.yaml of the record)"])


def _prompt_set(run: Results, entry: SetFacts) -> str:
    domain = "in-domain" if entry.in_domain else "out-of-domain"
    judge = run.judge_named(run.judge)
    # the table of texts has it
    known = [
        f"{column.cell(entry.teacher).text or '?'}{unit}"
        for column, unit, name in ((c.TOKENS, " tokens", "length"), (c.CUT, " cut", "cut"))
        if not m.is_measured(run, entry.name, name)
    ]
    teacher = f" The teacher's responses: {', '.join(known)}." if known else ""
    setup = f" ({setup_text(judge)})" if judge.setup else ""
    misses = f", a proxy: it misses {judge.misses}" if judge.misses else ""
    said = relation_words(run)
    related = f" **{said[:1].upper()}{said[1:]}.**" if said else ""
    parts = [
        f"### {entry.name} ({domain}, {entry.prompts} prompts)",
        f"Judge: {judge.name}{setup}{misses}.{related}{teacher}{_origin(entry)}",
        _set_table(run, entry.name),
        f"{said}." if (said := resolution(run, entry)) else "",
        f"Not everything is measured here: {entry.unmeasured}." if entry.unmeasured else "",
        unpooled_words(entry, run),
        _fidelity(run, entry),
        _text(run, entry),
    ]
    return "\n\n".join(part for part in parts if part)


def _origin(entry: SetFacts) -> str:
    said = provenance(entry)
    return f" The prompts: {said}." if said else ""


def _set_table(run: Results, prompt_set: str) -> str:
    rows = run.rows_of(prompt_set)
    return markdown(
        [
            *([c.RANK] if any(row.rank for row in rows) else []),
            c.KIND.named(""),
            c.METHOD,
            c.PREFERENCE,
            *([c.SPREAD] if len(run.runs) > 1 else []),
            *c.components(rows),
            c.OUTCOMES,
            c.N_AND_PROMPTS,
            c.MISSING,
            *([c.FLIPS] if any(row.flips.n for row in rows) else []),
            *([] if m.is_measured(run, prompt_set, "length") else [c.TOKENS]),
            *([] if m.is_measured(run, prompt_set, "cut") else [c.CUT]),
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
    counted = "tokens" if first.by_token else "pairs" if first.reads == "pairs" else "responses"
    read = temperatures(shown, run)
    said = [
        f"Fidelity to the teacher{f', {read}' if read else ''}{_units(shown)}",
        f"A row's {first.head} is a mean over {most.count:,} {counted} of {most.prompts} prompts",
        *([f"The teacher's own {', '.join(own)}"] if own else []),
        *more,
    ]
    # the first ones decide; and what is no mean over tokens is one of few values
    columns: list[Column[Any]] = [
        c.measure(one, rows, ends=place < WITH_ENDS or not one.by_token) for place, one in enumerate(shown)
    ]
    if len(run.runs) > 1:
        columns[1:1] = [c.measure_spread(first), *c.measure_components(first, rows)]
    return f"{'. '.join(said)}.\n\n{markdown([_KIND, c.METHOD, *columns], rows)}\n\n{_counted(run, rows)}"


def _counted(run: Results, rows: Sequence[Measured]) -> str:
    """How much the figures of a table are made of, and where their intervals are."""
    values = [one for row in rows for one in row.values.values()]
    prompts = max((one.prompts for one in values), default=0)
    samples = run.configured.samples
    each = f"{samples} sample{'' if samples == 1 else 's'} a prompt"
    counts = [sum(value is not None for value in one.by_run) for one in values]
    runs = f" in each of {between(counts)} runs" if max(counts, default=1) > 1 else ""
    return (
        f"Read of a row: {prompts * samples} responses of {prompts} prompts ({each}){runs}. All intervals: the report."
    )


def _shown(run: Results, group: Group, rows: Sequence[Measured]) -> tuple[list[MeasureFacts], list[str]]:
    """The measures of a group that have a column on the board, and in words which others there are."""
    found = m.present(m.of_group(run, group), rows)
    shown = [one for one in found if not one.aside][: AT_MOST[group]] or found
    more = [one.head for one in found if one not in shown]
    return shown, [f"In the report too: {', '.join(more)}"] if more else []


def _units(shown: Sequence[MeasureFacts]) -> str:
    """The units that no sign in a cell says, each with what is in it."""
    heads: dict[str, list[str]] = {}
    for one in shown:
        if one.unit and not one.share:
            heads.setdefault(one.unit, []).append(one.head)
    return "".join(f"; {', '.join(names)} in {unit}" for unit, names in heads.items())


_KIND: Column[Row | Measured] = c.KIND.named("")


def _text(run: Results, entry: SetFacts) -> str:
    rows = m.systems(run, entry.name, "text")
    shown, more = _shown(run, "text", rows)
    if not shown:
        return ""
    columns = [c.measure(one, rows, ends=False) for one in shown]
    parts = [f"{'. '.join(['Text', *more])}.", markdown([_KIND, c.METHOD, *columns], rows)]
    return "\n\n".join([*parts, _counted(run, rows)])


def _costs(run: Results) -> str:
    """What each row took, once: it is the same on all sets."""
    if not run.costs:
        return ""
    devices = list(dict.fromkeys(cost.device for cost in run.costs if cost.device))
    said = [f"Trained on {devices[0]}"] if len(devices) == 1 else []
    if any(m.SEVERAL in device for device in devices):
        said.append("Seconds of runs on different devices have no mean")
    columns: list[Column[Any]] = [
        *(c.METHOD, c.TRAINED_IN_ALL, c.READ, c.SAMPLED, c.ROLLED, c.SECONDS),
        *([c.PEAK_MEMORY] if any(cost.peak_memory is not None for cost in run.costs) else []),
        *([c.DEVICE] if len(devices) > 1 else []),
    ]
    parts = ["### What each row took", "".join(f"{text}. " for text in said).rstrip(), markdown(columns, run.costs)]
    return "\n\n".join(part for part in parts if part)


def _contrasts(run: Results) -> str:
    """Of whom they speak; the primary one; then by the judge, and by what was measured, methods before anchors."""
    compared = m.compared(run)
    if not run.contrasts and not compared:
        return ""
    parts = [
        "### Method against method",
        f"{whom_words(run)} {declared_words(run)}",
        *(f"**{primary_words(one, run)}.**" for one in primaries(run)),
        _by_the_judge(run),
        _by_measures(run, compared),
    ]
    return "\n\n".join(part for part in parts if part)


def _by_the_judge(run: Results) -> str:
    if not run.contrasts:
        return ""
    methods, anchors = ([one for one in run.contrasts if one.family == family] for family in ("methods", "anchors"))
    columns: list[Column[Any]] = [
        *(c.PAIR, c.SCOPE, c.marked(c.difference(), mark_of(run)), c.P, c.P_HOLM),
        *([c.EQUIVALENCE] if any(one.equivalence for one in methods) else []),
        *([c.WHEN] if mixed(run) else []),
        *(c.JUDGED, c.LEFT_OUT, c.finding(Whom.of(run))),
    ]
    moved = luck_of(run, "")
    return "\n\n".join(
        [
            "By the judge: differences of preference rate on the prompts that were judged for both. "
            f"{FAMILIES}. {POWER}.",
            *([luck_words(moved)] if moved else []),
            *([markdown(columns, methods)] if methods else []),
            *(
                _anchors(run, anchors, "points", power_words(anchors), _rates_apart(run), _small_words(anchors))
                if anchors
                else []
            ),
        ]
    )


def _rates_apart(run: Results) -> Callable[[ContrastFigures], str]:
    """A difference of two rates: in bold where the two are told apart, and whether it is small."""
    mark = mark_of(run)

    def said(found: ContrastFigures) -> str:
        shown = points_cell(found.difference, found.interval)
        small = f"; {found.equivalence.finding}" if found.equivalence else ""
        return f"{f'**{shown}**' if found.distinguishable else shown}{mark(found)}{small}"

    return said


def _small_words(rows: Sequence[ContrastFigures]) -> str:
    """What cells say behind a difference where a margin was named, behind a semicolon."""
    margin = next((f"{100 * one.equivalence.margin:g}" for one in rows if one.equivalence), "")
    if not margin:
        return ""
    return (
        f"; behind each, whether its 90% interval lies within ±{margin} (equivalent), above −{margin} (not worse), or "
        "neither"
    )


def _anchors(
    run: Results, rows: Sequence[C], unit: str, power: str, said: Callable[[C], str], small: str = ""
) -> list[str]:
    """What is set against the start or the ceiling: a row a pair, a column a scope. small: what cells say of a
    margin."""
    pairs: dict[tuple[str, str], dict[str, C]] = {}
    for one in rows:
        pairs.setdefault((one.first, one.second), {})[one.scope] = one
    columns: list[Column[Any]] = [c.PAIR.of(lambda found: next(iter(found.values())))]
    columns += [_on(scope, said) for scope in dict.fromkeys(one.scope for one in rows)]
    if mixed(run):
        columns.append(c.column("", lambda found: _when([one.declared for one in found.values()])))
    text = f"Against the start and the ceiling, in {unit}, in bold where the two are told apart{power}{small}:"
    return [text, markdown(columns, list(pairs.values()))]


def _on(scope: str, said: Callable[[C], str]) -> Column[Mapping[str, C]]:
    return c.column(scope, lambda found: said(found[scope]) if scope in found else "")


def _when(declared: Sequence[bool]) -> str:
    return DECLARED if all(declared) else "declared in part" if any(declared) else CHOSEN


def _by_measures(run: Results, compared: Sequence[MeasureFacts]) -> str:
    """The first measure's contrasts whole, those of the other fidelity measures in a table of a line each."""
    if not compared:
        return ""
    first, others = compared[0], [one for one in compared[1:] if one.group == "fidelity"]
    own, whom, mark = m.own_losses(run, first.name), Whom.of(run, first.name), mark_of(run, first.name)
    columns: list[Column[Any]] = [
        *(c.PAIR, c.SCOPE, c.marked(c.measure_difference(first), mark), c.P, c.P_HOLM),
        *([c.WHEN] if mixed(run) else []),
        *(c.JUDGED, c.LEFT_OUT, c.measure_finding(first, own, whom)),
    ]
    rows = m.contrasts_of(run, first.name)
    methods, anchors = ([one for one in rows if (one.family == "anchors") == far] for far in (False, True))
    declared = ", the measure that was declared as the first" if first.name == run.first_measure else ""
    missing = f" {said}" if (said := first_words(run)) else ""
    moved = luck_of(run, first.name)
    parts = [
        f"The same pairs by {first.head}{declared} ({difference_unit(first)}; {direction(first.better)}), on the "
        f"prompts that were measured for both.{missing} A measure has the same families of its own"
        f"{'' if run.contrasts else f': {FAMILIES}. {POWER}'}.",
        *([luck_words(moved, first)] if moved else []),
        *([markdown(columns, methods)] if methods else []),
    ]
    if anchors:
        parts += _anchors(
            run,
            anchors,
            difference_unit(first),
            power_words(anchors, first),
            lambda found: difference_short(found, first, own, ends=True) + mark(found),
        )
    if others:
        parts.append(
            f"And by the others: first − second, in bold where the two are told apart. {_ways(others)}. Intervals, and "
            "what is measured of texts, are in the report."
        )
        parts.append(markdown([c.PAIR, c.SCOPE, *(_found(run, one) for one in others)], rows))
    if any(one.bound != "exact" for one in [first, *others]):
        parts.append(NO_BOUND)
    if not run.disagreements:
        parts.append(NOWHERE)
    return "\n\n".join(parts)


def _versus(run: Results) -> str:
    if not run.versus:
        return ""
    columns: list[Column[Any]] = [
        *(c.AGAINST, c.PROMPT_SET, c.OUTCOMES, c.N_AND_PROMPTS, c.MISSING, c.DIRECT),
        *([c.FLIPS] if any(row.flips.n for row in run.versus) else []),
        *(c.indirect(run), c.indirect_finding(run)),
    ]
    return f"### Judged against each other\n\n{VERSUS}\n\n{markdown(columns, run.versus)}"


def _ways(shown: Sequence[MeasureFacts]) -> str:
    """Each unit and direction, with the measures of it."""
    heads: dict[str, list[str]] = {}
    for one in shown:
        heads.setdefault(f"{difference_unit(one)}, {direction(one.better)}", []).append(one.head)
    return "; ".join(f"{', '.join(names)}: {way}" for way, names in heads.items())


def _found(run: Results, facts: MeasureFacts) -> Column[MeasureContrast]:
    """What a measure has of another one's contrast."""
    known = {(one.first, one.second, one.scope): one for one in m.contrasts_of(run, facts.name)}
    own, mark = m.own_losses(run, facts.name), mark_of(run, facts.name)

    def said(row: MeasureContrast) -> str:
        found = known.get((row.first, row.second, row.scope))
        return "" if found is None else difference_short(found, facts, own) + mark(found)

    return c.column(f"{facts.head}{by_the_bound(facts)}", said)


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
    better = c.BETTER_BY_TASK[task.higher_is_better]
    way = f", {better} is better" if better else ""
    key = (task.task, task.metric)
    return c.column(
        f"{task.task}: {task.metric} (n = {task.n}{way})", lambda row: retention_cell(row[key]) if key in row else ""
    )


def _any(row: Mapping[tuple[str, str], RetentionFacts]) -> RetentionFacts:
    return next(iter(row.values()))


_RETAINED_KIND, _RETAINED = c.KIND.named("").of(_any), c.METHOD.of(_any)


def _length(run: Results) -> str:
    controlled, reasons = lengths(run.length)
    parts = ["### How much of it is length"]
    if controlled:
        units = [c.lengths_in(unit) for unit in dict.fromkeys(control.unit for control in controlled)]
        rates: list[Column[LengthFigures]] = [c.AS_IT_IS, c.CONTROLLED, c.DIFFICULTY, c.SLOPE]
        parts += [markdown([c.METHOD, c.PROMPT_SET, *units, *rates], controlled), c.NOT_ALPACA_EVALS]
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


def _measures(runs: Iterable[Results], heading: str = "###") -> str:
    """What each measure is, once; that it is a bound is said with the one run that it is one of."""
    runs = list(runs)
    lines = dict.fromkeys(
        f"- **{one.head}** ({measure_terms(one, bound=len(runs) == 1)}): {one.summary}. Misses: {one.misses}."
        for run in runs
        for one in run.measured
    )
    return f"{heading} The measures\n\n" + "\n".join(lines) if lines else ""


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


def _search(run: Results) -> str:
    search = run.search
    if search is None:
        return ""
    columns: list[Column[FoundFacts]] = [
        c.column("method", lambda row: row.method),
        c.column(f"tries: {search.head}", lambda row: searched.tries_words(search, row.method)),
        c.column("", searched.edge_words),
    ]
    return f"### {searched.HEAD}\n\n{searched.told(run)}\n\n{markdown(columns, search.found)}"
