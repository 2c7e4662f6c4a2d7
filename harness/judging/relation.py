"""What a judge and a teacher have in common: one model, one family, one vendor.

Judges favour what models related to them taught (docs/judges.md), so a table says it in its head. It follows from
names, weights and models' entries; where they say nothing, none is known, which is not to say that there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.judging.protocol import Judge
from harness.judging.registry import factory_of
from harness.measures import measures
from harness.models.lineage import Lineage, lineage


@dataclass(frozen=True)
class Known:
    """A judge's model, or a teacher. weights: a digest of them; None where they are not here.

    server: the address of what is behind one; empty of what is not."""

    lineage: Lineage
    weights: str | None = None
    server: str = ""


def relation(judge: Known, teacher: Known) -> str:
    """The closest relation that is known, as part of a sentence; empty where none is."""
    one, other = judge.lineage, teacher.lineage
    if judge.weights is not None and judge.weights == teacher.weights:
        return "judge and teacher are one model: their weights are the same"
    # what a server calls its model says something of it where the name is known, or the server is one
    named = "/" in one.id or one.family or one.vendor or judge.server == teacher.server
    if one.id and one.id == other.id and named:
        return f"judge and teacher are one model ({one.id})"
    if one.family and one.family == other.family:
        return f"judge and teacher are of one family ({one.family})"
    if one.vendor and one.vendor == other.vendor:
        return f"judge and teacher are of one vendor ({one.vendor})"
    return ""


def relation_of(judge: Judge, weights: str | None, teacher: Known) -> str:
    """The same of a judge. weights: of the checkpoint that it reads, if it reads one."""
    read = [measures.get(name).reads for name in judge.measures if name in measures]
    if "log_probs" in read:
        return "the judge is the teacher itself, as it reads the teacher's log-probs"
    model = judge.setup.get("model") or factory_of(judge.name)[1]
    return relation(Known(lineage(model), weights, judge.setup.get("server", "")), teacher) if model else ""
