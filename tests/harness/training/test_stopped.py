"""A training that something stops between its checkpoints goes on from the step that it was stopped at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.training import frozen
from tests.harness.training.trainings import same_weights, train


def failing(calls: Callable[..., Any], after: int) -> Callable[..., Any]:
    """The same, which is away once it was called so often."""
    counted = iter(range(10_000))

    def away(*arguments: Any) -> Any:
        if next(counted) == after:
            raise UserError("the server is away")
        return calls(*arguments)

    return away


@pytest.mark.parametrize("method", ["kd", "gkd"])
def test_what_was_trained_before_a_server_went_away_is_not_trained_again(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a step of several micro-batches, the sixth of ten steps: its text is the same too, where the policy wrote
    it."""
    own: dict[str, Any] = {"epochs": 2, "micro_batch_tokens": 40, "max_new_tokens": 6}
    undisturbed = train(method, tmp_path / "whole", **own)
    asked: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(frozen.Local, "rows", lambda *a, rows=frozen.Local.rows: asked.append(1) or rows(*a))
        train(method, tmp_path / "counted", **own)
    with monkeypatch.context() as patch:
        patch.setattr(frozen.Local, "rows", failing(frozen.Local.rows, len(asked) * 11 // 20))
        with pytest.raises(UserError, match="away"):
            train(method, tmp_path / "stopped", **own)
    resumed = train(method, tmp_path / "stopped", **own)
    assert len(undisturbed.steps) == 10 and len(resumed.steps) in (5, 6)
    assert [row["loss"] for row in resumed.metrics] == undisturbed.losses
    assert same_weights(resumed.weights, undisturbed.weights)
    assert resumed.steps == undisturbed.steps[-len(resumed.steps) :]
    assert (resumed.done.tokens, resumed.done.fresh_tokens) == (undisturbed.done.tokens, undisturbed.done.fresh_tokens)


def test_a_first_step_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen.Local, "rows", failing(frozen.Local.rows, 0))
    with pytest.raises(UserError, match="away"):
        train("kd", tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()
