from __future__ import annotations

import pytest

from harness.measures.nll import NLL
from tests.harness.measures.made import tokens


def test_it_is_the_student_s_of_the_token_that_is_there() -> None:
    assert NLL.values(tokens(student_log_prob=[-0.5, -2], teacher_log_prob=[-1, -1])).tolist() == [0.5, 2]


def test_the_teacher_s_own_value_is_its_entropy() -> None:
    assert NLL.teacher is not None
    made = tokens(teacher_entropy=[0.25, 1.5], teacher_log_prob=[-9, -9])
    assert NLL.teacher(made) == pytest.approx([0.25, 1.5])
