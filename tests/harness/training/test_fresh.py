"""A training whose responses the policy writes as it goes: what it sees, and that an interruption leaves no trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness.core.errors import UserError
from harness.generation import sampler
from harness.logprobs.batching import Example, Layout
from harness.logprobs.scoring import token_log_probs
from harness.methods import Method, TokenInputs
from harness.training import loop
from harness.training.loop import CHECKPOINT
from tests.conftest import tiny_model
from tests.harness.training.on_policy import CARRYING, PREFERENCE, ROWS, TOKENS, advantage
from tests.harness.training.test_ranks import sharding
from tests.harness.training.trainings import (
    ONE_BY_ONE,
    PAIRS,
    SAMPLED_AT_ONCE,
    STOPS,
    InterruptionError,
    Trained,
    apart,
    data_of,
    frozen_of,
    interrupt_at,
    new_student,
    quiet,
    reference,
    same_weights,
    teacher,
    train,
)

Train = Callable[..., Trained]


@pytest.fixture
def run(tmp_path: Path) -> Train:
    def run(method: Method, folder: str = "work", **how: Any) -> Trained:
        return train(method, tmp_path / folder, **how)

    return run


def written(done: Trained) -> list[list[tuple[int, list[int] | None]]]:
    """Step by step, whose prompts the policy answered, and what it wrote."""
    return [
        [(one.index, None if one.fresh is None else list(one.responses[one.fresh])) for one in step]
        for step in done.steps
    ]


def said(done: Trained) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "tokens_per_s"} for row in done.metrics]


# ---- what it sees


@pytest.mark.parametrize("method", [TOKENS, ROWS, PREFERENCE], ids=lambda method: method.name)
def test_each_level_trains_on_what_the_policy_writes(method: Method, run: Train) -> None:
    done = run(method, rows=12, learning_rate=1e-2)
    found = [one for step in done.steps for one in step]
    place = len(method.roles) - 1
    assert len(found) == 12 and all(one.fresh == place for one in found)
    for one in found:
        response, stored = one.responses[place], PAIRS[one.index]
        assert 1 <= len(response) <= 8 and list(response) != list(stored.responses[place])
        assert one.prompt == stored.prompt and one.responses[:place] == stored.responses[:place]
        assert len(response) == 8 or response[-1] in STOPS
        assert not set(response[:-1]) & set(STOPS)
    assert any(len(one.responses[place]) < 8 for one in found)
    lengths = [[len(one.responses[place]) for one in step] for step in done.steps]
    for row, own in zip(done.metrics, lengths, strict=True):
        assert (row["fresh"], row["response_tokens"]) == (1, pytest.approx(sum(own) / len(own)))
    stopped = [[one.responses[place][-1] in STOPS for one in step] for step in done.steps]
    assert [row["ended"] for row in done.metrics] == [pytest.approx(sum(own) / len(own)) for own in stopped]
    assert 0 < done.done.cut == len(found) - sum(map(sum, stopped)) < len(found)
    assert done.done.fresh_tokens == sum(map(sum, lengths))
    assert done.done.tokens == sum(one.tokens for one in found) == done.metrics[-1]["tokens"]
    # the policy moves, and with it what it says to the same prompts
    first, second = np.split(np.array(written(run(method, "longer", rows=12, epochs=2)), dtype=object), 2)
    assert sorted(first.reshape(-1, 2).tolist()) != sorted(second.reshape(-1, 2).tolist())


def test_a_token_s_advantage_is_under_the_policy_that_wrote_it(run: Train) -> None:
    """Of the step's own policy, and of the one at the window's first step; by other code than the loop's."""
    seen: list[TokenInputs] = []

    def loss(inputs: TokenInputs, settings: Any) -> torch.Tensor:
        seen.append(inputs)
        return advantage(inputs, settings)

    method = dataclasses.replace(TOKENS, loss=loss)
    for every in (1, 2):
        seen.clear()
        done = run(method, f"every {every}", rows=16, learning_rate=1e-2, fresh_every=every)
        assert len(seen) == 4
        for number, inputs in enumerate(seen):
            away = (inputs.policy - inputs.sampled).abs().max()
            assert not inputs.sampled.requires_grad
            assert away < 1e-4 if number % every == 0 else away > 1e-2
        part = [dataclasses.replace(one, index=row) for row, one in enumerate(order(done))]
        for model, found in ((reference(), seen[0].sampled), (teacher(), seen[0].teacher)):
            wanted = np.concatenate(token_log_probs(model, part, "fp32", 4096))
            np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=1e-4)


