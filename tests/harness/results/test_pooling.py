"""Several runs on one board: which share tables, what their rows are called, and what counts once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.records import plain, write_jsonl
from harness.reports import board
from harness.results import pooling
from harness.results.naming import row_names
from harness.results.schema import Results
from tests.harness.runs_made import LOSS, REASON, TIE, WIN, Run, Said, make_folder, rewrite

Data = dict[str, Any]
FIRST: Data = {"seed": 0, "prompts": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of these tests lie; what several read is made once."""
    return tmp_path_factory.mktemp("pooled")


@pytest.fixture(scope="module")
def make(root: Path) -> Callable[..., Run]:
    """A run by its configuration; each is made once."""
    known: dict[str, Run] = {}

    def made(**layer: Any) -> Run:
        name = json.dumps(layer, sort_keys=True)
        if name not in known:
            known[name] = make_folder(root, f"run{len(known)}", say=says, **layer)
        return known[name]

    return made


def says(candidate: str, number: int) -> Said:
    """SFT wins everywhere, dDPO on the first prompt; all others tie."""
    return {"sft": WIN, "ddpo": WIN if number == 0 else LOSS}.get(candidate, TIE)


def pool_of(found: Data | Results) -> str:
    return pooling.pool_of(Results.model_validate(found))


def boards(folders: Sequence[Path], rank_incomplete: bool = False) -> list[Data]:
    """As files of results have them."""
    return [plain(found) for found in pooling.boards(folders, rank_incomplete)]


def rows_in(found: Data, prompt_set: str = "near") -> dict[str, Data]:
    return {row["method"]: row for row in found["rows"] if row["prompt_set"] == prompt_set}


def methods_in(found: Data) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in found["rows"]))


# ---- one kind or several


def test_a_single_run_is_as_it_was_recorded(make: Callable[..., Run]) -> None:
    run = make(**FIRST)
    assert boards([run.folder]) == [json.loads((run.folder / "results.json").read_text())]
    assert boards([]) == []


KINDS: dict[str, Data] = {
    "judge": {"judge": {"name": "openai:other"}},
    "judge's digest": {"judge": {"temperature": 0.5}},
    "template": {"judge": {"template": "own.yaml"}},
    "judge's server": {"judge": {"base_url": "http://another/v1"}},
    "panel": {"judge": {"name": "openai:m,openai:n"}},
    "prompts of a set": {"prompts": 4},
    "teacher": {"teacher": "huge"},
    "sampling": {"eval_sampling": {"temperature": 0.7}},
}


