"""Structured pruning of MLP width by Taylor importance: the result is a stock, smaller checkpoint.

A unit j of an MLP is its rows in gate_proj and up_proj and its column in down_proj. Scaling the unit's output by
a gate g_j, the first-order change of the loss when the unit goes is ∂L/∂g_j = Σ_i W_down[i, j] ∂L/∂W_down[i, j];
its importance is that squared, summed over calibration responses (Molchanov et al. 2019, arXiv 1906.10771).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from harness.core.errors import UserError
from harness.core.progress import Tick

CalibrationExample = tuple[Sequence[int], Sequence[int]]  # prompt ids, response ids


def pruned_width(parameters: int, width: int, per_unit: int, ratio: float, multiple: int = 16) -> int:
    """The MLP width (a multiple of `multiple`, rounded down) that leaves at most (1 − ratio) of all parameters.

    Raises:
        UserError: the MLPs do not hold that many parameters.
    """
    target = width - ratio * parameters / per_unit
    kept = int(target // multiple) * multiple
    if kept < multiple:
        raise UserError(f"pruning {ratio:.0%} of all parameters would leave no MLP; lower the ratio")
    return kept


def _mlps(model: Any) -> list[Any]:
    mlps = [getattr(layer, "mlp", None) for layer in getattr(getattr(model, "model", None), "layers", [])]
    if not mlps or not all(hasattr(mlp, name) for mlp in mlps for name in ("gate_proj", "up_proj", "down_proj")):
        raise UserError(f"pruning works for LLaMA- and Qwen2-shaped models, not for {model.config.model_type}")
    return mlps


def unit_importance(model: Any, examples: Sequence[CalibrationExample], tick: Tick) -> list[torch.Tensor]:
    """Importance of each MLP unit on prompts and responses: one [width] tensor a layer."""
    mlps = _mlps(model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for mlp in mlps:
        mlp.down_proj.weight.requires_grad_(True)
    totals = [torch.zeros(mlp.down_proj.in_features, dtype=torch.float32) for mlp in mlps]
    for done, (prompt, response) in enumerate(examples):
        tick(done, len(examples))
        ids = torch.tensor([[*prompt, *response]], device=model.device)
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(response) + 1).logits[0, :-1]
        loss = F.cross_entropy(logits.float(), ids[0, len(prompt) :], reduction="sum")
        weights = [mlp.down_proj.weight for mlp in mlps]
        for total, weight, grad in zip(totals, weights, torch.autograd.grad(loss, weights), strict=True):
            total += (weight.detach() * grad).sum(0).square().float().cpu()
    return totals


def prune_mlps(model: Any, examples: Sequence[CalibrationExample], ratio: float, tick: Tick) -> Any:
    """A new model of the same architecture with the least important MLP units of every layer gone.

    Every layer keeps the same number of units, so the result is what its configuration says.
    """
    mlps = _mlps(model)
    width = model.config.intermediate_size
    per_unit = sum(
        p.shape[0] + u.shape[0] + d.shape[0]
        for p, u, d in ((m.gate_proj.weight.T, m.up_proj.weight.T, m.down_proj.weight) for m in mlps)
    )
    kept = pruned_width(model.num_parameters(), width, per_unit, ratio)
    importance = unit_importance(model, examples, tick)
    config = copy.deepcopy(model.config)
    config.intermediate_size = kept
    state = model.state_dict()
    for index, scores in enumerate(importance):
        units = scores.topk(kept).indices.sort().values
        for name, dimension in (("gate_proj", 0), ("up_proj", 0), ("down_proj", 1)):
            prefix = f"model.layers.{index}.mlp.{name}"
            state[f"{prefix}.weight"] = state[f"{prefix}.weight"].index_select(dimension, units.to(model.device))
            if dimension == 0 and f"{prefix}.bias" in state:
                state[f"{prefix}.bias"] = state[f"{prefix}.bias"][units.to(model.device)]
    pruned = type(model)._from_config(config, dtype=torch.float32)  # the same class, whoever wrote it
    pruned.load_state_dict(state)
    pruned.generation_config = model.generation_config
    return pruned
