"""PairRM, a reward model of 0.4B parameters that reads two responses side by side (llm-blender/PairRM-hf).

    logit(A, B) > 0: the model prefers A, shown first      score = logit(A, B) − logit(B, A)
    preference = sigmoid(score / 2), by the mean of the two orders' logits for the candidate A

One order alone is not antisymmetric; the score is, whatever the weights. Input as `tokenize_pair` of the model card
has it: three segments, each between [CLS] and [SEP] and led by its prefix token. Source: Jiang et al. 2023,
"LLM-Blender", https://arxiv.org/abs/2306.02561, and the cards of llm-blender/PairRM and PairRM-hf.

Importing this imports no torch and no llm-blender.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from math import isfinite, tanh
from pathlib import Path
from time import perf_counter
from typing import Any

from harness.core.errors import UserError
from harness.core.records import Message, Order
from harness.judging.protocol import NO_ORDER, Answer, Arrived, Comparison, Judge, Question
from harness.models import memory
from harness.models.shapes import Shape
from harness.serving.resident import hold

SOURCE_TOKENS = 1224  # at most, its three control tokens included
ALL_TOKENS = 2048  # of all three segments; what the source leaves is shared by the responses, 412 each at least
SOURCE, FIRST, SECOND = "<|source|>", "<|candidate1|>", "<|candidate2|>"
PREFIX_IDS = {"source_prefix_id": SOURCE, "cand1_prefix_id": FIRST, "cand2_prefix_id": SECOND}
SETTINGS = ("n_tasks", "drop_out", "cand_prefix_id", *PREFIX_IDS)  # what a PairRM's config.json has beside DeBERTa's
# llm-blender's words for a conversation (Blender.compare_conversations), to the letter: the weights have seen them
CONVERSATION = "Finish the following coversation in each i-th turn by filling in <Response i> with your response."


def source_text(messages: Sequence[Message]) -> str:
    """What the responses answer. A single user turn is its own text; a system message has the lines before it.

    A longer conversation is written as llm-blender writes one, but with the answers that were given in their places:
    llm-blender has a placeholder for each and repeats them all in both candidates, at the expense of the responses
    that are compared.
    """
    system = [message.content for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    if len(turns) == 1:
        return "\n".join([*system, turns[0].content])
    names = {"user": "USER", "assistant": "Assistant"}
    spoken = [f"{names[turn.role]}: {turn.content}" for turn in turns]
    return "\n".join([*system, CONVERSATION + spoken[0], *spoken[1:], f"Assistant: {response_name(messages)}"])


def response_name(messages: Sequence[Message]) -> str:
    """<Response i> for the i-th of a conversation's responses, the one that is asked for; none for a single turn."""
    roles = [message.role for message in messages if message.role != "system"]
    return f"<Response {roles.count('user')}>" if len(roles) > 1 else ""


def response_text(messages: Sequence[Message], text: str) -> str:
    """A response as a candidate: in a conversation, with the name of its place."""
    name = response_name(messages)
    return f"{name}: {text}" if name else text


def texts(comparison: Comparison) -> tuple[str, str, str]:
    """Source, candidate and reference, as the model reads them."""
    messages = comparison.prompt.messages
    candidate, reference = (response_text(messages, r.text) for r in (comparison.candidate, comparison.reference))
    return source_text(messages), candidate, reference


def antisymmetric_preference(there: float, back: float) -> float:
    """0..1 for A, from logit(A, B) and logit(B, A): sigmoid of half their difference."""
    return 0.5 * (1 + tanh((there - back) / 4))  # tanh is odd to the last bit, and never overflows


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of one question with the candidate first and with the reference first, both of one length; and the
    texts that were cut."""

    there: list[int]
    back: list[int]
    cut: tuple[str, ...]


@dataclass(frozen=True)
class Reader:
    """A PairRM in evaluation mode and its tokenizer. spelled: for each control token, the tokens of its letters."""

    model: Any
    tokenizer: Any
    spelled: dict[int, list[int]]

    def segment(self, prefix: str, text: str, limit: int) -> tuple[list[int], bool]:
        """At most `limit` ids, [CLS] prefix text [SEP], and whether the text was cut.

        The text's own control tokens are spelled out, so that "[SEP]" or "<|candidate1|>" in a response is text.
        transformers' split_special_tokens would leave them: the prefixes are no special tokens to it, and "[SEP]" is
        a piece of the Unigram vocabulary as well.
        """
        lead, *tokens = self.tokenizer.encode(prefix + text, add_special_tokens=False)
        body = [piece for token in tokens for piece in self.spelled.get(token, (token,))]
        room = limit - 3
        return [self.tokenizer.cls_token_id, lead, *body[:room], self.tokenizer.sep_token_id], len(body) > room

    def pair(self, source: str, candidate: str, reference: str) -> EncodedPair:
        head, source_cut = self.segment(SOURCE, source, SOURCE_TOKENS)
        limit = (ALL_TOKENS - len(head)) // 2
        first, candidate_cut = self.segment(FIRST, candidate, limit)
        second, reference_cut = self.segment(SECOND, reference, limit)
        there = head + first + second
        back = head + self.segment(FIRST, reference, limit)[0] + self.segment(SECOND, candidate, limit)[0]
        cuts = {"source": source_cut, "candidate": candidate_cut, "reference": reference_cut}
        return EncodedPair(there, back, tuple(name for name, cut in cuts.items() if cut))

    def logits(self, rows: list[list[int]]) -> list[float]:
        """One logit a row, in float32: above 0 where the first response is preferred."""
        import torch

        batch = self.tokenizer.pad({"input_ids": rows}, return_tensors="pt").to(self.model.device)
        with torch.inference_mode():
            found = self.model(batch["input_ids"], batch["attention_mask"], return_dict=True).logits
        return [float(value) for value in found.tolist()]


def no_checkpoint(folder: Path, why: str) -> UserError:
    return UserError(
        f"{folder}: not a PairRM checkpoint ({why}); give the folder of a download of llm-blender/PairRM-hf"
    )


def check_folder(folder: Path) -> None:
    """What can be told without reading weights.

    Raises:
        UserError: its config.json is not one of a PairRM.
    """
    try:
        settings = dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except OSError as error:
        raise no_checkpoint(folder, "its config.json cannot be read") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise no_checkpoint(folder, "its config.json is not a JSON object") from error
    if missing := [name for name in SETTINGS if name not in settings]:
        raise no_checkpoint(folder, f"its config.json has no {', '.join(missing)}")
    if not (folder / "tokenizer.json").is_file():
        raise no_checkpoint(folder, "it has no tokenizer.json")


def spell_controls(tokenizer: Any) -> dict[int, list[int]]:
    """For each control token's id, the ids of its first character and of the rest, as text."""
    model = tokenizer.backend_tokenizer.model
    controls = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items()}
    controls.pop(tokenizer.unk_token_id, None)  # what has no token is unknown, spelled or not
    return {
        index: [piece.id for part in (text[:1], text[1:]) for piece in model.tokenize(part)]
        for index, text in controls.items()
    }