@pytest.mark.parametrize("other", KINDS.values(), ids=KINDS)
def test_runs_of_other_kinds_have_boards_of_their_own(
    make: Callable[..., Run], root: Path, other: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = (resources.files("benchmarks") / "judge_templates" / "default.yaml").read_text()
    (root / "own.yaml").write_text(template.replace("better", "worse"))
    monkeypatch.chdir(root)
    run, apart = make(**FIRST), make(**{**FIRST, **other})
    found = boards([run.folder, apart.folder])
    assert [one["name"] for one in found] == [run.data["name"], apart.data["name"]]
    assert pool_of(run.results) != pool_of(apart.results)


@pytest.mark.parametrize(
    "change", [lambda r: r["prompt_sets"][1].update(in_domain=True), lambda r: r.update(judge_samples=4)]
)
def test_runs_that_say_other_things_of_sets_or_judges_are_of_other_kinds(
    make: Callable[..., Run], change: Callable[[Data], None]
) -> None:
    other = make(**FIRST).data
    assert pool_of(other) == pool_of(make(**FIRST).results)
    change(other)
    assert pool_of(other) != pool_of(make(**FIRST).results)


LIKE: dict[str, Data] = {
    "seed": {"seed": 1},
    "trainings": {"settings": {"ddpo": {"beta": 0.3}}},
    "how fast a judge is asked": {"seed": 1, "judge": {"concurrency": 2}},
    "what is trained": {"methods": ["sft"], "contrasts": []},
}


@pytest.mark.parametrize("other", LIKE.values(), ids=LIKE)
def test_runs_of_one_kind_share_a_board(make: Callable[..., Run], other: Data) -> None:
    run, like = make(**FIRST), make(**{**FIRST, **other})
    found = boards([run.folder, like.folder])
    assert [one["name"] for one in found] == [f"{run.data['name']}, {like.data['name']}"]
    assert found[0]["runs"] == [*run.data["runs"], *like.data["runs"]]
    assert pool_of(found[0]) == pool_of(run.results)
    assert board.board_markdown([Results.model_validate(one) for one in found]).count("### near") == 1


def test_one_run_cannot_count_twice(make: Callable[..., Run], tmp_path: Path) -> None:
    run = make(**FIRST)
    copy = Path(shutil.copytree(run.folder, tmp_path / "copy"))
    for other in (copy, run.folder):
        with pytest.raises(UserError, match=r"is the same run as .*: it would count twice"):
            boards([run.folder, other])


def test_a_folder_without_its_rows_cannot_be_pooled(make: Callable[..., Run], tmp_path: Path) -> None:
    run = make(**FIRST)
    copy = Path(shutil.copytree(make(seed=1, prompts=3).folder, tmp_path / "copy"))
    (copy / "responses.jsonl").unlink()
    assert len(boards([copy])) == 1
    with pytest.raises(UserError, match=r"copy holds no responses\.jsonl; run it again"):
        boards([run.folder, copy])


# ---- measures


def measured_in(found: Data, measure: str = "forward_kl") -> dict[str, Data]:
    return {r["method"]: r for r in found["measures"] if (r["measure"], r["prompt_set"]) == (measure, "near")}


def test_what_was_measured_is_pooled_by_run_and_what_two_runs_share_counts_once(make: Callable[..., Run]) -> None:
    runs = [make(**FIRST), make(seed=1, prompts=3), make(**FIRST, methods=["sft", "kd"], contrasts=[])]
    (found,) = boards([run.folder for run in runs])
    assert found["measured"] == runs[0].data["measured"]
    alone = [{name: row["value"] for name, row in measured_in(run.data).items()} for run in runs]
    rows = measured_in(found)
    assert rows["sft"]["by_run"] == [alone[0]["sft"], alone[1]["sft"], None]
    assert rows["kd"]["by_run"] == [None, None, alone[2]["kd"]]
    assert rows["sft"]["spread"] == pytest.approx(stdev([alone[0]["sft"], alone[1]["sft"]]))
    assert (rows["sft"]["count"], rows["sft"]["prompts"]) == (2 * (3 + 4 + 5), 3)
    assert {name: row["own_loss"] for name, row in rows.items() if row["own_loss"]} == {"kd": True}
    teacher = measured_in(found, "length")["teacher"]
    assert (teacher["by_run"][2], teacher["count"], teacher["kind"]) == (None, 24, "teacher")


def test_rows_under_new_names_keep_what_was_measured_of_them(make: Callable[..., Run]) -> None:
    runs = [make(**FIRST), make(**FIRST, settings={"sft": {"learning_rate": 3e-5}})]
    (found,) = boards([run.folder for run in runs])
    names = ["sft (learning_rate=1e-05)", "sft (learning_rate=3e-05)"]
    assert set(names) < set(measured_in(found))
    assert [row["own_loss"] for name, row in measured_in(found, "nll").items() if name in names] == [True, True]
    contrasts = {(one["first"], one["second"]) for one in found["measure_contrasts"]}
    assert {second for _, second in contrasts} == set(names)


def changed(folder: Path, target: Path, change: Callable[[Data], None]) -> Path:
    shutil.copytree(folder, target)
    rewrite(target / "results.json", change)
    return target


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["measured"][0].update(digest="another"),
        lambda found: found["measured"][0].update(bound="lower"),
        lambda found: found["measured"][0].update(teacher_bound="lower"),
        lambda found: found["measured"].pop(0),
        lambda found: found["config"].update(max_prompt_tokens=64),
    ],
    ids=["digest", "bound", "the teacher's", "none", "reading"],
)
def test_a_measure_that_is_another_in_some_run_is_pooled_of_none(
    make: Callable[..., Run], tmp_path: Path, change: Callable[[Data], None]
) -> None:
    run, other = make(**FIRST), changed(make(seed=1, prompts=3).folder, tmp_path / "other", change)
    (found,) = boards([run.folder, other])
    assert "forward_kl" not in {row["measure"] for row in found["measures"]} and found["measures"]
    assert {entry["unpooled"][0] for entry in found["prompt_sets"]} == {"forward_kl"}
    assert not any("unmeasured" in entry for entry in found["prompt_sets"])


