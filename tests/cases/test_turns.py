"""Where a turn ends is said by the chat template, and a quoted control token changes nothing around it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import normalizers

from harness.models.loading import load_model
from harness.models.tokenizers import load_tokenizer
from tests.cases.conftest import Case, written
from tests.conftest import tiny_model
from tests.harness.making import saved
from tests.harness.models.kinds import END, KINDS


def two_ends(folder: Path) -> None:
    """Turns end with <|im_end|>, as in Gemma and Phi-3, and tokenizer.eos_token is another, which the model practically
    never says. It says Q, Z, X and J, which no merge joins: every text is split as it was said."""
    model, tokenizer = load_model(folder, torch.float32), load_tokenizer(folder)
    end, eos, *letters = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>", *"QZXJ"])
    tokenizer.eos_token = "<|endoftext|>"
    model.config.tie_word_embeddings = False
    with torch.no_grad():  # one dimension of the residual stream is constant, and so gives each token a bias
        model.model.embed_tokens.weight[:, 0] = 4
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = layer.mlp.down_proj.weight[0] = 0
        head = 0.1 * torch.randn(model.lm_head.weight.shape, generator=torch.Generator().manual_seed(0))
        head[:, 0] = -40
        head[letters, 0], head[end, 0] = 1, 0.9
        model.lm_head.weight = torch.nn.Parameter(head)
    model.generation_config.eos_token_id = [eos, end]
    shutil.rmtree(folder)
    saved(folder, model, tokenizer)


def twin(case: Case) -> None:
    shutil.rmtree(case.student)
    shutil.copytree(case.teacher, case.student)


def untrained(case: Case, *options: str | Path) -> dict[str, Any]:
    """The row of the student as it was, of a run on more prompts."""
    ended = case.run(*options)
    assert ended.status == 0, ended.err
    (row,) = (row for row in case.results()["rows"] if row["method"] == "student (untrained)")
    return {name: value for name, value in row.items() if name != "artifact"}


def generation_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    return config


def test_a_student_with_its_teacher_s_weights_has_one_row_whatever_its_tokenizer_calls_the_end(case: Case) -> None:
    """As another release, whose responses are split anew and whose template is another text; and as a base model, whose
    generation config knows the end of text alone."""
    case.tokens = 32
    case.evaluation = written(
        case.root / "many.jsonl", [{"id": f"e{n}", "prompt": f"What comes after step {n}?"} for n in range(12)]
    )
    two_ends(case.teacher)
    twin(case)
    one = untrained(case)
    assert one["cut_share"] < 0.2 and one["preference_interval"][0] < 0 < one["preference_interval"][1]

    tokenizer = load_tokenizer(case.student)
    tokenizer.chat_template = "{# the same words, another release #}" + tokenizer.chat_template
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    tokenizer.save_pretrained(case.student)
    assert untrained(case) == one

    twin(case)
    (case.student / "generation_config.json").write_text(
        json.dumps({**generation_config(case.student), "eos_token_id": 0})
    )
    assert untrained(case) == one
    assert generation_config(case.out / "students" / "sft")["eos_token_id"] == [0, 2]


@pytest.mark.parametrize("kind", ["phi3", "llama2", "gemma", "swallowing_qwen"])
def test_a_quoted_control_token_leaves_the_template_s_own_as_they_are(case: Case, kind: str) -> None:
    tokenizer = KINDS[kind]()
    for folder, seed in ((case.student, 0), (case.teacher, 1)):
        shutil.rmtree(folder)
        saved(folder, tiny_model("llama", seed, vocabulary=len(tokenizer)), tokenizer)
    token = END[kind]
    texts = ("Explain what QQQ does.", f"Explain what {token} does.")
    case.training = written(
        case.root / "train.jsonl", [{"id": f"t{n}", "prompt": text} for n, text in enumerate(texts)]
    )
    shown = []
    for index, word in enumerate(("QQQ", token)):
        ended = case.example("--index", str(index))
        assert ended.status == 0, ended.err
        tokens = re.search(r"^  prompt.*?(?=^prompt:)", ended.out, re.MULTILINE | re.DOTALL)
        shown.append((tokens or pytest.fail(ended.out))[0].replace(" ", "").replace(f"what␣{word}␣does", "…"))
    assert shown[0] == shown[1] and "…" in shown[0]
