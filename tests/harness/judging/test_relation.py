"""What a judge and a teacher have in common: what is known of it, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from harness.config import Config
from harness.judging import Judging
from harness.judging.proxies import EMBEDDING, PROXY, TYPICALITY
from harness.judging.relation import Known, relation, relation_of
from harness.models.lineage import Lineage, lineage
from harness.run.sources import open_judges
from tests.harness.checking import Made, oracle


def between(judge: str, teacher: str, **known: Any) -> str:
    return relation(Known(lineage(judge), **known), Known(lineage(teacher)))


@pytest.mark.parametrize(
    ("judge", "teacher", "said"),
    [
        ("gpt-4o", "gpt-4o", "judge and teacher are one model (gpt-4o)"),
        ("openai/gpt-4o", "openai/gpt-4o", "judge and teacher are one model (openai/gpt-4o)"),
        ("gpt-4o-mini", "gpt-4o", "judge and teacher are of one family (gpt-4)"),
        ("gpt-4o", "gpt-3.5-turbo", "judge and teacher are of one vendor (OpenAI)"),
        (
            "Qwen/Qwen2.5-7B-Instruct@abc",
            "qwen2.5-7b",
            "judge and teacher are one model (qwen/qwen2.5-7b-instruct)",
        ),
        ("Qwen/Qwen2.5-72B-Instruct", "qwen2.5-7b", "judge and teacher are of one family (qwen2.5)"),
        ("qwen2.5:72b", "Qwen/Qwen2.5-7B-Instruct", "judge and teacher are of one family (qwen2.5)"),
        ("qwen3-8b", "qwen2.5-7b", "judge and teacher are of one vendor (Alibaba)"),
        ("meta-llama/Llama-2-70b-chat-hf", "vicuna-7b", "judge and teacher are of one family (llama-2)"),
        ("lmsys/vicuna-13b-v1.5", "vicuna-7b", "judge and teacher are of one vendor (LMSYS)"),
        ("gemini-1.5-pro", "gemma-3-1b", "judge and teacher are of one vendor (Google)"),
        ("smollm2-135m-full", "smollm2-135m", "judge and teacher are one model (huggingfacetb/smollm2-135m-instruct)"),
        ("me/mine", "me/mine", "judge and teacher are one model (me/mine)"),
        ("gpt-5.5", "gpt-4o", "judge and teacher are of one vendor (OpenAI)"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4.5", "judge and teacher are of one family (claude-4)"),
        ("deepseek-reasoner", "deepseek-r1:8b", "judge and teacher are of one vendor (DeepSeek)"),
        ("deepseek-r1-0528-qwen3-8b", "qwen3-8b", "judge and teacher are of one family (qwen3)"),
        ("deepseek-r1:8b", "deepseek-v3", "judge and teacher are of one vendor (DeepSeek)"),
        ("gpt-4o", "qwen2.5-7b", ""),
        ("my-judge", "my-teacher", ""),
        ("me/judge", "me/teacher", ""),
        ("/models/a", "/models/a", ""),  # by their weights, if at all
        ("", "", ""),
    ],
)
def test_by_names(judge: str, teacher: str, said: str) -> None:
    assert between(judge, teacher) == said


def test_a_name_that_only_a_server_gave_is_one_model_there() -> None:
    here, there = ("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1")
    teacher = Known(Lineage("default"), server=here)
    assert relation(Known(Lineage("default"), server=here), teacher) == "judge and teacher are one model (default)"
    assert relation(Known(Lineage("default"), server=there), teacher) == ""


def test_by_weights_whatever_they_are_called() -> None:
    one, same = Known(lineage("./a"), "sha256:1"), Known(lineage("gpt-4o"), "sha256:1")
    assert relation(one, same) == "judge and teacher are one model: their weights are the same"
    assert relation(Known(lineage("./a"), "sha256:2"), one) == ""
    assert relation(Known(lineage("./a")), Known(lineage("./b"))) == ""  # of neither is a digest known


def test_a_proxy_that_reads_the_teacher_is_the_teacher() -> None:
    teacher = Known(lineage("smollm2-135m"), "sha256:1")
    said = "the judge is the teacher itself, as it reads the teacher's log-probs"
    assert relation_of(TYPICALITY, None, teacher) == relation_of(PROXY, None, teacher) == said
    assert relation_of(EMBEDDING, None, teacher) == ""  # it reads the teacher's samples, with another model


def test_of_judges_by_name() -> None:
    config = Config(student="s", judge=Judging(name="openai:gpt-4o-mini", base_url="http://host/v1"))
    ((judge, _),), _ = open_judges(config, {"openai:gpt-4o-mini": None})
    assert relation_of(judge, None, Known(lineage("gpt-4o"))) == "judge and teacher are of one family (gpt-4)"
    assert relation_of(judge, None, Known(lineage("vicuna-7b"))) == ""


def test_a_judge_of_a_plug_in_without_a_model_has_none() -> None:
    class Plain(Made):
        @property
        def setup(self) -> dict[str, str]:
            return {}

    judge = Plain(oracle, name="typicality")  # a name of one that takes no model
    assert relation_of(judge, None, Known(Lineage("", "", ""))) == ""
