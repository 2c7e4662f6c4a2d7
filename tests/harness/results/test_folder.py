from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from harness.config import Config
from harness.core.errors import UserError
from harness.core.records import Verdict, plain, write_jsonl
from harness.judging.proxies import EMBEDDING, TYPICALITY
from harness.judging.settings import Judging
from harness.methods import methods
from harness.results import folder
from harness.results.figures import Declared, RunRows, figures
from harness.results.folder import as_json, declared, declared_in, read_made, read_tokens, write_run
from harness.results.reading import read_results
from harness.results.schema import RESULTS_SCHEMA, Figures
from harness.results.tokens import TokenViews
from harness.run.jobs import VERDICTS
from harness.run.sources import open_judges
from harness.statistics.panel import MAJORITY, MEAN
from harness.store import Store
from tests.harness.making import jsonl
from tests.harness.results_made import make_run
from tests.harness.runs_made import COMMAND, REASON, Run, make_folder, rewrite


def finished(run: Path, **values: Any) -> Path:
    run.mkdir(parents=True)
    found = {**make_run(), **values}
    (run / "results.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_folder(tmp_path_factory.mktemp("results"), prompts=3)


# ---- reading


def test_results_are_read(tmp_path: Path) -> None:
    assert read_results(finished(tmp_path / "run", name="é")).name == "é"


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("x")])
def test_a_folder_without_results_is_refused(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "run")
    with pytest.raises(UserError, match=r"run holds no results\.json; give the output folder of a finished run"):
        read_results(tmp_path / "run")


@pytest.mark.parametrize("content", [b'{"schema": 1', b"", b'{"name": "\xe9"}'])
def test_results_that_are_no_json_are_refused(tmp_path: Path, content: bytes) -> None:
    run = finished(tmp_path / "run")
    (run / "results.json").write_bytes(content)
    with pytest.raises(UserError, match=r"results\.json: not valid JSON") as caught:
        read_results(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"schema": "2"}', '{"schema": true}', '{"schema": 0}'])
def test_results_that_say_no_version_are_refused(tmp_path: Path, content: str) -> None:
    run = finished(tmp_path / "run")
    (run / "results.json").write_text(content)
    with pytest.raises(UserError, match=r"results\.json: not results of a run, it says no version; run it again"):
        read_results(run)


def test_results_of_a_newer_version_are_refused_with_what_to_do(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", schema=RESULTS_SCHEMA + 1)
    known = rf"of a newer version \({RESULTS_SCHEMA + 1}, this program knows {RESULTS_SCHEMA}\); update the harness$"
    with pytest.raises(UserError, match=known) as caught:
        read_results(run)
    assert "\n" not in str(caught.value)


def test_results_of_this_version_that_lack_a_part_are_damaged(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    rewrite(run / "results.json", lambda found: found.pop("rows"))
    with pytest.raises(UserError, match=r"results\.json: damaged, it has no 'rows'; run it again"):
        read_results(run)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found["rows"][3].pop("wins"), "it has no 'rows.3.wins'"),
        (lambda found: found["rows"][0].update(wins="many"), "rows.0.wins: Input should be a valid integer, unable to"),
        (lambda found: found.update(note="?"), "it has an unknown 'note'"),
    ],
)
def test_results_that_are_not_of_their_schema_are_damaged(tmp_path: Path, change: Any, said: str) -> None:
    run = finished(tmp_path / "run")
    rewrite(run / "results.json", change)
    with pytest.raises(UserError, match=rf"results\.json: damaged, {said}") as caught:
        read_results(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["verdicts.jsonl", "responses.jsonl"])
def test_a_folder_without_rows_is_refused(made: Run, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(made.folder, tmp_path / "copy"))
    (copy / name).unlink()
    with pytest.raises(UserError, match=rf"copy holds no {name}; run it again \(nothing is computed twice\)"):
        read_made(copy)


# ---- what a run writes


def test_results_are_what_was_read_from_the_road_and_its_artifacts(made: Run) -> None:
    results = read_results(made.folder)
    assert results == made.results and (made.folder / "results.json").read_text() == as_json(results)
    found = plain(results)
    assert re.fullmatch(r"small-seed0-[0-9a-f]{12}", found["name"])
    (run,) = found["runs"]
    assert (run["name"], run["seed"], run["command"]) == (found["name"], 0, COMMAND)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", run["date"])
    assert (found["judge"], found["judge_samples"], found["pruning"]) == ("openai:m", 0, None)
    # 3, 4 and 5 tokens, the first of them cut
    assert (found["training"]["mean_tokens"], found["training"]["cut_share"]) == (4, pytest.approx(1 / 3))
    assert (found["training"]["prompts"], [one["prompts"] for one in found["prompt_sets"]]) == (3, [3, 3])
    assert [(method["name"], method["artifact"]) for method in found["methods"]] == list(made.road.trainings.items())
    assert [one["teacher"]["mean_tokens"] for one in found["prompt_sets"]] == [4, 4]
    assert "training" not in found["config"] or found["config"]["training"] == {}
    assert "store" not in found["config"] and "launcher" not in found["config"]


