"""Tiny checkpoints with a real, trained tokenizer, and a store of their own for every test."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for a network
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # what is compared stays on one device
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: threads only wait for one another

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

from harness import __main__ as program
from harness.core.files import canonical_hash
from harness.prompts import Library, training_set
from harness.store import Store
from tests.clock import Clock

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


# The files that take longest, from the longest on.
LONGEST = (
    "test_ranks",
    "test_end_to_end",
    "test_studies",
    "test_embedded_pair",
    "test_proxies",
    "test_api",
    "test_attention",
    "test_speed",
    "test_speed_generate",
    "test_launchers",
    "test_loop",
    "test_model",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, the longest before the rest: where processes take file after file, quick ones are
    left for whichever is free."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (item.path not in slow, place.get(item.path.stem, len(LONGEST))))


def pytest_collection_finish() -> None:
    """What is there before the first test stays: a run lets go of models a dozen times, and each time Python would look
    through all modules and tests for garbage, which took half of a tiny run's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def signals() -> Iterator[None]:
    """A process that was started in the background of a script ignores SIGINT, and so does all that it starts. Tests
    and their children take signals as in a terminal."""
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders that are yet to be made."""
    folder = tmp_path_factory.mktemp("stores")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def own_store(request: pytest.FixtureRequest, stores: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own artifact store, in its folder where it has one: most have none, and to make one takes
    longer than many a test."""
    store = request.getfixturevalue("tmp_path") / "store" if "tmp_path" in request.fixturenames else next(stores)
    monkeypatch.setenv("DADPO_HARNESS_STORE", str(store))
    return store


_found_out: dict[tuple[str, str], Any] = {}


@pytest.fixture(autouse=True)
def found_out_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows from the content of checkpoints and prompts is found out once for all tests, whatever store each
    has: but for those that are about just that (`@pytest.mark.anew`)."""
    recall = Store.recall

    def remembered(store: Store, what: str, key: Any, find_out: Callable[[], Any]) -> Any:
        name = what, canonical_hash(key)
        if name not in _found_out:
            _found_out[name] = recall(store, what, key, find_out)
        return _found_out[name]

    if request.node.get_closest_marker("anew") is None:
        monkeypatch.setattr(Store, "recall", remembered)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock for `harness.serving.endpoint` that moves only while nobody works."""
    return Clock(monkeypatch)


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process."""

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            program.main()
        except SystemExit as ended:
            code = ended.code
        return Ended(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


ALL = "sft,kd,ddpo,dadpo"
Run = Callable[..., str]


@pytest.fixture
def run(cli: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Make a run in this process, which has torch and the rest imported, by the command that people type; what it
    said."""

    def run(arguments: list[str], out: Path, store: Path, methods: str | None = ALL) -> str:
        monkeypatch.setenv("DADPO_HARNESS_STORE", str(store))
        ended = cli("run", *arguments, *(() if methods is None else ("--methods", methods)), "--out", out)
        assert ended.status == 0, ended.err
        return str(ended.err)

    return run


def trained_tokenizer(size: int, special: Sequence[str] = SPECIAL) -> Any:
    """A byte-level BPE tokenizer, trained on this project's own prompts."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(special), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    texts = [m.content for p in training_set("everyday-train", Library()).prompts for m in p.messages]
    backend.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The tokenizer of most tests: 512 tokens."""
    return trained_tokenizer(512)


@pytest.fixture(scope="session")
def other_tokenizer() -> Any:
    """One that splits text otherwise, and whose end of turn has another id."""
    return trained_tokenizer(400, SPECIAL[::-1])


# what a window of a few tokens, capped attention and capped logits change is far from rounding
GEMMA2 = functools.partial(
    Gemma2Config,
    head_dim=8,
    sliding_window=8,
    query_pre_attn_scalar=8,
    attn_logit_softcapping=2.0,
    final_logit_softcapping=5.0,
)


def tiny_model(family: str, seed: int, hidden: int = 32, vocabulary: int = 512, tied: bool = True) -> Any:
    """A randomly initialised float32 model of two layers, with grouped key-value heads."""
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "initializer_range": 0.3,  # so that distributions are far from uniform
    }
    config = {"llama": LlamaConfig, "qwen2": Qwen2Config, "gemma2": GEMMA2}[family](**sizes)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> dict[str, Path]:
    """Folders of tiny checkpoints by name: llama, qwen2 and, as a teacher of the former,
    llama-teacher. (The same tokenizer files load as another tokenizer class, with other ids, under qwen2.)"""
    made = {}
    for name, family, seed, hidden in (
        ("llama", "llama", 0, 32),
        ("qwen2", "qwen2", 1, 32),
        ("llama-teacher", "llama", 2, 48),
    ):
        folder = tmp_path_factory.mktemp("checkpoints") / name
        tiny_model(family, seed, hidden).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        made[name] = folder
    return made
