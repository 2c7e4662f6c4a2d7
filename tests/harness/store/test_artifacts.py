from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.files import canonical_hash, file_sha256
from harness.prompts.settings import PromptSource
from harness.run.jobs import PromptsJob
from harness.run.launch import run_job
from harness.store import MANIFEST, Store, artifacts
from tests.waiting import LIMIT

REF = "respond/0123456789abcdef"
JOB = PromptsJob(source=PromptSource(path=Path("/nowhere.jsonl")), digest="d", limit=None)


def make(store: Store, ref: str = REF, text: str = "one\n") -> None:
    with store.making(ref) as work:
        (work / "sub").mkdir(exist_ok=True)
        (work / "sub" / "rows.jsonl").write_text(text)
        store.commit(ref, work, {"stage": "respond"}, {"tokens": 3}, 1.23456)


def test_every_file_of_an_artifact_has_the_rights_that_the_umask_gives(store: Store) -> None:
    """safetensors writes files that only their owner may read."""
    before = os.umask(0o027)
    try:
        with store.making(REF) as work:
            (work / "weights").write_bytes(b"1")
            (work / "weights").chmod(0o600)
            store.commit(REF, work, {"stage": "respond"}, {}, 1.0)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in store.path(REF).iterdir()} == {0o640}


def test_an_error_of_the_disk_while_an_artifact_is_made_names_its_workspace(store: Store) -> None:
    with pytest.raises(UserError, match="the disk is full") as caught, store.making(REF):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value).startswith(f"{store.workspace(REF)}: ")
    with pytest.raises(ConnectionResetError), store.making(REF):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


# ---- hashes


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_hash({"a": 1, "b": {"c": 2, "d": 3}}) == canonical_hash({"b": {"d": 3, "c": 2}, "a": 1})


def test_the_hash_is_the_same_in_every_process_and_version() -> None:
    text = '{"a":[1,2.5,null,true],"é":"ü"}'
    assert canonical_hash({"é": "ü", "a": [1, 2.5, None, True]}) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "other",
    [{"a": [2, 1]}, {"a": [1, 2, None]}, {"a": ["1", 2]}, {"a": [1, 2], "b": None}, {"b": [1, 2]}, {"a": [True, 2]}],
)
def test_the_hash_tells_different_data_apart(other: dict[str, Any]) -> None:
    assert canonical_hash(other) != canonical_hash({"a": [1, 2]})


# ---- artifacts


def test_a_committed_artifact_is_read_with_its_manifest(store: Store) -> None:
    make(store)
    artifact = store.read(REF)
    file = artifact.path / "sub" / "rows.jsonl"
    assert file.read_text() == "one\n"
    assert artifact.facts == {"tokens": 3}
    assert artifact.manifest["job"] == {"stage": "respond"}
    assert artifact.manifest["seconds"] == 1.235
    assert artifact.manifest["files"] == {"sub/rows.jsonl": {"bytes": 4, "sha256": file_sha256(file)}}


def test_a_commit_leaves_no_workspace(store: Store) -> None:
    make(store)
    assert list((store.root / "work").iterdir()) == []


def test_what_has_no_manifest_is_no_artifact(store: Store) -> None:
    make(store)
    (store.path(REF) / MANIFEST).unlink()
    assert not store.has(REF)
    with pytest.raises(UserError, match=f"the store has no {REF}"):
        store.read(REF)


def test_what_has_no_manifest_gives_way_to_the_artifact(store: Store) -> None:
    store.path(REF).mkdir(parents=True)
    (store.path(REF) / "stray.txt").write_text("half")
    make(store)
    assert not (store.read(REF).path / "stray.txt").exists()


def test_an_unfinished_workspace_is_no_artifact_and_is_found_again(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), store.making(REF) as work:
        (work / "part-0").write_text("done")
        raise KeyboardInterrupt
    assert not store.has(REF)
    with store.making(REF) as work:
        assert (work / "part-0").read_text() == "done"


def test_an_artifact_is_whole_or_absent_when_its_commit_is_interrupted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, target = Path.replace, store.path(REF)

    def interrupted(self: Path, to: Path) -> Path:
        if to == target:
            raise KeyboardInterrupt
        return replace(self, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(store)
    assert not store.has(REF)
    make(store)  # what the interrupted attempt left, its manifest included, is no part of the new artifact
    assert set(store.read(REF).manifest["files"]) == {"sub/rows.jsonl"}


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_text("onetwo\n")])
def test_a_missing_or_cut_file_of_an_artifact_is_detected(store: Store, damage: Any) -> None:
    make(store)
    file = store.path(REF) / "sub" / "rows.jsonl"
    damage(file)
    with pytest.raises(UserError, match="is damaged; run the command again") as caught:
        store.read(REF)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"files": {}}', "\x80", '{"files": {"a": 1}}'])
