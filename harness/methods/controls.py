"""The rows that a method's claim travels with: its own, and those of any training on the policy's own responses."""

from __future__ import annotations

from collections.abc import Sequence

from harness.methods.checking import controls_of
from harness.methods.method import Control, Method
from harness.methods.settings import DistributionSettings, FreshSettings, MethodSettings


def selected_controls(method: Method, settings: MethodSettings, level: str) -> list[Control]:
    """The controls of `basic`, or of `full` with it; none for `none`. Where some of the responses are the policy's own,
    by default or by a setting, those of on-policy training come first, but for names that the method's own have."""
    wanted = {"none": (), "basic": ("basic",), "full": ("basic", "full")}[level]
    own = controls_of(method, settings)
    return [control for control in (*_on_policy(method, settings, own), *own) if control.level in wanted]


def _on_policy(method: Method, settings: MethodSettings, own: Sequence[Control]) -> list[Control]:
    """What a gain of training on the policy's own responses could otherwise be: more training, or the loss alone."""
    if not (isinstance(settings, FreshSettings) and method.fresh_share(settings)):
        return []
    stored: dict[str, object] = {"fresh_share": 0.0, "stored": "student"}
    if isinstance(settings, DistributionSettings) and settings.nll:
        stored["nll"] = 0.0  # it is of the teacher's responses, and there are none
    found = [
        Control(
            f"sft-as-many-tokens-{method.name}",
            "sft",
            {"start": settings.start},
            f"SFT from the same start for as many tokens as {method.name} trains on",
            match_tokens=True,
        ),
        Control(
            f"{method.name}-stored",
            method.name,
            stored,
            "the same loss on the SFT student's stored responses: a gain may be the loss, and not fresh responses "
            f"(stored ones are drawn as train_sampling says, fresh ones at temperature "
            f"{settings.sampling_temperature:g})",
        ),
    ]
    names = {control.name for control in own}
    return [control for control in found if control.name not in names]
