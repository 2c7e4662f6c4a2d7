"""The most memory that a part of this process's work took of its device."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

PROC = Path("/proc/self")
_RESET_PEAK = "5"  # what Linux's clear_refs takes to have VmHWM begin anew


def watch_memory() -> Callable[[], int | None]:
    """Watch from now on; the function returned says the most bytes that were in use since then: of this process's GPU
    what torch had allocated, without a GPU all that was resident in main memory. None where that cannot be known: a GPU
    on which this process allocated nothing (another may have), and a system that keeps no such record."""
    torch = sys.modules.get("torch")  # where nothing has loaded it, it holds nothing
    gpu = torch is not None and torch.cuda.is_available()
    if torch is not None and gpu and torch.cuda.is_initialized():
        for number in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(number)
    watched = gpu or _reset_resident_peak()

    def peak() -> int | None:
        if torch is not None and gpu:
            devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
            return max((torch.cuda.max_memory_allocated(number) for number in devices), default=0) or None
        return _resident_peak() if watched else None

    return peak


def _reset_resident_peak() -> bool:
    """Whether the system now counts from here on."""
    try:
        (PROC / "clear_refs").write_text(_RESET_PEAK)
    except OSError:  # no Linux, or a container that does not let it
        return False
    return True


def _resident_peak() -> int | None:
    try:
        lines = (PROC / "status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
