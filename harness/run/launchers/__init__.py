"""How one job is performed: one file a launcher. No part of what it makes."""

from __future__ import annotations

from collections.abc import Callable

from harness.config import Config
from harness.run.launchers.accelerate import on_ranks
from harness.run.launchers.inline import Perform, inline
from harness.run.launchers.process import in_process

__all__ = ["LAUNCHERS", "Perform", "inline", "launcher"]

# by the name in the configuration: what performs a job, as the configuration says
LAUNCHERS: dict[str, Callable[[Config], Perform]] = {
    "inline": lambda config: inline,
    "process": lambda config: in_process,
    "accelerate": lambda config: on_ranks(config.processes, config.accelerate_config),
}


def launcher(config: Config) -> Perform:
    """The launcher that the configuration names."""
    return LAUNCHERS[config.launcher](config)