def test_text_is_pooled_of_equally_many_samples_alone(make: Callable[..., Run], tmp_path: Path) -> None:
    other = changed(make(seed=1, prompts=3).folder, tmp_path / "other", lambda found: found["config"].update(samples=2))
    (found,) = boards([make(**FIRST).folder, other])
    assert {one["reads"] for one in found["measured"]} == {"teacher_tokens", "own_tokens", "pairs"}


def test_what_reads_all_samples_is_what_depends_on_how_many_they_are(make: Callable[..., Run], tmp_path: Path) -> None:
    """Whatever table it stands in: a text measure may well be of one response, read by a model."""

    def by_a_model(found: Data) -> None:
        for one in found["measured"]:
            if one["name"] == "length":
                one["reads"] = "log_probs"

    folders = [changed(make(**{**FIRST, "seed": seed}).folder, tmp_path / f"{seed}", by_a_model) for seed in (0, 1)]
    rewrite(folders[1] / "results.json", lambda found: found["config"].update(samples=2))
    (found,) = boards(folders)
    assert [one["name"] for one in found["measured"] if one["group"] == "text"] == ["length"]
    assert "length" not in found["prompt_sets"][0]["unpooled"] and "cut" in found["prompt_sets"][0]["unpooled"]


@pytest.mark.parametrize(("other", "first"), [("forward_kl", "forward_kl"), ("nll", ""), ("", "")])
def test_a_measure_is_the_first_of_several_runs_where_all_declared_it(
    make: Callable[..., Run], tmp_path: Path, other: str, first: str
) -> None:
    folder = changed(
        make(seed=1, prompts=3).folder, tmp_path / "other", lambda found: found.update(first_measure=other)
    )
    (found,) = boards([make(**FIRST).folder, folder])
    assert found["first_measure"] == first


SFT, DDPO, KD = ["sft"], ["ddpo", "sft"], ["kd", "sft"]
NAMED: dict[str, tuple[list[Data], str, list[str]]] = {
    "the same": ([{"primary": DDPO}, {"primary": DDPO}], "ddpo", []),
    "by the one that has its rows": ([{"primary": DDPO}, {"methods": KD, "contrasts": [KD]}], "ddpo", []),
    "another": ([{"primary": DDPO}, {"methods": KD, "contrasts": [KD], "primary": KD}], "", ["primary"]),
    "not by one that has its rows": ([{"primary": DDPO}, {}], "", ["primary"]),
    "nowhere": ([{}, {}], "", []),
    "with a margin": ([{"primary": DDPO, "margin": 5.0}, {"primary": DDPO, "margin": 5.0}], "ddpo", []),
    "with another margin": ([{"primary": DDPO, "margin": 5.0}, {"primary": DDPO}], "ddpo", ["margin"]),
}


@pytest.mark.parametrize(("asked", "first", "differing"), NAMED.values(), ids=NAMED)
def test_what_is_primary_is_what_the_runs_name_that_have_its_rows(
    make: Callable[..., Run], tmp_path: Path, asked: list[Data], first: str, differing: list[str]
) -> None:
    """A configuration that names none has a method's own, which is taken away here."""
    folders = []
    for seed, what in enumerate(asked):
        made = make(seed=seed, prompts=3, **{key: value for key, value in what.items() if key != "primary"})
        named = {"primary": what.get("primary")}
        target = tmp_path / str(seed)
        folders.append(changed(made.folder, target, lambda found, named=named: found["config"].update(named)))
    (found,) = boards(folders)
    assert [one["first"] for one in found["contrasts"] if one["primary"]] == ([first] if first else [])
    assert found["differing"] == differing
    margin = asked[0].get("margin") if "margin" not in differing else None
    assert {(one["equivalence"] or {}).get("margin") for one in found["contrasts"]} == {margin and margin / 100}
    text = board.board_markdown([Results.model_validate(found)])
    heads = {"primary": "- primary contrast: none: the runs", "margin": "- margin: none: the runs"}
    assert [what for what, head in heads.items() if head in text] == differing


