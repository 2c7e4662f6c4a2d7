"""The training loop: its plan, its invariants, and that an interruption leaves no trace."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness.config import MethodSettings
from harness.errors import UserError
from harness.methods import Method, methods
from harness.scoring import sequence_log_probs
from harness.training import loop
from harness.training.batching import Example
from harness.training.loop import CHECKPOINT, METRICS, learning_rate_at, plan_steps, train
from harness.training.model import LogProbModel
from tests.conftest import tiny_model

KINDS = ["sft", "kd", "ddpo", "dadpo"]
State = dict[str, torch.Tensor]


def quiet(done: int, total: int) -> None:
    pass


def random_examples(count: int, k: int, seed: int = 0) -> list[Example]:
    draw = random.Random(seed)

    def ids() -> list[int]:
        return [draw.randrange(3, 512) for _ in range(draw.randint(1, 10))]

    return [Example(index, ids(), tuple(ids() for _ in range(k))) for index in range(count)]


PAIRS = random_examples(20, k=2)
RESPONSES = [Example(example.index, example.prompt, example.responses[:1]) for example in PAIRS]


def new_student() -> LogProbModel:
    return LogProbModel(tiny_model("llama", seed=0))


@pytest.fixture(scope="module")
def teacher() -> LogProbModel:
    return LogProbModel(tiny_model("llama", seed=2, hidden=48).requires_grad_(False))


@pytest.fixture(scope="module")
def signals(teacher: LogProbModel) -> loop.Signals:
    """The log-probs of all pairs under the student as it starts, and under the teacher."""
    return {
        f"{name}_log_probs": sequence_log_probs(model, PAIRS, "fp32", 4096, quiet).astype(np.float32)
        for name, model in (("reference", new_student()), ("teacher", teacher))
    }


Train = Callable[..., tuple[State, list[dict[str, Any]]]]


@pytest.fixture
def run(tmp_path: Path, teacher: LogProbModel, signals: loop.Signals) -> Train:
    """Train a fresh student; its weights and its metrics."""

    def run(
        kind: str | Method,
        folder: str = "work",
        seed: int = 0,
        rows: int = len(PAIRS),
        tick: loop.Tick = quiet,
        tokens: int | None = None,
        **overrides: Any,
    ) -> tuple[State, list[dict[str, Any]]]:
        method = methods.get(kind) if isinstance(kind, str) else kind
        common = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "precision": "fp32", "warmup_ratio": 0.0}
        settings = method.settings.model_validate({**common, **overrides})
        examples = (PAIRS if method.data == "pairs" else RESPONSES)[:rows]
        model, work = new_student(), tmp_path / folder
        work.mkdir(exist_ok=True)
        train(
            model,
            examples,
            {name: signals[name][:rows] for name in method.signals},
            method,
            settings,
            seed,
            work,
            tick,
            teacher if method.level == "token" else None,
            tokens,
        )
        return model.causal_lm.state_dict(), read_metrics(work)

    return run


def read_metrics(work: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (work / METRICS).read_text().splitlines()]


def same_weights(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ---- the plan


def test_every_row_once_an_epoch_in_a_new_order() -> None:
    steps = plan_steps(RESPONSES, batch_size=8, epochs=3, seed=0)
    assert [len(step) for step in steps] == [8, 8, 4] * 3  # the last batch of an epoch is smaller
    epochs = [[*steps[first], *steps[first + 1], *steps[first + 2]] for first in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_the_order_follows_the_seed() -> None:
    assert plan_steps(RESPONSES, 8, 2, seed=0) == plan_steps(RESPONSES, 8, 2, seed=0)
    assert plan_steps(RESPONSES, 8, 2, seed=0) != plan_steps(RESPONSES, 8, 2, seed=1)


def test_a_batch_larger_than_the_data_is_all_of_it() -> None:
    steps = plan_steps(RESPONSES, batch_size=64, epochs=2, seed=0)
    assert [sorted(step) for step in steps] == [list(range(20))] * 2


@pytest.mark.parametrize("tokens", [1, 100, 1000, 5000])
def test_a_token_budget_is_reached_and_not_passed_by_a_batch(tokens: int) -> None:
    steps = plan_steps(RESPONSES, batch_size=4, epochs=1, seed=0, tokens=tokens)
    sizes = [sum(RESPONSES[row].tokens for row in step) for step in steps]
    assert sum(sizes) >= tokens
    assert sum(sizes[:-1]) < tokens
    unlimited = plan_steps(RESPONSES, batch_size=4, epochs=math.ceil(len(steps) / 5), seed=0)
    assert steps == unlimited[: len(steps)]  # the rows are those that epochs would see


def test_learning_rate_warms_up_and_falls_to_nothing() -> None:
    settings = MethodSettings(learning_rate=1.0, warmup_ratio=0.2)
    rates = [learning_rate_at(step, 20, settings) for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[12] == pytest.approx(0.5)  # half of the cosine
    assert 0 < rates[-1] < 0.02


def test_learning_rate_without_warm_up_begins_at_its_peak() -> None:
    settings = MethodSettings(learning_rate=3e-4, warmup_ratio=0.0)
    assert learning_rate_at(0, 10, settings) == pytest.approx(3e-4)
    assert learning_rate_at(5, 10, settings) == pytest.approx(1.5e-4)


@pytest.mark.parametrize("warmup_ratio", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("total", [1, 2, 7])
def test_no_step_has_a_learning_rate_of_zero(total: int, warmup_ratio: float) -> None:
    settings = MethodSettings(learning_rate=1.0, warmup_ratio=warmup_ratio)
    assert all(0 < learning_rate_at(step, total, settings) <= 1 for step in range(total))


# ---- training


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_lowers_its_loss_on_a_fixed_batch(kind: str, run: Train) -> None:
    before = new_student().causal_lm.state_dict()
    weights, metrics = run(kind, rows=8, batch_size=8, epochs=12, learning_rate=3e-3)
    assert metrics[-1]["loss"] < 0.8 * metrics[0]["loss"]
    assert all(not torch.equal(weights[name], before[name]) for name in before)
    assert all(weight.dtype == torch.float32 for weight in weights.values())


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_do_not_matter(kind: str, run: Train) -> None:
    _, one_by_one = run(kind, "small", micro_batch_tokens=1)
    _, together = run(kind, "large", micro_batch_tokens=10**6)
    assert len(one_by_one) == len(together) == 5
    assert one_by_one[0]["grad_norm"] == pytest.approx(together[0]["grad_norm"], rel=1e-5)
    for small, large in zip(one_by_one, together, strict=True):
        assert small["loss"] == pytest.approx(large["loss"], rel=1e-4)


@pytest.mark.parametrize("kind", ["sft", "kd"])
def test_a_loss_per_token_is_divided_by_the_tokens_of_the_step(kind: str, run: Train) -> None:
    _, metrics = run(kind, rows=6, batch_size=6)
    _, split = run(kind, "split", rows=6, batch_size=6, micro_batch_tokens=1)
    assert split[0]["loss"] == pytest.approx(metrics[0]["loss"], rel=1e-5)
    if kind == "sft":
        log_probs = sequence_log_probs(new_student(), RESPONSES[:6], "fp32", 4096, quiet)
        tokens = sum(len(example.responses[0]) for example in RESPONSES[:6])
        assert metrics[0]["loss"] == pytest.approx(-log_probs.sum() / tokens, rel=1e-5)


@pytest.mark.parametrize("kind", ["sft", "kd", "dadpo"])
def test_a_seed_gives_the_same_weights_bit_for_bit_and_another_does_not(kind: str, run: Train) -> None:
    first, metrics = run(kind, "first")
    again, _ = run(kind, "again")
    other, _ = run(kind, "other", seed=1)
    assert same_weights(first, again)
    assert not same_weights(first, other)
    assert len(metrics) == 5


def test_bf16_trains_float32_masters_and_stays_near(run: Train) -> None:
    weights, metrics = run("sft", "bf16", precision="bf16")
    _, exact = run("sft", "fp32")
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    for got, want in zip(metrics, exact, strict=True):
        assert got["loss"] == pytest.approx(want["loss"], rel=0.05)


def test_gradients_are_clipped(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """With plain SGD, the first step moves the weights by no more than rate · max_grad_norm."""

    def sgd(parameters: Any, lr: float, weight_decay: float, fused: bool) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay)

    monkeypatch.setattr(torch.optim, "AdamW", sgd)
    weights, metrics = run("sft", rows=4, batch_size=4, learning_rate=0.1, max_grad_norm=0.5)
    before = new_student().causal_lm.state_dict()
    before.pop("lm_head.weight")  # tied to the embeddings
    moved = math.sqrt(sum(float((weights[name] - before[name]).square().sum()) for name in before))
    assert metrics[0]["grad_norm"] > 0.5
    assert moved == pytest.approx(0.1 * 0.5, rel=1e-3)


def test_a_token_budget_decides_how_long_training_lasts(run: Train) -> None:
    _, metrics = run("sft", tokens=1000, epochs=1)
    assert metrics[-1]["tokens"] >= 1000 > metrics[-2]["tokens"]


def test_ticks_count_tokens_up_to_the_end(run: Train) -> None:
    ticks: list[tuple[int, int]] = []
    _, metrics = run("sft", tick=lambda done, total: ticks.append((done, total)))
    total = sum(example.tokens for example in RESPONSES)
    assert [done for done, _ in ticks] == [0, *(row["tokens"] for row in metrics)]
    assert {whole for _, whole in ticks} == {total}
    assert ticks[-1] == (total, total)


# ---- the first step, by hand


def test_the_first_ddpo_step_has_loss_log_2(run: Train) -> None:
    _, metrics = run("ddpo")
    assert metrics[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert metrics[0]["margin"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("beta", [0.01, 0.05])
def test_the_first_dadpo_step_has_the_teachers_margin_alone(beta: float, run: Train, signals: loop.Signals) -> None:
    _, metrics = run("dadpo", batch_size=len(PAIRS), beta_teacher=beta)
    ratio = torch.from_numpy(signals["teacher_log_probs"] - signals["reference_log_probs"]).double()
    margin = ratio[:, 0] - ratio[:, 1]
    assert metrics[0]["loss"] == pytest.approx(-F.logsigmoid(-beta * margin).mean().item(), rel=1e-5)


def test_a_methods_transform_is_applied_to_its_signals(run: Train, signals: loop.Signals) -> None:
    _, metrics = run("dadpo", teacher_margin="mean", beta_teacher=0.05)
    ratio = torch.from_numpy(signals["teacher_log_probs"] - signals["reference_log_probs"]).double()
    mean = (ratio[:, 0] - ratio[:, 1]).mean()
    assert metrics[0]["loss"] == pytest.approx(-F.logsigmoid(-0.05 * mean).item(), rel=1e-4)


# ---- what is recorded

ALWAYS = {"step", "loss", "grad_norm", "learning_rate", "tokens", "tokens_per_s"}
OF_PAIRS = {"log_prob_chosen", "log_prob_rejected", "shift_chosen", "shift_rejected", "margin", "accuracy"}


@pytest.mark.parametrize(
    ("kind", "keys"),
    [("sft", {"log_prob"}), ("kd", set()), ("ddpo", OF_PAIRS), ("dadpo", OF_PAIRS)],
)
def test_metrics_hold_what_users_look_at(kind: str, keys: set[str], run: Train) -> None:
    _, metrics = run(kind, epochs=2, warmup_ratio=0.1)
    settings = MethodSettings(learning_rate=1e-3, warmup_ratio=0.1)
    assert [row["step"] for row in metrics] == list(range(1, 11))
    for row in metrics:
        assert row.keys() == ALWAYS | keys
        assert all(math.isfinite(value) for value in row.values())
        assert row["learning_rate"] == learning_rate_at(row["step"] - 1, 10, settings)
        assert row["tokens_per_s"] > 0
    examples = PAIRS if keys == OF_PAIRS else RESPONSES
    assert metrics[-1]["tokens"] == 2 * sum(example.tokens for example in examples)


def test_metrics_of_pairs_agree_with_one_another(run: Train, signals: loop.Signals) -> None:
    _, metrics = run("ddpo", batch_size=len(PAIRS), epochs=3, micro_batch_tokens=50, learning_rate=3e-3)
    chosen, rejected = signals["reference_log_probs"].mean(0).tolist()
    for row in metrics:
        assert row["margin"] == pytest.approx(row["shift_chosen"] - row["shift_rejected"], abs=1e-3)
        assert row["log_prob_chosen"] == pytest.approx(chosen + row["shift_chosen"], abs=1e-3)
        assert row["log_prob_rejected"] == pytest.approx(rejected + row["shift_rejected"], abs=1e-3)
        assert 0 <= row["accuracy"] <= 1
    assert metrics[-1]["margin"] > 1
    assert metrics[-1]["accuracy"] > 0.9


# ---- interruptions


class InterruptionError(Exception):
    pass


def interrupt_at(step: int) -> loop.Tick:
    """A tick that raises as the given step (from 0) begins."""
    calls = iter(range(1000))

    def tick(done: int, total: int) -> None:
        if next(calls) == step:
            raise InterruptionError

    return tick


@pytest.mark.parametrize("stop", [1, 4, 5, 9], ids=lambda step: f"stopped-after-{step}")
@pytest.mark.parametrize("kind", ["kd", "dadpo"])
def test_a_resumed_training_equals_an_undisturbed_one(kind: str, stop: int, run: Train, tmp_path: Path) -> None:
    weights, metrics = run(kind, "whole", epochs=2, checkpoint_steps=2)
    with pytest.raises(InterruptionError):
        run(kind, "broken", epochs=2, checkpoint_steps=2, tick=interrupt_at(stop))
    assert len(read_metrics(tmp_path / "broken")) == stop
    assert (tmp_path / "broken" / CHECKPOINT).exists() == (stop >= 2)
    resumed, rows = run(kind, "broken", epochs=2, checkpoint_steps=2)
    assert same_weights(resumed, weights)
    assert [row["step"] for row in rows] == list(range(1, 11))
    for got, want in zip(rows, metrics, strict=True):
        assert got | {"tokens_per_s": 0} == want | {"tokens_per_s": 0}


def test_a_training_interrupted_twice_equals_an_undisturbed_one(run: Train) -> None:
    weights, _ = run("sft", "whole", epochs=2, checkpoint_steps=3)
    for stop in (4, 4):  # the second counts from the checkpoint of step 3, and so passes that of step 6
        with pytest.raises(InterruptionError):
            run("sft", "broken", epochs=2, checkpoint_steps=3, tick=interrupt_at(stop))
    resumed, rows = run("sft", "broken", epochs=2, checkpoint_steps=3)
    assert same_weights(resumed, weights)
    assert [row["step"] for row in rows] == list(range(1, 11))


def test_a_resumed_training_ticks_on_from_its_checkpoint(run: Train) -> None:
    with pytest.raises(InterruptionError):
        run("sft", checkpoint_steps=2, tick=interrupt_at(3))
    ticks: list[int] = []
    _, metrics = run("sft", checkpoint_steps=2, tick=lambda done, total: ticks.append(done))
    assert ticks == [row["tokens"] for row in metrics[1:]]


def test_a_half_written_checkpoint_is_ignored(run: Train, tmp_path: Path) -> None:
    weights, _ = run("sft", "whole", checkpoint_steps=2)
    with pytest.raises(InterruptionError):
        run("sft", "broken", checkpoint_steps=2, tick=interrupt_at(3))
    half = tmp_path / "broken" / f"{CHECKPOINT}.tmp"
    half.write_bytes((tmp_path / "broken" / CHECKPOINT).read_bytes()[:100])
    resumed, _ = run("sft", "broken", checkpoint_steps=2)
    assert same_weights(resumed, weights)
    assert not half.exists()


def test_a_half_written_checkpoint_alone_means_a_fresh_start(run: Train, tmp_path: Path) -> None:
    weights, _ = run("sft", "whole")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / f"{CHECKPOINT}.tmp").write_bytes(b"half")
    fresh, rows = run("sft", "broken")
    assert same_weights(fresh, weights)
    assert len(rows) == 5
    assert not (tmp_path / "broken" / f"{CHECKPOINT}.tmp").exists()


def test_a_half_written_line_of_metrics_is_cut(run: Train, tmp_path: Path) -> None:
    with pytest.raises(InterruptionError):
        run("sft", checkpoint_steps=2, tick=interrupt_at(2))
    with (tmp_path / "work" / METRICS).open("a") as file:
        file.write('{"loss": 6.2, "gra')
    _, rows = run("sft", checkpoint_steps=2)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]


def test_a_checkpoint_replaces_the_one_before_and_leaves_nothing_beside(run: Train, tmp_path: Path) -> None:
    run("sft", checkpoint_steps=1)
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == sorted([CHECKPOINT, METRICS])
    assert torch.load(tmp_path / "work" / CHECKPOINT, weights_only=True)["step"] == 4


def failing_after(good: int, value: float) -> Method:
    """SFT whose loss is multiplied by `value` once `good` micro-batches are through."""
    calls = iter(range(1000))

    def loss(inputs: Any, settings: Any) -> torch.Tensor:
        losses = -inputs.policy[:, 0]
        return losses if next(calls) < good else losses * value

    return dataclasses.replace(methods.get("sft"), loss=loss)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_its_step(value: float, run: Train, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sft is (nan|inf) .* at step 3 .*learning_rate") as caught:
        run(failing_after(2, value), checkpoint_steps=1)
    rows = plan_steps(RESPONSES, 4, 1, 0)[2]
    assert str(rows) in str(caught.value)
    assert len(read_metrics(tmp_path / "work")) == 2
    checkpoint = torch.load(tmp_path / "work" / CHECKPOINT, weights_only=True)
    assert checkpoint["step"] == 2  # the spoilt weights are not kept
    assert all(torch.isfinite(weight).all() for weight in checkpoint["model"].values())


def test_the_loop_names_no_method() -> None:
    source = inspect.getsource(loop).lower()
    assert methods.names()
    assert [name for name in methods.names() if re.search(rf"\b{re.escape(name.lower())}\b", source)] == []
