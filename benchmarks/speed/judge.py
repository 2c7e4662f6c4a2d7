"""Verdicts a second of the API judge, and of a thread pool over the synchronous client, on the same work.

    python -m benchmarks.speed.judge --json judge.json

The server is a stub in a process of its own that answers every call after 50 ms. All sides are asked the same
questions, each in a process of its own, one after the other; a side's CPU and memory are its process's alone. Ours
goes the whole way: template, call, reading, cache, and a line of JSON a verdict. `ours, warm` is ours again on the
cache that it left. `threads` renders the same template, calls `chat.completions.create` on one client from 64 threads,
and reads the letter; it keeps nothing. `threads, alpaca` makes a client for every call, as alpaca_eval's helper does
(for a tenth of the judgments: it is slow).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.core.environment import processor
from harness.core.records import Message, Prompt, Response, Verdict
from harness.judging.api import open_api_judge
from harness.judging.cache import VerdictCache
from harness.judging.collect import Place, ask_for_verdicts
from harness.judging.protocol import BOTH_ORDERS, Comparison, Question
from harness.judging.reply_forms import letter_preference
from harness.judging.settings import Judging
from harness.judging.templates import load_template, without_control_tokens

THREADS = 64
CONCURRENCY = 128
DELAY = 0.05
WORDS = [
    "the",
    "judge",
    "reads",
    "both",
    "answers",
    "to",
    "a",
    "question",
    "and",
    "says",
    "which",
    "of",
    "them",
    "serves",
    "the",
    "person",
    "better",
]
SIDES = ("ours", "ours, warm", "threads", "threads, alpaca")


@dataclass(frozen=True)
class Comparisons:
    """So many made-up comparisons, made as they are asked for: none waits in memory."""

    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Comparison]:
        for number in range(self.count):
            prompt = Prompt(id=f"p{number}", messages=(Message(role="user", content=_text(number, 40)),))
            yield Comparison(prompt, _response(number, 1), _response(number, 2))

    def __contains__(self, _: object) -> bool:
        return False


def _text(seed: int, words: int) -> str:
    start = seed % len(WORDS)
    return " ".join((WORDS * (words // len(WORDS) + 2))[start : start + words]) + f" ({seed})"


def _response(number: int, which: int) -> Response:
    return Response(prompt_id=f"p{number}", token_ids=(), text=_text(7 * number + which, 150), finish="stop")


def ours(url: str, judgments: int, folder: Path) -> int:
    """Verdicts that are ok, out of so many judgments."""
    settings = Judging(name="openai:stub", base_url=url, concurrency=CONCURRENCY)
    judge = open_api_judge("openai:stub", "stub", settings, load_template("default"))
    ok = 0
    with (folder / "verdicts.jsonl").open("w", encoding="utf-8") as file, VerdictCache(folder / "cache") as cache:

        def arrived(verdict: Verdict) -> None:
            nonlocal ok
            ok += verdict.status == "ok"
            file.write(verdict.model_dump_json() + "\n")

        names, comparisons = Place("made-up", "a", "b"), Comparisons(judgments // 2)
        ask_for_verdicts(judge, comparisons, names, cache, arrived, lambda done, total, note="": None)
    judge.session.close()
    return ok


def threads(url: str, judgments: int, _: Path, client_a_call: bool = False) -> int:
    """The same through a pool of threads over the synchronous client."""
    from openai import OpenAI

    shared, template = OpenAI(api_key="none", base_url=url), load_template("default")

    def one(question: Question) -> bool:
        client = OpenAI(api_key="none", base_url=url) if client_a_call else shared
        messages: Any = [
            {"role": message.role, "content": without_control_tokens(message.content)}
            for message in template.messages(question, "letter")
        ]
        reply = client.chat.completions.create(
            model="stub", messages=messages, temperature=0, max_tokens=1, logprobs=True, top_logprobs=20
        )
        content = reply.choices[0].logprobs and reply.choices[0].logprobs.content
        top = content[0].top_logprobs if content else []
        return letter_preference(((t.token, t.logprob) for t in top), template.letters)[0] is not None

    questions = (Question(comparison, order) for comparison in Comparisons(judgments // 2) for order in BOTH_ORDERS)
    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(one, questions))


def measured(side: str, url: str, judgments: int, folder: Path) -> dict[str, Any]:
    """One side, in this process: seconds of wall and CPU, and peak memory."""
    alpaca: Callable[[str, int, Path], int] = partial(threads, client_a_call=True)
    run = {"threads": threads, "threads, alpaca": alpaca}.get(side, ours)
    load_template("default")
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    ok = run(url, judgments, folder)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "side": side,
        "judgments": judgments,
        "ok": ok,
        "seconds": round(seconds, 3),
        "verdicts_a_second": round(judgments / seconds, 1),
        "cpu_us_a_verdict": round(cpu / judgments * 1e6),
        "peak_mb": round(after.ru_maxrss / 1024, 1),
    }


def in_a_process(side: str, url: str, judgments: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.speed.judge", "--side", side, "--url", url]
    command += ["--judgments", str(judgments), "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judgments", type=int, default=10_000)
    parser.add_argument("--json", type=Path, help="where the figures go")
    for hidden in ("--side", "--url", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measured(args.side, args.url, args.judgments, Path(args.folder))))
        return
    rows = []
    stub = [sys.executable, "-m", "benchmarks.speed.stub", "--delay", str(DELAY)]
    with subprocess.Popen(stub, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout and server.stdin
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        for judgments in (args.judgments // 10, args.judgments):
            with tempfile.TemporaryDirectory() as folder:
                for side in SIDES:
                    count = judgments // 10 if side == "threads, alpaca" else judgments
                    rows.append(in_a_process(side, url, count, Path(folder)))
                    print(_line(rows[-1]), flush=True)
        server.stdin.close()
    speed = {row["side"]: row["verdicts_a_second"] for row in rows}  # of the larger count
    factors = [f"{speed['ours'] / speed[side]:.2f} times {side}" for side in SIDES[2:]]
    print(f"ours is {' and '.join(factors)}; {processor()}, {os.cpu_count()} cores")
    if args.json:
        about = {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()}
        args.json.write_text(json.dumps({**about, "delay_s": DELAY, "rows": rows}, indent=1) + "\n")
    if any(row["ok"] < row["judgments"] for row in rows):
        sys.exit(1)


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['side']:15} {row['judgments']:7,} judgments: {row['verdicts_a_second']:9,.0f} a second, "
        f"{row['cpu_us_a_verdict']:5} µs of CPU each, peak {row['peak_mb']:.0f} MB"
    )


if __name__ == "__main__":
    main()
