"""What rows are called where their trainings differ, and where they stand in a study's grid."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from harness.results.naming import grid_points, row_names
from harness.results.schema import Results
from tests.harness.results_made import as_results, make_run

Data = dict[str, Any]


def a_run(
    number: int,
    seed: int = 0,
    point: Data | None = None,
    settings: Data | None = None,
    sft: Data | None = None,
    training: Data | None = None,
    artifacts: Data | None = None,
    **config: Any,
) -> Results:
    """A run with the rows kd, dadpo and a control of it. settings: by row, what of them is not the usual; artifacts: by
    row, those that are not of this run alone."""
    made = make_run()
    made["name"] = f"small-seed{seed}-{number:012x}"
    made["runs"] = [{**made["runs"][0], "name": made["name"], "seed": seed, **({"point": point} if point else {})}]
    made["config"] = {**made["config"], "settings": {"sft": {"learning_rate": 1e-5, **(sft or {})}}, **config}
    made["training"] = {**made["training"], **(training or {})}
    for one in made["methods"]:
        one["settings"] = {**one["settings"], **(settings or {}).get(one["name"], {})}
        one["artifact"] = (artifacts or {}).get(one["name"], f"train/{one['name']} of {number}, {one['settings']}")
    return as_results(made)


def names_of(*runs: Results, row: str = "dadpo") -> list[str]:
    """Of a row in each run; the order of the runs makes none of them another."""
    found = [known[row] for known in row_names(runs)]
    for order in itertools.permutations(range(len(runs))):
        again = [known[row] for known in row_names([runs[place] for place in order])]
        assert again == [found[place] for place in order]
    return found


def test_rows_that_are_alike_stay_plain() -> None:
    runs = [a_run(0), a_run(1, seed=1), a_run(2, settings={"kd": {"epochs": 7}})]
    assert names_of(*runs) == ["dadpo"] * 3
    assert names_of(*runs, row="untrained") == ["untrained"] * 3


SETTINGS: dict[str, tuple[list[Data], list[str]]] = {
    "one": ([{"beta_teacher": 0.0}, {"beta_teacher": 0.05}], ["beta_teacher=0", "beta_teacher=0.05"]),
    "small": ([{"learning_rate": 1e-6}, {"learning_rate": 2e-5}], ["learning_rate=1e-06", "learning_rate=2e-05"]),
    "two": (
        [{"beta_teacher": 0.1, "epochs": 2}, {"beta_teacher": 0.2, "epochs": 2}, {"beta_teacher": 0.1, "epochs": 3}],
        ["beta_teacher=0.1, epochs=2", "beta_teacher=0.2, epochs=2", "beta_teacher=0.1, epochs=3"],
    ),
    "no numbers": (
        [{"teacher_margin": "own"}, {"teacher_margin": "sft"}],
        ["teacher_margin=own", "teacher_margin=sft"],
    ),
    "switches": (
        [{"length_normalised": False}, {"length_normalised": True}],
        ["length_normalised=false", "length_normalised=true"],
    ),
    "one that an older version did not have": ([{}, {"novel": 3}], ["novel unset", "novel=3"]),
}


@pytest.mark.parametrize(("settings", "labels"), SETTINGS.values(), ids=SETTINGS)
def test_rows_are_named_by_the_settings_that_differ(settings: list[Data], labels: list[str]) -> None:
    runs = [a_run(number, settings={"dadpo": found}) for number, found in enumerate(settings)]
    assert names_of(*runs) == [f"dadpo ({label})" for label in labels]
    assert names_of(*runs, row="kd") == ["kd"] * len(runs)


def test_what_shapes_every_training_of_a_run_is_named_by_its_key() -> None:
    usual, fewer = a_run(0), a_run(1, limits={"train": 8}, training={"digest": "0" * 64})
    assert names_of(usual, fewer, row="kd") == ["kd (limits.train=null)", "kd (limits.train=8)"]
    longer = a_run(2, max_prompt_tokens=64)
    assert names_of(usual, longer, row="kd")[1] == "kd (max_prompt_tokens=64)"
    warm = a_run(3, training={"sampling": {"temperature": 0.7, "top_p": 1.0, "max_new_tokens": 32}})
    assert "train_sampling.temperature=0.7" in names_of(usual, warm, row="kd")[1]


def test_the_settings_of_sft_behind_a_row_are_named_as_sft_s() -> None:
    runs = [a_run(place, sft={"learning_rate": rate}) for place, rate in enumerate((1e-5, 3e-5))]
    assert names_of(*runs) == ["dadpo (sft.learning_rate=1e-05)", "dadpo (sft.learning_rate=3e-05)"]


def test_a_row_that_a_difference_does_not_reach_is_one_row_by_its_artifact() -> None:
    """A KD that starts from the student as it comes: SFT's learning rate is in the run, and shapes no KD."""
    runs = [
        a_run(place, sft={"learning_rate": rate}, artifacts={"kd": "train/of both"})
        for place, rate in enumerate((1e-5, 3e-5))
    ]
    runs += [a_run(2, seed=1, sft={"learning_rate": 3e-5})]
    assert names_of(*runs, row="kd") == ["kd"] * 3
    assert names_of(*runs)[1:] == ["dadpo (sft.learning_rate=3e-05)"] * 2


