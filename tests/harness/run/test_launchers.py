"""A job is performed elsewhere as it would be here; how its process ends is told, and none is left behind."""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from harness.config import Config
from harness.core.errors import UserError
from harness.core.progress import Tick
from harness.generation.protocol import Sampling
from harness.models.locate import folder_digest
from harness.models.reference import Model
from harness.prompts.settings import PromptSource
from harness.run import child
from harness.run.child import perform_for_parent
from harness.run.jobs import RESPONSES, Job, PromptsJob, RespondJob, TrainJob, stages
from harness.run.launch import run_job
from harness.run.launchers import LAUNCHERS, accelerate, inline, launcher, process
from harness.run.launchers.accelerate import RANKS_VARIABLE, ranks_command, ranks_environment
from harness.run.launchers.process import Command, in_child, process_command
from harness.serving.resident import hold
from harness.serving.settings import ModelServer
from harness.store import Store
from tests.harness.making import read_job, train_job
from tests.waiting import LIMIT, running, until

ROOT = Path(__file__).parents[3]
JOB = PromptsJob(label="read nothing", source=PromptSource(path=Path("/nowhere.jsonl")), digest="d", limit=None)
STAND_IN = """
import os, signal, sys, time, types
from harness.core.errors import UserError
rank = os.environ.get("RANK", "0")
def perform(job, store, work, tick):
{body}
sys.modules["harness.run.stages.perform"] = types.SimpleNamespace(perform=perform)
from harness.__main__ import main
main()
"""
ENDLESS = """
(work / f"pid-{rank}").write_text(f"{os.getpid()}\\n")
tick(1, 2)
time.sleep(3600)
"""
PARENT = """
import sys
from pathlib import Path
from harness.run.jobs import job_from_json
from harness.run.launchers.accelerate import ranks_command
from harness.run.launchers.process import in_child, process_command
from harness.store import Store
job, root, work = job_from_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
command = process_command if sys.argv[4] == "process" else lambda f, w: ranks_command(f, w, 2, None)
in_child(lambda f, w: ["stand_in" if part == "harness" else part for part in command(f, w)],
         job, Store(root), work, lambda done, total: (work / "followed").write_text("x"))
"""


def quiet(done: int, total: int) -> None:
    pass


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Command]:
    """A launcher's command with the harness replaced by one whose stages do what `body` says."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path)]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # a parent that is killed cannot tidy up

    def make(body: str, command: Command = process_command) -> Command:
        indented = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
        (tmp_path / "stand_in.py").write_text(STAND_IN.format(body=indented))
        return lambda job_file, work: ["stand_in" if part == "harness" else part for part in command(job_file, work)]

    return make


def two_ranks(job_file: Path, work: Path) -> list[str]:
    return ranks_command(job_file, work, 2, None)


# ---- which job goes where


def test_ranks_are_started_by_torch_or_as_the_file_of_accelerate_says() -> None:
    stage = ["-m", "harness", "stage", "j.json", "--work", "w"]
    job, work = Path("j.json"), Path("w")
    assert process_command(job, work) == [sys.executable, *stage]
    assert ranks_command(job, work, 2, None) == [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
        *stage,
    ]
    assert ranks_command(job, work, 8, "fsdp.yaml") == [
        *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", "fsdp.yaml", "--num_processes", "8"),
        *stage,
    ]


def test_ranks_share_the_threads_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert ranks_environment(3, {})["OMP_NUM_THREADS"] == "2"
    assert ranks_environment(16, {})["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in ranks_environment(3, {"OMP_NUM_THREADS": "4"})  # what the user set holds
    assert "OMP_NUM_THREADS" not in ranks_environment(1, {})


def of_stage(stage: str) -> Job:
    """A job of a stage with a model where it has one, and nothing else."""
    model = Model(artifact="train/1")
    said: dict[str, Any] = {"label": stage, "path": "p", "digest": "d", "model": model, "start": model, "teacher": None}
    return stages[stage].model_construct(**said)


def test_every_launcher_that_can_be_configured_is_there() -> None:
    assert set(LAUNCHERS) == set(get_args(Config.model_fields["launcher"].annotation))


@pytest.mark.parametrize(
    ("kind", "elsewhere"),
    [
        ("inline", set()),
        (
            "process",
            {
                "convert",
                "prune",
                "respond",
                "score",
                "distributions",
                "states",
                "compare",
                "embed",
                "train",
                "loss",
                "retention",
            },
        ),
        ("accelerate", {"train"}),
    ],
)
def test_each_launcher_takes_its_own_jobs(monkeypatch: pytest.MonkeyPatch, kind: Any, elsewhere: set[str]) -> None:
    def here(job: Job, *others: Any) -> dict[str, str]:
        return {"here": job.stage}

    monkeypatch.setitem(sys.modules, "harness.run.stages.perform", SimpleNamespace(perform=here))
    for module in (process, accelerate):
        monkeypatch.setattr(module, "in_child", lambda command, job, *_: {"there": job.stage})
    perform = launcher(Config(student="s", launcher=kind))
    done = [perform(of_stage(stage), Store(Path()), Path(), quiet) for stage in stages]
    assert done == [{"there" if stage in elsewhere else "here": stage} for stage in stages]


def test_ranks_start_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def record(command: Command, job: Job, store: Store, work: Path, tick: Any, added: dict[str, str]) -> Any:
        started.append((command(Path("j"), Path("w")), added[RANKS_VARIABLE]))

    monkeypatch.setattr(accelerate, "in_child", record)
    perform = launcher(Config(student="s", launcher="accelerate", processes=2))
    perform(of_stage("train"), Store(Path()), Path(), quiet)
    assert started == [(two_ranks(Path("j"), Path("w")), "2")]


@pytest.mark.parametrize("kind", ["process", "accelerate"])
def test_before_a_child_starts_this_process_lets_go_of_its_models(
    kind: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    def follow(*_: Any) -> tuple[int, list[str]]:
        happened.append("started")
        return 1, []

    hold("a judge", "any way", lambda: None, close=lambda _: happened.append("let go"))
    monkeypatch.setattr(process, "_follow", follow)
    monkeypatch.setattr(TrainJob, "model_dump_json", lambda self: "{}")
    with pytest.raises(UserError, match="its process ended"):
        launcher(Config(student="s", launcher=kind))(of_stage("train"), store, Path(), quiet)
    assert happened == ["let go", "started"]


# ---- a process of its own


def test_a_child_performs_and_the_parent_commits(store: Store, stand_in: Callable[..., Command]) -> None:
    body = """
