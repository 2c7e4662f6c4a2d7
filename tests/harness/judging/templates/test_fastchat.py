"""FastChat's judge prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.records import Message, Prompt, transcript
from harness.judging.templates import load_template
from tests.harness.templates import FASTCHAT, GUIDED, MATH, TALK, fastchat_file, prompt, question


def test_fastchat_rows_are_chosen_by_what_they_hold(tmp_path: Path) -> None:
    template = load_template(str(fastchat_file(tmp_path)))
    assert (template.forms, template.name) == (("rationale",), "judge_prompts.jsonl")
    system, user = template.messages(question(MATH, "four", "five"), "rationale")
    assert system == Message(role="system", content=GUIDED)
    assert user.content == (
        "[Asked]\nWhat is 2 + 2?\n\n[Known]\n4\n\n[A's Reply]\nfour\n[End of A]\n\n[B's Reply]\nfive\n[End of B]\n"
        "A set: {1, 2}"
    )
    talk = template.messages(question(TALK, "four", "five"), "rationale")[1].content
    assert talk.count("Good day.") == talk.count("Hello.") == 2  # the earlier turn is the same for both
    assert talk.index("four") < talk.index("<|Start of B's Talk|>") < talk.index("five")
    with pytest.raises(UserError, match=r"prompt 'three' has 3 turns without a known answer, .* takes 1 or 2;"):
        template.check([TALK, prompt("a", "b", "c", "d", "e", id="three")])
    with pytest.raises(UserError, match="prompt 'p1' is more than turns of user and assistant"):
        template.check([prompt("Why?", system="Be brief.")])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r'judge_prompts\.jsonl: no row with "type": "pairwise"'),
        (FASTCHAT[3:], 'no row with "type": "pairwise"'),
        ([{**FASTCHAT[0], "output_format": "[[rating_a,rating_b]]"}], 'and "output_format"'),
        ([{**FASTCHAT[0], "prompt_template": "{question}{answer_a}"}], r":1: the placeholder \{answer_b\} is missing"),
        ([{**FASTCHAT[1], "prompt_template": "{question_2}"}], r":1: the placeholder \{answer_a_1\} is missing"),
        (
            [FASTCHAT[1], {**FASTCHAT[0], "prompt_template": "{question}{answer_a}{answer_b}{anwser_b}"}],
            r":2: unknown placeholder \{anwser_b\}; did you mean 'answer_b'",
        ),
        (
            [{**FASTCHAT[0], "prompt_template": "{question.x}{answer_a}{answer_b}"}],
            r"unknown placeholder \{question.x\}",
        ),
        ([{**FASTCHAT[0], "prompt_template": None}], ":1: expected texts"),
        ([FASTCHAT[0], {**FASTCHAT[0], "name": "twin"}], ":2: 'twin' and 'pair' are for the same prompts"),
    ],
)
def test_mistakes_in_fastchat_files(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_template(str(fastchat_file(tmp_path, rows)))


BY_TURN = {
    "name": "math-multi-turn",
    "type": "pairwise",
    "system_prompt": GUIDED,
    "prompt_template": "<|Known|>\n\n{question_1}: {ref_answer_1}\n{question_2}: {ref_answer_2}\n\n<|A|>\n\n"
    "{question_1}: {answer_a_1}\n{question_2}: {answer_a_2}\n\n<|B|>\n\n"
    "{question_1}: {answer_b_1}\n{question_2}: {answer_b_2}",
    "output_format": "[[A]]",
}
JARS = Prompt(
    id="jars",
    messages=(Message(role="user", content="Jars?"),),
    answer="36",
    turns=("And five less?",),
    turn_answers=("31",),
)


def test_the_user_s_further_turns_have_the_answers_and_the_references_of_their_own(tmp_path: Path) -> None:
    template = load_template(str(fastchat_file(tmp_path, [*FASTCHAT, BY_TURN])))
    first, second = (transcript([text, f"{text} too"], JARS.turns) for text in ("ours", "theirs"))
    asked = template.messages(question(JARS, first, second), "rationale")[1].content
    assert asked == (
        "<|Known|>\n\nJars?: 36\nAnd five less?: 31\n\n<|A|>\n\nJars?: ours\nAnd five less?: ours too\n\n"
        "<|B|>\n\nJars?: theirs\nAnd five less?: theirs too"
    )
    half = JARS.model_copy(update={"turn_answers": ()})
    asked = template.messages(question(half, first, "one text"), "rationale")[1].content
    assert "Jars?: 36\nAnd five less?: (not given)" in asked
    assert "<|B|>\n\nJars?: (not given)\nAnd five less?: one text" in asked


def test_without_a_variant_for_all_turns_responses_and_references_stand_as_one(tmp_path: Path) -> None:
    template = load_template(str(fastchat_file(tmp_path)))
    text = transcript(["ours", "ours too"], JARS.turns)
    asked = template.messages(question(JARS, text, "theirs"), "rationale")[1].content
    assert f"[Known]\n{JARS.reference}\n\n[A's Reply]\n{text}\n" in asked
    assert template.notes([JARS, MATH, TALK]) == []


def test_answers_that_a_template_has_no_place_for_are_counted(tmp_path: Path) -> None:
    template = load_template(str(fastchat_file(tmp_path, FASTCHAT[:2])))
    (note,) = template.notes([JARS, MATH, TALK])
    assert note.endswith("has no place for a known answer: 2 prompts that have one are judged without it")