def order(done: Trained) -> list[Example]:
    """The first step's examples in the order of its one micro-batch."""
    ((part,),) = loop.shares(done.steps[0], 1, 2048, "packed")
    return part


def test_stored_responses_are_read_by_the_model_that_wrote_them(run: Train) -> None:
    seen: list[TokenInputs] = []

    def loss(inputs: TokenInputs, settings: Any) -> torch.Tensor:
        seen.append(inputs)
        return advantage(inputs, settings)

    method = dataclasses.replace(TOKENS, loss=loss)
    run(method, "teacher", rows=4, fresh_share=0.0)
    assert torch.equal(seen[0].sampled, seen[0].teacher)
    run(method, "student", rows=4, fresh_share=0.0, stored="student")
    torch.testing.assert_close(
        seen[1].sampled, seen[1].policy.detach(), rtol=0, atol=1e-4
    )  # the reference, as it starts
    run(method, "mixed", rows=20, batch_size=20, fresh_share=0.5)
    of_teacher = seen[2].sampled == seen[2].teacher
    fresh = (seen[2].sampled - seen[2].policy).abs() < 1e-6
    assert of_teacher.any() and fresh.any() and (of_teacher | fresh).all()


def test_a_share_of_nothing_is_the_stored_training(run: Train) -> None:
    stored, fresh = run(ROWS, "stored", fresh_share=0.0), run(ROWS, "fresh", fresh_share=1e-9)
    assert same_weights(stored.weights, fresh.weights)
    assert said(stored) == said(fresh)


def test_several_samples_of_a_prompt_are_examples_of_a_step(run: Train) -> None:
    done = run(TOKENS, rows=8, samples=3)
    for step in written(done):
        assert len(step) == 12
        rows = [row for row, _ in step]
        assert rows == [row for row in dict.fromkeys(rows) for _ in range(3)]
        assert len({tuple(ids or ()) for _, ids in step}) > 9  # drawn apart
    once = written(run(TOKENS, "once", rows=8))
    assert written(done)[0][::3] == once[0]


@pytest.mark.parametrize("method", [TOKENS, ROWS, PREFERENCE], ids=lambda method: method.name)
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_micro_batches_do_not_matter(method: Method, layout: Layout, run: Train) -> None:
    how: dict[str, Any] = {"rows": 16, "batch_size": 8, "fresh_share": 0.6, "layout": layout}
    together, singly = run(method, "large", **how), run(method, "small", micro_batch_tokens=ONE_BY_ONE, **how)
    assert written(together) == written(singly)
    assert apart(singly.gradients[0], together.gradients[0]) < 1e-5
    assert singly.losses == pytest.approx(together.losses, rel=1e-4, abs=1e-6)


def test_a_preference_over_what_the_policy_writes_is_that_by_hand(run: Train) -> None:
    done = run(PREFERENCE, rows=4, learning_rate=1e-2, epochs=3)
    assert done.losses[0] == pytest.approx(0.6931, abs=1e-3)  # the policy is its reference
    step, row = done.steps[1], done.metrics[1]
    # what the first step left, from the same start and gradient
    student = tiny_model("llama", seed=0)
    optimizer = torch.optim.AdamW(student.parameters(), lr=done.metrics[0]["learning_rate"], weight_decay=0.0)
    for parameter, gradient in zip(student.parameters(), done.gradients[0], strict=True):
        parameter.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimizer.step()

    def total(model: Any, one: Example, role: int) -> torch.Tensor:
        ids = torch.tensor([[*one.prompt, *one.responses[role]]])
        with torch.no_grad():
            logits = model(ids).logits[0, len(one.prompt) - 1 : -1]
        return torch.log_softmax(logits, -1).gather(-1, torch.tensor(one.responses[role])[:, None]).sum()

    start = tiny_model("llama", seed=0)
    shifts = torch.stack([torch.stack([total(student, one, r) - total(start, one, r) for r in (0, 1)]) for one in step])
    margin = shifts[:, 0] - shifts[:, 1]
    assert row["loss"] == pytest.approx((-F.logsigmoid(0.1 * margin)).mean().item(), rel=1e-3)
    assert row["margin"] == pytest.approx(margin.mean().item(), rel=1e-3, abs=1e-3)
    assert row["shift_rejected"] == pytest.approx(shifts[:, 1].mean().item(), rel=1e-3, abs=1e-3)


