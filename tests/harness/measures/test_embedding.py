from __future__ import annotations

import numpy as np

from harness.measures.embedding import EMBEDDING


def test_an_embedding_is_taken_as_it_is() -> None:
    row = np.array([0.6, 0.8], dtype=np.float32)
    assert EMBEDDING.values(row) is row
