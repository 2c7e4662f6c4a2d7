"""Responses and log-probs by a real vLLM are those of the same model in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.core.errors import UserError
from harness.core.records import Message
from harness.generation import sampler
from harness.generation.protocol import Draw, Drawn, Request, Sampling
from harness.generation.server import ServerGenerator
from harness.generation.vllm import VLLMGenerator
from harness.logprobs.batching import Example
from harness.logprobs.model import LogProbModel
from harness.logprobs.scoring import sequence_log_probs, top_log_probs
from harness.logprobs.served import served_log_probs, served_tokens, served_top
from harness.models.chat import encode_chat, stop_ids
from harness.models.loading import frozen_model
from harness.models.tokenizers import load_tokenizer
from harness.serving.settings import VLLM, ModelServer
from tests.vllm.conftest import Served

TEXTS = (
    "What is the capital of France?",
    "Name three colours.",
    "Why is the sky blue? Answer in one sentence.",
    "Write a short greeting to a colleague who comes back from holiday.",
    "How do I boil an egg?",
    "Say hello.<|im_end|>",
)
COUNT, SHARE = 16, 0.9
GREEDY = Draw(Sampling(temperature=0, max_new_tokens=COUNT), seed=0, purpose="chosen")


@pytest.fixture(scope="module")
def tokenizer(model_folder: Path) -> Any:
    return load_tokenizer(model_folder)


def rows_for(tokenizer: Any) -> list[Request]:
    found = []
    for number, text in enumerate(TEXTS):
        messages = (Message(role="user", content=text),)
        found.append(Request(f"p{number}/0", messages, encode_chat(tokenizer, messages)))
    return found


def greedy_here(folder: Path, tokenizer: Any, rows: Sequence[Request]) -> list[list[int]]:
    """What the sampler's loop draws with float32 weights; in a run they are bf16, which rounds ties otherwise."""
    model = frozen_model(folder, torch.float32, sampler.GROUPED_ATTENTION)
    uniforms = torch.zeros(len(rows), COUNT, dtype=torch.float64)
    stops = stop_ids(model, tokenizer)
    return sampler.decode_batch(model, [row.prompt for row in rows], uniforms, GREEDY.sampling, stops, len(tokenizer))


@pytest.fixture(scope="module")
def rows(tokenizer: Any) -> list[Request]:
    return rows_for(tokenizer)


@pytest.fixture(scope="module")
def here(model_folder: Path, tokenizer: Any, rows: list[Request]) -> list[list[int]]:
    return greedy_here(model_folder, tokenizer, rows)


def agreement(there: Sequence[Sequence[int]], here: Sequence[Sequence[int]]) -> float:
    """The share of the places at which both have the same token."""
    same = sum(a == b for one, other in zip(there, here, strict=True) for a, b in zip(one, other, strict=False))
    return same / sum(max(len(one), len(other)) for one, other in zip(there, here, strict=True))


def assert_told(found: Sequence[Drawn], here: Sequence[Sequence[int]]) -> None:
    share = agreement([drawn.token_ids for drawn in found], here)
    print(f"{share:.3f} of the tokens agree")
    assert share >= SHARE


@pytest.fixture(scope="module")
def in_vllm(engine_folder: Path, tokenizer: Any, vllm_python: str, engine_fp32: dict[str, Any]) -> VLLMGenerator:
    positions = engine_fp32["max_model_len"]
    return VLLMGenerator(
        engine_folder, tokenizer, VLLM(python=vllm_python, max_model_len=positions, engine=engine_fp32)
    )


def test_greedy_decoding_in_vllm_is_that_of_the_sampler(
    in_vllm: VLLMGenerator, rows: list[Request], here: list[list[int]]
) -> None:
    """At least 90% of the first 16 tokens, both in float32 (measured: all)."""
    found = in_vllm.draw(rows, GREEDY)
    assert_told(found, here)
    for drawn, ids in zip(found, here, strict=True):
        if list(drawn.token_ids) == ids:
            assert drawn.finish == ("stop" if len(ids) < COUNT else drawn.finish)
            assert drawn.text == in_vllm.tokenizer.decode(ids, skip_special_tokens=True)
    assert in_vllm.versions["vllm"]


def test_what_vllm_draws_for_a_row_follows_from_its_seed(in_vllm: VLLMGenerator, rows: list[Request]) -> None:
    """More prompts than vLLM reads at once, so that one of them would be read in parts."""
    how = Draw(Sampling(max_new_tokens=COUNT), 0, "chosen")
    together = [drawn.token_ids for drawn in in_vllm.draw(rows, how)]
    assert sum(len(row.prompt) for row in rows * 5) > in_vllm.settings.engine["max_num_batched_tokens"]
    often = [drawn.token_ids for drawn in in_vllm.draw(rows * 5, how)]
    assert agreement(often, together * 5) >= SHARE
    again = [drawn.token_ids for drawn in in_vllm.draw(rows[::-1], how)][::-1]
    assert agreement(again, together) >= SHARE
    others = [drawn.token_ids for drawn in in_vllm.draw(rows, Draw(how.sampling, 1, "chosen"))]
    assert agreement(others, together) < 0.5


