from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness.measures


@pytest.fixture
def more_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files count as files of harness/measures/."""
    monkeypatch.setattr(harness.measures, "__path__", [*harness.measures.__path__, str(tmp_path)])
    known = set(sys.modules)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("harness.measures.") and name not in known]:
        del sys.modules[name]
        delattr(harness.measures, name.removeprefix("harness.measures."))
