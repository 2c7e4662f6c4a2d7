from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from baselines import taid
from baselines.kd import kd_loss
from baselines.taid import Settings, advance, taid_loss
from harness.core.records import METRICS
from tests.baselines.effects import trained
from tests.baselines.rows import POLICY, TEACHER, close, log_probs, logs
from tests.harness.training.trainings import InterruptionError, interrupt_at, same_weights


def test_the_target_between_the_two_is_the_known_one() -> None:
    logits = logs(POLICY).requires_grad_()
    (gradient,) = torch.autograd.grad(taid_loss(torch.log_softmax(logits, -1), logs(TEACHER), 0.4).sum(), logits)
    # of cross-entropy to p_t through a softmax it is q − p_t
    close(torch.tensor([POLICY], dtype=torch.float64) - gradient, [[0.283665, 0.342976, 0.126415, 0.246944]], 1e-5)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_at_its_end_it_is_kd_and_the_teachers_entropy(scale: float) -> None:
    policy, teacher = log_probs(0, 5, 20, scale=scale), log_probs(1, 5, 20, scale=scale)
    close(taid_loss(policy, teacher, 1.0), kd_loss(policy, teacher) - (teacher.exp() * teacher).sum(-1))


def test_at_the_policy_itself_it_does_not_move_it() -> None:
    logits = log_probs(0, 5, 20).requires_grad_()
    (gradient,) = torch.autograd.grad(taid_loss(logits.log_softmax(-1), log_probs(1, 5, 20), 0.0).sum(), logits)
    close(gradient, torch.zeros(5, 20))


@pytest.mark.parametrize(("sign", "falls"), [(1, True), (-1, False)])
def test_descending_it_brings_the_policy_to_the_teacher_and_ascending_does_not(sign: int, falls: bool) -> None:
    logits, teacher = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True), log_probs(1, 1, 6)
    began = float(kd_loss(torch.log_softmax(logits, -1), teacher).detach())
    for _ in range(200):
        (gradient,) = torch.autograd.grad(sign * taid_loss(torch.log_softmax(logits, -1), teacher, 0.4).sum(), logits)
        logits = (logits - gradient).detach().requires_grad_()
    ended = float(kd_loss(torch.log_softmax(logits, -1), teacher).detach())
    assert (ended < 1e-6 * began) if falls else (ended > began)


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_outcomes_that_one_of_them_rules_out_are_finite_at_every_t(t: float) -> None:
    policy, teacher = logs([0.5, 0.5, 0.0], [0.5, 0.3, 0.2]), logs([0.0, 0.5, 0.5], [0.5, 0.5, 0.0])
    assert taid_loss(policy, teacher, t).isfinite().all()


def path(losses: list[float], settings: Settings) -> list[float]:
    """t of each step and after the last."""
    state = taid.state(settings)
    found = [state["t"]]
    for step, loss in enumerate(losses, 1):
        state = advance(state, loss, step / len(losses), settings)
        found.append(state["t"])
    return found


def simulated(losses: list[float], settings: Settings) -> list[float]:
    """The same from all losses at once: each momentum is a sum over the falls before."""
    a, b, steps = settings.alpha, settings.momentum, len(losses)
    falls = [0.0] + [1 - after / before for before, after in itertools.pairwise(losses)]
    t = [settings.t_start] * 2
    for n in range(1, steps):
        m = sum((1 - b) * b ** (n - i) * falls[i] for i in range(1, n + 1))
        rise = a * (1 - t[-1]) / (1 + math.exp(-m))
        line = settings.t_start + (settings.t_end - settings.t_start) * n / steps
        t.append(min(settings.t_end, max(line, t[-1] + rise)))
    return t


@pytest.mark.parametrize(
    "settings", [{}, {"alpha": 0.1}, {"alpha": 0.5, "momentum": 0.0}, {"t_start": 0.0, "t_end": 0.7, "alpha": 0.05}]
)
def test_t_moves_as_the_rule_says(settings: dict[str, Any]) -> None:
    losses = [3.0, 2.5, 2.6, 1.9, 1.95, 1.5, 1.4, 1.45, 1.2, 1.1]
    chosen = Settings(**settings)
    found = path(losses, chosen)
    assert found == pytest.approx(simulated(losses, chosen), abs=1e-12)
    assert found == sorted(found) and found[-1] <= chosen.t_end


def test_a_loss_that_falls_faster_moves_t_further_where_it_is_above_the_line() -> None:
    settings = Settings(alpha=0.5, momentum=0.0)
    assert path([3.0, 1.0, 0.5, 0.2], settings)[2] > path([3.0, 2.9, 2.8, 2.7], settings)[2]


def test_a_loss_that_leaps_leaves_t_on_the_line() -> None:
    assert path([1e-9, 10.0, 10.0], Settings(alpha=1.0))[2] == pytest.approx(0.4 + 0.6 / 3)


@pytest.mark.parametrize("settings", [{"t_start": 0.8, "t_end": 0.5}, {"t_start": 1.0}, {"momentum": 1.0}])
def test_a_target_that_would_move_away_from_the_teacher_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**settings)


def test_a_training_that_was_stopped_goes_on_with_its_t_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = trained(taid.METHOD, tmp_path / "whole", 0, epochs=1)
    with pytest.raises(InterruptionError):
        trained(taid.METHOD, tmp_path / "cut", 0, interrupt_at(3), epochs=1, checkpoint_steps=1)
    resumed = trained(taid.METHOD, tmp_path / "cut", 0, epochs=1, checkpoint_steps=1)
    assert same_weights(dict(resumed.state_dict()), dict(whole.state_dict()))
    rows = [[json.loads(line) for line in (tmp_path / one / METRICS).open()] for one in ("whole", "cut")]
    states = [[{name: row[name] for name in row if name.startswith("state_")} for row in some] for some in rows]
    assert states[0] == states[1] and len(states[0]) == 6
    assert states[0][-1]["state_t"] == pytest.approx(0.4 + 0.6 * 5 / 6)
