"""Checks that came late: what a model cannot read is known before anything is drawn."""

from __future__ import annotations

import json

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
