"""How a search is put into words."""

from __future__ import annotations

import pytest

from harness.reports.searched import as_good, tries_words, wide
from harness.results.schema import FoundFacts, SearchFacts, TryFacts

RATE = "training.learning_rate"


def tried(rate: float, value: float | None, apart: float | None) -> TryFacts:
    return TryFacts(
        method="sft",
        point={RATE: rate},
        value=value,
        standard_error=0.1,
        apart=apart,
        tokens=1,
        seconds=1.0,
        training=f"train/{rate}",
        measured=f"measure/{rate}",
    )


def search(prompts: int, *others: TryFacts) -> SearchFacts:
    return SearchFacts(
        criterion="forward_kl",
        head="forward KL",
        better="lower",
        unit="nats a token",
        seed=0,
        prompt_set="train (validation)",
        digest="d",
        prompts=prompts,
        share=0.2,
        left_out={},
        own_losses=(),
        tries=(tried(1.0, 3.0, None), *others),
        found=(FoundFacts(method="sft", point={RATE: 1.0}, edge=()),),
    )


@pytest.mark.parametrize(("prompts", "errors"), [(2, 12.706), (3, 4.303), (31, 2.042), (100_000, 1.960)])
def test_an_interval_over_few_prompts_is_as_wide_as_student_has_it(prompts: int, errors: float) -> None:
    assert wide(search(prompts)) == pytest.approx(errors, abs=1e-3)


def test_a_try_is_told_from_the_best_by_as_many_prompts_as_there_are() -> None:
    other = tried(2.0, 3.4, 0.1)  # four standard errors
    assert as_good(other, search(2, other)) and not as_good(other, search(20, other))
    assert "**learning_rate=1.0: 3.000 ± 0.100**" in tries_words(search(20, other), "sft")
    assert "≈" in tries_words(search(2, other), "sft") and "≈" not in tries_words(search(20, other), "sft")


def test_of_one_prompt_nothing_is_told_and_of_no_number_all() -> None:
    alone, lost = tried(2.0, 9.0, None), tried(3.0, None, None)
    assert as_good(alone, search(1, alone))
    assert not as_good(lost, search(1, lost)) and not as_good(lost, search(9, lost))
    assert not as_good(search(1).tries[0], search(1))  # the best one itself
