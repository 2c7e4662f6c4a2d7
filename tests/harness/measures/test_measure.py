"""What a measure is given, and what its values are known by."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.measures.distinct import DISTINCT_1, DISTINCT_2
from harness.measures.length import LENGTH
from harness.measures.measure import Measure
from harness.measures.nll import NLL, entropy
from tests.harness.measures.made import answered, talk


def test_a_response_to_one_turn_has_one_answer() -> None:
    said = answered("Hello there.", "", prompt="Who?")
    assert said.asked == ("Who?",)
    assert said.answers == (("Hello there.",), ("",))
    assert said.words == ((["hello", "there"],), ([],))


def test_the_user_s_turns_in_a_transcript_are_nobody_s_words() -> None:
    said = talk(["One?", "And two?"], ["First.", "Second one."], ["A", ""])
    assert said.asked == ("One?", "And two?")
    assert said.answers == (("First.", "Second one."), ("A", ""))
    assert said.words[0] == (["first"], ["second", "one"])


def test_a_measure_s_digest_follows_its_version_what_it_reads_and_its_functions() -> None:
    assert replace(LENGTH, summary="other", misses="other", unit="m", head="x", group=None).digest == LENGTH.digest
    assert replace(LENGTH, version=2).digest != LENGTH.digest
    assert replace(LENGTH, reads="embedding").digest != LENGTH.digest
    assert replace(NLL, teacher=None).digest != NLL.digest
    assert replace(NLL, values=entropy).digest != NLL.digest
    assert DISTINCT_1.digest != DISTINCT_2.digest  # one function, two values of its argument


def test_a_plug_in_s_digest_follows_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own_measure.py"
    path.write_text("import numpy as np\n\ndef values(answered):\n    return np.zeros(1)\n")
    spec = importlib.util.spec_from_file_location("own_measure", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "own_measure", module)
    spec.loader.exec_module(module)
    own = Measure("own", "responses", module.values, "s", "m", "share of responses", group="text")
    before = own.digest
    assert replace(own).digest == before
    path.write_text(path.read_text() + "# edited\n")
    assert own.digest == before  # of what was imported
    assert replace(own).digest != before
    assert own.values(answered("x")).tolist() == np.zeros(1).tolist()