def test_a_manifest_that_cannot_be_read_is_detected(store: Store, text: str) -> None:
    make(store)
    (store.path(REF) / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        store.read(REF)
    assert not store.intact(REF) and list(store.manifests("respond")) == []


def test_manifests_come_newest_last(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, date in (("respond/a", "2025-01-02"), ("respond/b", "2025-01-01"), ("score/c", "2025-01-03")):
        make(store, name)
        path = store.path(name) / MANIFEST
        path.write_text(json.dumps({**json.loads(path.read_text()), "created": date}))
    assert [manifest["created"] for manifest in store.manifests("respond")] == ["2025-01-01", "2025-01-02"]
    assert list(store.manifests("train")) == []


# ---- damage


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a byte flipped": ("sub/rows.jsonl", flip),
    "cut": ("sub/rows.jsonl", lambda file: os.truncate(file, 2)),
    "emptied": ("sub/rows.jsonl", lambda file: os.truncate(file, 0)),
    "deleted": ("sub/rows.jsonl", Path.unlink),
    "manifest cut": (MANIFEST, lambda file: os.truncate(file, 20)),
    "manifest of another file": (MANIFEST, lambda file: file.write_text(file.read_text().replace("sub/rows", "rows"))),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_artifact_is_set_aside_as_it_is(store: Store, damage: str) -> None:
    make(store)
    name, change = DAMAGES[damage]
    change(store.path(REF) / name)
    before = contents(store.path(REF))
    assert not store.intact(REF) and store.path(REF).is_dir()  # asking moves nothing
    said = store.set_aside_if_damaged(REF)
    aside = store.root / "corrupt" / f"{REF.replace('/', '-')}-1"
    assert said and str(aside) in said and (name in said or "manifest" in damage)
    assert not store.has(REF) and contents(aside) == before
    make(store)
    assert store.intact(REF) and store.set_aside_if_damaged(REF) is None


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_damaged_artifact_is_kept(store: Store) -> None:
    for text in ("one\n", "two\n"):
        make(store, text=text)
        (store.path(REF) / MANIFEST).write_text("{")
        assert store.set_aside_if_damaged(REF)
    kept = sorted((store.root / "corrupt").glob("*/sub/rows.jsonl"))
    assert [file.read_text() for file in kept] == ["one\n", "two\n"]


def test_what_is_intact_or_absent_is_left_and_not_read_again(store: Store, hashed: list[Path]) -> None:
    assert store.set_aside_if_damaged(REF) is None and not store.intact(REF)
    make(store)
    hashed.clear()
    for opened in (store, Store(store.root)):
        assert opened.set_aside_if_damaged(REF) is None and opened.intact(REF)
    assert hashed == [] and not (store.root / "corrupt").exists()


def test_a_file_that_was_only_touched_is_read_once(store: Store, hashed: list[Path]) -> None:
    make(store)
    hashed.clear()
    file = store.path(REF) / "sub" / "rows.jsonl"
    os.utime(file, ns=(0, 0))
    assert store.intact(REF) and store.intact(REF) and Store(store.root).intact(REF)
    assert hashed == [file]


def test_an_artifact_made_anew_by_another_process_is_not_set_aside(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(store)
    (store.path(REF) / MANIFEST).write_text("{")
    lock = store._lock

    def made_meanwhile(name: str) -> Any:
        monkeypatch.setattr(store, "_lock", lock)
        Store(store.root).set_aside_if_damaged(REF)
        make(Store(store.root))
        return lock(name)

    monkeypatch.setattr(store, "_lock", made_meanwhile)
    assert store.set_aside_if_damaged(REF) is None
    assert store.intact(REF) and len(list((store.root / "corrupt").iterdir())) == 1


# ---- two processes


class MeetingStore(Store):
    """A store that says when its process has asked for a lock."""

    asked: Any

    @contextmanager
    def making(self, ref: str) -> Iterator[Path]:
        self.asked.release()
        with super().making(ref) as work:
            yield work


def compete(root: Path, asked: Any, computed: Any, made: Any) -> None:
    """Run the job in a process of its own; the one that computes waits until both have asked for the lock."""

    def perform(job: Any, store: Store, work: Path, tick: Any) -> dict[str, Any]:
        for _ in range(2):
            assert asked.acquire(timeout=LIMIT), "the other process never asked for the lock"
        computed.put(os.getpid())
        (work / "rows").write_text("rows")
        return {}

    sys.modules["harness.run.stages.perform"] = SimpleNamespace(perform=perform)  # type: ignore[assignment]
    store = MeetingStore(root)
    store.asked = asked
    made.put(run_job(JOB, store, lambda done, total: None))


def test_of_two_processes_that_make_one_artifact_exactly_one_computes(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    asked, computed, made = context.Semaphore(0), context.Queue(), context.Queue()
    processes = [context.Process(target=compete, args=(store.root, asked, computed, made)) for _ in range(2)]
    for process in processes:
        process.start()
    outcomes = sorted(made.get(timeout=LIMIT) for _ in processes)
    for process in processes:
        process.join(timeout=LIMIT)
    assert [process.exitcode for process in processes] == [0, 0]
    assert outcomes == [False, True]
    assert computed.get(timeout=LIMIT) in {process.pid for process in processes}
    assert computed.empty()
    assert store.read(JOB.ref).path.joinpath("rows").read_text() == "rows"
    assert list((store.root / "work").iterdir()) == []


# ---- stamps


def test_a_stamp_says_what_was_so_when_it_was_first_asked_for(store: Store) -> None:
    assert store.stamped("declared", ["a", "b"]) is None
    assert store.stamp("declared", ["a", "b"], lambda: {"time": 1}) == {"time": 1}
    assert store.stamp("declared", ["a", "b"], lambda: {"time": 2}) == {"time": 1}
    assert store.stamp("declared", ["a", "c"], lambda: {"time": 3}) == {"time": 3}
    assert Store(store.root).stamped("declared", ["a", "b"]) == {"time": 1}
    assert store.refs() == []


def say(root: Path, asked: Any, said: Any) -> None:
    """Stamp as soon as two processes ask for it."""
    asked.wait(LIMIT)
    said.put(Store(root).stamp("declared", "key", os.getpid))


def test_of_two_processes_that_stamp_one_thing_both_have_the_first_one_s(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    asked, said = context.Barrier(2), context.Queue()
    processes = [context.Process(target=say, args=(store.root, asked, said)) for _ in range(2)]
    for process in processes:
        process.start()
    found = {said.get(timeout=LIMIT) for _ in processes}
    for process in processes:
        process.join(timeout=LIMIT)
    assert len(found) == 1
    assert found <= {process.pid for process in processes}


# ---- digests


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were really read to be hashed."""
    seen: list[Path] = []

    def counting(path: Path) -> str:
        seen.append(path)
        return file_sha256(path)

    monkeypatch.setattr(artifacts, "file_sha256", counting)
    return seen


def test_a_digest_is_remembered_in_the_store(store: Store, tmp_path: Path, hashed: list[Path]) -> None:
    file = tmp_path / "weights"
    file.write_text("abc")
    assert store.digest(file) == Store(store.root).digest(file) == file_sha256(file)
    assert hashed == [file]


def test_a_digest_is_renewed_when_the_size_changes(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_text("abc")
    before, stat = store.digest(file), file.stat()
    file.write_text("abcd")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert store.digest(file) == file_sha256(file) != before


def test_a_digest_is_renewed_when_the_time_changes(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_text("abc")
    before, stat = store.digest(file), file.stat()
    file.write_text("xyz")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert store.digest(file) == file_sha256(file) != before


def test_digests_of_other_files_are_kept(store: Store, tmp_path: Path, hashed: list[Path]) -> None:
    files = [tmp_path / name for name in "abc"]
    for file in files:
        file.write_text(file.name)
    digests = [store.digest(file) for file in files]
    assert [store.digest(file) for file in files] == digests
    assert hashed == files


def test_digests_that_another_process_remembers_are_kept(store: Store, tmp_path: Path, hashed: list[Path]) -> None:
    files = [tmp_path / name for name in "abc"]
    for file in files:
        file.write_text(file.name)
    other = Store(store.root)
    digests = [at.digest(file) for at, file in zip((store, other, store), files, strict=True)]
    assert [Store(store.root).digest(file) for file in files] == digests
    assert hashed == files


def test_digests_that_cannot_be_read_are_computed_again(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_text("abc")
    digest = store.digest(file)
    (store.root / "digests.json").write_text("{")
    assert store.digest(file) == Store(store.root).digest(file) == digest
