from __future__ import annotations

import json
import subprocess
from pathlib import Path

import torch

import harness
from harness.core.environment import environment, git_state


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_an_environment_is_plain_data_that_names_versions_and_hardware() -> None:
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert found["harness"] == harness.__version__
    assert found["packages"]["torch"] == torch.__version__
    assert found["cores"] >= 1 and found["memory_gib"] > 0 and found["processor"]
    assert len(found["accelerators"]) == torch.cuda.device_count()


def test_an_environment_names_no_folder_or_user() -> None:
    assert str(Path.home()) not in json.dumps(environment())


def test_the_state_of_a_checkout(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.txt").write_text("one")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-q", "-m", "first")
    git(tmp_path, "remote", "add", "origin", "https://user:secret@example.org/r.git")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    assert git_state(tmp_path) == {"commit": commit, "changed": []}
    (tmp_path / "untracked.txt").write_text("not counted")
    (tmp_path / "a.txt").write_text("two")
    assert git_state(tmp_path) == {"commit": commit, "changed": ["a.txt"]}


def test_an_installed_package_has_no_git_state(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    (tmp_path / ".git").write_text("gitdir: nowhere")  # a damaged checkout is no reason to fail
    assert git_state(tmp_path) is None
