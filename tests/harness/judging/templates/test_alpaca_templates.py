"""AlpacaEval's prompts and annotators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.records import Message
from harness.judging.reply_forms import CONTRADICTION, NO_VERDICT
from harness.judging.templates import load_template
from tests.harness.templates import CHATML, PLAIN, TALK, alpaca_config, alpaca_file, prompt, question


def test_alpaca_shows_output_1_first_and_takes_single_turns(tmp_path: Path) -> None:
    template = load_template(str(alpaca_file(tmp_path)))
    assert (template.forms, template.letters, template.name) == (("letter",), ("m", "M"), "clf.txt")
    asked = template.messages(question(prompt("Why?"), "mine", "theirs", "reference_first"), "letter")
    assert asked[0] == Message(role="system", content="You pick the better of two replies.")
    assert asked[1].content.startswith('## Task\n\n{\n    "task": """Why?""",\n}')
    assert asked[1].content.index("mine") < asked[1].content.index("theirs")
    assert "<|im_" not in asked[1].content
    with pytest.raises(UserError, match=r"clf\.txt: prompt 'talk' has earlier turns"):
        template.check([prompt("Why?"), TALK.model_copy(update={"id": "talk"})])


def test_letters_that_differ_in_case_alone_are_told_apart(tmp_path: Path) -> None:
    template = load_template(str(alpaca_file(tmp_path)))
    read = [template.read(text, "letter").preference for text in ("m", "M", " m\n", "mm", "A")]
    assert read == [1.0, 0.0, 1.0, None, None]


@pytest.mark.parametrize(
    ("text", "preference", "why"),
    [
        ("Output (a) is right", 1.0, ""),
        ("Output (b)", 0.0, ""),
        ("neither is", 0.5, ""),
        ("Output (a) and Output (b)", None, CONTRADICTION),  # as AlpacaEval has it: one match, or none counts
        ("It quotes 'Output (a)'.\nOutput (b)", None, CONTRADICTION),
        ("Output (b), yes, Output (b)", None, NO_VERDICT),
        ("output (a)", None, NO_VERDICT),
        ("", None, NO_VERDICT),
    ],
)
def test_one_expression_is_to_match_once(text: str, preference: float | None, why: str, tmp_path: Path) -> None:
    template = load_template(str(alpaca_config(tmp_path, "regex")))
    assert template.forms == ("rationale",)
    assert template.read(text, "rationale") == (preference, why)


def test_the_numerator_is_the_letter_of_the_first(tmp_path: Path) -> None:
    template = load_template(str(alpaca_config(tmp_path, "letters")))
    assert (template.forms, template.letters) == (("letter",), ("m", "M"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CHATML.replace("{output_2}", ""), r"the placeholder \{output_2\} is missing"),
        (CHATML.replace("{output_2}", "{output2}"), r"unknown placeholder \{output2\}; did you mean 'output_2'"),
        (CHATML.replace("You pick", "{instruction} You"), "in the user's turns only, not in one of system"),
        (CHATML.replace("<|im_start|>user", "<|im_start|>usr"), "unknown role 'usr'; did you mean 'user'"),
        (
            "<|im_start|>system name=example_user\nm or M?<|im_end|>\n" + CHATML,
            "unknown role 'system name=example_user'",
        ),
        (CHATML.rstrip().removesuffix("<|im_end|>"), "expected turns from"),
        ("Hello " + CHATML, "expected turns from"),
        (PLAIN, "does not ask for m or M"),
    ],
)
def test_mistakes_in_alpaca_prompts(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"clf\.txt: .*{message}"):
        load_template(str(alpaca_file(tmp_path, text)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt_template": "gone.txt"}, r"prompt_template gone\.txt does not exist"),
        ({"prompt_template": {"without_inputs": "x"}}, "the path of one prompt"),
        ({"batch_size": 5}, "batch_size must be 1"),
        (
            {"fn_completion_parser": "ranking_parser"},
            "unsupported fn_completion_parser 'ranking_parser'; expected logprob_parser or regex_parser",
        ),
        (
            {"fn_completion_parser": "logprob_parser", "completion_parser_kwargs": {"log_prob_index": -1}},
            "of logprob_parser may hold denominator_tokens, is_binarize, numerator_token",
        ),
        ({"fn_completion_parser": ["eval"]}, "unsupported fn_completion_parser"),
        ({"completion_parser_kwargs": {"pattern": "x"}}, "may hold outputs_to_match"),
        ({"completion_parser_kwargs": {"outputs_to_match": {1: "a"}}}, "expressions for 1 and 2"),
        ({"completion_parser_kwargs": {"outputs_to_match": {1: "a", 2: "("}}}, "is no regular expression"),
        ({"fn_completion_parser": "logprob_parser"}, "two denominator_tokens"),
    ],
)
def test_mistakes_in_alpaca_annotators(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"configs\.yaml: mine: .*{message}"):
        load_template(str(alpaca_config(tmp_path, settings)))


def test_one_annotator_a_file(tmp_path: Path) -> None:
    path = tmp_path / "configs.yaml"
    path.write_text("a: {prompt_template: x}\nb: {prompt_template: y}\n")
    with pytest.raises(UserError, match=r"holds 2 annotators \(a, b\); keep one"):
        load_template(str(path))
