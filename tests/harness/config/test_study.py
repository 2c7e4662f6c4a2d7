"""Several runs as one study: how it is declared, and which runs it has."""

from __future__ import annotations

from typing import Any

import pytest

from harness.config import study_of, to_yaml
from harness.config.study import Study, parse_axis, points_of
from harness.core.errors import UserError

BETA = "settings.dadpo.beta_teacher"


def study(*layers: dict[str, Any], **said: Any) -> Study:
    return study_of([{"student": "small", "methods": ["dadpo", "ddpo"]}, *layers, said])


def test_a_run_is_a_study_of_one() -> None:
    found = study(seed=3)
    (member,) = found.members
    assert not found.several
    assert (member.config, dict(member.point), member.config.seed) == (found.base, {}, 3)


def test_every_seed_is_at_every_point_of_the_grid() -> None:
    found = study(seeds=[0, 2], grid={BETA: [0, 0.1], "limits.train": [5, 9]})
    assert [
        (m.config.seed, m.config.settings["dadpo"]["beta_teacher"], m.config.limits.train) for m in found.members
    ] == [(seed, beta, limit) for seed in (0, 2) for beta in (0, 0.1) for limit in (5, 9)]
    assert found.members[1].name == "seed0, dadpo.beta_teacher=0, limits.train=9"
    assert len({to_yaml(member.config) for member in found.members}) == 8


def test_settings_of_one_axis_go_together() -> None:
    found = study(grid=[{BETA: [0, 0.1], "training.epochs": [1, 2]}])
    assert [
        (m.config.settings["dadpo"]["beta_teacher"], m.config.settings["ddpo"]["epochs"]) for m in found.members
    ] == [
        (0, 1),
        (0.1, 2),
    ]


def test_a_point_is_what_set_would_make_of_it() -> None:
    """A rate for all trainings replaces what lower layers said of single ones."""
    found = study({"settings": {"ddpo": {"learning_rate": 1.0}}}, grid={"training.learning_rate": [0.5]})
    assert {name: one["learning_rate"] for name, one in found.members[0].config.settings.items()} == {
        "sft": 0.5,
        "ddpo": 0.5,
        "dadpo": 0.5,
    }


def test_the_base_has_the_first_seed_and_no_point() -> None:
    found = study(seeds=[4, 5], grid={BETA: [0.7]})
    assert found.base.seed == 4
    assert found.base.settings["dadpo"]["beta_teacher"] != 0.7


def test_a_search_holds_prompts_out_and_what_it_finds_is_in_every_run() -> None:
    found = study(seeds=[0, 1], tune={"training.learning_rate": [1e-5, 2e-5]})
    assert {member.config.validation for member in found.members} == {0.2}
    assert study(tune={"training.learning_rate": [1e-5]}, validation=0.4).base.validation == 0.4
    assert study(seeds=[0, 1]).base.validation == 0
    tried = found.with_settings("dadpo", {"training.learning_rate": 2e-5})
    assert tried.settings["dadpo"]["learning_rate"] == 2e-5 != tried.settings["ddpo"]["learning_rate"]
    tuned = found.tuned({"sft": {"learning_rate": 3e-5}}).tuned({"dadpo": {"learning_rate": 2e-5}})
    for member in tuned.members:
        rates = {name: one["learning_rate"] for name, one in member.config.settings.items()}
        assert (rates["sft"], rates["dadpo"]) == (3e-5, 2e-5)


def test_a_point_of_the_grid_is_above_what_was_found() -> None:
    tuned = study(grid={"training.epochs": [7]}, tune={"training.learning_rate": [1e-5]}).tuned(
        {"dadpo": {"learning_rate": 9.0, "epochs": 2}}
    )
    settings = tuned.members[0].config.settings["dadpo"]
    assert (settings["learning_rate"], settings["epochs"]) == (9.0, 7)


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        (f"{BETA}=0,0.1", {BETA: [0, 0.1]}),
        ("training.learning_rate=5e-6, 1e-5", {"training.learning_rate": [5e-6, 1e-5]}),
        (f"{BETA}=0,0.1 ; training.epochs=1,2", {BETA: [0, 0.1], "training.epochs": [1, 2]}),
        ("settings.kd.support=full,tail", {"settings.kd.support": ["full", "tail"]}),
        ("eval=[a,b],[c]", {"eval": [["a", "b"], ["c"]]}),
        ("max_prompt_tokens=null,64", {"max_prompt_tokens": [None, 64]}),
        ("a=inf,nan", {"a": ["inf", "nan"]}),
    ],
)
def test_an_option_s_text_is_settings_with_their_values(text: str, axis: dict[str, Any]) -> None:
    assert parse_axis("--grid", text) == axis


@pytest.mark.parametrize("text", ["a", "a=", "=1", "a.=1", "a=1;", "a=1; a=2", "a=[1"])
def test_a_text_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"^--tune "):
        parse_axis("--tune", text)


def test_no_axis_is_one_point_without_settings() -> None:
    assert points_of(()) == [{}]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"seeds": [1, 1]}, r"'seeds': .* named twice"),
        ({"seeds": [0], "seed": 1}, r"both seed and seeds"),
        ({"grid": {BETA: []}}, r"at least one value"),
        ({"grid": {BETA: [1, 1]}}, r"one value is there twice"),
        ({"grid": [{BETA: [1, 2], "training.epochs": [1]}]}, r"2 of .*, 1 of training\.epochs"),
        ({"grid": [{BETA: [1]}, {BETA: [2]}]}, r"beta_teacher is there twice"),
        ({"grid": {"seed": [1]}}, r"--seeds"),
        ({"grid": {"store": ["a"]}}, r"grid: store shapes no training"),
        ({"grid": {"training.micro_batch_tokens": [64]}}, r"shapes no training"),
        ({"grid": {"methods": [["sft"]]}}, r"says what is compared"),
        ({"tune": {"limits.train": [4]}}, r"tune: limits\.train is no setting of a training"),
        ({"tune": {BETA: [0]}, "grid": {BETA: [1]}}, r"is in the grid and tuned"),
        ({"tune": {BETA: "a"}}, r"'tune"),
    ],
)
def test_what_is_no_study_is_refused_in_one_line(said: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why) as refused:
        study(**said)
    assert "\n" not in str(refused.value)


def test_a_setting_that_there_is_not_is_refused_as_set_would() -> None:
    found = study(grid={"settings.dadpo.bet": [1]})
    with pytest.raises(UserError, match=r"unknown configuration key 'settings\.dadpo\.bet'.*beta"):
        _ = found.members


@pytest.mark.parametrize("share", [0, 0.0])
def test_what_is_tuned_without_validation_prompts_is_refused(share: object) -> None:
    found = study({"validation": share}, tune={"training.learning_rate": [1e-3, 1e-2]})
    with pytest.raises(UserError, match="tune needs validation prompts: set validation above 0"):
        found.base  # noqa: B018
    assert study({"validation": 0}).base.validation == 0