def test_a_grid_declares_each_setting_against_the_others_in_one_family_and_no_primary(make: Callable[..., Run]) -> None:
    """Two seeds of three settings of dDPO; SFT is one row, and no setting is set against another."""
    betas = (0.1, 0.2, 0.3)
    runs = [
        make(seed=seed, prompts=3, settings={"ddpo": {"beta": beta}}, contrasts=[DDPO], primary=DDPO)
        for seed in (0, 1)
        for beta in betas
    ]
    (found,) = boards([run.folder for run in runs])
    names = [f"ddpo (beta={beta})" for beta in betas]
    for contrasts in ("contrasts", "measure_contrasts"):
        # on single sets, of the rate and of one measure
        made = [one for one in found[contrasts] if one.get("measure") in (None, "forward_kl")]
        made = [one for one in made if one["scope"] in ("near", "far")]
        assert {(one["first"], one["second"]) for one in made} == {(name, "sft") for name in names}
        assert [(one["family"], one["seeds"]) for one in made] == [("methods", 2)] * 6
        by_p = sorted(made, key=lambda one: one["p"])
        steps = [min(1.0, (6 - place) * one["p"]) for place, one in enumerate(by_p)]
        assert [one["p_holm"] for one in by_p] == pytest.approx([max(steps[: place + 1]) for place in range(6)])
    assert found["differing"] == ["primary"] and not any(one["primary"] for one in found["contrasts"])


def test_one_point_of_a_grid_that_names_a_primary_is_not_the_study(make: Callable[..., Run]) -> None:
    """As daDPO at no weight of the teacher, which is compared with dDPO, where its other settings have no control."""
    runs = [
        make(seed=seed, prompts=3, settings={"ddpo": {"beta": beta}}, contrasts=[DDPO], primary=named)
        for seed in (0, 1)
        for beta, named in ((0.1, DDPO), (0.2, None))
    ]
    (found,) = boards([run.folder for run in runs])
    assert found["differing"] == ["primary"] and not any(one["primary"] for one in found["contrasts"])


def test_what_a_pooled_row_controls_is_a_row_of_the_board(make: Callable[..., Run]) -> None:
    layer = {"methods": ["sft", "dadpo"], "controls": "basic", "contrasts": []}
    runs = [make(**FIRST, **layer, settings={"dadpo": {"learning_rate": rate}}) for rate in (1e-5, 2e-5)]
    (found,) = boards([run.folder for run in runs])
    controls = [one["controls"] for one in found["methods"] if one["controls"]]
    assert set(controls) == {"dadpo (learning_rate=1e-05)", "dadpo (learning_rate=2e-05)"}


def test_training_prompts_that_differ_are_said_to(make: Callable[..., Run]) -> None:
    runs = [make(**FIRST, limits={"train": train}) for train in (2, 3)]
    (found,) = boards([run.folder for run in runs])
    assert found["differing"] == ["training"]
    assert methods_in(found)[2:] == [f"{row} (limits.train={train})" for train in (2, 3) for row in ("sft", "ddpo")]
    assert boards([make(**FIRST).folder, make(seed=1, prompts=3).folder])[0]["differing"] == []


def test_a_run_that_measured_nothing_takes_the_measures_of_all(make: Callable[..., Run], tmp_path: Path) -> None:
    other = changed(make(seed=1, prompts=3).folder, tmp_path / "other", lambda found: found.update(measured=[]))
    (other / "measures.jsonl").unlink()
    (found,) = boards([make(**FIRST).folder, other])
    assert found["measures"] == found["measured"] == [] and "forward_kl" in found["prompt_sets"][0]["unpooled"]


