"""The API judge against a real vLLM server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from harness.judging.api import OpenAIJudge, open_api_judge
from harness.judging.local import Precision
from harness.judging.settings import Judging
from harness.judging.templates import load_template
from tests.vllm.asking import Answers, answers
from tests.vllm.conftest import Served
from tests.vllm.test_local_judge import TOLERANCE


def judge(served: Served, form: str, max_tokens: int = 100) -> OpenAIJudge:
    settings = Judging.model_validate(
        {"name": "openai:m", "base_url": served.base_url, "form": form, "max_tokens": max_tokens, "concurrency": 8}
    )
    return open_api_judge("openai:m", served.model, settings, load_template("default"))


def test_a_letter_is_read_as_from_the_same_model_here(
    vllm_server: Served, judged_here: dict[Precision, Answers]
) -> None:
    """But where a text holds a control token: it is another text then, broken up for the server."""
    asked = judge(vllm_server, "auto")
    there = answers(asked)
    here = judged_here["bf16"]
    assert asked.form_now() == "letter" and not asked.session.known.without
    for key, answer in there.items():
        assert answer.status == "ok" and answer.output_tokens == 1, answer
        mine = here[key].preference
        assert answer.preference is not None and mine is not None
        if key[0] != "3":
            assert abs(answer.preference - mine) < TOLERANCE["bf16"]
            assert answer.input_tokens == here[key].input_tokens


def test_a_structured_reply_keeps_to_the_schema(vllm_server: Served) -> None:
    asked = judge(vllm_server, "structured", max_tokens=150)
    found = answers(asked)
    assert "structured" not in asked.session.known.impossible
    for answer in found.values():  # a model of this size may fill all of its tokens with a rationale
        assert answer.raw.lstrip().startswith("{")
        if answer.status == "ok":
            assert set(json.loads(answer.raw)) == {"rationale", "verdict"}
        else:
            assert answer.status == "unparsable" and "length" in answer.detail


def test_a_rationale_is_asked_for_and_every_reply_is_typed(vllm_server: Served) -> None:
    for answer in answers(judge(vllm_server, "rationale", max_tokens=60)).values():
        assert answer.status in ("ok", "unparsable") and answer.raw and answer.output_tokens > 1


def test_the_command_judges_two_files(vllm_server: Served, tmp_path: Path) -> None:
    """A prompt that is too long for the server fails alone, and is named."""
    rows = [(f"p{n}", f"What is {n} + {n}?", f"{2 * n}", "I like trains.") for n in range(5)]
    rows.append(("long", "word " * 2000, "one", "two"))
    for name, column in (("a", 2), ("b", 3)):
        lines = [json.dumps({"prompt_id": row[0], "prompt": row[1], "response": row[column]}) for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    command = [sys.executable, "-m", "harness", "judge", "--candidate", str(tmp_path / "a.jsonl")]
    command += ["--reference", str(tmp_path / "b.jsonl"), "--out", str(tmp_path / "v.jsonl")]
    command += ["--judge", f"openai:{vllm_server.model}", "--set", f"judge.base_url={vllm_server.base_url}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 3, done.stderr
    verdicts = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [(v["prompt_id"], v["status"]) for v in verdicts if v["status"] != "ok"] == [("long", "failed")] * 2
    assert len(verdicts) == 12 and "long" in done.stdout and "refused" in done.stdout
