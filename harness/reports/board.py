"""leaderboard.md: a pure function of results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.core.records import plain
from harness.reports.cells import (
    KINDS,
    contrast_words,
    facts,
    flips_cell,
    kappa_cell,
    length_cells,
    lengths,
    markdown,
    p_cell,
    points_cell,
    provenance,
    rank_cell,
    rate_cell,
    rows_of,
    setup_text,
    slope_cell,
    spread_cell,
    warnings,
)
from harness.results.schema import JudgingFigures, Results, Row, SetFacts
from harness.statistics.agreement import JudgeAgreement
from harness.statistics.outcomes import STATUSES

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
    judge, teacher = run.judge_named(run.judge), length_cells(entry.teacher)
    setup = f" ({setup_text(judge)})" if judge.setup else ""
    misses = f", a proxy: it misses {judge.misses}" if judge.misses else ""
    return (
        f"### {entry.name} ({domain}, {entry.prompts} prompts)\n\n"
        f"Judge: {judge.name}{setup}{misses}. The teacher's responses: "
        f"{teacher['tokens'] or '?'} tokens, {teacher['cut'] or '?'} cut.{_origin(entry)}\n\n"
        f"{_set_table(run, rows_of(run, entry.name))}"
    )


def _origin(entry: SetFacts) -> str:
    said = provenance(entry)
    return f" The prompts: {said}." if said else ""


def _set_table(run: Results, rows: Sequence[Row]) -> str:
    with_orders = any(row.flips.n for row in rows)
    ranked = any(row.rank for row in rows)
    frame = pd.DataFrame(
        {
            **({"rank": rank_cell(row)} if ranked else {}),
            "": KINDS[row.kind],
            "method": row.method,
            "preference rate": rate_cell(row.preference_rate, row.preference_interval, signed=True),
            **({"SD of runs": spread_cell(row)} if len(run.runs) > 1 else {}),
            "win rate": rate_cell(row.win_rate, row.win_interval),
            "W / T / L": f"{row.wins} / {row.ties} / {row.losses}",
            "N": f"{row.n}" + (f" ({row.prompts} prompts)" if row.prompts != row.n else ""),
            "missing": f"{row.missing} ({row.missing_share:.0%})" if row.missing else "0",
            "failed verdicts": row.failed_verdicts,
            **({"flips": flips_cell(row.flips.count, row.flips.n)} if with_orders else {}),
            "identical": row.identical,
            **length_cells(row),
        }
        for row in rows
    )
    return markdown(frame)


def _contrasts(run: Results) -> str:
    if not run.contrasts:
        return ""
    frame = pd.DataFrame(
        {
            "first − second": f"{made.first} − {made.second}",
            "on": made.scope,
            "difference in points": points_cell(made.difference, made.interval),
            "p": p_cell(made.p),
            "p (Holm)": p_cell(made.p_holm),
            "N": made.n,
            "left out": made.left_out,
            "finding": contrast_words(made),
        }
        for made in run.contrasts
    )
    return (
        "### Method against method\n\n"
        "Declared before the run: differences of preference rate on the same prompts, with a sign-flip test. p is "
        "corrected (Holm) over all contrasts on single sets, and over those on whole domains; left out are prompts "
        f"that were not judged for both.\n\n{markdown(frame)}"
    )


def _length(run: Results) -> str:
    controlled, reasons = lengths(run.length)
    parts = ["### How much of it is length"]
    if controlled:
        frame = pd.DataFrame(
            {
                "method": control.method,
                "on": control.prompt_set,
                f"{control.unit}, teacher's": f"{control.candidate_mean:.0f}, {control.reference_mean:.0f}",
                "preference rate": f"{100 * (control.preference_rate or 0):+.1f}%",
                "at equal length": rate_cell(control.controlled_rate, control.controlled_interval, signed=True),
                "logits for one SD more": slope_cell(control),
            }
            for control in controlled
        )
        parts.append(markdown(frame))
    parts += [f"Not modelled, {reason}." for reason in reasons]
    return "\n\n".join(parts) if len(parts) > 1 else ""


def _other_rates(run: Results) -> str:
    rows = [row for entry in run.prompt_sets for row in rows_of(run, entry.name)]
    frame = pd.DataFrame(
        {
            "method": row.method,
            "on": row.prompt_set,
            "half-tie win rate": rate_cell(row.half_tie_rate, row.half_tie_interval),
            "mean preference": rate_cell(row.mean_preference, row.mean_preference_interval),
            "orders": row.orders,
        }
        for row in rows
    )
    return (
        "### The same verdicts by other rates\n\n"
        "The half-tie win rate is (wins + ties / 2) / N, the mean preference that of the judge's own strengths: 50% is "
        f"parity. Orders: *both* were judged, or the judge sees *none*.\n\n{markdown(frame)}"
    )


def _judges(run: Results) -> str:
    lines = []
    for judge in run.judges:
        setup = f" ({setup_text(judge)})" if judge.setup else ""
        misses = f" A proxy; it misses {judge.misses}." if judge.misses else ""
        lines.append(f"- **{judge.name}**{setup}: {judge.summary}.{misses}")
    parts = ["### The judges" if len(run.judges) > 1 else "### The judge", "\n".join(lines)]
    parts.append(_judging_table(run.judging))
    alone = [judge.name for judge in run.judges if judge.name != run.judge]
    if alone:
        parts.append(f"Preference rates by each judge beside {run.judge} (with what it misses as above):")
        parts.append(_alone_table(run, alone))
    if run.agreement:
        parts.append(
            "Agreement of the judges on win, tie and loss, all rows and sets together; the interval of Cohen's κ "
            "resamples prompts, each with all its rows:"
        )
        parts.append(_agreement_table(run.agreement))
    return "\n\n".join(parts)


def _judging_table(judges: Sequence[JudgingFigures]) -> str:
    frame = pd.DataFrame(
        {
            "judge": judge.judge,
            "verdicts": judge.verdicts,
            **{status: getattr(judge, status) for status in STATUSES},
            "identical": judge.identical,
            "ties": f"{judge.ties} of {judge.outcomes}",
            "contradicts itself": flips_cell(judge.flips, judge.both_orders),
            "read in part": judge.truncated,
            "asked for": ", ".join(f"{form}: {count}" for form, count in judge.forms.items()),
        }
        for judge in judges
    )
    return markdown(frame)


def _agreement_table(pairs: Sequence[JudgeAgreement]) -> str:
    frame = pd.DataFrame(
        {
            "judges": f"{pair.first}, {pair.second}",
            "κ": kappa_cell(pair),
            "same outcome": f"{pair.agreement.count} of {pair.n}",
            "missing": pair.missing,
            "note": pair.note,
        }
        for pair in pairs
    )
    return markdown(frame)


def _alone_table(run: Results, judges: list[str]) -> str:
    sets = [prompt_set.name for prompt_set in run.prompt_sets]
    cells = {
        (row.method, row.prompt_set, row.judge): rate_cell(row.preference_rate, row.preference_interval, signed=True)
        for row in run.rows
    }
    frame = pd.DataFrame(
        {
            "method": row.method,
            **{
                f"{judge}, {name}": cells.get((row.method, name, judge), "none judged")
                for name in sets
                for judge in judges
            },
        }
        for row in rows_of(run, sets[0])
    )
    return markdown(frame)


def _methods(run: Results) -> str:
    frame = pd.DataFrame(
        {
            "method": entry.name,
            "starts from": {"student": "untrained student", "sft": "SFT student"}[entry.settings.start],
            "learning rate": f"{entry.settings.learning_rate:g}",
            "epochs": "by tokens" if entry.token_matched else entry.settings.epochs,
            "batch": entry.settings.batch_size,
            "steps": entry.facts.steps,
            "tokens": f"{entry.facts.tokens:,}",
            "its own settings": ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in entry.settings.own.items()
            ),
            "control of": f"{entry.controls}: {entry.why}" if entry.controls else "",
        }
        for entry in run.methods
    )
    return "### What was trained\n\n" + markdown(frame)