def test_trainings_that_words_do_not_tell_apart_have_the_digest_of_a_run() -> None:
    runs = [a_run(place, settings={"dadpo": {"beta_teacher": 0.1 + place * 1e-12}}) for place in range(2)]
    assert [known["dadpo"] for known in row_names(runs)] == [f"dadpo ({place:012x})" for place in range(2)]


def test_two_thirds_told_by_words_and_the_rest_by_a_digest() -> None:
    betas = [0.1, 0.1 + 1e-12, 0.3]
    runs = [a_run(place, settings={"dadpo": {"beta_teacher": beta}}) for place, beta in enumerate(betas)]
    label = "beta_teacher=0.1, "
    assert [known["dadpo"] for known in row_names(runs)] == [
        f"dadpo ({label}{0:012x})",
        f"dadpo ({label}{1:012x})",
        "dadpo (beta_teacher=0.3)",
    ]


KEY = "settings.dadpo.beta_teacher"


def test_a_row_of_a_grid_has_its_point_and_one_that_the_grid_does_not_reach_has_none() -> None:
    runs = [
        a_run(0, seed, {KEY: beta}, {"dadpo": {"beta_teacher": beta}}) for seed in (0, 1) for beta in (0.0, 0.05, 0.1)
    ]
    found = grid_points(runs, row_names(runs))
    assert {name: point for name, point in found.items() if point} == {
        f"dadpo (beta_teacher={beta:g})": {KEY: beta} for beta in (0.0, 0.05, 0.1)
    }
    assert found["kd"] == found["untrained"] == {}


def test_a_row_is_at_no_one_point_where_the_runs_that_have_it_are_at_several() -> None:
    """A product of two settings, each of another method."""
    other = "settings.kd.epochs"
    runs = [
        a_run(0, 0, {KEY: beta, other: epochs}, {"dadpo": {"beta_teacher": beta}, "kd": {"epochs": epochs}})
        for beta in (0.0, 0.1)
        for epochs in (1, 2)
    ]
    found = grid_points(runs, row_names(runs))
    assert {name: point for name, point in found.items() if point} == {
        "dadpo (beta_teacher=0)": {KEY: 0.0},
        "dadpo (beta_teacher=0.1)": {KEY: 0.1},
        "kd (epochs=1)": {other: 1},
        "kd (epochs=2)": {other: 2},
    }


def test_a_grid_over_what_all_trainings_share_is_in_the_point_of_every_trained_row() -> None:
    runs = [
        a_run(size, 0, {"limits.train": size}, limits={"train": size}, training={"digest": str(size) * 64})
        for size in (4, 8)
    ]
    found = grid_points(runs, row_names(runs))
    assert {name: point for name, point in found.items() if point} == {
        f"{row} (limits.train={size})": {"limits.train": size}
        for size in (4, 8)
        for row in ("dadpo", "kd", "ddpo-beta0.15")
    }


def test_a_value_that_all_runs_have_is_no_point_of_any_row() -> None:
    runs = [a_run(seed, seed, {KEY: 0.1}) for seed in (0, 1)]
    assert not any(grid_points(runs, row_names(runs)).values())


def test_a_row_matched_by_tokens_is_another_where_the_one_that_gives_them_is() -> None:
    """Its own settings are the same, and how long it trains is not: two trainings at one seed count for no one row."""

    def matched(number: int, beta: float) -> Results:
        made = a_run(number, settings={"dadpo": {"beta_teacher": beta}})
        rows = tuple(
            one.model_copy(update={"token_matched": True, "match": "dadpo"}) if one.name == "kd" else one
            for one in made.methods
        )
        return made.model_copy(update={"methods": rows})

    assert names_of(matched(0, 0.0), matched(1, 0.1), row="kd") == [
        "kd (dadpo.beta_teacher=0)",
        "kd (dadpo.beta_teacher=0.1)",
    ]
    assert names_of(matched(0, 0.1), matched(1, 0.1), row="kd") == ["kd", "kd"]
