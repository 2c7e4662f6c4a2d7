from __future__ import annotations

import numpy as np
import pytest

from harness.measures import PairLogProbs
from harness.measures.margin_accuracy import MARGIN_ACCURACY


@pytest.mark.parametrize(
    ("policy", "reference", "expected"),
    [
        ([-10, -20], [-12, -20], 1),  # the teacher's response gained 2, the student's nothing
        ([-12, -20], [-12, -18], 1),  # the student's lost 2
        ([-15, -29], [-12, -20], 1),  # both fell, the student's further: ranked right all the same
        ([-12, -18], [-12, -20], 0),
        ([-10, -20], [-11, -21], 0.5),
    ],
)
def test_it_is_whether_the_teacher_s_response_gained_more(
    policy: list[float], reference: list[float], expected: float
) -> None:
    pair = PairLogProbs(np.array(policy, dtype=float), np.array(reference, dtype=float))
    assert MARGIN_ACCURACY.values(pair).tolist() == [expected]


def test_an_untrained_policy_ranks_none() -> None:
    sums = np.array([-31.7, -12.3])
    assert MARGIN_ACCURACY.values(PairLogProbs(sums, sums.copy())).tolist() == [0.5]
