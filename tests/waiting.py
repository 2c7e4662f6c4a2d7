"""Waiting in tests: for what happens, however slow the machine, and not for a time that it is thought to take."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT = 600.0  # seconds; only what never comes takes as long


def until(there: Callable[[], bool], what: str = "it", by: subprocess.Popen[Any] | None = None) -> None:
    """Wait until something is so; `by` is a process without which it never will be.

    Raises:
        AssertionError: it never was, or the process ended before.
    """
    end = time.monotonic() + LIMIT
    while not there():
        assert time.monotonic() < end, f"{what} never came"
        assert by is None or by.poll() is None or there(), f"{what} never came: its process ended with {by.returncode}"
        time.sleep(0.01)


def running(pid: int) -> bool:
    """Whether a process is there, and not a zombie that nobody waits for."""
    try:
        state = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
