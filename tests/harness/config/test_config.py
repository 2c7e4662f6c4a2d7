from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.options import RunRequest
from harness.config import (
    MACHINE,
    Config,
    merge,
    parse_assignment,
    preset_layer,
    presets,
    read_config_file,
    resolve,
    resolve_judging,
    to_yaml,
)
from harness.core.errors import UserError
from harness.core.section import parse_yaml, validated
from harness.generation.protocol import Sampling
from harness.judging.settings import Judging
from harness.methods import methods, shaping
from harness.models.specs import ModelSpec
from harness.serving.settings import VLLM

BASE = {"student": "some/model", "teacher": "other/model"}


def layer(text: str) -> dict[str, Any]:
    return parse_yaml(text, "test")


def resolved(*texts: str) -> Config:
    """The configuration of YAML layers on one that names the models."""
    return resolve([BASE, *map(layer, texts)])


def request(tmp_path: Path, **arguments: Any) -> Config:
    """The configuration of a command line."""
    if "config" in arguments:
        path = tmp_path / "config.yaml"
        path.write_text(arguments["config"], encoding="utf-8")
        arguments["config"] = path
    return resolve(RunRequest(**arguments).layers()[1])


# ---- layers


def test_defaults_are_the_weakest_layer(tmp_path: Path) -> None:
    config = request(tmp_path, preset="embedded")
    preset = preset_layer("embedded")["train_sampling"]["max_new_tokens"]
    assert config.train_sampling.max_new_tokens == preset != Sampling().max_new_tokens
    assert config.train_sampling.temperature == 1.0  # a default that the preset leaves
    assert config.seed == 0


def test_the_file_wins_over_the_preset(tmp_path: Path) -> None:
    config = request(tmp_path, preset="embedded", config="train_sampling: {max_new_tokens: 7}\nseed: 1")
    assert (config.train_sampling.max_new_tokens, config.seed) == (7, 1)
    assert (
        config.limits.train == preset_layer("embedded")["limits"]["train"]
    )  # what the file does not say stays the preset's


def test_an_assignment_wins_over_the_file(tmp_path: Path) -> None:
    config = request(tmp_path, preset="embedded", config="seed: 1\njudge: typicality", set=["seed=2"])
    assert (config.seed, config.judge.name) == (2, "typicality")


def test_an_option_wins_over_an_assignment(tmp_path: Path) -> None:
    config = request(
        tmp_path,
        preset="embedded",
        config="seed: 1\nmethods: [kd]\nlimits: {train: 9}",
        set=["seed=2", "methods=[ddpo]", "limits.train=8"],
        seed=3,
        methods="sft, dadpo",
        limit=5,
    )
    assert config.seed == 3
    assert config.methods == ("sft", "dadpo")
    assert (config.limits.train, config.limits.eval) == (5, 5)


@pytest.mark.parametrize("preset", presets.names())
def test_every_preset_resolves(preset: str) -> None:
    assert resolve([preset_layer(preset)]).methods


@pytest.mark.parametrize(
    ("said", "rates"),
    [
        ("{}", {"sft": 1e-5, "kd": 1e-5, "ddpo": 1e-6, "dadpo": 1e-6}),
        ("training: {lora_rank: 8}", {"sft": 2e-4, "kd": 2e-4, "ddpo": 1e-5, "dadpo": 1e-5}),
        ("training: {lora_rank: 8, learning_rate: 3e-5}", {"sft": 3e-5, "ddpo": 3e-5}),
        ("settings: {kd: {lora_rank: 8}}", {"sft": 1e-5, "kd": 2e-4}),
    ],
)
def test_learning_rates_suit_a_healthy_model_or_adapters(said: str, rates: dict[str, float]) -> None:
    settings = resolved(said).settings
    assert {name: settings[name]["learning_rate"] for name in rates} == rates


@pytest.mark.parametrize("preset", ["embedded", "quick", "single-gpu"])
def test_presets_keep_the_learning_rates_of_their_recorded_runs(preset: str) -> None:
    settings = resolve([preset_layer(preset)]).settings
    rates = {name: settings[name]["learning_rate"] for name in ("sft", "kd", "ddpo", "dadpo")}
    assert rates == {"sft": 2e-4, "kd": 2e-4, "ddpo": 1e-5, "dadpo": 1e-5}


