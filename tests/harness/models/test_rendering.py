"""How a tokenizer and a chat template read prompts, and how many tokens a model takes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.records import Message, Prompt
from harness.models.chat import encode_chat
from harness.models.rendering import ANSWER, Rendered, positions_of, rendered

PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }}\n{% endfor %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
WITHOUT_SYSTEM = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}\n{% endfor %}"
ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{{ m['content'] }}{% endfor %}"
)


def asked(id_: str, *texts: str, system: str = "", turns: tuple[str, ...] = ()) -> Prompt:
    said = [Message(role="system", content=system)] if system else []
    return Prompt(id=id_, messages=(*said, *(Message(role="user", content=text) for text in texts)), turns=turns)


def with_template(tokenizer: Any, template: str) -> Any:
    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    return other


def test_a_prompt_is_as_long_as_its_ids(tokenizer: Any) -> None:
    prompts = [asked("short", "Hi!"), asked("long", "Why is bread good? " * 9, system="Be brief.")]
    found = rendered(tokenizer, prompts)
    assert found == Rendered(tokens={p.id: len(encode_chat(tokenizer, p.messages)) for p in prompts})


def test_further_turns_are_read_after_answers(tokenizer: Any) -> None:
    """The longest request of a conversation is its last."""
    user = Message(role="user", content="Hi!")
    again = Message(role="user", content="And now?")
    found = rendered(tokenizer, [asked("p", "Hi!", turns=("And now?",))])
    assert found.tokens == {"p": len(encode_chat(tokenizer, [user, ANSWER, again]))}


@pytest.mark.parametrize(
    ("template", "prompt", "why"),
    [
        (NO_SYSTEM + PLAIN, asked("p", "Hi!", system="Be brief."), "System role not supported"),
        (ALTERNATING, asked("p", "Hi!", "Hello?"), "Roles must alternate"),
        ("{% if messages %}", asked("p", "Hi!"), "Unexpected end of template"),
        ("", asked("p", "Hi!"), "has no chat template"),
    ],
)
def test_what_a_template_refuses_is_said_by_prompt(tokenizer: Any, template: str, prompt: Prompt, why: str) -> None:
    found = rendered(with_template(tokenizer, template), [prompt])
    assert found.tokens == {} and list(found.refused) == ["p"] and why in found.refused["p"]


def test_a_template_that_writes_nothing_makes_no_tokens(tokenizer: Any) -> None:
    found = rendered(with_template(tokenizer, "{{ '' }}"), [asked("p", "Hi!")])
    assert found.tokens == {"p": 0}


def test_a_role_that_a_template_leaves_out_is_named(tokenizer: Any) -> None:
    prompts = [asked("with", "Hi!", system="Be brief."), asked("without", "Hi!"), asked("empty", " \n ")]
    assert rendered(with_template(tokenizer, WITHOUT_SYSTEM), prompts).left_out == {"with": "system"}


def test_trimmed_and_folded_text_is_not_left_out(tokenizer: Any) -> None:
    folding = "{% for m in messages %}{{ m['content'].split() | join(' ') }}{% endfor %}"
    prompt = asked("p", "  two spaces,\n\na line  \n", system=" a system \n")
    for template in (PLAIN, folding):
        assert rendered(with_template(tokenizer, template), [prompt]).left_out == {}


def test_an_answer_that_a_template_cuts_is_its_own_affair(tokenizer: Any) -> None:
    """Thinking models' templates leave out what was thought in earlier turns."""
    template = "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    messages = (*asked("", "Hi!").messages, Message(role="assistant", content="thoughts"), *asked("", "So?").messages)
    assert rendered(with_template(tokenizer, template), [Prompt(id="p", messages=messages)]).left_out == {}


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"n_positions": 1024}, 1024),
        ({}, None),
        # a factor that the number has not in it yet
        ({"max_position_embeddings": 2048, "rope_scaling": {"type": "linear", "factor": 8.0}}, 16384),
        ({"max_position_embeddings": 2048, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, 4096),
        (
            {
                "max_position_embeddings": 32768,
                "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
        # and one that it has
        (
            {
                "max_position_embeddings": 131072,
                "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192},
            },
            131072,
        ),
        ({"max_position_embeddings": 131072, "rope_scaling": {"type": "longrope", "long_factor": [1.0]}}, 131072),
        ({"max_position_embeddings": 4096, "rope_scaling": None}, 4096),
    ],
)
def test_a_model_takes_as_many_tokens_as_it_has_positions(
    tmp_path: Path, config: dict[str, Any], positions: int | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert positions_of(tmp_path) == positions
