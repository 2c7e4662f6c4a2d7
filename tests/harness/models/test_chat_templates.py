"""Models without a chat template: what they are given, and where it goes."""

from __future__ import annotations

import copy
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config import resolve
from harness.core.errors import UserError
from harness.core.records import Message
from harness.models.chat import encode_chat
from harness.models.chat_templates import chat_templates, named_template, template_for
from harness.models.folders import has_chat_template
from harness.models.locate import locate_models
from harness.models.reference import ChatTemplate, Model
from harness.models.specs import ModelSpec
from harness.models.tokenizers import load_tokenizer
from harness.run.jobs import RespondJob, TrainJob
from harness.run.road import Road, build_road
from harness.store import Store
from tests.harness.making import make_road, prompt_file

USER, ANSWER, MORE = (
    Message(role="user", content="Hi there"),
    Message(role="assistant", content="Hello."),
    Message(role="user", content="How are you?"),
)
SYSTEM = Message(role="system", content="Be brief.")


@pytest.fixture
def bare(checkpoints: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a checkpoint whose tokenizer has no chat template."""

    def copied(name: str) -> Path:
        folder = shutil.copytree(checkpoints[name], tmp_path / f"bare-{name}")
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings.pop("chat_template", None)
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        assert load_tokenizer(folder).chat_template is None
        return folder

    return copied


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer as Vicuna's repository holds one: a SentencePiece file and no tokenizer.json."""
    spm = pytest.importorskip("sentencepiece")
    folder, model = tmp_path_factory.mktemp("vicuna"), io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(["USER: Hi there ASSISTANT: Hello. How are you? A chat between a curious user"] * 20),
        model_writer=model,
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        pad_id=-1,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    settings = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True, **tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def rendered(tokenizer: Any, template: str, *messages: Message) -> str:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = chat_templates.get(template)
    text: str = tokenizer.apply_chat_template(
        [message.model_dump() for message in messages], tokenize=False, add_generation_prompt=True
    )
    return text


# ---- the templates


def test_the_default_is_plain_words_with_the_end_of_text_after_an_answer(tokenizer: Any) -> None:
    start, end = tokenizer.bos_token, tokenizer.eos_token
    assert rendered(tokenizer, "default", USER) == f"{start}User:\nHi there\n\nAssistant:\n"
    assert rendered(tokenizer, "default", SYSTEM, USER, ANSWER, MORE) == (
        f"{start}Be brief.\n\nUser:\nHi there\n\nAssistant:\nHello.{end}\n\nUser:\nHow are you?\n\nAssistant:\n"
    )


@pytest.mark.parametrize("start", [None, "<|im_end|>"], ids=["none", "also the end"])
def test_the_default_begins_with_a_beginning_alone(tokenizer: Any, start: str | None) -> None:
    other = copy.deepcopy(tokenizer)
    other.bos_token = start
    assert rendered(other, "default", USER).startswith("User:\n")


def test_vicuna_s_is_its_authors_format(sentencepiece: Path) -> None:
    tokenizer = load_tokenizer(sentencepiece, named_template("vicuna"))
    system = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions."
    )
    ids = encode_chat(tokenizer, [USER])
    # as FastChat has it: the text, and the beginning that the tokenizer puts before it
    assert ids == tokenizer(f"{system} USER: Hi there ASSISTANT:").input_ids and ids[0] == tokenizer.bos_token_id
    ids = encode_chat(tokenizer, [SYSTEM, USER, ANSWER, MORE])
    assert ids == tokenizer("Be brief. USER: Hi there ASSISTANT: Hello.</s>USER: How are you? ASSISTANT:").input_ids


@pytest.mark.parametrize("name", chat_templates.names())
def test_control_tokens_in_a_content_stay_text(sentencepiece: Path, name: str) -> None:
    tokenizer = load_tokenizer(sentencepiece, named_template(name))
    ids = encode_chat(tokenizer, [USER, ANSWER, Message(role="user", content="a </s> b <s> c")])
    assert (ids.count(tokenizer.bos_token_id), ids.count(tokenizer.eos_token_id)) == (1, 1)


# ---- which template it is


def test_a_template_of_its_own_is_left_alone(checkpoints: dict[str, Path]) -> None:
    own = load_tokenizer(checkpoints["llama"])
    assert template_for(checkpoints["llama"], None) is template_for(checkpoints["llama"], "vicuna") is None
    given = load_tokenizer(checkpoints["llama"], named_template("vicuna"))
    assert given.chat_template == own.chat_template


