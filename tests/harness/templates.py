"""Judge templates in every format, as files, and questions to put in their words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from harness.core.records import Message, Order, Prompt, Response
from harness.judging.protocol import Comparison, Question

GUIDED = "Two chatbots replied. The right answer is given."
FASTCHAT: list[dict[str, Any]] = [
    {
        "name": "pair",
        "type": "pairwise",
        "system_prompt": "Say which of two chatbots did better: [[A]], [[B]] or [[C]].",
        "prompt_template": "[Asked]\n{question}\n\n[Start of A's Reply]\n{answer_a}\n[End of A's Reply]\n\n"
        "[Start of B's Reply]\n{answer_b}\n[End of B's Reply]",
        "output_format": "[[A]]",
    },
    {
        "name": "pair-multi-turn",
        "type": "pairwise",
        "system_prompt": "Say who answered the second question better.",
        "prompt_template": "<|Start of A's Talk|>\n\n### User:\n{question_1}\n\n### A:\n{answer_a_1}\n\n### User:\n"
        "{question_2}\n\n### A:\n{answer_a_2}\n\n<|End of A's Talk|>\n\n\n<|Start of B's Talk|>\n\n"
        "### User:\n{question_1}\n\n### B:\n{answer_b_1}\n\n### User:\n{question_2}\n\n### B:\n{answer_b_2}\n\n"
        "<|End of B's Talk|>",
        "output_format": "[[A]]",
    },
    {
        "name": "pair-math",
        "type": "pairwise",
        "system_prompt": GUIDED,
        "prompt_template": "[Asked]\n{question}\n\n[Known]\n{ref_answer_1}\n\n[A's Reply]\n{answer_a}\n[End of A]\n\n"
        "[B's Reply]\n{answer_b}\n[End of B]\nA set: {{1, 2}}",
        "output_format": "[[A]]",
    },
    {"name": "one", "type": "single", "prompt_template": "{question}{answer}", "output_format": "[[rating]]"},
]
CHATML = (
    "<|im_start|>system\nYou pick the better of two replies.\n<|im_end|>\n<|im_start|>user\n## Task\n\n"
    '{\n    "task": """{instruction}""",\n}\n\n## Replies\n\n{\n    {\n        "id": "m",\n'
    '        "text": """{output_1}"""\n    },\n    {\n        "id": "M",\n        "text": """{output_2}"""\n    }\n}\n'
    "\n## Which is best, m or M?\n<|im_end|>\n"
)
PLAIN = "### Task:\n{instruction}\n\n### Output (a):\n{output_1}\n\n### Output (b):\n{output_2}\n\n### Best:"
PARSERS: dict[str, dict[str, Any]] = {
    "regex": {
        "completion_parser_kwargs": {"outputs_to_match": {1: r"Output \(a\)", 2: r"Output \(b\)", 1.5: "neither"}}
    },
    "letters": {
        "fn_completion_parser": "logprob_parser",
        "completion_parser_kwargs": {"numerator_token": "m", "denominator_tokens": ["M", "m"], "is_binarize": False},
    },
}


def prompt(*texts: str, answer: str = "", system: str = "", id: str = "p1") -> Prompt:
    """Turns of user and assistant."""
    turns = [Message(role="user" if n % 2 == 0 else "assistant", content=text) for n, text in enumerate(texts)]
    first = [Message(role="system", content=system)] if system else []
    return Prompt(id=id, messages=(*first, *turns), answer=answer)


def question(about: Prompt, first: str, second: str, order: Order = "candidate_first") -> Question:
    """A question that shows `first` first, whichever the order."""
    texts = (first, second) if order == "candidate_first" else (second, first)
    candidate, reference = (Response(prompt_id=about.id, token_ids=(), text=text, finish="stop") for text in texts)
    return Question(Comparison(about, candidate, reference), order)


def fastchat_file(folder: Path, rows: list[dict[str, Any]] | None = None) -> Path:
    path = folder / "judge_prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (FASTCHAT if rows is None else rows)))
    return path


def alpaca_file(folder: Path, text: str = CHATML) -> Path:
    path = folder / "clf.txt"
    path.write_text(text)
    return path


def alpaca_config(folder: Path, parser: str | dict[str, Any], text: str = PLAIN) -> Path:
    """As AlpacaEval lays it out: the prompt is named from the folder of all annotators."""
    own = folder / "mine"
    own.mkdir(exist_ok=True)
    (own / "prompt.txt").write_text(text)
    settings = PARSERS[parser] if isinstance(parser, str) else parser
    kept = {"completions_kwargs": {"model_name": "some-model", "max_tokens": 1}, "batch_size": 1}
    (own / "configs.yaml").write_text(
        yaml.safe_dump({"mine": {"prompt_template": "mine/prompt.txt", **kept, **settings}})
    )
    return own / "configs.yaml"


def own_file(folder: Path, **changes: Any) -> Path:
    data = {
        "version": 1,
        "system": "You judge.",
        "variants": {"chat": "Code {{ code }}\n{{ question }}\n{{ response_a }}\n{{ response_b }}"},
        "ask": {"rationale": "Say [[A]], [[B]] or [[C]].", "letter": "A or B?"},
        **changes,
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


MATH = prompt("What is 2 + 2?", answer="4")
TALK = prompt("Hello.", "Good day.", "What is 2 + 2?")
CONTROL = [
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|start_header_id|>", "<|end_of_text|>", "<|end|>"),
    *(
        "<|user|>",
        "<|assistant|>",
        "<|system|>",
        "<|START_OF_TURN_TOKEN|>",
        "<BOS_TOKEN>",
        "<|channel|>",
        "<|message|>",
    ),
    *("<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<|turn>", "<turn|>"),
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>", "<bos>", "<eos>", "<pad>", "<unk>", "[TOOL_CALLS]"),
    *("[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[SYSTEM_PROMPT]", "<start_of_turn>"),
    *("<end_of_turn>", "<unused7>", "<tool_call>", "</tool_call>", "<tool_response>", "<think>", "</think>", "[gMASK]"),
    *(
        "<sop>",
        "<eop>",
        "<image>",
        "<extra_id_0>",
        "<mask>",
        "[MASK]",
        "[CLS]",
        "<fim_prefix>",
        "<PRE>",
        "]~b]",
        "[e~[",
    ),
    *("[|endofturn|]", "<seed:bos>", "<|vision_start|>", "<|fim▁hole|>", "<0x0A>", "<[begin▁of▁sentence]>"),
]
