"""What stages read: prompts, responses and scores of artifacts, joined on prompt and sample."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UserError
from harness.core.records import Facts, Prompt, Response, read_records
from harness.logprobs.batching import Example
from harness.models import chat, tokenizers
from harness.models.reference import ChatTemplate, Model
from harness.run.jobs import LEFT_OUT, PROMPTS, RESPONSES
from harness.run.reading import ResponseKey, load_scores
from harness.store import Store

KEPT = 4  # tokenizers: a student's and a teacher's, and those of the job before


def load_prompts(ref: str, store: Store) -> list[Prompt]:
    return read_records(store.read(ref).path / PROMPTS, Prompt)


def load_responses(ref: str, store: Store) -> list[Response]:
    return read_records(store.read(ref).path / RESPONSES, Response)


def responses_by_key(ref: str, store: Store) -> dict[ResponseKey, Response]:
    return {(row.prompt_id, row.sample): row for row in load_responses(ref, store)}


def left_out_of(refs: Iterable[str], store: Store) -> set[str]:
    """The prompts that the server of one of these artifacts of responses gives no answer to."""
    return {name for ref in refs for name in store.read(ref).facts.get(LEFT_OUT, ())}


def joined(
    refs: Sequence[str], store: Store, beside: Sequence[str] = (), samples: Sequence[int] = ()
) -> list[dict[ResponseKey, Response]]:
    """The responses of several artifacts on the same keys; with `samples`, these of each artifact's responses to a
    prompt, as if it had no others. A prompt that the server of one of them, or of one of those `beside` them, gives no
    answer to is left out of all.

    Raises:
        UserError: they do not hold the same prompts and samples.
    """
    left_out = left_out_of((*refs, *beside), store)
    tables = [{key: row for key, row in responses_by_key(ref, store).items() if key[0] not in left_out} for ref in refs]
    if samples:
        tables = [
            {(name, 0): row for (name, at), row in table.items() if at == sample}
            for table, sample in zip(tables, samples, strict=True)
        ]
    for ref, table in zip(refs, tables, strict=True):
        require_same_keys(ref, table, refs[0], tables[0])
    return tables


@dataclass(frozen=True)
class ReadExamples:
    """Examples with their keys. cut: prompts that lost their beginning. retokenised: whether any response was split
    anew, because the model that wrote it has another tokenizer."""

    keys: list[ResponseKey]
    examples: list[Example]
    cut: int
    retokenised: bool

    @property
    def tokens(self) -> int:
        return sum(example.tokens for example in self.examples)

    @property
    def facts(self) -> Facts:
        return {"tokens": self.tokens, "prompts_cut": self.cut, "retokenised": self.retokenised}


def data_of(
    prompts: str,
    responses: Sequence[str],
    tokenizer: Any,
    store: Store,
    max_prompt_tokens: int | None = None,
    samples: Sequence[int] = (),
    beside: Sequence[str] = (),
) -> ReadExamples:
    """Prompts with one response from each artifact, joined on (prompt id, sample), in the first one's order; with
    `samples`, with these of each artifact's responses to a prompt.

    Ids that this tokenizer's model could have generated are taken as they are; other responses are split anew. Prompts
    without an answer, in these or in those `beside` them, are left out (`joined`). Of no artifact, the prompts alone.
    """
    encoded = {prompt.id: chat.encode_chat(tokenizer, prompt.messages) for prompt in load_prompts(prompts, store)}
    own = fingerprint_of(tokenizer)
    foreign = [store.read(ref).facts["tokenizer"] != own for ref in responses]
    tables = [
        {key: response_ids(tokenizer, row, other) for key, row in table.items()}
        for table, other in zip(joined(responses, store, beside, samples), foreign, strict=True)
    ]
    left_out = left_out_of(beside, store)
    keys = list(tables[0]) if tables else [(name, 0) for name in encoded if name not in left_out]
    examples = [
        Example(
            index=index,
            prompt=encoded[key[0]][-max_prompt_tokens:] if max_prompt_tokens else encoded[key[0]],
            responses=tuple(table[key] for table in tables),
            name=key[0],
        )
        for index, key in enumerate(keys)
    ]
    cut = sum(len(example.prompt) < len(encoded[key[0]]) for key, example in zip(keys, examples, strict=True))
    return ReadExamples(keys, examples, cut, any(foreign))


def response_ids(tokenizer: Any, response: Response, foreign: bool) -> Sequence[int]:
    if not foreign:
        return response.token_ids
    return chat.encode_response(tokenizer, response.text, response.finish == "stop")


def require_same_keys(name: str, keys: Iterable[ResponseKey], other: str, wanted: Iterable[ResponseKey]) -> None:
    odd = sorted(set(keys) ^ set(wanted))
    if odd:
        raise UserError(f"{name} and {other} do not hold the same prompts and samples; first difference: {odd[0]}")


def require_made_of(ref: str, responses: Sequence[str], store: Store) -> None:
    known = store.read(ref).manifest["job"]["responses"]
    if list(responses) != ([known] if isinstance(known, str) else known):
        raise UserError(f"{ref} was computed on other responses than {', '.join(responses)}")


def read_signal(ref: str, keys: Sequence[ResponseKey], responses: Sequence[str], store: Store) -> NDArray[np.float32]:
    """One signal's log-probs, [N, k], in the order of `keys`; it must have been computed on the same responses."""
    scores = load_scores(store.read(ref).path)
    require_made_of(ref, responses, store)
    require_same_keys(ref, scores, "the training data", keys)
    return np.array([scores[key]["log_probs"] for key in keys], dtype=np.float32)


def tokenizer_of(model: Model, folder: Path) -> Any:
    """A model's tokenizer, which jobs that follow one another load once: nobody changes it."""
    return _loaded(folder, model.digest or model.artifact, model.chat_template, model.remote_code)


@functools.lru_cache(maxsize=KEPT)
def _loaded(folder: Path, _content: str | None, template: ChatTemplate | None, remote_code: bool) -> Any:
    return tokenizers.load_tokenizer(folder, template, remote_code)


# of a tokenizer as `tokenizer_of` gives it
fingerprint_of = functools.lru_cache(maxsize=KEPT)(tokenizers.tokenizer_fingerprint)


@functools.lru_cache(maxsize=KEPT)
def why_two(student: Any, teacher: Any, prompts: tuple[Prompt, ...]) -> str:
    """`tokenizers.why_two` of such."""
    return tokenizers.why_two(student, teacher, prompts)
