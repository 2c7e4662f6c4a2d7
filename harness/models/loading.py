"""Checkpoints and tokenizers into memory, and GGUF into a plain checkpoint."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from tokenizers import Regex, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from harness.errors import UserError
from harness.jobs import ChatTemplate
from harness.models.chat import templates_differ_on
from harness.models.shapes import weight_type
from harness.records import Prompt
from harness.serving.resident import hold

transformers_logging.disable_progress_bar()  # the harness shows its own progress
transformers_logging.set_verbosity_error()


def device() -> torch.device:
    """This process's GPU (one for each rank), or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def load_config(folder: Path, remote_code: bool = False) -> Any:
    return AutoConfig.from_pretrained(folder, trust_remote_code=remote_code)


def load_model(
    folder: Path,
    dtype: torch.dtype,
    attention: str | None = None,
    on: torch.device | None = None,
    remote_code: bool = False,
) -> Any:
    """A causal language model in evaluation mode on the best device, or `on` one; with transformers' choice of
    attention unless one is named. remote_code: by the Python code in its folder.

    Raises:
        UserError: a file of weights is damaged.
    """
    if attention is None and getattr(load_config(folder, remote_code), "attn_logit_softcapping", None):
        attention = "eager"  # its choice would be SDPA, which leaves the capping out without a word
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation=attention, use_safetensors=True, trust_remote_code=remote_code
        )
    except SafetensorError as error:
        raise UserError(f"the weights of {folder} cannot be read: {error}; copy or download them again") from error
    return model.eval().to(on or device())


def frozen_model(folder: Path, dtype: torch.dtype, attention: str | None = None, remote_code: bool = False) -> Any:
    """`load_model`, without gradients, resident: stages that follow one another often read the same model. A folder's
    content must not change meanwhile; those of the store never do."""

    def load() -> Any:
        return load_model(folder, dtype, attention, remote_code=remote_code).requires_grad_(False)

    return hold(folder, (dtype, attention, remote_code), load)


def reading_model(folder: Path, remote_code: bool = False) -> Any:
    """A frozen model whose log-probs are wanted, resident: its weights lie in memory as in its checkpoint, and what it
    computes is what it would with float32 ones. A model with code of its own, which may not bear two types, has float32
    ones."""

    def load() -> Any:
        dtype = torch.float32 if remote_code else getattr(torch, weight_type(folder) or "float32")
        model = load_model(folder, dtype, remote_code=remote_code).requires_grad_(False)
        return model if dtype == torch.float32 else raised(model)

    return hold(folder, ("to be read", remote_code), load)


def raised(model: Any) -> Any:
    """A model with 16-bit weights that computes as one with the same weights in float32.

    Its matrices (of linear layers and embeddings) stay as they are, and are raised where they are used. All else, norms
    and what a class of its own may do with its weights, is float32 from here on.
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = _RaisedLinear
        elif type(module) is nn.Embedding or hasattr(module, SCALE):
            module.__class__ = _RaisedEmbedding
        else:
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.float()
    return model


# transformers' name of what Gemma's embeddings multiply by, in the type of their weights
SCALE = "scalar_embed_scale"


class _RaisedLinear(nn.Linear):
    """Raised for one product, but where autocast rounds what is multiplied anyway."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class _RaisedEmbedding(nn.Embedding):
    """The residual stream begins here, and is float32."""

    def forward(self, ids: Tensor) -> Tensor:
        rows = super().forward(ids).float()
        return rows * getattr(self, SCALE) if hasattr(self, SCALE) else rows


