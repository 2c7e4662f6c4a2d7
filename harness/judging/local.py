"""Judges that are local models, asked in the letter form: what counts is the probability of the two letters as the
first token of the reply. Nothing is sampled.

The probabilities are exact: the model's own log-probs of every token that is one of the letters, with or without white
space around it. Weights are bf16, as serving has them, or float32; logits are float32 where transformers computes them.
"""

from __future__ import annotations

import sys
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from harness.core.errors import UserError
from harness.core.records import Message, Prompt, Response
from harness.judging.protocol import Answer, Arrived, Comparison, Judge, Question
from harness.judging.reply_forms import Letters, letter_preference
from harness.judging.templates import Template
from harness.logprobs.batching import Example, collate, memory_errors, split_by_tokens
from harness.logprobs.model import LogProbModel
from harness.models import memory
from harness.models.chat import encode_chat
from harness.models.loading import frozen_model
from harness.models.reference import ChatTemplate
from harness.models.shapes import Shape
from harness.models.tokenizers import load_tokenizer
from harness.models.weights import load_config
from harness.serving.vllm_process import SamplingRequest, vllm_process

Precision = Literal["bf16", "fp32"]


class FirstToken(NamedTuple):
    """What a model says of a reply's first token: the log-probs asked for, in nats, and its most probable token."""

    log_probs: list[float]
    likeliest: int


@dataclass(frozen=True)
class LetterJudge(Judge):
    """A local model and a template.

    weights: the digest of the model's folder (locate.folder_digest), and of the chat template that it is given.
    chunk: how many questions are taken and asked together.

    Raises:
        UserError: the template has no letter form.
    """

    name: str
    summary: str
    template: Template
    folder: Path
    weights: str
    precision: Precision = "bf16"
    version: int = 2
    chunk: int = 64
    chat_template: ChatTemplate | None = None
    remote_code: bool = False

    def __post_init__(self) -> None:
        if "letter" not in self.template.forms:
            raise UserError(
                f"judge {self.name}: judge template {self.template.name} does not ask for a letter, "
                "and a local judge reads nothing else"
            )

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "weights": self.weights,
            "precision": self.precision,
            "version": self.version,
            "template": self.template.digest,
            "orders": self.orders,
            "measures": self.measures,
            "members": self.members,
        }

    @property
    def setup(self) -> dict[str, str]:
        return {
            "weights": self.weights[-12:],
            "template": f"{self.template.name} ({self.template.digest})",
            "form": "letter",
            "precision": self.precision,
        }

    def check(self, prompts: Iterable[Prompt]) -> None:
        self.template.check(prompts)

    def notes(self, prompts: Iterable[Prompt]) -> list[str]:
        return self.template.notes(prompts)

    def conversation(self, prompt: Prompt) -> list[Message]:
        said = Response(prompt_id=prompt.id, token_ids=(), text="…", finish="stop")
        return self.template.messages(Question(Comparison(prompt, said, said), self.orders[0]), "letter")

    def answer(self, questions: Iterable[Question], arrived: Arrived) -> None:
        tokenizer = load_tokenizer(self.folder, self.chat_template, self.remote_code)
        letters = letter_tokens(tokenizer, self.template.letters)
        limit = self.limit()
        left = iter(questions)
        while part := list(islice(left, self.chunk)):
            began = time.monotonic()
            prompts = [self._prompt(tokenizer, question) for question in part]
            fits = [len(prompt) < limit for prompt in prompts]  # the letter needs a position too
            heard = iter(self.first_tokens([p for p, fit in zip(prompts, fits, strict=True) if fit], list(letters)))
            for question, prompt, fit in zip(part, prompts, fits, strict=True):
                if not fit:
                    detail = f"the prompt has {len(prompt):,} tokens, and the model takes {limit - 1:,}"
                    arrived(question, Answer("failed", detail=detail))
                    continue
                first = next(heard)
                raw = tokenizer.decode([first.likeliest])
                told = read_letters(question, first.log_probs, list(letters.values()), self.template.letters)
                status, preference, detail = told
                seconds = time.monotonic() - began
                arrived(question, Answer(status, preference, detail, raw, len(prompt), 1, seconds))

    def limit(self) -> int:
        """How many tokens the model takes, the reply's included."""
        return int(load_config(self.folder, self.remote_code).max_position_embeddings)

    @abstractmethod
    def first_tokens(self, prompts: Sequence[Sequence[int]], tokens: list[int]) -> list[FirstToken]:
        """What the model says of each reply's first token, with the log-probs of `tokens`, in the prompts' order."""

    def _prompt(self, tokenizer: Any, question: Question) -> list[int]:
        try:
            return encode_chat(tokenizer, self.template.messages(question, "letter"))
        except UserError as error:
            raise UserError(f"{error} (with the messages of judge template '{self.template.name}')") from error


