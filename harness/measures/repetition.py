"""How much of the text goes round in loops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.measures.measure import Answered, Measure, Values

TIMES = 3  # a loop is a block of words that is said so often in a row, at least,
LEAST = 6  # and has so many words in all: "no, no, no" is none


def in_loops(words: Sequence[str]) -> Values:
    """[words]: whether each is in a loop: a stretch of at least LEAST words that is one block of words said at least
    TIMES times in a row, the last, unfinished time included.

    Exact, in O(words · longest block): a stretch with blocks of p words is one in which every word is that p words
    before it, and only windows of the least length are to be looked at, as longer stretches are their unions.
    """
    n, known = len(words), dict[str, int]()
    ids = np.array([known.setdefault(word, len(known)) for word in words], dtype=int)
    begin_end = np.zeros(n + 1, dtype=int)
    for block in range(1, n // TIMES + 1):
        window = max(TIMES * block, LEAST)
        if window > n:
            continue
        same = np.concatenate([[0], np.cumsum(ids[block:] == ids[:-block])])
        compared = window - block
        starts = np.flatnonzero(same[compared:] - same[:-compared] == compared)
        begin_end[starts] += 1
        begin_end[starts + window] -= 1
    return np.asarray(np.cumsum(begin_end[:-1]) > 0)


def values(answered: Answered) -> Values:
    """[words]: 1 where a word of a response is in a loop, else 0. None goes from one answer to the next; a response
    without words has none."""
    loops = [in_loops(answer) for answers in answered.words for answer in answers]
    return np.concatenate([np.zeros(0), *loops]).astype(float)


REPETITION = Measure(
    name="repetition",
    reads="responses",
    values=values,
    summary=f"share of words in loops: a block of words at least {TIMES} times in a row, at least {LEAST} words in all",
    misses="loops that change a word each time, such as a number, and those of signs without words; a refrain is none",
    unit="share of words",
    better="lower",
    group="text",
    head="in loops",
)
