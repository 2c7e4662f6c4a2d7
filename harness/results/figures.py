"""Every figure of a board: a pure function of what was declared, of verdicts, and of responses.

`run` makes its results with it, `leaderboard` the pooled ones of several runs, and `verify` holds results against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import stdev
from typing import Any, get_args

from harness.core.records import IDENTICAL, RunResponse, Status, Verdict
from harness.statistics.agreement import agreements, flips, share
from harness.statistics.contrasts import contrasts, indistinguishable, ranks
from harness.statistics.length import length_controls
from harness.statistics.outcomes import ComparisonKey, Orders, Outcomes, from_runs, outcomes
from harness.statistics.panel import MAJORITY, SUMMARIES, panel_verdicts
from harness.statistics.rates import MAX_MISSING, Rates, comparison_rates

Results = dict[str, Any]


TEACHER = "teacher"  # the reference of every comparison


# At 80 prompts a preference rate's 95% interval is about ±17 points wide: less ranks nothing.
RANKABLE_PROMPTS = 80


SECTIONS = ("prompt_sets", "rows", "judging", "agreement", "contrasts", "length")  # what `figures` gives


@dataclass(frozen=True)
class Declared:
    """What a board was to show before anything was judged.

    sets: each prompt set, and whether it is in-domain. candidates: each row's kind. judges: those named; several are a
    panel. parts: judges that are shown beside them. contrasts: rows that are tested against each other.
    """

    sets: Mapping[str, bool]
    candidates: Mapping[str, str]
    judges: Sequence[str]
    parts: Sequence[str]
    contrasts: Sequence[tuple[str, str]]

    @property
    def judge(self) -> str:
        """The one that the board's order and tests follow."""
        return MAJORITY if len(self.judges) > 1 else self.judges[0]

    @property
    def shown(self) -> list[str]:
        """All judges of the board, the deciding one first."""
        panels = list(SUMMARIES) if len(self.judges) > 1 else []
        return list(dict.fromkeys([*panels, *self.judges, *self.parts]))


@dataclass(frozen=True)
class RunRows:
    """What one run made: the verdicts that were given (a panel's follow from them), and the responses."""

    verdicts: Sequence[Verdict]
    responses: Sequence[RunResponse]


CandidateKey = tuple[str, str, str, str]  # run, prompt set, candidate, judge


def figures(declared: Declared, runs: Mapping[str, RunRows], rank_incomplete: bool = False) -> Results:
    """The SECTIONS of a results file, from one run or several of the same kind.

    rank_incomplete: rank a set where more than MAX_MISSING of a row's prompts are missing.
    """
    groups = _groups(declared, runs)
    found = outcomes(from_runs({run: [v for key in groups if key[0] == run for v in groups[key]] for run in runs}))
    deciding = found.where(judge=declared.judge)
    known = comparison_rates(found)
    answered = _responses(runs)
    rows = [
        {
            "prompt_set": prompt_set,
            "in_domain": in_domain,
            "method": candidate,
            "kind": kind,
            "judge": judge,
            **asdict(known[prompt_set, candidate, TEACHER, judge]),
            "orders": _orders(declared, known, prompt_set, candidate, judge),
            **_counts([groups.get((run, prompt_set, candidate, judge), []) for run in runs]),
            **_lengths(answered.get((prompt_set, candidate), ())),
            **_by_run(found.where(prompt_set=prompt_set, candidate=candidate, judge=judge), runs),
            "rank": None,
        }
        for prompt_set, in_domain in declared.sets.items()
        for judge in declared.shown
        for candidate, kind in declared.candidates.items()
        if (prompt_set, candidate, TEACHER, judge) in known
    ]
    sets = []
    for prompt_set, in_domain in declared.sets.items():
        mine = [row for row in rows if row["prompt_set"] == prompt_set and row["judge"] == declared.judge]
        reason = unranked(mine, rank_incomplete)
        if not reason:
            _rank(mine, deciding.where(prompt_set=prompt_set), prompt_set)
        teachers = answered.get((prompt_set, TEACHER), ())
        prompts = len({response.prompt_id for response in teachers})
        entry = {"name": prompt_set, "in_domain": in_domain, "prompts": prompts}
        sets.append({**entry, "teacher": _lengths(teachers), "unranked": reason})
    domains = {
        name: [prompt_set for prompt_set, inside in declared.sets.items() if inside == wanted]
        for name, wanted in (("in-domain", True), ("out-of-domain", False))
    }
    tested = contrasts(deciding, declared.contrasts, domains)
    controls = length_controls(deciding)
    return {
        "prompt_sets": sets,
        "rows": rows,
        "judging": [_quality(judge, groups, rows) for judge in declared.shown if judge not in SUMMARIES],
        "agreement": agreements(found, declared.judges),
        "contrasts": [{**asdict(made), "distinguishable": made.distinguishable} for made in tested],
        "length": [
            {
                "prompt_set": prompt_set,
                "method": candidate,
                "judge": declared.judge,
                **asdict(controls[prompt_set, candidate, TEACHER, declared.judge]),
            }
            for prompt_set in declared.sets
            for candidate in declared.candidates
            if (prompt_set, candidate, TEACHER, declared.judge) in controls
        ],
    }


