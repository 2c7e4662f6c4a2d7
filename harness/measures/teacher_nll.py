"""How likely a response is to the teacher: what the proxy judge `typicality` reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.measures.measure import Measure, Values


def mean_nll(row: dict[str, Any]) -> Values:
    """[1]: mean negative log-prob a token under the teacher, in nats, from sums and lengths."""
    return np.array([-row["log_probs"][0] / row["tokens"][0]])


TEACHER_NLL = Measure(
    name="teacher_nll",
    reads="log_probs",
    values=mean_nll,
    summary="mean negative log-prob a token of a response under the teacher",
    misses="whether the response answers the prompt; a likely text may be dull, or go round in circles",
    unit="nats a token",
)