def test_figures_can_be_made_again_from_a_folder_alone(made: Run) -> None:
    found = read_results(made.folder)
    again = figures(declared_in(found), {found.name: read_made(made.folder)})
    for section in Figures.model_fields:
        assert getattr(found, section) == getattr(again, section) or section == "prompt_sets"
    assert [one.name for one in found.measured][:2] == ["forward_kl", "reverse_kl"] and len(found.measures) > 2 * 5
    shown = declared_in(found)
    assert [(list(one.rows), one.stamps) for one in shown.stamps] == [(list(shown.candidates), found.stamps)]
    assert replace(shown, stamps=()) == Declared(
        sets={"near": True, "far": False},
        candidates={
            "teacher (second sample)": "ceiling",
            "student (untrained)": "untrained",
            "sft": "method",
            "ddpo": "method",
        },
        judges=["openai:m"],
        parts=["openai:m"],
        contrasts=(("ddpo", "sft"),),
        measures=found.measured,
        own_losses={name: methods.get(name).minimises for name in ("sft", "ddpo")},
    )


def test_what_a_results_file_declares_is_what_its_road_did(made: Run, tmp_path: Path) -> None:
    panel = make_folder(tmp_path, prompts=1, judge={"name": "openai:m, openai:n"})
    for run in (made, panel):
        ours, theirs = declared_in(read_results(run.folder)), declared(run.road)
        assert (ours.sets, ours.candidates, ours.judges_shown) == (theirs.sets, theirs.candidates, theirs.judges_shown)
        assert [tuple(pair) for pair in theirs.contrasts] == list(ours.contrasts)
        assert (list(ours.measures), ours.own_losses) == (theirs.measures, theirs.own_losses)
    assert panel.data["judge"] == MAJORITY
    assert [judge["name"] for judge in panel.data["judges"]] == [MAJORITY, MEAN, "openai:m", "openai:n"]


def test_a_folder_holds_curves_prompts_and_the_responses_of_everyone(made: Run) -> None:
    assert [len(jsonl(made.folder / "metrics" / f"{name}.jsonl")) for name in ("sft", "ddpo")] == [3, 3]
    prompts = jsonl(made.folder / "prompts.jsonl")
    assert [(row["prompt_set"], row["id"]) for row in prompts] == [
        (name, f"p{number}") for name in ("near", "far") for number in range(3)
    ]
    responses = jsonl(made.folder / "responses.jsonl")
    assert {row["system"] for row in responses} == {"teacher", *declared(made.road).candidates}
    assert len(responses) == 2 * 3 * 5
    assert {(row["tokens"], row["finish"]) for row in responses} == {(3, "length"), (4, "stop"), (5, "stop")}


def test_a_curve_of_what_is_not_trained_any_more_goes(made: Run, tmp_path: Path) -> None:
    old = tmp_path / "run" / "metrics" / "old.jsonl"
    old.parent.mkdir(parents=True)
    old.write_text("")
    write_run(tmp_path / "run", made.road, made.store, made.results, RunRows([], []), "")
    assert sorted(path.name for path in old.parent.iterdir()) == ["ddpo.jsonl", "sft.jsonl"]


# ---- what was measured


def test_what_was_measured_is_in_the_folder_by_set_and_system(made: Run) -> None:
    rows = jsonl(made.folder / "measures.jsonl")
    systems = ["teacher", *declared(made.road).candidates]
    assert [(row["prompt_set"], row["system"], row["prompt_id"]) for row in rows] == [
        (name, system, f"p{number}") for name in ("near", "far") for system in systems for number in range(3)
    ]
    by_system = {row["system"]: set(row["values"]) for row in rows}
    assert by_system["teacher"] & {"forward_kl", "nll"} == {"nll"}  # its entropy
    assert {name for name, measured in by_system.items() if "forward_kl" in measured} == {
        "student (untrained)",
        "sft",
        "ddpo",
    }
    assert [name for name, measured in by_system.items() if "margin_accuracy" in measured] == ["ddpo"]
    (first,) = [r for r in made.results.measures if (r.measure, r.method, r.prompt_set) == ("nll", "teacher", "near")]
    assert (first.kind, first.prompts, first.count, first.own_loss) == ("teacher", 3, 3 + 4 + 5, False)
    assert {row.method for row in made.results.measures if row.own_loss} == {"sft"}


