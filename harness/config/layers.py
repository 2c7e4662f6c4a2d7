"""Layers of configuration, merged and resolved; weakest first: defaults, preset, configuration file, `--set`,
command-line options.

`training.KEY` sets KEY for every method; `settings.METHOD.KEY` sets it for one. A later layer's `training.KEY` also
replaces what an earlier layer said for single methods, so that `--set training.learning_rate=1e-5` means what it says.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from harness.config.config import Config, JudgeConfig
from harness.core.errors import UserError
from harness.core.registry import Registry, did_you_mean
from harness.core.section import Layer, load_yaml, packaged_yaml, parse_yaml, validated
from harness.methods import DistributionSettings, Method, MethodSettings
from harness.methods.settings import ALL
from harness.serving.settings import SERVED_TOP_K

TOKENS = "tokens"  # what trainings are matched by


def preset_layer(name: str) -> Layer:
    """A preset's settings, without what it says of itself."""
    return {key: value for key, value in presets.get(name).items() if key not in ("summary", "ours")}


def preset_words(name: str) -> list[str]:
    """What a preset says of itself: its summary, and what in it the paper does not say and this project chose."""
    layer = presets.get(name)
    return [str(layer.get("summary", "")), *(f"ours: {text}" for text in layer.get("ours", ()))]


presets: Registry[Layer] = Registry("preset", lambda: packaged_yaml("presets"))


def read_config_file(path: Path) -> Layer:
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path}: cannot be read ({error})") from error


def parse_assignment(text: str) -> Layer:
    """`training.learning_rate=1e-5` as a nested mapping; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"--set {text}: expected key=value, for example training.learning_rate=1e-5")
    try:
        return in_full(nested(key, load_yaml(value)))
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"--set {text[:100]}: the value is not valid YAML") from error


def nested(key: str, value: Any) -> Layer:
    """The layer that sets `a.b` to a value."""
    for part in reversed(key.split(".")):
        value = {part: value}
    layer: Layer = value
    return layer


def parse_assignments(texts: Iterable[str]) -> Layer:
    """All of `--set` as one layer; of two values for one key the later wins."""
    layer: Layer = {}
    for text in texts:
        layer = _merge(layer, parse_assignment(text))
    return layer


def in_full(layer: Layer) -> Layer:
    """A layer with `judge: NAME` written out as `judge: {name: NAME}`."""
    return {**layer, "judge": {"name": layer["judge"]}} if isinstance(layer.get("judge"), str) else layer


def merge(base: Layer, over: Layer) -> Layer:
    """`over` on `base`, mapping by mapping; see the module's text for `training`."""
    result = _merge(base, over)
    common = over.get("training")
    if isinstance(common, dict) and isinstance(base.get("settings"), dict) and isinstance(result["settings"], dict):
        own = over.get("settings") or {}
        for method, values in result["settings"].items():
            if isinstance(values, dict):
                said = own.get(method) or {} if isinstance(own, dict) else {}
                result["settings"][method] = {k: v for k, v in values.items() if k not in common or k in said}
    return result


def merged(layers: Iterable[Layer]) -> Layer:
    """All of them as one, weakest first."""
    data: Layer = {}
    for layer in layers:
        data = merge(data, in_full(layer))
    return data


def _merge(base: Layer, over: Layer) -> Layer:
    result = copy.deepcopy(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merge(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def resolve(layers: list[Layer]) -> Config:
    """One configuration from its layers, weakest first, with every setting of every method written out. From then on
    there are the methods of its plug-ins, and of no others."""
    from harness.methods import methods

    config: Config = validated(Config, merged(layers))
    methods.use(config.plugins)
    if config.methods == (ALL,):
        config = config.model_copy(update={"methods": tuple(sorted(methods.names(), key=lambda name: name != "sft"))})
    for name in [*config.methods, *config.settings]:
        methods.get(name)
    config = config.model_copy(update={"match": _matched(config)})
    common_keys = {key for name in methods.names() for key in methods.get(name).settings.model_fields}
    for key in config.training:
        if key not in MethodSettings.model_fields:
            known = MethodSettings.model_fields if key not in common_keys else ()
            hint = did_you_mean(key, known) if known else f"; it is one method's own: settings.METHOD.{key}"
            raise UserError(f"unknown configuration key 'training.{key}'{hint}")
    used = methods.closure(config.methods, config.controls)
    checked = {
        name: _settings_of(methods.get(name), config).model_dump(mode="json")
        for name in dict.fromkeys([*used, *config.settings])  # a mistake in one that does not run is one too
    }
    settings = {name: checked[name] for name in used}
    return config.model_copy(update={"training": {}, "settings": settings})


def _matched(config: Config) -> str | None:
    """The method that all take as many tokens as, by its name: `tokens:NAME` is that one, `tokens` the first of them.

    Raises:
        UserError: it is none of the methods that were asked for.
    """
    if config.match is None:
        return None
    if config.match == TOKENS:
        return config.methods[0]
    name = config.match.removeprefix(f"{TOKENS}:")
    if name not in config.methods:
        asked = f"tokens:METHOD takes one of the methods asked for ({', '.join(config.methods)})"
        raise UserError(f"match: '{name}' is not among them{did_you_mean(name, config.methods)}; {asked}")
    return name


def _settings_of(method: Method, config: Config) -> MethodSettings:
    said, where = {**config.training, **config.settings.get(method.name, {})}, f"settings.{method.name}."
    settings: MethodSettings = validated(method.settings, said, where)
    compares = "distribution" in method.levels() and "teacher" in method.reads and method.teacher_sees is None
    if config.teacher_server is None or not compares or not isinstance(settings, DistributionSettings):
        return settings
    served: MethodSettings = validated(method.settings, {**_of_a_server(method, settings, said), **said}, where)
    return served


def _of_a_server(method: Method, settings: DistributionSettings, said: Layer) -> Layer:
    """What is so where nothing else is `said` and the teacher is behind a server: as many log-probs as one gives, with
    the rest as one outcome, asked for once where all responses are there before the training."""
    # a full support that was asked for is refused as what a server does not give, and not as what is not stored
    plain = settings.temperature == 1 and settings.top_k_of == "teacher" and said.get("support") != "full"
    once = plain and len(method.roles) == 1 and set(method.reads) == {"teacher"} and not method.fresh_share(settings)
    return {"support": "tail", "top_k": SERVED_TOP_K, **({"teacher_signal": "stored"} if once else {})}


def resolve_judging(layers: list[Layer]) -> JudgeConfig:
    """The configuration of `judge` and `judge-check`, from its layers, weakest first."""
    data: Layer = {}
    for layer in layers:
        data = _merge(data, in_full(layer))
    config: JudgeConfig = validated(JudgeConfig, data)
    return config
