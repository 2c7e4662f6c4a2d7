"""What a run's manifest holds: stages, what they were made with and cost, hashes of files; and no credentials."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.files import file_sha256
from harness.core.records import plain
from harness.results.manifest import changed_files, files_in, make_manifest, read_manifest
from harness.run.trainings import TEACHER_SEED
from harness.store import MANIFEST
from tests.harness.runs_made import COMMAND, FACTS, Run, Said, by_number, make_folder, rewrite

Data = dict[str, Any]
PRICES = {"prices": {"input": 2.0, "output": 10.0}}
FILES = [
    "results.json",
    "verdicts.jsonl",
    "responses.jsonl",
    "prompts.jsonl",
    "measures.jsonl",
    "tokens.json",
    "config.yaml",
    "leaderboard.md",
]


def manifest_of(run: Run) -> Data:
    found = read_manifest(run.folder)
    assert plain(found) == manifest_now(run)
    return plain(found)


def manifest_now(run: Run) -> Data:
    return plain(make_manifest(run.road, run.store, run.results, run.folder))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_folder(tmp_path_factory.mktemp("manifest"), prompts=3)


def test_a_manifest_lists_every_stage_with_its_seconds_facts_and_files(run: Run) -> None:
    found = manifest_of(run)
    assert [(stage["label"], stage["ref"]) for stage in found["stages"]] == [
        (job.label, ref) for ref, job in run.road.jobs.items()
    ]
    assert {stage["seconds"] for stage in found["stages"]} == {1.5}
    assert found["seconds"] == 1.5 * len(run.road.jobs)
    training = next(stage for stage in found["stages"] if stage["label"] == "train sft")
    assert training["facts"] == FACTS and training["made"] is True
    metrics = run.store.path(training["ref"]) / "metrics.jsonl"
    assert training["files"] == {"metrics.jsonl": {"bytes": metrics.stat().st_size, "sha256": file_sha256(metrics)}}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", training["created"])


def test_a_manifest_says_how_a_training_was_computed_and_results_and_board_do_not(tmp_path: Path) -> None:
    how = {"micro_batch_tokens": 511, "gradient_checkpointing": True, "compile": True, "checkpoint_steps": 3}
    first = make_folder(tmp_path, prompts=3, training=how)
    again = make_folder(tmp_path, "again", prompts=3)  # served from the store: nothing is trained
    for run in (first, again):
        stages = {stage["label"]: stage for stage in manifest_of(run)["stages"]}
        assert stages["train sft"]["computing"] == stages["train ddpo"]["computing"] == how
        assert [label for label, stage in stages.items() if "computing" in stage] == ["train sft", "train ddpo"]
        assert not any(how.keys() & method["settings"].keys() for method in run.data["methods"])
    assert (first.folder / "leaderboard.md").read_text() == (again.folder / "leaderboard.md").read_text()


def test_a_manifest_says_what_the_results_are_of(run: Run) -> None:
    found = manifest_of(run)
    assert (found["name"], found["command"]) == (run.data["name"], COMMAND)
    assert found["seeds"] == {"run": 0, "teacher responses on training prompts": TEACHER_SEED}
    assert found["weights"] == {**run.data["pair"]["weights"], "others": []}
    assert all(re.fullmatch("[0-9a-f]{64}", found["weights"][role]) for role in ("student", "teacher"))
    assert list(found["prompts"].values())[1:] == [entry["digest"] for entry in run.data["prompt_sets"]]
    assert {name: (judge["model"], judge["server"]) for name, judge in found["judges"].items()} == {
        "openai:m": ("m", "http://host/v1")
    }
    assert set(found["methods"]) == {"train sft", "train ddpo"}


def test_one_environment_is_listed_once(tmp_path: Path) -> None:
    run = make_folder(tmp_path, prompts=1)
    assert manifest_of(run)["environments"] == [{"python": "3.11", "cores": 2}]
    ref = run.ref("train ddpo")
    rewrite(run.store.path(ref) / MANIFEST, lambda manifest: manifest["environment"].update(cores=4))
    found = manifest_now(run)
    assert [made["cores"] for made in found["environments"]] == [2, 4]
    assert {stage["ref"]: stage["environment"] for stage in found["stages"] if stage["environment"]} == {ref: 1}


@pytest.mark.parametrize(
    ("judge", "cost"),
    [
        ({}, None),
        (PRICES, (2.0 * 600 + 10.0 * 6) / 1e6),  # three prompts in both orders, 100 tokens in and one out each
        ({"name": "openai:m,openai:n", "own": {"openai:m": PRICES}}, None),
        ({"name": "openai:m,openai:n", **PRICES}, (2.0 * 600 + 10.0 * 6) / 1e6),
    ],
    ids=["no prices", "prices", "prices of one", "prices of both"],
)
def test_costs_follow_from_tokens_and_prices_where_they_are_known(
    tmp_path: Path, judge: Data, cost: float | None
) -> None:
    run = make_folder(tmp_path, prompts=3, judge=judge)
    found = manifest_of(run)
    paid = {stage["label"]: stage["cost"] for stage in found["stages"] if "cost" in stage}
    judges = len(run.data["judging"])
    assert len(paid) == 2 * 4 * judges and all(label.startswith("judge openai:") for label in paid)
    own = {label: known for label, known in paid.items() if known is not None}
    assert own == (
        {label: pytest.approx((2.0 * 600 + 10.0 * 6) / 1e6) for label in paid if "openai:m" in label or cost}
        if cost or "own" in judge
        else {}
    )
    assert found["cost"] == (None if cost is None else pytest.approx(cost * len(paid)))


def test_a_judge_that_is_not_paid_by_tokens_has_no_cost(tmp_path: Path) -> None:
    run = make_folder(tmp_path, prompts=1)
    for ref, job in run.road.jobs.items():
        if job.stage == "judge":
            facts = {"input_tokens": 0, "output_tokens": 0}
            rewrite(run.store.path(ref) / MANIFEST, lambda manifest, facts=facts: manifest["facts"].update(facts))
    found = manifest_now(run)
    assert not any("cost" in stage for stage in found["stages"]) and found["cost"] is None


def test_judgings_that_failed_are_listed_as_not_made(tmp_path: Path) -> None:
    def failing(candidate: str, number: int) -> Said:
        return (None, 1.0) if candidate == "ddpo" else by_number(candidate, number)

    found = manifest_of(make_folder(tmp_path, say=failing, prompts=1))
    unmade = [stage for stage in found["stages"] if not stage["made"]]
    assert [set(stage) for stage in unmade] == [{"label", "ref", "made"}] * 2
    assert [stage["label"] for stage in unmade] == ["judge openai:m: ddpo, near", "judge openai:m: ddpo, far"]
    assert found["seconds"] == 1.5 * (len(found["stages"]) - 2)


def test_no_credential_is_in_any_file_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    monkeypatch.setenv("OTHER_KEY", "other-0123456789")
    own = {"openai:n": {"base_url": "https://you:pa55too@there/v1", "key_variable": "OTHER_KEY"}}
    run = make_folder(tmp_path, prompts=1, judge={"name": "openai:m,openai:n", "own": own})
    for path in (path for folder in (run.folder, run.store.root) for path in folder.rglob("*") if path.is_file()):
        assert not re.search(b"pa55|0123456789", path.read_bytes()), path
    assert "https://there/v1" in (run.folder / MANIFEST).read_text()


# ---- files


def test_a_manifest_vouches_for_every_file_but_itself(run: Run) -> None:
    known = plain(read_manifest(run.folder))["files"]
    assert list(known) == [*FILES, "metrics/ddpo.jsonl", "metrics/sft.jsonl"] == files_in(run.folder)
    assert set(known) | {MANIFEST} == {
        path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*") if path.is_file()
    }
    for name, found in known.items():
        path = run.folder / name
        assert found == {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    assert changed_files(run.folder) == []


def test_what_changed_since_is_named(tmp_path: Path) -> None:
    run = make_folder(tmp_path, prompts=1)
    (run.folder / "verdicts.jsonl").unlink()
    (run.folder / "metrics" / "sft.jsonl").write_text("")
    (run.folder / "metrics" / "other.jsonl").write_text("")
    rewrite(run.folder / MANIFEST, lambda manifest: manifest["files"].pop("config.yaml"))
    assert changed_files(run.folder) == [
        "verdicts.jsonl is missing",
        "metrics/sft.jsonl is not the file that the run wrote: its sha256 is not that of manifest.json",
        "manifest.json does not vouch for config.yaml",
        "manifest.json does not vouch for metrics/other.jsonl",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"holds no manifest\.json; give the output folder of a finished run"),
        ("{", r"manifest\.json: not valid JSON"),
        ("[]", r"manifest\.json: not a manifest of a run, it says no version"),
        ('{"schema": 2}', r"manifest\.json: a manifest of a newer version \(2, this program knows 1\); update"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(UserError, match=said):
        read_manifest(tmp_path)


def test_the_seed_of_a_bootstrap_is_said_where_there_is_one(tmp_path: Path) -> None:
    """Of two judges' κ; every other interval is by a formula."""
    found = manifest_of(make_folder(tmp_path, prompts=3, judge={"name": "openai:m,openai:n"}))
    assert found["seeds"]["bootstrap of two judges' kappa"] == 0
