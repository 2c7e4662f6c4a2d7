from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from harness.config import Config, Judging
from harness.errors import UserError
from harness.jobs import VERDICTS
from harness.judging.panel import MAJORITY, MEAN
from harness.judging.proxies import EMBEDDING, TYPICALITY
from harness.models.names import Pair
from harness.pipeline import Road, open_judges
from harness.records import Verdict, write_jsonl
from harness.reporting import results
from harness.reporting.results import RECORDED, SCHEMA, read_results, record, recorded
from harness.store import Store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty benchmarks/results."""
    made = tmp_path / "benchmarks" / "results"
    made.mkdir(parents=True)
    monkeypatch.setattr(results, "results_folder", lambda: made)
    return made


def finished(run: Path, **values: Any) -> Path:
    """A run's output folder, with files that are not for the record."""
    run.mkdir(parents=True)
    config = {"student": "small"}
    found = {"schema": SCHEMA, "name": "small-seed0-abc", "note": "é", "config": {**config, "training": {}}, **values}
    (run / "results.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    (run / "verdicts.jsonl").write_text('{"prompt_id": "a"}\n')
    (run / "config.yaml").write_text("student: small\n")
    (run / "leaderboard.md").write_text("# Leaderboard\n")
    (run / "harness-run.json").write_text("{}")
    (run / "checkpoint").mkdir()
    (run / "checkpoint" / "model.safetensors").write_bytes(b"weights")
    return run


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_configuration_of_another_run_is_not_recorded(tmp_path: Path, folder: Path) -> None:
    run = finished(tmp_path / "run")
    (run / "config.yaml").write_text("student: large\n")
    with pytest.raises(UserError, match="is not the configuration of"):
        record(run)
    assert not any(folder.iterdir())


# ---- reading


def test_results_are_read(tmp_path: Path) -> None:
    assert read_results(finished(tmp_path / "run"))["note"] == "é"


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("x")])
def test_a_folder_without_results_is_refused(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "run")
    with pytest.raises(UserError, match=r"run holds no results\.json; give the output folder of a finished run"):
        read_results(tmp_path / "run")


@pytest.mark.parametrize("content", [b'{"schema": 1', b"", b'{"name": "\xe9"}'])
def test_results_that_are_no_json_are_refused(tmp_path: Path, content: bytes) -> None:
    run = finished(tmp_path / "run")
    (run / "results.json").write_bytes(content)
    with pytest.raises(UserError, match=r"results\.json: not valid JSON") as caught:
        read_results(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "{}", "null", f'{{"schema": {SCHEMA + 1}}}'])
def test_results_of_another_version_are_refused(tmp_path: Path, content: str) -> None:
    run = finished(tmp_path / "run")
    (run / "results.json").write_text(content)
    with pytest.raises(UserError, match=f"not results of this version of the harness \\(schema {SCHEMA}\\)"):
        read_results(run)


# ---- judges and their verdicts


@pytest.mark.parametrize(
    ("names", "misses"),
    [
        ("typicality,embedding", f"{TYPICALITY.misses}; {EMBEDDING.misses}"),
        ("openai:m,embedding", ""),  # one of them reads
        ("openai:m,openai:n", ""),
    ],
)
def test_a_panel_is_a_proxy_only_where_all_of_its_judges_are(names: str, misses: str) -> None:
    config = Config(student="s", judge=Judging(name=names, base_url="http://host/v1"))
    opened = open_judges(config, dict.fromkeys(config.judge.names))
    road = Road(config, Pair(student="s", teacher="t", summary=""), judges=opened)
    panels = results._panels(road)
    assert [panel["name"] for panel in panels] == [MAJORITY, MEAN]
    for panel in panels:
        assert (panel["misses"], panel["setup"]) == (misses, {"judges": names.replace(",", ", ")})


def test_a_judge_is_described_with_what_its_answers_depend_on() -> None:
    config = Config(student="s", judge=Judging(name="openai:m", base_url="http://me:pa55word@host/v1"))
    ((judge, _),) = open_judges(config, {"openai:m": None})
    found = results.described(judge)
    assert {name: found["setup"][name] for name in ("model", "server", "form", "temperature")} == {
        "model": "m",
        "server": "http://host/v1",
        "form": "auto",
        "temperature": "0",
    }
    assert "pa55" not in json.dumps(found)


def test_a_proxy_s_members_are_shown_once_beside_the_judges_that_are_named() -> None:
    config = Config(student="s", judge=Judging(name="proxy,typicality"))
    shown = [judge.name for judge, _ in open_judges(config, dict.fromkeys(config.judge.names))]
    assert shown == ["proxy", "typicality", "embedding"]


def test_verdicts_of_a_judging_that_lacks_some_are_read_where_they_lie(own_store: Path) -> None:
    store, ref = Store(own_store), "judge/abc"
    row = {"prompt_set": "s", "prompt_id": "p", "candidate": "c", "reference": "r", "order": "none", "judge": "j"}
    whole, part = Verdict(**row, status="ok", preference=1.0), Verdict(**row, status="failed")
    with store.making(ref) as work:
        write_jsonl(work / VERDICTS, [part])
    assert results.judged(ref, store) == [part]
    with store.making(ref) as work:
        write_jsonl(work / VERDICTS, [whole])
        store.commit(ref, work, {"stage": "judge"}, {}, 0.0)
    assert results.judged(ref, store) == [whole]


# ---- recording


def test_a_record_is_exactly_the_small_files(folder: Path, tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    target = record(run)
    assert target == folder / "small-seed0-abc"
    assert tree(folder) == {f"small-seed0-abc/{name}" for name in RECORDED}
    for name in RECORDED:
        assert (target / name).read_bytes() == (run / name).read_bytes()


def test_recording_again_renews_the_record(folder: Path, tmp_path: Path) -> None:
    record(finished(tmp_path / "first"))
    record(finished(tmp_path / "second", note="new"))
    assert [read_results(path)["note"] for path in recorded()] == ["new"]


def test_recorded_runs_come_by_name(folder: Path, tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        record(finished(tmp_path / name, name=name))
    (folder / "README.md").write_text("not a run")
    (folder / "empty").mkdir()
    assert [path.name for path in recorded()] == ["a", "b", "c"]


def test_nothing_is_recorded_of_a_folder_without_results(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no results\.json"):
        record(tmp_path)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["verdicts.jsonl", "config.yaml"])
def test_nothing_is_recorded_of_a_run_that_lacks_a_file(folder: Path, tmp_path: Path, name: str) -> None:
    run = finished(tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(UserError, match=f"holds no {name}; run it again"):
        record(run)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("student", ["owner/small", "{tmp}/models/small", "../models/small", "models/../small"])
def test_a_record_of_a_hub_model_or_a_folder_stays_with_the_others(folder: Path, tmp_path: Path, student: str) -> None:
    run = finished(tmp_path / "run", name=student.replace("{tmp}", str(tmp_path)) + "-seed0-abc")
    target = record(run)
    assert target.parent == folder
    assert recorded() == [target]


def test_a_record_is_not_harmed_by_recording_it_again_from_its_place(folder: Path) -> None:
    run = finished(folder / "small-seed0-abc")
    before = {path: (run / path).read_bytes() for path in tree(run)}
    with contextlib.suppress(UserError):  # nothing to do, or refused
        record(run)
    assert {path: (run / path).read_bytes() for path in tree(run)} == before
