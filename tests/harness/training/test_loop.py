"""The training loop: its plan, its invariants, and that an interruption leaves no trace."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import math
import re
import shutil
import sys
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate.utils import DistributedType
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from harness.core.errors import UserError
from harness.core.records import METRICS
from harness.logprobs.batching import Example
from harness.logprobs.model import LogProbModel
from harness.logprobs.scoring import sequence_log_probs
from harness.methods import Method, MethodSettings, methods
from harness.training import loop
from harness.training.data import plan_steps
from harness.training.loop import CHECKPOINT, check_tracker, learning_rate_at
from tests.conftest import tiny_model
from tests.harness.training.trainings import (
    KINDS,
    ONE_BY_ONE,
    PAIRS,
    RESPONSES,
    InterruptionError,
    Trained,
    apart,
    interrupt_at,
    new_student,
    quiet,
    read_metrics,
    same_weights,
    signals,
    train,
)

Train = Callable[..., Trained]


@pytest.fixture
def run(tmp_path: Path) -> Train:
    """Train a fresh student in a folder of its own."""

    def run(kind: str | Method, folder: str = "work", **how: Any) -> Trained:
        return train(kind, tmp_path / folder, **how)

    return run


# ---- the plan


def test_every_row_once_an_epoch_in_a_new_order() -> None:
    steps = plan_steps(RESPONSES[:20], batch_size=8, epochs=3, seed=0)
    assert [len(step) for step in steps] == [8, 8, 4] * 3  # the last batch of an epoch is smaller
    epochs = [[*steps[first], *steps[first + 1], *steps[first + 2]] for first in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_the_order_follows_the_seed() -> None:
    assert plan_steps(RESPONSES, 8, 2, seed=0) == plan_steps(RESPONSES, 8, 2, seed=0)
    assert plan_steps(RESPONSES, 8, 2, seed=0) != plan_steps(RESPONSES, 8, 2, seed=1)


def test_a_batch_larger_than_the_data_is_all_of_it() -> None:
    steps = plan_steps(RESPONSES, batch_size=64, epochs=2, seed=0)
    assert [sorted(step) for step in steps] == [list(range(len(RESPONSES)))] * 2


@pytest.mark.parametrize("tokens", [1, 100, 1000, 5000])
def test_a_token_budget_is_reached_and_not_passed_by_a_batch(tokens: int) -> None:
    steps = plan_steps(RESPONSES, batch_size=4, epochs=1, seed=0, tokens=tokens)
    sizes = [sum(RESPONSES[row].tokens for row in step) for step in steps]
    assert sum(sizes) >= tokens
    assert sum(sizes[:-1]) < tokens
    unlimited = plan_steps(RESPONSES, batch_size=4, epochs=math.ceil(len(steps) / 10), seed=0)
    assert steps == unlimited[: len(steps)]  # the rows are those that epochs would see


def test_there_is_no_plan_for_no_examples() -> None:
    with pytest.raises(ValueError, match="no examples"):
        plan_steps([], 8, 1, 0)


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
    done = run(kind, rows=8, batch_size=8, epochs=12, learning_rate=3e-3)
    assert done.losses[-1] < 0.8 * done.losses[0]
    assert all(not torch.equal(done.weights[name], before[name]) for name in before)
    assert all(weight.dtype == torch.float32 for weight in done.weights.values())
    assert done.whole is None  # the model itself holds them all


def count_calls(monkeypatch: pytest.MonkeyPatch, kind: type, name: str) -> Counter[str]:
    """How often a method of a class is called from now on."""
    calls: Counter[str] = Counter()
    plain = getattr(kind, name)

    @functools.wraps(plain)
    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(kind, name, counted)
    return calls


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_do_not_matter(kind: str, run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_calls(monkeypatch, LogProbModel, "forward")
    together = run(kind, "large", rows=40, batch_size=8, micro_batch_tokens=10**6)
    assert calls["forward"] == 5
    one_by_one = run(kind, "small", rows=40, batch_size=8, micro_batch_tokens=ONE_BY_ONE)
    assert calls["forward"] == 5 + 40
    assert apart(one_by_one.gradients[0], together.gradients[0]) < 1e-5
    assert one_by_one.losses == pytest.approx(together.losses, rel=1e-4)
    assert len(together.losses) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_layouts_do_not_matter(kind: str, run: Train) -> None:
    packed = run(kind, "packed", rows=40, batch_size=8, layout="packed", micro_batch_tokens=50)
    padded = run(kind, "padded", rows=40, batch_size=8, layout="padded", micro_batch_tokens=50)
    assert (packed.model.layout, padded.model.layout) == ("packed", "padded")
    assert apart(packed.gradients[0], padded.gradients[0]) < 1e-5
    assert packed.losses == pytest.approx(padded.losses, rel=1e-4)


@pytest.mark.parametrize("kind", ["sft", "kd", "dadpo"])
def test_a_seed_gives_the_same_weights_bit_for_bit_and_another_does_not(kind: str, run: Train) -> None:
    first, again, other = run(kind, "first"), run(kind, "again"), run(kind, "other", seed=1)
    assert same_weights(first.weights, again.weights)
    assert first.losses == again.losses
    assert not same_weights(first.weights, other.weights)


@pytest.mark.parametrize("kind", ["sft", "dadpo"])
def test_nothing_that_happens_before_moves_a_training(kind: str, run: Train) -> None:
    """Neither scoring nor random numbers; dropout takes them too, and an adapter begins with them."""
    adapter = {"lora_rank": 4, "lora_dropout": 0.3}
    first, dropped = run(kind, "first"), run(kind, "dropped", **adapter)
    torch.manual_seed(1234)
    torch.rand(17)
    np.random.default_rng().random()
    sequence_log_probs(new_student(), PAIRS, "fp32", 100, quiet)
    assert same_weights(run(kind, "second").weights, first.weights)
    assert same_weights(run(kind, "dropped again", **adapter).weights, dropped.weights)


def test_bf16_trains_float32_masters_and_stays_near(run: Train) -> None:
    done, exact = run("sft", "bf16", precision="bf16"), run("sft", "fp32")
    assert all(weight.dtype == torch.float32 for weight in done.weights.values())
    assert done.losses != exact.losses
    assert done.losses == pytest.approx(exact.losses, rel=0.05)
    # no autocast stays around the model
    fresh = new_student()
    fresh.load_state_dict(done.model.state_dict())
    own, others = (sequence_log_probs(model, PAIRS, "fp32", 4096, quiet) for model in (done.model, fresh))
    assert (own == others).all()


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_teacher_is_read_in_the_precision_of_the_training(
    precision: str, run: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    rows = LogProbModel.log_prob_rows

    def read(*arguments: Any) -> Any:
        seen.append(torch.is_autocast_enabled("cpu"))
        return rows(*arguments)

    monkeypatch.setattr(LogProbModel, "log_prob_rows", read)
    run("kd", rows=8, precision=precision)
    assert seen == [precision == "bf16"] * 2


def test_gradients_are_clipped(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """With plain SGD, the first step moves the weights by no more than rate · max_grad_norm."""

    def sgd(parameters: Any, lr: float, weight_decay: float, fused: bool) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay)

    monkeypatch.setattr(torch.optim, "AdamW", sgd)
    done = run("sft", rows=4, batch_size=4, learning_rate=0.1, max_grad_norm=0.5)
    before = new_student().causal_lm.state_dict()
    before.pop("lm_head.weight")  # tied to the embeddings
    moved = math.sqrt(sum(float((done.weights[name] - before[name]).square().sum()) for name in before))
    assert done.metrics[0]["grad_norm"] > 0.5
    assert moved == pytest.approx(0.1 * 0.5, rel=1e-3)


def test_a_token_budget_decides_how_long_training_lasts(run: Train) -> None:
    metrics = run("sft", tokens=1000, epochs=1).metrics
    assert metrics[-1]["tokens"] >= 1000 > metrics[-2]["tokens"]


def test_ticks_count_tokens_up_to_the_end(run: Train) -> None:
    ticks: list[tuple[int, int]] = []
    metrics = run("sft", tick=lambda done, total: ticks.append((done, total))).metrics
    total = sum(example.tokens for example in RESPONSES[:20])
    assert [done for done, _ in ticks] == [0, *(row["tokens"] for row in metrics)]
    assert {whole for _, whole in ticks} == {total}
    assert ticks[-1] == (total, total)


def test_a_prompt_that_fills_a_micro_batch_is_refused(run: Train) -> None:
    longest = max(PAIRS[:20], key=lambda example: len(example.prompt))
    with pytest.raises(UserError, match=rf"prompt {longest.name} has {len(longest.prompt)} tokens.*micro_batch_tokens"):
        run("ddpo", micro_batch_tokens=len(longest.prompt) - 1)


# ---- the same by hand


DECAY = 5.0  # enough to be seen after a step


def by_hand(kind: str, steps: list[list[int]]) -> list[dict[str, float]]:
    """A plain training, one response at a time, with transformers' own model and logits: each step's metrics."""
    student, start, other = (
        tiny_model("llama", seed=0),
        tiny_model("llama", seed=0),
        tiny_model("llama", seed=2, hidden=48),
    )
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=DECAY)
    settings = MethodSettings(learning_rate=1e-3, warmup_ratio=0.0)
    rows = []
    for number, step in enumerate(steps):
        losses, seen = [], []
        for example in (PAIRS[index] for index in step):
            if kind in ("ddpo", "dadpo"):
                mine = torch.stack([log_probs(student, example, j).sum() for j in (0, 1)])
                with torch.no_grad():
                    reference = torch.stack([log_probs(start, example, j).sum() for j in (0, 1)])
                    theirs = torch.stack([log_probs(other, example, j).sum() for j in (0, 1)])
                shift, ahead = mine - reference, theirs - reference
                margin = shift[0] - shift[1]
                aim = 0.1 * margin if kind == "ddpo" else 0.15 * margin - 0.05 * (ahead[0] - ahead[1])
                losses.append(-F.logsigmoid(aim))
                values = [mine[0], mine[1], shift[0], shift[1], margin, (margin > 0).float()]
            elif kind == "sft":
                losses.append(-log_probs(student, example, 0).sum())
                values = [-losses[-1]]
            else:
                with torch.no_grad():
                    target = distributions(other, example, 0)
                losses.append((target.exp() * (target - distributions(student, example, 0))).sum())
                values = [log_probs(student, example, 0).sum()]
            seen.append([float(value.detach()) for value in values])
        count = len(step) if kind in ("ddpo", "dadpo") else sum(len(PAIRS[index].responses[0]) for index in step)
        loss = torch.stack(losses).sum() / count
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = learning_rate_at(number, len(steps), settings)
        optimizer.step()
        optimizer.zero_grad()
        names = {"sft": ["log_prob"], "kd": ["log_prob"]}.get(kind, OF_PAIRS)
        means = dict(zip(names, np.array(seen).mean(0).tolist(), strict=True))
        rows.append({"loss": loss.item(), "grad_norm": float(norm), **means})
    return rows


def distributions(causal_lm: Any, example: Example, response: int) -> Tensor:
    ids = [*example.prompt, *example.responses[response]]
    logits = causal_lm(torch.tensor([ids])).logits[0, len(example.prompt) - 1 : -1]
    return torch.log_softmax(logits, -1)


def log_probs(causal_lm: Any, example: Example, response: int) -> Tensor:
    rows = distributions(causal_lm, example, response)
    return rows.gather(-1, torch.tensor(example.responses[response])[:, None])[:, 0]


ALWAYS = ["step", "loss", "grad_norm", "learning_rate", "tokens", "tokens_per_s"]
OF_PAIRS = ["log_prob_chosen", "log_prob_rejected", "shift_chosen", "shift_rejected", "margin", "accuracy"]


@pytest.mark.parametrize(
    ("kind", "names"), [("sft", ["log_prob"]), ("kd", ["log_prob"]), ("ddpo", OF_PAIRS), ("dadpo", OF_PAIRS)]
)
def test_metrics_are_those_of_a_training_by_hand(kind: str, names: list[str], run: Train) -> None:
    steps = plan_steps(PAIRS[:12], batch_size=5, epochs=2, seed=0)
    metrics = run(kind, rows=12, batch_size=5, epochs=2, micro_batch_tokens=40, weight_decay=DECAY).metrics
    settings, examples = MethodSettings(learning_rate=1e-3, warmup_ratio=0.0), RESPONSES if names != OF_PAIRS else PAIRS
    tokens = itertools.accumulate(sum(examples[index].tokens for index in step) for step in steps)
    expected = by_hand(kind, steps)
    assert len(metrics) == len(expected) == 6
    for number, (row, want, seen) in enumerate(zip(metrics, expected, tokens, strict=True)):
        assert row.keys() == {*ALWAYS, *names}
        assert row["step"] == number + 1
        assert row["tokens"] == seen
        assert row["learning_rate"] == learning_rate_at(number, 6, settings)
        assert row["tokens_per_s"] > 0
        assert row["loss"] == pytest.approx(want["loss"], rel=1e-4)
        assert row["grad_norm"] == pytest.approx(want["grad_norm"], rel=1e-3)
        for name in names:
            if name == "accuracy" and number == 0:
                continue  # of margins that are 0 but for rounding
            assert row[name] == pytest.approx(want[name], rel=1e-4, abs=2e-3)


def test_the_first_ddpo_step_has_loss_log_2(run: Train) -> None:
    metrics = run("ddpo").metrics
    assert metrics[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert metrics[0]["margin"] == pytest.approx(0, abs=1e-4)


def dropping() -> Any:
    """The student with every kind of dropout: what attention is called with, a module, a function in a layer."""
    causal_lm = tiny_model("llama", seed=0)
    for layer in causal_lm.model.layers:
        layer.self_attn.attention_dropout = 0.3
        layer.mlp.act_fn = torch.nn.Sequential(layer.mlp.act_fn, torch.nn.Dropout(0.3))
        layer.mlp.register_forward_hook(lambda module, _, out: F.dropout(out, 0.3, module.training))
    return causal_lm


ADAPTER_THAT_DROPS = {"lora_rank": 4, "lora_dropout": 0.5}


@pytest.mark.parametrize("more", [{}, ADAPTER_THAT_DROPS, {"gradient_checkpointing": True}], ids=str)
def test_no_dropout_in_what_is_compared_with_a_reference_that_had_none(run: Train, more: dict[str, Any]) -> None:
    first = run("ddpo", start=dropping(), layout="padded", **more).metrics[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert abs(first["shift_chosen"]) < 1e-3 and abs(first["shift_rejected"]) < 1e-3


def test_dropout_that_is_asked_for_is_on(run: Train) -> None:
    first = run("ddpo", start=dropping(), layout="padded", dropout=True).metrics[0]
    assert abs(first["shift_chosen"]) > 0.1


@pytest.mark.parametrize("kind", ["sft", "kd"])
def test_methods_without_a_reference_keep_their_checkpoints_dropout(run: Train, kind: str) -> None:
    plain = run(kind, "plain", layout="padded").losses
    assert run(kind, "dropping", start=dropping(), layout="padded").losses[0] != plain[0]
    assert run(kind, "off", start=dropping(), layout="padded", dropout=False).losses == plain


def test_an_adapter_s_own_dropout_is_on_beside_a_reference(run: Train) -> None:
    """It was asked for, and an adapter that is nothing yet drops nothing."""
    plain = run("ddpo", "plain", lora_rank=4).losses
    dropped = run("ddpo", "dropped", **ADAPTER_THAT_DROPS).losses
    assert dropped[0] == plain[0] and dropped[1:] != plain[1:]


@pytest.mark.parametrize("asked", [True, False])
def test_layers_are_computed_again_in_backward_where_that_was_asked_for(run: Train, asked: bool) -> None:
    causal_lm, calls = tiny_model("llama", seed=0), Counter[str]()
    causal_lm.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.update(["forward"]))
    done = run("ddpo", start=causal_lm, rows=4, gradient_checkpointing=asked)
    assert calls["forward"] == (2 if asked else 1) * len(done.metrics)


def test_a_methods_transform_is_applied_to_its_signals(run: Train) -> None:
    metrics = run("dadpo", teacher_margin="mean", beta_teacher=0.05).metrics
    ratio = torch.from_numpy(signals()["teacher"] - signals()["reference"])[:20].double()
    mean = (ratio[:, 0] - ratio[:, 1]).mean()
    assert metrics[0]["loss"] == pytest.approx(-F.logsigmoid(-0.05 * mean).item(), rel=1e-4)


def test_pairs_are_told_apart_by_training(run: Train) -> None:
    metrics = run("ddpo", batch_size=20, epochs=4, micro_batch_tokens=50, learning_rate=3e-3).metrics
    assert metrics[-1]["margin"] > 1
    assert metrics[-1]["accuracy"] > 0.9


# ---- interruptions


def without_speed(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "tokens_per_s"} for row in metrics]


DROPPED = {"lora_rank": 4, "lora_dropout": 0.3}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("kd", {}), ("dadpo", {}), ("sft", DROPPED), ("dadpo", DROPPED)],
    ids=["kd", "dadpo", "sft-adapter", "dadpo-adapter"],
)
def test_a_training_stopped_at_any_checkpoint_goes_on_as_if_undisturbed(
    kind: str, settings: dict[str, Any], run: Train, tmp_path: Path
) -> None:
    undisturbed = run(kind, "whole", **settings)
    assert len(undisturbed.metrics) == 5
    for stop in range(1, 5):
        folder = f"stopped after {stop}"
        with pytest.raises(InterruptionError):
            run(kind, folder, checkpoint_steps=1, tick=interrupt_at(stop), **settings)
        assert torch.load(tmp_path / folder / CHECKPOINT, weights_only=True)["step"] == stop
        resumed = run(kind, folder, checkpoint_steps=1, **settings)
        assert len(resumed.gradients) == 5 - stop  # nothing is done twice
        assert same_weights(resumed.weights, undisturbed.weights)
        assert without_speed(resumed.metrics) == without_speed(undisturbed.metrics)


@pytest.mark.parametrize("stop", [1, 4, 5, 9], ids=lambda step: f"stopped-after-{step}")
def test_what_came_after_a_checkpoint_is_done_again(stop: int, run: Train, tmp_path: Path) -> None:
    undisturbed = run("dadpo", "whole", epochs=2, checkpoint_steps=2)
    with pytest.raises(InterruptionError):
        run("dadpo", "broken", epochs=2, checkpoint_steps=2, tick=interrupt_at(stop))
    assert len(read_metrics(tmp_path / "broken")) == stop
    assert (tmp_path / "broken" / CHECKPOINT).exists() == (stop >= 2)
    resumed = run("dadpo", "broken", epochs=2, checkpoint_steps=2)
    assert same_weights(resumed.weights, undisturbed.weights)
    assert without_speed(resumed.metrics) == without_speed(undisturbed.metrics)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_goes_on_with_other_micro_batches_and_less_memory(kind: str, run: Train) -> None:
    """A checkpoint counts optimizer steps, which no micro-batch moves: what memory did not suffice for goes on."""
    undisturbed = run(kind, "whole", rows=40, batch_size=8)
    with pytest.raises(InterruptionError):
        run(kind, "broken", rows=40, batch_size=8, checkpoint_steps=2, tick=interrupt_at(3))
    less = {"micro_batch_tokens": ONE_BY_ONE, "gradient_checkpointing": True, "checkpoint_steps": 1}
    resumed = run(kind, "broken", rows=40, batch_size=8, **less)
    assert len(resumed.gradients) == 3
    assert [row["tokens"] for row in resumed.metrics] == [row["tokens"] for row in undisturbed.metrics]
    assert resumed.losses == pytest.approx(undisturbed.losses, rel=1e-4)


def test_a_training_interrupted_twice_equals_an_undisturbed_one(run: Train) -> None:
    undisturbed = run("sft", "whole", epochs=2, checkpoint_steps=3)
    for stop in (4, 4):  # the second counts from the checkpoint of step 3, and so passes that of step 6
        with pytest.raises(InterruptionError):
            run("sft", "broken", epochs=2, checkpoint_steps=3, tick=interrupt_at(stop))
    resumed = run("sft", "broken", epochs=2, checkpoint_steps=3)
    assert same_weights(resumed.weights, undisturbed.weights)
    assert [row["step"] for row in resumed.metrics] == list(range(1, 11))


def test_a_resumed_training_ticks_on_from_its_checkpoint(run: Train) -> None:
    with pytest.raises(InterruptionError):
        run("sft", checkpoint_steps=2, tick=interrupt_at(3))
    ticks: list[int] = []
    metrics = run("sft", checkpoint_steps=2, tick=lambda done, total: ticks.append(done)).metrics
    assert ticks == [row["tokens"] for row in metrics[1:]]


def test_a_half_written_checkpoint_is_ignored(run: Train, tmp_path: Path) -> None:
    undisturbed = run("sft", "whole", checkpoint_steps=2)
    with pytest.raises(InterruptionError):
        run("sft", "broken", checkpoint_steps=2, tick=interrupt_at(3))
    half = tmp_path / "broken" / f"{CHECKPOINT}.tmp"
    half.write_bytes((tmp_path / "broken" / CHECKPOINT).read_bytes()[:100])
    assert same_weights(run("sft", "broken", checkpoint_steps=2).weights, undisturbed.weights)
    assert not half.exists()


def test_a_half_written_checkpoint_alone_means_a_fresh_start(run: Train, tmp_path: Path) -> None:
    undisturbed = run("sft", "whole")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / f"{CHECKPOINT}.tmp").write_bytes(b"half")
    fresh = run("sft", "broken")
    assert same_weights(fresh.weights, undisturbed.weights)
    assert len(fresh.metrics) == 5
    assert not (tmp_path / "broken" / f"{CHECKPOINT}.tmp").exists()


def test_being_killed_while_a_checkpoint_is_written_costs_that_checkpoint_alone(
    run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run("sft", "whole", checkpoint_steps=1)
    save, calls = torch.save, iter(range(1000))

    def half(state: Any, file: Any) -> None:
        save(state, file)
        if next(calls) == 2:
            file.truncate(file.tell() - 1000)
            raise InterruptionError

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(InterruptionError):
        run("sft", "broken", checkpoint_steps=1)
    monkeypatch.undo()
    assert torch.load(tmp_path / "broken" / CHECKPOINT, weights_only=True)["step"] == 2
    resumed = run("sft", "broken", checkpoint_steps=1)
    assert len(resumed.gradients) == 3
    assert same_weights(resumed.weights, undisturbed.weights)


@pytest.mark.parametrize("kept", [0, 100, 0.5, -1])
def test_a_truncated_checkpoint_is_refused_by_name(kept: float, run: Train, tmp_path: Path) -> None:
    """No program leaves one, but a machine that loses its power may."""
    with pytest.raises(InterruptionError):
        run("sft", checkpoint_steps=2, tick=interrupt_at(3))
    path = tmp_path / "work" / CHECKPOINT
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept == 0.5 else int(kept)])
    with pytest.raises(UserError, match=rf"{re.escape(str(path))}.*delete it"):
        run("sft", checkpoint_steps=2)


def test_a_half_written_line_of_metrics_is_cut(run: Train, tmp_path: Path) -> None:
    with pytest.raises(InterruptionError):
        run("sft", checkpoint_steps=2, tick=interrupt_at(2))
    with (tmp_path / "work" / METRICS).open("a") as file:
        file.write('{"loss": 6.2, "gra')
    assert [row["step"] for row in run("sft", checkpoint_steps=2).metrics] == [1, 2, 3, 4, 5]


def test_a_checkpoint_replaces_the_one_before_and_leaves_nothing_beside(run: Train, tmp_path: Path) -> None:
    run("sft", checkpoint_steps=1)
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == sorted([CHECKPOINT, METRICS])
    assert torch.load(tmp_path / "work" / CHECKPOINT, weights_only=True)["step"] == 4


# ---- failures


def failing_after(good: int, fail: Callable[[Tensor], Tensor]) -> Method:
    """SFT whose losses go through `fail` once `good` micro-batches are through."""
    calls = iter(range(1000))

    def loss(inputs: Any, settings: Any) -> Tensor:
        losses = -inputs.policy[:, 0]
        return losses if next(calls) < good else fail(losses)

    return dataclasses.replace(methods.get("sft"), loss=loss)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_its_step_and_prompts(value: float, run: Train, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"loss of sft is (nan|inf) .* at step 3 .*learning_rate") as caught:
        run(failing_after(2, lambda losses: losses * value), checkpoint_steps=1)
    names = ", ".join(RESPONSES[row].name for row in plan_steps(RESPONSES[:20], 4, 1, 0)[2])
    assert f"(training data: {names})" in str(caught.value)
    assert len(read_metrics(tmp_path / "work")) == 2
    checkpoint = torch.load(tmp_path / "work" / CHECKPOINT, weights_only=True)
    assert checkpoint["step"] == 2  # the spoilt weights are not kept
    assert all(torch.isfinite(weight).all() for weight in checkpoint["model"].values())


def test_a_gradient_that_is_not_finite_is_told_too(run: Train) -> None:
    def steep(losses: Tensor) -> Tensor:
        return losses + (losses - losses.detach()).abs().sqrt()  # adds 0, whose slope is not finite

    with pytest.raises(UserError, match=r"loss of sft is \d.* its gradient norm (nan|inf) at step 2"):
        run(failing_after(1, steep))


def out_of_memory(losses: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def allocate_too_much(losses: Tensor) -> Tensor:
    return torch.empty(2**60)  # what the CPU's allocator really says


@pytest.mark.parametrize("fail", [out_of_memory, allocate_too_much])
def test_out_of_memory_names_the_micro_batch_and_what_helps(fail: Any, run: Train) -> None:
    rows = plan_steps(RESPONSES[:20], 4, 1, 0)[1]
    with pytest.raises(UserError, match=r"^out of memory on a micro-batch") as caught:
        run(failing_after(1, fail))
    tokens = sum(RESPONSES[row].tokens for row in rows)
    assert f"micro-batch of {tokens} tokens (4 examples: " in str(caught.value)
    assert all(re.search(rf"\b{RESPONSES[row].name}\b", str(caught.value)) for row in rows)
    assert "micro_batch_tokens" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_out_of_memory_in_a_backward_pass_is_told_too(run: Train) -> None:
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, losses: Tensor) -> Tensor:
            return losses.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Tensor:
            return allocate_too_much(grads[0])

    with pytest.raises(UserError, match="out of memory on a micro-batch"):
        run(failing_after(0, Fails.apply))


def test_an_error_in_a_loss_is_one_line_that_names_its_file(run: Train) -> None:
    def fail(losses: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(UserError, match=r"test_loop.py.*mat1 and mat2 shapes cannot be multiplied"):
        run(failing_after(1, fail))


def test_any_other_error_passes_through_unchanged(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(LlamaDecoderLayer, "forward", fail)
    with pytest.raises(RuntimeError) as caught:
        run("sft")
    assert caught.value is error


# ---- less memory, more speed


@pytest.mark.parametrize("kind", ["kd", "dadpo"])
def test_gradient_checkpointing_computes_layers_again_and_changes_nothing(
    kind: str, run: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals()
    calls = count_calls(monkeypatch, LlamaDecoderLayer, "forward")
    plain = run(kind, "plain", layout="packed")
    passes, teacher_passes = 5 * 2, 5 * 2 if kind == "kd" else 0  # steps · layers
    assert calls["forward"] == passes + teacher_passes
    calls.clear()
    again = run(kind, "again", layout="packed", gradient_checkpointing=True)
    assert calls["forward"] == 2 * passes + teacher_passes
    assert again.losses == pytest.approx(plain.losses, rel=1e-6)
    for one, other in zip(again.gradients, plain.gradients, strict=True):
        assert apart(one, other) < 1e-5


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_layers_train_as_others_do(run: Train) -> None:
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    compiled = run("ddpo", "compiled", rows=8, compile=True)
    assert counters["stats"]["unique_graphs"] == 1  # one for all layers
    assert not counters["graph_break"]
    eager = run("ddpo", "eager", rows=8)
    assert len(eager.losses) == 2
    assert compiled.losses == pytest.approx(eager.losses, rel=1e-4)
    assert apart(compiled.gradients[0], eager.gradients[0]) < 1e-4


@pytest.mark.parametrize("kind", [DistributedType.FSDP, DistributedType.DEEPSPEED])
def test_ways_to_train_that_would_go_wrong_are_refused(
    kind: DistributedType, run: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FSDP's first version has no whole weights to save; DeepSpeed takes a step at every backward pass."""
    accelerator = types.SimpleNamespace(is_fsdp2=False, distributed_type=kind)
    monkeypatch.setattr(loop, "Accelerator", lambda **_: accelerator)
    with pytest.raises(UserError, match=rf"not on {kind.value}; set fsdp_version: 2"):
        run("sft")


