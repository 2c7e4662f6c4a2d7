"""Damage: each kind does its share and no more; the trend test."""

from __future__ import annotations

import numpy as np
import pytest

from harness.judging.check.perturbation import (
    DOSES,
    Perturbation,
    doses,
    perturb,
    perturbation_curve,
    sentences,
    sign_flip_test,
)

TEXT = "One is here. Two is there! Three is where? Four. Five is 5.5 long. Six. Seven. Eight."
OTHER = "A. B. C. D. E. F. G. H. I. J."


def hurt(kind: Perturbation, dose: float, seed: int = 0) -> list[str]:
    return sentences(perturb(kind, TEXT, dose, np.random.default_rng(seed), OTHER))


def test_sentences() -> None:
    assert len(sentences(TEXT)) == 8
    assert " ".join(sentences(TEXT)) == TEXT


@pytest.mark.parametrize("kind", DOSES)
def test_damage_is_the_same_for_a_seed_and_none_at_dose_0(kind: Perturbation) -> None:
    assert hurt(kind, 0) == sentences(TEXT)
    for dose in DOSES[kind]:
        assert hurt(kind, dose, 3) == hurt(kind, dose, 3) != sentences(TEXT)
    if kind in ("shuffled", "off-topic"):
        assert len({tuple(hurt(kind, 0.5, seed)) for seed in range(20)}) > 10


@pytest.mark.parametrize(("dose", "count"), [(0.25, 2), (0.5, 4), (1.0, 8)])
@pytest.mark.parametrize("seed", range(10))
def test_a_shuffle_moves_its_share_and_loses_nothing(dose: float, count: int, seed: int) -> None:
    found = hurt("shuffled", dose, seed)
    assert sorted(found) == sorted(sentences(TEXT))
    assert sum(a != b for a, b in zip(found, sentences(TEXT), strict=True)) == count


@pytest.mark.parametrize(("dose", "left"), [(0.25, 6), (0.5, 4), (0.75, 2), (0.99, 1)])
def test_a_truncation_cuts_its_share_from_the_end(dose: float, left: int) -> None:
    assert hurt("truncated", dose) == sentences(TEXT)[:left]


@pytest.mark.parametrize(("dose", "count"), [(0.25, 2), (0.5, 4), (1.0, 8)])
def test_a_swap_replaces_its_share_and_all_of_it_at_dose_1(dose: float, count: int) -> None:
    found = hurt("off-topic", dose)
    assert len(found) == 8
    assert sum(sentence in sentences(OTHER) for sentence in found) == count
    if dose == 1:
        assert found == sentences(OTHER)[:8]


def test_larger_doses_of_a_swap_hold_the_smaller_ones() -> None:
    whole = sentences(TEXT)
    places = [{i for i in range(8) if hurt("off-topic", dose, 5)[i] != whole[i]} for dose in (0.25, 0.5, 1.0)]
    assert places[0] < places[1] < places[2]


@pytest.mark.parametrize(("dose", "repeats"), [(0.25, 3), (0.5, 8), (0.75, 24)])
def test_a_repetition_repeats_the_last_sentence_to_its_share(dose: float, repeats: int) -> None:
    assert hurt("repeated", dose) == sentences(TEXT) + ["Eight."] * repeats
    assert repeats / (8 + repeats) == pytest.approx(dose, abs=0.03)


def test_one_sentence_cannot_be_damaged() -> None:
    with pytest.raises(ValueError, match="two sentences"):
        perturb("shuffled", "Only one here.", 0.5, np.random.default_rng(0))


def test_each_response_is_damaged_with_sentences_of_the_next() -> None:
    found = doses({"one": TEXT, "two": OTHER}, 0)
    assert len(found) == 2 * sum(map(len, DOSES.values()))
    assert found["off-topic", "one", 1.0] == " ".join(sentences(OTHER)[:8])
    assert doses({"one": TEXT}, 0) == {}


def test_the_sign_flip_test_is_exact_for_few_values() -> None:
    # all of n = 6 below 0: 1 of 2^6 sign patterns is as low
    assert sign_flip_test([-0.1, -0.4, -0.3, -1.0, -0.2, -0.6], 0) == pytest.approx(1 / 64, abs=0.005)
    assert sign_flip_test([0.0, 0.0], 0) == 1
    assert sign_flip_test([], 0) is None
    # by hand: of the eight sign patterns of 1, 2, 4 the sums −7, −5, −3 are at most −3
    assert sign_flip_test([1.0, -4.0, 0.0, 0.0], 0) == pytest.approx(2 / 4, abs=0.02)
    assert sign_flip_test([1.0, 2.0, -4.0], 0) == pytest.approx(4 / 8, abs=0.02)


def test_a_curve_holds_each_dose_and_counts_what_is_missing() -> None:
    curve = perturbation_curve("truncated", {("x", 0.25): 0.4, ("x", 0.5): 0.3, ("y", 0.25): None, ("y", 0.5): 0.3}, 0)
    assert [value.mean for value in curve.preferences] == [0.4, 0.3, None]
    assert curve.slope.mean == pytest.approx(-0.4)  # of 0.5 − 0.4 d, in both
    assert (curve.monotone, curve.missing) == (True, 1)
    assert not perturbation_curve("truncated", {("x", 0.25): 0.3, ("x", 0.5): 0.4}, 0).monotone
