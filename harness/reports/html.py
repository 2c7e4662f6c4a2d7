"""Reports in HTML: the page of a run, and one of several boards. A page is one file without a network, the same bytes
for the same results: names are escaped by the templates like all other text, and what models wrote is data.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.core import escape
from harness.core.records import RunPrompt, Verdict
from harness.reports import charts, judges_apart, labels, searched, tables, tokens
from harness.reports import measured as m
from harness.reports.cells import (
    BOUNDS_SAID,
    NOWHERE,
    OWN_LOSS_SAID,
    commands,
    facts,
    first_words,
    measure_terms,
    spread_legend,
    unpooled_words,
    warnings,
)
from harness.reports.charts import Deciding
from harness.reports.findings import (
    FAMILIES,
    POWER,
    VERSUS,
    declared_words,
    disagreement_words,
    luck_of,
    luck_words,
    primaries,
    primary_words,
    whom_words,
)
from harness.reports.grids import grids, seeds_in_curves, study_words
from harness.reports.panels import Panel, panels
from harness.reports.quality import quality
from harness.reports.report_data import ReportData
from harness.reports.tables import Table
from harness.results.schema import Results, SetFacts
from harness.run.rows import TEACHER
from harness.statistics.agreement import both_orders
from harness.statistics.outcomes import Outcome, from_records, outcomes
from harness.statistics.panel import SUMMARIES, panel_verdicts


def reported(runs: Sequence[ReportData]) -> str:
    """The page of a run, or of a study's runs of one kind; of several kinds that of their boards."""
    if len(runs) == 1:
        return report_html(runs[0])
    return render_leaderboard([run.results for run in runs], note=SEVERAL_KINDS)


SEVERAL_KINDS = (
    "The runs of this study are of several kinds (judge, evaluation, student), and each kind has a board of its own. "
    "Training curves, prompts and responses are on the pages of its runs: python -m harness report STUDY/runs/NAME."
)


def report_html(run: ReportData) -> str:
    """The page of a run."""
    results, deciding = run.results, _deciding(run)
    apart = judges_apart.differences(results, run.verdicts, deciding)
    left_out = {(entry.name, name) for entry in results.prompt_sets for name in entry.left_out}
    keyed = {(prompt.prompt_set, prompt.id): prompt for prompt in run.prompts or ()}
    prompts = {key: prompt for key, prompt in keyed.items() if key not in left_out}
    return page(
        "report.html.j2",
        v=_run_parts(results) | {"judges": tables.judges(results, apart)},
        categories=tables.categories(results, prompts, deciding),
        curves=charts.curves(results, run.metrics or {}),
        clouds=charts.clouds(results, deciding),
        config=run.config,
        curve_rows=run.curves,
        some=run.some,
        without=[name for name, part in (("prompts", run.prompts), ("responses", run.responses)) if part is None],
        island=_island(run, prompts, deciding),
        tokens=tokens.token_island(results, run.tokens),
        positions=tokens.positions(results, run.tokens),
        quality=quality(results),
        judges_apart=judges_apart.panels(results, apart),
        judges_legend=judges_apart.legend(results),
    )


def render_leaderboard(runs: Sequence[Results], note: str = "") -> str:
    """The boards of several runs on one page, each in a section of its own: rows of different runs share no table.

    note: what stands before them.
    """
    defined = {line: None for run in runs for line in _definitions(run, bound=len(runs) == 1)}
    return page(
        "leaderboard.html.j2",
        runs=[_run_parts(run) for run in runs],
        spread=spread_legend(runs),
        definitions=list(defined),
        note=note,
    )