@pytest.mark.parametrize("seeds", [(0, 1, 2), (0,)], ids=str)
def test_rows_of_one_seed_are_pairs_whichever_runs_they_are_in(make: Callable[..., Run], seeds: Sequence[int]) -> None:
    """SFT is in the first runs alone, being the same one; a run of all three methods says the same."""
    apart = [make(seed=seed, prompts=3) for seed in seeds]
    apart += [make(seed=seed, prompts=3, methods=["sft", "kd"], contrasts=[["kd", "sft"]]) for seed in seeds]
    whole = [
        make(seed=seed, prompts=3, methods=["sft", "ddpo", "kd"], contrasts=[["ddpo", "sft"], ["kd", "sft"]])
        for seed in seeds
    ]
    for contrasts in ("measure_contrasts", "contrasts"):
        found, expected = (
            [one for one in boards([run.folder for run in runs])[0][contrasts] if one["first"] == "kd"]
            for runs in (apart, whole)
        )
        assert found == expected and all(one["n"] == 3 and one["difference"] is not None for one in found)


# ---- rows


def test_seeds_of_one_training_are_one_row_with_their_spread(tmp_path: Path) -> None:
    wins = {0: 3, 1: 2, 2: 1}  # of SFT, by seed

    def says_with(seed: int) -> Callable[[str, int], Said]:
        return lambda candidate, number: (WIN if number < wins[seed] else LOSS) if candidate == "sft" else TIE

    made = [make_folder(tmp_path, f"seed{seed}", says_with(seed), prompts=3, seed=seed) for seed in wins]
    (found,) = boards([run.folder for run in made])
    assert methods_in(found) == methods_in(made[0].data)
    row = rows_in(found)["sft"]
    assert (row["n"], row["prompts"], row["wins"], row["losses"]) == (9, 3, 6, 3)
    assert row["by_run"] == pytest.approx([1, 1 / 3, -1 / 3])
    assert row["spread"] == pytest.approx(stdev([1, 1 / 3, -1 / 3]))
    assert [one["seed"] for one in found["runs"]] == [0, 1, 2]
    # on each prompt by its mean over runs: p0 always wins, p1 in two of three runs, p2 in one
    contrast = next(one for one in found["contrasts"] if one["scope"] == "near")
    assert (contrast["n"], contrast["difference"]) == (3, pytest.approx(-(1 + 1 / 3 - 1 / 3) / 3))
    assert [method["name"] for method in found["methods"]] == ["sft", "ddpo"]


def test_other_settings_under_one_name_are_two_rows_that_the_contrasts_follow(make: Callable[..., Run]) -> None:
    runs = [make(**FIRST), make(**FIRST, settings={"ddpo": {"beta": 0.3}})]
    one, two = "ddpo (beta=0.1)", "ddpo (beta=0.3)"
    (found,) = boards([run.folder for run in runs])
    assert methods_in(found) == ["teacher (second sample)", "student (untrained)", "sft", one, two]
    assert [method["name"] for method in found["methods"]] == ["sft", one, two]
    assert [method["settings"].get("beta") for method in found["methods"]] == [None, 0.1, 0.3]
    near = [made for made in found["contrasts"] if made["scope"] == "near"]
    assert [(made["first"], made["second"]) for made in near] == [(one, "sft"), (two, "sft")]
    assert [rows_in(found)[name]["by_run"] for name in (one, two)] == [
        [pytest.approx(-1 / 3), None],
        [None, pytest.approx(-1 / 3)],
    ]


def test_seeds_of_two_settings_are_one_row_each(make: Callable[..., Run]) -> None:
    layers: list[Data] = [{}, {"settings": {"ddpo": {"beta": 0.3}}}]
    runs = [make(seed=seed, prompts=3, **layer) for layer in layers for seed in (0, 1)]
    (found,) = boards([run.folder for run in runs])
    assert [(name, rows_in(found)[name]["n"]) for name in methods_in(found) if name.startswith("ddpo")] == [
        ("ddpo (beta=0.1)", 6),
        ("ddpo (beta=0.3)", 6),
    ]
    assert (rows_in(found)["sft"]["n"], rows_in(found)["student (untrained)"]["n"]) == (6, 6)


COMPUTING: Data = {"micro_batch_tokens": 512, "gradient_checkpointing": True, "compile": True, "checkpoint_steps": 3}


def test_trainings_that_differ_only_in_how_they_were_computed_are_one_row(make: Callable[..., Run]) -> None:
    runs = [make(**FIRST), make(seed=1, prompts=3, training=COMPUTING, scoring_batch_tokens=64)]
    for results in (run.data for run in runs):
        assert not any(COMPUTING.keys() & method["settings"].keys() for method in results["methods"])
    (found,) = boards([run.folder for run in runs])
    assert [row["n"] for row in rows_in(found).values()] == [6] * 4
    assert methods_in(found)[2:] == ["sft", "ddpo"]