# ---- interruptions

CASES: dict[str, tuple[Method, dict[str, Any]]] = {
    "tokens": (TOKENS, {}),
    "windows": (TOKENS, {"fresh_every": 3}),
    "mixed": (TOKENS, {"fresh_share": 0.5}),
    "mixed-windows": (TOKENS, {"fresh_share": 0.5, "fresh_every": 3, "samples": 2}),
    "carrying": (CARRYING, {"fresh_every": 2}),
    "rows": (ROWS, {"fresh_share": 0.5, "support": "tail", "top_k": 8, "nll": 0.1}),
    "pairs": (PREFERENCE, {"fresh_every": 3}),
    "bf16": (TOKENS, {"fresh_every": 2, "precision": "bf16"}),
    "budget": (CARRYING, {"fresh_every": 2, "fresh_share": 0.5, "tokens": 200, "warmup_ratio": 0.3}),
    "adapter": (TOKENS, {"fresh_every": 3, "lora_rank": 4, "lora_dropout": 0.3}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_training_stopped_at_any_checkpoint_writes_and_learns_as_if_undisturbed(
    name: str, run: Train, tmp_path: Path
) -> None:
    method, settings = CASES[name]
    undisturbed = run(method, "whole", learning_rate=1e-2, **settings)
    assert len(undisturbed.metrics) == 5
    for stop in range(1, 5):
        folder = f"stopped after {stop}"
        with pytest.raises(InterruptionError):
            run(method, folder, checkpoint_steps=1, learning_rate=1e-2, tick=interrupt_at(stop), **settings)
        assert torch.load(tmp_path / folder / CHECKPOINT, weights_only=True)["step"] == stop
        resumed = run(method, folder, checkpoint_steps=1, learning_rate=1e-2, **settings)
        assert len(resumed.gradients) == 5 - stop
        assert written(resumed) == written(undisturbed)[stop:]
        assert same_weights(resumed.weights, undisturbed.weights)
        assert said(resumed) == said(undisturbed)
        assert dataclasses.replace(resumed.done, whole=None) == dataclasses.replace(undisturbed.done, whole=None)


@pytest.mark.parametrize("every", [1, 3])
def test_what_came_after_a_checkpoint_is_written_again(every: int, run: Train) -> None:
    how: dict[str, Any] = {"epochs": 2, "learning_rate": 1e-2, "fresh_every": every, "fresh_share": 0.5}
    undisturbed = run(TOKENS, "whole", **how)
    with pytest.raises(InterruptionError):
        run(TOKENS, "broken", checkpoint_steps=2, tick=interrupt_at(5), **how)
    resumed = run(TOKENS, "broken", checkpoint_steps=2, **how)
    assert written(resumed) == written(undisturbed)[4:]
    assert same_weights(resumed.weights, undisturbed.weights)
    assert said(resumed) == said(undisturbed)


def test_nothing_that_happens_before_moves_what_is_written(run: Train) -> None:
    first = run(TOKENS, "first")
    torch.manual_seed(1234)
    torch.rand(17)
    again, other = run(TOKENS, "again"), run(TOKENS, "other", seed=1)
    assert written(again) == written(first) and same_weights(again.weights, first.weights)
    assert written(other) != written(first)


# ---- a budget of tokens


@pytest.mark.parametrize("method", [TOKENS, ROWS, PREFERENCE], ids=lambda method: method.name)
def test_a_budget_ends_with_the_step_that_reaches_it(method: Method, run: Train) -> None:
    for budget in (1, 120, 400):
        done = run(method, f"{budget}", rows=12, epochs=1, tokens=budget)
        seen = [0, *(row["tokens"] for row in done.metrics)]
        assert seen[-2] < budget <= seen[-1] == done.done.tokens
        assert done.done.steps == len(done.metrics)
    # three steps are an epoch: rows go on in the order that further epochs have
    longer = run(method, "epochs", rows=12, epochs=4)
    assert 3 < len(done.steps) < 12
    assert [[one.index for one in step] for step in done.steps] == [
        [one.index for one in step] for step in longer.steps[: len(done.steps)]
    ]


def test_a_budget_s_schedule_is_by_the_share_of_it_that_was_seen(run: Train) -> None:
    budget, peak = 400, 1e-2
    done = run(CARRYING, rows=12, tokens=budget, learning_rate=peak, warmup_ratio=0.25)
    before, state = 0, 0.25
    for row in done.metrics:
        size = row["tokens"] - before
        if before < 100:
            rate = peak * (before + size) / (100 + size)
        else:
            rate = peak * (1 + np.cos(np.pi * (before - 100) / 300)) / 2
        assert row["learning_rate"] == pytest.approx(rate)
        before += size
        state = 0.5 * state + 0.1 * row["loss"] + min(1.0, before / budget)  # what CARRYING makes of progress
        assert row["state_t"] == pytest.approx(state)


def test_steps_of_one_size_have_the_schedule_that_steps_have() -> None:
    settings = TOKENS.settings(learning_rate=3e-3, warmup_ratio=0.2)
    by_steps = [loop.learning_rate_at(step, 20, settings) for step in range(20)]
    by_tokens = [loop.learning_rate_at(7 * step, 140, settings, 7) for step in range(20)]
    assert by_tokens == pytest.approx(by_steps)


# ---- what a method carries


def test_a_state_moves_with_each_step_s_loss_and_is_told(run: Train) -> None:
    done = run(CARRYING)
    state = 0.25
    for number, row in enumerate(done.metrics, 1):
        state = 0.5 * state + 0.1 * row["loss"] + number / 5
        assert row["state_t"] == pytest.approx(state)
    assert done.done.state == {"t": pytest.approx(state)}


# ---- ways to train


def test_sharded_weights_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "Accelerator", sharding)
    settings, model = TOKENS.settings(precision="fp32"), new_student()
    data = data_of(TOKENS, settings, model, 8, seed=0)
    with pytest.raises(UserError, match=r"^own-tokens samples .*sharded weights \(FSDP\)[^\n]*fresh_share=0$"):
        loop.train(model, data, frozen_of(TOKENS, settings, 8), TOKENS, settings, 0, tmp_path, quiet)


def test_a_policy_that_runs_out_of_memory_while_it_writes_says_what_helps(
    run: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("harness.training.sampling.sampler.decode_batch", fail)
    said = (
        r"^out of memory while [123] responses of at most 8 tokens were sampled, to prompts of [3-8] tokens and fewer"
    )
    with pytest.raises(UserError, match=said + r".*; lower max_new_tokens of the method, or generation_batch_size$"):
        run(TOKENS)


@pytest.mark.parametrize("every", [1, 2])
def test_steps_before_one_that_cannot_be_written_are_not_taken_again(
    every: int, run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(TOKENS, "whole", learning_rate=1e-2, fresh_every=every)
    real, calls = sampler.decode_batch, []

    def fail_at_step_three(*args: Any) -> Any:
        calls.append(1)
        if len(calls) > drawn_in_two_steps:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args)

    drawn_in_two_steps = sum(-(-4 * every // SAMPLED_AT_ONCE) for _ in range(2 // every))
    with monkeypatch.context() as patched:
        patched.setattr(sampler, "decode_batch", fail_at_step_three)
        with pytest.raises(UserError, match="out of memory"):
            run(TOKENS, "stopped", learning_rate=1e-2, fresh_every=every)
    assert torch.load(tmp_path / "stopped" / CHECKPOINT, weights_only=True)["step"] == 2
    resumed = run(TOKENS, "stopped", learning_rate=1e-2, fresh_every=every)
    assert written(resumed) == written(undisturbed)[2:]
    assert same_weights(resumed.weights, undisturbed.weights)
