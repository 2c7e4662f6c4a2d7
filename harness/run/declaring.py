"""When the contrasts of a run, or of a study's runs, were declared: kept in the store before anything is computed.

A contrast is known by the responses of its two rows on a prompt set, whatever the rows are called and whoever judges
them. Its stamp is of the first run that declared it, and stays: it says when that was, in which family, and whether
anything was known of either row by then (known.py). A family is all that was declared together, that of a study the
contrasts of all its runs, and is kept under its digest: a contrast of it counts as declared only where none of the
others is left out afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from harness.core.errors import UserError
from harness.core.files import canonical_hash
from harness.core.records import SHORT, Ref
from harness.run.evaluating import Evaluation
from harness.run.jobs import RespondJob
from harness.run.known import TELLING, Known, Made, began_of, known, of_rows, who
from harness.run.road import Road
from harness.store import Store
from harness.store.artifacts import read_manifest
from harness.store.gc import refs_in

DECLARED, FAMILIES = "declared", "families"
Member = tuple[str, ...]  # a contrast on a prompt set: the set, and refs of the rows' responses, by name


@dataclass(frozen=True)
class Stamp:
    """time: when it was declared, ISO 8601. family: the digest of all that was declared together. primary: whether it
    was the primary one, and no family before that had some of this one named another. margin: a difference that was to
    count as none, in the rate's unit. began: when the first verdict or measure of either row was begun that there was
    by then; empty where none was."""

    time: str
    family: str
    primary: bool
    margin: float | None
    began: str


@dataclass(frozen=True)
class Family:
    """What was declared together. time: when that was first, ISO 8601. primary: those of the members that are the
    primary contrast. margin: as a stamp's."""

    time: str
    members: tuple[Member, ...]
    primary: tuple[Member, ...]
    margin: float | None

    @property
    def digest(self) -> str:
        """Of all of it but its time."""
        return canonical_hash([sorted(self.members), sorted(self.primary), self.margin])

    def lacking(self, of_run: Iterable[tuple[Ref, ...]]) -> set[tuple[Ref, ...]]:
        """The members that a run does not have, by the responses of their rows."""
        return {member[1:] for member in self.members} - set(of_run)

    def named_another(self, other: Family) -> bool:
        """Whether this one, which has a member of the other, has another primary contrast."""
        ours, theirs = ({member[1:] for member in one.members} for one in (self, other))
        named, then = ({member[1:] for member in one.primary} for one in (self, other))
        return bool(ours & theirs and named) and not named & then


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


def declare(roads: Sequence[Road], store: Store, now: datetime | None = None) -> None:
    """Stamp every contrast of the runs that are about to begin together, but those that have a stamp. now: another time
    than this.

    Raises:
        UserError: the store may not be written, and something is yet to be made there.
    """
    found = [(road, pair) for road in roads for pair in contrasted(road)]
    at = (now or datetime.now(UTC)).isoformat(timespec="microseconds")
    family = _family(found, at)
    new = {pair.responses for _, pair in found}
    new = {responses for responses in new if store.stamped(DECLARED, responses) is None}
    if found and (new or family_of(family.digest, store) is None):
        _stamp([(road, pair) for road, pair in found if pair.responses in new], family, at, store)


def _stamp(new: Sequence[tuple[Road, Contrasted]], family: Family, at: str, store: Store) -> None:
    """new: contrasts without a stamp, each as often as there are runs that have it."""
    told = known(store) if new else []
    made: dict[Member, list[Made]] = {}
    for road, pair in new:
        (asked,) = (one.prompt_set for one in road.evaluations if one.name == pair.prompt_set)
        digests = {prompt.digest for prompt in asked.prompts}
        made.setdefault(_member(pair), []).extend(_made(pair, road, told, digests, store))
    began = {member: began_of(times) for member, times in made.items()}
    try:
        family = Family(**_as_tuples(store.stamp(FAMILIES, family.digest, partial(asdict, family))))
        others = [one for one in _families(store) if one.time < family.time]
        settled = any(one.named_another(family) for one in others)
        for member, first in began.items():
            stamp = Stamp(at, family.digest, member in family.primary and not settled, family.margin, first)
            store.stamp(DECLARED, member[1:], partial(asdict, stamp))
    except UserError:
        if not all(began.values()):  # else it would prove nothing: a store that may only be read will do
            raise


def _member(pair: Contrasted) -> Member:
    return (pair.prompt_set, *pair.responses)


def _family(found: Sequence[tuple[Road, Contrasted]], at: str) -> Family:
    """Of all that is declared together; one margin is of all runs of a study."""
    margin = found[0][0].config.margin if found else None
    primary = {_member(pair) for road, pair in found if (pair.first, pair.second) == road.config.primary}
    members = {_member(pair) for _, pair in found}
    return Family(at, tuple(sorted(members)), tuple(sorted(primary)), margin and margin / 100)


def family_of(digest: str, store: Store) -> Family | None:
    """What was declared together, where it is kept."""
    found = _readable(store.stamped(FAMILIES, digest))
    return found if found and found.digest == digest else None  # else it is damaged, or was changed


def _families(store: Store) -> list[Family]:
    return [found for found in map(_readable, store.stamps(FAMILIES)) if found]


def _readable(data: Any) -> Family | None:
    try:
        return Family(**_as_tuples(data))
    except (TypeError, AttributeError):
        return None


def _as_tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(map(tuple, value)) if isinstance(value, list) else value for name, value in data.items()}


def digest_of(responses: Iterable[Ref]) -> str:
    """A contrast in short, by the responses of its rows."""
    return canonical_hash(sorted(responses))[:SHORT]


def stamp_of(responses: tuple[Ref, ...], store: Store) -> Stamp | None:
    """The stamp of a contrast, by the responses of its rows, where it has one."""
    try:
        return Stamp(**store.stamped(DECLARED, responses))
    except TypeError:  # none, or damaged
        return None


def left_out(rows: Collection[Ref], of_run: Collection[tuple[Ref, ...]], store: Store) -> set[tuple[Ref, ...]]:
    """Contrasts of a run's rows that it does not have, by their responses, and that any start declared before something
    was known of them: who starts often, with one at a time, has declared them all."""
    every = {member[1:] for family in _families(store) for member in family.members}
    lacking = {responses for responses in every if set(responses) <= set(rows)} - set(of_run)
    return {one for one in lacking if (stamp := stamp_of(one, store)) and not stamp.began}


def _made(
    pair: Contrasted, road: Road, told: Collection[Known], asked: Collection[str], store: Store
) -> Iterator[Made]:
    """What was made of either row by now: whatever is known of them on any of these prompts, by their digests; and what
    is left of this run."""
    jobs = [road.jobs[ref] for ref in pair.responses]
    rows = {who(job) for job in jobs if isinstance(job, RespondJob)}
    yield from ((one.began, 0.0) for one in of_rows(told, rows, asked, store))
    for ref in pair.about:
        manifest = read_manifest(store.path(ref)) if store.has(ref) else None
        if manifest:
            yield manifest["created"], manifest["seconds"]
        files = [path for path in store.workspace(ref).rglob("*") if path.is_file()]
        if files:  # what was interrupted has told something too
            first = min(path.stat().st_mtime for path in files)
            yield datetime.fromtimestamp(first, UTC).isoformat(timespec="microseconds"), 0.0
