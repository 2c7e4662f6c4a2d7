"""How chat templates begin and end the assistant's turn."""

from __future__ import annotations

import copy
import gc
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models
from transformers import PreTrainedTokenizerFast

from harness.models import turns
from harness.models.chat import encode_response
from harness.models.chat_templates import chat_templates
from harness.models.turns import end_of_turn, turn_of
from tests.harness.models.kinds import END, KINDS

CONTROL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|end|>", "<close>")


def tokenizer_with(template: str | None, control: tuple[str, ...] = CONTROL, **settings: Any) -> Any:
    """A tokenizer to which all else is unknown."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"?": 0}, unk_token="?")),
        **{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "?", **settings},
    )
    made.add_tokens([AddedToken(token, special=True) for token in control])
    made.chat_template = template
    return made


def end(template: str | None, **settings: Any) -> str | None:
    made = tokenizer_with(template, **settings)
    found = end_of_turn(made)
    return None if found is None else str(made.convert_ids_to_tokens(found))


def turns_of(user: str, assistant: str, last: str = "", ask: str = "") -> str:
    """A template that writes turns so, `last` where no answer is wanted, and `ask` where one is."""
    return (
        "{% for m in messages %}{% if m.role == 'user' %}" + user + "{% else %}" + assistant + "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}" + ask + "{% else %}" + last + "{% endif %}"
    )


C = "{{ m.content }}"
TEMPLATES: dict[str, tuple[str, str]] = {
    "the end of text": (turns_of(f"USER: {C} ", f"BOT: {C}</s>", ask="BOT:"), "</s>"),
    "another token": (turns_of(f"<|user|>{C}<|end|>", f"{C}<|end|>"), "<|end|>"),
    "white space before it": (turns_of(f"<|user|>{C}", f"{C} \n<|end|>\n"), "<|end|>"),
    "text before it": (turns_of(f"<|user|>{C}", f"{C}. Over.<|end|>\n"), "<|end|>"),
    "a content that is trimmed": (turns_of(f"<|user|>{C}", "{{ m.content | trim }}<|end|>"), "<|end|>"),
    "the end of the conversation behind it": (turns_of(f"<|user|>{C}<|end|>", f"{C}<|end|>", last="</s>"), "<|end|>"),
    "what closes the content before it": (turns_of(f"<|user|>{C}<|end|>", f"{C}<close><|end|>"), "<|end|>"),
    "the next turn behind it": (turns_of(f"<s>[{C}]", f"{C}</s>"), "</s>"),
    "another one where the conversation ends": (
        turns_of(f"<|user|>{C}", C + "{% if loop.last %}<|im_end|>{% else %}<|end|>{% endif %}"),
        "<|im_end|>",
    ),
    "one conversation alone": (
        "{{ '<|user|>' + messages[0].content }}{% if messages[1] %}{{ messages[1].content + '<|end|>' }}{% endif %}",
        "<|end|>",
    ),
    "none": (turns_of(f"USER: {C}\n", f"BOT: {C}\n", ask="BOT:"), "</s>"),
    "none but the next turn's beginning": (turns_of(f"<|user|>{C}", C), "</s>"),
    "none, and the next turn is always begun": (turns_of(f"<|user|>{C}", C, "<|im_start|>", "<|im_start|>"), "</s>"),
    "an answer that is left out": (turns_of(f"<|user|>{C}<|end|>", ""), "</s>"),
    "no answer at the end": ("{% if messages[-1].role != 'user' %}{{ raise_exception('no') }}{% endif %}", "</s>"),
    "an answer that it cannot write": (turns_of(C, "{{ m.content.text.more }}<|end|>"), "</s>"),
    "an answer that Python cannot write": (turns_of(C, "{{ m.content + 1 }}<|end|>"), "</s>"),
}


@pytest.mark.parametrize("case", TEMPLATES)
def test_the_end_of_a_turn_is_what_the_template_writes_after_a_content(case: str) -> None:
    template, wanted = TEMPLATES[case]
    assert end(template) == wanted


def test_without_a_template_or_with_a_broken_one_it_is_the_end_of_text() -> None:
    assert (end(None), end("{% for m in %}")) == ("</s>", "</s>")
    assert end(None, eos_token=None) is None


def test_an_unknown_text_ends_no_turn() -> None:
    """Its token is an added one, too."""
    assert end(turns_of(f"<|user|>{C}", f"{C} what is this </s>")) == "</s>"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_tokenizer_ends_turns_as_its_family_does(kind: str) -> None:
    tokenizer = KINDS[kind]()
    assert tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer)) == END[kind]


@pytest.mark.parametrize("template", ["default", "vicuna"])
def test_a_template_that_a_model_is_given_ends_turns_with_its_end_of_text(template: str) -> None:
    assert end(chat_templates.get(template)) == "</s>"


# templates as their families publish them
PUBLISHED = {
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "cohere2": "<|END_OF_TURN_TOKEN|>",
    "deepseekv3": "<EOS>",
    "gemma": "<end_of_turn>",
    "gemma3": "<end_of_turn>",
    "glm4moe": "<EOS>",  # it writes none, and a model stops at what its generation config says, too
    "gptoss": "<|return|>",
    "llama3": "<|eot_id|>",
    "llama3_2": "<|eot_id|>",
    "phi3": "<|end|>",
    "phi3_5": "<|end|>",
    "qwen2_5": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "qwen3_5_nothink": "<|im_end|>",
    "qwen3_instruct_2507": "<|im_end|>",
}
TOKENS = (
    *("<|END_OF_TURN_TOKEN|>", "<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"),
    *("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<start_of_turn>", "<end_of_turn>", "<|im_start|>", "<|im_end|>"),
    *("<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|user|>", "<|assistant|>", "<|end|>", "<|start|>"),
    *("<|message|>", "<|return|>", "<|channel|>", "[gMASK]", "<sop>", "<think>", "</think>"),
    *("<｜User｜>", "<｜Assistant｜>"),
)


@pytest.mark.parametrize("family", PUBLISHED)
def test_published_templates_end_turns_as_their_models_do(family: str) -> None:
    package = find_spec("trl")  # it has copies of them
    folder = Path(str(package.origin)).parent / "chat_templates" if package else Path()
    if not (folder / f"{family}.jinja").is_file():
        pytest.skip("no copy of that template here")
    template = (folder / f"{family}.jinja").read_text(encoding="utf-8")
    assert end(template, control=TOKENS, bos_token="<BOS>", eos_token="<EOS>") == PUBLISHED[family]


def test_what_a_template_writes_before_a_content_is_taken_where_it_is_white_space() -> None:
    def opening(assistant: str, ask: str) -> str:
        return turn_of(tokenizer_with(turns_of(f"{C}\n", f"{assistant}{C}</s>", ask=ask))).opening

    assert opening("BOT: ", "BOT:") == " "
    assert opening("BOT:\n\n", "BOT:") == "\n\n"
    assert opening("BOT: ", "BOT: ") == ""
    assert opening("BOT: ", "BOT:  ") == ""  # not how the turn is begun where it is to be answered
    assert opening("BOT: <think></think> ", "BOT: ") == ""


def test_what_no_content_may_hold_is_what_is_special_or_parts_turns() -> None:
    gemma, qwen = KINDS["gemma"](), KINDS["qwen"]()
    assert set(turn_of(gemma).control) == {"<unk>", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>"}
    assert set(turn_of(qwen).control) == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    qwen.chat_template = qwen.chat_template.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
    assert "<think>" in turn_of(qwen).prompt and set(turn_of(qwen).control) == {
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
    }


def test_what_a_system_message_speaks_of_is_no_part_of_turns() -> None:
    """SmolLM3's own says how its thoughts are to be marked: an answer that is split anew has them marked so."""
    smol = KINDS["qwen"]()
    told = "First <think>\nthoughts\n</think>, then an answer."
    smol.chat_template = smol.chat_template.replace("You are helpful.", told)
    assert told in turn_of(smol).prompt
    assert set(turn_of(smol).control) == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    said = encode_response(smol, "<think>\nI am fine.\n</think>\nHello", ended=False)
    assert {smol.convert_tokens_to_ids(token) for token in ("<think>", "</think>")} <= set(said)