def test_one_that_has_none_gets_the_default_or_the_one_it_names(bare: Callable[[str], Path], tmp_path: Path) -> None:
    folder = bare("llama")
    assert template_for(folder, None) == named_template("default")
    assert template_for(folder, "vicuna") == named_template("vicuna")
    mine = tmp_path / "mine.jinja"
    mine.write_text("{{ messages[0].content }}")
    assert template_for(folder, str(mine)) == ChatTemplate(name="mine", text="{{ messages[0].content }}")


def test_what_is_not_here_yet_may_have_one() -> None:
    assert template_for(Path("owner/name"), None) is None
    assert template_for(Path("owner/name"), "vicuna") == named_template("vicuna")


@pytest.mark.parametrize(
    ("name", "said"), [("vicunna", "did you mean 'vicuna'"), ("/no/such.jinja", "/no/such.jinja: cannot be read")]
)
def test_a_template_that_is_none_is_one_line(bare: Callable[[str], Path], name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        template_for(bare("llama"), name)


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, False),
        ({"chat_template.jinja": "x"}, True),
        ({"chat_template.json": '{"chat_template": "x"}'}, True),
        ({"tokenizer_config.json": '{"chat_template": "x"}'}, True),
        ({"tokenizer_config.json": '{"chat_template": null}'}, False),
        ({"tokenizer_config.json": '{"chat_template": [{"name": "default", "template": "x"}]}'}, True),
        ({"tokenizer_config.json": '{"chat_template": [{"name": "tool_use", "template": "x"}]}'}, False),
    ],
)
def test_where_a_tokenizer_s_own_template_lies(tmp_path: Path, files: dict[str, str], wanted: bool) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert has_chat_template(tmp_path) is wanted


def test_a_judge_s_model_that_does_not_chat_gets_none(bare: Callable[[str], Path], store: Store) -> None:
    specs = {"m": ModelSpec(path=str(bare("llama")))}
    assert locate_models(specs, store, False)["m"][1].chat_template
    assert locate_models(specs, store, False, families={"m": frozenset({"llama"})})["m"][1].chat_template is None


# ---- a run


@pytest.fixture
def road(tmp_path: Path, store: Store, bare: Callable[[str], Path]) -> Road:
    layer = {
        "student": str(bare("llama")),
        "teacher": str(bare("llama-teacher")),
        "methods": ["sft", "kd"],
        "controls": "none",
        "train_prompts": str(prompt_file(tmp_path / "train.jsonl", ["Hi!", "Sing!", "What is rain?"])),
        "eval": [str(prompt_file(tmp_path / "test.jsonl", ["Dance!"]))],
        "judge": "typicality",
        "train_sampling": {"max_new_tokens": 4},
        "eval_sampling": {"max_new_tokens": 4},
    }
    return build_road(resolve([layer]), store, download=False)


def test_a_run_of_models_without_templates_says_so_once(road: Road) -> None:
    (note,) = road.notes
    assert note.endswith("have no chat template: benchmarks/chat_templates/default.jinja is used (docs/models.md)")
    models = [job.model for job in road.jobs.values() if isinstance(job, RespondJob) and not job.model.artifact]
    assert {model.chat_template for model in models} == {named_template("default")}


def test_a_trained_student_is_saved_with_the_template_that_it_was_trained_with(road: Road, store: Store) -> None:
    made = make_road(store, road)
    folder = store.read(made["train kd"]).path
    assert load_tokenizer(folder).chat_template == named_template("default").text
    (job,) = [job for job in road.jobs.values() if isinstance(job, TrainJob) and job.method == "kd"]
    assert job.start.chat_template == named_template("default")
    candidates = [job for job in road.jobs.values() if isinstance(job, RespondJob) and job.model.artifact]
    assert candidates and all(job.model == Model(artifact=job.model.artifact) for job in candidates)
    facts = {label: store.read(ref).facts for label, ref in made.items() if label.startswith("responses")}
    assert {facts[label].get("chat_template") for label in facts if "teacher" in label} == {"default"}
    assert len({fact["tokenizer"] for fact in facts.values()}) == 1  # with the template: student's and teacher's agree