@pytest.mark.parametrize("value", [True, False, None])
def test_dropout_is_on_off_or_left_to_the_method(value: bool | None) -> None:
    found = resolved(f"training: {{dropout: {json.dumps(value)}}}").settings
    assert {settings["dropout"] for settings in found.values()} == {value}
    assert all(("dropout" in shaping(settings)) == (value is not None) for settings in found.values())


def test_the_embedded_preset_serves_where_nothing_names_a_student(tmp_path: Path) -> None:
    assert request(tmp_path).student == preset_layer("embedded")["student"]
    assert request(tmp_path, student="some/model").limits.train is None


@pytest.mark.parametrize(("student", "ratio"), [(None, 0.2), ("smollm2-135m-pruned20", 0.2), ("qwen2.5-1.5b", None)])
def test_a_preset_prunes_no_student_but_its_own(tmp_path: Path, student: str | None, ratio: float | None) -> None:
    prune = request(tmp_path, preset="quick", student=student).prune
    assert (prune and prune.ratio) == ratio


def test_pruning_that_was_asked_for_holds_for_any_student(tmp_path: Path) -> None:
    config = request(tmp_path, preset="quick", student="qwen2.5-1.5b", set=["prune.ratio=0.3"])
    assert config.prune is not None and config.prune.ratio == 0.3


def test_layers_are_left_as_they_were() -> None:
    below, above = {"limits": {"train": 1}}, {"limits": {"eval": 2}}
    assert merge(below, above) == {"limits": {"train": 1, "eval": 2}}
    assert (below, above) == ({"limits": {"train": 1}}, {"limits": {"eval": 2}})


# ---- training and settings


def test_training_sets_every_method() -> None:
    config = resolved("training: {epochs: 7}")
    assert {settings["epochs"] for settings in config.settings.values()} == {7}


def test_settings_of_one_method_win_over_training_in_the_same_layer() -> None:
    config = resolved("training: {epochs: 7}\nsettings: {dadpo: {epochs: 5}}")
    assert (config.settings["dadpo"]["epochs"], config.settings["ddpo"]["epochs"]) == (5, 7)


def test_later_settings_of_one_method_win_over_training() -> None:
    config = resolved("training: {epochs: 7}", "settings: {dadpo: {epochs: 5}}")
    assert (config.settings["dadpo"]["epochs"], config.settings["ddpo"]["epochs"]) == (5, 7)


def test_later_training_replaces_earlier_settings_of_one_method() -> None:
    config = resolved("settings: {dadpo: {epochs: 5, learning_rate: 0.5}}", "training: {epochs: 7}")
    assert config.settings["dadpo"]["epochs"] == 7
    assert config.settings["dadpo"]["learning_rate"] == 0.5  # another key is left alone


def test_a_layer_with_both_replaces_earlier_settings_but_not_its_own() -> None:
    config = resolved(
        "settings: {dadpo: {epochs: 5}, ddpo: {epochs: 6}}",
        "training: {epochs: 7}\nsettings: {ddpo: {epochs: 8}}",
    )
    assert (config.settings["dadpo"]["epochs"], config.settings["ddpo"]["epochs"]) == (7, 8)


@pytest.mark.parametrize("reverse", [False, True])
def test_assignments_are_one_layer_in_any_order(tmp_path: Path, reverse: bool) -> None:
    assignments = ["settings.dadpo.epochs=5", "training.epochs=7"]
    config = request(tmp_path, set=assignments[::-1] if reverse else assignments)
    assert (config.settings["dadpo"]["epochs"], config.settings["ddpo"]["epochs"]) == (5, 7)


def test_a_setting_of_every_training_reaches_all_methods(tmp_path: Path) -> None:
    config = request(tmp_path, set=["training.lora_rank=8", "training.compile=true"], controls="full")
    assert set(config.settings) == set(methods.closure(config.methods, "full"))
    assert {(own["lora_rank"], own["compile"]) for own in config.settings.values()} == {(8, True)}


def test_adapters_are_off_unless_asked_for() -> None:
    for own in resolved().settings.values():
        assert (own["lora_rank"], own["compile"], own["gradient_checkpointing"]) == (0, False, False)


