"""What it takes to compare a student with its teacher token by token, against scoring the same tokens under both.

    python -m benchmarks.speed.fidelity --json benchmarks/speed/results/fidelity.json

144 prompts with a response of 64 tokens of the teacher's, and one of the student's own: text of other prompts, as a
response's content moves no time. SmolLM2-135M and itself with a fifth pruned, in bf16, as a run reads them. In turns:

scoring     sums of log-probs of both kinds of responses, under both models: four readings
comparing   the teacher's responses with its stored hidden states, its own ones with the teacher read anew: three, and
            both whole distributions at temperature 0.8 at each token

Storing the states is done once for all students, and told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.measures.doses import needed, road_of
from benchmarks.speed.generate import rows_of
from benchmarks.speed.train import machine
from harness.cli.options import open_store
from harness.core.allocator import keep_freed_memory
from harness.core.progress import plain_console
from harness.logprobs.batching import Example
from harness.logprobs.comparing import LiveTeacher, StoredStates, compare
from harness.logprobs.model import LogProbModel
from harness.logprobs.scoring import hidden_states, response_starts, sequence_log_probs
from harness.models.chat import vocabulary_size
from harness.models.loading import reading_model
from harness.models.locate import model_folder
from harness.models.tokenizers import load_tokenizer
from harness.run.launch import run_jobs

TARGET = 1.5
RATIO = 0.2
PRECISION, BATCH_TOKENS, TEMPERATURE = "bf16", 4096, 0.8  # as a run has them by default
KINDS = ("scoring", "comparing", "storing states")


def folders() -> dict[str, Path]:
    """The embedded pair, made where it is not there."""
    store = open_store(None)
    road = road_of(RATIO, 1, store)
    models = [road.weights["student"], road.weights["teacher"]]
    run_jobs(needed(road, [model.artifact for model in models if model.artifact]), store, plain_console())
    return dict(zip(("student", "teacher"), (model_folder(model, store) for model in models), strict=True))


def examples_of(tokenizer: Any, prompts: int, tokens: int) -> dict[str, list[Example]]:
    """By who is said to have written them: a response of so many tokens to each prompt."""
    rows = [list(row.prompt) for row in rows_of(tokenizer, prompts)]
    found = {}
    for number, who in enumerate(("teacher", "student")):
        text = cycle(chain.from_iterable(rows[number::2] or rows))
        found[who] = [Example(i, row, (list(islice(text, tokens)),), f"p{i}") for i, row in enumerate(rows)]
    return found


def measured(places: dict[str, Path], prompts: int, tokens: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each kind of work, round by round; a first small round is not counted."""
    keep_freed_memory()
    tokenizer = load_tokenizer(places["teacher"])
    student, teacher = (LogProbModel(reading_model(places[who])) for who in ("student", "teacher"))
    vocabulary = min(vocabulary_size(tokenizer), len(student.head), len(teacher.head))

    def works(examples: dict[str, list[Example]]) -> dict[str, Callable[[], object]]:
        written, own = examples["teacher"], examples["student"]
        states, _ = hidden_states(teacher, written, PRECISION, BATCH_TOKENS, _quiet)
        stored = StoredStates(teacher, states, response_starts(written))
        how = (vocabulary, TEMPERATURE, PRECISION, BATCH_TOKENS, _quiet)

        def scoring() -> None:
            for model in (student, teacher):
                for kind in (written, own):
                    sequence_log_probs(model, kind, PRECISION, BATCH_TOKENS, _quiet)

        def comparing() -> None:
            compare(student, stored, written, *how)
            compare(student, LiveTeacher(teacher), own, *how)

        def storing() -> None:
            hidden_states(teacher, written, PRECISION, BATCH_TOKENS, _quiet)

        return dict(zip(KINDS, (scoring, comparing, storing), strict=True))

    for work in works(examples_of(tokenizer, 2, 2)).values():
        work()
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    whole = works(examples_of(tokenizer, prompts, tokens))
    for _ in range(rounds):
        for kind, work in whole.items():
            began = time.perf_counter()
            work()
            seconds[kind].append(round(time.perf_counter() - began, 3))
            print(f"{kind:15} {seconds[kind][-1]:8.2f} s", flush=True)
    return seconds


def _quiet(done: int, total: int, note: str = "") -> None:
    pass


def ratio_of(seconds: dict[str, Sequence[float]] | dict[str, list[float]]) -> float:
    """Of the medians: how many times scoring's time comparing takes."""
    return round(statistics.median(seconds["comparing"]) / statistics.median(seconds["scoring"]), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--student", type=Path, help="checkpoint folders in place of the embedded pair")
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--prompts", type=int, default=144)
    parser.add_argument("--tokens", type=int, default=64, help="of each response")
    parser.add_argument("--rounds", type=int, default=3, help="they take turns, so that what else runs slows all")
    args = parser.parse_args()
    given = {"student": args.student, "teacher": args.teacher}
    places = given if args.student and args.teacher else folders()
    seconds = measured(places, args.prompts, args.tokens, args.rounds)
    ratio = ratio_of(seconds)
    print(f"comparing takes {ratio:.2f} times what scoring takes (at most {TARGET:g})")
    if args.json:
        about = {"machine": machine() | {"cores": os.cpu_count()}, "python": platform.python_version()}
        settings = {"prompts": args.prompts, "tokens": args.tokens, "precision": PRECISION, "pruned": RATIO}
        args.json.write_text(json.dumps({**about, **settings, "seconds": seconds, "ratio": ratio}, indent=1) + "\n")


if __name__ == "__main__":
    main()
