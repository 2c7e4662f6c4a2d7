"""What `judge` prints: rates of each judge, and what to do about verdicts that are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.core.records import Verdict
from harness.core.units import first_named
from harness.judging.collect import Tally
from harness.judging.protocol import REFUSED
from harness.reports import columns as c
from harness.reports.cells import kappa_cell
from harness.statistics.agreement import agreements
from harness.statistics.outcomes import from_records, outcomes
from harness.statistics.panel import panel_verdicts
from harness.statistics.summary import comparisons

NAMED_AT_MOST = 10  # prompt ids in a line
_ADVICE = {
    "failed": "run the same command again to ask for them",
    "skipped": "run the same command again",
    "unparsable": "an answer without a verdict; --refresh asks anew",
}
_REFUSED = "asked again, it would be refused again"


def summary(verdicts: Sequence[Verdict], tallies: Mapping[str, Tally]) -> str:
    """Markdown: a row a judge (and panel), agreement between judges, then what each judge's verdicts took and lack."""
    by_judge = {name: [verdict for verdict in verdicts if verdict.judge == name] for name in tallies}
    panels = panel_verdicts(by_judge) if len(by_judge) > 1 else {}
    table = from_records(verdict for found in (*panels.values(), *by_judge.values()) for verdict in found)
    found = outcomes(table)
    compared = {row.judge: row for row in comparisons(table, found).values()}
    rows = [compared[name] for name in (*panels, *by_judge) if name in compared]
    parts = [c.markdown([c.JUDGE, c.PREFERENCE, c.WIN, c.OUTCOMES, c.N, c.LACKING, c.FLIPS], rows)]
    for pair in agreements(found, list(by_judge)):
        note = f" ({pair.note})" if pair.note else ""
        parts.append(f"{pair.first} and {pair.second}: Cohen's κ {kappa_cell(pair)} over {pair.n} prompts{note}")
    for name, tally in tallies.items():
        parts.append("\n".join(_lines(name, tally, by_judge[name])))
    return "\n\n".join(parts)


def _lines(name: str, tally: Tally, verdicts: Sequence[Verdict]) -> list[str]:
    share = tally.ok / tally.verdicts
    lines = [
        f"{name}: {tally.ok} of {tally.verdicts} verdicts ok ({share:.1%}); {tally.identical} of identical responses, "
        f"{tally.cached} from the cache, {tally.asked} asked for now" + (f": {tally.spent}" if tally.spent else "")
    ]
    lacking: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.status in _ADVICE:
            refused = verdict.status == "failed" and verdict.detail.startswith(REFUSED)
            lacking.setdefault((verdict.status, _REFUSED if refused else _ADVICE[verdict.status]), []).append(verdict)
    for (status, advice), rows in sorted(lacking.items(), key=lambda group: list(_ADVICE).index(group[0][0])):
        ids = dict.fromkeys(verdict.prompt_id for verdict in rows)
        lines.append(f"- {status} ({rows[0].detail}): {first_named(ids, NAMED_AT_MOST)}; {advice}")
    return lines
