"""The prompt sets that ship: what their cards say of them holds."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from harness.core.records import Prompt
from harness.prompts import Library, prompt_sets, training_set

ROOT = Path(__file__).parents[2]
SHIPPED = {name: training_set(name, Library()).prompts for name, found in prompt_sets.items() if found.path}
TRAINING = "everyday-train"
EVALUATION = sorted(set(SHIPPED) - {TRAINING})
LEAST = {TRAINING: 600, "everyday-test": 120, "followups": 80, "longer-tasks": 80}
MT_BENCH = ROOT.parent / "shared" / "data" / "fastchat" / "mt_bench" / "question.jsonl"

HUB = sorted(name for name, card in prompt_sets.items() if card.hub)

Grams = set[tuple[str, ...]]


def user_texts(prompt: Prompt) -> list[str]:
    return [message.content for message in prompt.messages if message.role == "user"]


def grams(texts: list[str], n: int) -> Grams:
    """Sequences of n words within a turn."""
    words = [re.findall(r"[\w']+", text.lower()) for text in texts]
    return {tuple(turn[i : i + n]) for turn in words for i in range(len(turn) - n + 1)}


def plain(prompt: Prompt) -> str:
    """A prompt's user text without case, punctuation and spacing."""
    return " ".join(re.findall(r"[\w']+", " ".join(user_texts(prompt)).lower()))


def test_the_sets_that_ship_are_these() -> None:
    assert set(SHIPPED) == set(LEAST)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_set_is_as_large_as_promised(name: str) -> None:
    assert len(SHIPPED[name]) >= LEAST[name]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_counts_its_prompts_and_categories_and_names_its_license(name: str) -> None:
    found, prompts = prompt_sets.get(name), SHIPPED[name]
    _, head, body = found.path.with_suffix(".md").read_text(encoding="utf-8").split("---", 2)
    assert f"summary: {len(prompts)} " in head
    assert re.search(rf"^{len(prompts)} ", body, re.MULTILINE)
    each, kinds = re.findall(r"(\d+)\s+in\s+each\s+of\s+(?:the\s+)?(\d+)\s+categories", body)[0]
    counts = Counter(prompt.category for prompt in prompts)
    assert (set(counts.values()), len(counts)) == ({int(each)}, int(kinds))
    assert found.license in body


def test_a_card_that_names_a_training_set_names_one_that_is_there() -> None:
    named = {name: found.in_domain_of for name, found in prompt_sets.items() if found.path and found.in_domain_of}
    assert named == {"everyday-test": TRAINING}


def test_the_public_sets_are_these() -> None:
    cut = {"ultrafeedback", "ultrachat", "deita", "dolly"}
    whole = {"self-instruct", "alpaca-eval", "mt-bench", "vicuna-80", "arena-hard"}
    assert set(HUB) == whole | cut | {f"{name}-test" for name in cut}
    assert {name for name in HUB if prompt_sets.get(name).part == "train"} == cut


@pytest.mark.parametrize("name", HUB)
def test_the_card_of_a_public_set_says_where_it_is_from_and_what_is_not_known(name: str) -> None:
    card = prompt_sets.get(name)
    text = (ROOT / "benchmarks" / "prompts" / f"{name}.md").read_text(encoding="utf-8")
    assert card.revision and card.license and card.summary
    body = " ".join(text.split("---", 2)[2].split())
    assert f"Licence: {card.license}" in body
    assert "Written without the hub at hand" in body and "commit that is fetched is recorded" in body
    assert f"huggingface.co/datasets/{card.hub}" in body or f"[{card.in_domain_of}]({card.in_domain_of}.md)" in body


@pytest.mark.parametrize("name", [name for name in HUB if name.endswith("-test")])
def test_the_two_parts_of_a_public_set_are_of_one_source(name: str) -> None:
    test = prompt_sets.get(name)
    train = prompt_sets.get(str(test.in_domain_of))
    own = {"summary", "part", "in_domain_of"}
    assert test.model_dump(exclude=own) == train.model_dump(exclude=own)
    assert (train.part, test.part) == ("train", "test") and test.test_share


def test_the_training_set_has_many_categories() -> None:
    assert len({prompt.category for prompt in SHIPPED[TRAINING]}) >= 12


@pytest.mark.parametrize("name", SHIPPED)
def test_every_prompt_has_a_category(name: str) -> None:
    assert all(prompt.category for prompt in SHIPPED[name])


@pytest.mark.parametrize("name", SHIPPED)
def test_the_first_32_prompts_are_spread_over_categories(name: str) -> None:
    assert len({prompt.category for prompt in SHIPPED[name][:32]}) >= 8


def test_ids_are_unique_across_sets() -> None:
    ids = [prompt.id for prompts in SHIPPED.values() for prompt in prompts]
    assert len(set(ids)) == len(ids)


def test_no_prompt_is_there_twice() -> None:
    texts = [plain(prompt) for prompts in SHIPPED.values() for prompt in prompts]
    assert sorted(text for text in texts if texts.count(text) > 1) == []
    assert {training_set(name, Library()).duplicates for name in SHIPPED} == {0}


def test_training_prompts_of_a_category_begin_in_different_ways() -> None:
    starts = Counter((prompt.category, *re.findall(r"[\w']+", plain(prompt))[:3]) for prompt in SHIPPED[TRAINING])
    assert [start for start, count in starts.items() if count > 2] == []


def test_no_two_longer_tasks_share_eight_words_in_a_row() -> None:
    counts = Counter(gram for prompt in SHIPPED["longer-tasks"] for gram in grams(user_texts(prompt), 8))
    assert [gram for gram, count in counts.items() if count > 1] == []


def test_only_followups_bring_earlier_turns() -> None:
    for name, prompts in SHIPPED.items():
        counts = Counter(len(prompt.messages) for prompt in prompts)
        assert counts == ({3: 70, 5: 18} if name == "followups" else {1: len(prompts)})


@pytest.mark.parametrize("name", EVALUATION)
def test_no_evaluation_prompt_shares_seven_words_in_a_row_with_training(name: str) -> None:
    training = {gram: prompt.id for prompt in SHIPPED[TRAINING] for gram in grams(user_texts(prompt), 7)}
    shared = {
        (prompt.id, training[gram], " ".join(gram))
        for prompt in SHIPPED[name]
        for gram in grams(user_texts(prompt), 7) & training.keys()
    }
    assert shared == set()


@pytest.mark.parametrize("name", EVALUATION)
def test_no_evaluation_prompt_is_nearly_a_training_prompt(name: str) -> None:
    training = [(prompt.id, grams(user_texts(prompt), 3)) for prompt in SHIPPED[TRAINING]]
    near = {}
    for prompt in SHIPPED[name]:
        own = grams(user_texts(prompt), 3)
        for other, theirs in training:
            share = len(own & theirs) / max(1, min(len(own), len(theirs)))
            if share > 0.35:
                near[prompt.id, other] = share
    assert near == {}


@pytest.mark.skipif(not MT_BENCH.is_file(), reason="needs a copy of MT-Bench beside the checkout")
def test_mt_bench_is_not_among_them() -> None:
    rows = [json.loads(line) for line in MT_BENCH.read_text(encoding="utf-8").splitlines() if line.strip()]
    turns = {" ".join(re.findall(r"[\w']+", turn.lower())) for row in rows for turn in row["turns"]}
    shipped = {plain(prompt) for prompts in SHIPPED.values() for prompt in prompts}
    assert len(rows) == 80
    assert shipped & turns == set()
