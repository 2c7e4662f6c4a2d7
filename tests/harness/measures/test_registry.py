"""Measures by name, and what becomes of a row."""

from __future__ import annotations

import numpy as np
import pytest

from harness.core.errors import UserError
from harness.judging.proxies import JUDGES
from harness.measures import EMBEDDING, TEACHER_NLL, measures
from harness.models.specs import models


def test_the_likelihood_of_a_response_is_its_mean_a_token() -> None:
    row = {"prompt_id": "a", "sample": 0, "log_probs": [-6.0], "tokens": [4]}
    assert TEACHER_NLL.values(row).tolist() == [1.5]


def test_an_embedding_is_taken_as_it_is() -> None:
    row = np.array([0.6, 0.8], dtype=np.float32)
    assert EMBEDDING.values(row) is row


def test_a_measure_under_a_model_names_one_that_is_known() -> None:
    assert [(name, measure.model) for name, measure in measures.items()] == [
        ("embedding", "all-minilm-l6-v2"),
        ("teacher_nll", None),
    ]
    assert all(measure.model in models for _, measure in measures.items() if measure.model)


def test_proxies_read_measures_that_there_are() -> None:
    assert {name for judge in JUDGES for name in judge.measures} == set(measures.names())


def test_a_measure_that_is_none_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="unknown measure 'embeding'; did you mean 'embedding'"):
        measures.get("embeding")
