"""Checkpoints into memory, and out of it."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, FineGrainedFP8Config
from transformers.utils import logging as transformers_logging

from harness.core.errors import UserError
from harness.models import folders
from harness.models.families import has_own_code
from harness.models.shapes import weight_type
from harness.models.weights import SAID, load_config, require_scales, require_whole, without_adapter
from harness.serving.resident import hold

transformers_logging.disable_progress_bar()  # the harness shows its own progress


transformers_logging.set_verbosity_error()


def device() -> torch.device:
    """This process's GPU (one for each rank), or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


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
        UserError: a file of weights is damaged, or the weights are not those of its configuration.
    """
    place = on or device()
    how: dict[str, Any] = {}
    if packed := folders.quantisation(folder):
        how["device_map"] = {"": place}  # it is put together there, and never moved
        require_scales(folder)
        if packed["quant_method"] == folders.FP8:  # a GPU would round their factors too
            plain_modules = packed.get("modules_to_not_convert")
            how["quantization_config"] = FineGrainedFP8Config(dequantize=True, modules_to_not_convert=plain_modules)
    config = load_config(folder, remote_code)
    if attention is None and getattr(config, "attn_logit_softcapping", None):
        attention = "eager"  # its choice would be SDPA, which leaves the capping out without a word
    try:
        with without_adapter(folder) as plain:
            model, found = AutoModelForCausalLM.from_pretrained(
                plain,
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,
                trust_remote_code=remote_code,
                **SAID,
                **how,
            )
    except SafetensorError as error:
        raise UserError(f"the weights of {folder} cannot be read: {error}; copy or download them again") from error
    require_whole(model, found, folder)
    if has_own_code(model):
        _compute_buffers(model, found["missing_keys"])
    return model.eval() if how else model.eval().to(place)


def _compute_buffers(model: Any, missing: Container[str]) -> None:
    """Give a model of own code the buffers that its class computes and no checkpoint holds, such as the frequencies of
    its positions. transformers makes every model without memory first, and then computes anew what its own classes are
    known to compute; of others it leaves what happens to lie there.
    """
    from accelerate import init_empty_weights

    before = torch.get_default_dtype()
    torch.set_default_dtype(model.dtype)
    try:
        with init_empty_weights(include_buffers=False):
            computed = type(model)(model.config)
    finally:
        torch.set_default_dtype(before)
    held = computed.state_dict().keys()
    places = dict(model.named_buffers())
    for name, buffer in computed.named_buffers():
        if name in places and (name not in held or name in missing) and buffer.device.type != "meta":
            places[name].copy_(buffer)


def frozen_model(folder: Path, dtype: torch.dtype, attention: str | None = None, remote_code: bool = False) -> Any:
    """`load_model`, without gradients, resident: stages that follow one another often read the same model. A folder's
    content must not change meanwhile; those of the store never do."""

    def load() -> Any:
        return load_model(folder, dtype, attention, remote_code=remote_code).requires_grad_(False)

    return hold(folder, (dtype, attention, remote_code), load)


def reading_model(folder: Path, remote_code: bool = False) -> Any:
    """A frozen model whose log-probs are wanted, resident: its weights lie in memory as in its checkpoint, and what it
    computes is what it would with float32 ones. A model with code of its own, which may not bear two types, has float32
    ones; a quantised one computes as its package does."""

    def load() -> Any:
        dtype = torch.float32 if remote_code else getattr(torch, weight_type(folder) or "float32")
        model = load_model(folder, dtype, remote_code=remote_code).requires_grad_(False)
        packed = getattr(model.config, "quantization_config", None) is not None  # some kinds are unpacked as they load
        return model if packed or dtype == torch.float32 else raised(model)

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


def save_checkpoint(model: Any, tokenizer: Any, folder: Path) -> None:
    """A stock folder that AutoModelForCausalLM.from_pretrained and AutoTokenizer.from_pretrained load."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