def test_so_are_those_of_runs_whose_settings_still_said_how(make: Callable[..., Run], tmp_path: Path) -> None:
    """As results were recorded while how a training is computed was taken for a part of it."""
    folders = []
    for seed, how in enumerate(({}, COMPUTING)):
        folder = tmp_path / f"old{seed}"
        shutil.copytree(make(seed=seed, prompts=3).folder, folder)
        results = json.loads((folder / "results.json").read_text())
        for method in results["methods"]:
            method["settings"] = {**results["config"]["settings"][method["method"]], **how}
        for settings in results["config"]["settings"].values():
            settings |= how
        (folder / "results.json").write_text(json.dumps(results))
        folders.append(folder)
    (found,) = boards([*folders, make(seed=2, prompts=3).folder])
    assert methods_in(found)[2:] == ["sft", "ddpo"]
    assert [row["n"] for row in rows_in(found).values()] == [9] * 4


def test_a_student_whose_dropout_was_on_is_another_than_one_whose_was_off(
    make: Callable[..., Run], tmp_path: Path
) -> None:
    """A run of a version that says nothing of dropout had it on in every training."""
    older, newer = make(**FIRST).folder, tmp_path / "newer"
    shutil.copytree(make(seed=1, prompts=3).folder, newer)

    def off(results: Data) -> None:
        for method in results["methods"]:
            if method["name"] == "ddpo":
                method["facts"] |= {"dropout": {"attention_dropout": 0.1}, "dropout_on": False}

    rewrite(newer / "results.json", off)
    (found,) = boards([older, newer])
    names = methods_in(found)[2:]
    assert names[0] == "sft" and len(names) == 3 and all(name.startswith("ddpo (") for name in names[1:])


@pytest.mark.parametrize(
    ("other", "apart"),
    [
        ({"settings": {"sft": {"learning_rate": 3e-5}}}, {"sft", "ddpo"}),  # dDPO's pairs come from SFT
        ({"train_sampling": {"temperature": 0.9}}, {"sft", "ddpo"}),
        ({"max_prompt_tokens": 64}, {"sft", "ddpo"}),
        ({"limits": {"train": 2}}, {"sft", "ddpo"}),
        ({"settings": {"ddpo": {"learning_rate": 3e-5}}}, {"ddpo"}),
    ],
    ids=lambda value: str(value if isinstance(value, dict) else sorted(value)),
)
def test_whatever_shapes_a_training_but_its_seed_makes_a_row_of_its_own(
    make: Callable[..., Run], other: Data, apart: set[str]
) -> None:
    (found,) = boards([make(**FIRST).folder, make(seed=1, prompts=3, **other).folder])
    trained = [row["method"] for row in rows_in(found).values() if row["kind"] == "method"]
    assert {name for name in ("sft", "ddpo") if name not in trained} == apart
    assert len(trained) == 2 + len(apart)


def test_what_two_runs_share_counts_once(make: Callable[..., Run]) -> None:
    """At one seed the teacher's second sample, the untrained student and SFT are the same artifacts."""
    runs = [make(**FIRST), make(**FIRST, methods=["sft", "kd"], contrasts=[])]
    assert runs[0].ref("responses: sft, near") == runs[1].ref("responses: sft, near")
    (found,) = boards([run.folder for run in runs])
    assert {name: row["n"] for name, row in rows_in(found).items()} == {
        "teacher (second sample)": 3,
        "student (untrained)": 3,
        "sft": 3,
        "ddpo": 3,
        "kd": 3,
    }
    assert rows_in(found)["sft"]["by_run"] == [1.0, None]
    assert rows_in(found)["sft"]["mean_tokens"] == 4  # 3, 4 and 5
    assert found["judging"][0]["verdicts"] == 5 * 2 * 3 * 2


def test_a_training_that_was_made_twice_at_one_seed_counts_twice(make: Callable[..., Run]) -> None:
    """Responses in other batches are others, though nothing that is said of the training differs."""
    (found,) = boards([make(**FIRST).folder, make(**FIRST, generation_batch_size=2).folder])
    assert (rows_in(found)["sft"]["n"], rows_in(found)["sft"]["by_run"]) == (6, [1.0, 1.0])


