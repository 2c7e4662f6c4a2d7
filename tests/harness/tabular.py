"""Verdicts and outcomes made up for tests of the statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.core.records import Order, Verdict
from harness.statistics.outcomes import NAN, Codes, Floats, Outcomes

BOTH: tuple[Order, ...] = ("candidate_first", "reference_first")


def verdict(prompt_id: str, order: Order = "none", preference: float | None = 1.0, **fields: Any) -> Verdict:
    known = {"prompt_set": "set", "candidate": "a", "reference": "teacher", "judge": "judge"}
    known["status"] = "ok" if preference is not None else "failed"
    return Verdict.model_validate({**known, "prompt_id": prompt_id, "order": order, "preference": preference} | fields)


def outcomes_of(
    values: Mapping[str, Floats | Sequence[float]],
    preferences: Mapping[str, Floats] | None = None,
    longer: Mapping[str, Floats] | None = None,
    prompts: Sequence[int] | None = None,
    sets: int = 1,
) -> Outcomes:
    """Outcomes of each candidate, one a prompt in order (or on the prompts given); NaN is missing.

    longer: length − the reference's, which is 1,000 tokens. With several sets the prompts are dealt out to them.
    """
    n = len(next(iter(values.values())))
    own = np.arange(n) if prompts is None else np.asarray(prompts)
    k = len(values)
    value = np.concatenate([np.asarray(rows, dtype=np.float64) for rows in values.values()])
    names = tuple((f"set{i % sets}", str(i), "") for i in range(own.max() + 1))
    zero, unknown = np.zeros(k * n, dtype=np.int64), np.full(k * n, NAN)
    reference = unknown if longer is None else np.full(k * n, 1000.0)
    return Outcomes(
        Codes(("",), tuple(f"set{i}" for i in range(sets)), names, tuple(values), ("teacher",), ("judge",)),
        run=zero,
        prompt_set=np.tile(own % sets, k),
        prompt=np.tile(own, k),
        asked=np.tile(own, k),
        turn=zero,
        sample=zero,
        candidate=np.repeat(np.arange(k), n),
        reference=zero,
        judge=zero,
        value=value,
        preference=(1 + value) / 2 if preferences is None else np.concatenate(list(preferences.values())),
        candidate_length=unknown if longer is None else reference + np.concatenate(list(longer.values())),
        reference_length=reference,
        in_tokens=np.ones(k * n, dtype=bool),
        failed=np.isnan(value).astype(np.int64),
        orders=zero,
    )
