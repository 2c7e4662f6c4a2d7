"""Products with weights that lie in memory as oneDNN reads them.

A product of a few rows waits for its weights, and oneDNN brings them into its own order at each one. Brought into it
beforehand they take 1.3 to 2 times off a product, which gives the same bits; what follows a product (SiLU, a product or
a sum of elements) is done in passing. torch offers that to its compiler alone, by operations of its own: they are used
where they are there and agree with `F.linear`, which a small product says once a process.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# rows that the order of the weights is chosen for, as many as `generation_batch_size` has by default
ROWS = 64


class PackedLinear(nn.Linear):
    """A linear layer whose weight was packed."""

    def forward(self, x: Tensor) -> Tensor:
        return _product(x, self.weight, self.bias, "none")


def packed(weight: Tensor) -> nn.Parameter:
    """A bf16 weight [N, K] of a PackedLinear: as large as it was, and of no use to anything else."""
    return nn.Parameter(torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS), False)


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    """The layers of a model that can be packed, in place: linear ones, and nothing derived from them; of a quantised
    model the weights alone may be."""
    if not available():
        return []
    found = [module for module in model.modules() if type(module) is nn.Linear]
    return [one for one in found if type(one.weight) is nn.Parameter and one.weight.device.type == "cpu"]


def pack(model: Any) -> None:
    """Pack a frozen bf16 model's weights for good; nobody can read them afterwards but by products. A head that shares
    its weight with the embedding gets its own."""
    for module in (one for one in linear_layers(model) if one.weight.dtype == torch.bfloat16):
        module.weight = packed(module.weight)
        module.__class__ = PackedLinear


def silu(module: nn.Module, x: Tensor) -> Tensor:
    """silu(module(x))"""
    if type(module) is PackedLinear:
        return _product(x, module.weight, module.bias, "swish")
    return F.silu(module(x))


def times(module: nn.Module, x: Tensor, other: Tensor) -> Tensor:
    """module(x) * other"""
    if type(module) is PackedLinear:
        return _product_with(x, other, module.weight, module.bias, "mul")
    out: Tensor = module(x) * other
    return out


def plus(module: nn.Module, x: Tensor, other: Tensor) -> Tensor:
    """module(x) + other"""
    if type(module) is PackedLinear:
        return _product_with(x, other, module.weight, module.bias, "add")
    out: Tensor = module(x) + other
    return out


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, then: str) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, then, [], "")
    return out


def _product_with(x: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None, then: str) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, weight, bias, then)
    return out


@functools.cache
def available() -> bool:
    """Whether this torch and this CPU have such products, and they give what others do."""
    draw = torch.Generator().manual_seed(0)
    weight, bias, x, other = (
        torch.randn(shape, generator=draw).to(torch.bfloat16) for shape in ((48, 32), (48,), (5, 32), (5, 48))
    )
    wanted = F.linear(x.float(), weight.float(), bias.float())
    layer = nn.Linear(32, 48, device="meta")
    try:
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        layer.weight, layer.bias = packed(weight), nn.Parameter(bias, False)
        layer.__class__ = PackedLinear
        with torch.inference_mode():
            pairs = (
                (layer(x), wanted),
                (silu(layer, x), F.silu(wanted)),
                (times(layer, x, other), wanted * other),
                (plus(layer, x, other), wanted + other),
            )
    except (AttributeError, RuntimeError, TypeError):
        return False
    return all(torch.allclose(found.float(), expected, rtol=0.02, atol=0.02) for found, expected in pairs)
