"""When the contrasts of a run were declared: kept in the store before anything of the run is computed.

A contrast is known by the responses of its two rows on a prompt set, whatever the rows are called and whoever judges
them. Its stamp is of the first run that declared it, and stays: it says when that was, what was declared together, and
whether anything of either row had been judged or measured by then. What `store gc` had taken away by then is not seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from harness.core.errors import UserError
from harness.core.files import canonical_hash
from harness.core.records import Ref
from harness.run.evaluating import Evaluation
from harness.run.jobs import CompareJob, JudgeJob, MeasureJob
from harness.run.road import Road
from harness.store import Store
from harness.store.artifacts import read_manifest
from harness.store.gc import refs_in

DECLARED = "declared"
# the stages that tell something of a row beside its responses
TELLING = tuple(kind.model_fields["stage"].default for kind in (JudgeJob, MeasureJob, CompareJob))


@dataclass(frozen=True)
class Stamp:
    """time: when it was declared, ISO 8601. family: a digest of all that was declared together. primary: whether it was
    the primary one. margin: a difference that was to count as none, in the rate's unit. began: when the first verdict
    or measure of either row was made that was there by then; empty where none was."""

    time: str
    family: str
    primary: bool
    margin: float | None
    began: str


@dataclass(frozen=True)
class Contrasted:
    """A contrast on a prompt set. responses: of its rows, by which its stamp is kept. about: the artifacts that tell of
    either row."""

    first: str
    second: str
    prompt_set: str
    responses: tuple[Ref, ...]
    about: tuple[Ref, ...]


def contrasted(road: Road) -> list[Contrasted]:
    """Every contrast of a road on each of its evaluation sets."""
    telling = {
        ref: frozenset(refs_in(job.model_dump(mode="json"))) for ref, job in road.jobs.items() if job.stage in TELLING
    }
    found = []
    for evaluation in road.evaluations:
        about = {one.name: _about(evaluation, one.name, telling) for one in evaluation.candidates}
        responses = {one.name: one.responses for one in evaluation.candidates}
        for first, second in road.config.contrasts or ():
            key: tuple[Ref, ...] = tuple(sorted((responses[first], responses[second])))
            both = tuple(dict.fromkeys((*about[first], *about[second])))
            found.append(Contrasted(first, second, evaluation.name, key, both))
    return found


def _about(evaluation: Evaluation, name: str, telling: Mapping[Ref, Collection[Ref]]) -> list[Ref]:
    """What reads a row's responses, and its comparison with the teacher on the teacher's own."""
    row = next(one for one in evaluation.candidates if one.name == name)
    own = {*row.verdicts.values(), *row.tokens.values(), *([row.measured] if row.measured else ())}
    return [ref for ref, reads in telling.items() if ref in own or row.responses in reads]


def declare(road: Road, store: Store, now: datetime | None = None) -> None:
    """Stamp every contrast of a run that is about to begin, but those that have a stamp. now: another time than this.

    Raises:
        UserError: the store may not be written, and something is yet to be made there.
    """
    config, pairs = road.config, contrasted(road)
    family = canonical_hash(
        [sorted([pair.prompt_set, *pair.responses] for pair in pairs), config.primary, config.margin]
    )
    at = (now or datetime.now(UTC)).isoformat(timespec="microseconds")
    margin = config.margin and config.margin / 100
    new = [pair for pair in pairs if store.stamped(DECLARED, pair.responses) is None]
    told = _told(store) if new else []
    for pair in new:
        began = began_of(_made(pair, told, store))
        stamp = Stamp(at, family, (pair.first, pair.second) == config.primary, margin, began)
        try:
            store.stamp(DECLARED, pair.responses, partial(asdict, stamp))
        except UserError:
            if not began:  # else it would prove nothing: a store that may only be read will do
                raise


def stamp_of(pair: Contrasted, store: Store) -> Stamp | None:
    """A contrast's stamp, where it has one."""
    try:
        return Stamp(**store.stamped(DECLARED, pair.responses))
    except TypeError:  # none, or damaged
        return None


Made = tuple[str, float]  # an artifact's date, and how many seconds its making took


def _told(store: Store) -> list[tuple[Collection[Ref], Made]]:
    """All that tells of any row in the store, and what it was made from."""
    manifests = (manifest for stage in TELLING for manifest in store.manifests(stage))
    return [(frozenset(refs_in(one["job"])), (one["created"], one["seconds"])) for one in manifests]


def _made(pair: Contrasted, told: Iterable[tuple[Collection[Ref], Made]], store: Store) -> Iterator[Made]:
    """What was made of either row by now: of this run, and whatever else reads their responses, by another judge or
    with other measures."""
    yield from (made for reads, made in told if any(ref in reads for ref in pair.responses))
    for ref in pair.about:
        manifest = read_manifest(store.path(ref)) if store.has(ref) else None
        if manifest:
            yield manifest["created"], manifest["seconds"]
        files = [path for path in store.workspace(ref).rglob("*") if path.is_file()]
        if files:  # what was interrupted has told something too
            first = min(path.stat().st_mtime for path in files)
            yield datetime.fromtimestamp(first, UTC).isoformat(timespec="microseconds"), 0.0


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
