"""What a board was to show before anything was judged."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from harness.results.schema import MeasureFacts
from harness.run.rows import Kind
from harness.statistics.panel import MAJORITY, SUMMARIES


@dataclass(frozen=True)
class Declared:
    """What a board was to show before anything was judged.

    sets: each prompt set, and whether it is in-domain. candidates: each row's kind. judges: those named; several are a
    panel. parts: judges that are shown beside them. contrasts: rows that are tested against each other; primary: the
    one of them that is corrected for no other, on the in-domain sets; margin: a difference that counts as none, in the
    rate's unit; stamped: (first, second, prompt set) of those that were declared before either row had a verdict or a
    measure. versus: rows that are judged against each other. measures: those that are shown. own_losses: of each row,
    the measures that it was trained to minimise.
    """

    sets: Mapping[str, bool]
    candidates: Mapping[str, Kind]
    judges: Sequence[str]
    parts: Sequence[str]
    contrasts: Sequence[tuple[str, str]]
    primary: tuple[str, str] | None = None
    margin: float | None = None
    stamped: Collection[tuple[str, str, str]] = frozenset()
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
        return {name for name, kind in self.candidates.items() if kind in ("untrained", "ceiling")}

    @property
    def domains(self) -> dict[str, list[str]]:
        """The sets of each domain."""
        return {
            name: [prompt_set for prompt_set, inside in self.sets.items() if inside == wanted]
            for name, wanted in (("in-domain", True), ("out-of-domain", False))
        }

    def was_stamped(self, first: str, second: str, scope: str) -> bool:
        """Whether a contrast was declared before anything of its rows was known, on all sets of its scope."""
        sets = self.domains.get(scope, [scope]) if scope not in self.sets else [scope]
        return all((first, second, name) in self.stamped for name in sets)

    @property
    def primary_in(self) -> tuple[str, str, str] | None:
        """(first, second, scope) of the primary contrast: on the pooled in-domain sets, or the only one; where there is
        none, on the others."""
        if self.primary is None:
            return None
        domain, sets = next((name, sets) for name, sets in self.domains.items() if sets)
        return (*self.primary, domain if len(sets) > 1 else sets[0])