def test_ranking_of_a_set_with_missing_verdicts_is_for_the_reader_to_ask_for(tmp_path: Path) -> None:
    def failing(candidate: str, number: int) -> Said:
        return (None, None) if candidate == "sft" and number < 20 else says(candidate, number)

    run = make_folder(tmp_path, say=failing, prompts=100, eval=["in:" + str(tmp_path / "prompts-100" / "near.jsonl")])
    (as_made,), (ranked,) = boards([run.folder]), boards([run.folder], rank_incomplete=True)
    assert "20% of sft's prompts are missing" in as_made["prompt_sets"][0]["unranked"]
    assert {name: row["rank"] for name, row in rows_in(ranked).items()} == {
        "sft": [1, 1],
        "teacher (second sample)": [2, 3],
        "student (untrained)": [2, 3],
        "ddpo": [4, 4],
    }
    without = [{key: run_[key] for key in run_ if key not in ("rows", "prompt_sets")} for run_ in (as_made, ranked)]
    assert json.loads(json.dumps(without[0])) == json.loads(json.dumps(without[1]))
    assert "| rank" in board.board_markdown([Results.model_validate(ranked)]) and "| rank" not in board.board_markdown(
        [Results.model_validate(as_made)]
    )


def test_a_run_of_an_older_version_shares_the_board(
    make: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = make(**FIRST), make(**{**FIRST, "seed": 1})
    copy = Path(shutil.copytree(one.folder, tmp_path / "copy"))
    rewrite(copy / "results.json", lambda results: (results.update(schema=1), results.pop("rows")))
    assert board.board_markdown(pooling.boards([copy, other.folder])) == board.board_markdown(
        pooling.boards([one.folder, other.folder])
    )
    assert "copy/results.json is of an older version (1, this program writes" in capsys.readouterr().err


def without_identities(folder: Path, target: Path) -> Path:
    """The run as an older version left it: its verdicts say neither the judge's digest nor the prompt's."""
    shutil.copytree(folder, target)
    rows = [json.loads(line) for line in (target / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()]
    added = ("judge_digest", "prompt_digest", "turn", "repeat")
    write_jsonl(target / "verdicts.jsonl", [{k: v for k, v in row.items() if k not in added} for row in rows])
    return target


def test_verdicts_that_say_less_of_who_judged_pool_as_before(make: Callable[..., Run], tmp_path: Path) -> None:
    first, second = make(**FIRST), make(**{**FIRST, "seed": 1})
    older = without_identities(first.folder, tmp_path / "older")
    (expected,) = boards([first.folder, second.folder])
    assert boards([older, second.folder]) == [expected]
    assert rows_in(expected)["sft"]["prompts"] == 3
    both_older = without_identities(second.folder, tmp_path / "both")
    assert boards([older, both_older]) == [expected]


def test_a_prompt_that_one_run_lacks_counts_for_none_of_them(root: Path) -> None:
    one = make_folder(root, "lacks", say=says, prompts=3, left_out={"teacher, near": "p1"})
    other = make_folder(root, "whole", say=says, prompts=3, left_out={}, seed=1)
    (found,) = boards([one.folder, other.folder])
    near, far = found["prompt_sets"]
    assert near["left_out"] == {"p1": REASON} and (near["prompts"], far["prompts"]) == (2, 3)
    assert "left_out" not in far
    assert {row["n"] for row in rows_in(found).values()} <= {2, 4}
    assert {row["prompts"] for row in rows_in(found).values()} == {2}
    assert {row["prompts"] for row in rows_in(found, "far").values()} == {3}


def test_trainings_on_fewer_prompts_are_rows_of_their_own(root: Path) -> None:
    one = make_folder(root / "fewer", "some", say=says, prompts=3, left_out={"teacher, training prompts": "p2"})
    other = make_folder(root / "other", "all", say=says, prompts=3, left_out={}, seed=1)
    names = row_names([one.results, other.results])
    assert [known["sft"] for known in names] == ["sft (left_out=1)", "sft (left_out=0)"]
