"""The labelled pairs that ship: what their card says of them holds."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import get_args

from harness.judging.check.check import DAMAGED_ITEMS, Weakness, matched, read_pairs
from harness.judging.check.perturbation import LONG, sentences
from harness.prompts import Library, prompt_sets, training_set

PAIRS = read_pairs()
CARD = (Path(__file__).parents[2] / "benchmarks" / "judge_check" / "README.md").read_text(encoding="utf-8")
NAMES = [name for name, found in prompt_sets.items() if found.path]
SHIPPED = [prompt for name in NAMES for prompt in training_set(name, Library()).prompts]


def grams(text: str, n: int) -> set[tuple[str, ...]]:
    words = re.findall(r"[\w']+", text.lower())
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def direction(better: str, worse: str) -> str:
    return "matched" if matched(better, worse) else "longer" if len(better) > len(worse) else "shorter"


def test_there_are_sixty_with_an_id_each_and_six_of_each_kind() -> None:
    assert len({pair.prompt_id for pair in PAIRS}) == len(PAIRS) == 60
    assert Counter(pair.kind for pair in PAIRS) == dict.fromkeys(get_args(Weakness), 6)
    assert all(re.search(rf"^\| {kind} +\|", CARD, re.MULTILINE) for kind in get_args(Weakness))


def test_the_first_rows_are_spread_over_the_kinds() -> None:
    assert len({pair.kind for pair in PAIRS[:10]}) == 10


def test_no_text_is_there_twice() -> None:
    for texts in ([p.prompt for p in PAIRS], [t for p in PAIRS for t in (p.better, p.worse)]):
        assert len(set(texts)) == len(texts)


def test_length_says_nothing_over_the_whole_set() -> None:
    directions = Counter(direction(pair.better, pair.worse) for pair in PAIRS)
    assert directions["matched"] >= len(PAIRS) / 3
    assert abs(directions["longer"] - directions["shorter"]) <= 2
    for size in (len, lambda text: len(text.split())):
        shorter = sum(size(pair.better) < size(pair.worse) for pair in PAIRS)
        assert 0.45 <= shorter / len(PAIRS) <= 0.55
        better, worse = (sum(size(getattr(pair, side)) for pair in PAIRS) for side in ("better", "worse"))
        assert abs(better / worse - 1) < 0.1


def test_the_card_counts_them() -> None:
    directions = Counter(direction(pair.better, pair.worse) for pair in PAIRS)
    words = " ".join(CARD.split())
    shorter = sum(len(pair.better) < len(pair.worse) for pair in PAIRS)
    assert f"the shorter one in {shorter} of {len(PAIRS)} pairs" in words
    better, worse = (sum(len(getattr(pair, side)) for pair in PAIRS) / len(PAIRS) for side in ("better", "worse"))
    assert f"{better:.0f} characters (better) and {worse:.0f} (worse)" in words
    assert f"In {directions['matched']} pairs the shorter one has at least 80%" in words
    assert (
        f"in {directions['shorter']} of the others the label favours the shorter, in {directions['longer']} the longer"
        in words
    )
    assert f"{sum(len(sentences(pair.better)) >= LONG for pair in PAIRS)} of the better responses" in words


def test_padding_is_longer_and_terse_shorter() -> None:
    assert {direction(p.better, p.worse) for p in PAIRS if p.kind == "padding"} == {"shorter"}
    assert {direction(p.better, p.worse) for p in PAIRS if p.kind in ("terse", "incomplete")} == {"longer"}
    assert {direction(p.better, p.worse) for p in PAIRS if p.kind in ("fact", "reasoning")} == {"matched"}


def test_enough_better_responses_are_long_prose() -> None:
    long = [pair.better for pair in PAIRS if len(sentences(pair.better)) >= LONG]
    assert len(long) >= DAMAGED_ITEMS
    assert not any("\n" in text for text in long)
    assert all(sentence[-1] in ".!?" for text in long for sentence in sentences(text))


def test_no_prompt_is_nearly_one_of_a_set_that_ships() -> None:
    # a line feed is no word, so a gram may span two turns; that only makes the test stricter
    turns = {p.id: "\n".join(m.content for m in p.messages if m.role == "user") for p in SHIPPED}
    known = [(name, grams(text, 3), grams(text, 7)) for name, text in turns.items()]
    near = []
    for pair in PAIRS:
        three, seven = grams(pair.prompt, 3), grams(pair.prompt, 7)
        for name, other, sevens in known:
            share = len(three & other) / max(1, min(len(three), len(other)))
            if share > 0.35 or seven & sevens:
                near.append((pair.prompt_id, name))
    assert near == []
