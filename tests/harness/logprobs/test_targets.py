"""Frozen models' distributions, dense and stored, and the outcomes over which they are compared, against float64 and
each other."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.kd import kd_loss
from harness.logprobs.batching import Example, collate
from harness.logprobs.model import DistributionRows
from harness.logprobs.targets import FULL, DenseTarget, Kind, StoredTopK, Support, Target, TopKTarget
from tests.harness.logprobs.rows import dense, outcomes_of
from tests.harness.logprobs.rows import top as top_of

ALL = slice(None)
KINDS: tuple[Kind, ...] = ("tail", "renormalised", "truncated")


def log_prob_rows(rows: int, vocabulary: int, seed: int, spread: float = 3.0) -> Tensor:
    """[rows, vocabulary] float32 log-probs, far from uniform."""
    logits = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.log_softmax(spread * logits, -1).float()


def top(teacher: Tensor, k: int, kind: Kind) -> TopKTarget:
    return top_of(teacher, Support(kind, k))


def left(log_probs: Tensor, ids: Tensor, kind: Kind) -> Tensor:
    """Log-probs of the outcomes that a top k leaves: a float64 oracle that sums what lies outside, outcome by
    outcome."""
    mass = log_probs.double().exp()
    mass = mass / mass.sum(-1, keepdim=True)
    inside = mass.gather(-1, ids)
    if kind == "truncated":
        return inside.log()
    if kind == "renormalised":
        return (inside / inside.sum(-1, keepdim=True)).log()
    outside = torch.ones_like(mass, dtype=torch.bool).scatter(-1, ids, False)
    return torch.cat([inside, (mass * outside).sum(-1, keepdim=True)], -1).log()


# ---- what the readings of a top k give

P, Q, R = [0.40, 0.35, 0.15, 0.10], [0.20, 0.30, 0.10, 0.40], [0.45, 0.45, 0.05, 0.05]
FORWARD, REVERSE = "forward", "reverse"


def divergence(direction: str, target: Target, policy: Tensor) -> Tensor:
    mine, theirs = outcomes_of(target, policy)
    return kd_loss(mine, theirs) if direction == FORWARD else kd_loss(theirs, mine)


@pytest.mark.parametrize(
    ("direction", "policy", "support", "value"),
    [
        (FORWARD, Q, FULL, 0.253402),
        (FORWARD, Q, Support("truncated", 2), 0.331212),
        (FORWARD, Q, Support("renormalised", 2), 0.036150),
        (FORWARD, Q, Support("tail", 2), 0.157925),
        (FORWARD, R, FULL, 0.099033),
        (FORWARD, R, Support("truncated", 2), -0.135073),
        (FORWARD, R, Support("tail", 2), 0.093999),
        (REVERSE, Q, FULL, 0.329097),
        (REVERSE, Q, Support("truncated", 2, "policy"), 0.508273),
        (REVERSE, Q, Support("renormalised", 2, "policy"), 0.284271),
        (REVERSE, Q, Support("tail", 2, "policy"), 0.326432),
    ],
    ids=str,
)
def test_divergences_over_each_support_are_those_that_were_computed_by_hand(
    direction: str, policy: list[float], support: Support, value: float
) -> None:
    mine, theirs = (torch.tensor([row], dtype=torch.float64).log() for row in (policy, P))
    assert divergence(direction, dense(theirs, support), mine).item() == pytest.approx(value, abs=5e-7)
    if support.of == "teacher" and support.kind != "full":  # what is stored says the same
        assert divergence(direction, top_of(theirs, support), mine).item() == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_top_k_of_the_policy_follows_it_and_passes_its_gradient(kind: Kind) -> None:
    student, teacher = log_prob_rows(9, 20, seed=0), log_prob_rows(9, 20, seed=1)
    target = dense(teacher, Support(kind, 3, "policy"))
    wide = student.double().requires_grad_()
    ids = student.topk(3).indices
    wanted = (left(wide, ids, kind).exp() * (left(wide, ids, kind) - left(teacher, ids, kind))).sum()
    # the oracle divides the policy by its sum, which is 1: its gradient has nothing along the masses
    (want,) = torch.autograd.grad(wanted, wide)
    logits = student.clone().requires_grad_()
    mine, theirs = outcomes_of(target, torch.log_softmax(logits, -1))
    (found,) = torch.autograd.grad(kd_loss(theirs, mine).sum(), logits)
    torch.testing.assert_close(kd_loss(theirs, mine).sum().double(), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.double(), want, rtol=1e-3, atol=1e-4)


def test_models_beside_the_teacher_have_the_same_outcomes() -> None:
    student, teacher, reference = (log_prob_rows(5, 16, seed=seed) for seed in (0, 1, 2))
    models = {
        name: DistributionRows(lambda part, size, rows=rows: rows[part, :size], 16)
        for name, rows in (("teacher", teacher), ("reference", reference))
    }
    ids = teacher.topk(4).indices
    mine, theirs = DenseTarget(models, Support("truncated", 4)).outcomes(student, ALL)
    for found, rows in ((mine, student), (theirs["teacher"], teacher), (theirs["reference"], reference)):
        assert torch.equal(found, rows.gather(-1, ids))


def test_a_larger_k_than_there_are_outcomes_is_all_of_them() -> None:
    student, teacher = log_prob_rows(5, 16, seed=0), log_prob_rows(5, 16, seed=1)
    mine, theirs = outcomes_of(dense(teacher, Support("truncated", 64)), student)
    assert mine.shape == theirs.shape == (5, 16)
    torch.testing.assert_close(kd_loss(mine, theirs), kd_loss(student, teacher))


# ---- dense


def test_a_dense_target_makes_the_rows_it_is_asked_for() -> None:
    teacher, student = log_prob_rows(6, 9, seed=0), log_prob_rows(6, 7, seed=1)
    asked = []

    def rows(part: slice, vocabulary: int) -> Tensor:
        asked.append((part, vocabulary))
        return teacher[part, :vocabulary]

    target = DenseTarget({"teacher": DistributionRows(rows, 9)})
    mine, theirs = outcomes_of(target, student[2:5], slice(2, 5))
    assert target.vocabulary == 9
    assert asked == [(slice(2, 5), 7)]  # as many outcomes as the student's rows have
    assert torch.equal(mine, student[2:5])
    assert torch.equal(theirs, teacher[2:5, :7])


def test_a_dense_target_of_several_models_has_the_ids_that_all_have() -> None:
    wide, narrow = (DistributionRows(lambda part, size: torch.zeros(1, size), size) for size in (9, 7))
    assert DenseTarget({"teacher": wide, "reference": narrow}).vocabulary == 7


# ---- top k


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 2, 5, 63])
def test_outcomes_of_a_top_k_equal_a_float64_oracle(k: int, kind: Kind) -> None:
    student, teacher = log_prob_rows(11, 64, seed=2, spread=1.0), log_prob_rows(11, 64, seed=3, spread=1.0)
    target = top(teacher, k, kind)
    mine, theirs = outcomes_of(target, student)
    assert mine.shape == theirs.shape == (11, k + (kind == "tail"))
    for found, log_probs in ((mine, student), (theirs, teacher)):
        wanted = left(log_probs, target.ids, kind)
        assert found.dtype == torch.float32
        # masses, tail and all, are exact but for rounding of their sum; log-probs of the k are as stored
        torch.testing.assert_close(found.exp().double(), wanted.exp(), rtol=1e-5, atol=5e-7)
        if kind != "truncated":
            torch.testing.assert_close(found.exp().sum(-1), torch.ones(11), rtol=0, atol=1e-6)
        if kind != "renormalised":
            assert torch.equal(found[:, :k], log_probs.gather(-1, target.ids))
    for one, other in zip(outcomes_of(dense(teacher, Support(kind, k)), student), (mine, theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_outcomes_are_gathered_for_a_part_of_the_tokens(kind: Kind) -> None:
    student, teacher = log_prob_rows(8, 32, seed=4), log_prob_rows(8, 32, seed=5)
    for target in (top(teacher, 3, kind), dense(teacher, Support(kind, 3)), dense(teacher, Support(kind, 3, "policy"))):
        whole = outcomes_of(target, student)
        part = outcomes_of(target, student[3:6], slice(3, 6))
        for found, wanted in zip(part, whole, strict=True):
            assert torch.equal(found, wanted[3:6])


@pytest.mark.parametrize("kind", KINDS)
def test_a_top_k_of_everything_is_the_dense_divergence(kind: Kind) -> None:
    student, teacher = log_prob_rows(7, 48, seed=6), log_prob_rows(7, 48, seed=7)
    found = kd_loss(*outcomes_of(top(teacher, 48, kind), student))
    wanted = kd_loss(student.double(), teacher.double())
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("k", [1, 4, 16])
def test_what_a_top_k_leaves_out_never_adds_divergence(k: int) -> None:
    # merging outcomes loses information, so the divergence of the buckets is a lower bound
    student, teacher = log_prob_rows(20, 48, seed=8), log_prob_rows(20, 48, seed=9)
    bucket = kd_loss(*outcomes_of(top(teacher, k, "tail"), student))
    whole = kd_loss(student, teacher)
    assert (bucket <= whole + 1e-5).all()
    assert (bucket >= -1e-6).all()
    assert (bucket < whole - 1e-3).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 4, 48])
def test_a_student_that_is_its_teacher_has_no_divergence(k: int, kind: Kind) -> None:
    teacher = log_prob_rows(9, 48, seed=10)
    found = kd_loss(*outcomes_of(top(teacher, k, kind), teacher))
    torch.testing.assert_close(found, torch.zeros(9), rtol=0, atol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 8])
@pytest.mark.parametrize("spread", [30.0, 300.0])
def test_rounding_of_a_full_mass_makes_no_nan_or_infinity(k: int, spread: float) -> None:
    # nearly all mass is in one outcome: 1 − Σ p may round to 0 or less
    teacher = log_prob_rows(200, 32, seed=11, spread=spread)
    student = log_prob_rows(200, 32, seed=11, spread=spread).requires_grad_()
    assert (1 - top(teacher, k, "tail").log_probs.exp().sum(-1) <= 0).any()
    mine, theirs = outcomes_of(top(teacher, k, "tail"), student)
    assert mine.isfinite().all() and theirs.isfinite().all()
    loss = kd_loss(mine, theirs)
    (grad,) = torch.autograd.grad(loss.sum(), student)
    assert loss.isfinite().all() and grad.isfinite().all()
    torch.testing.assert_close(loss, torch.zeros(200), rtol=0, atol=1e-4)


def test_masses_that_sum_to_more_than_one_leave_a_very_small_tail() -> None:
    over = torch.tensor([[0.75, 0.2500001]]).log()
    target = TopKTarget(torch.tensor([[0, 1]]), over, Support("tail", 2))
    for found in outcomes_of(target, torch.tensor([[0.5, 0.5, 0.0]]).log()):
        assert 0 < found[0, 2].exp() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_students_log_probs_as_in_float64(kind: Kind) -> None:
    student, teacher = log_prob_rows(6, 24, seed=12, spread=1.0), log_prob_rows(6, 24, seed=13, spread=1.0)
    target = top(teacher, 5, kind)
    student.requires_grad_()
    (found,) = torch.autograd.grad(kd_loss(*outcomes_of(target, student)).sum(), student)
    wide = student.detach().double().requires_grad_()
    inside = wide.gather(-1, target.ids).exp()
    masses = {
        "tail": torch.cat([inside, 1 - inside.sum(-1, keepdim=True)], -1),
        "renormalised": inside / inside.sum(-1, keepdim=True),
        "truncated": inside,
    }[kind]
    wanted_teacher = left(teacher, target.ids, kind)
    (wanted,) = torch.autograd.grad((wanted_teacher.exp() * (wanted_teacher - masses.log())).sum(), wide)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)
    assert not found.gather(-1, target.ids).eq(0).any()


# ---- stored


def stored(lengths: list[int], k: int, kind: Kind, vocabulary: int | None = None) -> StoredTopK:
    """A data set whose token t of example i says so: id 1000 · i + 10 · t + rank."""
    ids = [[1000 * i + 10 * t + j for j in range(k)] for i, length in enumerate(lengths) for t in range(length)]
    log_probs = np.log(np.array(ids, dtype=np.float64) + 1) - 20
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return StoredTopK(np.array(ids, np.int32), log_probs.astype(np.float32), starts, Support(kind, k), vocabulary)


def test_a_stored_top_k_gives_each_example_its_own_tokens() -> None:
    lengths = [3, 1, 4, 2, 5]
    data = stored(lengths, k=2, kind="tail")
    examples = [Example(index, [7], ([9] * length,)) for index, length in enumerate(lengths)]
    shuffled = random.Random(1).sample(examples, 4)
    assert [e.index for e in shuffled] != sorted(e.index for e in shuffled)
    target = data.of(shuffled, torch.device("cpu"))
    wanted = [[1000 * e.index + 10 * t + j for j in range(2)] for e in shuffled for t in range(lengths[e.index])]
    assert target.ids.tolist() == wanted
    assert target.ids.dtype == torch.int64
    assert target.log_probs.dtype == torch.float32
    torch.testing.assert_close(target.log_probs, (torch.tensor(wanted).double() + 1).log().float() - 20)
    # token by token those that a batch of the same examples has
    assert len(target.ids) == len(collate(shuffled).labels)


@pytest.mark.parametrize("vocabulary", [None, 5000])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_top_k_says_what_becomes_of_the_rest_and_among_how_many_ids(
    kind: Kind, vocabulary: int | None
) -> None:
    target = stored([2, 2], k=3, kind=kind, vocabulary=vocabulary).of([Example(1, [7], ([9, 9],))], torch.device("cpu"))
    assert target.support == Support(kind, 3)
    assert target.vocabulary == vocabulary
    assert target.ids.tolist() == [[1000, 1001, 1002], [1010, 1011, 1012]]


def test_an_example_of_several_responses_has_all_of_their_tokens() -> None:
    data = stored([5, 3], k=1, kind="renormalised")
    target = data.of([Example(1, [7], ([9], [9, 9])), Example(0, [7], ([9, 9], [9, 9, 9]))], torch.device("cpu"))
    assert target.ids[:, 0].tolist() == [1000, 1010, 1020, 0, 10, 20, 30, 40]
