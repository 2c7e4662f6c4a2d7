"""What a step's loss is: terms of each level on one forward pass, what their sums are divided by, and settings that the
loop applies to every method. All of it against float64, one response at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.kd import kd_loss
from harness.logprobs.batching import Example
from harness.logprobs.model import LogProbModel
from harness.methods import PAIR, POLICY, DistributionInputs, Method, SequenceInputs, Term, TokenInputs, methods
from tests.conftest import tiny_model
from tests.harness.training.on_policy import Rows, Tokens, own
from tests.harness.training.trainings import ONE_BY_ONE, PAIRS, RESPONSES, Trained, apart, train

Train = Callable[..., Trained]
ROWS = 8  # one step of them


@pytest.fixture
def run(tmp_path: Path) -> Train:
    def run(method: Method, **how: Any) -> Trained:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        return train(method, folder, rows=ROWS, batch_size=ROWS, **{"fresh_share": 0.0, **how})

    return run


def reverse(inputs: DistributionInputs, settings: Any) -> Tensor:
    return kd_loss(inputs.teacher, inputs.policy)


def forward(inputs: DistributionInputs, settings: Any) -> Tensor:
    return kd_loss(inputs.policy, inputs.teacher)


def by_token(inputs: TokenInputs, settings: Any) -> Tensor:
    return inputs.policy * (inputs.role + 1) - 0.5 * inputs.teacher


def by_sequence(inputs: SequenceInputs, settings: Any) -> Tensor:
    return -inputs.policy[:, 0] / inputs.lengths[:, 0] + 0.1 * inputs.teacher[:, -1]


def twice(settings: Any) -> float:
    return 2.0 + settings.learning_rate


FIELDS: dict[str, Any] = {"reads": ("teacher",), "settings": Rows, "responses": PAIR}
FORWARD = own("own-forward", level="distribution", loss=forward, per="token", **FIELDS)
TOKENS = own("own-tokens", level="token", loss=by_token, per="token", **{**FIELDS, "settings": Tokens})


# ---- by hand


def exact(model: Any, example: Example, role: int) -> Tensor:
    """Log-probs at a response's tokens [n, V], float64."""
    response = example.responses[role]
    logits = model(torch.tensor([[*example.prompt, *response]])).logits[0, len(example.prompt) - 1 : -1]
    return torch.log_softmax(logits, -1)


def models() -> tuple[Any, Any]:
    student, teacher = tiny_model("llama", seed=0), tiny_model("llama", seed=2, hidden=48)
    return student.double(), teacher.double().requires_grad_(False)


Values = Callable[[Tensor, Tensor, Tensor, int], Tensor]  # policy, teacher [n, V], labels [n], role → [n]


def of_step(values: Values, per: str, examples: list[Example]) -> tuple[float, list[Tensor]]:
    """A step's loss and gradients."""
    student, teacher = models()
    parts = []
    for example in examples:
        for role, response in enumerate(example.responses):
            labels = torch.tensor(response)
            found = values(exact(student, example, role), exact(teacher, example, role), labels, role)
            parts.append(found.mean() if per == "response" else found.sum())
    lengths = [len(response) for example in examples for response in example.responses]
    count = {"token": sum(lengths), "response": len(lengths), "example": len(examples)}[per]
    loss = torch.stack(parts).sum() / count
    return loss.item(), list(torch.autograd.grad(loss, list(student.parameters())))


def assert_step(done: Trained, wanted: tuple[float, list[Tensor]], tolerance: float = 1e-4) -> None:
    loss, gradients = wanted
    assert done.losses == [pytest.approx(loss, rel=tolerance, abs=1e-5)]
    for found, want in zip(done.gradients[0], gradients, strict=True):
        assert (found - want).norm() < tolerance * max(want.norm(), 1e-3)


def label(rows: Tensor, labels: Tensor) -> Tensor:
    return rows.gather(-1, labels[:, None]).squeeze(-1)