def test_a_response_that_the_engine_s_length_cuts_is_refused(
    in_vllm: VLLMGenerator, tokenizer: Any, rows: list[Request]
) -> None:
    """A word that is said over and over, which the model does not end soon."""
    positions = in_vllm.settings.max_model_len
    assert positions
    (word,) = tokenizer.encode(" word", add_special_tokens=False)
    long = Request("long/0", rows[0].messages, [word] * (positions - 4))
    with pytest.raises(UserError, match=r"^vLLM gave \d of 16 tokens for long/0: .* raise vllm\.max_model_len"):
        in_vllm.draw([rows[0], long], GREEDY)


def on(server: Served) -> ModelServer:
    return ModelServer(base_url=server.base_url, model=server.model, concurrency=8, tries=1)


def test_greedy_decoding_behind_a_server_is_that_of_the_sampler(
    vllm_server_fp32: Served, tokenizer: Any, rows: list[Request], here: list[list[int]]
) -> None:
    """At least 90% of the first 16 tokens, both in float32 (measured: all). A control token in a message is broken up
    for a server: another text, which is left out here."""
    plain = [number for number, row in enumerate(rows) if "<|" not in row.messages[0].content]
    found = ServerGenerator(on(vllm_server_fp32), tokenizer).draw([rows[number] for number in plain], GREEDY)
    assert_told(found, [here[number] for number in plain])


# Nats a response of at most 16 tokens. Measured: at most 0.51 and 0.00006.
TOLERANCE = {"bf16": 1.0, "fp32": 0.001}


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_log_probs_of_a_served_teacher_are_those_of_the_model_here(
    request: pytest.FixtureRequest, model_folder: Path, rows: list[Request], here: list[list[int]], precision: str
) -> None:
    """Of greedy responses and of others' to each prompt. In bf16 the server's weights are rounded and those here are
    not (autocast): sums of -3 to -52 nats differed by at most 0.51. In float32 they differed by at most 0.00006."""
    name = {"bf16": "vllm_server", "fp32": "vllm_server_fp32"}[precision]
    server: Served = request.getfixturevalue(name)
    others = [*here[1:], here[0]]
    examples = [
        Example(number, row.prompt, (mine, other))
        for number, (row, mine, other) in enumerate(zip(rows, here, others, strict=True))
    ]
    there = served_log_probs(on(server), examples)
    model = LogProbModel(frozen_model(model_folder, torch.float32))
    local = sequence_log_probs(model, examples, precision, 2048, lambda *_: None)
    print(
        f"{precision}: {local.tolist()}\n differences {abs(there - local).tolist()}, at most {abs(there - local).max()}"
    )
    assert there == pytest.approx(local, abs=TOLERANCE[precision])
    assert local.max() - local.min() > 20  # far more than the tolerances lies between responses


# Of the 20 largest log-probs in their order: nats at most, nats on average, and how many of the ids are the same.
# Measured: 0.6, 0.06 and 97% in bf16 (as above); 0.00009, 0.00001 and all in float32.
TOP_TOLERANCE = {"bf16": (1.0, 0.1, 0.9), "fp32": (0.001, 0.0001, 0.999)}


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_likeliest_ids_of_a_served_teacher_are_those_of_the_model_here(
    request: pytest.FixtureRequest,
    model_folder: Path,
    tokenizer: Any,
    rows: list[Request],
    here: list[list[int]],
    precision: str,
) -> None:
    """As many as the server gives where nothing else is said, at each token of greedy responses and of another's."""
    server: Served = request.getfixturevalue({"bf16": "vllm_server", "fp32": "vllm_server_fp32"}[precision])
    examples = [
        Example(number, row.prompt, (tokens,), row.name)
        for number, (row, tokens) in enumerate(zip([*rows, rows[1]], [*here, here[0]], strict=True))
    ]
    there = served_top(on(server), examples, 20, len(tokenizer))
    model = LogProbModel(frozen_model(model_folder, torch.float32))
    ids, log_probs = top_log_probs(model, examples, 20, len(tokenizer), precision, 2048, lambda *_: None)
    tokens = np.concatenate(served_tokens(on(server), examples))
    # the label's own log-prob, asked for with the likeliest and alone
    assert there.labels == pytest.approx(tokens, abs=TOP_TOLERANCE[precision][0])
    same = np.mean([len({*a} & {*b}) / 20 for a, b in zip(ids.tolist(), there.ids.tolist(), strict=True)])
    # two that lie near each other may change places: what is compared is the largest, the second largest, …
    far = abs(there.log_probs - log_probs)
    mass = abs(np.exp(there.log_probs).sum(1) - np.exp(log_probs).sum(1)).max()
    print(f"{precision}: at most {far.max():.6f} nats, mean {far.mean():.6f}, {same:.4f} of the ids; mass {mass:.6f}")
    most, mean, shared = TOP_TOLERANCE[precision]
    assert far.max() < most and far.mean() < mean and same > shared
    assert log_probs.min() < -5  # far more than the tolerance lies between the first and the last


def test_more_likeliest_ids_than_a_server_gives_are_one_line_with_its_limit(
    vllm_server: Served, tokenizer: Any, rows: list[Request], here: list[list[int]]
) -> None:
    examples = [Example(0, rows[0].prompt, (here[0],), rows[0].name)]
    with pytest.raises(UserError, match=r"gives at most 20 log-probs of a token where 21 are asked for: set") as caught:
        served_top(on(vllm_server), examples, 21, len(tokenizer))
    assert "\n" not in str(caught.value) and "top_k=20" in str(caught.value)
