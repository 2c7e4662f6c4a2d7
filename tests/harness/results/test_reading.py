"""Results that an older version wrote: what is computed again, from where, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.files import file_sha256
from harness.core.records import plain
from harness.reports import board, html
from harness.reports.board import board_markdown
from harness.reports.report_data import read_run
from harness.results import reading, recording
from harness.results.figures import figures
from harness.results.folder import as_json, declared_in, read_made
from harness.results.pooling import boards
from harness.results.reading import read_results
from harness.results.recording import record
from harness.results.schema import RESULTS_SCHEMA, Figures, Results
from harness.results.verify import verify
from harness.store import MANIFEST, Store
from tests.harness.making import quiet
from tests.harness.runs_made import make_folder, rewrite, rewrite_line

Data = dict[str, Any]
OLD = RESULTS_SCHEMA - 1
NOTE = (
    f"results.json is of an older version ({OLD}, this program writes {RESULTS_SCHEMA}); "
    "computed again from its verdicts"
)


def renamed(data: Any) -> Any:
    """The same with other names for the figures, as a version of long ago may have had."""
    if isinstance(data, dict):
        return {f"old_{key}" if key.endswith(("rate", "interval")) else key: renamed(row) for key, row in data.items()}
    return [renamed(row) for row in data] if isinstance(data, list) else data


def without(*keys: str) -> Callable[[Data], None]:
    def change(results: Data) -> None:
        for key in keys:
            del results[key]

    return change


def bare(results: Data) -> None:
    """Only what follows from nothing else."""
    sets = [{"name": entry["name"], "in_domain": entry["in_domain"]} for entry in results["prompt_sets"]]
    words = ("name", "summary", "misses", "relation")
    judges = [{key: judge[key] for key in words if key in judge} for judge in results["judges"]]
    nowhere_else = ("runs", "training", "measured", "first_measure", "costs", "retention")
    kept = {key: results[key] for key in nowhere_else} | {"judges": judges}
    for entry, known in zip(sets, results["prompt_sets"], strict=True):
        entry |= {
            key: known[key] for key in ("source", "license", "duplicates", "unmeasured", "overlap") if key in known
        }
    results.clear()
    results |= {**kept, "prompt_sets": sets}


def under_other_names(results: Data) -> None:
    results.update({name: renamed(results[name]) for name in Figures.model_fields if name in results})


CHANGES: dict[str, Callable[[Data], None]] = {
    "the version alone": lambda results: None,
    "figures under other names": under_other_names,
    "no figures": without("rows", "judging", "agreement", "contrasts", "length"),
    "rows of another shape": lambda results: results.update(rows={"near": []}, methods="sft, ddpo"),
    "no configuration": without("config"),
    "no methods, judge or pair": without("methods", "judge", "judge_samples", "pair", "pruning", "evaluation", "name"),
    "almost nothing": bare,
}


RECORDED = "smollm2-135m-pruned20"
FROM_ITS_CONFIGURATION = [
    CHANGES[name] for name in ("rows of another shape", "no methods, judge or pair", "almost nothing")
]


def aged(folder: Path, to: Path, change: Callable[[Data], None]) -> Path:
    """A copy of the run whose results an older version wrote, with a manifest that vouches for them."""
    copy = Path(shutil.copytree(folder, to))
    rewrite(copy / "results.json", lambda results: (change(results), results.update(schema=OLD)))
    sha = file_sha256(copy / "results.json")
    rewrite(copy / MANIFEST, lambda manifest: manifest["files"]["results.json"].update(sha256=sha))
    return copy


def unstamped(results: Results) -> Results:
    """The same as of a version that stamped nothing: every contrast was chosen afterwards."""
    judged = tuple(one.model_copy(update={"declared": False, "margin_declared": False}) for one in results.contrasts)
    measured = tuple(one.model_copy(update={"declared": False}) for one in results.measure_contrasts)
    return results.model_copy(update={"stamps": (), "contrasts": judged, "measure_contrasts": measured})


@pytest.fixture(scope="module", params=["panel", "recorded"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a panel, and a recorded one with proxies, a control and a pruned student."""
    if request.param == "recorded":
        return recording.recorded()[0]
    return make_folder(tmp_path_factory.mktemp("read"), judge={"name": "openai:m, openai:n"}).folder


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_older_run_is_the_same_board_page_and_data(
    made: Path, tmp_path: Path, change: Callable[[Data], None], capsys: pytest.CaptureFixture[str]
) -> None:
    copy, known = aged(made, tmp_path / "copy", change), unstamped(read_results(made))
    capsys.readouterr()
    if made.name.startswith(RECORDED) and change in FROM_ITS_CONFIGURATION:  # which has settings that kd no longer has
        with pytest.raises(
            UserError, match=r"cannot be computed again \(unknown configuration key 'settings\.kd\.tail'"
        ):
            read_results(copy)
        return
    found = read_results(copy)
    assert capsys.readouterr().err == f"note: {copy}/{NOTE} and responses\n"
    # the file of the configuration leaves `training` out, which is empty once resolved
    assert found.model_copy(update={"config": {"training": {}, **found.config}}) == known
    assert board.board_markdown([found]) == board.board_markdown([known])


