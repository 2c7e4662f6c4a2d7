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
from harness.config.study import Member, Study, study_of

__all__ = [
    "MACHINE",
    "Config",
    "JudgeConfig",
    "Member",
    "Study",
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
    "study_of",
    "to_yaml",
]