# ---- trackers


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "trackio"])
def test_a_tracker_whose_package_is_missing_is_refused(tracker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_tracker(None)
    monkeypatch.setattr(loop.importlib.util, "find_spec", lambda name: None if name == tracker else object())
    with pytest.raises(UserError, match=rf"tracker={tracker}.*pip install {tracker}"):
        check_tracker(tracker)
    check_tracker("json")


def test_a_tracker_gets_every_step_and_the_settings(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that stands in for trackio, which accelerate drives."""
    import accelerate.tracking

    logged: list[tuple[int, dict[str, float]]] = []
    seen: list[Any] = []
    of_a_run = types.SimpleNamespace(
        log=lambda values, step: logged.append((step, values)), finish=lambda: seen.append("end")
    )
    stand_in = types.ModuleType("trackio")
    stand_in.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    stand_in.init = lambda project: seen.append(project) or of_a_run  # type: ignore[attr-defined]
    stand_in.config = types.SimpleNamespace(  # type: ignore[attr-defined]
        update=lambda values, allow_val_change: seen.append(values["learning_rate"])
    )
    monkeypatch.setitem(sys.modules, "trackio", stand_in)
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [accelerate.tracking.LoggerType.TRACKIO])
    check_tracker("trackio")
    done = run("ddpo", tracker="trackio")
    assert seen == ["dadpo-harness", 1e-3, "end"]
    assert [step for step, _ in logged] == [1, 2, 3, 4, 5]
    assert [values for _, values in logged] == done.metrics


def test_tensorboard_is_written_where_it_is_installed(run: Train, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run("sft", tracker="tensorboard")
    assert any("tfevents" in path.name for path in (tmp_path / "work").rglob("*"))


# ---- the rule


def test_the_loop_names_no_method() -> None:
    source = inspect.getsource(loop).lower().replace("dadpo-harness", "")  # the project's own name
    source = "\n".join(line for line in source.splitlines() if not re.match(r"\s*(from|import)\b", line))
    assert set(KINDS) <= set(methods.names())
    assert [name for name in methods.names() if re.search(rf"\b{re.escape(name.lower())}\b", source)] == []