def load_tokenizer(folder: Path, chat_template: ChatTemplate | None = None, remote_code: bool = False) -> Any:
    """A checkpoint's tokenizer, with this chat template where it has none: saved with it, it is the tokenizer's own.

    Raises:
        UserError: it cannot be loaded, or is none that the harness can work with.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=remote_code)
    except (ImportError, ValueError, OSError, KeyError) as error:  # KeyError: a tokenizer.json that lacks a part
        said = str(error).strip() or type(error).__name__
        raise UserError(f"the tokenizer of {folder} cannot be loaded: {said.splitlines()[0]}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"the tokenizer of {folder} is no fast one (of the tokenizers library), and no other will do")
    if chat_template is not None and not tokenizer.chat_template:
        tokenizer.chat_template = chat_template.text
    return tokenizer


def save_checkpoint(model: Any, tokenizer: Any, folder: Path) -> None:
    """A stock folder that AutoModelForCausalLM.from_pretrained and AutoTokenizer.from_pretrained load."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A digest of what a tokenizer makes of a response: its vocabulary, merges, normaliser and added tokens, and the
    token that ends the turn. No chat template: it shapes prompts alone, and each model reads them by its own."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content.pop("padding", None)
    content.pop("truncation", None)
    content["eos_token_id"] = tokenizer.eos_token_id
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def tokenizer_difference(one: Any, other: Any) -> str:
    """In a few words, what makes two tokenizers' fingerprints differ."""
    mine, theirs = one.get_vocab(), other.get_vocab()
    if len(mine) != len(theirs):
        return f"{len(mine):,} tokens against {len(theirs):,}"
    odd = next((token for token, index in mine.items() if theirs.get(token) != index), None)
    if odd is not None:
        return f"token {odd!r} has id {mine[odd]} in one and {theirs.get(odd, 'none')} in the other"
    if one.eos_token_id != other.eos_token_id:
        ends = f"{one.eos_token!r} in one and {other.eos_token!r} in the other"
        return f"the vocabularies agree, but a turn ends with {ends}"
    return "the vocabularies agree, but text is split otherwise (merges or normaliser)"


def require_one_tokenizer(student: Any, teacher: Any, prompts: Iterable[Prompt]) -> None:
    """Refuse a teacher whose distributions are over other tokens than the student's, or after other ones: whose chat
    template makes other ids of any of a run's prompts.

    Raises:
        UserError: saying what differs.
    """
    if tokenizer_fingerprint(student) != tokenizer_fingerprint(teacher):
        difference = tokenizer_difference(student, teacher)
    elif odd := templates_differ_on(student, teacher, prompts):
        difference = f"the vocabularies agree, but the chat templates differ on {odd}"
    else:
        return
    raise UserError(
        f"token-level methods need one tokenizer for student and teacher, but {student.name_or_path} and "
        f"{teacher.name_or_path} differ: {difference}; sequence-level methods (sft, ddpo, dadpo) work with both"
    )


_QWEN2_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# What a GGUF file says of a text before the merges is a name, and transformers does not make of each what the original
# tokenizer.json has: by `tokenizer.ggml.pre`, the normaliser and the pre-tokenizer that stand there.
_BEFORE_MERGES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "smollm": lambda: (
        None,
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
    ),
    "qwen2": lambda: (
        normalizers.NFC(),
        [
            pre_tokenizers.Split(Regex(_QWEN2_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ],
    ),
}


def gguf_tokenizer(file: Path) -> Any:
    """A GGUF file's tokenizer, which makes the ids that the original one makes.

    Raises:
        UserError: it is not known how the original one splits text.
    """
    import gguf  # of the extra that brings such files

    field = gguf.GGUFReader(file).fields.get("tokenizer.ggml.pre")
    name = bytes(field.parts[-1]).decode() if field else ""
    if name not in _BEFORE_MERGES:
        raise UserError(
            f"{file}: it is not known how its tokenizer splits text (tokenizer.ggml.pre is '{name}'); GGUF files "
            f"with {' or '.join(_BEFORE_MERGES)} are taken, other models as a folder of safetensors"
        )
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    normaliser, pieces = _BEFORE_MERGES[name]()
    tokenizer.backend_tokenizer.normalizer = normaliser
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    return tokenizer


def dequantise_gguf(file: Path, folder: Path) -> dict[str, Any]:
    """Write a GGUF file as a plain float32 safetensors folder; facts about it.

    transformers 5 refuses save_pretrained on a model it loaded from GGUF, so a fresh model of the same
    configuration takes its weights.

    Raises:
        UserError: its tokenizer is none that can be rebuilt as it was.
    """
    tokenizer = gguf_tokenizer(file)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar, which no setting turns off
        loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    settings = loaded.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "model_type", "transformers_version"):
        settings.pop(key, None)
    config = AutoConfig.for_model(loaded.config.model_type, **settings)
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(loaded.state_dict())
    fresh.generation_config = loaded.generation_config
    save_checkpoint(fresh, tokenizer, folder)
    return {"parameters": fresh.num_parameters(), "source": file.name}