def test_the_leaderboard_and_the_page_of_an_older_run_are_those_of_today(made: Path, tmp_path: Path) -> None:
    copy = aged(made, tmp_path / "copy", CHANGES["no figures"])
    today = Path(shutil.copytree(made, tmp_path / "today"))
    (today / "results.json").write_text(as_json(unstamped(read_results(made))), encoding="utf-8")
    assert board.board_markdown(boards([copy])) == board.board_markdown(boards([today]))
    assert html.report_html(read_run(copy)) == html.report_html(read_run(today))


def test_an_older_run_verifies_and_is_recorded_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_folder(tmp_path / "made")
    copy = aged(run.folder, tmp_path / "copy", CHANGES["figures under other names"])
    (copy / "leaderboard.md").write_text("in the words of then")
    sha = file_sha256(copy / "leaderboard.md")
    rewrite(copy / MANIFEST, lambda manifest: manifest["files"]["leaderboard.md"].update(sha256=sha))
    found = verify(copy, run.store, board_markdown, quiet)
    assert found.wrong == []
    assert any("as results.json is of an older version" in what for what in found.checked)
    monkeypatch.setattr(recording, "results_folder", lambda: tmp_path / "results")
    (target,) = record([copy])
    assert target == tmp_path / "results" / run.data["name"]
    assert (target / "results.json").read_bytes() == (copy / "results.json").read_bytes()
    rewrite_line(copy / "verdicts.jsonl", 0, preference=0.5)  # what is computed again must be what was written
    assert [
        line for line in verify(copy, Store(tmp_path / "none"), board_markdown, quiet).wrong if "verdicts.jsonl" in line
    ]


def test_what_an_older_file_lacks_and_nothing_says_is_left_out(tmp_path: Path) -> None:
    run = make_folder(tmp_path / "made")

    def change(results: Data) -> None:
        bare(results)
        results["judges"] = results["training"] = None
        for entry in results["prompt_sets"]:
            entry.pop("overlap")

    results = read_results(aged(run.folder, tmp_path / "copy", change))
    found = plain(results)
    assert [(judge["summary"], judge["misses"]) for judge in found["judges"]] == [("", "")]
    assert not {"source", "license", "duplicates"} & set(found["training"])
    assert not any("overlap" in entry for entry in found["prompt_sets"])
    board.board_markdown([results])


def test_a_proxy_stays_a_declared_one(tmp_path: Path) -> None:
    found = read_results(aged(recording.recorded()[0], tmp_path / "copy", without("judges")))
    assert all(judge.misses for judge in found.judges)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("prompt_sets", "rows"), "cannot be computed again (no 'near'); run it again"),
        (lambda results: results.update(config={"seed": 0}), "cannot be computed again (no 'judge'); run it again"),
    ],
)
def test_an_older_run_that_cannot_be_computed_again_is_refused(
    tmp_path: Path, change: Callable[[Data], None], said: str
) -> None:
    run = make_folder(tmp_path / "made", prompts=1)
    with pytest.raises(UserError) as caught:
        read_results(aged(run.folder, tmp_path / "copy", change))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", [KeyError("a"), TypeError("b"), ValueError("c")], ids=repr)
def test_a_fault_of_the_figures_is_not_laid_to_the_older_file(
    tmp_path: Path, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise fault

    copy = aged(make_folder(tmp_path / "made", prompts=1).folder, tmp_path / "copy", CHANGES["no figures"])
    monkeypatch.setattr(reading, "figures", fail)
    with pytest.raises(type(fault)) as caught:
        read_results(copy)
    assert caught.value is fault


@pytest.mark.parametrize("name", ["verdicts.jsonl", "responses.jsonl", MANIFEST])
def test_an_older_run_without_what_its_figures_follow_from_is_refused(tmp_path: Path, name: str) -> None:
    run = make_folder(tmp_path / "made", prompts=1)
    copy = aged(run.folder, tmp_path / "copy", CHANGES["the version alone"])
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"copy holds no {name}"):
        read_results(copy)


def test_what_is_read_is_what_would_be_written(tmp_path: Path) -> None:
    run = make_folder(tmp_path / "made", prompts=1)
    found = read_results(aged(run.folder, tmp_path / "copy", CHANGES["no figures"]))
    assert found == unstamped(read_results(run.folder))
    assert Results.model_validate_json(as_json(found)) == found


def test_harm_is_found_in_a_record_from_before_it_was_said(tmp_path: Path) -> None:
    """The same as today's figures have; where a file says that there is none, that is what is read."""
    copy = Path(shutil.copytree(recording.recorded()[0], tmp_path / "copy"))
    rows = []
    for line in (copy / "measures.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["system"] == "dadpo" and "forward_kl" in row["values"]:
            row["values"]["forward_kl"][0] *= 20
        rows.append(json.dumps(row) + "\n")
    (copy / "measures.jsonl").write_text("".join(rows))
    rewrite(copy / "results.json", lambda results: results.pop("harms", None))
    found = read_results(copy)
    assert {(one.method, one.measure) for one in found.harms} == {("dadpo", "forward_kl")}
    assert found.harms == figures(declared_in(found), {found.name: read_made(copy)}).harms
    rewrite(copy / "results.json", lambda results: results.update(harms=[]))
    assert read_results(copy).harms == ()
    assert any(
        line.startswith("results.json: harms") for line in verify(copy, Store(tmp_path), board_markdown, quiet).wrong
    )
