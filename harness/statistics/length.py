"""How much of a preference is length: a logistic model of a run's own outcomes.

    P(preferred over the teacher) = σ(α + β tanh z + γ q)
    z  length of the response − length of the reference's, over the standard deviation of that difference; 0 is as long
    q  the mean value of all other candidates on the prompt, centred: how hard the prompt is for students. Where there
       are no others, or they say nothing, the model is without it
    y  1 win, 1/2 tie, 0 loss, so 2y − 1 averages to the preference rate

The length-controlled preference rate is the mean over prompts of 2 σ(α + γ q) − 1: what the model expects of responses
as long as the reference's. Its interval treats prompts as clusters (sandwich variance, delta method), on the logit
scale so that it stays in range. The model is a quasi-likelihood: y may be a half. The tanh lets lengths that are far
off say no more than such as are one or two standard deviations off.

It is not AlpacaEval's length-controlled win rate, which models the judge's graded preferences, with difficulties that
were learnt from its whole board and a pull towards long and short answers of its own baseline.

Sources: Dubois et al. (2024), arXiv 2404.04475, for the idea and the tanh; Papke and Wooldridge (1996), J. Applied
Econometrics 11:619, for fractions; Liang and Zeger (1986), Biometrika 73:13, for the variance.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from harness.core.records import Record
from harness.statistics.outcomes import ComparisonKey, Floats, Ints, Outcomes, comparisons, joint_codes
from harness.statistics.rates import Interval, Z

# Three coefficients need some data on either side: ten of the rarer outcome for each is the usual rule of thumb.
MIN_PROMPTS = 100
MIN_OUTCOMES = 30
# Of the responses on either side of equal length, equal ones on both: below it figures that AlpacaEval publishes are
# missed by up to 15 points, above it by 5 (docs/statistics.md).
MIN_SIDE = 0.15
_STEPS, _CLOSE, _FLAT = 50, 1e-9, 1e-8
_LENGTH, _DIFFICULTY = 1, 2  # their columns of the design


class LengthControl(Record):
    """One comparison with the length of its responses."""

    n: int = Field(description="outcomes in the model")
    unit: str = Field(description="of lengths: tokens or characters; empty where they are unknown or mixed")
    candidate_mean: float | None = Field(default=None, description="mean of all responses whose length is known")
    reference_mean: float | None = Field(default=None, description="the same of the reference's")
    spread: float | None = Field(default=None, description="standard deviation of the difference in length")
    preference_rate: float | None = Field(default=None, description="of the n outcomes, as they are")
    controlled_rate: float | None = Field(default=None, description="at equal length")
    controlled_interval: Interval | None = Field(default=None, description="its interval")
    coefficient: float | None = Field(
        default=None, description="β of the tanh: at equal length, logits for each standard deviation more length"
    )
    coefficient_interval: Interval | None = Field(default=None, description="its interval")
    difficulty: bool | None = Field(
        default=None, description="whether the model knows, from other candidates, how hard each prompt is"
    )
    reason: str = Field(default="", description="why there is no controlled rate; empty where there is one")


def length_controls(found: Outcomes) -> dict[ComparisonKey, LengthControl]:
    """The length control of each comparison; difficulty is learnt from the other comparisons in `found`."""
    others = _others(found)
    return {names: length_control(found.select(rows), others[rows]) for names, rows in comparisons(found)}


def _others(found: Outcomes) -> Floats:
    """[n] mean value of all other candidates against the same reference by the same judge on the prompt; NaN: none."""
    judged = ~np.isnan(found.value)
    value = np.where(judged, found.value, 0.0)

    def sums(*columns: Ints) -> tuple[Floats, Floats]:
        _, index = np.unique(joint_codes(columns), return_inverse=True)
        return (
            np.asarray(np.bincount(index, value)[index]),
            np.asarray(np.bincount(index, judged.astype(np.float64))[index]),
        )

    shared = (found.prompt, found.reference, found.judge)
    (total, count), (own, mine) = sums(*shared), sums(*shared, found.candidate)
    with np.errstate(invalid="ignore"):
        return np.asarray((total - own) / (count - mine))


def length_control(rows: Outcomes, others: Floats) -> LengthControl:
    """One comparison's outcomes [n], with the other candidates' mean value on each one's prompt (NaN: none)."""
    sized = ~np.isnan(rows.candidate_length)
    units = np.unique(rows.in_tokens[sized])
    if len(units) != 1:
        reason = "some lengths are in tokens, some in characters" if len(units) else "no lengths are known"
        return LengthControl(n=0, unit="", reason=reason)
    means = float(rows.candidate_length[sized].mean()), float(rows.reference_length[sized].mean())
    used = sized & ~np.isnan(rows.value)
    n, y = int(used.sum()), (1 + rows.value[used]) / 2
    rate = float(2 * y.mean() - 1) if n else None
    longer = (rows.candidate_length - rows.reference_length)[used]
    spread = float(longer.std()) if n else None
    unit = "tokens" if units[0] else "characters"

    known = LengthControl(
        n=n, unit=unit, candidate_mean=means[0], reference_mean=means[1], spread=spread, preference_rate=rate
    )

    def refused(reason: str) -> LengthControl:
        return known.model_copy(update={"reason": reason})

    prompts = np.unique(rows.prompt[used], return_inverse=True)[1]
    if (judged := int(prompts.max(initial=-1)) + 1) < MIN_PROMPTS:
        return refused(f"{judged} judged prompts with known lengths; at least {MIN_PROMPTS} are needed")
    if (rarer := min(y.sum(), n - y.sum())) < MIN_OUTCOMES:
        return refused(f"{rarer:g} of the rarer outcome, ties as halves; at least {MIN_OUTCOMES} are needed")
    if not spread:
        return refused("all responses differ from the reference's by the same length")
    side, which = min((float((longer <= 0).mean()), "shorter"), (float((longer >= 0).mean()), "longer"))
    if side < MIN_SIDE:
        few = f"fewer than {MIN_SIDE:.0%} of the responses are as long as the reference's or {which}"
        return refused(f"{few}: equal length would be an extrapolation")
    design = _design(np.tanh(longer / spread), others[used])
    theta = fit(design, y)
    if theta is None:
        return refused("wins and losses are separated by length or difficulty: the model has no finite fit")
    controlled, ends, error = _controlled(design, y, theta, prompts)
    beta = float(theta[_LENGTH])
    of_beta = {"coefficient": beta, "coefficient_interval": (beta - Z * error, beta + Z * error)}
    of_rate = {"controlled_rate": controlled, "controlled_interval": ends, "difficulty": design.shape[1] > _DIFFICULTY}
    return known.model_copy(update=of_rate | of_beta)


