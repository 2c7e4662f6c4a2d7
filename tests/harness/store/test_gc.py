"""What may go from the store and what stays."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.store import store_gc, store_ls, store_verify
from harness.core import units
from harness.core.errors import UserError
from harness.core.units import in_bytes, in_days
from harness.results import manifest as run_manifest
from harness.results import recording
from harness.results.folder import as_json
from harness.results.recording import recorded_runs, refs_of_run
from harness.store import MANIFEST, Store, gc
from harness.store.gc import Kept, damaged, find_removable, free, needed_by, refs_in
from tests.harness.making import make, quiet, read_job, respond_job, train_job


@pytest.fixture(autouse=True)
def nothing_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recording, "results_folder", lambda: tmp_path / "recorded")


def ref(letter: str, stage: str = "respond") -> str:
    return f"{stage}/{letter * 32}"


def put(store: Store, letter: str, needs: Iterable[str] = (), days: float = 9.0, text: str = "x" * 100) -> str:
    """An artifact of a job that reads these, made so many days ago."""
    name = ref(letter)
    with store.making(name) as work:
        (work / "rows.jsonl").write_text(text)
        store.commit(name, work, {"stage": "respond", "label": f"the {letter}", "reads": {"all": list(needs)}}, {}, 1.0)
    path = store.path(name) / MANIFEST
    manifest = json.loads(path.read_text())
    made = time.gmtime(time.time() - days * units.DAY)
    path.write_text(json.dumps({**manifest, "created": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", made)}))
    return name


def run_of(folder: Path, refs: Iterable[str]) -> Path:
    """The folder of a run that was made of these."""
    folder.mkdir(parents=True)
    manifest = run_manifest.Manifest(
        name="run",
        command="run",
        weights={},
        prompts={},
        judges={},
        seconds=1.0,
        cost=None,
        stages=tuple(run_manifest.Stage(label="x", ref=name, made=True) for name in refs),
        files={},
    )
    (folder / MANIFEST).write_text(as_json(manifest))
    (folder / "results.json").write_text("{}")
    return folder


def age(path: Path, days: float) -> None:
    then = time.time() - days * units.DAY
    for inside in [*path.rglob("*"), path]:
        os.utime(inside, (then, then))


def left_behind(store: Store, place: str, days: float) -> Path:
    folder = store.root / place
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").write_bytes(b"0" * 1000)
    age(folder, days)
    return folder


# ---- what needs what


def test_what_was_stamped_stays(store: Store) -> None:
    put(store, "a")
    left_behind(store, "work/respond-old", 9.0)
    store.stamp("declared", "key", lambda: {"time": "then"})
    age(store.root / "stamps", 400.0)
    store_gc(1.0, [run_of(store.root.parent / "kept", [])], yes=True)
    assert store.refs() == []
    assert store.stamped("declared", "key") == {"time": "then"}


def test_refs_are_found_wherever_they_stand_in_a_job() -> None:
    one, two, three = ref("a"), ref("b", "prompts"), ref("c", "train")
    job = {"start": {"artifact": three, "path": None}, "responses": [one, two], "settings": {"rate": 1.0}, "label": "a"}
    assert set(refs_in(job)) == {one, two, three}
    assert not list(refs_in(["respond/abc", "a word", 7, None, f"see {one}"]))


def test_the_refs_of_a_real_job_are_those_it_reads(tmp_path: Path, store: Store, student: Any) -> None:
    prompts, responses = ref("a", "prompts"), ref("b")
    assert set(refs_in(respond_job(student, prompts).model_dump(mode="json"))) == {prompts}
    job = train_job("sft", student.model_copy(update={"artifact": ref("c", "convert")}), prompts, (responses,))
    assert set(refs_in(job.model_dump(mode="json"))) == {prompts, responses, ref("c", "convert")}


def test_what_is_needed_is_needed_all_the_way_back() -> None:
    kept = [
        Kept("a", "", 1, 0, frozenset({"b"})),
        Kept("b", "", 1, 0, frozenset({"c"})),
        Kept("d", "", 1, 0, frozenset()),
    ]
    assert needed_by(["a"], kept) == {"a", "b", "c"}
    assert needed_by([], kept) == set()


# ---- gc


def test_what_no_run_needs_goes_and_the_rest_stays(tmp_path: Path, store: Store) -> None:
    first = put(store, "a")
    second = put(store, "b", [first])
    unused = put(store, "c", [first])
    kept_by_hand = put(store, "d")
    recorded = run_of(tmp_path / "recorded" / "one", [second])
    mine = run_of(tmp_path / "mine", [kept_by_hand])
    plan = find_removable(store, refs_of_run(recorded) | refs_of_run(mine), days=1)
    assert [one.ref for one in plan.artifacts] == [unused]
    assert plan.bytes == plan.artifacts[0].bytes > 100
    assert store.refs() == [first, second, unused, kept_by_hand]  # nothing has gone yet
    assert free(store, plan) == plan.bytes
    assert store.refs() == [first, second, kept_by_hand]
    assert all(store.intact(name) for name in store.refs())
    assert not any((store.root / "corrupt").iterdir())


def test_an_artifact_made_of_late_keeps_what_it_was_made_from(store: Store) -> None:
    first, unused = put(store, "a"), put(store, "b")
    late = put(store, "c", [first], days=0.5)
    assert {one.ref for one in find_removable(store, [], days=1).artifacts} == {unused}
    assert {one.ref for one in find_removable(store, [], days=0).artifacts} == {first, unused, late}


def test_what_another_process_holds_stays(store: Store) -> None:
    first, held = put(store, "a"), put(store, "b", [ref("a")])
    with store.unless_held(held) as ours:
        assert ours
        plan = find_removable(store, [], days=0)
        assert plan.artifacts == [] and plan.held == [held]
    plan = find_removable(store, [], days=0)
    assert {one.ref for one in plan.artifacts} == {first, held}
    with store.unless_held(held):  # taken between the plan and its doing
        free(store, plan)
    assert store.refs() == [held]


def test_old_workspaces_and_damaged_artifacts_go_and_new_ones_stay(store: Store) -> None:
    old, new = left_behind(store, f"work/respond-{'a' * 32}", 2), left_behind(store, f"work/train-{'b' * 32}", 0.1)
    aside = left_behind(store, f"corrupt/respond-{'c' * 32}-1", 2)
    at_work = left_behind(store, f"work/train-{'d' * 32}", 2)
    with store.making(ref("d", "train")):
        age(at_work, 2)
        plan = find_removable(store, [], days=0)
        assert [rest.path for rest in plan.rests] == [old, aside]
        assert plan.held == [at_work.name]
        assert free(store, plan) == 2000
    assert new.is_dir() and at_work.is_dir() and not old.exists() and not aside.exists()


def test_a_workspace_that_was_touched_of_late_is_not_old(store: Store) -> None:
    folder = left_behind(store, f"work/respond-{'a' * 32}", 2)
    os.utime(folder / "checkpoint.pt")
    assert find_removable(store, [], days=0).rests == []


def test_verdicts_are_never_freed(store: Store) -> None:
    put(store, "a")
    (store.root / "verdicts.sqlite").write_bytes(b"asked and paid")
    age(store.root, 100)
    free(store, find_removable(store, [], days=0))
    assert (store.root / "verdicts.sqlite").read_bytes() == b"asked and paid"
    assert store.refs() == []


def test_a_folder_to_keep_must_be_a_run_s(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no manifest"):
        refs_of_run(tmp_path)


def test_a_store_that_is_not_there_has_nothing(store: Store) -> None:
    assert find_removable(store, [], days=0) == gc.Removal()
    assert damaged(store, quiet) == []


# ---- verify


def test_a_changed_byte_is_found_though_size_and_time_are_as_before(store: Store) -> None:
    sound, broken = put(store, "a"), put(store, "b")
    file = store.path(broken) / "rows.jsonl"
    stat = file.stat()
    file.write_text("y" + "x" * 99)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert store.intact(broken)  # what is remembered says so
    assert damaged(store, quiet) == [(broken, "rows.jsonl")]
    assert store.intact(sound)


def test_cut_files_and_manifests_are_damage(store: Store) -> None:
    cut, unreadable = put(store, "a"), put(store, "b")
    (store.path(cut) / "rows.jsonl").write_text("x")
    (store.path(unreadable) / MANIFEST).write_text("{")
    assert damaged(store, quiet) == [(cut, "rows.jsonl"), (unreadable, MANIFEST)]
    assert "damaged" in next(one.label for one in gc.artifacts(store) if one.ref == unreadable)


# ---- the commands


def test_ls_says_what_is_there_and_who_needs_it(tmp_path: Path, store: Store, capsys: Any) -> None:
    first, second = put(store, "a"), put(store, "b", [ref("a")])
    put(store, "c")
    run_of(tmp_path / "recorded" / "the-recorded", [first])
    run_of(tmp_path / "runs" / "mine", [second])
    (tmp_path / "runs" / "theirs").mkdir()
    (tmp_path / "runs" / "theirs" / MANIFEST).write_text("no run's")
    store_ls()
    lines = {line.split("│")[2].strip(): line for line in capsys.readouterr().out.splitlines() if "respond/" in line}
    assert "the-recorded" in lines["the a"] and "runs/mine" in lines["the a"]
    assert "the-recorded" not in lines["the b"] and "runs/mine" in lines["the b"]
    assert lines["the c"].split("│")[5].strip() == ""
    assert " 9 d " in lines["the a"]


def test_gc_frees_nothing_until_it_is_told_to(store: Store, tmp_path: Path, capsys: Any) -> None:
    name, kept = put(store, "a"), run_of(tmp_path / "kept", [put(store, "b")])
    store_gc(1.0, [kept], yes=False)
    assert name in (said := capsys.readouterr().out) and "would go" in said and len(store.refs()) == 2
    store_gc(1.0, [kept], yes=True)
    assert "freed" in capsys.readouterr().out and store.refs() == [ref("b")]


def test_gc_frees_nothing_while_a_run_is_at_work(store: Store, tmp_path: Path) -> None:
    name, kept = put(store, "a"), run_of(tmp_path / "kept", [])
    with store.making(ref("c", "train")), pytest.raises(UserError, match=r"a run is at work in .*train-ccc"):
        store_gc(1.0, [kept], yes=True)
    assert store.refs() == [name]


def test_gc_frees_nothing_where_no_run_is_known(store: Store) -> None:
    name = put(store, "a")
    with pytest.raises(UserError, match="name runs with --keep"):
        store_gc(1.0, [], yes=True)
    assert store.refs() == [name]


def test_verify_s_status_says_whether_anything_is_damaged(store: Store, capsys: Any) -> None:
    name = put(store, "a")
    assert store_verify() == 0
    (store.path(name) / "rows.jsonl").unlink()
    assert store_verify() == 3
    assert f"DAMAGED: {name}: rows.jsonl" in capsys.readouterr().out


def test_a_recorded_run_without_a_manifest_keeps_nothing(tmp_path: Path, store: Store) -> None:
    folder = run_of(tmp_path / "recorded" / "old", [put(store, "a")])
    (folder / MANIFEST).unlink()
    assert recorded_runs() == []


# ---- a training's optimizer state


def test_a_finished_training_leaves_no_optimizer_state(
    tmp_path: Path, store: Store, student: Any, responses: Any
) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{i}", "prompt": f"Say {i}."}) + "\n" for i in range(4)))
    prompts = make(store, read_job(path))
    chosen = responses("chosen", {f"p{i}": [5, 6, 2] for i in range(4)})
    trained = make(store, train_job("sft", student, prompts, (chosen,), {"checkpoint_steps": 1}))
    files = {file.name: file.stat().st_size for file in store.path(trained).rglob("*") if file.is_file()}
    assert not [name for name in files if name.endswith((".pt", ".tmp", ".bin"))]
    weights = (Path(str(student.path)) / "model.safetensors").stat().st_size
    assert sum(files.values()) - files["tokenizer.json"] < 1.2 * weights  # moments alone would be twice as much
    assert not store.workspace(trained).exists()


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (99_949, "99.9 kB"), (999_499, "999 kB"), (999_999, "1.0 MB"),
     (2.5e9, "2.5 GB"), (1.2e12, "1200 GB")],
)  # fmt: skip
def test_sizes_for_people(size: float, text: str) -> None:
    assert in_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 min"), (600, "10 min"), (7200, "2 h"), (100_000, "28 h"), (200_000, "2 d")]
)
def test_ages_for_people(seconds: float, text: str) -> None:
    assert in_days(seconds) == text
