"""A machine's speed is measured once, and is this machine's."""

from __future__ import annotations

import json

import pytest

from harness.models.speed import Speed
from harness.planning import calibration
from harness.planning.calibration import BOOK, measured_speed
from harness.store import Store


def test_speed_is_measured_once_a_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(calibration, "measure", lambda device: made.append(device) or Speed(2.0, 3.0))  # type: ignore[func-returns-value]
    assert measured_speed(store) == measured_speed(store) == Speed(2.0, 3.0)
    assert made == ["cpu"]
    (store.root / BOOK).write_text("{")
    assert measured_speed(store) == Speed(2.0, 3.0) and len(made) == 2
    (name,) = json.loads((store.root / BOOK).read_text())
    (store.root / BOOK).write_text(json.dumps({name: {"speed": 1}, "another": {"operations": 1, "bandwidth": 1}}))
    measured_speed(store)
    assert set(json.loads((store.root / BOOK).read_text())) == {name, "another"} and len(made) == 3


def test_a_measurement_is_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SECONDS", 0.01)
    found = calibration.measure("cpu")
    assert found.operations > 1e8 and found.bandwidth > 1e8
