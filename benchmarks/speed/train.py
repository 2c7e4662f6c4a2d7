"""Training speed and memory of the harness and of a peer, on the same work, step by step in turns.

    python -m benchmarks.speed.train --json speed.json
    python -m benchmarks.speed.train --model DIR --pairs 40 --peer none
    python -m benchmarks.speed.train --methods gkd,rkl,opd --pairs 16 --json fresh.json    # that the policy writes for

Both sides live in processes of their own and take their steps alternately, so that what else the machine does meets
both. Same weights, token ids, precision, optimizer, and pairs a step. The first step of each side is not counted. A
run of a few steps in float32 shows that both compute the same losses; where they don't, it ends with status 1. What is
in the file of --json already is not measured again.

The peer is TRL as its users run it (`peer`), and then, in turns with the harness anew, TRL with freed memory kept
(`kept`), as the harness keeps it (harness/core/allocator.py): what is left of the ratio is not the allocator's. All
three at once would not fit into the memory of a small machine.

Where the policy writes the responses, they are held to one length, whatever it would write, and the time of writing
them is told apart. In float32 both sides are given the same ones in their place.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchmarks.speed.workload import FRESH_METHODS, METHODS, PAIR_METHODS, MethodName, Workload, make_rows
from harness.cli.options import open_store
from harness.core.environment import processor
from harness.models.locate import locate
from harness.models.specs import model_spec
from harness.run.launch import run_job
from harness.run.sources import conversion

PROMPT, RESPONSE = (60, 200), (40, 256)
FRESH = (96, 96)  # tokens of a response that the policy writes
PAIRS_A_STEP, RESPONSES_A_STEP = 4, 8
CHECK_STEPS, CHECK_ROWS = 3, 2
AGREEMENT = 1e-3
# what both sides compute the same of; TRL's loss of opd has the same gradient and another value
COMPARED = {"opd": "grad_norms"}
# of each peer (see worker.py): what --peer calls it, and under which names what is measured in turns with it is kept
PEERS = {"peer": "trl", "kept": "trl-kept"}
OURS = {None: "ours", "peer": "ours", "kept": "ours_beside_kept"}
RATIO = {"peer": "ratio", "kept": "ratio_to_kept"}
KINDS = ("workload", *PEERS, *OURS.values(), *RATIO.values(), "losses", "grad_norms")


@dataclass
class Side:
    """A worker and what it has said so far."""

    process: subprocess.Popen[str]
    said: IO[str]

    @classmethod
    def start(cls, side: str) -> Side:
        command = [sys.executable, "-m", "benchmarks.speed.worker", side]
        said = tempfile.TemporaryFile("w+")  # noqa: SIM115  (a pipe that nobody reads would fill)
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True)
        return cls(process, said)

    def take(self, work: Workload) -> None:
        """Give it a workload, and wait until it is ready for the first step."""
        self._write(json.dumps(work.to_json()))
        self.read()

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.said.seek(0)
            sys.exit(f"a worker failed:\n{self.said.read()[-4000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def step(self) -> tuple[float, float]:
        """Seconds of a step, and those of them that the policy wrote in."""
        self._write("go")
        said = self.read()
        return float(said["seconds"]), float(said["sampling"])


def measure(running: dict[str, Side], works: dict[str, Workload]) -> dict[str, dict[str, Any]]:
    """Each worker through the steps of its workload, one step of each in turn."""
    for name, side in running.items():
        side.take(works[name])  # one loads at a time
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
    steps = min(work.steps for work in works.values())
    for number in range(steps):
        for name, side in running.items():
            spent[name].append(side.step())
            if number < steps - 1:
                side.read()
    found = {}
    for name, side in running.items():
        seconds, sampling = (list(column) for column in zip(*spent[name], strict=True))
        found[name] = side.read() | {"seconds": seconds, "sampling": sampling}
    return found


def summary(work: Workload, facts: dict[str, Any]) -> dict[str, Any]:
    """Speeds over all steps but the first. `pairs_per_s` counts prompts with one response where a method has one."""
    rows = work.rows[work.rows_a_step :]
    spent, sampling = sum(facts["seconds"][1:]), sum(facts["sampling"][1:])
    tokens = sum(row.tokens for row in rows)
    parts = {}
    if sampling:
        written = sum(len(response) for row in rows for response in row.responses)
        parts = {"sampled_tokens_per_s": written / sampling, "trained_tokens_per_s": tokens / (spent - sampling)}
    return {
        "pairs_per_s": len(rows) / spent,
        "tokens_per_s": tokens / spent,
        **parts,
        "peak_mb": facts["peak_mb"],
        "step_seconds": facts["seconds"],
        "sampling_seconds": facts["sampling"],
        "reference_seconds": facts["reference_seconds"],
        "name": facts["name"],
    }


def workload(
    method: MethodName, steps: int, student: Path, teacher: Path, *, micro_batch_tokens: int, compile: bool
) -> Workload:
    k, rows_a_step = (2, PAIRS_A_STEP) if method in PAIR_METHODS else (1, RESPONSES_A_STEP)
    vocabulary = AutoConfig.from_pretrained(student).vocab_size
    return Workload(
        method=method,
        rows=make_rows(k, steps * rows_a_step, vocabulary, PROMPT, _response_tokens(method), seed=0),
        rows_a_step=rows_a_step,
        learning_rate=1e-5,
        precision="bf16",
        model=str(student),
        teacher=str(teacher),
        micro_batch_tokens=micro_batch_tokens,
        compile=compile,
        fresh_share=float(method in FRESH_METHODS),
    )


def _response_tokens(method: str) -> tuple[int, int]:
    return FRESH if method in FRESH_METHODS else RESPONSE


def in_float32(work: Workload) -> Workload:
    """A few small steps in float32, uncompiled, of given responses; each loss follows from the weights that the step
    before it left."""
    rows = work.rows[: CHECK_STEPS * CHECK_ROWS]
    return replace(work, rows=rows, rows_a_step=CHECK_ROWS, precision="fp32", compile=False, given=True)


def model_folder(name: str) -> Path:
    """A local folder, or a model that the harness knows by name, converted where it has to be."""
    store = open_store(None)
    spec = model_spec(name)
    path, digest = locate(name, spec, store, download=True)
    job = conversion(name, spec, str(path), digest)
    if job is None:
        return path
    run_job(job, store, lambda *_: None)
    return store.read(job.ref).path


def another_student(folder: Path) -> Path:
    """The same model with noise in its weights, so that distilling the one into the other has something to do."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1 + 0.1 * torch.randn_like(parameter)
    made = Path(tempfile.mkdtemp())
    model.save_pretrained(made)
    AutoTokenizer.from_pretrained(folder).save_pretrained(made)
    return made


