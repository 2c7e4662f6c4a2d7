"""Tokenizers of the kinds that models have, made small: what they do to white space, at the beginning of a text and
around control tokens is the families' own, and so are their chat templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "Hello there, how are you? I am fine, and you?\n\nWhat does it do? It says what comes next.\n",
    "user assistant model [INST] [/INST] USER: ASSISTANT: end of a turn, begin 1 2 3",
] * 5
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TURNS = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else 'user') }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PIPES = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
INST = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content.strip() + ' [/INST]' }}"
    "{% elif m.role == 'system' %}{{ '<<SYS>>' + m.content + '<</SYS>>' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _sentencepiece(normalizer: Any, pre_tokenizer: Any, own: Sequence[AddedToken], **settings: Any) -> Any:
    """A tokenizer with a model of pieces, ▁ in place of spaces, and bytes for what has no piece."""
    special = ["<unk>", "<s>", "</s>"]
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()  # a piece has ▁ at its beginning alone
    trainer = trainers.BpeTrainer(vocab_size=480, special_tokens=[*special, *BYTES], show_progress=False)
    trained.train_from_iterator(TEXTS, trainer)
    backend = Tokenizer(trained.model)
    backend.add_special_tokens(special)
    if normalizer is not None:
        backend.normalizer = normalizer
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    strip = [decoders.Strip(" ", 1, 0)] if settings.pop("strips", True) else []
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", unk_token="<unk>", **settings)
    fast.add_tokens(list(own))
    return fast


def _space() -> Any:
    return normalizers.Replace(" ", "▁")


def gemma() -> Any:
    """No space is put before a text, runs of line feeds are added tokens, and <end_of_turn> is one, too, and special in
    some releases only."""
    own = [AddedToken(token, special=False, normalized=False) for token in ("\n", "\n\n", "▁▁")]
    own += [AddedToken(token, special=False, normalized=False) for token in ("<start_of_turn>", "<end_of_turn>")]
    pieces = pre_tokenizers.Split(" ", "merged_with_previous")
    made = _sentencepiece(_space(), pieces, own, eos_token="</s>", strips=False)
    made.chat_template = TURNS
    return made


def phi3() -> Any:
    """A space is put before whatever stands between control tokens, which swallow the white space behind them."""
    names = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
    own = [AddedToken(token, rstrip=token != "<|endoftext|>", special=True, normalized=False) for token in names]
    before = normalizers.Sequence([normalizers.Prepend("▁"), _space()])
    made = _sentencepiece(before, None, own, eos_token="<|endoftext|>")
    made.chat_template = PIPES
    return made


def llama2() -> Any:
    """A space is put before a text, not behind a control token; turns are written in plain text."""
    made = _sentencepiece(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), (), eos_token="</s>")
    made.chat_template = INST
    return made


def older_llama2() -> Any:
    """The same, with a space behind control tokens too."""
    before = normalizers.Sequence([normalizers.Prepend("▁"), _space()])
    made = _sentencepiece(before, None, (), eos_token="</s>")
    made.chat_template = INST
    return made


def mistral() -> Any:
    """[INST] and [/INST] are control tokens."""
    own = [AddedToken(token, special=True, normalized=False) for token in ("[INST]", "[/INST]")]
    pieces = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made = _sentencepiece(None, pieces, own, eos_token="</s>")
    made.chat_template = INST
    return made


_PIECES = r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def qwen(swallowing: bool = False) -> Any:
    """Bytes, composed characters (NFC), and no white space of its own; <|im_end|> ends a turn, whatever eos_token says.
    swallowing: control tokens swallow the white space behind them."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    own = [AddedToken(token, rstrip=swallowing, special=True) for token in ("<|im_start|>", "<|im_end|>")]
    made.add_tokens([*own, AddedToken("<think>"), AddedToken("</think>")])
    made.chat_template = CHATML
    return made


def swallowing_qwen() -> Any:
    return qwen(swallowing=True)


KINDS = {kind.__name__: kind for kind in (gemma, phi3, llama2, older_llama2, mistral, qwen, swallowing_qwen)}
END = {
    **dict.fromkeys(("llama2", "older_llama2", "mistral"), "</s>"),
    **dict.fromkeys(("qwen", "swallowing_qwen"), "<|im_end|>"),
    "gemma": "<end_of_turn>",
    "phi3": "<|end|>",
}
