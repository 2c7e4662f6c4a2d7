"""What steps see: stored rows, and which responses the policy writes when, by which names."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from harness.logprobs.batching import Example
from harness.training.data import Fresh, Stored, Wanted, Written, plan_steps
from tests.harness.training.trainings import PAIRS, RESPONSES

ROWS = plan_steps(PAIRS[:20], batch_size=4, epochs=2, seed=0)  # ten steps of four


class Policy:
    """Writes what it is asked for by name, and notes each asking."""

    def __init__(self) -> None:
        self.asked: list[list[Wanted]] = []
        self.with_log_probs: list[bool] = []

    def __call__(self, wanted: Sequence[Wanted], with_log_probs: bool) -> list[Written]:
        self.asked.append(list(wanted))
        self.with_log_probs.append(with_log_probs)
        return [said(one, with_log_probs) for one in wanted]

    @property
    def steps(self) -> list[list[int]]:
        """Of each asking, the steps that it is for."""
        return [sorted({one.step for one in wanted}) for wanted in self.asked]


def said(one: Wanted, with_log_probs: bool) -> Written:
    ids = [one.step, one.example.index, one.sample]
    return Written(ids, [-float(number) for number in ids] if with_log_probs else None, True)


def fresh(policy: Policy | None = None, **fields: Any) -> Fresh:
    what: dict[str, Any] = {
        "examples": PAIRS[:20],
        "rows": ROWS,
        "place": 1,
        "share": 1.0,
        "every": 1,
        "samples": 1,
        "seed": 0,
        "write": policy or Policy(),
    }
    return Fresh(**{**what, **fields})


def all_steps(data: Fresh, first: int = 0) -> list[list[Example]]:
    return [list(data.batch(step)) for step in range(first, data.total)]


def places(steps: list[list[Example]]) -> set[tuple[int, int]]:
    """(step, row) that are fresh."""
    return {(step, one.index) for step, batch in enumerate(steps) for one in batch if one.fresh is not None}


def test_stored_steps_are_rows_of_the_data() -> None:
    data = Stored(RESPONSES[:20], ROWS)
    assert (data.total, data.by_tokens) == (10, False)
    assert [[one.index for one in data.batch(step)] for step in range(10)] == ROWS
    assert data.progress(3, 7) == (7, sum(one.tokens for step in range(10) for one in data.batch(step)))
    data.restore(json.loads(json.dumps(data.saved())))
    assert [one.index for one in data.batch(3)] == ROWS[3]


def test_all_responses_of_a_role_may_be_fresh() -> None:
    policy = Policy()
    data = fresh(policy)
    assert (data.total, data.by_tokens, data.progress(4, 99)) == (10, False, (4, 10))
    for step, batch in enumerate(all_steps(data)):
        assert [one.index for one in batch] == ROWS[step]
        for one in batch:
            stored = PAIRS[one.index]
            changed = dataclasses.replace(one, responses=stored.responses, fresh=None, ended=False)
            assert changed == stored  # nothing else of it is another
            assert one.responses == (stored.responses[0], [step, one.index, 0])
            assert (one.fresh, one.sampled) == (1, None)
    assert policy.steps == [[step] for step in range(10)]
    assert policy.with_log_probs == [False] * 10  # the policy that wrote is the one that is trained


def test_what_is_fresh_follows_from_seed_step_and_row_alone() -> None:
    first = places(all_steps(fresh(share=0.5)))
    assert places(all_steps(fresh(share=0.5))) == first
    assert places(all_steps(fresh(share=0.5, seed=1))) != first
    # neither from who else is in the step, nor from how it was reached
    alone = [[[row] for row in rows] for rows in ROWS]
    for step in (3, 7):
        for (row,) in alone[step]:
            rows = [*ROWS[:step], [row], *ROWS[step + 1 :]]
            (one,) = fresh(share=0.5, rows=rows).batch(step)
            assert (one.fresh is not None) == ((step, row) in first)
    # the same row is drawn anew at another step
    again = [(step, row) for step, row in first if step >= 5]
    before = {row for step, row in first if step < 5}
    assert before != {row for _, row in again}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_shares_are_met_and_a_larger_one_holds_a_smaller(share: float) -> None:
    rows = plan_steps(PAIRS, batch_size=8, epochs=60, seed=0)
    found = places(all_steps(fresh(examples=PAIRS, rows=rows, share=share)))
    count = 60 * len(PAIRS)
    assert abs(len(found) - share * count) < 4 * np.sqrt(count * share * (1 - share))
    assert found <= places(all_steps(fresh(examples=PAIRS, rows=rows, share=min(1.0, share + 0.1))))


def test_what_is_not_fresh_is_stored_as_it_was() -> None:
    for batch in all_steps(fresh(share=0.5)):
        for one in batch:
            assert one.fresh is not None or one is PAIRS[one.index]


def test_a_window_is_written_by_the_policy_at_its_first_step() -> None:
    policy = Policy()
    steps = all_steps(fresh(policy, every=3))
    assert policy.steps == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert policy.with_log_probs == [True] * 4
    for step, batch in enumerate(steps):
        for one in batch:
            assert one.responses[1] == [step, one.index, 0]
            assert one.sampled == [-step, -one.index, 0]


def test_samples_have_names_of_their_own() -> None:
    policy = Policy()
    steps = all_steps(fresh(policy, samples=3, share=0.5))
    names = [(one.step, one.name) for wanted in policy.asked for one in wanted]
    assert len(set(names)) == len(names)
    samples = set()
    for step, batch in enumerate(steps):
        assert list(dict.fromkeys(one.index for one in batch)) == ROWS[step]
        for row in ROWS[step]:
            own = [one.responses[1] for one in batch if one.index == row and one.fresh is not None]
            assert all(list(response[:2]) == [step, row] for response in own)
            samples.add(tuple(response[2] for response in own))
    assert len(samples) > 4  # sample by sample


def test_a_stored_response_is_in_a_step_once_however_many_are_drawn() -> None:
    steps = all_steps(fresh(samples=3, share=0.5))
    for step, batch in enumerate(steps):
        for row in ROWS[step]:
            own = [one for one in batch if one.index == row]
            stored = [one for one in own if one.fresh is None]
            assert len(stored) == (len(own) - len(stored) < 3)
            assert all(one is PAIRS[row] for one in stored)


@pytest.mark.parametrize("every", [1, 3, 4])
@pytest.mark.parametrize("stop", range(1, 10))
def test_a_checkpoint_has_what_was_written_for_the_steps_after_it(every: int, stop: int) -> None:
    how: dict[str, Any] = {"every": every, "share": 0.7, "samples": 2}
    undisturbed = all_steps(fresh(**how))
    stopped, policy = fresh(**how), Policy()
    for step in range(stop):
        stopped.batch(step)
    resumed = fresh(policy, **how)
    resumed.restore(json.loads(json.dumps(stopped.saved())))  # plain data
    assert all_steps(resumed, stop) == undisturbed[stop:]
    asked = [step for steps in policy.steps for step in steps]
    window = -(-stop // every) * every  # the first that was not written for
    assert asked == [step for step in range(window, 10) if step in asked]


def test_a_window_that_a_checkpoint_knows_nothing_of_is_written_from_the_step_itself() -> None:
    policy = Policy()
    data = fresh(policy, every=4)
    data.batch(2)
    assert policy.steps == [[2, 3]]
    data.batch(3), data.batch(4)
    assert policy.steps == [[2, 3], [4, 5, 6, 7]]
