"""Several judges as one: verdicts that follow from those of its members, without asking anyone.

majority  a win where more than half of the members give a win (each by its own orders), likewise a loss, else a tie
mean      the mean of the members' mean preferences
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.core.records import IDENTICAL, Verdict
from harness.statistics.outcomes import Outcome, from_records, outcomes, unit_of

MAJORITY, MEAN = "panel (majority)", "panel (mean)"
SUMMARIES = {
    MAJORITY: "a win or a loss where more than half of the judges give one, else a tie",
    MEAN: "the mean of the judges' preferences: above a half is a win",
}


def panel_verdicts(members: Mapping[str, Sequence[Verdict]]) -> dict[str, list[Verdict]]:
    """The verdicts of both panels, from each member's on one candidate on one prompt set.

    A response that a member has no whole answer to has none from the panel either: fewer voices would be another panel.
    """
    found = {name: outcomes(from_records(verdicts)) for name, verdicts in members.items()}
    outcome = {name: dict(zip(one.units, one.words, strict=True)) for name, one in found.items()}
    strength = {name: dict(zip(one.units, one.preference.tolist(), strict=True)) for name, one in found.items()}
    first = {unit_of(verdict): verdict for verdict in next(iter(members.values()))}
    panels: dict[str, list[Verdict]] = {MAJORITY: [], MEAN: []}
    for unit, verdict in first.items():
        votes = {name: by_unit.get(unit, "missing") for name, by_unit in outcome.items()}
        lacking = [name for name, vote in votes.items() if vote == "missing"]
        majority = _majority(list(votes.values()))
        mean = None if lacking else sum(by_unit[unit] for by_unit in strength.values()) / len(members)
        for name, preference in ((MAJORITY, majority), (MEAN, mean)):
            panels[name].append(_derived(verdict, name, None if lacking else preference, lacking))
    return panels


def _majority(votes: Sequence[Outcome]) -> float:
    if votes.count("win") > len(votes) / 2:
        return 1.0
    return 0.0 if votes.count("loss") > len(votes) / 2 else 0.5


def _derived(verdict: Verdict, name: str, preference: float | None, lacking: Sequence[str]) -> Verdict:
    identical = IDENTICAL if verdict.detail == IDENTICAL else ""
    return Verdict(
        prompt_set=verdict.prompt_set,
        prompt_id=verdict.prompt_id,
        candidate=verdict.candidate,
        reference=verdict.reference,
        order="none",
        status="failed" if lacking else "ok",
        preference=preference,
        judge=name,
        candidate_tokens=verdict.candidate_tokens,
        reference_tokens=verdict.reference_tokens,
        candidate_characters=verdict.candidate_characters,
        reference_characters=verdict.reference_characters,
        prompt_digest=verdict.prompt_digest,
        turn=verdict.turn,
        repeat=verdict.repeat,
        sample=verdict.sample,
        detail=f"no whole answer from {', '.join(lacking)}" if lacking else identical,
    )
