"""Contamination: how much of an evaluation set is in the training set, word by word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.core.records import Prompt
from harness.core.words import n_grams, words

EXAMPLES = 5


@dataclass(frozen=True)
class Overlap:
    """exact: prompts that are in the training set but for case, punctuation and white space. shared: prompts with at
    least one n-gram of words in common with it, the exact ones included. most: the largest share of one prompt's
    n-grams that are in it. examples: ids of some of the shared ones, the largest shares first."""

    prompts: int
    exact: int
    shared: int
    most: float
    examples: tuple[str, ...]


def overlap(train: Sequence[Prompt], evaluation: Sequence[Prompt], n: int = 8) -> Overlap:
    """What evaluation prompts have in common with training prompts: the user's texts, each turn for itself, as
    sequences of n words. A prompt without n words in a row counts only where it is a training prompt."""
    asked = [_turns(prompt) for prompt in evaluation]
    grams = [[gram for turn in turns for gram in _grams(turn, n)] for turns in asked]
    # the training set may be far larger: only those of its n-grams that can matter are kept
    wanted = {gram for found in grams for gram in found}
    seen: set[int] = set()
    texts: set[str] = set()
    for prompt in train:
        turns = _turns(prompt)
        texts.add(_text(turns, prompt))
        for turn in turns:
            seen.update(wanted.intersection(_grams(turn, n)))
    exact = 0
    shares: list[tuple[float, str]] = []
    for prompt, turns, found in zip(evaluation, asked, grams, strict=True):
        text = _text(turns, prompt)
        equal = text in texts and text.strip() != ""  # `?!` and `…` have no words in common
        exact += equal
        share = 1.0 if equal else sum(gram in seen for gram in found) / max(1, len(found))
        if share:
            shares.append((share, prompt.id))
    shares.sort(key=lambda entry: -entry[0])
    return Overlap(
        prompts=len(evaluation),
        exact=exact,
        shared=len(shares),
        most=shares[0][0] if shares else 0.0,
        examples=tuple(identifier for _, identifier in shares[:EXAMPLES]),
    )


def _turns(prompt: Prompt) -> list[list[str]]:
    """The words of each of the user's turns, those that are still to be sent last."""
    texts = [message.content for message in prompt.messages if message.role == "user"]
    return [words(text) for text in (*texts, *prompt.turns)]


def _text(turns: list[list[str]], prompt: Prompt) -> str:
    """What a prompt asks first, by its words; its further turns make it no other prompt."""
    first = turns[: len(turns) - len(prompt.turns)]
    return "\n".join(map(" ".join, first))


def _grams(turn: list[str], n: int) -> Iterable[int]:
    """Hashes of 64 bits: two of some millions of n-grams share one by chance once in millions of reports."""
    return map(hash, n_grams(turn, n))