print("loading weights")
tick(1, 4)
print('{"rows": 3}')
tick(4, 4)
(work / "rows").write_text(job.label)
return {"tokens": 3, "store": str(store.root)}
"""
    ticks: list[tuple[int, int]] = []
    perform = functools.partial(in_child, stand_in(body))
    assert run_job(JOB, store, lambda *done: ticks.append(done), perform)
    made = store.read(JOB.ref)
    assert made.facts == {"tokens": 3, "store": str(store.root)}
    assert set(made.manifest["files"]) == {"rows"} and (made.path / "rows").read_text() == JOB.label
    assert ticks == [(1, 4), (4, 4)]
    assert not run_job(JOB, store, quiet, perform)


def test_a_mistake_of_people_comes_out_as_it_was_said(store: Store, stand_in: Callable[..., Command]) -> None:
    command = stand_in("(work / 'part').touch(); raise UserError('no such thing; do that')")
    with pytest.raises(UserError, match=r"^no such thing; do that$") as caught:
        run_job(JOB, store, quiet, functools.partial(in_child, command))
    assert "raise UserError" in str(caught.value.__cause__)  # what --debug shows
    assert not store.has(JOB.ref) and (store.workspace(JOB.ref) / "part").is_file()


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        ("raise RuntimeError('boom')", ["status 1", "RuntimeError: boom"]),
        ("print('so far\\n====', flush=True); os.kill(os.getpid(), signal.SIGKILL)", ["signal 9", "lines: so far"]),
        ("print('so far', flush=True); os._exit(3)", ["status 3", "lines: so far"]),
        ("sys.exit(0)", ["status 0"]),
    ],
    ids=["traceback", "signal", "status", "no result"],
)
def test_any_other_death_is_told_in_a_line(
    store: Store, stand_in: Callable[..., Command], body: str, parts: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        run_job(JOB, store, quiet, functools.partial(in_child, stand_in(body)))
    message = str(caught.value)
    assert message.startswith("read nothing: its process ended with ") and "goes on from the last checkpoint" in message
    assert "\n" not in message and "===" not in message
    for part in parts:
        assert part in message
    if "RuntimeError" in message:
        assert "Traceback" in str(caught.value.__cause__)


def test_only_the_first_rank_speaks(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def perform(job: Job, store: Store, work: Path, tick: Tick) -> dict[str, int]:
        tick(1, 2)
        return {"rows": 3}

    monkeypatch.setitem(sys.modules, "harness.run.stages.perform", SimpleNamespace(perform=perform))
    for rank, left in (("1", None), ("0", {"rows": 3})):
        monkeypatch.setenv("RANK", rank)
        perform_for_parent(JOB, tmp_path / "job.json", store, tmp_path)
        assert process._left(tmp_path / "job.facts") == left
        assert capsys.readouterr().out == ("" if left is None else '{"done": 1, "total": 2}\n')


def test_a_disk_that_is_full_is_told_by_the_child_that_meets_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(child, "inline", full)
    with pytest.raises(UserError):
        perform_for_parent(JOB, tmp_path / "job.json", store, tmp_path / "work")
    left = json.loads((tmp_path / "job.error").read_text())
    assert left["by_user"] and left["message"].startswith(f"{tmp_path / 'work'}: the disk is full; free some")


def test_a_file_of_accelerate_that_starts_one_process_is_noticed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RANKS_VARIABLE, "2")
    with pytest.raises(UserError, match="accelerate started 1 of 2 processes"):
        perform_for_parent(JOB, tmp_path / "job.json", store, tmp_path)


# ---- ranks


def test_two_ranks_perform_one_job(store: Store, stand_in: Callable[..., Command]) -> None:
    body = "(work / rank).write_text(os.environ['WORLD_SIZE']); tick(1, 1); return {'rank': int(rank)}"
    ticks: list[tuple[int, int]] = []
    perform = functools.partial(in_child, stand_in(body, two_ranks), added=ranks_environment(2, os.environ))
    assert run_job(JOB, store, lambda *done: ticks.append(done), perform)
    made = store.read(JOB.ref)
    assert {name: (made.path / name).read_text() for name in made.manifest["files"]} == {"0": "2", "1": "2"}
    assert made.facts == {"rank": 0} and ticks == [(1, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("by_user", [True, False])
def test_the_rank_that_fails_ends_the_others_and_is_heard(
    store: Store, stand_in: Callable[..., Command], by_user: bool
) -> None:
    error = "UserError('a bad batch')" if by_user else "RuntimeError('a bad batch')"
    command = stand_in(f"if rank == '1':\n    raise {error}\ntime.sleep(3600)", two_ranks)
    with pytest.raises(UserError, match=r"^a bad batch$" if by_user else "RuntimeError: a bad batch$"):
        run_job(JOB, store, quiet, functools.partial(in_child, command))


@pytest.mark.slow
def test_a_rank_that_was_killed_is_named(store: Store, stand_in: Callable[..., Command]) -> None:
    command = stand_in("if rank == '1':\n    os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(3600)", two_ranks)
    with pytest.raises(UserError, match=r"read nothing: .*rank +: 1 .*SIGKILL"):
        run_job(JOB, store, quiet, functools.partial(in_child, command))


# ---- no orphans


@pytest.mark.parametrize(
    ("kind", "ranks", "number"),
    [
        *(("process", 1, number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)),
        # SIGTERM is one more exception in this process, as SIGINT is
        *(pytest.param("ranks", 2, number, marks=pytest.mark.slow) for number in (signal.SIGINT, signal.SIGKILL)),
    ],
)
def test_children_end_with_their_parent(
    store: Store, tmp_path: Path, stand_in: Callable[..., Command], kind: str, ranks: int, number: signal.Signals
) -> None:
    stand_in(ENDLESS)
    work = tmp_path / "endless"
    work.mkdir()
    arguments = [JOB.model_dump_json(), str(store.root), str(work), kind]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *arguments], stderr=subprocess.DEVNULL)
    files = [work / f"pid-{rank}" for rank in range(ranks)]
    awaited = [work / "followed", *files]
    until(lambda: all(file.exists() and file.read_text() for file in awaited), "what it started", by=parent)
    children = [int(file.read_text()) for file in files]
    assert all(map(running, children))
    parent.send_signal(number)
    assert parent.wait(timeout=LIMIT) == {signal.SIGINT: -2, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    if kind == "process" and number != signal.SIGKILL:  # else nobody waited for them
        assert not any(map(running, children))
    until(lambda: not any(map(running, children)), "their end")


# ---- the real thing


@pytest.mark.slow
def test_a_real_stage_makes_the_same_in_a_process_of_its_own(
    store: Store, tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"id": "a", "prompt": "Why is bread good?"}) + "\n")
    model = Model(path=str(checkpoints["llama"]), digest=folder_digest(checkpoints["llama"], store))
    perform = launcher(Config(student="s", launcher="process"))
    made = []
    for at, how in ((store, inline), (Store(tmp_path / "other"), perform)):
        prompts = read_job(path)
        job = RespondJob(
            model=model,
            prompts=prompts.ref,
            sampling=Sampling(max_new_tokens=6),
            batch_size=2,
            purpose="chosen",
            seed=0,
        )
        assert run_job(prompts, at, quiet, how) and run_job(job, at, quiet, how)
        made.append((at.read(job.ref).facts, (at.read(job.ref).path / RESPONSES).read_bytes()))
    assert made[0] == made[1]


@pytest.mark.parametrize(("url", "refused"), [("http://me:pa55word@host/v1", True), ("http://host/v1/", False)])
def test_ranks_are_told_no_credentials_of_a_teacher_s_server(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, refused: bool
) -> None:
    monkeypatch.setattr(accelerate, "in_child", lambda *_: {"done": 1})
    teacher = Model(path="/nowhere", served=ModelServer(base_url=url, model="m"))
    job = train_job("kd", Model(path="/nowhere", digest="s"), "prompts/1", ("respond/1",), teacher=teacher)
    perform = accelerate.on_ranks(2, None)
    if not refused:
        assert perform(job, store, tmp_path, quiet) == {"done": 1}
        return
    with pytest.raises(UserError, match=r"asks the teacher's server .*teacher_server\.key_variable") as caught:
        perform(job, store, tmp_path, quiet)
    assert "pa55word" not in str(caught.value)
