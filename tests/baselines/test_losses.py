"""The losses against plain float64 arithmetic, and what docs/methods/dadpo.md says follows from daDPO's form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from baselines import dadpo, ddpo, kd, sft
from baselines.dadpo import dadpo_loss, replace_teacher_margin
from baselines.ddpo import ddpo_loss
from baselines.kd import kd_loss
from baselines.sft import sft_loss
from harness.methods import Control, DistributionInputs, Method, SequenceInputs, methods, selected_controls

BETAS = [(0.1, 0.05), (0.05, 0.3), (1.0, 0.5), (0.0, 0.2), (0.2, 0.0)]


def softplus(x: float) -> float:
    """log(1 + e^x) = −log σ(−x), without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def sums(seed: int, pairs: int = 6, scale: float = 10.0) -> Tensor:
    """Made-up summed log-probs [pairs, 2], float64."""
    return -scale * torch.rand(pairs, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 1


def log_probs(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """Made-up distributions over the last axis, as float64 log-probs."""
    logits = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.log_softmax(scale * logits, -1)


def close(actual: Tensor, expected: Any, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(
        actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=tolerance, atol=tolerance, check_device=False
    )


# ---- each loss against plain arithmetic


def test_sft_is_minus_the_summed_log_prob() -> None:
    policy = sums(0)[:, :1]
    close(sft_loss(policy), [-row[0] for row in policy.tolist()])


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0, 5.0])
def test_ddpo_is_minus_log_sigmoid_of_the_scaled_margin(beta: float) -> None:
    policy, reference = sums(0), sums(1)
    expected = [
        softplus(-beta * ((p[0] - r[0]) - (p[1] - r[1])))
        for p, r in zip(policy.tolist(), reference.tolist(), strict=True)
    ]
    close(ddpo_loss(policy, reference, beta), expected)


@pytest.mark.parametrize(("b1", "b2"), BETAS)
def test_dadpo_is_minus_log_sigmoid_of_the_papers_two_log_ratios(b1: float, b2: float) -> None:
    policy, reference, teacher = sums(0), sums(1), sums(2)
    expected = []
    for p, r, t in zip(policy.tolist(), reference.tolist(), teacher.tolist(), strict=True):
        chosen, rejected = ((b1 + b2) * p[i] - b1 * r[i] - b2 * t[i] for i in (0, 1))
        expected.append(softplus(rejected - chosen))
    close(dadpo_loss(policy, reference, teacher, b1, b2), expected)


def test_an_untrained_policy_has_a_loss_of_log_2_under_ddpo() -> None:
    close(ddpo_loss(sums(1), sums(1), 0.1), [math.log(2)] * 6)


@pytest.mark.parametrize("margin", [-1e5, 1e5])
def test_pair_losses_and_gradients_stay_finite_at_extreme_margins(margin: float) -> None:
    policy = torch.tensor([[-1e5 + margin, -1e5]], requires_grad=True)
    reference = torch.full((1, 2), -1e5)
    loss = ddpo_loss(policy, reference, 1.0) + dadpo_loss(policy, reference, reference, 0.5, 0.5)
    (gradient,) = torch.autograd.grad(loss.sum(), policy)
    assert loss.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize("outcomes", [2, 7, 50])
def test_kd_is_the_kl_from_student_to_teacher_of_dense_rows(outcomes: int) -> None:
    student, teacher = log_probs(0, 5, outcomes), log_probs(1, 5, outcomes)
    expected = [
        sum(math.exp(t) * (t - s) for t, s in zip(teacher_row, student_row, strict=True))
        for teacher_row, student_row in zip(teacher.tolist(), student.tolist(), strict=True)
    ]
    close(kd_loss(student, teacher), expected)


def bucketed(rows: Tensor, top: Tensor) -> Tensor:
    """The log-probs of the `top` outcomes of each row, and of all others together."""
    tail = rows.exp().scatter(-1, top, 0.0).sum(-1, keepdim=True).log()
    return torch.cat([rows.gather(-1, top), tail], -1)


def test_kd_of_a_top_k_and_a_tail_is_the_kl_of_those_outcomes() -> None:
    student, teacher = log_probs(0, 5, 20), log_probs(1, 5, 20)
    top = teacher.topk(3).indices
    expected = []
    for s, t, kept in zip(student.exp().tolist(), teacher.exp().tolist(), top.tolist(), strict=True):
        kl = sum(t[i] * math.log(t[i] / s[i]) for i in kept)
        tail_t, tail_s = (sum(p for i, p in enumerate(row) if i not in kept) for row in (t, s))
        expected.append(kl + tail_t * math.log(tail_t / tail_s))
    found = kd_loss(bucketed(student, top), bucketed(teacher, top))
    close(found, expected)
    assert (found <= kd_loss(student, teacher)).all()  # merging outcomes can only lose information


def test_kd_of_a_top_k_and_a_tail_is_the_dense_kl_where_the_tails_have_one_shape() -> None:
    student, teacher = log_probs(0, 4, 10).exp(), log_probs(1, 4, 10).exp()
    top = torch.arange(3).repeat(4, 1)
    scale = student[:, 3:].sum(-1, keepdim=True) / teacher[:, 3:].sum(-1, keepdim=True)
    student[:, 3:] = teacher[:, 3:] * scale
    close(kd_loss(bucketed(student.log(), top), bucketed(teacher.log(), top)), kd_loss(student.log(), teacher.log()))


@pytest.mark.parametrize("student_too", [False, True])
def test_outcomes_that_the_teacher_rules_out_add_nothing_to_kd(student_too: bool) -> None:
    student, teacher = log_probs(0, 4, 6), log_probs(1, 4, 6)
    expected = kd_loss(student, teacher)
    absent = torch.full((4, 2), -torch.inf, dtype=torch.float64)
    widened = torch.cat([teacher, absent], -1)
    close(
        kd_loss(torch.cat([student, absent if student_too else absent.new_full((4, 2), -3.0)], -1), widened), expected
    )


@pytest.mark.parametrize("ruled_out", [-math.inf, -1e4])
def test_outcomes_that_the_teacher_rules_out_give_kd_finite_gradients(ruled_out: float) -> None:
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    teacher_logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    teacher_logits[:, 1] = ruled_out
    teacher = torch.log_softmax(teacher_logits, -1)
    (gradient,) = torch.autograd.grad(kd_loss(torch.log_softmax(logits, -1), teacher).sum(), logits)
    close(gradient, torch.softmax(logits, -1) - teacher.exp(), 1e-5)  # the closed form of KL through a softmax


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_kd_is_never_negative_and_zero_only_at_equality(scale: float) -> None:
    student, teacher = log_probs(0, 100, 8, scale=scale), log_probs(1, 100, 8, scale=scale)
    assert (kd_loss(student, teacher) > 0).all()
    close(kd_loss(teacher, teacher), torch.zeros(100))


# ---- what each method hands its loss


def sequence_loss(method: Method, settings: Any, policy: Tensor, **models: Tensor) -> Tensor:
    """A method's own loss, given only what it declares to read."""
    read = {name: models[name] for name in method.reads}
    return method.loss(SequenceInputs(policy, method.roles, read, lengths=torch.full_like(policy, 9.0)), settings)


def test_methods_pass_their_own_settings_and_what_they_read_to_their_losses() -> None:
    policy, reference, teacher = sums(0), sums(1), sums(2)
    models = {"reference": reference, "teacher": teacher}
    close(sequence_loss(sft.METHOD, sft.Settings(), policy[:, :1]), sft_loss(policy[:, :1]))
    close(
        sequence_loss(ddpo.METHOD, ddpo.Settings(beta=0.3), policy, **models),
        ddpo_loss(policy, reference, 0.3),
    )
    close(
        sequence_loss(dadpo.METHOD, dadpo.Settings(beta_reference=0.3, beta_teacher=0.7), policy, **models),
        dadpo_loss(policy, reference, teacher, 0.3, 0.7),
    )
    mine, theirs = log_probs(3, 4, 6), log_probs(4, 4, 6)
    rows = DistributionInputs(mine, kd.METHOD.roles, {"teacher": theirs})
    close(kd.METHOD.loss(rows, kd.Settings()), kd_loss(mine, theirs))


def test_the_four_methods_are_registered_under_their_names() -> None:
    for method in (sft.METHOD, kd.METHOD, ddpo.METHOD, dadpo.METHOD):
        assert methods.get(method.name) is method


# ---- consequences, by their numbers in docs/methods/dadpo.md


@pytest.mark.parametrize("beta", [0.05, 0.1, 1.0])
def test_consequence_1_dadpo_without_the_teachers_beta_is_ddpo(beta: float) -> None:
    policy, reference, teacher = sums(0), sums(1), sums(2)
    close(dadpo_loss(policy, reference, teacher, beta, 0.0), ddpo_loss(policy, reference, beta))


@pytest.mark.parametrize("beta", [0.05, 0.1, 1.0])
def test_consequence_1_dadpo_without_the_references_beta_is_ddpo_with_the_teacher_as_reference(beta: float) -> None:
    policy, reference, teacher = sums(0), sums(1), sums(2)
    close(dadpo_loss(policy, reference, teacher, 0.0, beta), ddpo_loss(policy, teacher, beta))


@pytest.mark.parametrize(("b1", "b2"), BETAS)
def test_consequence_1_dadpo_with_the_reference_as_teacher_is_ddpo_at_the_sum_of_betas(b1: float, b2: float) -> None:
    policy, reference = sums(0), sums(1)
    close(dadpo_loss(policy, reference, reference, b1, b2), ddpo_loss(policy, reference, b1 + b2))


@pytest.mark.parametrize(("b1", "b2"), BETAS)
def test_consequence_2_dadpo_is_ddpo_with_the_mixed_reference(b1: float, b2: float) -> None:
    policy, reference, teacher = sums(0), sums(1), sums(2)
    mixed = (b1 * reference + b2 * teacher) / (b1 + b2)
    close(dadpo_loss(policy, reference, teacher, b1, b2), ddpo_loss(policy, mixed, b1 + b2))


@pytest.mark.parametrize("constant", [-100.0, 0.5, 100.0])
def test_consequence_4_a_constant_on_both_teacher_log_probs_changes_nothing(constant: float) -> None:
    policy, reference, teacher = sums(0), sums(1), sums(2)
    close(
        dadpo_loss(policy, reference, teacher + constant, 0.1, 0.05),
        dadpo_loss(policy, reference, teacher, 0.1, 0.05),
    )


@pytest.mark.parametrize(("b1", "b2"), BETAS)
def test_consequence_5_the_gradient_has_its_closed_form(b1: float, b2: float) -> None:
    chosen, rejected = 3, 1
    logits = torch.tensor([0.3, -1.2, 0.8, 0.1, -0.4], dtype=torch.float64, requires_grad=True)
    reference, teacher = log_probs(1, 5), log_probs(2, 5)
    pick = torch.tensor([[chosen, rejected]])
    policy = torch.log_softmax(logits, -1)
    (found,) = torch.autograd.grad(dadpo_loss(policy[pick], reference[pick], teacher[pick], b1, b2).sum(), logits)

    def margin(rows: Tensor) -> float:
        ratio = (rows - reference).tolist()
        return ratio[chosen] - ratio[rejected]

    weight = 1 / (1 + math.exp(-(b2 * margin(teacher) - (b1 + b2) * margin(policy.detach()))))
    # ∇ log π(y) of a softmax policy is onehot(y) − π, so the difference of two is a difference of one-hots
    expected = torch.zeros(5, dtype=torch.float64)
    expected[chosen], expected[rejected] = -(b1 + b2) * weight, (b1 + b2) * weight
    close(found, expected)


def population_optimum(weights: Tensor, pair_loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The log-probs of the softmax policy that minimises Σ_ij weights[i, j] · loss(i chosen, j rejected)."""
    outcomes = len(weights)
    pairs = torch.cartesian_prod(torch.arange(outcomes), torch.arange(outcomes))
    logits = torch.zeros(outcomes, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [logits], max_iter=2000, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = (weights.flatten() * pair_loss(torch.log_softmax(logits, -1)[pairs])).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return torch.log_softmax(logits.detach(), -1)


def of_pairs(rows: Tensor) -> Tensor:
    """[V] log-probs as [V², 2], in the order of `population_optimum`."""
    outcomes = torch.arange(len(rows))
    return rows[torch.cartesian_prod(outcomes, outcomes)]


OUTCOMES = 5
REFERENCE, TEACHER = log_probs(10, OUTCOMES), log_probs(11, OUTCOMES, scale=0.5)


def dadpo_optimum(weights: Tensor, b1: float, b2: float) -> Tensor:
    reference, teacher = of_pairs(REFERENCE), of_pairs(TEACHER)
    return population_optimum(weights, lambda policy: dadpo_loss(policy, reference, teacher, b1, b2))


def ddpo_optimum(weights: Tensor, beta: float) -> Tensor:
    return population_optimum(weights, lambda policy: ddpo_loss(policy, of_pairs(REFERENCE), beta))


@pytest.mark.parametrize(("b1", "b2"), BETAS)
def test_consequence_6_bradley_terry_preferences_recover_the_regularised_optimum(b1: float, b2: float) -> None:
    reward = torch.tensor([0.2, -0.1, 0.0, 0.3, -0.25], dtype=torch.float64)
    compared = log_probs(12, OUTCOMES).exp()  # any distribution with full support will do
    preferred = 1 / (1 + (reward[None, :] - reward[:, None]).exp())
    found = dadpo_optimum(compared[:, None] * compared[None, :] * preferred, b1, b2)
    total = b1 + b2
    expected = torch.log_softmax(b1 / total * REFERENCE + b2 / total * TEACHER + reward / total, -1)
    close(found, expected, 1e-5)


def distillation_pairs() -> Tensor:
    """How often (i, j) comes as (teacher's, student's) response when the reference is the student that sampled."""
    return TEACHER.exp()[:, None] * REFERENCE.exp()[None, :]


@pytest.mark.parametrize(("b1", "b2"), BETAS)
def test_consequence_7_on_distillation_pairs_dadpo_overshoots_the_teacher_by_its_betas(b1: float, b2: float) -> None:
    power = (1 + b2) / (b1 + b2)
    expected = torch.log_softmax(REFERENCE + power * (TEACHER - REFERENCE), -1)
    close(dadpo_optimum(distillation_pairs(), b1, b2), expected, 1e-5)


@pytest.mark.parametrize("b2", [0.0, 0.05, 0.5, 3.0])
def test_consequence_7_beta_reference_of_1_recovers_the_teacher(b2: float) -> None:
    close(dadpo_optimum(distillation_pairs(), 1.0, b2), TEACHER, 1e-6)


@pytest.mark.parametrize(("b1", "b2"), BETAS)
def test_consequence_7_ddpo_at_the_matched_beta_has_dadpos_optimum(b1: float, b2: float) -> None:
    matched = ddpo_optimum(distillation_pairs(), (b1 + b2) / (1 + b2))
    close(matched, dadpo_optimum(distillation_pairs(), b1, b2), 1e-5)


# ---- the controls that a claim travels with

TRAINING = {"learning_rate": 3e-6, "epochs": 3, "batch_size": 4}


def controls_of(level: str, **settings: Any) -> dict[str, Control]:
    found = selected_controls(dadpo.METHOD, dadpo.Settings(**settings), level)
    assert len({control.name for control in found}) == len(found)
    return {control.name: control for control in found}


def settings_of(control: Control) -> Any:
    return methods.get(control.method).settings.model_validate(control.overrides)


def test_without_controls_there_are_none() -> None:
    assert controls_of("none") == {}


@pytest.mark.parametrize(("b1", "b2"), [(0.1, 0.05), (0.3, 0.7), (0.0, 0.2)])
def test_the_basic_control_is_ddpo_at_the_sum_of_betas(b1: float, b2: float) -> None:
    (control,) = controls_of("basic", beta_reference=b1, beta_teacher=b2).values()
    assert control.method == "ddpo"
    assert settings_of(control).beta == pytest.approx(b1 + b2)


def test_the_full_controls_are_both_betas_both_placebos_continued_sft_and_the_same_target_on_policy() -> None:
    found = controls_of("full", beta_reference=0.1, beta_teacher=0.05)
    betas = [settings_of(control).beta for control in found.values() if control.method == "ddpo"]
    margins = {settings_of(control).teacher_margin for control in found.values() if control.method == "dadpo"}
    assert betas == pytest.approx([0.15, 0.15 / 1.05])
    assert margins == {"permuted", "mean"}
    assert [control.method for control in found.values() if control.match_tokens] == ["sft"]
    assert settings_of(found["sft-continued"]).start == "sft"
    assert settings_of(found["gopd-same-target"]).extrapolation == 7
    assert len(found) == 6


def test_every_control_says_why_it_is_there() -> None:
    assert all(control.why for control in controls_of("full").values())


def test_preference_controls_train_as_the_method_that_they_control() -> None:
    for control in controls_of("full", **TRAINING).values():
        if control.method in ("ddpo", "dadpo"):
            assert settings_of(control).model_dump(include=set(TRAINING)) == TRAINING


def test_placebos_keep_the_methods_betas() -> None:
    found = controls_of("full", beta_reference=0.3, beta_teacher=0.7)
    for name in ("dadpo-permuted", "dadpo-mean"):
        settings = settings_of(found[name])
        assert (settings.beta_reference, settings.beta_teacher) == (0.3, 0.7)


@pytest.mark.parametrize(("b1", "b2"), [(0.1, 0.05), (0.5, 0.2), (0.1, 1e-5)])
def test_controls_with_different_settings_have_different_names(b1: float, b2: float) -> None:
    found = dadpo.controls(dadpo.Settings(beta_reference=b1, beta_teacher=b2))
    by_name = {control.name: control.overrides for control in found}
    assert all(by_name[control.name] == control.overrides for control in found)


def test_kds_full_control_starts_from_the_sft_student() -> None:
    assert selected_controls(kd.METHOD, kd.Settings(), "basic") == []
    (control,) = selected_controls(kd.METHOD, kd.Settings(), "full")
    assert control.method == "kd"
    assert settings_of(control).start == "sft"


# ---- the teacher's margin, replaced


def signals_of(pairs: int = 40, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "reference": rng.uniform(-200, -20, (pairs, 2)).astype(np.float32),
        "teacher": rng.uniform(-200, -20, (pairs, 2)).astype(np.float32),
        "another_signal": rng.uniform(-1, 1, (pairs, 2)).astype(np.float32),
    }


def margins(signals: dict[str, Any]) -> Any:
    ratio = signals["teacher"].astype(np.float64) - signals["reference"]
    return ratio[:, 0] - ratio[:, 1]


def replaced(signals: dict[str, Any], how: str, seed: int = 0) -> dict[str, Any]:
    return replace_teacher_margin(signals, dadpo.Settings(teacher_margin=how), seed)


def test_own_margins_are_left_as_they_are() -> None:
    signals = signals_of()
    assert all(np.array_equal(value, signals[name]) for name, value in replaced(signals, "own").items())


def test_permuted_margins_are_the_same_margins_on_other_pairs() -> None:
    signals = signals_of()
    before, after = margins(signals), margins(replaced(signals, "permuted"))
    np.testing.assert_allclose(np.sort(after), np.sort(before), atol=1e-4)
    assert (np.abs(after - before) > 1).mean() > 0.8


def test_the_permutation_depends_on_the_seed_alone() -> None:
    first, again, other = (margins(replaced(signals_of(), "permuted", seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_the_mean_margin_is_one_number_the_mean() -> None:
    signals = signals_of()
    np.testing.assert_allclose(margins(replaced(signals, "mean")), margins(signals).mean(), atol=1e-4)


@pytest.mark.parametrize("how", ["own", "permuted", "mean"])
def test_replacing_margins_changes_the_teacher_alone_and_not_in_place(how: str) -> None:
    signals, untouched = signals_of(), signals_of()
    found = replaced(signals, how)
    assert found.keys() == signals.keys()
    for name in signals:
        assert np.array_equal(signals[name], untouched[name])
        assert found[name].dtype == np.float32 and found[name].shape == signals[name].shape
        assert name == "teacher" or np.array_equal(found[name], signals[name])


@pytest.mark.parametrize("how", ["own", "permuted", "mean"])
def test_only_the_teachers_margin_matters_to_the_replacement(how: str) -> None:
    signals = signals_of()
    shift = np.random.default_rng(1).uniform(-50, 50, (40, 1)).astype(np.float32)
    shifted = {**signals, "teacher": signals["teacher"] + shift}
    policy = torch.from_numpy(signals["reference"]).double() + sums(3, 40)

    def losses(found: dict[str, Any]) -> Tensor:
        reference, teacher = (torch.from_numpy(found[name]).double() for name in ("reference", "teacher"))
        return dadpo_loss(policy, reference, teacher, 0.1, 0.05)

    close(losses(replaced(shifted, how)), losses(replaced(signals, how)), 1e-4)


def test_the_method_applies_the_replacement_to_its_signals() -> None:
    assert dadpo.METHOD.transform is replace_teacher_margin


# ---- settings


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (dadpo.Settings, {"beta_reference": 0, "beta_teacher": 0}),
        (dadpo.Settings, {"beta_reference": -0.1}),
        (dadpo.Settings, {"beta_teacher": -0.1}),
        (dadpo.Settings, {"teacher_margin": "shuffled"}),
        (dadpo.Settings, {"beta": 0.1}),
        (ddpo.Settings, {"beta": 0}),
        (ddpo.Settings, {"beta_teacher": 0.1}),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind: type[Any], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(values)


@pytest.mark.parametrize(
    "values", [{"learning_rate": 0}, {"learning_rate": -1e-5}, {"epochs": 0}, {"batch_size": 0}, {"start": "teacher"}]
)
@pytest.mark.parametrize("name", ["sft", "kd", "ddpo", "dadpo"])
def test_a_method_with_defaults_of_its_own_keeps_the_bounds_of_common_settings(
    name: str, values: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        methods.get(name).settings.model_validate(values)


@pytest.mark.parametrize(("b1", "b2"), [(0.0, 0.1), (0.1, 0.0)])
def test_one_beta_may_be_0(b1: float, b2: float) -> None:
    settings = dadpo.Settings(beta_reference=b1, beta_teacher=b2)
    assert (settings.beta_reference, settings.beta_teacher) == (b1, b2)
