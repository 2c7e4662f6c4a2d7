"""What a run's models still can: as its artifacts say, and of several runs together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from harness.core.files import canonical_hash
from harness.measures.tasks import TaskScore
from harness.results.schema import MeasuredKind, Results, RetentionFacts
from harness.run.jobs import RETENTION
from harness.run.road import Road
from harness.run.rows import TEACHER, UNTRAINED
from harness.store import Store
from harness.store.artifacts import Artifact


def retention_of(road: Road, store: Store) -> tuple[RetentionFacts, ...]:
    """Of a finished road; empty where no task was named."""
    kinds: dict[str, MeasuredKind] = {TEACHER: "teacher", UNTRAINED: "untrained"}
    kinds |= {entry.name: entry.kind for entry in road.entries}
    return tuple(found for row, ref in road.retention.items() for found in said(row, kinds[row], store.read(ref)))


def said(row: str, kind: MeasuredKind, artifact: Artifact) -> list[RetentionFacts]:
    """What an artifact says of a row."""
    rows = json.loads((artifact.path / RETENTION).read_text(encoding="utf-8"))
    scores, digests = [TaskScore.model_validate(one) for one in rows], _digests(artifact)
    every = canonical_hash(artifact.manifest["job"]["tasks"])  # of groups in groups it is not known which was asked for
    return [
        RetentionFacts(method=row, kind=kind, digest=digests.get(score.task, every), **dict(score)) for score in scores
    ]


def _digests(artifact: Artifact) -> dict[str, str]:
    """Of each task, that of what was asked for: itself, or the group that it is in."""
    asked = artifact.facts.get("asked", {})
    named: dict[str, str] = artifact.manifest["job"]["tasks"]
    members = {one: digest for name, digest in named.items() for one in asked.get(name, {}).get("documents", ())}
    return members | named


def mean_retention(runs: Iterable[Results], names: Iterable[Mapping[str, str]]) -> tuple[RetentionFacts, ...]:
    """What rows of several runs reach on average, by as many documents of the same tasks, as their digests say. names:
    of each run's rows on their board."""
    found: dict[tuple[str, str, str, str, int], list[RetentionFacts]] = {}
    for run, known in zip(runs, names, strict=True):
        for one in run.retention:
            row = known.get(one.method, one.method)  # the teacher is on every board
            key = (row, one.task, one.metric, one.digest, one.n)
            found.setdefault(key, []).append(one.model_copy(update={"method": row}))
    return tuple(map(_mean, found.values()))


def _mean(found: Sequence[RetentionFacts]) -> RetentionFacts:
    """Runs are asked the same documents, so that their errors go together: the mean's is no more than the errors'
    mean."""
    errors = [one.standard_error for one in found if one.standard_error is not None]
    return found[0].model_copy(
        update={
            "value": sum(one.value for one in found) / len(found),
            "standard_error": sum(errors) / len(errors) if len(errors) == len(found) else None,
        }
    )
