"""Asking a prompt again makes no new prompt: 80 prompts written four times are as wide as 80, whatever the writing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.records import Verdict
from harness.judging.importers import from_fastchat
from harness.statistics.outcomes import from_records
from harness.statistics.rates import Interval
from harness.statistics.summary import ComparisonRates, SetContrast, Statistics, statistics_of
from tests.harness.tabular import BOTH, verdict

PROMPTS, TIMES = 80, 4
Naming = Callable[[int, int], dict[str, Any]]  # of a prompt and a time, from 0

WRITTEN: dict[str, Naming] = {
    "repeats": lambda prompt, time: {"prompt_id": f"p{prompt}", "repeat": time},
    "samples": lambda prompt, time: {"prompt_id": f"p{prompt}", "sample": time},
    "numbered ids": lambda prompt, time: {"prompt_id": f"p{prompt}#{time + 1}" if time else f"p{prompt}"},
    "one text": lambda prompt, time: {"prompt_id": f"p{prompt + PROMPTS * time}", "prompt_digest": f"text {prompt}"},
    "turns": lambda prompt, time: {"prompt_id": f"p{prompt}", "turn": time + 1},
    "numbered turns": lambda prompt, time: {"prompt_set": "fastchat", "prompt_id": f"{prompt}-turn-{time + 1}"},
}


def judged(naming: Naming, times: int) -> Statistics:
    """`a` wins 30 of the prompts and ties 10, `b` wins 20 others, each time alike; one against the other."""
    rows: list[Verdict] = []
    for time in range(times):
        for candidate, worth in (
            ("a", lambda p: 1.0 if p < 30 else 0.5 if p < 40 else 0.0),
            ("b", lambda p: p % 4 == 0),
        ):
            for prompt in range(PROMPTS):
                named = {"candidate": candidate, **naming(prompt, time)}
                rows += [verdict(preference=float(worth(prompt)), order=order, **named) for order in BOTH]
    return statistics_of(from_records(rows), [("a", "b")])


def row(found: Statistics) -> ComparisonRates:
    return next(one for one in found.comparisons if one.candidate == "a")


def width(interval: Interval | None) -> float:
    assert interval is not None
    return interval[1] - interval[0]


@pytest.mark.parametrize("written", WRITTEN)
def test_80_prompts_written_four_times_are_as_wide_as_80(written: str) -> None:
    once, again = judged(WRITTEN["repeats"], 1), judged(WRITTEN[written], TIMES)
    one, four = row(once), row(again)
    assert (one.n, one.prompts, one.missing) == (PROMPTS, PROMPTS, 0)
    assert (four.n, four.prompts, four.missing) == (PROMPTS * TIMES, PROMPTS, 0)
    assert four.win_interval == pytest.approx(one.win_interval)
    # φ has one more outcome of each kind, which is less among four times as many
    for name in ("preference_interval", "half_tie_interval", "mean_preference_interval"):
        assert width(getattr(four, name)) == pytest.approx(width(getattr(one, name)), rel=0.03)
    (first,), (second,) = once.contrasts, again.contrasts
    assert (second.n, second.left_out) == (first.n, first.left_out) == (PROMPTS, 0)
    assert second.interval == pytest.approx(first.interval)
    assert second.p == pytest.approx(first.p)


def test_all_ways_of_writing_them_have_the_same_figures() -> None:
    found = [judged(naming, TIMES) for naming in WRITTEN.values()]
    of_set = {"prompt_set": "set"}
    rows = [row(one).model_copy(update=of_set).model_dump(exclude={"flips", "verdicts"}) for one in found]
    assert all(one == rows[0] for one in rows)
    contrasts: list[SetContrast] = [one.contrasts[0].model_copy(update=of_set) for one in found]
    assert all(one == contrasts[0] for one in contrasts)


def test_imported_turns_of_one_question_are_one_prompt(tmp_path: Path) -> None:
    """MT-Bench: 80 questions of two turns."""
    drawn = np.random.default_rng(0).choice(["model_1", "model_2", "tie"], size=PROMPTS).tolist()
    named = {"model_1": "model", "model_2": "base", "judge": "gpt-4"}
    rows = [
        {"question_id": 81 + number, **named, "g1_winner": winner, "g2_winner": winner, "turn": turn}
        for turn in (1, 2)
        for number, winner in enumerate(drawn)
    ]
    found = []
    for turns in (1, 2):
        path = tmp_path / f"{turns}.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in rows[: turns * PROMPTS]))
        found.append(statistics_of(from_records(from_fastchat([path]))).comparisons[0])
    one, two = found
    assert [(one.n, one.prompts), (two.n, two.prompts)] == [(PROMPTS, PROMPTS), (2 * PROMPTS, PROMPTS)]
    assert two.win_interval == pytest.approx(one.win_interval)
