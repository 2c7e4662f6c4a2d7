"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685) through peft: put in before training, merged after.

With the adapter switched off the model is the one that training starts from, which is the reference of a method that
starts from the SFT student.
"""

from __future__ import annotations

from typing import Any

import torch

from harness.core.errors import UserError
from harness.methods import MethodSettings


def with_adapter(causal_lm: Any, settings: MethodSettings, seed: int) -> Any:
    """The model as it is, or with its weights frozen and an adapter in each linear layer but the head, which has no
    effect before training. Its random numbers follow from `seed` alone, and none are taken from others.

    Raises:
        UserError: peft is not installed.
    """
    if settings.lora_rank == 0:
        return causal_lm
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise UserError(f"lora_rank = {settings.lora_rank} needs peft; pip install peft") from error
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    # peft puts its layers into the model in place; what it wraps around the model is not needed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        get_peft_model(causal_lm, config)
    return causal_lm


def dropouts(causal_lm: Any) -> list[torch.nn.Module]:
    """The adapter's own dropout (`lora_dropout`), where there is an adapter."""
    return [module for name, module in causal_lm.named_modules() if name.endswith(".lora_dropout")]


def without_adapter(causal_lm: Any) -> Any:
    """The stock model with the adapter, where there is one, added to its weights."""
    try:
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError:
        return causal_lm
    for name, module in list(causal_lm.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            causal_lm.set_submodule(name, module.get_base_layer())
    return causal_lm
