"""Checkpoints in and out of memory, and what makes two tokenizers the same."""

from __future__ import annotations

import copy
import functools
import json
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

from harness.core.errors import UserError
from harness.models.chat import encode_response, encode_text
from harness.models.convert import dequantise_gguf, gguf_tokenizer
from harness.models.hub import MissingModelError
from harness.models.loading import frozen_model, load_model, reading_model, save_checkpoint
from harness.models.locate import locate
from harness.models.specs import models as known_models
from harness.models.tokenizers import load_tokenizer, tokenizer_difference, tokenizer_fingerprint
from harness.models.turns import end_of_turn
from harness.serving.resident import let_go_of_all
from harness.store import Store
from tests.conftest import tiny_model


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    let_go_of_all()
    yield
    let_go_of_all()


def same_weights(one: Any, other: Any) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name].cpu(), second[name].cpu()) for name in first)


def trained_tokenizer(text: str, size: int = 300) -> Any:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator([text] * 3, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=backend)


# ---- checkpoints


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_round_trip_keeps_weights_bit_for_bit(family: str, tied: bool, tokenizer: Any, tmp_path: Path) -> None:
    model = tiny_model(family, seed=0, tied=tied)
    save_checkpoint(model, tokenizer, tmp_path)
    loaded = load_model(tmp_path, torch.float32)
    assert same_weights(loaded, model)
    assert not loaded.training
    again = tmp_path / "again"
    save_checkpoint(loaded, load_tokenizer(tmp_path), again)
    assert same_weights(load_model(again, torch.float32), model)


def test_a_round_trip_keeps_the_tokenizer_and_its_template(tokenizer: Any, tmp_path: Path) -> None:
    save_checkpoint(tiny_model("llama", seed=0), tokenizer, tmp_path)
    loaded = load_tokenizer(tmp_path)
    text = "How are you, Grüße <|im_end|>"
    assert loaded(text).input_ids == tokenizer(text).input_ids
    assert loaded.chat_template == tokenizer.chat_template
    assert (loaded.eos_token_id, loaded.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)