def _design(longer: Floats, others: Floats) -> Floats:
    """[n, 2 or 3]: 1, tanh z and, where it is known and varies, difficulty. Unknown difficulty is the mean one."""
    known = ~np.isnan(others)
    columns = [np.ones(len(longer)), longer]
    if known.any() and np.ptp(others[known]) > 0:
        columns.append(np.where(known, others, others[known].mean()) - others[known].mean())
    return np.stack(columns, axis=1)


def sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def fit(design: Floats, y: Floats) -> Floats | None:
    """[k] maximum of the logistic quasi-likelihood of y in 0..1, by Newton's method; None where none is finite.

    The likelihood is concave; steps that overshoot are halved. Where outcomes are separated the coefficients grow
    without end, the curvature fades, and the steps never become small.
    """
    theta = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        p = sigmoid(design @ theta)
        curvature = (design * (p * (1 - p))[:, None]).T @ design / len(y)
        if np.linalg.eigvalsh(curvature)[0] < _FLAT:
            return None
        step = np.linalg.solve(curvature, design.T @ (y - p) / len(y))
        before = _likelihood(design @ theta, y)
        while _likelihood(design @ (theta + step), y) < before - 1e-12 * abs(before):
            step = step / 2
        theta = theta + step
        if np.abs(step).max() < _CLOSE:
            return np.asarray(theta)
    return None


def _likelihood(logits: Floats, y: Floats) -> float:
    return float((y * logits - np.logaddexp(0, logits)).sum())


def _controlled(design: Floats, y: Floats, theta: Floats, clusters: Ints) -> tuple[float, Interval, float]:
    """(controlled rate, its interval, standard error of β).

    Influence of row i on θ: H⁻¹ x_i (y_i − p_i), and on the mean prediction m: (m_i − m) + ∇m · that, so that prompts
    are a sample in both. Variances sum squares of the clusters' summed influences, times G / (G − 1).
    """
    n, groups = len(y), int(clusters.max()) + 1
    p = sigmoid(design @ theta)
    curvature = (design * (p * (1 - p))[:, None]).T @ design
    influence = np.linalg.solve(curvature, (design * (y - p)[:, None]).T).T
    even = design.copy()
    even[:, _LENGTH] = 0
    expected = sigmoid(even @ theta)
    m = float(expected.mean())
    gradient = (even * (expected * (1 - expected))[:, None]).mean(axis=0)
    on_m = (expected - m) / n + influence @ gradient
    error_m, error_beta = (
        float(np.sqrt((np.bincount(clusters, values) ** 2).sum() * groups / (groups - 1)))
        for values in (on_m, influence[:, _LENGTH])
    )
    centre, half = np.log(m / (1 - m)), Z * error_m / (m * (1 - m))
    low, high = (2 * sigmoid(np.array([centre - half, centre + half])) - 1).tolist()
    return 2 * m - 1, (low, high), error_beta