def test_a_token_level_method_says_where_the_teacher_s_distributions_are_from(tmp_path: Path) -> None:
    def signal(config: Config) -> tuple[Any, ...]:
        return tuple(config.settings["kd"][key] for key in ("teacher_signal", "top_k", "support"))

    assert signal(resolved()) == ("online", 64, "full")
    assignments = [f"settings.kd.{value}" for value in ("teacher_signal=stored", "top_k=16")]
    assert signal(request(tmp_path, set=assignments)) == ("stored", 16, "tail")
    assert signal(request(tmp_path, set=[*assignments, "settings.kd.support=truncated"]))[2] == "truncated"
    by_rows = {name for name, method in methods.items() if "distribution" in method.levels()}
    assert {name for name, method in methods.items() if "top_k" in method.settings.model_fields} == by_rows


def test_settings_are_written_out_for_methods_of_controls_too() -> None:
    assert set(resolved("methods: [dadpo]").settings) == {"sft", "dadpo", "ddpo"}
    assert set(resolved("methods: [dadpo]\ncontrols: full").settings) == {"sft", "dadpo", "ddpo", "gopd"}
    assert set(resolved("methods: [dadpo]\ncontrols: none").settings) == {"sft", "dadpo"}


# ---- YAML


@pytest.mark.parametrize("preset", presets.names())
def test_the_resolved_file_fed_back_gives_the_same_configuration(tmp_path: Path, preset: str) -> None:
    config = request(
        tmp_path,
        preset=preset,
        config="training: {learning_rate: 1e-5, epochs: 2}\nsettings: {dadpo: {beta_teacher: 0.25}}",
        set=[
            *("store=/some/where", "launcher=accelerate", "processes=2", f"accelerate_config={__file__}"),
            *("vllm.python=/some/python", "vllm.max_model_len=4096", "judge.base_url=http://host/v1"),
        ],
        seed=4,
    )
    again = request(tmp_path, config=to_yaml(config))
    machine: dict[str, Any] = {name: Config.model_fields[name].default for name in MACHINE if "." not in name}
    machine["vllm"] = VLLM(max_model_len=4096)  # without its `python`
    assert again == config.model_copy(update=machine)  # where and how it runs is the machine's affair
    assert to_yaml(again) == to_yaml(config)
    assert request(tmp_path, preset=preset, config=to_yaml(config)) == again


def test_nothing_is_claimed_of_a_margin_or_of_rows_against_each_other_unless_it_is_asked_for() -> None:
    config = resolved()
    assert (config.primary, config.margin, config.versus, config.samples) == (None, None, (), 1)
    written = yaml.safe_load(to_yaml(config))
    assert [written[name] for name in ("primary", "margin", "versus", "samples")] == [None, None, [], 1]


def test_what_is_claimed_stands_in_the_resolved_file(tmp_path: Path) -> None:
    config = request(tmp_path, primary="dadpo:ddpo", margin=5.0, versus="dadpo:ddpo,kd:sft", samples=3)
    said = yaml.safe_load(to_yaml(config))
    assert [said[name] for name in ("primary", "margin", "samples")] == [["dadpo", "ddpo"], 5.0, 3]
    assert said["versus"] == [["dadpo", "ddpo"], ["kd", "sft"]]
    assert request(tmp_path, config=to_yaml(config)) == config


def test_how_and_where_a_run_is_made_is_the_machine_s_affair() -> None:
    assert {"store", "launcher", "processes", "accelerate_config", "vllm.python"} == MACHINE


def test_the_resolved_file_holds_every_setting() -> None:
    config = resolved()
    written = yaml.safe_load(to_yaml(config))
    assert set(written) == set(Config.model_fields) - {"training", *MACHINE}
    assert next(iter(written)) == "student"  # what a run is about stands first, for people
    for name in config.settings:
        assert set(written["settings"][name]) == set(methods.get(name).settings.model_fields)


@pytest.mark.parametrize("number", ["1e-5", "1E-5", "1.0e-5", "0.00001"])
def test_numbers_are_read_as_people_write_them(tmp_path: Path, number: str) -> None:
    in_file = resolved(f"training: {{learning_rate: {number}}}")
    on_line = request(tmp_path, set=[f"training.learning_rate={number}"])
    for config in (in_file, on_line):
        assert config.settings["sft"]["learning_rate"] == 1e-5
        assert yaml.safe_load(to_yaml(config))["settings"]["sft"]["learning_rate"] == 1e-5


def test_an_empty_file_is_no_settings() -> None:
    assert parse_yaml("", "f.yaml") == {}
    assert parse_yaml("# only a comment\n", "f.yaml") == {}


