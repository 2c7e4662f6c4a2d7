"""How often the implicit reward of a policy ranks held-out pairs right (Rafailov et al. 2023, arXiv 2305.18290)."""

from __future__ import annotations

import numpy as np

from harness.measures.measure import Measure, PairLogProbs, Values


def values(pair: PairLogProbs) -> Values:
    """[1]: 1 where log π_θ/π_ref of the teacher's response is above that of the SFT student's, 0.5 where they are
    equal (as they are of equal responses), else 0. At temperature 1, at which the policy was trained."""
    chosen, rejected = pair.policy - pair.reference
    return np.array([0.5 if chosen == rejected else float(chosen > rejected)])


MARGIN_ACCURACY = Measure(
    name="margin_accuracy",
    reads="pairs",
    values=values,
    summary="share of held-out pairs (teacher, SFT student) whose implicit reward ranks the teacher's response first",
    misses="what the policy now writes itself; it rises as well where both log-probs fall",
    unit="share of pairs",
    better="higher",
    group="fidelity",
    head="pairs ranked right",
    place=6,
)
