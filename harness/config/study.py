"""Several runs as one study: seeds, a grid of settings, and a search of settings before both.

A study is declared by four keys that stand beside those of a run, in a file or as options (`seeds`, `grid`, `tune`,
`tune_by`); what is left when they are taken out is the configuration that all its runs have in common. Each run of it,
a member, is that configuration with a seed and a point of the grid, as `--set` would have it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BeforeValidator, Field

from harness.config.config import MACHINE, Config
from harness.config.layers import in_full, merged, nested, resolve
from harness.core.errors import UserError
from harness.core.section import Layer, Section, each_once, load_yaml, validated
from harness.methods.settings import COMPUTING

Point = Mapping[str, Any]  # a value of each of some settings, by their full keys
OWN_LOSS = "loss"  # in the place of a measure: a method's own loss on the validation prompts
VALIDATION = 0.2  # share of the training prompts that a search holds out, where nothing else is said


def _in_one_list(value: Any) -> Any:
    """A mapping of settings is as many lists beside one another: their product."""
    return [{key: values} for key, values in value.items()] if isinstance(value, dict) else value


def _of_equal_length(axes: tuple[dict[str, tuple[Any, ...]], ...]) -> tuple[dict[str, tuple[Any, ...]], ...]:
    """Every axis has values, as many for each of its settings, and no value or setting twice."""
    named = [key for axis in axes for key in axis]
    if twice := next((key for key in named if named.count(key) > 1), None):
        raise ValueError(f"{twice} is there twice")
    for axis in axes:
        lengths = {key: len(values) for key, values in axis.items()}
        if not all(lengths.values()):
            raise ValueError("each setting needs at least one value")
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{count} of {key}" for key, count in lengths.items())
            raise ValueError(f"settings that go together need as many values each, and there are {said}")
        steps = [repr(step) for step in zip(*axis.values(), strict=True)]
        if len(set(steps)) < len(steps):
            raise ValueError(f"{', '.join(axis)}: one value is there twice")
    return axes


# Settings with their values: those of one mapping go together, value by value; several mappings are their product.
Axes = Annotated[
    tuple[dict[str, tuple[Any, ...]], ...], BeforeValidator(_in_one_list), AfterValidator(_of_equal_length)
]


class StudySettings(Section):
    """What makes a study of a run."""

    seeds: Annotated[tuple[int, ...], AfterValidator(each_once)] = ()
    grid: Axes = Field(default=(), description="settings with their values: each value is a run of its own")
    tune: Axes = Field(default=(), description="settings with their values, of which each method takes the best")
    tune_by: str = Field(default="forward_kl", description="by which the best is chosen: a measure, or `loss`")


def parse_axis(option: str, text: str) -> dict[str, list[Any]]:
    """`KEY=V1,V2` as a setting with its values, each read as YAML; with `; KEY=V3,V4` behind it another that goes with
    it."""
    axis: dict[str, list[Any]] = {}
    for part in text.split(";"):
        key, equals, values = (piece.strip() for piece in part.partition("="))
        if not (equals and values and all(key.split("."))):
            raise UserError(f"{option} {text}: expected KEY=VALUE,VALUE, for example training.learning_rate=1e-5,2e-5")
        if key in axis:
            raise UserError(f"{option} {text}: {key} is there twice")
        try:
            found = load_yaml(f"[{values}]")
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(f"{option} {text[:100]}: the values are not valid YAML") from error
        axis[key] = [_as_number(value) for value in found]
    return axis


def _as_number(value: Any) -> Any:
    """YAML takes 1e-5 for a text; people mean the number."""
    if not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return number if math.isfinite(number) else value


def points_of(axes: Sequence[Mapping[str, Sequence[Any]]]) -> list[dict[str, Any]]:
    """Every point of the product of the axes; where there are none, the one with no setting."""
    steps = [[dict(zip(axis, step, strict=True)) for step in zip(*axis.values(), strict=True)] for axis in axes]
    return [{key: value for part in parts for key, value in part.items()} for parts in itertools.product(*steps)]


def short(key: str) -> str:
    """A setting's key as a row or a folder names it: without what every training's settings begin with."""
    return key.removeprefix("training.").removeprefix("settings.")


def in_words(point: Point) -> str:
    """A point's settings as a row or a folder names them."""
    return ", ".join(f"{short(key)}={value}" for key, value in point.items())


