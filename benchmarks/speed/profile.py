"""Where a training step's time goes, against the bound of its matrix products.

    python -m benchmarks.speed.profile [--method ddpo] [--compile] [--model DIR_OR_NAME]

The bound counts 6·B·(P+C+R) + 6·H·(C+R) operations for a body of B and a head of H parameters, and the speed that this
machine's products reach alone, measured in the same process.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM

from benchmarks.speed import ours
from benchmarks.speed.train import model_folder, workload
from benchmarks.speed.workload import METHODS, Workload

# the first steps meet cold caches
WARM_STEPS = 3
# what an operation's own time counts as: the first group that its name begins with
GROUPS = {
    "matrix products": ("aten::mm", "aten::addmm"),
    "attention: products": ("aten::bmm",),
    "attention: the rest": ("dadpo_harness::", "GeneratedBackwardFor_dadpo", "aten::masked_fill_", "aten::cat"),
    "softmax (attention and vocabulary)": ("aten::_softmax", "aten::_log_softmax"),
    "copies and casts": ("aten::copy_", "aten::_to_copy", "aten::clone"),
    "optimizer and clipping": ("aten::_fused_adamw_", "aten::linalg_vector_norm", "aten::_foreach"),
    "zero fills": ("aten::fill_", "aten::zero_"),
    "compiled kernels": ("cpp_fused", "triton_"),
}


def machine_speed() -> float:
    """Operations a second of a bf16 product of a layer's size, the best of several."""
    a, b = torch.randn(1024, 576).bfloat16(), torch.randn(576, 1536).bfloat16()
    best = float("inf")
    for _ in range(50):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * 1024 * 576 * 1536 / best


def bound(folder: Path, work: Workload, step: int) -> float:
    """Operations of one step."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    head = model.get_output_embeddings().weight.numel()
    body = model.num_parameters() - head * (1 if model.config.tie_word_embeddings else 2)
    rows = [work.rows[place] for place in work.step_rows[step]]
    responses = sum(len(response) for row in rows for response in row.responses)
    return float(6 * body * sum(row.tokens for row in rows) + 6 * head * responses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--method", default="ddpo", choices=METHODS)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    folder = model_folder(args.model)
    work = workload(args.method, WARM_STEPS + 1, folder, folder, micro_batch_tokens=2048, compile=args.compile)
    recorder = profile(activities=[ProfilerActivity.CPU])
    steps = 0

    def begin() -> None:
        nonlocal steps
        steps += 1
        if steps > WARM_STEPS:
            recorder.start()

    def end(sampling: float) -> None:
        if steps > WARM_STEPS:
            recorder.stop()

    ours.train(work, begin, end)
    _report(recorder, bound(folder, work, WARM_STEPS), machine_speed())


def _report(recorder: Any, operations: float, speed: float) -> None:
    spent = dict.fromkeys([*GROUPS, "the rest"], 0.0)
    for event in recorder.key_averages():
        group = next((name for name, starts in GROUPS.items() if event.key.startswith(starts)), "the rest")
        spent[group] += event.self_cpu_time_total / 1e6
    total = sum(spent.values())
    print(f"{total:.2f} s of operations in the step")
    for name, seconds in spent.items():
        if seconds:
            print(f"{seconds:7.2f} s {seconds / total:6.1%}  {name}")
    print(f"bound: {operations / 1e12:.2f} TFLOP at {speed / 1e9:.0f} GFLOP/s = {operations / speed:.2f} s")


if __name__ == "__main__":
    main()
