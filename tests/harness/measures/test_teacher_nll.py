from __future__ import annotations

from harness.measures.teacher_nll import TEACHER_NLL


def test_the_likelihood_of_a_response_is_its_mean_a_token() -> None:
    row = {"prompt_id": "a", "sample": 0, "log_probs": [-6.0], "tokens": [4]}
    assert TEACHER_NLL.values(row).tolist() == [1.5]
