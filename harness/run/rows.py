"""The rows of the board: methods, their controls, and what is tested against what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.config import Config
from harness.core.errors import UserError
from harness.core.registry import did_you_mean
from harness.core.section import validated
from harness.methods import MethodSettings, methods, selected_controls, shaping
from harness.methods.registry import of_control

TEACHER = "teacher"  # the reference of every comparison
UNTRAINED = "student (untrained)"
CEILING = "teacher (second sample)"
Kind = Literal["ceiling", "untrained", "method", "control"]
ANCHORS: Mapping[str, Kind] = {UNTRAINED: "untrained", CEILING: "ceiling"}  # rows that no training made


def is_anchor(kind: str) -> bool:
    """Whether rows of a kind are those that no training made."""
    return kind in ANCHORS.values()


@dataclass(frozen=True)
class Entry:
    """A row of the board: a method with its settings, or a control of one. match: the row that it takes as many tokens
    as, both counted with where they start; empty where it trains for as long as its settings say."""

    name: str
    method: str
    settings: MethodSettings
    why: str = ""
    controls: str = ""
    match: str = ""

    @property
    def kind(self) -> Kind:
        return "control" if self.controls else "method"

    @property
    def training(self) -> tuple[str, dict[str, Any], str]:
        """What is trained; rows with equal ones are one."""
        return self.method, self.shaping, self.match

    @property
    def shaping(self) -> dict[str, Any]:
        """The settings that shape the training, as plain data: what a board says of them."""
        return shaping(self.settings.model_dump(mode="json"))


def entries_of(config: Config) -> list[Entry]:
    """The methods asked for, then their controls; a control that equals a method or another control is one."""
    found = [entry_of(config, name) for name in config.methods]
    found = [replace(entry, match=matched(config, entry)) for entry in found]
    for entry in list(found):
        for made in _controls(config, entry):
            if not any(e.training == made.training for e in found):
                taken = any(e.name == made.name for e in found)
                found.append(replace(made, name=f"{made.name} (for {entry.name})") if taken else made)
    return found


def _controls(config: Config, entry: Entry, level: str | None = None) -> list[Entry]:
    """A method's controls, each as a row of its own. level: of them, in place of the configuration's."""
    method, found = methods.get(entry.method), []
    for control in selected_controls(method, entry.settings, level or config.controls):
        with of_control(method, control):
            made = entry_of(config, control.method, control.overrides)
        # one that takes as many tokens as a row that is matched itself takes them from where that one does
        match = (entry.match or entry.name) if control.match_tokens else matched(config, made)
        found.append(replace(made, name=control.name, why=control.why, controls=entry.name, match=match))
    return found


def matched(config: Config, entry: Entry) -> str:
    """The row that all trainings take as many tokens as, where the configuration names one; that one itself as many as
    its settings say."""
    if config.match is None or entry.training == entry_of(config, config.match).training:
        return ""
    return config.match


def contrasts_of(config: Config, entries: Sequence[Entry]) -> tuple[tuple[str, str], ...]:
    """The rows that are tested against each other, declared before anything runs: the configuration's, or each method
    against its controls, those that it is compared with, the student that nothing was done to, and the ceiling against
    it; and the primary one.

    Raises:
        UserError: the configuration names a row that the board will not have, or one against itself.
    """
    rows = [entry.name for entry in entries] + [*ANCHORS]
    primary = () if config.primary is None else (config.primary,)
    _check_pairs("primary", primary, rows, "primary=null takes a method's own")
    if config.contrasts is not None:
        named = tuple(dict.fromkeys((*primary, *config.contrasts)))
        _check_pairs("contrasts", named, rows, "contrasts=null takes each method's own")
        return named
    found: list[tuple[str, str]] = []
    for entry in (entry for entry in entries if not entry.controls):
        trainings = [control.training for control in _controls(config, entry)]
        others = [other for other in entries if other.training in trainings]
        others += [other for name in methods.get(entry.method).compared_with for other in entries if other.name == name]
        found += [(entry.name, other.name) for other in others if other != entry]
        found += [(entry.name, UNTRAINED), (CEILING, entry.name)]
    return tuple(dict.fromkeys((*primary, *(pair for pair in found if pair[::-1] not in primary))))


def _check_pairs(key: str, pairs: Sequence[tuple[str, str]], rows: Sequence[str], advice: str) -> None:
    """Pairs of rows that a setting names.

    Raises:
        UserError: a row that the board will not have, one against itself, or a pair in both directions.
    """
    for first, second in pairs:
        for name in (first, second):
            if name not in rows:
                raise UserError(f"{key}: the board has no row '{name}'{did_you_mean(name, rows)}; {advice}")
        if first == second:
            raise UserError(f"{key}: '{first}' is set against itself")
        if (second, first) in pairs:
            raise UserError(f"{key}: '{first}' and '{second}' are there in both directions; name them once")


def primary_of(
    config: Config, entries: Sequence[Entry], contrasts: Sequence[tuple[str, str]]
) -> tuple[str, str] | None:
    """The contrast that is corrected for no other: the configuration's, or, of the first method whose claim travels
    with a control (a basic one), that with the first of them, where it is among the contrasts."""
    if config.primary is not None:
        return config.primary
    for entry in (entry for entry in entries if not entry.controls):
        for control in _controls(config, entry, "basic")[:1]:
            for other in (other.name for other in entries if other.training == control.training):
                if (entry.name, other) in contrasts:
                    return entry.name, other
    return None


def domains_of(sets: Mapping[str, bool]) -> dict[str, list[str]]:
    """The sets of each domain. sets: each one, and whether it is in-domain."""
    return {
        name: [prompt_set for prompt_set, inside in sets.items() if inside == wanted]
        for name, wanted in (("in-domain", True), ("out-of-domain", False))
    }


def primary_scope(sets: Mapping[str, bool]) -> str:
    """Where the primary contrast is: on the pooled in-domain sets, or the only one; where there is none, on the others.
    sets: each one, and whether it is in-domain."""
    domain, inside = next((name, inside) for name, inside in domains_of(sets).items() if inside)
    return domain if len(inside) > 1 else inside[0]


def versus_of(config: Config, entries: Sequence[Entry]) -> tuple[tuple[str, str], ...]:
    """The rows whose responses are judged against each other.

    Raises:
        UserError: as `contrasts_of`.
    """
    rows = [entry.name for entry in entries] + [*ANCHORS]
    _check_pairs("versus", config.versus, rows, "name two rows of it")
    return config.versus


def entry_of(config: Config, name: str, overrides: dict[str, object] | None = None) -> Entry:
    kind = methods.get(name).settings
    settings = validated(kind, {**config.settings.get(name, {}), **(overrides or {})}, f"settings.{name}.")
    return Entry(name, name, settings)
