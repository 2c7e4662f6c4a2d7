"""Methods of files, by the commands: trained beside the others, known to processes of their own, and on boards that
need no file."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from harness.core.progress import plain_console
from harness.methods import methods
from harness.results.reading import read_results
from harness.run.jobs import TrainJob
from harness.run.launch import run_jobs
from harness.run.launchers.process import in_process
from tests.conftest import Run
from tests.harness import tiny_runs

LOSS = """\
from harness.methods import RESPONSE, Definition, Method, MethodSettings
from doubling import twice


class Settings(MethodSettings):
    scale: float = 2.0


def _loss(inputs, settings):
    return -twice(settings.scale) * inputs.policy[:, 0]


METHOD = Method(
    name="own-loss",
    summary="a loss of ours",
    source="us",
    level="sequence",
    loss=_loss,
    per="token",
    responses=RESPONSE,
    defines=Definition("raises the response", "none", "the sampled tokens", "response tokens"),
    settings=Settings,
)
"""


@pytest.fixture
def file(tmp_path: Path) -> Any:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "doubling.py").write_text("def twice(x):\n    return 2 * x\n")
    (folder / "own_loss.py").write_text(LOSS)
    yield folder / "own_loss.py"
    methods.use(())


@pytest.fixture
def arguments(tmp_path: Path, checkpoints: dict[str, Path]) -> list[str]:
    """A run of tiny models that takes a second."""
    texts = {"train": [f"Tell me about {n}." for n in range(3)], "test": ["Sing!", "What is rain?"]}
    for name, prompts in texts.items():
        rows = [{"id": f"p{number}", "prompt": text} for number, text in enumerate(prompts)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        *("--student", str(checkpoints["llama"]), "--teacher", str(checkpoints["llama-teacher"])),
        *("--judge", "typicality", "--controls", "none"),
        *("--train-prompts", str(tmp_path / "train.jsonl"), "--eval", f"in:{tmp_path / 'test.jsonl'}"),
        *("--set", "train_sampling.max_new_tokens=8", "--set", "eval_sampling.max_new_tokens=8"),
    ]


def test_they_are_listed(cli: Any, file: Path) -> None:
    ended = cli("list", "methods", "--plugin", file)
    assert ended.status == 0, ended.err
    assert any(line.split()[:1] == ["own-loss"] for line in ended.out.splitlines())


def test_a_misspelt_one_is_suggested(cli: Any, file: Path, arguments: list[str]) -> None:
    ended = cli("plan", *arguments, "--plugin", file, "--methods", "own-los")
    assert (ended.status, ended.err) == (2, "error: unknown method 'own-los'; did you mean 'own-loss'?\n")


@pytest.mark.slow
def test_a_file_s_method_is_trained_and_its_board_needs_no_file(
    cli: Any, run: Run, file: Path, arguments: list[str], tmp_path: Path
) -> None:
    out, store = tmp_path / "out", tmp_path / "store"
    run([*arguments, "--plugin", str(file)], out, store, "sft,own-loss")
    results = read_results(out)
    assert [one.name for one in results.methods] == ["sft", "own-loss"]
    assert results.methods[1].settings.own == {"scale": 2.0}
    command = shlex.split(results.runs[0].command)
    assert command[command.index("--plugin") + 1] == str(file)
    assert results.config["plugins"] == [str(file)]
    # the same from the configuration that it left
    said = run(["--config", str(out / "config.yaml")], tmp_path / "again", store, None)
    assert " 0 of " in said or "0 of" in said
    # an edited helper is another training
    before = set(store.glob("train/*"))
    (file.parent / "doubling.py").write_text("def twice(x):\n    return x + x\n")
    run([*arguments, "--plugin", str(file)], tmp_path / "edited", store, "sft,own-loss")
    assert len(set(store.glob("train/*")) - before) == 1
    # and nothing of it is asked for where results are read
    methods.use(())
    file.unlink()
    for arguments in (["leaderboard", out], ["report", out, "--out", tmp_path / "report.html"], ["verify", out]):
        ended = cli(*arguments)
        assert ended.status == 0, ended.err
    assert "own-loss" in cli("leaderboard", out).out


@pytest.mark.slow
def test_a_process_of_its_own_knows_it(
    cli: Any, file: Path, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tiny_runs.request(tmp_path / "run", checkpoints, "own-loss", plugin=[str(file)])
    road, store = tiny_runs.road_of(asked)
    jobs = list(road.jobs.values())
    (training,) = [job for job in jobs if isinstance(job, TrainJob)]
    methods.use(())
    run_jobs(jobs[: jobs.index(training)], store, plain_console())
    run_jobs([training], store, plain_console(), in_process)
    job = tmp_path / "job.json"
    job.write_text(json.dumps(store.read(training.ref).manifest["job"]))
    monkeypatch.setenv("DADPO_HARNESS_STORE", str(store.root))
    ended = cli("stage", job)
    assert (ended.status, ended.out) == (0, f"{training.ref} was there\n"), ended.err
    # what was planned is not what is there
    store.discard(training.ref)
    file.write_text(LOSS + "# edited\n")
    ended = cli("stage", job)
    assert ended.status == 2
    assert f"the code of the method 'own-loss' ({file}) is not what it was when this was planned" in ended.err
    file.unlink()
    methods.use(())
    ended = cli("stage", job)
    assert (ended.status, ended.err) == (2, f"error: plug-in {file}: there is no such file\n")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("[:, 0]", ""), "its loss gives a tensor [4, 1]; expected [4]: one loss an example of SequenceInputs"),
        (("-twice", "torch.nn"), "its loss raised NameError: name 'torch' is not defined"),
        (("inputs.policy[:, 0]", "inputs.policy[:, 0].log()"), "its loss is nan of small random SequenceInputs"),
        (("inputs.policy[", "inputs.policy.detach()["), "its loss has no gradient to the policy, and so nothing to"),
        (("per=", 'compared_with=("nope",), per='), "compared_with names the method 'nope', which is not there"),
        (
            ("per=", 'minimises=("nl",), per='),
            "minimises names the measure 'nl', which is not there; did you",
        ),
        (("\n\n\ndef", "\n\n\n1 / 0\n\n\ndef"), "cannot be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_a_faulty_one_is_refused_in_one_line_before_anything_is_made(
    edit: tuple[str, str], said: str, cli: Any, file: Path, arguments: list[str], own_store: Path
) -> None:
    file.write_text(LOSS.replace(*edit))
    ended = cli("run", *arguments, "--plugin", file, "--methods", "own-loss")
    assert ended.status == 2
    assert ended.err.startswith(f"error: {file}") and ended.err.count("\n") == 1
    assert said in ended.err
    assert not list(own_store.glob("*/*/manifest.json"))
