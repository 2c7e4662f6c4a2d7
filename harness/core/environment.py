"""What an artifact is made with and on: versions, the state of this checkout, and the machine."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import harness

# whatever of these is installed can move a figure
PACKAGES = (
    "accelerate",
    "gguf",
    "llm-blender",
    "lm-eval",
    "numpy",
    "openai",
    "peft",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
    "vllm",
)


@functools.cache
def environment() -> dict[str, Any]:
    """Versions, git state and hardware of this process, as plain data. It holds no user's name, path, address or key.

    Accelerators are named where torch has been imported: nothing that needs none waits for it."""
    return {
        "harness": harness.__version__,
        "git": git_state(Path(harness.__file__).parents[1]),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": _memory(),
        "accelerators": _accelerators(),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """The commit that is checked out and the tracked files that differ from it; None for no checkout of git."""
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "HEAD").strip()
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no").splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": [line[3:] for line in changed]}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name, as the system has it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        named = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if named:
            return named[0]
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    """Of this machine, in GiB."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):  # no such name there
        return None


def _accelerators() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
