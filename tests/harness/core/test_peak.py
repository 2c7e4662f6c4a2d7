"""What a part of a process's work took of its device, on any system."""

from __future__ import annotations

import json
import sys
from mmap import mmap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harness.core import peak
from harness.core.peak import watch_memory
from harness.store import MANIFEST, Store
from tests.harness.making import make, read_job

SIZE = 2**27  # bytes
LINUX = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="of Linux")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = SimpleNamespace(is_available=lambda: False, empty_cache=lambda: None)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=gone))


@LINUX
@pytest.mark.usefixtures("no_gpu")
def test_a_peak_is_of_what_was_watched_alone() -> None:
    before = watch_memory()()
    watched = watch_memory()
    with mmap(-1, SIZE) as block:  # the system's again at its end, whatever the allocator keeps
        for place in range(0, SIZE, 4096):  # a page is there once it is written to
            block[place] = 1
    first, second = watched(), watch_memory()()
    assert before is not None and first is not None and second is not None
    # half of it: a system that is short of memory takes pages back meanwhile
    assert first >= before + 0.5 * SIZE
    assert second <= first - 0.5 * SIZE


@pytest.mark.usefixtures("no_gpu")
def test_nothing_is_known_where_the_system_keeps_no_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peak, "PROC", tmp_path / "none")
    assert watch_memory()() is None
    monkeypatch.setattr(peak, "PROC", tmp_path)  # what it would count may be of long before
    (tmp_path / "clear_refs").mkdir()
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t   2048 kB\n")
    assert watch_memory()() is None


class FakeGPU:
    """Two devices, of which this process allocates on one."""

    def __init__(self, allocated: int, initialised: bool = True) -> None:
        self.allocated, self.initialised = [0, allocated], initialised
        self.reset: list[int] = []

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return self.initialised

    def device_count(self) -> int:
        return 2

    def reset_peak_memory_stats(self, device: int) -> None:
        self.reset.append(device)

    def max_memory_allocated(self, device: int) -> int:
        return self.allocated[device]


@pytest.mark.parametrize(("allocated", "known"), [(7_000, 7_000), (0, None)])
def test_on_a_gpu_it_is_what_torch_allocated(
    monkeypatch: pytest.MonkeyPatch, allocated: int, known: int | None
) -> None:
    gpu = FakeGPU(allocated)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=gpu))
    assert watch_memory()() == known and gpu.reset == [0, 1]


def test_a_gpu_that_nothing_has_used_yet_is_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGPU(9, initialised=False)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=gpu))
    peak_of = watch_memory()
    assert gpu.reset == [] and peak_of() is None
    gpu.initialised = True  # by the stage
    assert peak_of() == 9


@LINUX
def test_an_artifact_says_it_beside_its_seconds_and_an_older_one_is_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = tmp_path / "set.jsonl"
    path.write_text('{"prompt": "Hi!"}\n')
    ref = make(store, read_job(path))
    file = store.path(ref) / MANIFEST
    written = json.loads(file.read_text())
    assert written["peak_memory"] > 2**20 and "peak_memory" not in written["facts"]
    del written["peak_memory"]
    file.write_text(json.dumps(written))
    assert store.read(ref).facts == written["facts"] and store.damage(ref) is None
