"""Judges by name: what there is, what is missing, and the settings of one judge of several."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.records import Message, Prompt
from harness.judging import Answer, Checkpoint, Judge, JudgeFactory, judges, open_judge
from harness.judging.api import OpenAIJudge
from harness.judging.local import TransformersJudge, VLLMJudge
from harness.judging.pairrm import PairRM
from harness.judging.proxies import JUDGES, PROXY
from harness.judging.registry import JudgeRegistry, checkpoint_in, checkpoint_of, factory_of, whole
from harness.judging.settings import Judging
from harness.models import memory
from harness.models.shapes import Shape
from harness.serving.settings import VLLM
from harness.store import Store
from tests.harness.asking import FakeJudge
from tests.harness.making import model_at

HERE = Checkpoint("digest", None)
URL = "http://127.0.0.1:9/v1"


def opened(name: str, checkpoint: Checkpoint | None = None, vllm: VLLM | None = None, **settings: Any) -> Any:
    judging = Judging.model_validate({"name": name, "base_url": URL, **settings})
    return open_judge(judging.names[0], judging, checkpoint, vllm or VLLM())


# ---- names


@pytest.mark.parametrize(
    ("name", "kind", "model"),
    [
        ("openai:gpt-5-mini", "openai", "gpt-5-mini"),
        ("openai:org/model:free", "openai", "org/model:free"),
        ("pairrm", "pairrm", "llm-blender/PairRM-hf"),
        ("pairrm:/my/folder", "pairrm", "/my/folder"),
        ("transformers:qwen2.5-1.5b", "transformers", "qwen2.5-1.5b"),
        ("vllm:Qwen/Qwen2.5-7B-Instruct", "vllm", "Qwen/Qwen2.5-7B-Instruct"),
    ],
)
def test_a_name_says_the_kind_and_the_model(name: str, kind: str, model: str) -> None:
    factory, named = factory_of(name)
    assert (factory.name, named) == (kind, model)


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.name)
def test_a_judge_that_is_whole_names_no_model_and_is_opened_as_it_is(judge: Judge) -> None:
    assert factory_of(judge.name)[1] == "" and checkpoint_of(judge.name) is None
    assert judges.get(judge.name).measures == judge.measures
    assert opened(judge.name) is judge


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("prosy", "unknown judge 'prosy'; did you mean 'proxy'?"),
        ("opnai:m", "unknown judge 'opnai:m'; did you mean 'openai'?"),
        ("pair-rm:/f", "unknown judge 'pair-rm:/f'; did you mean 'pairrm'?"),
        (
            "gpt-5",
            "unknown judge 'gpt-5'; known: embedding, openai, pairrm, proxy, transformers, typicality, vllm",
        ),
        ("proxy:m", "unknown judge 'proxy:m'; did you mean 'proxy'?"),
        (":m", "unknown judge ':m'; known: embedding, openai, pairrm, proxy, transformers, typicality, vllm"),
        ("openai", "judge 'openai' names no model; say openai:MODEL"),
        ("openai:", "judge 'openai:' names no model; say openai:MODEL"),
        ("transformers", "judge 'transformers' names no model; say transformers:MODEL"),
        ("vllm:", "judge 'vllm:' names no model; say vllm:MODEL"),
        ("pairrm:", "judge 'pairrm:' names no model after the colon"),
    ],
)
def test_a_name_that_is_none_is_refused_with_what_to_say(name: str, message: str) -> None:
    for refuse in (factory_of, checkpoint_of, opened):
        with pytest.raises(UserError) as caught:
            refuse(name)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("openai:m", None),
        ("pairrm", ("llm-blender/PairRM-hf", frozenset({"deberta-v2"}))),
        ("pairrm:/f", ("/f", frozenset({"deberta-v2"}))),
        ("transformers:m", ("m", None)),
        ("vllm:m", ("m", None)),
    ],
)
def test_a_local_judge_says_which_checkpoint_it_reads(name: str, needs: object) -> None:
    assert checkpoint_of(name) == needs


# ---- what is opened


def test_a_judge_behind_a_server_has_its_settings() -> None:
    judge = opened("openai:m", form="rationale", temperature=0.5, max_tokens=77)
    assert isinstance(judge, OpenAIJudge)
    assert (judge.name, judge.model, judge.server, judge.form) == ("openai:m", "m", URL, "rationale")
    assert judge.setup["temperature"] == "0.5" and judge.setup["template"].startswith("default (")
    assert judge.reply_tokens == (77, 77)
    assert opened("openai:m", form="letter").reply_tokens == (1, 1)
    assert PROXY.reply_tokens is None


def test_only_what_is_paid_by_tokens_has_prices() -> None:
    judging = Judging.model_validate({"name": "proxy,openai:m", "base_url": URL, "prices": {"input": 1, "output": 2}})
    assert open_judge("proxy", judging).prices is None
    assert open_judge("openai:m", judging).prices == judging.prices


@pytest.mark.parametrize(("name", "kind"), [("transformers:m", TransformersJudge), ("vllm:m", VLLMJudge)])
def test_a_local_judge_is_known_by_its_checkpoint_before_that_is_there(name: str, kind: type) -> None:
    judge = opened(name, HERE)
    assert isinstance(judge, kind)
    other = opened(name, Checkpoint("another digest", None))
    assert judge.digest == opened(name, HERE).digest != other.digest


@pytest.mark.parametrize("form", ["rationale", "structured"])
@pytest.mark.parametrize("name", ["transformers:m", "vllm:m"])
def test_a_local_judge_is_asked_for_a_letter_alone(name: str, form: str) -> None:
    with pytest.raises(UserError, match=f"judge '{name}' is asked for a letter"):
        opened(name, HERE, form=form)


def test_vllm_has_its_own_section() -> None:
    judge = opened("vllm:m", HERE, VLLM(python="/p", max_model_len=512, engine={"b": 1, "a": 2}))
    assert (judge.python, judge.max_model_len, judge.engine) == ("/p", 512, (("a", 2), ("b", 1)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_cost": 1.0}, r"judge\.max_cost needs judge\.prices\.input and judge\.prices\.output"),
        ({"max_cost": 1.0, "prices": {"input": 1.0}}, r"judge\.max_cost needs"),
        ({"template": "defalt"}, "default"),
    ],
)
def test_what_a_judge_lacks_is_said_when_it_is_opened(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        opened("openai:m", **settings)


def test_the_server_of_openai_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    judge = opened("openai:m", base_url=None)  # to plan with
    with pytest.raises(UserError, match="export OPENAI_API_KEY="):
        judge.require_key()


# ---- several


def test_one_judge_of_several_has_its_own_settings() -> None:
    own = {"openai:b": {"temperature": 1.0, "form": "rationale", "base_url": "http://127.0.0.1:8/v1"}}
    judging = Judging.model_validate({"name": "openai:a,openai:b", "base_url": URL, "own": own})
    one, other = (open_judge(name, judging) for name in judging.names)
    assert (one.server, one.form, one.temperature) == (URL, "auto", 0.0)
    assert (other.server, other.form, other.temperature) == ("http://127.0.0.1:8/v1", "rationale", 1.0)
    assert one.digest == opened("openai:a").digest


def test_credentials_of_a_url_are_nowhere_in_a_judge() -> None:
    judge = opened("openai:m", base_url="http://user:pa55word@127.0.0.1:9/v1")
    for text in (repr(judge), judge.summary, str(judge.setup), str(judge.identity())):
        assert "pa55" not in text
    assert judge.digest == opened("openai:m").digest


KEPT = {
    "openai:m": "0be55e0dafb12cee",
    "pairrm": "73714aa1c8ecc92d",
    "transformers:m": "574cd4e57fb99325",
    "vllm:m": "13927372ed4e736a",
}
KEPT_ENGINE = "c3e3237aeefa96ea"  # of vLLM with a setting of its own


@pytest.mark.parametrize(("name", "digest"), KEPT.items(), ids=KEPT)
def test_what_was_paid_for_stays_under_the_digest_that_it_has(name: str, digest: str) -> None:
    judge = PairRM(name, "digest", Path("x")) if name == "pairrm" else opened(name, HERE)
    if name != "pairrm":
        judge = replace(judge, template=replace(judge.template, digest="template"))
    assert judge.digest[:16] == digest


def test_what_was_paid_for_with_another_engine_stays_too() -> None:
    judge = opened("vllm:m", HERE, VLLM(engine={"quantization": "fp8"}))
    assert replace(judge, template=replace(judge.template, digest="template")).digest[:16] == KEPT_ENGINE


def test_the_digest_of_every_judge_that_comes_along_is_held() -> None:
    held = {name.partition(":")[0] for name in KEPT} | {judge.name for judge in JUDGES}  # see test_proxies
    assert held == set(judges.names())


# ---- plug-ins


def test_a_plug_in_s_family_is_opened_with_its_model_settings_and_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def own(name: str, model: str, settings: Judging, checkpoint: Checkpoint | None, vllm: VLLM) -> Any:
        given.append((model, settings.temperature, checkpoint))
        return replace(FakeJudge(lambda _: Answer("ok", 0.5)), name=name)

    monkeypatch.setattr(judges, "_entries", dict(judges.items()))
    judges.add("coin", JudgeFactory("coin", "a coin", own, model="a-coin", model_types=frozenset({"llama"})))
    assert checkpoint_of("coin") == ("a-coin", frozenset({"llama"}))
    assert [opened(name, HERE, temperature=0.5).name for name in ("coin", "coin:mine")] == ["coin", "coin:mine"]
    assert given == [("a-coin", 0.5, HERE), ("mine", 0.5, HERE)]
    with pytest.raises(UserError, match="unknown judge 'coyn:m'; did you mean 'coin'"):
        factory_of("coyn:m")


def test_a_family_whose_judge_reads_measures_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "_entries", dict(judges.items()))
    judges.add("silent", JudgeFactory("silent", "says no measure", lambda *_: PROXY))
    with pytest.raises(UserError, match=r"judge 'silent:m' reads the measure 'embedding', which its JudgeFactory"):
        opened("silent:m")


def test_a_plug_in_s_judge_is_named_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    own = FakeJudge(lambda _: Answer("ok", 0.5), name="mine")
    monkeypatch.setattr(judges, "_entries", dict(judges.items()))
    judges.add("mine", own)
    assert opened("mine") is own and checkpoint_of("mine") is None
    with pytest.raises(UserError, match="unknown judge 'mine:m'; did you mean 'mine'"):
        factory_of("mine:m")


def test_what_a_plug_in_registers_is_a_judge_or_makes_one() -> None:
    registry = JudgeRegistry("judge", dict)
    with pytest.raises(UserError, match=r"judge 'odd' of a plug-in is no harness\.judging\.Judge"):
        registry.add("odd", lambda: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["openai", "proxy"])
def test_no_plug_in_takes_a_name_that_is_there(name: str) -> None:
    with pytest.raises(UserError, match=f"judge '{name}' is registered twice"):
        judges.add(name, whole(PROXY))


# ---- what else is asked of an opened judge


def test_a_prompt_that_a_template_cannot_ask_about_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    template = tmp_path / "mine.jsonl"
    text = "[Asked] {question} [A] {answer_a} [B] {answer_b}"
    row = {"name": "mine", "type": "pairwise", "prompt_template": text, "output_format": "[[A]]"}
    template.write_text(json.dumps(row))
    turns = [Message(role="system", content="Be kind."), Message(role="user", content="Why?")]
    odd = Prompt(id="odd", messages=tuple(turns))
    judge = opened("openai:m", template=str(template))
    judge.check([Prompt(id="good", messages=(Message(role="user", content="Why?"),))])
    with pytest.raises(UserError, match="prompt 'odd'"):
        judge.check([odd])
    PROXY.check([odd])  # it has no template


def test_a_checkpoint_is_the_content_of_a_model_and_its_folder(store: Store, checkpoints: dict[str, Path]) -> None:
    assert checkpoint_in(store, None) is None
    model = model_at(checkpoints["llama"], store)
    assert checkpoint_in(store, model) == Checkpoint(str(model.digest), checkpoints["llama"])


def test_a_judge_that_loads_a_model_says_the_memory_of_it() -> None:
    shape = Shape(parameters=1000, layers=2, hidden=16, mlp=32, key_value=8, vocabulary=64)
    judge = opened("transformers:m", HERE)
    assert judge.memory(shape) == sum(memory.reading(shape, judge.batch_tokens, memory.BF16).values())
    other = replace(judge, precision="fp32", batch_tokens=512)
    assert other.memory(shape) == sum(memory.reading(shape, 512, memory.FP32).values())
    assert PairRM("pairrm", "digest", Path("x")).memory(shape) > 1000 * memory.FP32
    for other in (opened("vllm:m", HERE), opened("openai:m"), PROXY):  # in a process of its own, elsewhere, none
        assert other.memory(shape) is None