def load_reader(folder: Path) -> Reader:
    """Read a checkpoint, in float32, onto the best device.

    Raises:
        UserError: the folder is not a PairRM checkpoint, or llm-blender is not installed.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import DebertaV2Config, PreTrainedTokenizerFast

    from harness.judging.llm_blender_shim import pairrm_class
    from harness.models import loading, weights

    check_folder(folder)
    kind = pairrm_class()
    # tokenizer.json as it is: AutoTokenizer would take DebertaV2Tokenizer, which in transformers 5 puts a normaliser
    # of its own in place of the one that the weights were trained with
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    config = DebertaV2Config.from_pretrained(folder)
    if getattr(config, "sep_token_id", None) is None:  # as in PairRM-hf: transformers 4 gave every config one
        config.sep_token_id = tokenizer.sep_token_id
    for name, prefix in PREFIX_IDS.items():
        if tokenizer.convert_tokens_to_ids(prefix) != getattr(config, name):
            raise no_checkpoint(folder, f"{prefix} is not token {getattr(config, name)} of its tokenizer")
    try:
        with weights.without_adapter(folder) as plain:
            model, found = kind.from_pretrained(
                plain, config=config, dtype=torch.float32, use_safetensors=True, **weights.SAID
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise no_checkpoint(folder, str(error).strip().split("\n")[0]) from error
    if wrong := weights.difference(model, found):
        raise no_checkpoint(folder, f"its weights have {wrong}")
    return Reader(model.eval().requires_grad_(False).to(loading.device()), tokenizer, spell_controls(tokenizer))


def to_answer(pair: EncodedPair, there: float, back: float, seconds: float) -> Answer:
    """The answer to one question, from both orders' logits."""
    read = len(pair.there) + len(pair.back)
    cuts = [f"{name} cut" for name in pair.cut]
    detail = "; ".join([f"logit(A,B) {there:+.4f}, logit(B,A) {back:+.4f}", *cuts])
    if not (isfinite(there) and isfinite(back)):
        return Answer("failed", detail=detail, input_tokens=read, seconds=seconds)
    if pair.there == pair.back:  # equal responses tie, whatever rounding does at their places in a batch
        back = there
    preference = antisymmetric_preference(there, back)
    return Answer("ok", preference, detail, input_tokens=read, seconds=seconds, truncated=bool(cuts))


@dataclass(frozen=True)
class PairRM(Judge):
    """PairRM as a judge. It is asked once a comparison, and reads both orders itself.

    weights: the digest of their content. batch_size: how many questions are read at once.
    """

    name: str
    weights: str
    folder: Path
    batch_size: int = 8
    version: int = 1
    summary: str = "which response PairRM, a 0.4B reward model, prefers when it reads both, in both orders"
    orders: tuple[Order, ...] = NO_ORDER

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "weights": self.weights,
            "version": self.version,
            "orders": self.orders,
            "measures": self.measures,
            "members": self.members,
        }

    @property
    def setup(self) -> dict[str, str]:
        return {"weights": self.weights[:12]}

    def memory(self, shape: Shape) -> int:
        return sum(memory.reading(shape, self.batch_size * ALL_TOKENS).values())

    def answer(self, questions: Iterable[Question], arrived: Arrived) -> None:
        remaining = iter(questions)
        while batch := list(islice(remaining, self.batch_size)):
            reader = hold(self.folder, PairRM, lambda: load_reader(self.folder))
            started = perf_counter()
            pairs = [reader.pair(*texts(question.comparison)) for question in batch]
            there = reader.logits([pair.there for pair in pairs])
            back = reader.logits([pair.back for pair in pairs])
            seconds = perf_counter() - started
            for question, pair, first, second in zip(batch, pairs, there, back, strict=True):
                arrived(question, to_answer(pair, first, second, seconds))


def open_pairrm(name: str, folder: Path, weights: str) -> PairRM:
    """The judge of a checkpoint's folder, which may be there later: nothing of it is needed before the judge is asked.

    Raises:
        UserError: the folder is there and not a PairRM checkpoint, or llm-blender is not installed.
    """
    if find_spec("llm_blender") is None:
        raise UserError("judge pairrm needs llm-blender: pip install 'dadpo-harness[pairrm]'")
    if folder.is_dir():
        check_folder(folder)
    return PairRM(name, weights, folder)
