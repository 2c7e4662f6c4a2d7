"""Products with packed weights against those without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harness.generation import packed
from harness.generation.local import sampling_model
from harness.generation.packed import PackedLinear, available, linear_layers, pack, plus, silu, times
from harness.generation.protocol import Sampling
from harness.generation.sampler import decode_batch
from harness.serving.resident import let_go_of_all

needs_packing = pytest.mark.skipif(not available(), reason="this CPU or this torch has no packed products")


def layers(bias: bool) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    one = nn.Linear(96, 160, bias=bias).to(torch.bfloat16).requires_grad_(False)
    other = nn.Linear(96, 160, bias=bias).to(torch.bfloat16).requires_grad_(False)
    other.load_state_dict(one.state_dict())
    pack(other)
    return one, other


@needs_packing
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 64, 200])
def test_packed_products_are_those_of_torch(rows: int, bias: bool) -> None:
    one, other = layers(bias)
    assert type(other) is PackedLinear
    x, beside = torch.randn(rows, 96).to(torch.bfloat16), torch.randn(rows, 160).to(torch.bfloat16)
    with torch.inference_mode():
        torch.testing.assert_close(other(x), one(x), rtol=0.01, atol=0.01)
        exact = F.linear(x.float(), one.weight.float(), None if one.bias is None else one.bias.float())
        for found, wanted in (
            (silu(other, x), F.silu(exact)),
            (times(other, x, beside), exact * beside),
            (plus(other, x, beside), exact + beside),
        ):
            torch.testing.assert_close(found.float(), wanted, rtol=0.01, atol=0.02)


def test_what_is_not_packed_is_computed_as_it_computes_itself() -> None:
    torch.manual_seed(0)
    layer, x, beside = nn.Linear(8, 6), torch.randn(3, 8), torch.randn(3, 6)
    assert torch.equal(silu(layer, x), F.silu(layer(x)))
    assert torch.equal(times(layer, x, beside), layer(x) * beside)
    assert torch.equal(plus(layer, x, beside), layer(x) + beside)


@needs_packing
def test_packing_takes_the_place_of_weights_and_of_linear_layers_alone() -> None:
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Embedding(9, 32), nn.Linear(32, 32), Own(32, 32)).to(torch.bfloat16).requires_grad_(False)
    pack(model)
    assert [type(module) for module in model] == [nn.Embedding, PackedLinear, Own]
    assert model[1].weight.layout == torch._mkldnn  # type: ignore[attr-defined]
    assert all(model[place].weight.layout == torch.strided for place in (0, 2))


class Quantised(torch.Tensor):
    """As quantising libraries have it: the layer is a plain one, and its weight is not."""


@needs_packing
def test_weights_of_another_kind_stay_as_they_are() -> None:
    other, wide, plain_one = (nn.Linear(32, 32, bias=False) for _ in range(3))
    other.weight = nn.Parameter(torch.zeros(32, 32, dtype=torch.bfloat16).as_subclass(Quantised), False)
    plain_one.to(torch.bfloat16)
    assert type(other.weight) is not nn.Parameter
    pack(nn.Sequential(other, wide, plain_one))
    assert [type(module) for module in (other, wide, plain_one)] == [nn.Linear, nn.Linear, PackedLinear]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A torch whose private operations are gone."""
    available.cache_clear()
    monkeypatch.setattr(packed, "_product", lambda *_: torch.ops.mkldnn.no_such_operation())
    yield
    available.cache_clear()
    let_go_of_all()


def test_a_torch_without_such_operations_does_without(without: None, checkpoints: dict[str, Path]) -> None:
    assert not available()
    model = sampling_model(checkpoints["llama"])
    assert linear_layers(model) == []
    assert {type(module) for module in model.modules() if isinstance(module, nn.Linear)} == {nn.Linear}
    (said,) = decode_batch(model, [[5, 6]], torch.zeros(1, 3), Sampling(temperature=0, max_new_tokens=3), (), 512)
    assert len(said) == 3


def test_operations_that_disagree_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    available.cache_clear()
    real: Any = packed._product
    monkeypatch.setattr(packed, "_product", lambda *given: real(*given) * 1.1)
    assert not available()
    available.cache_clear()
