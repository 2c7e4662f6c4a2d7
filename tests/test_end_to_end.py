"""The whole road through the real command: shared work, and resume after a kill."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.reports.board import board_markdown
from harness.results.reading import read_results
from tests.conftest import ALL, Run

pytestmark = pytest.mark.slow

TRAIN = [f"Tell me about the number {n}, please." for n in range(6)]
TEST = [f"Why is {word} good?" for word in ("bread", "rain", "sleep", "tea")]


def jsonl(path: Path, prompts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"id": f"p{i}", "prompt": text}) + "\n" for i, text in enumerate(prompts)))
    return path


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> list[str]:
    """A run of tiny models that takes seconds, with several batches and checkpoints to be killed between."""
    folder = tmp_path_factory.mktemp("prompts")
    return [
        *("--student", str(checkpoints["llama"]), "--teacher", str(checkpoints["llama-teacher"])),
        *("--train-prompts", str(jsonl(folder / "train.jsonl", TRAIN))),
        *("--eval", f"in:{jsonl(folder / 'near.jsonl', TEST)},{jsonl(folder / 'far.jsonl', ['Sing!'])}"),
        *("--set", "train_sampling.max_new_tokens=12", "--set", "eval_sampling.max_new_tokens=12"),
        *("--set", "generation_batch_size=2", "--set", "training.batch_size=2", "--set", "training.checkpoint_steps=1"),
    ]


def run_elsewhere(arguments: list[str], out: Path, store: Path, methods: str = ALL) -> str:
    """Make a run in a process of its own, as people do; what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", *arguments, "--methods", methods, "--out", str(out)],
        env={**os.environ, "DADPO_HARNESS_STORE": str(store)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@dataclass(frozen=True)
class Done:
    out: Path
    store: Path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, arguments: list[str]) -> Done:
    """That run, done once; whoever runs it again finds all of it made."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_elsewhere(arguments, folder / "out", folder / "store")
    return Done(folder / "out", folder / "store")


def jobs(store: Path) -> dict[str, dict[str, Any]]:
    return {
        str(path.parent.relative_to(store)): json.loads(path.read_text())["job"]
        for path in store.glob("*/*/manifest.json")
    }


def test_a_second_run_computes_nothing_and_writes_the_same_bytes(
    arguments: list[str], undisturbed: Done, run: Run, tmp_path: Path
) -> None:
    out, store = undisturbed.out, undisturbed.store
    files = ("leaderboard.md", "results.json", "verdicts.jsonl", "measures.jsonl", "tokens.json", "config.yaml")
    before = {name: (out / name).read_bytes() for name in files}
    assert "\n0 of " in "\n" + run(arguments, out, store)
    assert {name: (out / name).read_bytes() for name in files} == before
    # the resolved configuration, fed back, is the same run
    assert "\n0 of " in "\n" + run(["--config", str(out / "config.yaml")], tmp_path / "again", store, None)


def test_a_second_run_imports_neither_torch_nor_transformers(
    arguments: list[str], undisturbed: Done, tmp_path: Path
) -> None:
    """They take longer to import than all else that is left to do."""
    code = (
        "import sys; from harness.__main__ import main\n"
        "try: main()\nfinally: print(*sorted({'torch', 'transformers', 'huggingface_hub'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", *arguments, "--methods", ALL, "--out", str(tmp_path / "out")],
        env={**os.environ, "DADPO_HARNESS_STORE": str(undisturbed.store)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "\n0 of " in "\n" + done.stderr
    assert done.stdout.splitlines()[-1] == ""


def test_every_row_is_on_the_board_and_follows_from_the_verdicts(undisturbed: Done) -> None:
    out = undisturbed.out
    results = json.loads((out / "results.json").read_text())
    verdicts = [json.loads(line) for line in (out / "verdicts.jsonl").read_text().splitlines()]
    names = {"sft", "kd", "ddpo", "dadpo", "ddpo-beta0.15", "student (untrained)", "teacher (second sample)"}
    board = (out / "leaderboard.md").read_text()
    assert {row["method"] for row in results["rows"]} == names
    assert all(f"| {name} " in board for name in names)
    assert {row["prompt_set"]: row["in_domain"] for row in results["rows"]} == {"near": True, "far": False}
    assert len(results["rows"]) == 2 * 3 * len(names)
    assert len(verdicts) == 3 * len(names) * (len(TEST) + 1)
    for row in results["rows"]:
        own = [
            v
            for v in verdicts
            if (v["judge"], v["candidate"], v["prompt_set"]) == (row["judge"], row["method"], row["prompt_set"])
        ]
        assert row["wins"] == sum(v["preference"] > 0.5 for v in own)
        assert row["losses"] == sum(v["preference"] < 0.5 for v in own)
        assert row["n"] == len(own)


@pytest.mark.parametrize("judge", ["embedding", "proxy"])
def test_a_second_method_adds_no_forward_pass_of_the_teacher(
    arguments: list[str], run: Run, tmp_path: Path, judge: str
) -> None:
    store, arguments = tmp_path / "s", [*arguments, "--judge", judge]
    run(arguments, tmp_path / "out", store, "dadpo")
    before = jobs(store)
    teacher = next(job["model"] for job in before.values() if job["label"] == "responses: teacher, training prompts")
    run(arguments, tmp_path / "out", store, "dadpo,ddpo,sft")
    new = {ref: job for ref, job in jobs(store).items() if ref not in before}
    assert [job["label"] for job in new.values() if job["stage"] == "train"] == ["train ddpo"]
    with_teacher = [job for job in new.values() if teacher in (job.get("model"), job.get("teacher"))]
    # its body reads the new responses once, for comparisons and for the judge that takes its likelihood, and that is
    # all: on its own responses its hidden states are there
    read = {job["label"] for job in with_teacher if not job.get("states")}
    rows = ("ddpo", "sft")
    assert read == {f"compare {who} with the teacher: its own, {name}" for who in rows for name in ("near", "far")}
    assert {job["states"] for job in with_teacher if job.get("states")} <= before.keys()
    if judge == "proxy":
        judged = [job for job in new.values() if job["stage"] == "judge" and job["judge"] == "typicality"]
        assert {job["measures"]["teacher_nll/candidate"].split("/")[0] for job in judged} == {"compare"}


def test_the_full_set_of_controls_travels_the_whole_road(
    arguments: list[str], undisturbed: Done, run: Run, tmp_path: Path
) -> None:
    store = shutil.copytree(undisturbed.store, tmp_path / "s")
    run([*arguments, "--controls", "full"], tmp_path / "out", store, "kd,dadpo")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["method"] for row in results["rows"] if row["kind"] == "control"} == {
        *("kd-from-sft", "ddpo-beta0.15", "ddpo-beta0.142857", "dadpo-permuted", "dadpo-mean", "sft-continued"),
        "gopd-same-target",
    }
    facts = {entry["name"]: entry["facts"] for entry in results["methods"]}
    # as many tokens as daDPO saw, to within a step of one batch
    assert 0 <= facts["sft-continued"]["tokens"] - facts["dadpo"]["tokens"] < 200


def test_a_seed_moves_the_students_but_not_the_teachers_training_responses(
    arguments: list[str], undisturbed: Done, run: Run, tmp_path: Path
) -> None:
    store = shutil.copytree(undisturbed.store, tmp_path / "s")
    before = jobs(store)
    run([*arguments, "--seed", "1"], tmp_path / "out1", store, "sft")
    new = [job["label"] for ref, job in jobs(store).items() if ref not in before]
    assert "train sft" in new and "responses: sft, near" in new
    assert "responses: teacher, training prompts" not in new


def test_killed_at_any_moment_it_ends_with_the_board_of_an_undisturbed_run(
    arguments: list[str], undisturbed: Done, run: Run, tmp_path: Path
) -> None:
    store, out = tmp_path / "s1", tmp_path / "killed"

    partly_sampled, partly_trained = r"work/respond-.*/batch-0-\d+\.jsonl", r"work/train-.*/checkpoint\.pt"
    judging = r"judge/[^/]+"
    for second in (partly_sampled, partly_trained, judging):
        kill_before(second, ["run", *arguments, "--methods", ALL, "--out", str(out)], store)
        assert not (out / "leaderboard.md").exists()
    run(arguments, out, store)
    for name in ("verdicts.jsonl", "measures.jsonl", "tokens.json"):
        assert (out / name).read_text() == (undisturbed.out / name).read_text()
    assert board_without_costs(out) == board_without_costs(undisturbed.out)
    assert not any((store / "work").iterdir())


def board_without_costs(out: Path) -> str:
    """A run's board without what is of the machine: the seconds and the memory that it took, and when that was."""
    results = read_results(out)
    board = board_markdown([results.model_copy(update={"costs": ()})])
    return re.sub(r"\d{4}-\d{2}-\d{2}(T[\d:]+)?", "date", board)


KILLED = """
import os, re, signal, sys
from harness.__main__ import main
place, seen = re.compile(sys.argv.pop(1)), []
def before(event, arguments):
    if event == "os.rename" and place.fullmatch(os.path.relpath(arguments[1], os.environ["DADPO_HARNESS_STORE"])):
        seen.append(arguments[1])
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(before)
main()
"""


def kill_before(second: str, arguments: list[str], store: Path) -> None:
    """Run a command and kill it, with no chance to clean up, just before the second file or folder whose path in the
    store matches comes to its place."""
    environment = {**os.environ, "DADPO_HARNESS_STORE": str(store)}
    done = subprocess.run([sys.executable, "-c", KILLED, second, *arguments], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
