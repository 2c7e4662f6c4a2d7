"""Checks that came late: what a model cannot read is known before anything is drawn."""

from __future__ import annotations

import json
import shutil

from tests.cases.conftest import TRAINING, Case, refused, written

NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(case: Case) -> None:
    """Models of 512 positions read it beyond them, and it was judged as any other."""
    long, short = {"id": "long", "prompt": "What is a stone? " * 90}, {"id": "short", "prompt": "What is a tree?"}
    written(case.evaluation, [long, short])
    ended = case.run()
    for who in ("teacher", "student"):
        line = next(line for line in refused(ended).splitlines() if f"error: {who} " in line)
        assert "takes 512 tokens at once" in line and "1 prompt of 'test'" in line and "('long': " in line
    assert "responses:" not in ended.err  # nothing was drawn


def test_a_system_role_that_a_template_refuses_is_known_at_the_start(case: Case) -> None:
    """As Gemma's does: the line came after the teacher had answered every prompt, and named none of them."""
    template = case.student / "chat_template.jinja"
    template.write_text(NO_SYSTEM + template.read_text(encoding="utf-8"), encoding="utf-8")
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi!"}]
    written(case.training, [*TRAINING, {"id": "n2", "messages": said}])
    for ended in (case.plan(), case.run()):
        assert "refuses 1 prompt of 'train' (System role not supported): n2" in refused(ended)
        assert "responses:" not in ended.err


def test_all_prompts_that_cannot_be_read_are_named_at_once(case: Case) -> None:
    config = json.loads((case.student / "config.json").read_text())
    (case.student / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 64}))
    written(case.training, [*TRAINING, {"id": "a", "prompt": "Why? " * 40}, {"id": "b", "prompt": "Why? " * 50}])
    written(case.evaluation, [{"id": "c", "prompt": "How? " * 60}])
    lines = refused(case.plan()).splitlines()
    assert len(lines) == 2 and "2 prompts of 'train'" in lines[0] and lines[0].count("a, b;") == 1
    assert "1 prompt of 'test'" in lines[1] and "('c': " in lines[1]


def test_a_row_of_training_is_shown_whatever_it_is_judged_on(case: Case) -> None:
    """No judge is asked then: neither are its limits of any account."""
    case.judge = "openai:m"
    written(case.evaluation, [{"id": "talk", "turns": ["How? " * 60, "Why?"]}])
    case.settings["scoring_batch_tokens"] = 60
    ended = case.example("--index", "0")
    assert ended.status == 0 and "Tell me of thing number 0." in ended.out, ended.err


def test_an_evaluation_prompt_that_is_too_long_to_be_scored_is_known_before_a_run(case: Case) -> None:
    """It came out once all was trained and answered."""
    written(case.evaluation, [{"id": "long", "prompt": "How? " * 60}, {"id": "short", "prompt": "How?"}])
    case.settings["scoring_batch_tokens"] = 60
    line = refused(case.plan())
    assert "teacher " in line and "1 prompt of 'test' as more than scoring_batch_tokens = 60 ('long': " in line
    # they are drawn after whole prompts, and read after them
    assert "raise scoring_batch_tokens, or take these out" in refused(case.plan("--set", "max_prompt_tokens=50"))
    assert case.plan("--set", "scoring_batch_tokens=160").status == 0


def test_a_local_judge_that_takes_no_system_message_is_known_before_a_run(case: Case) -> None:
    """It came out once all was trained and answered; Gemma's template is such a one."""
    case.judge = f"transformers:{case.teacher}"
    assert case.plan().status == 0
    own = shutil.copytree(case.teacher, case.root / "judge")
    template = (own / "chat_template.jinja").read_text()
    (own / "chat_template.jinja").write_text(NO_SYSTEM + template)
    case.judge = f"transformers:{own}"
    for _ in range(2):  # found out, and as it was kept
        line = refused(case.plan())
        assert line.count("error:") == 1 and "System role not supported; choose another judge.template or judge" in line
