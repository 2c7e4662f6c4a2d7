"""Tasks of lm-evaluation-harness: known by their content, refused in a line, and silent."""

from __future__ import annotations

import json
import random
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from tqdm.auto import tqdm

from harness.core.errors import UserError
from harness.measures import tasks
from harness.measures.tasks import TaskScore, find_tasks, unloadable
from harness.store import Store
from tests.harness.making import quiet
from tests.harness.measures.task_files import DOCUMENTS, TASK, task_file


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` makes of data files."""
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


def refusal(store: Store, path: Path) -> str:
    (line,) = unloadable(find_tasks([str(path)]), store)
    assert "\n" not in line
    return line


# ---- found


def test_a_task_is_known_by_its_own_name_and_content_wherever_it_lies(tmp_path: Path) -> None:
    one, other = task_file(tmp_path / "a"), task_file(tmp_path / "b", "other.yml")
    (first,) = find_tasks([str(one)]).values()
    (second,) = find_tasks([str(other)]).values()
    assert (first.name, first.file) == ("sums", one)
    assert (second.name, second.digest) == ("sums", first.digest)


def test_whatever_defines_a_task_is_in_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base.yaml").write_text("output_type: multiple_choice\n")
    (tmp_path / "utils.py").write_text("def text(doc):\n    return doc['question']\n")
    file = task_file(tmp_path, include="base.yaml")
    file.write_text(file.read_text().replace("'{{question}}'", "!function utils.text"))

    def digest() -> str:
        return find_tasks([str(file)])["sums"].digest

    found = [digest()]
    for name in ("base.yaml", "utils.py", "sums.yaml"):
        path = tmp_path / name
        path.write_text(path.read_text() + "\n# changed\n")
        found.append(digest())
    with (tmp_path / "sums.jsonl").open("a") as data:
        data.write(json.dumps(DOCUMENTS[0]) + "\n")
    found.append(digest())
    monkeypatch.setattr(metadata, "version", lambda package: "0.5")
    found.append(digest())
    assert len(set(found)) == len(found)
    (tmp_path / "beside.txt").write_text("nothing of it")
    assert digest() == found[-1]


@pytest.mark.parametrize("files", ["part-*.jsonl", ["part-0.jsonl", "part-1.jsonl"], {"test": ["part-*.jsonl"]}])
def test_data_in_several_files_counts_whole(tmp_path: Path, files: Any) -> None:
    file = task_file(tmp_path, dataset_kwargs={"data_files": files})
    for part in (0, 1):
        (tmp_path / f"part-{part}.jsonl").write_text("{}\n")
    before = find_tasks([str(file)])["sums"].digest
    (tmp_path / "part-1.jsonl").write_text('{"a": 1}\n')
    assert find_tasks([str(file)])["sums"].digest != before


def test_data_where_the_command_is_given_is_found_after_data_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = task_file(tmp_path / "tasks")
    (tmp_path / "sums.jsonl").write_text("{}\n")
    beside = find_tasks([str(file)])["sums"].digest
    (tmp_path / "tasks" / "sums.jsonl").unlink()
    here = find_tasks([str(file)])["sums"].digest
    (tmp_path / "sums.jsonl").unlink()
    assert len({beside, here, find_tasks([str(file)])["sums"].digest}) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is no mapping of settings"),
        ("- a\n- b\n", "it is no mapping of settings"),
        ("methods: [sft]\n", "it names neither a task nor a group"),
        ("task: [one]\n", "it names neither a task nor a group"),
        ("task: [one\n", "cannot be read as YAML"),
        ("include: none.yaml\n", "none.yaml cannot be read as YAML (["),
    ],
)
def test_a_file_that_is_no_task_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "task.yaml").write_text(text)
    with pytest.raises(UserError, match=r"^retention: ") as caught:
        find_tasks([str(tmp_path / "task.yaml")])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_not_there_and_names_that_are_taken_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"retention: there is no file none\.yaml"):
        find_tasks(["none.yaml"])
    both = [str(task_file(tmp_path / "a")), str(task_file(tmp_path / "b"))]
    with pytest.raises(UserError, match="two tasks are named 'sums'; rename one"):
        find_tasks(both)


def test_without_the_package_the_command_that_brings_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", none)
    assert find_tasks([]) == {}
    with pytest.raises(UserError, match=r"not installed; pip install '\.\[lm-eval\]'$"):
        find_tasks(["arc_easy"])


# ---- loaded


def test_a_task_that_can_be_asked_is_loaded_once(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_tasks([str(task_file(tmp_path))])
    assert list(unloadable(found, store)) == []
    monkeypatch.setattr(tasks, "_try", lambda task: pytest.fail("it was loaded already"))
    assert list(unloadable(found, store)) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dataset_kwargs": {"data_files": {"test": "none.jsonl"}}}, "none.jsonl"),
        ({"test_split": "tset"}, "(KeyError: 'tset')"),
        ({"test_split": None}, "must have valid or test docs"),
        ({"doc_to_tekst": "x"}, "unexpected keyword argument 'doc_to_tekst'"),
        ({"doc_to_text": "{{question"}, "(TemplateSyntaxError: "),
        ({"doc_to_text": "{{1 / 0}}"}, "(ZeroDivisionError: division by zero)"),
        ({"doc_to_target": "{{nothing.of.it}}"}, "(UndefinedError: 'nothing' is undefined)"),
    ],
)
def test_a_task_that_cannot_be_asked_is_refused_before_any_work(
    store: Store, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    file = task_file(tmp_path, **changed)
    line = refusal(store, file)
    assert line.startswith(f"retention: task {file} cannot be asked (") and said in line


@pytest.mark.parametrize(("mark", "said"), [("UNSAFE_CODE", "runs code that models write"), ("MULTIMODAL", "pictures")])
def test_a_task_that_is_asked_of_no_model_here_is_refused_too(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, said: str
) -> None:
    loaded = {"tasks": {"sums": SimpleNamespace(**{mark: True})}}
    monkeypatch.setattr(tasks, "_loaded", lambda task: loaded)
    assert said in refusal(store, task_file(tmp_path, description=mark))


@pytest.mark.parametrize(
    ("variable", "why"),
    [("HF_HUB_OFFLINE", "HF_HUB_OFFLINE is set; load it once"), (None, "the hub cannot be reached; load it once")],
)
def test_data_that_are_not_here_are_said_with_what_keeps_them(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, why: str
) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "1")

    def unreachable(task: Any) -> Any:
        raise ConnectionError("Couldn't reach 'someone/data' on the Hub")

    monkeypatch.setattr(tasks, "_loaded", unreachable)
    file = task_file(tmp_path, dataset_path="someone/data", dataset_kwargs=None)
    line = refusal(store, file)
    assert f"the data of task {file} are not here" in line and why in line


@pytest.mark.parametrize(
    ("name", "advice"),
    [("arc_eazy", "; did you mean 'arc_easy'?"), ("zzzzzz", "; `lm-eval ls tasks` lists all")],
)
def test_a_name_that_the_package_does_not_have_comes_with_the_nearest(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str, advice: str
) -> None:
    known = SimpleNamespace(task_index={"arc_easy": None}, all_tasks=["arc_easy", "hellaswag"])
    monkeypatch.setattr(tasks, "_manager", lambda with_the_package_s: known)
    (line,) = unloadable(find_tasks([name]), store)
    assert line == f"retention: lm-evaluation-harness has no task '{name}'{advice}"


# ---- asked


@pytest.fixture(scope="module")
def model(checkpoints: dict[str, Path]) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = checkpoints["llama"]
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def ask(model: tuple[Any, Any], file: Path, limit: int | None = None, tick: Any = quiet) -> Any:
    (task,) = find_tasks([str(file)]).values()
    return tasks.ask(*model, task, limit, 2, "fp32", tick)


def choices_by_hand(model: tuple[Any, Any]) -> list[bool]:
    """Whether each document's right choice is the likelier continuation of its question, asked as a chat."""
    causal_lm, tokenizer = model
    right = []
    for row in DOCUMENTS:
        messages = [{"role": "user", "content": row["question"]}]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        sums = []
        for choice in row["choices"]:
            before, whole = (tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, prompt + choice))
            assert whole[: len(before)] == before
            labels = torch.tensor(whole[len(before) :])[:, None]
            with torch.no_grad():
                logits = causal_lm(torch.tensor([whole])).logits[0, len(before) - 1 : -1]
            sums.append(float(torch.log_softmax(logits, -1).gather(1, labels).sum()))
        right.append(sums.index(max(sums)) == row["answer"])
    return right


def test_a_chat_model_is_asked_in_its_template(model: tuple[Any, Any], tmp_path: Path) -> None:
    (score,), how = ask(model, task_file(tmp_path, target_delimiter=""))
    right = choices_by_hand(model)
    assert (score.task, score.metric, score.value, score.n) == ("sums", "acc", sum(right) / 6, 6)
    assert score.standard_error is not None and score.higher_is_better
    assert how == {"shots": {"sums": 0}, "documents": {"sums": 6}, "versions": {"sums": 1.0}}


def test_a_limit_takes_the_first_documents(model: tuple[Any, Any], tmp_path: Path) -> None:
    (score,), _ = ask(model, task_file(tmp_path), limit=4)
    assert score.n == 4
    (score,), _ = ask(model, task_file(tmp_path), limit=1)
    assert (score.n, score.standard_error) == (1, None)


def test_texts_that_are_generated_are_scored_too(model: tuple[Any, Any], tmp_path: Path) -> None:
    metric = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
    file = task_file(
        tmp_path,
        output_type="generate_until",
        doc_to_choice=None,
        generation_kwargs={"until": ["\n"], "max_gen_toks": 4, "do_sample": False},
        metric_list=[metric],
    )
    (score,), _ = ask(model, file, limit=2)
    assert (score.metric, score.value) == ("exact_match", 0.0)


def test_asking_is_silent_shows_its_progress_and_leaves_random_numbers_alone(
    model: tuple[Any, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ticks: list[tuple[int, int]] = []
    random.seed(3)
    torch.manual_seed(3)
    before = random.getstate(), torch.get_rng_state()
    capfd.readouterr()
    ask(model, task_file(tmp_path), tick=lambda done, total, note="": ticks.append((done, total)))
    assert capfd.readouterr() == ("", "")
    assert (12, 12) in ticks  # of each document both choices
    assert random.getstate() == before[0] and torch.equal(torch.get_rng_state(), before[1])
    list(tqdm(range(2)))
    assert "2/2" in capfd.readouterr().err


def test_a_group_of_ones_own_is_one_row_and_its_data_are_in_its_digest(
    model: tuple[Any, Any], store: Store, tmp_path: Path
) -> None:
    member = {**TASK, "task": "member"}
    mean = {"metric": "acc", "aggregation": "mean", "weight_by_size": True}
    file = task_file(tmp_path, "all.yaml", **dict.fromkeys(TASK), group="all", aggregate_metric_list=[mean])
    file.write_text(file.read_text() + yaml.safe_dump({"task": [member, {**member, "task": "other"}]}))
    assert list(unloadable(find_tasks([str(file)]), store)) == []
    (score,), how = ask(model, file)
    assert (score.task, score.metric, score.n) == ("all", "acc", 12)
    assert how["documents"] == {"all::member": 6, "all::other": 6}
    before = find_tasks([str(file)])["all"].digest
    (tmp_path / "sums.jsonl").write_text(json.dumps(DOCUMENTS[0]) + "\n")
    assert find_tasks([str(file)])["all"].digest != before


def test_of_a_group_its_own_figure_is_shown_and_else_each_task_s() -> None:
    row = {"name": "x", "alias": " - x", "sample_len": 4, "acc,none": 0.5, "acc_stderr,none": 0.25}
    found = {
        "results": {"one": row, "two": {**row, "acc,none": 0.75, "f1,strict": float("nan")}},
        "higher_is_better": {"one": {"acc": True}, "two": {"acc": True}, "all": {"acc": True}},
    }
    one = TaskScore(task="one", metric="acc", value=0.5, standard_error=0.25, n=4, higher_is_better=True)
    assert tasks._scores("all", found) == [one, one.model_copy(update={"task": "two", "value": 0.75})]
    whole = {
        "name": "all",
        "sample_len": 8,
        "sample_count": {"acc,none": 8},
        "acc,none": 0.625,
        "acc_stderr,none": "N/A",
    }
    assert tasks._scores("all", {**found, "groups": {"all": whole}}) == [
        TaskScore(task="all", metric="acc", value=0.625, standard_error=None, n=8, higher_is_better=True)
    ]
