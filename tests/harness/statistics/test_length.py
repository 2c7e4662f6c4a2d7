"""The logistic fit and its delta method against closed forms, gradient ascent, scipy and simulation; refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize
from scipy.special import expit, xlog1py, xlogy

from harness.statistics.length import MIN_OUTCOMES, MIN_PROMPTS, MIN_SIDE, LengthControl, fit, length_controls, sigmoid
from harness.statistics.outcomes import NAN, Floats, Outcomes
from harness.statistics.rates import Z
from tests.harness.tabular import outcomes_of


def control(found: Outcomes, candidate: str = "a") -> LengthControl:
    return length_controls(found)["set0", candidate, "teacher", "judge"]


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def simulated(rng: np.random.Generator, n: int, alpha: float, beta: float, gamma: float) -> Outcomes:
    """Outcomes of `a` under the model itself, and of `b`, whose values are the prompts' difficulty."""
    longer, hard = rng.normal(60, 100, n).round(), rng.choice([-1.0, 0.0, 1.0], n)
    p = sigmoid(alpha + beta * np.tanh(longer / longer.std()) + gamma * hard)
    value = np.where(rng.random(n) < p, 1.0, -1.0)
    return outcomes_of({"a": value, "b": hard}, longer={"a": longer, "b": rng.normal(0, 50, n)})


# ---- the fit


def test_two_groups_have_a_fit_in_closed_form() -> None:
    """z = −1 with 30 wins of 100, z = 1 with 60 of 100: logits α ∓ β are those of the shares."""
    design = np.stack([np.ones(200), np.repeat([-1.0, 1.0], 100)], axis=1)
    y = np.concatenate([np.arange(100) < 30, np.arange(100) < 60]).astype(float)
    found = fit(design, y)
    assert found is not None
    assert found == pytest.approx([(logit(0.6) + logit(0.3)) / 2, (logit(0.6) - logit(0.3)) / 2], abs=1e-9)


def test_the_fit_is_where_plain_gradient_ascent_ends() -> None:
    rng = np.random.default_rng(2)
    for _ in range(5):
        design = np.stack([np.ones(80), rng.normal(0.5, 1, 80), rng.uniform(-1, 1, 80)], axis=1)
        y = rng.choice([0, 0.5, 1], 80, p=[0.3, 0.2, 0.5])
        theta = np.zeros(3)
        for _ in range(5000):
            theta += design.T @ (y - 1 / (1 + np.exp(-design @ theta))) / 80
        assert fit(design, y) == pytest.approx(theta, abs=1e-6)