@pytest.mark.parametrize("budget", [10**6, ONE_BY_ONE], ids=["1x8", "8x1"])
@pytest.mark.parametrize("per", ["token", "response", "example"])
@pytest.mark.parametrize("level", ["distribution", "token"])
def test_sums_are_divided_by_what_per_says(level: str, per: str, budget: int, run: Train) -> None:
    def values(policy: Tensor, teacher: Tensor, labels: Tensor, role: int) -> Tensor:
        if level == "distribution":
            return kd_loss(policy, teacher)
        return label(policy, labels) * (role + 1) - 0.5 * label(teacher, labels)

    wanted = of_step(values, per, PAIRS[:ROWS])
    method = FORWARD if level == "distribution" else TOKENS
    assert_step(run(method, per=per, micro_batch_tokens=budget), wanted)  # the setting goes before
    assert_step(run(replace(method, per=per), micro_batch_tokens=budget), wanted)


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_a_temperature_is_of_all_distributions_and_of_no_label(temperature: float, layout: str, run: Train) -> None:
    def values(policy: Tensor, teacher: Tensor, labels: Tensor, role: int) -> Tensor:
        cooler = [torch.log_softmax(rows / temperature, -1) for rows in (policy, teacher)]
        return kd_loss(*cooler) - 0.3 * label(policy, labels)

    def loss(inputs: DistributionInputs, settings: Any) -> Tensor:
        return forward(inputs, settings) - 0.3 * inputs.label_log_probs

    done = run(replace(FORWARD, loss=loss), temperature=temperature, layout=layout)
    assert_step(done, of_step(values, "token", PAIRS[:ROWS]))


@pytest.mark.parametrize("of", ["teacher", "policy"])
@pytest.mark.parametrize("support", ["tail", "renormalised", "truncated"])
def test_a_support_is_applied_to_every_method(support: str, of: str, run: Train) -> None:
    def values(policy: Tensor, teacher: Tensor, labels: Tensor, role: int) -> Tensor:
        ids = (teacher if of == "teacher" else policy).topk(5).indices
        mine, theirs = (rows.exp().gather(-1, ids) for rows in (policy, teacher))
        if support == "tail":
            mine, theirs = (torch.cat([mass, 1 - mass.sum(-1, keepdim=True)], -1) for mass in (mine, theirs))
        if support == "renormalised":
            mine, theirs = (mass / mass.sum(-1, keepdim=True) for mass in (mine, theirs))
        return (mine * (mine / theirs).log()).sum(-1)

    wanted = of_step(values, "token", PAIRS[:ROWS])
    done = run(replace(FORWARD, loss=reverse), support=support, top_k=5, top_k_of=of)
    assert_step(done, wanted, 1e-3)  # what is left of 1 is so in float32


@pytest.mark.parametrize("budget", [10**6, ONE_BY_ONE], ids=["1x8", "8x1"])
@pytest.mark.parametrize("per", ["token", "response", "example"])
def test_a_likelihood_is_added_once_to_each_token_that_the_teacher_wrote(per: str, budget: int, run: Train) -> None:
    def values(policy: Tensor, teacher: Tensor, labels: Tensor, role: int) -> Tensor:
        taught = role == 0  # the student wrote the other
        return kd_loss(policy, teacher) + 2.0 * kd_loss(teacher, policy) - 0.3 * taught * label(policy, labels)

    two = replace(FORWARD, also=(Term("distribution", reverse, per, weight=lambda settings: 2.0),))
    assert_step(run(two, nll=0.3, per=per, micro_batch_tokens=budget), of_step(values, per, PAIRS[:ROWS]))


def test_a_likelihood_is_of_no_token_that_the_policy_wrote(run: Train) -> None:
    done = run(replace(FORWARD, responses=POLICY), nll=0.3, fresh_share=0.5)
    (step,) = done.steps
    assert {one.fresh for one in step} == {None, 0}
    stored = {tuple(one.responses[0]) for one in step if one.fresh is None}

    def values(policy: Tensor, teacher: Tensor, labels: Tensor, role: int) -> Tensor:
        taught = tuple(labels.tolist()) in stored
        return kd_loss(policy, teacher) - 0.3 * taught * label(policy, labels)

    assert_step(done, of_step(values, "token", step))


