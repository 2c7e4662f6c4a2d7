from __future__ import annotations

from baselines import gkd
from harness.methods import methods, selected_controls


def test_half_of_its_responses_are_the_policys_own_as_gkd_has_it() -> None:
    settings = gkd.Settings()
    assert gkd.METHOD.fresh_share(settings) == 0.5
    assert (settings.beta, settings.sampling_temperature, settings.max_new_tokens) == (0.5, 0.9, None)
    assert (settings.start, settings.stored, settings.temperature) == ("sft", "teacher", 1.0)
    assert gkd.METHOD.written(settings) == (("response", "teacher", 0),)


def test_its_claim_travels_with_sft_for_as_many_tokens_and_the_same_loss_on_stored_responses() -> None:
    sft, stored = selected_controls(gkd.METHOD, gkd.Settings(), "basic")
    assert (sft.method, sft.overrides, sft.match_tokens) == ("sft", {"start": "sft"}, True)
    assert (stored.method, stored.match_tokens) == ("gkd", False)
    settings = methods.get("gkd").settings.model_validate(stored.overrides)
    assert gkd.METHOD.fresh_share(settings) == 0
    assert gkd.METHOD.written(settings) == (("response", "student", 0),)
    assert {one.name for one in (sft, stored)} == {"sft-as-many-tokens-gkd", "gkd-stored"}
