"""What a board was to show before anything was judged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from harness.results.schema import MeasureFacts, StampFacts
from harness.run.rows import Kind, domains_of, is_anchor, primary_scope
from harness.statistics.panel import MAJORITY, SUMMARIES


@dataclass(frozen=True)
class Stamps:
    """Those of one run. rows: the candidates that it has."""

    rows: Collection[str]
    stamps: Sequence[StampFacts]

    def of(self, first: str, second: str, sets: Collection[str]) -> list[StampFacts]:
        """Of one contrast on these sets, in either direction."""
        return [one for one in self._by_pair.get(frozenset((first, second)), ()) if one.prompt_set in sets]

    @cached_property
    def _by_pair(self) -> dict[frozenset[str], list[StampFacts]]:
        found: dict[frozenset[str], list[StampFacts]] = {}
        for stamp in self.stamps:
            found.setdefault(frozenset((stamp.first, stamp.second)), []).append(stamp)
        return found


@dataclass(frozen=True)
class Declared:
    """What a board was to show before anything was judged.

    sets: each prompt set, and whether it is in-domain. candidates: each row's kind. judges: those named; several are a
    panel. parts: judges that are shown beside them. contrasts: rows that are tested against each other; primary: the
    one of them that is named for the in-domain sets, and corrected for no other where it was declared as that; margin:
    a difference that counts as none, in the rate's unit; stamps: each run's, of when these were declared. versus: rows
    that are judged against each other. measures: those that are shown. own_losses: of each row, the measures that it
    was trained to minimise.
    """

    sets: Mapping[str, bool]
    candidates: Mapping[str, Kind]
    judges: Sequence[str]
    parts: Sequence[str]
    contrasts: Sequence[tuple[str, str]]
    primary: tuple[str, str] | None = None
    margin: float | None = None
    stamps: Sequence[Stamps] = ()
    versus: Sequence[tuple[str, str]] = ()
    measures: Sequence[MeasureFacts] = ()
    own_losses: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def judge(self) -> str:
        """The one that the board's order and tests follow."""
        return MAJORITY if len(self.judges) > 1 else self.judges[0]

    @property
    def judges_shown(self) -> list[str]:
        """All judges of the board, the deciding one first."""
        panels = list(SUMMARIES) if len(self.judges) > 1 else []
        return list(dict.fromkeys([*panels, *self.judges, *self.parts]))

    @property
    def untrained(self) -> set[str]:
        """Rows that no training made: the start and the ceiling."""
        return {name for name, kind in self.candidates.items() if is_anchor(kind)}

    @property
    def domains(self) -> dict[str, list[str]]:
        """The sets of each domain."""
        return domains_of(self.sets)

    def was_declared(self, first: str, second: str, scope: str) -> bool:
        """Whether a contrast was declared before anything of its rows was known, on all sets of its scope and in every
        run that has both rows."""
        return self._in_every_run(first, second, scope, lambda stamp: True)

    def was_margin_declared(self, first: str, second: str, scope: str) -> bool:
        """Whether the margin was declared with a contrast."""
        same = self.margin is not None
        return same and self._in_every_run(first, second, scope, lambda stamp: stamp.margin == self.margin)

    def _in_every_run(self, first: str, second: str, scope: str, so: Callable[[StampFacts], bool]) -> bool:
        sets = [scope] if scope in self.sets else self.domains.get(scope, [])
        runs = [stamps.of(first, second, sets) for stamps in self.stamps if {first, second} <= set(stamps.rows)]
        return (
            bool(sets)
            and bool(runs)
            and all(
                # what is pooled was chosen together: a set that was added later, afterwards
                len(found) == len(sets)
                and len({stamp.family for stamp in found}) == 1
                and all(stamp.before and so(stamp) for stamp in found)
                for found in runs
            )
        )

    @property
    def primary_in(self) -> tuple[str, str, str] | None:
        """(first, second, scope) of the primary contrast that was named."""
        return None if self.primary is None else (*self.primary, primary_scope(self.sets))

    @property
    def primary_declared(self) -> tuple[str, str, str] | None:
        """The same where it was declared as that. Else it may be the best of many, and is corrected with them."""
        named = self.primary_in
        return named if named and self._in_every_run(*named, lambda stamp: stamp.primary) else None