def test_an_ordinary_token_that_begins_a_turn_is_control_wherever_it_stands() -> None:
    tokens = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
    template = (
        "<|system|>Be kind.<|end|>{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    made = tokenizer_with(template, control=())
    made.add_tokens([AddedToken(token) for token in tokens])
    assert set(tokens) <= set(turn_of(made).control)
    once = made.chat_template.replace("{% for", "{{ raise_exception('once') if messages | length > 2 }}{% for")
    made.chat_template = once  # one exchange only
    assert set(tokens) <= set(turn_of(made).control)


def test_a_turn_is_read_again_once_the_tokenizer_is_another(tokenizer: Any) -> None:
    one = copy.deepcopy(tokenizer)
    assert turn_of(one) is turn_of(one)
    assert end_of_turn(one) == one.eos_token_id
    one.chat_template = one.chat_template.replace("<|im_end|>", "{{ eos_token }}")
    one.eos_token = "<|endoftext|>"
    assert end_of_turn(one) == one.eos_token_id == 0


def test_a_tokenizer_that_is_gone_is_not_kept(tokenizer: Any) -> None:
    before = len(turns._turns)
    one = copy.deepcopy(tokenizer)
    assert turn_of(one).speller.spelled("a")
    del one
    gc.collect()
    assert len(turns._turns) <= before
