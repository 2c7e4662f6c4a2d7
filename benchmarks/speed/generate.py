"""Tokens a second of the sampler, of plain `generate`, and of vLLM, on the same prompts and settings.

    python -m benchmarks.speed.generate --json benchmarks/speed/results/generate.json
    VLLM_PYTHON=.venv-vllm/bin/python python -m benchmarks.speed.generate …     # vLLM too

Prompts are drawn evenly from all shipped prompt sets, so their lengths are ragged, and the model ends its turns where
it likes. Each side is a process of its own, in turns, and the medians are compared; loading and a first small batch are
told apart. All have bf16 weights and the same batch size (vLLM fills its own batches). Leave OMP_NUM_THREADS unset:
vLLM takes all cores whatever it says (VLLM_CPU_OMP_THREADS_BIND=0 holds it to one).

ours        what a run does: batches of similar prompt length, each by the sampler; freed memory is kept (allocator.py)
ours, forward           the same through the model's own `forward`, without packed weights: what other models take
plain       transformers' `generate`: batches in the prompts' order, padded on the left; finished rows stay to the end
plain, memory kept      the same with our allocator's setting
vllm        VLLM_PYTHON's vLLM, all prompts at once; `--engine` gives it further arguments

Texts differ between the sides, as they draw other random numbers; what counts is tokens a second, the end of a turn
included, what comes after it not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.train import machine, model_folder
from harness.core.allocator import keep_freed_memory
from harness.generation import local, sampler
from harness.generation.local import LocalGenerator
from harness.generation.protocol import Draw, Request, Sampling
from harness.generation.sampler import form_batches
from harness.generation.vllm import VLLMGenerator
from harness.models import chat
from harness.models.loading import load_model
from harness.models.tokenizers import load_tokenizer
from harness.prompts import Library, prompt_sets, training_set
from harness.serving.resident import let_go_of_all
from harness.serving.settings import VLLM

VARIABLE = "VLLM_PYTHON"
SIDES = ("ours", "ours, forward", "plain", "plain, memory kept", "vllm")
TARGET = 1.5
WARM_UP = 2  # prompts, and tokens of each


@dataclass(frozen=True)
class Work:
    model: str
    prompts: int
    new_tokens: int
    batch_size: int
    temperature: float
    top_p: float
    engine: str

    @property
    def sampling(self) -> Sampling:
        return Sampling(temperature=self.temperature, top_p=self.top_p, max_new_tokens=self.new_tokens)


def rows_of(tokenizer: Any, count: int) -> list[Request]:
    """So many prompts, evenly from all shipped sets, in an order that says nothing of their length."""
    shipped = [name for name, card in prompt_sets.items() if card.path is not None]
    found = [prompt for name in shipped for prompt in training_set(name, Library()).prompts]
    chosen = [found[place * len(found) // count] for place in range(count)]
    return [
        Request(f"{number}/0", prompt.messages, chat.encode_chat(tokenizer, prompt.messages))
        for number, prompt in enumerate(chosen)
    ]


Responses = list[Sequence[int]]
Side = Callable[[Sequence[Request], Sampling], Responses]


def ours(folder: Path, tokenizer: Any, work: Work) -> Side:
    keep_freed_memory()
    generator = LocalGenerator(folder, tokenizer)

    def run(rows: Sequence[Request], sampling: Sampling) -> Responses:
        how, found = Draw(sampling, 0, "speed"), []
        for batch in form_batches([len(row.prompt) for row in rows], work.batch_size):
            found += [drawn.token_ids for drawn in generator.draw([rows[place] for place in batch], how)]
        return list(found)

    return run


def by_forward(folder: Path, tokenizer: Any, work: Work) -> Side:
    for module in (local, sampler):
        module.plain = lambda model: False  # type: ignore[attr-defined]
    return ours(folder, tokenizer, work)


def plain(folder: Path, tokenizer: Any, work: Work) -> Side:
    """`generate` as one would call it: transformers' own attention, a padded batch, the model's own end of a turn."""
    torch.manual_seed(0)
    model = load_model(folder, torch.bfloat16)
    stops = chat.stop_ids(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]

    @torch.inference_mode()
    def run(rows: Sequence[Request], sampling: Sampling) -> Responses:
        drawn: dict[str, Any] = {"do_sample": sampling.temperature > 0}
        if drawn["do_sample"]:
            drawn |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        found: Responses = []
        for start in range(0, len(rows), work.batch_size):
            batch = [list(row.prompt) for row in rows[start : start + work.batch_size]]
            width = max(map(len, batch))
            ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in batch], device=model.device)
            mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch], device=model.device)
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=sampling.max_new_tokens,
                eos_token_id=stops,
                pad_token_id=pad,
                **drawn,
            )
            found += [up_to_stop(row, stops) for row in out[:, width:].tolist()]
        return found

    return run


def plain_kept(folder: Path, tokenizer: Any, work: Work) -> Side:
    keep_freed_memory()
    return plain(folder, tokenizer, work)


def vllm(folder: Path, tokenizer: Any, work: Work) -> Side:
    settings = VLLM(python=os.environ[VARIABLE], max_model_len=1024, engine=json.loads(work.engine))
    generator = VLLMGenerator(folder, tokenizer, settings)

    def run(rows: Sequence[Request], sampling: Sampling) -> Responses:
        return [drawn.token_ids for drawn in generator.draw(rows, Draw(sampling, 0, "speed"))]

    return run


def up_to_stop(response: Sequence[int], stops: Sequence[int]) -> list[int]:
    """A response of a batch without what `generate` padded it with: up to its first stop token, that one included."""
    end = next((place for place, token in enumerate(response) if token in stops), len(response))
    return list(response[: end + 1])


def measured(side: str, work: Work) -> dict[str, Any]:
    """One side, in this process."""
    folder = Path(work.model)
    tokenizer = load_tokenizer(folder)
    rows = rows_of(tokenizer, work.prompts)
    made = dict(zip(SIDES, (ours, by_forward, plain, plain_kept, vllm), strict=True))[side]
    began = time.perf_counter()
    run = made(folder, tokenizer, work)
    run(rows[:WARM_UP], work.sampling.model_copy(update={"max_new_tokens": WARM_UP}))
    start, began = time.perf_counter() - began, time.perf_counter()
    responses = run(rows, work.sampling)
    seconds = time.perf_counter() - began
    let_go_of_all()  # a child that has ended is what its memory is known of
    who = resource.RUSAGE_CHILDREN if side == "vllm" else resource.RUSAGE_SELF
    tokens = sum(map(len, responses))
    return {
        "side": side,
        "responses": len(responses),
        "prompt_tokens": sum(len(row.prompt) for row in rows),
        "tokens": tokens,
        "start_s": round(start, 1),
        "seconds": round(seconds, 3),
        "tokens_per_s": round(tokens / seconds, 1),
        "peak_mb": round(resource.getrusage(who).ru_maxrss / 1024, 1),
    }


def in_a_process(side: str, work: Work) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.speed.generate", "--side", side, "--work", json.dumps(asdict(work))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--model", default="smollm2-135m", help="a checkpoint folder or a model's name")
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--new-tokens", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=64, help="as a run has it by default")
    parser.add_argument("--rounds", type=int, default=3, help="sides take turns, so that what else runs slows all")
    parser.add_argument("--only", nargs="+", choices=SIDES, metavar="SIDE", help="these sides, ours among them")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--engine", default="{}", help="further arguments of vllm.LLM, as JSON")
    for hidden in ("--side", "--work"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measured(args.side, Work(**json.loads(args.work)))))
        return
    work = Work(
        model=str(model_folder(args.model)),
        prompts=args.prompts,
        new_tokens=args.new_tokens,
        batch_size=args.batch_size,
        temperature=args.temperature,
        top_p=args.top_p,
        engine=args.engine,
    )
    rows = []
    sides = args.only or (SIDES if os.environ.get(VARIABLE) else SIDES[:-1])
    for _ in range(args.rounds):
        for side in sides:
            rows.append(in_a_process(side, work))
            print(_line(rows[-1]), flush=True)
    speed = {side: statistics.median(row["tokens_per_s"] for row in rows if row["side"] == side) for side in sides}
    ratio = {side: round(speed["ours"] / speed[side], 2) for side in speed if side != "ours"}
    factors = ", ".join(f"{value:.2f} times {side}" for side, value in ratio.items())
    print(f"medians: ours is {factors} (aimed at: {TARGET} times the step of before)")
    if args.json:
        about = {"machine": machine() | {"cores": os.cpu_count()}, "python": platform.python_version()}
        settings = {**asdict(work), "model": args.model}
        args.json.write_text(
            json.dumps({**about, **settings, "rows": rows, "medians": speed, "ratio": ratio}, indent=1) + "\n"
        )


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['side']:18} {row['responses']:5} responses, {row['tokens']:7,} tokens: "
        f"{row['tokens_per_s']:8.1f} a second after {row['start_s']:.1f} s, peak {row['peak_mb']:.0f} MB"
    )


if __name__ == "__main__":
    main()