def test_a_step_that_overshoots_is_halved() -> None:
    """Rare wins at far ends: from 0, Newton's own step lands where the curvature is gone."""
    z = np.concatenate([np.linspace(-1, 1, 400), [60.0, 80.0, -40.0]])
    y = np.concatenate([np.full(400, 0.01), [1.0, 1.0, 0.0]])
    design = np.stack([np.ones(len(z)), z], axis=1)
    found = fit(design, y)
    assert found is not None
    np.testing.assert_allclose(design.T @ (y - sigmoid(design @ found)), 0, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_separated_outcomes_have_no_finite_fit(scale: float) -> None:
    z = np.linspace(-1, 1, 60)
    design = np.stack([np.ones(60), z], axis=1)
    assert fit(design, (z > 0).astype(float)) is None
    # all but separated: wins above 0, losses and one win at exactly 0
    y = np.where(z > 0, 1.0, 0.0)
    z[:30] = 0
    y[0] = 1
    assert fit(np.stack([np.ones(60), z * scale], axis=1), y) is None


# ---- the controlled rate


def test_a_rate_and_its_interval_worked_by_hand() -> None:
    """Lengths ∓100 tokens (z = ∓1), 30 and 60 wins of 100. m = σ(α); var α = Σ 1 / (n p (1 − p)) / 4, G / (G − 1).

    The logits at either length are α ∓ β tanh 1, as those of the shares are.
    """
    longer = np.repeat([-100.0, 100.0], 100)
    value = np.where(np.concatenate([np.arange(100) < 30, np.arange(100) < 60]), 1.0, -1.0)
    found = control(outcomes_of({"a": value}, longer={"a": longer}))
    alpha, beta = (logit(0.6) + logit(0.3)) / 2, (logit(0.6) - logit(0.3)) / 2
    error = np.sqrt((1 / (100 * 0.3 * 0.7) + 1 / (100 * 0.6 * 0.4)) / 4 * 200 / 199)
    assert found.reason == "" and found.unit == "tokens" and found.spread == 100
    assert (found.n, found.candidate_mean, found.reference_mean) == (200, 1000, 1000)
    assert found.preference_rate == pytest.approx(-0.1)
    assert found.difficulty is False
    assert found.coefficient == pytest.approx(beta / np.tanh(1))
    assert found.controlled_rate == pytest.approx(np.tanh(alpha / 2))
    of_beta = np.array([beta - Z * error, beta + Z * error]) / np.tanh(1)
    assert found.coefficient_interval == pytest.approx(tuple(of_beta))
    ends = (np.tanh((alpha - Z * error) / 2), np.tanh((alpha + Z * error) / 2))
    assert found.controlled_interval == pytest.approx(ends)


def test_the_model_is_scipy_s_and_its_interval_that_of_numeric_derivatives() -> None:
    """Two runs of 150 prompts, one of them with ties: quasi-likelihood and sandwich by scipy, in float64."""
    made = simulated(np.random.default_rng(7), 300, -0.5, 0.9, 0.6)
    value = np.where((made.candidate == 0) & (made.prompt % 7 == 0), 0.0, made.value)
    twice = replace(made, value=value, prompt=made.prompt % 150, run=made.prompt // 150)
    found = control(twice)
    mine, other = twice.candidate == 0, twice.candidate == 1
    y, prompt = (1 + value[mine]) / 2, twice.prompt[mine]
    longer = (twice.candidate_length - twice.reference_length)[mine]
    hard = np.array([value[other][twice.prompt[other] == one].mean() for one in prompt])
    x = np.stack([np.ones(300), np.tanh(longer / longer.std()), hard - hard.mean()], axis=1)

    def loss(theta: Floats) -> float:
        p = expit(x @ theta)
        return -float((xlogy(y, p) + xlog1py(1 - y, -p)).sum())

    def score(theta: Floats) -> Floats:
        return np.asarray(x.T @ (expit(x @ theta) - y))

    theta = minimize(loss, np.zeros(3), jac=score, method="BFGS", options={"gtol": 1e-9}).x
    even = x * [1, 0, 1]
    m = float(expit(even @ theta).mean())
    hessian = approx_fprime(theta, score, 1e-7)
    gradient = approx_fprime(theta, lambda at: expit(even @ at).mean(), 1e-7)
    influence = np.linalg.solve(hessian, (x * (y - expit(x @ theta))[:, None]).T).T
    parts = (expit(even @ theta) - m) / 300 + influence @ gradient
    variance = sum(parts[prompt == one].sum() ** 2 for one in range(150)) * 150 / 149
    half = Z * np.sqrt(variance) / (m * (1 - m))
    ends = 2 * expit([np.log(m / (1 - m)) - half, np.log(m / (1 - m)) + half]) - 1
    assert found.difficulty is True
    assert found.coefficient == pytest.approx(theta[1], abs=1e-5)
    assert found.controlled_rate == pytest.approx(2 * m - 1, abs=1e-6)
    assert found.controlled_interval == pytest.approx(tuple(ends), abs=1e-5)


def test_the_units_of_length_do_not_matter() -> None:
    made = simulated(np.random.default_rng(0), 300, -0.5, 0.7, 0.5)
    scaled = replace(made, candidate_length=made.candidate_length * 4, reference_length=made.reference_length * 4)
    one, other = control(made), control(scaled)
    assert other.controlled_rate == pytest.approx(one.controlled_rate)
    assert other.controlled_interval == pytest.approx(one.controlled_interval)
    assert other.coefficient == pytest.approx(one.coefficient)


def test_a_preference_that_is_length_alone_is_taken_away() -> None:
    """Parity at equal length, responses 60 tokens longer on average: the raw rate is above 0, the controlled is not."""
    found = control(simulated(np.random.default_rng(1), 4000, 0.0, 1.0, 0.5))
    assert found.preference_rate is not None and found.preference_rate > 0.1
    assert found.controlled_rate is not None and abs(found.controlled_rate) < 0.05
    assert found.controlled_interval is not None and found.controlled_interval[0] < 0 < found.controlled_interval[1]
    assert found.coefficient == pytest.approx(1.0, abs=0.2)


def test_without_an_effect_of_length_the_controlled_rate_is_about_the_raw_one() -> None:
    found = control(simulated(np.random.default_rng(3), 4000, -0.4, 0.0, 0.8))
    assert found.controlled_rate == pytest.approx(found.preference_rate, abs=0.02)


def test_the_delta_method_is_the_spread_of_simulated_rates_and_covers() -> None:
    """400 data sets of 300 prompts: the spread is known to 3.5%, coverage to 2.2 points (two standard errors)."""
    rng = np.random.default_rng(4)
    alpha, beta, gamma = -0.8, 0.6, 0.7
    truth = 2 * float(np.mean(sigmoid(alpha + gamma * np.array([-1.0, 0, 1])))) - 1
    rates, halves, held, betas = [], [], 0, 0
    for _ in range(400):
        found = control(simulated(rng, 300, alpha, beta, gamma))
        assert found.controlled_rate is not None and found.controlled_interval and found.coefficient_interval
        low, high = found.controlled_interval
        rates.append(found.controlled_rate)
        halves.append((high - low) / 2 / Z)
        held += low <= truth <= high
        betas += found.coefficient_interval[0] <= beta <= found.coefficient_interval[1]
    assert np.mean(halves) == pytest.approx(np.std(rates), rel=0.1)
    assert 0.92 <= held / 400 <= 0.98
    assert 0.92 <= betas / 400 <= 0.98


def test_copies_of_a_prompt_do_not_narrow_the_interval() -> None:
    made = simulated(np.random.default_rng(5), 300, -0.5, 0.7, 0.5)
    copies = made.select(np.tile(np.arange(len(made)), 3))
    one, thrice = control(made), control(copies)
    assert thrice.n == 3 * one.n
    assert thrice.controlled_interval == pytest.approx(one.controlled_interval)
    assert thrice.coefficient_interval == pytest.approx(one.coefficient_interval)


def test_difficulty_is_learnt_from_the_other_candidates_alone() -> None:
    """A candidate's own outcome must not explain itself: with `b` missing throughout, there is no difficulty."""
    made = simulated(np.random.default_rng(6), 300, -0.5, 0.7, 0.5)
    alone = control(made.where(candidate="a"))
    silent = replace(made, value=np.where(made.candidate == 1, NAN, made.value))
    assert control(silent) == alone
    assert control(made) != alone
    assert (alone.difficulty, control(made).difficulty) == (False, True)


# ---- refusals


def lengths(n: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(0, 50, n).round()


@pytest.mark.parametrize(
    ("value", "longer", "said"),
    [
        (np.resize([1.0, -1.0], MIN_PROMPTS - 1), lengths(MIN_PROMPTS - 1), f"{MIN_PROMPTS - 1} judged prompts"),
        (np.full(200, NAN), lengths(200), "0 judged prompts"),
        (np.full(200, 1.0), lengths(200), "0 of the rarer outcome"),
        (np.where(np.arange(200) < MIN_OUTCOMES - 1, 1.0, -1.0), lengths(200), f"{MIN_OUTCOMES - 1} of the rarer"),
        (np.resize([1.0, -1.0], 200), np.full(200, 7.0), "by the same length"),
        (np.resize([1.0, -1.0], 200), 300 + lengths(200), "the responses are as long as the reference's or shorter: e"),
        (np.resize([1.0, -1.0], 200), -300 + lengths(200), "the responses are as long as the reference's or longer: e"),
        (np.where(lengths(200) > 0, 1.0, -1.0), lengths(200), "separated"),
    ],
)
def test_what_cannot_be_told_is_refused_with_a_reason_and_mean_lengths(
    value: Floats, longer: Floats, said: str
) -> None:
    found = control(outcomes_of({"a": value}, longer={"a": longer}))
    assert said in found.reason
    assert found.controlled_rate is found.controlled_interval is found.coefficient is None
    assert found.candidate_mean == pytest.approx(1000 + longer.mean())
    assert found.reference_mean == 1000


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("near", [0.0, 20.0])
def test_enough_responses_on_either_side_of_equal_length_are_enough(sign: int, near: float) -> None:
    """Of 200, as many as MIN_SIDE says are as long or shorter; responses that are just as long are on both sides."""
    few = round(200 * MIN_SIDE)
    for count, refused in ((few, False), (few - 1, True)):
        longer = np.concatenate([np.full(count, -near), np.linspace(10, 400, 200 - count)])
        found = control(outcomes_of({"a": np.resize([1.0, -1.0, -1.0], 200)}, longer={"a": sign * longer}))
        assert ("extrapolation" in found.reason) == refused
        assert (found.controlled_rate is None) == (found.difficulty is None) == refused


def test_enough_of_the_rarer_outcome_is_enough() -> None:
    value = np.where(np.arange(200) < MIN_OUTCOMES, 1.0, -1.0)
    assert control(outcomes_of({"a": value}, longer={"a": lengths(200)})).reason == ""


def test_unknown_and_mixed_lengths_are_no_lengths() -> None:
    made = outcomes_of({"a": np.resize([1.0, -1.0], 200)}, longer={"a": lengths(200)})
    mixed = control(replace(made, in_tokens=np.arange(200) < 100))
    unknown = control(replace(made, candidate_length=np.full(200, NAN), reference_length=np.full(200, NAN)))
    assert "some in characters" in mixed.reason and "no lengths" in unknown.reason
    assert mixed.candidate_mean is unknown.candidate_mean is None
    characters = control(replace(made, in_tokens=np.zeros(200, dtype=bool)))
    assert characters.unit == "characters" and characters.controlled_rate is not None