def _orders(
    declared: Declared, known: Mapping[ComparisonKey, Rates], prompt_set: str, candidate: str, judge: str
) -> Orders:
    """The orders of a row's verdicts; a panel's are those of its members."""
    members = declared.judges if judge in SUMMARIES else [judge]
    seen = {known[key].orders for member in members if (key := (prompt_set, candidate, TEACHER, member)) in known}
    return seen.pop() if len(seen) == 1 else "mixed"


def unranked(rows: Sequence[Mapping[str, Any]], rank_incomplete: bool = False) -> str:
    """Why the rows of a set stand in no order; empty where they do."""
    smallest = min((row["prompts"] for row in rows), default=0)
    if smallest < RANKABLE_PROMPTS:
        return f"{smallest} judged prompts, and at least {RANKABLE_PROMPTS} are needed to rank"
    worst = max(rows, key=lambda row: row["missing_share"])
    if worst["missing_share"] > MAX_MISSING and not rank_incomplete:
        return (
            f"{worst['missing_share']:.0%} of {worst['method']}'s prompts are missing, and they are seldom missing at "
            f"random: above {MAX_MISSING:.0%} nothing is ranked unless --rank-incomplete says so"
        )
    return ""


def _groups(declared: Declared, runs: Mapping[str, RunRows]) -> dict[CandidateKey, list[Verdict]]:
    """The verdicts of each run, set, candidate and judge, those of panels too."""
    groups: dict[CandidateKey, list[Verdict]] = {}
    for run, made in runs.items():
        for verdict in made.verdicts:
            groups.setdefault((run, verdict.prompt_set, verdict.candidate, verdict.judge), []).append(verdict)
    if len(declared.judges) > 1:
        for run, prompt_set, candidate in dict.fromkeys(key[:3] for key in list(groups)):
            members = {name: groups.get((run, prompt_set, candidate, name), []) for name in declared.judges}
            for panel, verdicts in panel_verdicts(members).items():
                groups[run, prompt_set, candidate, panel] = verdicts
    return groups


def _responses(runs: Mapping[str, RunRows]) -> dict[tuple[str, str], list[RunResponse]]:
    """By prompt set and system."""
    found: dict[tuple[str, str], list[RunResponse]] = {}
    for made in runs.values():
        for response in made.responses:
            found.setdefault((response.prompt_set, response.system), []).append(response)
    return found


def _counts(by_run: Sequence[Sequence[Verdict]]) -> Results:
    """Contradictions between the orders, and prompts with identical responses: nobody was asked about those."""
    turned = [flips(verdicts) for verdicts in by_run]
    identical = [{v.prompt_id for v in verdicts if v.detail == IDENTICAL} for verdicts in by_run]
    return {
        "flips": asdict(share(sum(one.count for one in turned), sum(one.n for one in turned))),
        "identical": sum(map(len, identical)),
    }


def _lengths(responses: Sequence[RunResponse]) -> Results:
    """Mean tokens of a system's responses, and the share that was cut at the limit."""
    n = len(responses)
    return {
        "mean_tokens": sum(response.tokens for response in responses) / n if n else None,
        "cut_share": sum(response.finish == "length" for response in responses) / n if n else None,
    }


def _by_run(found: Outcomes, runs: Mapping[str, RunRows]) -> Results:
    """Each run's preference rate (None where it has none), and their standard deviation: what another seed moves."""
    judged = [found.where(run=run).judged for run in runs]
    by_run = [float(mine.value.mean()) if len(mine) else None for mine in judged]
    known = [rate for rate in by_run if rate is not None]
    return {"by_run": by_run, "spread": stdev(known) if len(known) > 1 else None}


def _rank(rows: list[Results], deciding: Outcomes, prompt_set: str) -> None:
    """First and last place of each row's group of neighbours that cannot be told apart."""
    ordered = sorted((row for row in rows if row["n"]), key=lambda row: -row["preference_rate"])
    _, groups = indistinguishable(deciding, [row["method"] for row in ordered], prompt_set)
    for row, places in zip(ordered, ranks(groups), strict=True):
        row["rank"] = places


def _quality(judge: str, groups: Mapping[CandidateKey, Sequence[Verdict]], rows: Sequence[Results]) -> Results:
    """One judge's verdicts over everything, counted: by status, by the form that it was asked in, those on texts that
    it read in part, of the comparisons with both orders those that contradict each other; and ties among outcomes."""
    mine = [verdicts for key, verdicts in groups.items() if key[3] == judge]
    own = [verdict for verdicts in mine for verdict in verdicts]
    statuses, turned = Counter(verdict.status for verdict in own), [flips(verdicts) for verdicts in mine]
    return {
        "judge": judge,
        "verdicts": len(own),
        **{status: statuses[status] for status in get_args(Status)},
        "identical": sum(verdict.detail == IDENTICAL for verdict in own),
        "truncated": sum(verdict.truncated for verdict in own),
        "forms": dict(Counter(verdict.form for verdict in own if verdict.form)),
        "flips": sum(found.count for found in turned),
        "both_orders": sum(found.n for found in turned),
        "ties": sum(row["ties"] for row in rows if row["judge"] == judge),
        "outcomes": sum(row["n"] for row in rows if row["judge"] == judge),
    }