def _run_parts(results: Results) -> dict[str, Any]:
    """What both pages show of a run."""
    sets = [prompt_set.name for prompt_set in results.prompt_sets]
    return {
        "run": results,
        "judge": results.judge_named(results.judge),
        "warnings": warnings(results),
        "facts": facts(results),
        "commands": commands(results),
        "study": study_words(results),
        "grids": grids(results),
        "grids_lead": seeds_in_curves(results),
        "colours": charts.colours(results),
        "systems": charts.systems(results),
        "boards": [tables.board(results, prompt_set) for prompt_set in results.prompt_sets],
        "ranked": any(row.rank for row in results.rows),
        "pooled": len(results.runs) > 1,
        "bars": [(name, tables.bars(results, name)) for name in sets],
        "contrasts": tables.contrasts(results),
        "labels": labels.tables(results),
        "labels_head": labels.HEAD,
        "labels_lead": labels.lead(results),
        "primary": [primary_words(one, results) for one in primaries(results)],
        "families": FAMILIES,
        "power": POWER.replace("*", ""),
        "declared": declared_words(results),
        "luck": luck_words(moved) if (moved := luck_of(results, "")) else "",
        "moved": tables.moved(results),
        "versus": tables.versus(results),
        "versus_lead": VERSUS,
        "spread": spread_legend([results]),
        "measured": _measured(results),
        "own_losses": OWN_LOSS_SAID if any(row.own_loss for row in results.measures) else "",
        "bounded": f"{BOUNDS_SAID}." if any({f.bound, f.teacher_bound} != {"exact"} for f in results.measured) else "",
        "groups": {facts.group for facts in results.measured},
        "definitions": _definitions(results),
        "measure_contrasts": tables.measure_contrasts(results),
        "first_measure": _first(results),
        "whom": whom_words(results),
        "nowhere": NOWHERE if results.measure_contrasts and not results.disagreements else "",
        "disagreements": [disagreement_words(found, results) for found in results.disagreements],
        "costs": tables.costs(results),
        "retention": tables.retention(results),
        "lengths": charts.lengths(results),
        "controls": tables.length_controls(results),
        "no_control": tables.no_control(results),
        "judges": tables.judges(results),
        "trained": tables.trained(results),
        "tries": tables.tries(search) if (search := results.search) else None,
        "tries_lead": searched.told(results),
        "tries_charts": charts.tries(search) if search else [],
    }


def _first(results: Results) -> str:
    """What was declared as the first measure to look at, and whether it is here."""
    heads = (facts.head for facts in m.compared(results) if facts.name == results.first_measure)
    head = next(heads, "")
    return f"{head} was declared as the one to look at first." if head else first_words(results)


def _definitions(results: Results, bound: bool = True) -> list[tuple[str, str]]:
    """Each measure's head, and what it is. bound: whether that it is one here is part of it."""
    return [
        (facts.head, f"{facts.summary} ({measure_terms(facts, bound)}). Misses: {facts.misses}.")
        for facts in results.measured
    ]


def _measured(results: Results) -> list[tuple[SetFacts, str, Sequence[Panel], Sequence[Table]]]:
    """Each set with what is not pooled, panels and tables; nothing where nothing was, or was to be, measured at all."""
    if not results.measures and not any(entry.unmeasured for entry in results.prompt_sets):
        return []
    return [
        (
            entry,
            unpooled_words(entry, results),
            panels(results, entry.name) if results.measures else [],
            tables.measures(results, entry),
        )
        for entry in results.prompt_sets
    ]


