"""Where a model comes from, by its name: whole parts of it, and no guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.models.lineage import Lineage, _by_name, lineage
from harness.models.specs import ModelSpec, Prune, models


@pytest.mark.parametrize(
    ("name", "family", "vendor"),
    [
        ("gpt-4o", "gpt-4", "OpenAI"),
        ("gpt-4o-mini-2024-07-18", "gpt-4", "OpenAI"),
        ("gpt-4-0613", "gpt-4", "OpenAI"),
        ("GPT-4-Turbo", "gpt-4", "OpenAI"),
        ("openai/gpt-3.5-turbo", "gpt-3.5", "OpenAI"),
        ("o3-mini", "o-series", "OpenAI"),
        ("claude-3-5-sonnet-20241022", "claude-3", "Anthropic"),
        ("anthropic/claude-3.7-sonnet", "claude-3", "Anthropic"),
        ("gemini-1.5-flash", "gemini-1.5", "Google"),
        ("llama3.1:8b-instruct-q4_K_M", "llama-3", "Meta"),
        ("Llama-3.3-70B-Instruct-Turbo", "llama-3", "Meta"),
        ("meta-llama/Meta-Llama-3-8B", "llama-3", "Meta"),
        ("unsloth/Llama-3.2-1B-Instruct@main", "llama-3", "Meta"),
        ("nvidia/Llama-3.1-Nemotron-70B", "llama-3", "Meta"),
        ("Qwen/Qwen2.5-72B-Instruct", "qwen2.5", "Alibaba"),
        ("Qwen2.5-7B-Instruct-AWQ", "qwen2.5", "Alibaba"),
        ("qwen-2.5-7b", "qwen2.5", "Alibaba"),
        ("Qwen/Qwen2-7B", "qwen2", "Alibaba"),
        ("google/gemma-2b-it", "gemma", "Google"),
        ("google/gemma-2-2b-it", "gemma-2", "Google"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b", "Mistral AI"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "qwen2.5", "DeepSeek"),
        ("deepseek-r1-distill-llama-70b", "llama-3", "DeepSeek"),
        ("deepseek-r1-0528-qwen3-8b", "qwen3", "DeepSeek"),
        ("deepseek-r1:32b", "qwen2.5", "DeepSeek"),
        ("deepseek-r1:8b", "", "DeepSeek"),  # of Llama 3.1 at first, of Qwen3 later
        ("deepseek-r1:8b-llama-distill-q4_K_M", "llama-3", "DeepSeek"),
        ("deepseek-r1:671b", "deepseek-v3", "DeepSeek"),
        ("deepseek-r1-0528", "deepseek-v3", "DeepSeek"),
        # a version by a dot or by a dash
        ("claude-haiku-4-5-20251001", "claude-4", "Anthropic"),
        ("claude-sonnet-4-20250514", "claude-4", "Anthropic"),
        ("claude-3-opus-20240229", "claude-3", "Anthropic"),
        ("llama-3-1-8b-instruct", "llama-3", "Meta"),
        ("gpt-3-5-turbo", "gpt-3.5", "OpenAI"),
        # as services call them
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3", "Anthropic"),
        ("anthropic.claude-3-haiku-20240307-v1:0", "claude-3", "Anthropic"),
        ("bedrock/eu.anthropic.claude-3-7-sonnet-20250219-v1:0", "claude-3", "Anthropic"),
        ("openrouter/openai/new", "", "OpenAI"),
        ("meta.llama3-1-70b-instruct-v1:0", "llama-3", "Meta"),
        ("models/gemini-1.5-pro", "gemini-1.5", "Google"),
        ("openrouter/qwen/qwen2.5-72b", "qwen2.5", "Alibaba"),
        ("ft:gpt-4o-mini-2024-07-18:mine::id", "gpt-4", "OpenAI"),
        # a vendor's, of a family that is not known
        ("gpt-5.5", "", "OpenAI"),
        ("gpt-40", "", "OpenAI"),
        ("gpt2", "", "OpenAI"),
        ("text-davinci-003", "", "OpenAI"),
        ("claude-opus-9", "", "Anthropic"),
        ("gemini-pro", "", "Google"),
        ("deepseek-chat", "", "DeepSeek"),
        ("deepseek-reasoner", "", "DeepSeek"),
        ("mistral-nemo", "", "Mistral AI"),
        ("qwq-32b", "", "Alibaba"),
        ("qwen-max", "", "Alibaba"),
        ("qwen2.55", "", "Alibaba"),
        ("qwen25-7b", "", "Alibaba"),
        ("llama-30b", "", "Meta"),
        ("llama-3.14", "", "Meta"),
        ("codellama-7b", "llama-2", "Meta"),
        ("gpt-j-6b", "", "EleutherAI"),
        ("gpt-4all", "", "Nomic AI"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-v3", "DeepSeek"),
        ("lmsys/vicuna-13b-v1.5", "", "LMSYS"),  # its base is not in its name
        ("Qwen/Something-New", "", "Alibaba"),
    ],
)
def test_names_that_are_known(name: str, family: str, vendor: str) -> None:
    found = lineage(name)
    assert (found.family, found.vendor) == (family, vendor)
    assert found.id == name.lower().removesuffix("@main")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "my-model",
        "not-gpt-4",
        "beats-qwen2.5",
        "o1000",
        "gpts",
        "claudette-7b",
        "my-claude",
        "a.b.c",
        "us.openai",
        "us.somebody.claude-3",
        "ollama",
        "someone/openai",
        "openaix/model",
    ],
)
def test_nothing_is_guessed(name: str) -> None:
    assert lineage(name) == Lineage(name)


def test_entries_say_it_themselves_or_by_their_base() -> None:
    for name in models.names():
        found = lineage(name)
        assert found.id and found.family and found.vendor, name
        entry = models.get(name)
        for known in filter(None, (entry.hub, entry.origin)):
            assert lineage(known) == found, name  # by either name
            said = _by_name(known.partition("/")[2])
            assert said[0] in ("", found.family) and said[1] in ("", found.vendor), name  # and as the table has it
    assert lineage("vicuna-7b") == Lineage("lmsys/vicuna-7b-v1.5", "llama-2", "LMSYS")
    assert lineage("vicuna-7b-pruned20") == Lineage("vicuna-7b-pruned20", "llama-2", "LMSYS")
    assert lineage("smollm2-135m").id == lineage("smollm2-135m-full").id == "huggingfacetb/smollm2-135m-instruct"


def test_a_folder_has_no_id_and_the_family_that_its_name_says(tmp_path: Path) -> None:
    assert lineage("/models/Qwen2.5-7B-Instruct") == Lineage("", "qwen2.5", "Alibaba")
    assert lineage("./mine") == lineage(str(tmp_path)) == Lineage()


def test_entries_of_a_pair_s_own_file() -> None:
    specs = {
        "mine-teacher": ModelSpec(path="/models/mine", family="llama-2", vendor="me"),
        "mine-student": ModelSpec(base="mine-teacher", prune=Prune(ratio=0.2)),
        "other": ModelSpec(hub="Qwen/Qwen3-8B"),
        "new": ModelSpec(hub="me/new", family="qwen3"),
    }
    assert lineage("mine-teacher", specs) == Lineage("", "llama-2", "me")
    assert lineage("mine-student", specs) == Lineage("mine-student", "llama-2", "me")
    assert lineage("other", specs) == lineage("qwen3-8b") == Lineage("qwen/qwen3-8b", "qwen3", "Alibaba")
    assert lineage("new", specs) == Lineage("me/new", "qwen3", "")
