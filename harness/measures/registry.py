"""Measures by name: what each is read from, and how a row of that becomes its values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.registry import Registry


@dataclass(frozen=True)
class Measure:
    """Some values of each response, under a frozen model.

    stage: what makes an artifact with a row a response (run/reading.py): `score`, the teacher's log-probs, or `embed`,
        the embeddings of `model`.
    values: of a response, [d], from its row.
    model: the name of a model other than the teacher. model_types: those that its checkpoint may have.
    """

    name: str
    stage: str
    values: Callable[[Any], NDArray[Any]]
    model: str | None = None
    model_types: frozenset[str] = frozenset()


def mean_nll(row: dict[str, Any]) -> NDArray[Any]:
    """[1]: mean negative log-prob a token, in nats, from sums and lengths."""
    return np.array([-row["log_probs"][0] / row["tokens"][0]])


TEACHER_NLL = Measure("teacher_nll", "score", mean_nll)
EMBEDDING = Measure("embedding", "embed", np.asarray, "all-minilm-l6-v2", frozenset({"bert"}))
measures: Registry[Measure] = Registry("measure", lambda: {found.name: found for found in (TEACHER_NLL, EMBEDDING)})
