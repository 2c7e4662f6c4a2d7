from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
from huggingface_hub import constants

from harness.core.errors import UserError
from harness.prompts import Library, MissingPromptsError, evaluation_set, prompt_sets, read_set, training_set
from harness.prompts.settings import PromptSource
from harness.prompts.sources import SourceTable, of_dataset

HUB_SETS = sorted(name for name, card in prompt_sets.items() if card.hub)
ONE, OTHER = "1" * 40, "2" * 40
ROWS = [{"text": f"prompt {number}"} for number in range(200)]
COLUMNS = {"prompt": "text"}


@pytest.fixture
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches of the hub and of `datasets` that hold nothing."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    return tmp_path


def library(download: bool = False, **own: dict[str, Any]) -> Library:
    made = {name: PromptSource.model_validate(source) for name, source in own.items()}
    return Library(made, download=download)


class Hub:
    """The function that fetches, with a hub behind it that has one commit."""

    def __init__(self, rows: list[dict[str, Any]], commit: str = ONE) -> None:
        self.rows, self.commit = rows, commit
        self.revisions: list[str | None] = []

    def __call__(self, source: PromptSource, download: bool) -> tuple[SourceTable, str]:
        self.revisions.append(source.revision)
        return of_dataset(datasets.Dataset.from_list(self.rows), str(source.hub)), self.commit


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(ROWS)
    monkeypatch.setattr("harness.prompts.fetch.fetch", made)
    return made


def in_datasets_cache(cache: Path, commit: str, rows: list[dict[str, Any]]) -> None:
    """A data set `owner/tiny` as `datasets` leaves it in its cache."""
    source = cache / f"{commit}.parquet"
    datasets.Dataset.from_list(rows).to_parquet(source)
    builder = datasets.load_dataset_builder("parquet", data_files={"train": str(source)}, cache_dir=str(cache / "made"))
    builder.download_and_prepare()
    target = cache / "datasets" / "owner___tiny" / "default" / "0.0.0" / commit
    target.parent.mkdir(parents=True, exist_ok=True)
    Path(builder.cache_dir).rename(target)
    for file in target.iterdir():
        file.rename(file.with_name(file.name.replace("parquet-", "tiny-")))


def in_hub_cache(cache: Path, commit: str, name: str, rows: list[dict[str, Any]]) -> None:
    """A file of the data set `owner/tiny` as the hub's client leaves it in its cache."""
    folder = cache / "hub" / "datasets--owner--tiny"
    path = folder / "snapshots" / commit / name
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(rows))
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(commit)


# ---- from a hub


def test_a_hub_s_set_is_read_again_at_its_commit(hub: Hub) -> None:
    there = library(mine={"hub": "owner/tiny", "columns": COLUMNS})
    found = training_set("mine", there)
    assert found.source == f"owner/tiny@{ONE}" and found.read_from.revision == ONE
    assert [prompt.messages[0].content for prompt in found.prompts] == [row["text"] for row in ROWS]
    assert read_set("mine", found.read_from, download=False) == found
    assert hub.revisions == [None, ONE]


def test_a_hub_s_rows_without_a_prompt_are_left_out_and_counted(hub: Hub) -> None:
    hub.rows = [{"text": "one"}, {"text": " "}, {"text": None}, {"text": "one"}]
    found = training_set("mine", library(mine={"hub": "owner/tiny", "columns": COLUMNS}))
    assert (found.skipped, found.duplicates, len(found.prompts)) == (2, 1, 1)
    hub.rows = hub.rows[1:3]
    with pytest.raises(UserError, match=r"^owner/other: no prompts in it \(owner/other: row 1: an empty prompt\)$"):
        training_set("mine", library(mine={"hub": "owner/other", "columns": COLUMNS}))


