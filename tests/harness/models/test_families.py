"""What a configuration says of how a model is computed."""

from __future__ import annotations

import pytest
from transformers import AutoConfig, GPT2Config, GraniteConfig, MixtralConfig, Phi3Config

from harness.models.families import FAMILIES, PADDED_FAMILIES, dropout_of


@pytest.mark.parametrize("family", sorted(FAMILIES | PADDED_FAMILIES))
def test_no_family_drops_anything_unless_its_checkpoint_says_so(family: str) -> None:
    assert dropout_of(AutoConfig.for_model(family)) == {}


def test_dropout_is_known_by_its_many_names() -> None:
    assert dropout_of(GraniteConfig(attention_dropout=0.1)) == {"attention_dropout": 0.1}
    assert dropout_of(Phi3Config(resid_pdrop=0.2, embd_pdrop=0)) == {"resid_pdrop": 0.2}
    assert dropout_of(MixtralConfig(router_jitter_noise=0.01)) == {"router_jitter_noise": 0.01}


def test_that_of_heads_that_are_not_loaded_is_left_out() -> None:
    assert dropout_of(GPT2Config()).keys() == {"attn_pdrop", "embd_pdrop", "resid_pdrop"}
    assert dropout_of(GraniteConfig(classifier_dropout=0.1)) == {}
