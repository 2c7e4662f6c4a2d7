"""Freed memory stays with the process: a training step frees and asks for the same gigabytes again and again. And what
its lack looks like."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys

# from glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_GIB = 2**30


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocator refused: a CPU's has no error of its own."""
    torch = sys.modules.get("torch")
    refused = torch is not None and isinstance(error, torch.OutOfMemoryError)
    return refused or (isinstance(error, RuntimeError) and "DefaultCPUAllocator: " in str(error))


def give_back() -> None:
    """Return what is free to the system, a GPU's memory too: between two stages, and where a model was let go of."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)
    torch = sys.modules.get("torch")  # where nothing has loaded it, it holds nothing
    if torch is not None:
        torch.cuda.empty_cache()


@functools.cache
def keep_freed_memory() -> None:
    """Tell glibc not to give large blocks back to the system, which would zero each page anew at its next use: a third
    of a training step's time on a CPU. Elsewhere nothing is done."""
    libc = _glibc()
    if libc is None:
        return
    # older versions take no more than 32 MiB
    if not libc.mallopt(_MMAP_THRESHOLD, _GIB):
        libc.mallopt(_MMAP_THRESHOLD, _GIB // 32)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    libc.mallopt(_TOP_PAD, _GIB // 16)