def test_the_page_s_example_reads_what_was_measured(made: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "results.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (summed,) = re.findall(r"`(kl\.groupby[^`]*)`", page)
    monkeypatch.chdir(made.folder)
    known = {"pd": pd}
    exec(code, known)
    sums = eval(summed, known)
    values = {(row.prompt_set, row.method): row.value for row in made.results.measures if row.measure == "forward_kl"}
    assert (sums["sum"] / sums["count"]).to_dict() == pytest.approx(values)


def test_what_a_row_was_trained_to_minimise_is_said(made: Run) -> None:
    assert {one.name: one.minimises for one in made.results.methods} == {"sft": ("nll",), "ddpo": ()}


def test_measures_are_exact_but_where_the_teacher_is_served(made: Run, tmp_path: Path) -> None:
    assert {one.bound for one in made.results.measured} == {"exact"}
    server = {"base_url": "http://host/v1", "model": str(tmp_path / "large")}
    server["tokenizer"] = server["model"]
    asked = {"measures": ["forward_kl", "acceptance", "nll"], "eval_sampling": {"temperature": 1}}
    run = make_folder(tmp_path, prompts=2, left_out={"teacher, near": "p0"}, teacher_server=server, **asked)
    bounds = {one.name: one.bound for one in run.results.measured}
    assert bounds == {"forward_kl": "lower", "acceptance": "upper", "nll": "exact"}
    views = read_tokens(run.folder).views
    assert {(view.prompt_set, view.prompt_id) for view in views} == {("near", "p1"), ("far", "p0"), ("far", "p1")}


def test_a_set_says_why_its_students_are_not_compared(tmp_path: Path) -> None:
    data = make_folder(tmp_path, prompts=1, left_out={}).data
    assert "only where a run names it" in data["prompt_sets"][0]["unmeasured"]
    assert not {"forward_kl", "reverse_kl"} & {one["name"] for one in data["measured"]}


def test_measures_that_were_not_asked_for_are_not_there(tmp_path: Path) -> None:
    run = make_folder(tmp_path, prompts=1, measures=["length"])
    assert [one.name for one in run.results.measured] == ["length"]
    assert read_tokens(run.folder).positions == ()
    assert "unmeasured" not in run.data["prompt_sets"][0]


def test_tokens_are_those_of_every_row_beside_the_teacher(made: Run) -> None:
    shown = read_tokens(made.folder)
    rows = ["student (untrained)", "sft", "ddpo"]
    assert [(one.prompt_set, one.method, one.writer) for one in shown.positions] == [
        (name, row, writer) for name in ("near", "far") for row in rows for writer in ("teacher", row)
    ]
    theirs = [view for view in shown.views if view.writer == "teacher"]
    assert [(view.prompt_set, view.prompt_id) for view in theirs] == [
        (name, f"p{number}") for name in ("near", "far") for number in range(3)
    ]
    assert all(list(view.kl) == rows and len(view.kl["sft"]) == len(view.pieces) == view.tokens for view in theirs)


def test_an_older_run_has_no_tokens_to_show_and_another_version_s_are_refused(made: Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made.folder, tmp_path / "copy"))
    rewrite(copy / "tokens.json", lambda found: found.update(schema=2))
    with pytest.raises(UserError, match=r"tokens\.json: token views of a newer version \(2, this program knows 1\)"):
        read_tokens(copy)
    (copy / "tokens.json").unlink()
    assert read_tokens(copy) == TokenViews()


# ---- judges and their verdicts


@pytest.mark.parametrize(
    ("names", "misses"),
    [
        ("typicality,embedding", f"{TYPICALITY.misses}; {EMBEDDING.misses}"),
        ("openai:m,embedding", ""),  # one of them reads
        ("openai:m,openai:n", ""),
    ],
)
def test_a_panel_is_a_proxy_only_where_all_of_its_judges_are(names: str, misses: str) -> None:
    config = Config(student="s", judge=Judging(name=names, base_url="http://host/v1"))
    opened, _ = open_judges(config, dict.fromkeys(config.judge.names))
    road: Any = SimpleNamespace(config=config, judges=opened)
    panels = folder._panels(road)
    assert [panel.name for panel in panels] == [MAJORITY, MEAN]
    for panel in panels:
        assert (panel.misses, panel.setup) == (misses, {"judges": names.replace(",", ", ")})


def test_a_judge_is_described_with_what_its_answers_depend_on() -> None:
    config = Config(student="s", judge=Judging(name="openai:m", base_url="http://me:pa55word@host/v1"))
    ((judge, _),), _ = open_judges(config, {"openai:m": None})
    found = folder.described(judge)
    assert {name: found.setup[name] for name in ("model", "server", "form", "temperature")} == {
        "model": "m",
        "server": "http://host/v1",
        "form": "auto",
        "temperature": "0",
    }
    assert "pa55" not in found.model_dump_json()


@pytest.mark.parametrize(
    ("teacher", "served", "weights", "said"),
    [
        ("qwen2.5-7b", None, "sha256:1", "judge and teacher are of one family (qwen2.5)"),
        ("qwen3-8b", None, "sha256:1", "judge and teacher are of one vendor (Alibaba)"),
        ("./some-teacher", None, "sha256:2", "judge and teacher are one model: their weights are the same"),
        ("./some-teacher", None, "sha256:1", ""),
        (
            "Qwen/Qwen2.5-72B-Instruct",
            "http://host/v1",
            "sha256:2",  # of its tokenizer's folder
            "judge and teacher are one model (qwen/qwen2.5-72b-instruct)",
        ),
    ],
)
def test_a_judge_s_relation_to_the_teacher_is_recorded(
    teacher: str, served: str | None, weights: str, said: str
) -> None:
    name = "openai:Qwen/Qwen2.5-72B-Instruct"
    config = Config(student="s", judge=Judging(name=f"{name},embedding", base_url="http://other/v1"))
    opened, _ = open_judges(config, {name: None, "embedding": None})
    server = None if served is None else SimpleNamespace(public_url=served)
    road: Any = SimpleNamespace(
        pair=SimpleNamespace(teacher=teacher, specs={}),
        weights={"teacher": SimpleNamespace(served=server, weights=weights)},
        judges=[(judge, SimpleNamespace(weights="sha256:2") if judge.name == name else None) for judge, _ in opened],
    )
    assert {judge.name: judge.relation for judge in folder._judges(road)} == {name: said, "embedding": ""}


def test_a_proxy_s_members_are_shown_once_beside_the_judges_that_are_named() -> None:
    config = Config(student="s", judge=Judging(name="proxy,typicality"))
    shown = [judge.name for judge, _ in open_judges(config, dict.fromkeys(config.judge.names))[0]]
    assert shown == ["proxy", "typicality", "embedding"]


def test_verdicts_of_a_judging_that_lacks_some_are_read_where_they_lie(own_store: Path) -> None:
    store, ref = Store(own_store), "judge/abc"
    row = {"prompt_set": "s", "prompt_id": "p", "candidate": "c", "reference": "r", "order": "none", "judge": "j"}
    whole, part = Verdict(**row, status="ok", preference=1.0), Verdict(**row, status="failed")
    with store.making(ref) as work:
        write_jsonl(work / VERDICTS, [part])
    assert folder.judged(ref, store) == [part]
    with store.making(ref) as work:
        write_jsonl(work / VERDICTS, [whole])
        store.commit(ref, work, {"stage": "judge"}, {}, 0.0)
    assert folder.judged(ref, store) == [whole]


# ---- prompts that a served teacher gives no answer to


def test_a_prompt_that_one_of_the_teacher_s_responses_lacks_counts_for_none(tmp_path: Path) -> None:
    """The reference lacks one, the second sample another; training lacks one of its own set, of the same id."""
    said = {"teacher, training prompts": "p2", "teacher, near": "p1", "teacher (second sample), near": "p0"}
    data = make_folder(tmp_path, left_out=said).data
    near, far = data["prompt_sets"]
    assert near["left_out"] == {"p0": REASON, "p1": REASON} and "left_out" not in far
    assert (near["prompts"], far["prompts"]) == (2, 4)
    assert data["training"]["left_out"] == {"p2": REASON} and data["training"]["prompts"] == 2
    judged = {(row["prompt_set"], row["n"] + row["missing"]) for row in data["rows"]}
    assert judged == {("near", 2), ("far", 4)}
    assert {count["verdicts"] for count in data["judging"]} == {4 * 2 * (2 + 4)}
    for name in ("responses.jsonl", "verdicts.jsonl", "measures.jsonl"):
        rows = [json.loads(line) for line in (tmp_path / "run" / name).read_text().splitlines()]
        assert {row["prompt_id"] for row in rows if row["prompt_set"] == "near"} == {"p2", "p3"}
    assert {row["prompts"] for row in data["measures"] if row["prompt_set"] == "near"} == {2}
    # the set is the same set, and its prompts are all there
    whole = make_folder(tmp_path, "whole", left_out={}, seed=1).data
    assert [one["digest"] for one in whole["prompt_sets"]] == [near["digest"], far["digest"]]
    assert len((tmp_path / "run" / "prompts.jsonl").read_text().splitlines()) == 8


def test_a_set_of_which_nothing_is_left_is_one_line(tmp_path: Path) -> None:
    said = {"teacher, near": "p0", "teacher (second sample), near": "p1"}
    with pytest.raises(
        UserError, match="every prompt of near lacks some answer of the teacher's server: none is left"
    ) as caught:
        make_folder(tmp_path, prompts=2, left_out=said)
    assert "\n" not in str(caught.value)
