"""Prompt sets by name (a card, benchmarks/prompts/NAME.md, or the configuration's `prompts`) or by path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

from harness.core.errors import UserError
from harness.core.registry import Registry, did_you_mean
from harness.core.section import parse_yaml, validated
from harness.prompts.normalise import PromptSet, read_set
from harness.prompts.settings import TEST_SHARE, PromptSource
from harness.prompts.sources import SUFFIXES

PARTS = ("train", "test")


class Card(PromptSource):
    """What the card of a named set says. `in_domain_of` names the training set whose distribution it shares, if any."""

    summary: str
    in_domain_of: str | None = None


@dataclass(frozen=True)
class Library:
    """Where prompt sets are looked for, and how they are cut where nothing else is said. own: sets by name, from the
    configuration. download: whether what is missing may be fetched."""

    own: Mapping[str, PromptSource] = field(default_factory=dict)
    test_share: float = TEST_SHARE
    download: bool = False

    def bring(self, name: str, source: PromptSource) -> PromptSet:
        """The set from this source."""
        share = (source.test_share or self.test_share) if source.part else None
        found = read_set(name, source.model_copy(update={"test_share": share}), self.download)
        return replace(found, card=isinstance(source, Card))


def _load_cards() -> dict[str, Card]:
    folder = resources.files("benchmarks") / "prompts"
    found = {}
    for entry in folder.iterdir():
        if entry.name.endswith(".md"):
            name = entry.name.removesuffix(".md")
            head = parse_yaml(entry.read_text(encoding="utf-8").split("---")[1], f"card {entry.name}")
            here = {} if "hub" in head else {"path": Path(str(folder / f"{name}.jsonl"))}
            found[name] = validated(Card, {**head, **here}, f"card {entry.name}: ")
    return found


prompt_sets: Registry[Card] = Registry("prompt set", _load_cards)


def training_set(text: str, library: Library) -> PromptSet:
    """A set by its name, or by the path of a file or folder."""
    name, source = _by_path(text, library) or _by_name(text, library)
    return library.bring(name, source)


def evaluation_set(text: str, train: PromptSet | None, library: Library) -> tuple[PromptSet, bool]:
    """A set and whether it is in-domain: a named set by its card, one of the configuration's by what is said there, a
    file only when written `in:PATH`."""
    if text.startswith("in:"):
        there = _by_path(text[3:], library)
        if there is None:
            raise UserError(f"prompt file {text[3:]} does not exist")
        return library.bring(*there), True
    name, source = _by_path(text, library) or _by_name(text, library)
    of = source.in_domain_of if isinstance(source, Card) else None
    return library.bring(name, source), source.in_domain or (train is not None and train.card and train.name == of)


def _by_path(text: str, library: Library) -> tuple[str, PromptSource] | None:
    """A file or folder, of which `@train` or `@test` takes one part; None where it is a name or nothing."""
    if text in library.own:
        return None
    path, part = Path(text), None
    before, at, end = text.rpartition("@")
    if at and end in PARTS and not path.exists():
        path, part = Path(before), end
    if path.suffix in SUFFIXES or (text not in prompt_sets and path.exists()):
        return path.stem + (f"-{part}" if part else ""), PromptSource.model_validate({"path": path, "part": part})
    return None


def _by_name(text: str, library: Library) -> tuple[str, PromptSource]:
    for name in library.own:
        if name in prompt_sets:
            raise UserError(f"prompts.{name}: there is a prompt set of that name already; give yours another")
    source = library.own.get(text) or (prompt_sets.get(text) if text in prompt_sets else None)
    if source is None:
        before, at, _ = text.rpartition("@")
        if at and Path(before).exists():
            raise UserError(f"'{text}': a file's parts are @{' and @'.join(PARTS)}")
        raise UserError(f"unknown prompt set '{text}'{did_you_mean(text, [*prompt_sets.names(), *library.own])}")
    return text, source
