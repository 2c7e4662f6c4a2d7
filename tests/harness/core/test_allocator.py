"""Freed memory: kept within a stage, given back between stages, on any system."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core import allocator
from harness.core.errors import UserError
from harness.prompts.settings import PromptSource
from harness.run.jobs import Job, PromptsJob
from harness.run.stages.perform import perform
from harness.store import Store
from tests.harness.making import read_job

GLIBC = platform.libc_ver()[0] == "glibc"


class FakeLibrary:
    """A C library whose calls are written down. `refused`: values that mallopt does not take."""

    def __init__(self, refused: tuple[int, ...] = ()) -> None:
        self.refused = refused
        self.calls: list[tuple[Any, ...]] = []

    def mallopt(self, parameter: int, value: int) -> int:
        self.calls.append((parameter, value))
        return int(value not in self.refused)

    def malloc_trim(self, pad: int) -> int:
        self.calls.append(("trim", pad))
        return 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLibrary]:
    library = FakeLibrary()
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    allocator.keep_freed_memory.cache_clear()
    yield library
    allocator.keep_freed_memory.cache_clear()


def test_both_run_on_this_system() -> None:
    allocator.keep_freed_memory.cache_clear()
    allocator.keep_freed_memory()
    allocator.give_back()
    assert np.ones(2**20).sum() == 2**20  # memory is still to be had


@pytest.mark.parametrize("libc", [("", ""), ("musl", "1.2"), ("libSystem", "1")])
def test_elsewhere_nothing_is_called(fake: FakeLibrary, monkeypatch: pytest.MonkeyPatch, libc: tuple[str, str]) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    allocator.keep_freed_memory()
    allocator.give_back()
    assert fake.calls == []


def test_an_older_library_is_told_the_largest_value_that_it_takes(fake: FakeLibrary) -> None:
    fake.refused = (2**30,)
    allocator.keep_freed_memory()
    assert [value for parameter, value in fake.calls if parameter == -3] == [2**30, 2**25]
    allocator.keep_freed_memory()
    assert len(fake.calls) == 4  # once is enough for a process


def test_a_stage_keeps_its_memory_and_gives_it_back_at_its_end(
    fake: FakeLibrary, own_store: Path, tmp_path: Path
) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text('{"prompt": "Hi!"}\n')
    store = Store(own_store)
    work = tmp_path / "work"
    work.mkdir()
    perform(read_job(path), store, work, lambda done, total: None)
    assert fake.calls[-1] == ("trim", 0) and fake.calls.count(("trim", 0)) == 1 and len(fake.calls) > 1


def test_a_stage_that_fails_gives_its_memory_back_too(fake: FakeLibrary, own_store: Path, tmp_path: Path) -> None:
    job: Job = PromptsJob(source=PromptSource(path=tmp_path / "none.jsonl"), digest="d", limit=None)
    with pytest.raises(UserError):
        perform(job, Store(own_store), tmp_path, lambda done, total: None)
    assert fake.calls[-1] == ("trim", 0)


@pytest.mark.skipif(not GLIBC, reason="of glibc")
def test_memory_that_was_freed_is_the_system_s_again() -> None:
    """In a process of its own: freed blocks stay until they are given back."""
    program = """
import ctypes
from harness.core.allocator import give_back, keep_freed_memory

def pages():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
before = pages()
block = libc.malloc(ctypes.c_size_t(2**28))
ctypes.memset(block, 1, 2**28)
libc.free(block)
kept = pages() - before
give_back()
print(kept, pages() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    kept, left = map(int, done.stdout.split())
    size = 2**28 // 4096
    assert kept > 0.9 * size and left < 0.1 * size