def test_malformed_yaml_is_reported_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("student: a/b\nlimits: {train: 1\nseed: 0\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"bad\.yaml:3: malformed YAML"):
        read_config_file(path)


@pytest.mark.parametrize(
    "text",
    [
        "student: [a",
        "student: 'a",
        "a: b: c",
        "- x\n y: 2",
        "seed: *nowhere",
        "seed: !!python/object:os.system {}",
        "student: a\x07b",
        "seed: 2024-13-45",
        "\tseed: 1",
    ],
)
def test_any_malformed_yaml_is_an_error_of_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"^f\.yaml") as caught:
        parse_yaml(text, "f.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["[1", "{a: ", "2024-13-45", "a\x07b"])
def test_a_malformed_assigned_value_is_an_error_of_one_line(value: str) -> None:
    with pytest.raises(UserError, match=r"^--set seed=") as caught:
        parse_assignment(f"seed={value}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b", "just words", "42"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"^f\.yaml: expected a mapping of settings, found"):
        parse_yaml(text, "f.yaml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"student: \xe9")
    for path in (tmp_path / "missing.yaml", tmp_path, tmp_path / "latin.yaml"):
        with pytest.raises(UserError, match="cannot be read") as caught:
            read_config_file(path)
        assert str(path) in str(caught.value)


# ---- assignments


def test_an_assignment_becomes_a_nested_mapping() -> None:
    assert parse_assignment("settings.dadpo.epochs=3") == {"settings": {"dadpo": {"epochs": 3}}}
    assert parse_assignment("student=a=b") == {"student": "a=b"}
    assert parse_assignment("eval=[a, b]") == {"eval": ["a", "b"]}


@pytest.mark.parametrize("text", ["seed", "=3", ".seed=3", "limits..train=3", ""])
def test_an_assignment_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected key=value"):
        parse_assignment(text)


# ---- what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sead: 1", "unknown configuration key 'sead'; did you mean 'seed'?"),
        ("limits: {trian: 1}", "unknown configuration key 'limits.trian'; did you mean 'train'?"),
        (
            "eval_sampling: {temprature: 1}",
            "unknown configuration key 'eval_sampling.temprature'; did you mean 'temperature'?",
        ),
        ("training: {epoch: 1}", "unknown configuration key 'training.epoch'; did you mean 'epochs'?"),
        (
            "settings: {dadpo: {beta_techer: 1}}",
            "unknown configuration key 'settings.dadpo.beta_techer'; did you mean 'beta_teacher'?",
        ),
        ("training: {lora_rnk: 4}", "unknown configuration key 'training.lora_rnk'; did you mean 'lora_rank'?"),
        ("settings: {kd: {topk: 4}}", "unknown configuration key 'settings.kd.topk'; did you mean 'top_k'?"),
        (
            "settings: {kd: {teacher_signals: online}}",
            "unknown configuration key 'settings.kd.teacher_signals'; did you mean 'teacher_signal'?",
        ),
        ("max_prompt_token: 9", "unknown configuration key 'max_prompt_token'; did you mean 'max_prompt_tokens'?"),
        ("judge: {temprature: 1}", "unknown configuration key 'judge.temprature'; did you mean 'temperature'?"),
        ("judge: {prices: {inputs: 1}}", "unknown configuration key 'judge.prices.inputs'; did you mean 'input'?"),
        (
            "judge: {own: {proxy: {temprature: 1}}}",
            "unknown configuration key 'judge.own.proxy.temprature'; did you mean 'temperature'?",
        ),
        ("settings: {dapdo: {epochs: 1}}", "unknown method 'dapdo'; did you mean 'dadpo'?"),
        ("methods: [sft, dapdo]", "unknown method 'dapdo'; did you mean 'dadpo'?"),
    ],
)
def test_an_unknown_name_at_any_depth_gets_a_suggestion(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        resolved(text)
    assert str(caught.value) == message


def test_an_unknown_setting_of_a_method_that_does_not_run_is_refused_too() -> None:
    with pytest.raises(UserError, match=r"settings\.kd\.lerning_rate'; did you mean 'learning_rate'\?"):
        resolved("methods: [sft]\ncontrols: none\nsettings: {kd: {lerning_rate: 1.0}}")


@pytest.mark.parametrize(
    ("said", "name"), [("tokens", "sft"), ("tokens:ddpo", "ddpo"), ("kd", "kd"), (None, None)], ids=str
)
def test_what_trainings_are_matched_by_is_a_method_in_full(said: str | None, name: str | None) -> None:
    config = resolve([BASE, {"methods": ["sft", "ddpo", "kd"], "match": said}])
    assert config.match == name
    assert resolve([config.model_dump(mode="json")]) == config  # it is fed back one day


@pytest.mark.parametrize("name", ["dpdo", "tokens:dpdo", "tokens:"])
def test_what_trainings_are_matched_by_was_asked_for(name: str) -> None:
    with pytest.raises(
        UserError, match=r"^match: '\w*' is not among them.*takes one of the methods .*\(sft, ddpo\)$"
    ) as caught:
        resolve([BASE, {"methods": ["sft", "ddpo"], "match": name}])
    assert ("did you mean 'ddpo'?" in str(caught.value)) == ("dpdo" in name)
    with pytest.raises(UserError, match=r"^match: 'dadpo' is not "):  # there is one, and this run has it not
        resolve([BASE, {"methods": ["sft", "ddpo"], "match": "dadpo"}])


@pytest.mark.parametrize("key", ["beta_teacher", "top_k", "teacher_signal", "support"])
def test_one_method_s_own_setting_is_not_set_for_all(tmp_path: Path, key: str) -> None:
    with pytest.raises(UserError) as caught:
        request(tmp_path, set=[f"training.{key}=1"])
    hint = f"unknown configuration key 'training.{key}'; it is one method's own: settings.METHOD.{key}"
    assert str(caught.value) == hint


@pytest.mark.parametrize("key", ["top_k", "teacher_signal", "support"])
def test_only_token_level_methods_choose_a_teacher_s_signal(key: str) -> None:
    with pytest.raises(UserError, match=rf"^unknown configuration key 'settings\.sft\.{key}'"):
        resolved(f"settings: {{sft: {{{key}: 1}}}}")


def test_an_unknown_key_inside_an_optional_section_is_named() -> None:
    with pytest.raises(UserError, match=r"prune\.calibraton'; did you mean 'calibration'\?"):
        validated(ModelSpec, {"base": "other", "prune": {"ratio": 0.2, "calibraton": 1}})


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("seed: many", "seed"),
        ("seed: -1", "seed"),
        ("seed: 1.5", "seed"),
        ("seed: true", "seed"),
        ("limits: {train: 0}", "limits.train"),
        ("limits: 3", "limits"),
        ("limits: null", "limits"),
        ("eval_sampling: {top_p: 2}", "eval_sampling.top_p"),
        ("methods: dadpo", "methods"),
        ("methods: []", "methods"),
        ("methods: [sft, sft]", "methods"),
        ("methods: [sft, 3]", "methods.1"),
        ("controls: some", "controls"),
        ("student: null", "student"),
        ("training: fast", "training"),
        ("training: {learning_rate: fast}", "settings.sft.learning_rate"),
        ("training: {learning_rate: .inf}", "settings.sft.learning_rate"),
        ("training: {learning_rate: yes}", "settings.sft.learning_rate"),
        ("training: {batch_size: 0}", "settings.sft.batch_size"),
        ("training: {micro_batch_tokens: 0}", "settings.sft.micro_batch_tokens"),
        ("training: {checkpoint_steps: 0}", "settings.sft.checkpoint_steps"),
        ("training: {max_grad_norm: 0}", "settings.sft.max_grad_norm"),
        ("training: {gradient_checkpointing: 3}", "settings.sft.gradient_checkpointing"),
        ("training: {compile: fast}", "settings.sft.compile"),
        ("training: {lora_rank: -1}", "settings.sft.lora_rank"),
        ("training: {lora_rank: 2.5}", "settings.sft.lora_rank"),
        ("training: {lora_rank: yes}", "settings.sft.lora_rank"),
        ("training: {lora_alpha: 0}", "settings.sft.lora_alpha"),
        ("training: {lora_dropout: 1}", "settings.sft.lora_dropout"),
        ("training: {lora_dropout: -0.1}", "settings.sft.lora_dropout"),
        ("training: {warmup_ratio: 1.1}", "settings.sft.warmup_ratio"),
        ("training: {weight_decay: -1}", "settings.sft.weight_decay"),
        ("training: {precision: fp16}", "settings.sft.precision"),
        ("settings: {kd: {teacher_signal: offline}}", "settings.kd.teacher_signal"),
        ("settings: {kd: {teacher_signal: yes}}", "settings.kd.teacher_signal"),
        ("settings: {kd: {top_k: 0}}", "settings.kd.top_k"),
        ("settings: {kd: {top_k: many}}", "settings.kd.top_k"),
        ("settings: {kd: {teacher_signal: top_k}}", "settings.kd.teacher_signal"),
        ("settings: {kd: {support: perhaps}}", "settings.kd.support"),
        ("settings: {kd: {teacher_signal: stored, support: full}}", "settings.kd"),
        ("settings: {kd: {teacher_signal: stored, top_k_of: policy}}", "settings.kd"),
        ("settings: {kd: {teacher_signal: stored, fresh_share: 0.5}}", "settings.kd"),
        ("settings: {kd: {teacher_signal: stored, temperature: 0.9}}", "settings.kd"),
        ("settings: {kd: {fresh_share: 1.5}}", "settings.kd.fresh_share"),
        ("settings: {kd: {fresh_every: 0}}", "settings.kd.fresh_every"),
        ("settings: {kd: {per: batch}}", "settings.kd.per"),
        ("max_prompt_tokens: 0", "max_prompt_tokens"),
        ("max_prompt_tokens: yes", "max_prompt_tokens"),
        ("tracker: mlflow", "tracker"),
        ("scoring_precision: fp16", "scoring_precision"),
        ("settings: {dadpo: {beta_teacher: -1}}", "settings.dadpo.beta_teacher"),
        ("settings: {dadpo: 3}", "settings.dadpo"),
        ("judge: {name: 3}", "judge.name"),
        ("judge: {name: ''}", "judge.name"),
        ("judge: 'proxy,'", "judge.name"),
        ("judge: 'proxy,proxy'", "judge.name"),
        ("judge: [proxy]", "judge"),
        ("judge: {samples: 0}", "judge.samples"),
        ("judge: {form: essay}", "judge.form"),
        ("judge: {concurrency: 0}", "judge.concurrency"),
        ("judge: {timeout: 0}", "judge.timeout"),
        ("judge: {max_cost: 0}", "judge.max_cost"),
        ("judge: {prices: {input: -1}}", "judge.prices.input"),
        ("judge: {least_ok: 2}", "judge.least_ok"),
        ("judge: {base_url: 'localhost:8000'}", "judge.base_url"),
        ("judge: {base_url: 'http://'}", "judge.base_url"),
        ("judge: {base_url: 'http://h/v1?api_key=x'}", "judge.base_url"),
        ("judge: {temperature: yes}", "judge.temperature"),
        ("judge: {own: {typicality: {temperature: 1}}}", "judge.own"),
        ("judge: {own: {proxy: {temperature: -1}}}", "judge.own.proxy.temperature"),
        ("judge: {own: {proxy: 3}}", "judge.own.proxy"),
        ("judge: {own: {1: {temperature: 1}}}", "judge.own"),
        ("judge: {own: {proxy: {samples: 3}}}", "judge.own"),
        ("samples: 0", "samples"),
        ("samples: 1.5", "samples"),
        ("margin: 0", "margin"),
        ("margin: -5", "margin"),
        ("margin: 101", "margin"),
        ("margin: .nan", "margin"),
        ("margin: .inf", "margin"),
        ("margin: five", "margin"),
        ("primary: dadpo", "primary"),
        ("primary: [dadpo]", "primary.1"),
        ("primary: [dadpo, ddpo, kd]", "primary"),
        ("versus: [dadpo, ddpo]", "versus.0"),
        ("versus: [[dadpo]]", "versus.0.1"),
        ("contrasts: [[dadpo]]", "contrasts.0.1"),
        ("1: 2", "1"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_by_its_full_key(text: str, key: str) -> None:
    with pytest.raises(UserError) as caught:
        resolved(text)
    assert str(caught.value).startswith(f"configuration key '{key}'")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", methods.names())
@pytest.mark.parametrize("wrong", ["learning_rate: 0", "epochs: 0"])
def test_a_method_s_own_default_does_not_lift_the_limits_of_a_setting(method: str, wrong: str) -> None:
    with pytest.raises(UserError, match=f"^configuration key 'settings.{method}.{wrong.split(':')[0]}'"):
        resolved(f"methods: [{method}]\nsettings: {{{method}: {{{wrong}}}}}")


@pytest.mark.parametrize("text", ["training: {epochs: 2}\nsettings: 5", "training: {epochs: 2}\nsettings: {kd: 5}"])
def test_settings_of_a_wrong_type_are_refused_whatever_the_layer_below_holds(text: str) -> None:
    with pytest.raises(UserError, match=r"^configuration key 'settings"):
        resolved("settings: {kd: {epochs: 1}}", text)


def test_a_missing_student_is_named() -> None:
    with pytest.raises(UserError, match="configuration key 'student' is not set"):
        resolve([{}])


def test_a_rule_of_a_method_s_settings_names_the_method() -> None:
    with pytest.raises(UserError, match=r"settings\.dadpo.*cannot both be 0"):
        resolved("settings: {dadpo: {beta_reference: 0, beta_teacher: 0}}")


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        resolved().seed = 1  # type: ignore[misc]


# ---- who judges, and how it is asked


@pytest.mark.parametrize(
    ("texts", "name", "samples"),
    [
        ((), "proxy", 2),
        (("judge: typicality",), "typicality", 2),
        (("judge: {name: typicality, samples: 3}",), "typicality", 3),
        (("judge: {samples: 3}", "judge: typicality"), "typicality", 3),
        (("judge: typicality", "judge: {samples: 3}"), "typicality", 3),
        (("judge: typicality", "judge: {name: embedding}"), "embedding", 2),
    ],
)
def test_a_judge_is_named_alone_or_with_its_settings_in_any_layer(
    texts: tuple[str, ...], name: str, samples: int
) -> None:
    config = resolved(*texts)
    assert (config.judge.name, config.judge.samples) == (name, samples)
    assert resolve([yaml.safe_load(to_yaml(config))]) == config


def test_assignments_and_options_name_a_judge_too(tmp_path: Path) -> None:
    config = request(tmp_path, set=["judge=embedding", "judge.samples=4", "judge.prices.input=0.5"])
    assert (config.judge.name, config.judge.samples, config.judge.prices.input) == ("embedding", 4, 0.5)
    config = request(tmp_path, set=["judge=embedding"], judge="a:1, b:2", template="mine.yaml", max_cost=2.5)
    assert config.judge.names == ("a:1", "b:2")
    assert (config.judge.template, config.judge.max_cost) == ("mine.yaml", 2.5)


def test_one_judge_of_several_has_settings_of_its_own() -> None:
    config = resolved(
        "judge: {name: 'a:1, b:2', temperature: 0.5, prices: {input: 1, output: 2}}",
        "judge: {own: {'b:2': {temperature: 1, base_url: 'http://host/v1', prices: {input: 3, output: 4}}}}",
    )
    one, other = config.judge.judges
    assert (one, other) == (config.judge.of("a:1"), config.judge.of("b:2"))
    assert (one.name, one.temperature, one.base_url, one.prices.input) == ("a:1", 0.5, None, 1)
    assert (other.name, other.temperature, other.base_url, other.prices.input) == ("b:2", 1.0, "http://host/v1", 3)
    assert one.template == other.template == "default"
    assert config.judge.model_dump()["own"] == {
        "b:2": {"temperature": 1.0, "base_url": "http://host/v1", "prices": {"input": 3.0, "output": 4.0}}
    }


def test_a_judge_of_several_may_go_without_what_the_others_have() -> None:
    config = resolved("judge: {name: 'a:1,b:2', base_url: 'http://host/v1', own: {'b:2': {base_url: null}}}")
    again = resolve([yaml.safe_load(to_yaml(config))])
    for judging in (config.judge, again.judge):
        assert [judge.base_url for judge in judging.judges] == ["http://host/v1", None]


def test_settings_of_a_judge_that_does_not_judge_are_refused_with_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"'openai:gtp' is none of the judges; did you mean 'openai:gpt'\?"):
        resolved("judge: {name: 'openai:gpt,proxy', own: {'openai:gtp': {temperature: 1}}}")


SECRET = "http://user:pa55word@host/v1"
PLACES = {
    "of all": [f"judge.base_url={SECRET}"],
    "of one": ["judge=a:1,b:2", f"judge.own={{'b:2': {{base_url: '{SECRET}'}}}}"],
}


@pytest.mark.parametrize("assignments", PLACES.values(), ids=PLACES)
def test_credentials_of_a_url_are_in_no_file_and_no_command(tmp_path: Path, assignments: list[str]) -> None:
    config = request(tmp_path, set=assignments)
    name = config.judge.names[-1]
    assert config.judge.of(name).base_url == SECRET  # where it is asked it is whole
    for text in (
        to_yaml(config),
        config.model_dump_json(),
        str(config.model_dump()),
        RunRequest(set=assignments).command(None),
    ):
        assert "pa55" not in text and "host/v1" in text
    assert "pa55" not in str(resolve([yaml.safe_load(to_yaml(config))]).model_dump())


def test_credentials_of_a_teacher_s_server_are_in_no_file_and_no_command(tmp_path: Path) -> None:
    assignments = [f"teacher_server.base_url={SECRET}", "teacher_server.model=teacher-7b"]
    config = request(tmp_path, set=assignments)
    assert config.teacher_server and config.teacher_server.base_url == SECRET  # where it is asked it is whole
    assert config.teacher_server.public_url == "http://host/v1"
    for text in (
        to_yaml(config),
        config.model_dump_json(),
        str(config.model_dump()),
        RunRequest(set=assignments).command(None),
    ):
        assert "pa55" not in text and "host/v1" in text
    again = resolve([yaml.safe_load(to_yaml(config))])
    assert again.teacher_server == config.teacher_server.model_copy(update={"base_url": "http://host/v1"})


@pytest.mark.parametrize(
    ("method", "said", "wanted"),
    [
        ("kd", "", ("stored", "tail", 20)),
        ("kd", "top_k: 64", ("stored", "tail", 64)),
        ("kd", "support: renormalised", ("stored", "renormalised", 20)),
        ("kd", "teacher_signal: online", ("online", "tail", 20)),
        ("kd", "fresh_share: 0.5", ("online", "tail", 20)),
        ("gkd", "", ("online", "tail", 20)),
        ("distillm2", "", ("online", "tail", 20)),
        ("sdft", "", ("online", "renormalised", 100)),  # its teacher is no server's
    ],
)
def test_what_a_served_teacher_gives_is_so_where_nothing_else_is_said(
    method: str, said: str, wanted: tuple[str, str, int]
) -> None:
    names = ("teacher_signal", "support", "top_k")
    server = "teacher: null\nteacher_server: {base_url: 'http://host/v1', model: m}"
    config = resolved(server, f"methods: [{method}]\nsettings: {{{method}: {{{said}}}}}")
    assert tuple(config.settings[method][name] for name in names) == wanted
    assert resolve([yaml.safe_load(to_yaml(config))]).settings == config.settings
    local = resolved(f"methods: [{method}]").settings[method]
    assert local["support"] == methods.get(method).settings().model_dump()["support"]


@pytest.mark.parametrize(
    "url",
    [
        "http://user:pa55word@host/v1?x=1",
        "ftp://user:pa55word@host/v1",
        "http://user:pa55word@",
        "http://user:pa55word@host:port/v1",
        "http://user:pa55/word@host/v1?x=1",
        "http://user:pa55?word@host/v1",
        "http://user:pa55#word@host/v1",
        "http://user:pa55@word@host/v1#x",
    ],
)
@pytest.mark.parametrize(
    "place",
    ["judge.base_url={}", "judge.own={{proxy: {{base_url: '{}'}}}}", "teacher_server={{base_url: '{}', model: m}}"],
)
def test_a_url_that_is_none_is_refused_without_its_credentials(tmp_path: Path, url: str, place: str) -> None:
    try:
        config = request(tmp_path, set=[place.format(url)])
    except UserError as error:
        assert "pa55" not in str(error) and "base_url" in str(error)
    else:
        assert "pa55" not in to_yaml(config)


def test_the_judging_commands_take_the_judge_s_part_of_a_configuration() -> None:
    layers = [layer("judge: typicality\nstore: /s"), {"judge": {"samples": 3}}]
    config = resolve_judging(layers)
    assert (config.judge, config.store) == (Judging(name="typicality", samples=3), "/s")
    with pytest.raises(UserError, match="unknown configuration key 'student'"):
        resolve_judging([BASE])
    with pytest.raises(UserError, match=r"judge\.own\.proxy\.form"):
        resolve_judging([layer("judge: {own: {proxy: {form: essay}}}")])