# ---- several terms


OTHERS = {
    "distribution": Term("distribution", reverse, "response", weight=twice),
    "token": Term("token", by_token, "example", weight=twice),
    "sequence": Term("sequence", by_sequence, "example", weight=twice),
}


@pytest.mark.parametrize("budget", [10**6, ONE_BY_ONE], ids=["1x8", "8x1"])
@pytest.mark.parametrize("level", OTHERS)
def test_two_terms_are_their_sum_on_one_forward_pass(
    level: str, budget: int, run: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = OTHERS[level]
    alone = replace(FORWARD, level=other.level, loss=other.loss, per=other.per)
    calls = {"hidden": 0}
    plain = LogProbModel.hidden

    def counted(self: LogProbModel, batch: Any) -> Tensor:
        calls["hidden"] += any(parameter.requires_grad for parameter in self.parameters())
        return plain(self, batch)

    one, two = (run(method, micro_batch_tokens=budget) for method in (FORWARD, alone))
    monkeypatch.setattr(LogProbModel, "hidden", counted)
    both = run(replace(FORWARD, also=(other,)), micro_batch_tokens=budget, layout="packed")
    assert calls["hidden"] == (1 if budget > ONE_BY_ONE else ROWS)
    weight = 2.0 + 1e-3
    assert both.losses[0] == pytest.approx(one.losses[0] + weight * two.losses[0], rel=1e-5)
    wanted = [first + weight * second for first, second in zip(one.gradients[0], two.gradients[0], strict=True)]
    assert apart(both.gradients[0], wanted) < 1e-5


@pytest.mark.parametrize("more", [{}, {"nll": 0.5}], ids=str)
def test_the_mean_log_prob_of_a_role_is_that_of_its_responses_whatever_the_terms(more: Any, run: Train) -> None:
    student, _ = models()
    wanted = [
        sum(label(exact(student, one, role), torch.tensor(one.responses[role])).sum().item() for one in PAIRS[:ROWS])
        for role in (0, 1)
    ]
    for also in ((), (OTHERS["distribution"],), (OTHERS["sequence"],)):
        (row,) = run(replace(FORWARD, also=also), **more).metrics
        found = [row["log_prob_chosen"], row["log_prob_rejected"]]
        assert found == pytest.approx([total / ROWS for total in wanted], rel=1e-5)
    (row,) = run(methods.get("kd"), **more).metrics
    assert row["log_prob"] == pytest.approx(wanted[0] / ROWS, rel=1e-5)


def test_progress_and_places_are_told_to_each_loss(tmp_path: Path) -> None:
    seen: list[DistributionInputs] = []

    def loss(inputs: DistributionInputs, settings: Any) -> Tensor:
        seen.append(inputs)
        return forward(inputs, settings)

    train(replace(FORWARD, loss=loss), tmp_path, rows=12, fresh_share=0.0)
    assert [inputs.progress for inputs in seen] == [0, pytest.approx(1 / 3), pytest.approx(2 / 3)]
    for inputs in seen:
        assert inputs.roles == ("chosen", "rejected")
        assert torch.equal(inputs.role, inputs.row % 2)
        lengths = [int((inputs.row == place).sum()) for place in range(8)]
        assert sum(lengths) == len(inputs.labels) and min(lengths) >= 2
        torch.testing.assert_close(inputs.label_log_probs, label(inputs.policy, inputs.labels))


def test_a_single_response_is_one_role(run: Train) -> None:
    def values(policy: Tensor, teacher: Tensor, labels: Tensor, role: int) -> Tensor:
        return kd_loss(policy, teacher)

    assert_step(run(methods.get("kd")), of_step(values, "token", RESPONSES[:ROWS]))
