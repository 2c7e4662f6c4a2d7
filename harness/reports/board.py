"""leaderboard.md: a pure function of results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from harness.core.records import plain
from harness.reports import columns as c
from harness.reports.cells import facts, lengths, provenance, setup_text, warnings
from harness.reports.columns import Column, markdown
from harness.results.schema import Results, Row, SetFacts

_LEGEND = """\
Students against their teacher on prompts that training never saw. **Preference rate** is (wins − losses) / N, ties
counting 0: 0 is parity with the teacher, negative is worse. **Win rate** is wins / N, ties are not wins. Brackets hold
95% intervals: a bootstrap over prompts, or Wilson's where all outcomes are alike; they do not cover another seed or
judge. *Missing* prompts have a failed or unparsable verdict and are not in N.
*Flips* are prompts where the judge contradicts itself when the responses change places: they are ties. *Identical*
responses are ties that no judge was asked about.
*Rank* is a range where no row can be told from the next; its first and last may well differ: the contrasts say.
*Tokens* is the mean response length, *cut* the share of responses cut at the length limit.
Formulas: [docs/statistics.md](docs/statistics.md).
"""


def board_markdown(runs: Sequence[Results]) -> str:
    """The board of one or several results, each in a section of its own: rows of different kinds share no table."""
    head = "# Leaderboard\n\n"
    if not runs:
        return head + "No run is recorded yet: `python -m harness record RUN_DIR`.\n"
    return head + _LEGEND + "\n" + "\n".join(_section(Results.model_validate(_in_lines(plain(run)))) for run in runs)


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
    parts += [_contrasts(run), _length(run), _other_rates(run), _judges(run), _methods(run)]
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
    return (
        f"### {entry.name} ({domain}, {entry.prompts} prompts)\n\n"
        f"Judge: {judge.name}{setup}{misses}. The teacher's responses: "
        f"{tokens} tokens, {cut} cut.{_origin(entry)}\n\n"
        f"{_set_table(run, run.rows_of(entry.name))}"
    )


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
            c.WIN,
            c.OUTCOMES,
            c.N_AND_PROMPTS,
            c.MISSING,
            c.FAILED,
            *([c.FLIPS] if any(row.flips.n for row in rows) else []),
            c.IDENTICAL,
            c.TOKENS,
            c.CUT,
        ],
        rows,
    )


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
    columns: list[Column[Any]] = [c.METHOD, c.PROMPT_SET, c.HALF_TIE, c.MEAN_PREFERENCE, c.ORDERS]
    return (
        "### The same verdicts by other rates\n\n"
        "The half-tie win rate is (wins + ties / 2) / N, the mean preference that of the judge's own strengths: 50% is "
        f"parity. Orders: *both* were judged, or the judge sees *none*.\n\n{markdown(columns, rows)}"
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
