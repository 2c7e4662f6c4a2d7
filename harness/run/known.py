"""What is known of a row by now: kept in the store from when the first that tells of it is begun.

A row is its model, with its seed and what its responses are for, however they are drawn, however many of a prompt, and
to however many prompts. Something is known of it on a prompt as soon as a judge, a measure or a comparison
of its responses there is begun; that this was so stays when the artifacts go.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from pydantic import ValidationError

from harness.core.files import canonical_hash
from harness.core.records import Prompt, Ref, read_records
from harness.run.jobs import PROMPTS, CompareJob, Job, JudgeJob, MeasureJob, RespondJob
from harness.store import Store
from harness.store.artifacts import read_manifest
from harness.store.gc import refs_in

# the stages that tell something of a row beside its responses
TELLING = tuple(kind.model_fields["stage"].default for kind in (JudgeJob, MeasureJob, CompareJob))
KNOWN, ASKED = "known", "asked"
CANDIDATE = "candidate"  # what a student's responses are for
Made = tuple[str, float]  # an artifact's date, and how many seconds its making took


@dataclass(frozen=True)
class Known:
    """who: a row. prompts: the artifact of those that it answered. began: when the first that tells of it there was
    begun, ISO 8601."""

    who: str
    prompts: Ref
    began: str


def who(job: RespondJob) -> str:
    """The row whose responses these are."""
    return canonical_hash([job.model.in_key, job.purpose, job.seed])


def note(job: Job, store: Store, now: datetime | None = None) -> None:
    """Keep that a stage is about to tell of its rows. now: another time than this."""
    if job.stage in TELLING:
        began = (now or datetime.now(UTC)).isoformat(timespec="microseconds")
        _keep(_told_by(job.model_dump(mode="json"), began, store, {}), store)


def remember(store: Store) -> None:
    """Keep what the artifacts tell that are there, before some of them go."""
    _keep(_in_artifacts(store), store)


def _keep(found: Iterable[Known], store: Store) -> None:
    for one in dict.fromkeys(found):
        store.stamp(ASKED, one.prompts, partial(_asked, one.prompts, store))
        store.stamp(KNOWN, [one.who, one.prompts], partial(asdict, one))


def known(store: Store) -> list[Known]:
    """All that is known of any row by now."""
    return [*_kept(store), *_in_artifacts(store)]


def of_rows(found: Iterable[Known], rows: Collection[str], prompts: Collection[str], store: Store) -> Iterator[Known]:
    """What is known of these rows on any of these prompts, by their digests."""
    shared: dict[Ref, bool] = {}
    for one in found:
        if one.who not in rows:
            continue
        if one.prompts not in shared:
            asked = store.stamped(ASKED, one.prompts) or _asked(one.prompts, store)
            # of prompts of which nothing is left, they may be these
            shared[one.prompts] = not asked or not set(prompts).isdisjoint(asked)
        if shared[one.prompts]:
            yield one


def _asked(prompts: Ref, store: Store) -> list[str]:
    """Digests of the prompts of an artifact; none where it is not there."""
    path = store.path(prompts) / PROMPTS
    return [prompt.digest for prompt in read_records(path, Prompt)] if path.is_file() else []


def _kept(store: Store) -> Iterator[Known]:
    for fact in store.stamps(KNOWN):
        try:
            yield Known(**fact)
        except TypeError:  # damaged
            continue


def _in_artifacts(store: Store) -> Iterator[Known]:
    read: dict[Ref, RespondJob | None] = {}
    for manifest in (manifest for stage in TELLING for manifest in store.manifests(stage)):
        yield from _told_by(manifest["job"], began_of([(manifest["created"], manifest["seconds"])]), store, read)


def _told_by(job: Mapping[str, Any], began: str, store: Store, read: dict[Ref, RespondJob | None]) -> Iterator[Known]:
    """What a stage that tells of rows says of which. job: as plain data. read: responses' jobs, which are kept here."""
    for ref in (ref for ref in refs_in(job) if ref.startswith("respond/")):
        if ref not in read:
            read[ref] = _responding(ref, store)
        if responding := read[ref]:
            yield Known(who(responding), responding.prompts, began)
            if job["stage"] == "compare":  # of a student it tells on the teacher's responses too
                student = responding.model_copy(
                    update={"model": type(responding.model).model_validate(job["model"]), "purpose": CANDIDATE}
                )
                yield Known(who(student), responding.prompts, began)


def _responding(ref: Ref, store: Store) -> RespondJob | None:
    manifest = read_manifest(store.path(ref)) if store.has(ref) else None
    try:
        return RespondJob.model_validate(manifest["job"]) if manifest else None
    except ValidationError:  # of another version: no row of today
        return None


def began_of(made: Iterable[Made]) -> str:
    """When the making of the first of these began, ISO 8601; empty where there are none. What names no
    date began before everything."""
    times = [(moment(date) or EVER) - timedelta(seconds=seconds) for date, seconds in made]
    return min(times).isoformat(timespec="microseconds") if times else ""


def moment(text: str) -> datetime | None:
    """A date of a manifest or a stamp, in UTC where it names no zone; None where it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


EVER = datetime(1970, 1, 1, tzinfo=UTC)
