"""What a step of each method takes, against a step of SFT on the same prompts and as many response tokens.

    python -m benchmarks.speed.methods                      # those that benchmarks/speed/results/methods.csv lacks
    python -m benchmarks.speed.methods --methods gkd,opd    # these anew

Each method has its own settings, but for the learning rate and the batch; the embedded SmolLM2-135M is the teacher, the
same with noise in its weights the student. RESPONSES responses a step, all of one length: a method of pairs has half as
many prompts, and SFT beside it trains on both responses of each. Method and SFT live in processes of their own and take
their steps in turns; the median of the steps' ratios counts, but for the first. What the policy writes as it trains is
held to that length; the time of writing it is told apart.

The table has a row a method (harness/methods/costs.py says what is in it), and is written after each: a run that was
killed goes on. `list methods`, docs/methods/README.md and the methods' pages read it.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

from transformers import AutoConfig

from benchmarks.speed.train import Side, another_student, machine, measure, model_folder
from benchmarks.speed.workload import Workload, make_rows
from harness.methods import methods
from harness.methods.costs import StepCost, read_costs

TABLE = Path(__file__).parent / "results" / "methods.csv"
MODEL = "smollm2-135m"
BASE = "sft"
RESPONSES, PROMPT, RESPONSE = 4, 64, 64
STEPS = 4  # the first is not counted: caches are cold, and Adam's moments are made


def work_of(method: str, k: int, student: Path, teacher: Path, steps: int) -> Workload:
    rows_a_step = max(1, RESPONSES // k)
    vocabulary = AutoConfig.from_pretrained(student).vocab_size
    return Workload(
        method=method,
        rows=make_rows(k, steps * rows_a_step, vocabulary, (PROMPT, PROMPT), (RESPONSE, RESPONSE), seed=0),
        rows_a_step=rows_a_step,
        learning_rate=1e-5,
        precision="bf16",
        model=str(student),
        teacher=str(teacher),
        fresh_share=None,
    )


def measured(running: dict[str, Side], name: str, model: str, student: Path, teacher: Path, steps: int) -> StepCost:
    """One method beside SFT."""
    k = len(methods.get(name).roles)
    whose = {"base": BASE, "method": name}
    works = {side: work_of(whose[side], k, student, teacher, steps) for side in running}
    found = measure(running, works)
    spent, writing = found["method"]["seconds"][1:], found["method"]["sampling"][1:]
    ratios = (own / base for own, base in zip(spent, found["base"]["seconds"][1:], strict=True))
    work = works["method"]
    return StepCost(
        method=name,
        relative=1.0 if name == BASE else round(statistics.median(ratios), 2),
        sampling_s=round(statistics.median(writing), 2),
        training_s=round(statistics.median(whole - part for whole, part in zip(spent, writing, strict=True)), 2),
        tokens=sum(row.tokens for row in work.rows[: work.rows_a_step]),
        batch=work.rows_a_step * k,
        model=model,
        machine=described(),
        date=datetime.datetime.now(datetime.UTC).date(),
    )


def described() -> str:
    """The machine in a few words."""
    found = machine()
    return f"{found['device']}, {found['threads']} threads" if "threads" in found else str(found["device"])


def write(path: Path, rows: Iterable[StepCost]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(StepCost.model_fields), lineterminator="\n")
        table.writeheader()
        table.writerows(row.model_dump(mode="json") for row in sorted(rows, key=lambda row: row.method))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE, help="the CSV that rows are added to")
    parser.add_argument("--methods", help="these alone, whether they are in the table or not")
    parser.add_argument("--model", default=MODEL, help="a checkpoint folder or a model's name")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each side, the first of which is not counted")
    args = parser.parse_args()
    rows = {row.method: row for row in read_costs(args.table)} if args.table.exists() else {}
    chosen = args.methods.split(",") if args.methods else [name for name in methods.names() if name not in rows]
    teacher = model_folder(args.model)
    student = another_student(teacher)
    running = {side: Side.start("ours") for side in ("base", "method")}
    for name in chosen:
        rows[name] = measured(running, name, args.model, student, teacher, args.steps)
        write(args.table, rows.values())
        cost = rows[name]
        print(f"{name:12} x{cost.relative:.2f}   sampling {cost.sampling_s:.2f} s, training {cost.training_s:.2f} s")
        sys.stdout.flush()
    for side in running.values():
        side.end()


if __name__ == "__main__":
    main()