def test_a_named_set_is_in_domain_for_training_on_its_other_part(hub: Hub) -> None:
    hub.rows = [{"instruction": row["text"], "context": "", "category": "x"} for row in ROWS]
    there = library()
    train, other = training_set("dolly", there), training_set("everyday-train", there)
    test, in_domain = evaluation_set("dolly-test", train, there)
    assert in_domain and not evaluation_set("dolly-test", other, there)[1]
    ours, theirs = ({prompt.messages for prompt in found.prompts} for found in (train, test))
    assert len(ours) + len(theirs) == len(ROWS) and not ours & theirs and theirs


# ---- from the local caches, with no hub


@pytest.mark.parametrize("download", [True, False])
@pytest.mark.parametrize("name", HUB_SETS)
def test_a_hub_s_set_that_is_not_here_fails_at_once(
    empty_caches: Path, monkeypatch: pytest.MonkeyPatch, name: str, download: bool
) -> None:
    tried: list[Any] = []
    for step in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, step, lambda sock, address: tried.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: tried.append(host))
    monkeypatch.setattr(time, "sleep", tried.append)
    with pytest.raises(MissingPromptsError, match=r"is not in a local cache, and HF_HUB_OFFLINE is set; ") as caught:
        training_set(name, library(download))
    assert "\n" not in str(caught.value)
    assert tried == []


def test_nothing_is_downloaded_unasked(empty_caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub, "HfApi", None)
    for name in ("dolly", "alpaca-eval"):
        with pytest.raises(MissingPromptsError, match="nothing is downloaded now; `run` fetches it"):
            training_set(name, library())


@pytest.mark.parametrize("name", ["dolly", "alpaca-eval"])
def test_a_hub_out_of_reach_ends_in_one_line(empty_caches: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def refuse(*_: Any, timeout: float, **__: Any) -> Any:
        assert timeout <= 5
        raise ConnectionError("no network")

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    with pytest.raises(
        MissingPromptsError,
        match=r"the hub cannot be reached \(ConnectionError\); try again later, or name a file",
    ):
        training_set(name, library(download=True))


def test_what_datasets_has_in_its_cache_needs_no_hub(empty_caches: Path) -> None:
    in_datasets_cache(empty_caches, ONE, ROWS[:2])
    found = training_set("mine", library(mine={"hub": "owner/tiny", "columns": COLUMNS}))
    assert found.source == f"owner/tiny@{ONE}" and len(found.prompts) == 2
    in_datasets_cache(empty_caches, OTHER, ROWS[:3])
    for commit, count in ((ONE, 2), (OTHER, 3)):
        source = {"hub": "owner/tiny", "columns": COLUMNS, "revision": commit}
        found = training_set("mine", library(mine=source))
        assert found.source == f"owner/tiny@{commit}" and len(found.prompts) == count
    with pytest.raises(MissingPromptsError):
        training_set("mine", library(mine={**source, "revision": "3" * 40}))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"columns": {"prompt": "x"}}, r"^owner/tiny: there is no column 'x'; its columns are text$"),
        ({"split": "dev"}, r'^owner/tiny: Unknown split "dev"'),
    ],
)
def test_a_wrong_column_or_split_names_those_there_are(empty_caches: Path, more: dict[str, Any], message: str) -> None:
    in_datasets_cache(empty_caches, ONE, ROWS[:2])
    with pytest.raises(UserError, match=message):
        training_set("mine", library(mine={"hub": "owner/tiny", "columns": COLUMNS, **more}))


@pytest.mark.parametrize("revision", [None, "main", ONE])
def test_a_file_in_the_hub_s_cache_needs_no_hub(empty_caches: Path, revision: str | None) -> None:
    in_hub_cache(empty_caches, ONE, "data/all.json", ROWS[:2])
    source = {"hub": "owner/tiny", "file": "data/all.json", "columns": COLUMNS, "revision": revision}
    found = training_set("mine", library(mine=source))
    assert found.source == f"owner/tiny@{ONE}" and len(found.prompts) == 2


@pytest.mark.parametrize("more", [{}, {"file": "a.json"}])
def test_a_name_that_no_hub_id_can_have_is_refused(
    empty_caches: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(UserError, match="'a b/c' is not a hub id"):
        training_set("mine", library(download=True, mine={"hub": "a b/c", **more}))
