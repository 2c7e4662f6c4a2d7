"""GKD: the Jensen-Shannon divergence of jsd.py, on responses of which a share λ is the policy's own.

Agarwal et al. 2023 (arXiv 2306.13649), algorithm 1, from the SFT student. λ is `fresh_share`: of each example it is
drawn whether its response is fresh or the teacher's. The gradient does not go through the sampling. TRL 1.16 draws once
a batch and process, and its temperature .9 is of the sampling alone: its divergence is at 1, as here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from baselines.divergences import ONLINE
from baselines.jsd import DEFINITION, jsd_loss
from baselines.jsd import Settings as JSDSettings
from harness.methods import POLICY, DistributionInputs, Method

if TYPE_CHECKING:
    from torch import Tensor


class Settings(JSDSettings):
    start: Literal["student", "sft"] = "sft"
    fresh_share: float = 0.5
    sampling_temperature: float = 0.9


def _loss(inputs: DistributionInputs, settings: Settings) -> Tensor:
    return jsd_loss(inputs.policy, inputs.teacher, settings.beta)


METHOD = Method(
    name="gkd",
    summary="generalised Jensen-Shannon divergence, half of the responses the policy's own",
    source="Agarwal et al. 2023, arXiv 2306.13649",
    level="distribution",
    loss=_loss,
    per="token",
    responses=POLICY,
    defines=replace(DEFINITION, support=ONLINE),
    reads=("teacher",),
    settings=Settings,
    compared_with=("jsd", "kd", "sft"),
)