@dataclass(frozen=True)
class Member:
    """A run of a study. point: of its grid; empty where there is none."""

    config: Config
    point: Point

    @property
    def name(self) -> str:
        """Its name among the members."""
        said = in_words(self.point)
        return f"seed{self.config.seed}" + (f", {said}" if said else "")


@dataclass(frozen=True)
class Study:
    """Runs that are made as one. layers: what all of them have in common, weakest first. found: what a search has found
    for each method, by the keys of its settings."""

    layers: tuple[Layer, ...]
    settings: StudySettings
    found: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def base(self) -> Config:
        """The configuration of its first seed, without the grid: what a search is made with."""
        return self._resolved(self.seeds[0], {})

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.settings.seeds or (merged(self.layers).get("seed", 0),)

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """Every seed at every point of the grid."""
        points = points_of(self.settings.grid)
        return tuple(Member(self._resolved(seed, point), point) for seed in self.seeds for point in points)

    @property
    def several(self) -> bool:
        """Whether it is more than a run."""
        return len(self.members) > 1

    def tuned(self, found: Mapping[str, Mapping[str, Any]]) -> Study:
        """The same with what a search has found for each method, by the keys of its settings."""
        return replace(self, found={**self.found, **found})

    def with_settings(self, method: str, point: Point) -> Config:
        """The base with other settings of one method: what a try of a search is made with."""
        return replace(self, found={**self.found, method: own(point)}).base

    def _resolved(self, seed: int, point: Point) -> Config:
        held = [{"validation": VALIDATION}] if self.settings.tune else []  # below what is said of it
        chosen = [{"settings": {name: dict(values)}} for name, values in self.found.items()]
        own = [*([{"seed": seed}] if self.settings.seeds else []), _layer(point)]
        config = resolve([*held, *self.layers, *chosen, *own])
        if self.settings.tune and not config.validation:
            raise UserError("tune needs validation prompts: set validation above 0, or leave it out")
        return config


def own(point: Point) -> dict[str, Any]:
    """A point of a search by the names of a method's settings."""
    return {key.rpartition(".")[2]: value for key, value in point.items()}


def study_of(layers: Iterable[Layer]) -> Study:
    """What is declared by layers of configuration, weakest first.

    Raises:
        UserError: a key of the study that is none, or that it cannot vary.
    """
    given = [in_full(layer) for layer in layers]
    known = StudySettings.model_fields
    said = {key: value for layer in given for key, value in layer.items() if key in known}
    settings: StudySettings = validated(StudySettings, said)
    common = tuple({key: value for key, value in layer.items() if key not in known} for layer in given)
    if settings.seeds and any("seed" in layer for layer in common):
        raise UserError("both seed and seeds are set; name all of them as seeds")
    for name, axes in (("grid", settings.grid), ("tune", settings.tune)):
        for key in (key for axis in axes for key in axis):
            if why := _unvaried(name, key):
                raise UserError(f"{name}: {key} {why}")
    both = {key for axis in settings.grid for key in axis} & {key for axis in settings.tune for key in axis}
    if both:
        raise UserError(f"{min(both)} is in the grid and tuned; it is one of them")
    return Study(common, settings)


def _unvaried(name: str, key: str) -> str:
    """Why a setting can be no axis of a study; empty where it can."""
    top, last = key.partition(".")[0], key.rpartition(".")[2]
    if key == "seed":
        return "is varied by seeds: --seeds 0,1,2"
    if key in MACHINE or (top in ("training", "settings") and last in COMPUTING):
        return "shapes no training, and so no row"
    if key in ("plugins", "methods", "controls", "contrasts", "primary", "versus", "margin") or key in (
        *StudySettings.model_fields,
        "validation",
    ):
        return "says what is compared, and is the same for the whole study"
    if name == "tune" and top not in ("training", "settings"):
        return "is no setting of a training; tune training.KEY, or settings.METHOD.KEY of every method"
    return ""


def _layer(point: Point) -> Layer:
    return merged(nested(key, value) for key, value in point.items())
