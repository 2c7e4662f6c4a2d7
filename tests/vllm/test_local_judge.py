"""A judge in vLLM says what the same model says in transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.judging.local import Precision, VLLMJudge
from harness.judging.templates import load_template
from harness.serving.vllm_process import VLLMProcess
from tests.vllm.asking import Answers, answers

# Measured: at most 0.01 and 0.000002. In bf16 both round weights and activations, and vLLM on a CPU the logits as well.
TOLERANCE = {"bf16": 0.03, "fp32": 0.0001}


@pytest.mark.parametrize(("precision", "short"), [("fp32", 1), ("bf16", 0)])
def test_it_agrees_with_transformers_in_both_orders(
    vllm_python: str,
    engine_folder: Path,
    engine_fp32: dict[str, Any],
    judged_here: dict[Precision, Answers],
    precision: Precision,
    short: int,
) -> None:
    """And with `short` positions too few for the longest prompt, which then fails alone."""
    here = judged_here[precision]
    longest = max(answer.input_tokens for answer in here.values())
    judge = VLLMJudge("judge", "", load_template("default"), engine_folder, "d", precision)
    limit = longest + 1 - short
    engine = engine_fp32 if precision == "fp32" else {"enforce_eager": True}
    assert engine.get("max_model_len", limit) == limit
    there = answers(replace(judge, python=vllm_python, max_model_len=limit, engine=tuple(engine.items())))
    assert here.keys() == there.keys()
    for key, one in here.items():
        other = there[key]
        print(key, one, other)
        assert one.status == "ok" and one.preference is not None
        if one.input_tokens >= limit:
            assert other.status == "failed"
            continue
        assert other.status == "ok"
        assert other.preference == pytest.approx(one.preference, abs=TOLERANCE[precision])
        assert (other.input_tokens, other.output_tokens) == (one.input_tokens, 1)
    # far more than the tolerances lies between the orders: this model likes what is shown first
    told = [answer.preference for answer in here.values() if answer.preference is not None]
    assert max(told) - min(told) > 0.5


def test_a_model_that_vllm_cannot_load_is_one_line(vllm_python: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ended with status 1: \w+: .+") as caught:
        VLLMProcess(vllm_python, tmp_path / "nothing", {})
    assert "\n" not in str(caught.value)
