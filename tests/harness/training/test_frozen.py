"""What frozen models say of a micro-batch, however it is had."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from baselines.kd import kd_loss
from harness.logprobs.batching import Example, Layout, collate
from harness.logprobs.scoring import response_starts, sequence_log_probs, token_log_probs, top_log_probs
from harness.logprobs.targets import DenseTarget, StoredTopK, Support
from harness.training.frozen import Frozen, Local
from tests.harness.logprobs.rows import outcomes_of
from tests.harness.training.trainings import (
    PAIRS,
    RESPONSES,
    VOCABULARY,
    new_student,
    quiet,
    reference,
    signals,
    teacher,
)

PART = [PAIRS[3], PAIRS[0], PAIRS[7]]
CPU = torch.device("cpu")


def policy_rows(part: list[Example]) -> torch.Tensor:
    """The student's log-probs at the response tokens."""
    rows = new_student().log_prob_rows(collate(part))
    return rows.rows(slice(None), VOCABULARY)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_sums_read_as_a_training_goes_are_those_that_were_stored(layout: Layout) -> None:
    readers = {"reference": Local(reference(layout), VOCABULARY), "teacher": Local(teacher(layout), VOCABULARY)}
    live, batch = Frozen(readers=readers), collate(PART)
    read = live.sums_of(PART, batch, live.tokens_of(PART))
    stored = Frozen(sums=signals()).sums_of(PART, batch, {})
    assert read.keys() == stored.keys() == {"reference", "teacher"}
    for name, values in read.items():
        assert values.shape == (3, 2) and not values.requires_grad
        torch.testing.assert_close(values, stored[name], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_tokens_are_in_the_order_of_the_policy_s_batch(layout: Layout) -> None:
    part = [RESPONSES[3], RESPONSES[0], RESPONSES[7]]
    (found,) = Frozen(readers={"teacher": Local(teacher(layout), VOCABULARY)}).tokens_of(part).values()
    alone = [dataclasses.replace(one, index=row) for row, one in enumerate(part)]
    wanted = np.concatenate(token_log_probs(teacher(), alone, "fp32", 10))  # one by one
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["tail", "renormalised", "truncated"])
def test_a_stored_top_k_and_the_model_itself_are_one_target(kind: str) -> None:
    support = Support(kind, 6)  # type: ignore[arg-type]
    ids, log_probs = top_log_probs(teacher(), RESPONSES, 6, VOCABULARY, "fp32", 100, quiet)
    stored = StoredTopK(ids, log_probs, response_starts(RESPONSES), support, VOCABULARY)
    local = {"teacher": Local(teacher(), VOCABULARY)}
    part = [RESPONSES[3], RESPONSES[0], RESPONSES[7]]
    rows = policy_rows(part)
    targets = [
        f.target_of(part, CPU, ("teacher",)) for f in (Frozen(stored=stored), Frozen(readers=local, support=support))
    ]
    one, other = (kd_loss(*outcomes_of(target, rows)) for target in targets)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_only_the_models_that_are_named_give_distributions_at_the_temperature() -> None:
    readers = {"reference": Local(reference(), VOCABULARY), "teacher": Local(teacher(), VOCABULARY)}
    frozen, rows = Frozen(readers=readers, temperature=2.0), policy_rows(PART)
    for names in (("teacher",), ("reference", "teacher")):
        target = frozen.target_of(PART, CPU, names)
        assert isinstance(target, DenseTarget)
        _, found = target.outcomes(rows, slice(None))
        assert set(found) == set(names)
        plain = teacher().log_prob_rows(collate(PART), VOCABULARY).rows(slice(None), VOCABULARY)
        torch.testing.assert_close(found["teacher"], torch.log_softmax(plain / 2, -1), rtol=1e-4, atol=1e-4)
    _, found = frozen.target_of(PART, CPU, ("reference",)).outcomes(rows, slice(None))
    torch.testing.assert_close(found["reference"], torch.log_softmax(rows / 2, -1), rtol=1e-4, atol=1e-4)


def test_a_model_that_sees_another_prompt_reads_the_same_responses_after_it() -> None:
    def shown(example: Example) -> Example:
        return dataclasses.replace(example, prompt=[5, 6, 7, *example.prompt])

    local = Local(teacher(), VOCABULARY, shown)
    wanted = sequence_log_probs(teacher(), [shown(one) for one in PART], "fp32", 4096, quiet)
    found = collate(PART).sum_by_response(local.tokens(PART))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=1e-3)
    rows = local.rows(PART, 1.0).rows(slice(None), VOCABULARY)
    labels = collate(PART).labels
    torch.testing.assert_close(rows.gather(-1, labels[:, None]).squeeze(-1), local.tokens(PART), rtol=0, atol=1e-4)