def letter_tokens(tokenizer: Any, letters: Letters) -> dict[int, str]:
    """Ids of the tokens that are one of the letters, with or without white space around it, and their texts.

    Raises:
        UserError: a letter is no token of its own.
    """
    near = sorted(index for token, index in tokenizer.get_vocab().items() if any(letter in token for letter in letters))
    texts = {index: tokenizer.decode([index]) for index in near}
    found = {index: text for index, text in texts.items() if text.strip() in letters}
    for letter in letters:
        if letter not in {text.strip() for text in found.values()}:
            raise UserError(f"the tokenizer of {tokenizer.name_or_path} has no token for the letter {letter!r} alone")
    return found


def read_letters(
    question: Question, log_probs: Sequence[float], texts: Sequence[str], letters: Letters
) -> tuple[Literal["ok", "unparsable"], float | None, str]:
    """Status, preference for the candidate and detail, from the letters' log-probs in nats."""
    first, mass = letter_preference(zip(texts, log_probs, strict=True), letters)
    detail = f"the letters have {mass:.3f} of the probability"
    if first is None:
        return "unparsable", None, detail
    return "ok", question.for_candidate(first), detail


@dataclass(frozen=True)
class TransformersJudge(LetterJudge):
    """A model that this process loads, once for all questions.

    batch_tokens: tokens in a micro-batch; a longer prompt is one of its own.
    """

    version: int = 3
    batch_tokens: int = 8192

    def memory(self, shape: Shape) -> int:
        weight_bytes = memory.BF16 if self.precision == "bf16" else memory.FP32
        return sum(memory.reading(shape, self.batch_tokens, weight_bytes).values())

    @torch.no_grad()
    def first_tokens(self, prompts: Sequence[Sequence[int]], tokens: list[int]) -> list[FirstToken]:
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        model = LogProbModel(frozen_model(self.folder, dtype, remote_code=self.remote_code))
        device = next(model.parameters()).device
        wanted = torch.tensor(tokens, device=device)
        # any token will do as the reply: only what comes before it is read
        examples = [Example(index, prompt, (tokens[:1],)) for index, prompt in enumerate(prompts)]
        found: dict[int, FirstToken] = {}
        for part in split_by_tokens(examples, self.batch_tokens, model.layout):
            with memory_errors(part, model.layout, "use a smaller judge, or judge on a device with more memory"):
                target = model.log_prob_rows(collate(part, model.layout).to(device))
                rows = target.rows(slice(None), target.vocabulary)
            likeliest = rows.argmax(-1).tolist()
            for example, log_probs, top in zip(part, rows[:, wanted].tolist(), likeliest, strict=True):
                found[example.index] = FirstToken(log_probs, top)
        return [found[index] for index in range(len(prompts))]


@dataclass(frozen=True)
class VLLMJudge(LetterJudge):
    """A model that vLLM serves in a process of its own, under an interpreter that has vLLM.

    engine: further keyword arguments of vllm.LLM, as pairs; they may change what the model says (quantization).
    max_model_len: as vLLM has it, at most the model's own positions: less takes less memory.
    """

    python: str = sys.executable
    max_model_len: int | None = None
    engine: tuple[tuple[str, Any], ...] = ()
    chunk: int = 512

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "engine": self.engine}

    def limit(self) -> int:
        own = super().limit()
        return min(own, self.max_model_len or own)

    def first_tokens(self, prompts: Sequence[Sequence[int]], tokens: list[int]) -> list[FirstToken]:
        dtype = "bfloat16" if self.precision == "bf16" else "float32"
        settings = {"dtype": dtype, "max_model_len": self.limit(), **dict(self.engine)}
        if self.remote_code:
            settings["trust_remote_code"] = True
        process = vllm_process(self.python, self.folder, settings)
        sampling = {"max_tokens": 1, "temperature": 0, "logprob_token_ids": tokens}
        found = []
        for completion in process.generate([SamplingRequest(prompt, sampling) for prompt in prompts]):
            (row,) = completion.log_probs
            found.append(FirstToken([row[token] for token in tokens], completion.token_ids[0]))
        return found
