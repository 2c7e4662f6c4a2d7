from __future__ import annotations

import torch

from baselines.kd import kd_loss
from baselines.rkl import rkl_loss
from tests.baselines.rows import bucketed, close, log_probs, logs

ONE, OTHER = logs([0.45, 0.45, 0.05, 0.05]), logs([0.20, 0.30, 0.10, 0.40])
TEACHER = logs([0.40, 0.35, 0.15, 0.10])


def test_it_is_kd_with_teacher_and_policy_in_each_others_places() -> None:
    policy, teacher = log_probs(0, 5, 30), log_probs(1, 5, 30)
    close(rkl_loss(policy, teacher), kd_loss(teacher, policy))


def test_the_students_top_2_has_three_values() -> None:
    top = OTHER.topk(2).indices
    few = OTHER.gather(-1, top), TEACHER.gather(-1, top)
    close(rkl_loss(*few), [0.508273], 1e-6)
    close(rkl_loss(*(rows.log_softmax(-1) for rows in few)), [0.284271], 1e-6)
    close(rkl_loss(bucketed(OTHER, top), bucketed(TEACHER, top)), [0.326432], 1e-6)


def test_the_teachers_top_2_of_the_forward_kl_has_three_values_and_one_can_be_negative() -> None:
    top = TEACHER.topk(2).indices
    for policy, values in ((OTHER, (0.331212, 0.036150, 0.157925)), (ONE, (-0.135073, None, 0.093999))):
        few = policy.gather(-1, top), TEACHER.gather(-1, top)
        close(kd_loss(*few), [values[0]], 1e-6)
        if values[1] is not None:
            close(kd_loss(*(rows.log_softmax(-1) for rows in few)), [values[1]], 1e-6)
        close(kd_loss(bucketed(policy, top), bucketed(TEACHER, top)), [values[2]], 1e-6)
    close(kd_loss(ONE, TEACHER), [0.099033], 1e-5)


def test_what_the_teacher_rules_out_adds_nothing() -> None:
    policy, teacher = log_probs(0, 3, 6), log_probs(1, 3, 6)
    teacher[:, 4] = -torch.inf
    kept = [0, 1, 2, 3, 5]
    close(rkl_loss(policy, teacher), rkl_loss(policy[:, kept], teacher[:, kept]))


def test_truncated_it_pushes_mass_out_of_its_outcomes() -> None:
    """As the page says: its least is at q = p/e."""
    few = TEACHER[:, :2]
    least = few - 1
    for moved in (-0.1, 0.1):
        assert (rkl_loss(least + moved, few) > rkl_loss(least, few)).all()
    assert (rkl_loss(least, few) < rkl_loss(few, few)).all()
