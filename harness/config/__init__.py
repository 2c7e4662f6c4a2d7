"""The configuration of a run, composed of the rooms' settings; layers in, fully resolved YAML out."""

from harness.config.config import MACHINE, Config, JudgeConfig, to_yaml
from harness.config.layers import (
    merge,
    nested,
    parse_assignment,
    parse_assignments,
    preset_layer,
    preset_words,
    presets,
    read_config_file,
    resolve,
    resolve_judging,
)

__all__ = [
    "MACHINE",
    "Config",
    "JudgeConfig",
    "merge",
    "nested",
    "parse_assignment",
    "parse_assignments",
    "preset_layer",
    "preset_words",
    "presets",
    "read_config_file",
    "resolve",
    "resolve_judging",
    "to_yaml",
]