def test_a_checkpoint_is_safetensors_with_its_configuration(tokenizer: Any, tmp_path: Path) -> None:
    save_checkpoint(tiny_model("qwen2", seed=0), tokenizer, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "qwen2"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_is_loaded_in_the_dtype_asked_for(dtype: torch.dtype, checkpoints: dict[str, Path]) -> None:
    model = load_model(checkpoints["llama"], dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


def test_attention_that_caps_its_scores_is_loaded_with_the_capping(tmp_path: Path) -> None:
    """Transformers' own choice of attention leaves it out."""
    model = tiny_model("gemma2", seed=0)
    model.set_attn_implementation("eager")
    model.save_pretrained(tmp_path)
    ids = torch.arange(3, 33)[None]
    with torch.no_grad():
        found, wanted = (causal_lm(ids).logits for causal_lm in (load_model(tmp_path, torch.float32), model))
    torch.testing.assert_close(found, wanted)


def test_other_attention_is_left_to_transformers(checkpoints: dict[str, Path]) -> None:
    assert load_model(checkpoints["llama"], torch.float32).config._attn_implementation == "sdpa"
    assert load_model(checkpoints["llama"], torch.float32, "eager").config._attn_implementation == "eager"


# ---- tokenizers


def test_copies_of_a_tokenizer_have_one_fingerprint(
    tokenizer: Any, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(checkpoints["llama"], tmp_path / "copy")
    folders = [checkpoints["llama"], checkpoints["llama-teacher"], tmp_path / "copy"]
    assert len({tokenizer_fingerprint(load_tokenizer(folder)) for folder in folders}) == 1
    assert tokenizer_fingerprint(copy.deepcopy(tokenizer)) == tokenizer_fingerprint(tokenizer)


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_a_round_trip_keeps_the_fingerprint(name: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    loaded = load_tokenizer(checkpoints[name])
    save_checkpoint(load_model(checkpoints[name], torch.float32), loaded, tmp_path)
    assert tokenizer_fingerprint(load_tokenizer(tmp_path)) == tokenizer_fingerprint(loaded)


def test_how_a_tokenizer_was_called_does_not_change_its_fingerprint(tokenizer: Any) -> None:
    used = copy.deepcopy(tokenizer)
    used("<|im_end|>", split_special_tokens=True)
    used(["one", "two three"], padding=True, truncation=True, max_length=4)
    assert tokenizer_fingerprint(used) == tokenizer_fingerprint(tokenizer)


@pytest.mark.parametrize("special", [True, False])
def test_an_added_token_changes_the_fingerprint(tokenizer: Any, special: bool) -> None:
    extended = copy.deepcopy(tokenizer)
    extended.add_tokens(["<|new|>"], special_tokens=special)
    assert tokenizer_fingerprint(extended) != tokenizer_fingerprint(tokenizer)


def test_another_vocabulary_changes_the_fingerprint() -> None:
    text, other = "the cat sat on the mat with the hat", "a dog ran over every log and fog"
    assert tokenizer_fingerprint(trained_tokenizer(text)) == tokenizer_fingerprint(trained_tokenizer(text))
    assert tokenizer_fingerprint(trained_tokenizer(text)) != tokenizer_fingerprint(trained_tokenizer(other))
    assert tokenizer_fingerprint(trained_tokenizer(text)) != tokenizer_fingerprint(trained_tokenizer(text, 260))


def test_another_normaliser_changes_the_fingerprint(tokenizer: Any) -> None:
    lowered = copy.deepcopy(tokenizer)
    lowered.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert tokenizer_fingerprint(lowered) != tokenizer_fingerprint(tokenizer)


def test_of_a_chat_template_the_end_of_a_turn_alone_is_part_of_the_fingerprint(tokenizer: Any) -> None:
    """All else says how a prompt is written, and nothing of the ids of a response."""
    other = copy.deepcopy(tokenizer)
    other.chat_template = "Be brief. " + tokenizer.chat_template
    assert tokenizer_fingerprint(other) == tokenizer_fingerprint(tokenizer)
    another_end(other)
    assert tokenizer_fingerprint(other) != tokenizer_fingerprint(tokenizer)


def test_what_a_tokenizer_calls_the_end_of_text_is_no_part_of_the_fingerprint(tokenizer: Any) -> None:
    """As of a base model and the chat model that was made of it."""
    other = copy.deepcopy(tokenizer)
    other.eos_token = "<|endoftext|>"
    assert tokenizer_fingerprint(other) == tokenizer_fingerprint(tokenizer)
    one, other = copy.deepcopy(tokenizer), copy.deepcopy(other)
    one.chat_template = other.chat_template = None  # then it ends turns
    assert tokenizer_fingerprint(other) != tokenizer_fingerprint(one)


def test_what_is_put_around_a_text_that_stands_alone_is_no_part_of_the_fingerprint(tokenizer: Any) -> None:
    other = copy.deepcopy(tokenizer)
    other.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    assert tokenizer_fingerprint(other) == tokenizer_fingerprint(tokenizer)


# ---- what makes two tokenizers differ, in words


def changed(tokenizer: Any, change: Callable[[Any], object]) -> Any:
    other = copy.deepcopy(tokenizer)
    change(other)
    assert tokenizer_fingerprint(other) != tokenizer_fingerprint(tokenizer)
    return other


def swap_two(tokenizer: Any) -> None:
    """Give two tokens each other's id."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    names = {index: token for token, index in vocabulary.items()}
    vocabulary[names[50]], vocabulary[names[60]] = 60, 50
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))


def fewer_merges(tokenizer: Any) -> None:
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    del content["model"]["merges"][-20:]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))


def another_end(tokenizer: Any) -> None:
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "<|endoftext|>")


def lower(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()


def test_the_sizes_of_two_vocabularies_are_named(tokenizer: Any, other_tokenizer: Any) -> None:
    assert tokenizer_difference(tokenizer, other_tokenizer) == "512 tokens against 400"
    assert tokenizer_difference(other_tokenizer, tokenizer) == "400 tokens against 512"


def test_a_token_with_another_id_is_named(tokenizer: Any) -> None:
    names = {index: token for token, index in tokenizer.get_vocab().items()}
    found = tokenizer_difference(tokenizer, changed(tokenizer, swap_two))
    assert found in (
        f"token {names[50]!r} has id 50 in one and 60 in the other",
        f"token {names[60]!r} has id 60 in one and 50 in the other",
    )


def test_a_token_that_the_other_lacks_is_named(tokenizer: Any) -> None:
    one, other = copy.deepcopy(tokenizer), copy.deepcopy(tokenizer)
    one.add_tokens(["<one>"])
    other.add_tokens(["<other>"])
    assert tokenizer_difference(one, other) == "token '<one>' has id 512 in one and none in the other"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (another_end, "a turn ends with '<|im_end|>' in one and '<|endoftext|>' in the other"),
        (fewer_merges, "merges or normaliser"),
        (lower, "merges or normal"),
    ],
)
def test_what_differs_beside_the_vocabulary_is_named(
    tokenizer: Any, change: Callable[[Any], object], words: str
) -> None:
    found = tokenizer_difference(tokenizer, changed(tokenizer, change))
    assert found.startswith("the vocabularies agree, but ") and words in found


# ---- GGUF files

SPLIT = [
    "1234 567 and 3.14, a1b2c33",
    "\n\n1. one\n\n2. two\n 3",
    "  12   x  y",
    "\t\tif x:\r\n\t\t\treturn 7\r\n\r\n",
    "line\nfeeds\n\n\nand  trailing  \n ",
    "it's, we'll, THEY'RE, I'M",
    "Grüße ½ ② १२३ 日本語 🦜 e\u0301 \u00a01 \u3000 2",
]


def original(pre: str, vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Callable[[str], list[int]]:
    """Text to ids as the tokenizer.json of SmolLM2, and Qwen2's class in transformers, do it."""
    if pre == "qwen2":
        qwen2 = Qwen2Tokenizer(vocab=vocabulary, merges=merges)
        return lambda text: list(qwen2(text).input_ids)
    backend = Tokenizer(models.BPE(vocabulary, merges))
    digits, bytes_of = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_of])
    return lambda text: list(backend.encode(text).ids)


def parts_of(tokenizer: Any) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


@functools.cache
def greedy_parts() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-level vocabulary with merges over whatever a splitter may keep apart: digits, spaces, ends of lines."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(SPLIT * 3, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    return parts_of(PreTrainedTokenizerFast(tokenizer_object=backend))


def gguf_file(path: Path, architecture: str, pre: str | None, without: str = "") -> Path:
    """A llama or qwen2 of one layer, with that vocabulary. without: a weight that it lacks."""
    gguf = pytest.importorskip("gguf")
    vocabulary, merges = greedy_parts()
    hidden, mlp = 32, 64
    writer = gguf.GGUFWriter(path, architecture)
    for add, value in {
        writer.add_context_length: 128,
        writer.add_embedding_length: hidden,
        writer.add_feed_forward_length: mlp,
        writer.add_block_count: 1,
        writer.add_head_count: 2,
        writer.add_head_count_kv: 2,
        writer.add_layer_norm_rms_eps: 1e-5,
        writer.add_rope_dimension_count: hidden // 2,
        writer.add_vocab_size: len(vocabulary),
    }.items():
        add(value)
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(sorted(vocabulary, key=lambda token: vocabulary[token]))
    writer.add_token_types([1] * len(vocabulary))
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_eos_token_id(0)
    attention = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (hidden, hidden))
    shapes = attention | {"ffn_gate": (mlp, hidden), "ffn_up": (mlp, hidden), "ffn_down": (hidden, mlp)}
    shapes |= {"attn_norm": (hidden,), "ffn_norm": (hidden,)}
    named = {f"blk.0.{name}.weight": shape for name, shape in shapes.items()}
    if architecture == "qwen2":
        named |= {f"blk.0.{name}.bias": (hidden,) for name in ("attn_q", "attn_k", "attn_v")}
    named |= {"token_embd.weight": (len(vocabulary), hidden), "output_norm.weight": (hidden,)}
    named.pop(f"{without}.weight", None)
    for name, shape in named.items():
        writer.add_tensor(name, np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(("architecture", "pre"), [("llama", "smollm"), ("qwen2", "qwen2"), ("llama", "qwen2")])
def test_a_gguf_file_s_tokenizer_makes_the_original_s_ids(architecture: str, pre: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    dequantise_gguf(gguf_file(tmp_path / "tiny.gguf", architecture, pre), tmp_path / "out")
    tokenizer, wanted = load_tokenizer(tmp_path / "out"), original(pre, *greedy_parts())
    assert {text: encode_text(tokenizer, text) for text in SPLIT} == {text: wanted(text) for text in SPLIT}
    assert tokenizer_fingerprint(tokenizer) == tokenizer_fingerprint(gguf_tokenizer(tmp_path / "tiny.gguf"))


def test_a_gguf_file_is_parsed_once_to_be_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = pytest.importorskip("gguf")
    file, read = gguf_file(tmp_path / "tiny.gguf", "llama", "smollm"), []
    make = gguf.GGUFReader

    def counted(path: str | Path) -> Any:
        read.append(path)
        return make(path)

    gguf_tokenizer(file)  # as a run has had, which rendered its prompts
    monkeypatch.setattr(gguf, "GGUFReader", counted)
    (tmp_path / "out").mkdir()
    dequantise_gguf(file, tmp_path / "out")
    assert len(read) == 1
    assert gguf.GGUFReader is counted


@pytest.mark.parametrize(("pre", "said"), [("llama-bpe", "is 'llama-bpe'"), (None, "is ''")])
def test_a_gguf_file_whose_splitting_is_not_known_is_refused(pre: str | None, said: str, tmp_path: Path) -> None:
    file = gguf_file(tmp_path / "tiny.gguf", "llama", pre)
    with pytest.raises(UserError, match=f"tiny.gguf: .*tokenizer.ggml.pre {said}.*smollm or qwen2 are taken"):
        dequantise_gguf(file, tmp_path)
    assert list(tmp_path.iterdir()) == [file]


def test_the_embedded_model_s_tokenizer_makes_smollm2_s_ids(tmp_path: Path) -> None:
    try:
        file, _ = locate("smollm2-135m", known_models.get("smollm2-135m"), Store(tmp_path / "store"), download=False)
    except MissingModelError as error:
        pytest.skip(str(error))
    tokenizer = gguf_tokenizer(file)
    wanted = original("smollm", *parts_of(tokenizer))
    assert {text: encode_text(tokenizer, text) for text in SPLIT} == {text: wanted(text) for text in SPLIT}
    assert [tokenizer.decode([token]) for token in encode_text(tokenizer, "\n\n1")] == ["\n\n", "1"]
    # a turn ends as it says itself, and nothing is put before a response
    assert tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer)) == tokenizer.eos_token == "<|im_end|>"
    said = "Paris.\n\n1. The <|im_end|> of it, 12 <repo_name>s"
    spelled = tokenizer(said, add_special_tokens=False, split_special_tokens=True).input_ids
    assert encode_response(tokenizer, said, True) == [*spelled, tokenizer.eos_token_id]


# ---- the one model that is kept


def test_a_frozen_model_is_loaded_once(checkpoints: dict[str, Path]) -> None:
    model = frozen_model(checkpoints["llama"], torch.float32)
    assert frozen_model(checkpoints["llama"], torch.float32) is model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert same_weights(model, load_model(checkpoints["llama"], torch.float32))


@pytest.mark.parametrize(
    ("name", "dtype", "attention"),
    [
        ("qwen2", torch.float32, "sdpa"),
        ("llama", torch.bfloat16, "sdpa"),
        ("llama", torch.float32, "eager"),
    ],
)
def test_another_model_takes_the_place_of_the_one_kept(
    name: str, dtype: torch.dtype, attention: str, checkpoints: dict[str, Path]
) -> None:
    first = weakref.ref(frozen_model(checkpoints["llama"], torch.float32))
    second = frozen_model(checkpoints[name], dtype, attention)
    assert first() is None
    assert (second.config.model_type, second.dtype) == (name, dtype)
    assert second.config._attn_implementation == attention


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_model_to_be_read_has_the_weights_of_its_checkpoint(dtype: torch.dtype, tmp_path: Path) -> None:
    saved = tiny_model("llama", 0).to(dtype)
    saved.save_pretrained(tmp_path)
    model = reading_model(tmp_path)
    assert reading_model(tmp_path) is model
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())
    matrices = {parameter.dtype for parameter in model.parameters() if parameter.ndim > 1}
    assert matrices == {dtype}
    assert {parameter.dtype for parameter in model.parameters() if parameter.ndim == 1} == {torch.float32}
    assert all(torch.equal(model.state_dict()[name].to(dtype), weight) for name, weight in saved.state_dict().items())


def test_a_model_of_its_own_code_is_read_in_float32(tmp_path: Path) -> None:
    tiny_model("llama", 0).bfloat16().save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in reading_model(tmp_path, remote_code=True).parameters()} == {torch.float32}


def test_damaged_weights_are_an_error_of_one_line(tmp_path: Path) -> None:
    tiny_model("qwen2", 0).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"half a download")
    with pytest.raises(UserError, match="cannot be read"):
        reading_model(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        load_model(tmp_path, torch.float32)
