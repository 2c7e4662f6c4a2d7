"""What this machine has: disk and memory, of the processor and of a GPU."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def free_disk(folder: Path) -> int:
    """Of the disk that a folder lies on, or would."""
    here = folder.absolute()
    while not here.exists():
        here = here.parent
    return shutil.disk_usage(here).free


def main_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # no such name there
        return None


def gpu_memory() -> int | None:
    """Of the first GPU; None where there is none."""
    import torch

    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(0).total_memory)
