"""What `judge` prints: rates of each judge, and what to do about verdicts that are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from harness.core.records import Verdict
from harness.judging.collect import Tally
from harness.reports.cells import kappa_cell, markdown, rate_cell
from harness.statistics import rates
from harness.statistics.agreement import agreements, flips
from harness.statistics.outcomes import from_records, outcomes
from harness.statistics.panel import panel_verdicts

NAMED_AT_MOST = 10  # prompt ids in a line


def summary(verdicts: Sequence[Verdict], tallies: Mapping[str, Tally]) -> str:
    """Markdown: a row a judge (and panel), agreement between judges, then what each judge's verdicts took and lack."""
    by_judge = {name: [verdict for verdict in verdicts if verdict.judge == name] for name in tallies}
    several = panel_verdicts(by_judge) if len(by_judge) > 1 else {}
    parts = [markdown(pd.DataFrame(_row(name, found) for name, found in {**several, **by_judge}.items()))]
    for pair in agreements(outcomes(from_records(verdicts)), list(by_judge)):
        note = f" ({pair.note})" if pair.note else ""
        parts.append(f"{pair.first} and {pair.second}: Cohen's κ {kappa_cell(pair)} over {pair.n} prompts{note}")
    for name, tally in tallies.items():
        parts.append("\n".join(_lines(name, tally, by_judge[name])))
    return "\n\n".join(parts)


def _row(name: str, verdicts: list[Verdict]) -> dict[str, object]:
    found, turned = rates(verdicts), flips(verdicts)
    return {
        "judge": name,
        "preference rate": rate_cell(found.preference_rate, found.preference_interval, signed=True),
        "win rate": rate_cell(found.win_rate, found.win_interval),
        "W / T / L": f"{found.wins} / {found.ties} / {found.losses}",
        "N": found.n,
        "missing": found.missing,
        "flips": f"{turned.count} of {turned.n}" if turned.n else "no orders",
    }


def _lines(name: str, tally: Tally, verdicts: Sequence[Verdict]) -> list[str]:
    share = tally.ok / tally.verdicts
    lines = [
        f"{name}: {tally.ok} of {tally.verdicts} verdicts ok ({share:.1%}); {tally.identical} of identical responses, "
        f"{tally.cached} from the cache, {tally.asked} asked for now" + (f": {tally.spent}" if tally.spent else "")
    ]
    asking = {"failed": "run the same command again to ask for them", "skipped": "run the same command again"}
    for status, advice in {**asking, "unparsable": "an answer without a verdict; --refresh asks anew"}.items():
        ids = list(dict.fromkeys(verdict.prompt_id for verdict in verdicts if verdict.status == status))
        if ids:
            reason = next(verdict.detail for verdict in verdicts if verdict.status == status)
            rest = f" and {len(ids) - NAMED_AT_MOST} more" if len(ids) > NAMED_AT_MOST else ""
            lines.append(f"- {status} ({reason}): {', '.join(ids[:NAMED_AT_MOST])}{rest}; {advice}")
    return lines