def machine() -> dict[str, Any]:
    if torch.cuda.is_available():
        return {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    return {"device": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--model", default="smollm2-135m", help="a checkpoint folder or a model's name")
    parser.add_argument("--pairs", type=int, default=24, help="pairs to train on (twice as many single responses)")
    parser.add_argument(
        "--peer",
        choices=[*PEERS.values(), "both", "none"],
        default="both",
        help="TRL as its users run it, or with freed memory kept as the harness keeps it",
    )
    parser.add_argument("--methods", default=",".join(METHODS), help="which of " + ", ".join(METHODS))
    parser.add_argument("--micro-batch-tokens", type=int, default=2048, help="the harness's micro_batch_tokens")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=torch.cuda.is_available() or shutil.which("g++") is not None,
        help="the harness's compile=true (the default where there is a compiler)",
    )
    args = parser.parse_args()
    folder = model_folder(args.model)
    steps = max(2, args.pairs // PAIRS_A_STEP)
    harness = {"micro_batch_tokens": args.micro_batch_tokens, "compile": args.compile}
    chosen = [method for method in METHODS if method in args.methods.split(",")]
    peers: list[str | None] = [peer for peer, name in PEERS.items() if args.peer in (name, "both")]
    student = another_student(folder) if {"kd", *FRESH_METHODS} & set(chosen) else folder

    result = _earlier(args.json)
    for method in chosen:
        other = method == "kd" or method in FRESH_METHODS
        work = workload(method, steps, student if other else folder, folder, **harness)
        described = _described(work)
        if result["workload"].get(method) != described:
            for kind in KINDS:
                result[kind].pop(method, None)
        result["workload"][method] = described
        for peer in peers or [None]:
            if method not in result[peer or "ours"]:
                print(f"{method}: {len(work.rows)} rows, {work.rows_a_step} a step", file=sys.stderr)
                _measure_method(result, work, peer)
            print(_lines(result, method, peer), flush=True)
            what = COMPARED.get(method, "losses")
            if method in result[what] and not agree(**result[what][method]):
                sys.exit(
                    f"{method}: the two sides' float32 {what} differ by more than {AGREEMENT:g}; no speed is "
                    f"comparable: {result[what][method]}"
                )
            _write(args.json, result)
    if set(PAIR_METHODS) <= set(chosen) and "dadpo_to_ddpo" not in result["ratio"]:
        # what the teacher's term costs: both in turns
        pairs = [method for method in METHODS if method in PAIR_METHODS]
        running: dict[str, Side] = {method: Side.start("ours") for method in pairs}
        found = measure(running, {method: workload(method, steps, folder, folder, **harness) for method in pairs})
        for worker in running.values():
            worker.end()
        times = zip(found["ddpo"]["seconds"][1:], found["dadpo"]["seconds"][1:], strict=True)
        # a step of one beside the same step of the other: the median of what differs by noise alone
        speed = statistics.median(one / other for one, other in times)
        result["ratio"]["dadpo_to_ddpo"] = {"speed": speed}
        print(f"dadpo to ddpo, in turns: speed x{speed:.3f}")
        _write(args.json, result)


def _earlier(path: Path | None) -> dict[str, Any]:
    """What is in the file already, if this machine wrote it."""
    empty: dict[str, Any] = {kind: {} for kind in KINDS}
    if path and path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        if found["machine"] == machine():
            return empty | found
    return {"machine": machine(), **empty}


def _described(work: Workload) -> dict[str, Any]:
    return {
        "rows": len(work.rows),
        "rows_a_step": work.rows_a_step,
        "tokens": sum(row.tokens for row in work.rows),
        "prompt_tokens": list(PROMPT),
        "response_tokens": list(_response_tokens(work.method)),
        "precision": work.precision,
        "micro_batch_tokens": work.micro_batch_tokens,
        "compile": work.compile,
        "fresh_share": work.fresh_share,
    }


def _measure_method(result: dict[str, Any], work: Workload, peer: str | None) -> None:
    """One method in turns with one peer, or alone, and once the float32 check: after the peak of memory was read."""
    method, sides = work.method, ["ours", peer] if peer else ["ours"]
    running = {side: Side.start(side) for side in sides}
    found = measure(running, dict.fromkeys(sides, work))
    result[OURS[peer]][method] = summary(work, found["ours"])
    if peer:
        result[peer]["name"] = found[peer]["name"]
        result[peer][method] = summary(work, found[peer])
        result[RATIO[peer]][method] = _ratios(found["ours"], found[peer])
        if method not in result["losses"]:
            checked = measure(running, dict.fromkeys(sides, in_float32(work)))
            for what in ("losses", "grad_norms"):
                result[what][method] = {"ours": checked["ours"][what], "peer": checked[peer][what]}
    for worker in running.values():
        worker.end()


def _ratios(ours: dict[str, Any], peer: dict[str, Any]) -> dict[str, float]:
    """How many times faster ours is, step for step but the first, and in its parts; and what it takes of the memory."""
    pairs = list(zip(ours["seconds"][1:], peer["seconds"][1:], strict=True))
    spent = {side: sum(facts["seconds"][1:]) for side, facts in (("ours", ours), ("peer", peer))}
    written = {side: sum(facts["sampling"][1:]) for side, facts in (("ours", ours), ("peer", peer))}
    found = {
        "speed": spent["peer"] / spent["ours"],
        "speed_median": statistics.median(theirs / own for own, theirs in pairs),
        "memory": ours["peak_mb"] / peer["peak_mb"],
    }
    if written["ours"]:
        found["sampling"] = written["peer"] / written["ours"]
        found["training"] = (spent["peer"] - written["peer"]) / (spent["ours"] - written["ours"])
    return found


def agree(ours: list[float], peer: list[float]) -> bool:
    """Whether losses are the same within AGREEMENT, relative to the larger."""
    pairs = zip(ours, peer, strict=True)
    return all(abs(one - other) <= AGREEMENT * max(abs(one), abs(other)) for one, other in pairs)


def _write(path: Path | None, result: dict[str, Any]) -> None:
    if path:
        path.write_text(json.dumps(result, indent=2) + "\n")


def _lines(result: dict[str, Any], method: str, peer: str | None) -> str:
    lines = []
    for side in (OURS[peer], peer):
        if side:
            row = result[side][method]
            unit = "pairs/s" if method in PAIR_METHODS else "responses/s"
            name = f"{row['name']}, memory kept" if side == "kept" else row["name"]
            lines.append(
                f"{method:6s} {name:23s} {row['pairs_per_s']:6.3f} {unit} {row['tokens_per_s']:7.1f} tokens/s "
                f"{row['peak_mb']:8.0f} MB   reference log-probs {row['reference_seconds']:.1f} s"
            )
            if "sampled_tokens_per_s" in row:
                lines[-1] += f"   sampling {row['sampled_tokens_per_s']:.1f} tokens/s, "
                lines[-1] += f"training {row['trained_tokens_per_s']:.1f}"
    if peer:
        ratio, what = result[RATIO[peer]][method], COMPARED.get(method, "losses")
        lines.append(f"{method:6s} speed x{ratio['speed']:.2f} (median x{ratio['speed_median']:.2f}), ")
        lines[-1] += f"memory x{ratio['memory']:.2f}"
        if "sampling" in ratio:
            lines[-1] += f", sampling x{ratio['sampling']:.2f}, training x{ratio['training']:.2f}"
        both = result[what][method]
        lines += [
            f"{method:6s} float32 {what} of step {number + 1}: {ours:.6f} (ours) {theirs:.6f} (peer)"
            for number, (ours, theirs) in enumerate(zip(both["ours"], both["peer"], strict=True))
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