# The page
def page(template: str, styles: Sequence[str] = ("report.css",), script: str = "report.js", **parts: Any) -> str:
    """Nothing in it is fetched, and nothing of a run's text can become code: the policy allows two hashes alone."""
    style, script = "".join(map(_beside, styles)), _beside(script)
    return (
        _environment()
        .get_template(template)
        .render(
            style=Markup(style),
            script=Markup(script),
            style_hash=_csp_hash(style),
            script_hash=_csp_hash(script),
            **parts,
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("harness", "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )


def visible(value: Any) -> Any:
    """Text with its unseen characters written out; anything else as it is."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return escape.visible(value)
    return value


def _beside(name: str) -> str:
    return (resources.files("harness.reports") / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# What the judge said
def _deciding(run: ReportData) -> Deciding:
    """The verdicts that the board's figures follow from; a panel's follow from its members'."""
    judge = run.results.judge
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in _against_the_teacher(run):
        groups.setdefault((verdict.prompt_set, verdict.candidate), []).append(verdict)
    if judge not in SUMMARIES:
        return {key: [v for v in found if v.judge == judge] for key, found in groups.items()}
    members = run.results.judge_named(judge).setup["judges"].split(", ")
    return {
        key: panel_verdicts({name: [v for v in found if v.judge == name] for name in members})[judge]
        for key, found in groups.items()
    }


def _against_the_teacher(run: ReportData) -> list[Verdict]:
    return [verdict for verdict in run.verdicts if verdict.reference == TEACHER]


def _browsed(run: ReportData, verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Those of responses that the page shows."""
    return [verdict for verdict in verdicts if run.browsed is None or verdict.sample < run.browsed]


_Place = tuple[str, str, int]  # prompt set, prompt id, sample


def _island(run: ReportData, prompts: Mapping[tuple[str, str], RunPrompt], deciding: Deciding) -> dict[str, Any]:
    """What the browser of prompts reads; tojson writes it so that it cannot end its script. A prompt is there as often
    as it was answered: each sample of everyone's with what was said of it."""
    outcome: dict[_Place, dict[str, Outcome]] = {}
    flipped: dict[_Place, list[str]] = {}
    for (prompt_set, system), every in deciding.items():
        verdicts = _browsed(run, every)
        judged = outcomes(from_records(verdicts))
        for (prompt_id, *_, sample), found in zip(judged.units, judged.words, strict=True):
            outcome.setdefault((prompt_set, prompt_id, sample), {})[system] = found
        for (prompt_id, *_, sample), (first, second) in both_orders(verdicts).items():
            if (first - 0.5) * (second - 0.5) < 0:
                flipped.setdefault((prompt_set, prompt_id, sample), []).append(system)
    responses: dict[_Place, dict[str, Any]] = {}
    for response in run.responses or ():
        place = responses.setdefault((response.prompt_set, response.prompt_id, response.sample), {})
        place[response.system] = [response.text, response.tokens, response.finish]
    said: dict[_Place, dict[str, list[Any]]] = {}
    for verdict in _browsed(run, _against_the_teacher(run)):
        by_system = said.setdefault((verdict.prompt_set, verdict.prompt_id, verdict.sample), {})
        row = [verdict.judge, verdict.order, verdict.status, verdict.preference, verdict.detail, verdict.raw]
        by_system.setdefault(verdict.candidate, []).append(row)
    samples: dict[tuple[str, str], set[int]] = {prompt: set() for prompt in prompts}
    for prompt_set, prompt_id, sample in [*responses, *said]:
        samples.setdefault((prompt_set, prompt_id), set()).add(sample)
    several = any(len(of) > 1 for of in samples.values())
    keys = [(*prompt, sample) for prompt, of in samples.items() for sample in sorted(of or {0})]
    colours = charts.colours(run.results)
    return {
        "judge": run.results.judge,
        "teacher": TEACHER,
        "systems": [[name, colours[name]] for name in charts.systems(run.results)],
        "prompts": [
            {
                "set": key[0],
                "id": key[1],
                **({"sample": key[2]} if several else {}),
                **(_told(prompts[key[:2]]) if key[:2] in prompts else _UNTOLD),
                "responses": responses.get(key, {}),
                "verdicts": said.get(key, {}),
                "outcomes": outcome.get(key, {}),
                "flips": flipped.get(key, []),
            }
            for key in keys
        ],
    }


_UNTOLD: Mapping[str, Any] = {"category": "", "answer": "", "messages": []}


def _told(prompt: RunPrompt) -> dict[str, Any]:
    messages = [[message.role, message.content] for message in prompt.messages]
    return {"category": prompt.category, "answer": prompt.reference, "messages": messages}
