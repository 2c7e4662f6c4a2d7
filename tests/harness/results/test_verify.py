"""What `verify` finds: every figure, file and artifact that was changed after the run is named."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.files import file_sha256
from harness.reports.board import board_markdown
from harness.results.verify import Verification, differences, verify
from harness.store import MANIFEST, Store
from tests.harness.making import quiet
from tests.harness.measures.task_files import task_file
from tests.harness.results_made import luck, retention, versus
from tests.harness.runs_made import Run, Said, by_number, make_folder, rewrite, rewrite_line

Data = dict[str, Any]
Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_folder(tmp_path_factory.mktemp("verified"))


@pytest.fixture
def folder(made: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.folder, tmp_path / "copy"))


@pytest.fixture
def copied(made: Run, tmp_path: Path) -> Store:
    """The run's store, to be changed."""
    return Store(Path(shutil.copytree(made.store.root, tmp_path / "artifacts")))


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    return Store(tmp_path / "nothing")


def restamp(folder: Path) -> None:
    """Have the manifest vouch for the files as they are now."""

    def stamped(manifest: Data) -> None:
        for name, known in manifest["files"].items():
            known.update(bytes=(folder / name).stat().st_size, sha256=file_sha256(folder / name))

    rewrite(folder / MANIFEST, stamped)


def assert_said(found: Verification, *parts: str) -> None:
    """One line has all these parts."""
    assert any(all(part in line for part in parts) for line in found.wrong), "\n".join([str(parts), *found.wrong])


def row_of(results: Data, prompt_set: str, method: str) -> Data:
    row: Data = next(r for r in results["rows"] if (r["prompt_set"], r["method"]) == (prompt_set, method))
    return row


# ---- what follows


def test_a_run_as_it_was_made_follows_with_all_its_artifacts(made: Run) -> None:
    found = verify(made.folder, made.store, board_markdown, quiet)
    assert (found.wrong, found.absent) == ([], [])
    text = "\n".join(found.checked)
    for what in (
        "10 files of the folder by their sha256",
        "8 rows of figures from verdicts.jsonl and responses.jsonl, ",
        "prompts of 2 sets",
        "leaderboard.md from results.json",
        f"{len(made.road.jobs)} artifacts of the store",
        "verdicts.jsonl, responses.jsonl and measures.jsonl from the artifacts",
        "tokens.json from the artifacts",
        "what 2 rows took, from their artifacts",
    ):
        assert what in text


def test_what_rows_took_is_held_against_the_artifacts_that_are_here(folder: Path, copied: Store, made: Run) -> None:
    assert [(cost.trained_tokens, cost.seconds) for cost in made.results.costs] == [
        (1234, {"respond": 1.5, "train": 1.5}),
        (2468, {"respond": 3.0, "score": 1.5, "train": 3.0}),
    ]
    sft, ddpo = 0, 1
    rewrite(folder / "results.json", lambda results: results["costs"][ddpo].update(trained_tokens=7))
    rewrite(folder / "results.json", lambda results: results["costs"][sft]["seconds"].update(train=7.5))
    found = verify(folder, copied, board_markdown, quiet)
    assert_said(found, "costs / sft: seconds: train is 7.5; of its artifacts it is 1.5")
    assert_said(found, "costs / ddpo: trained_tokens is 7; of its artifacts it is 2468")
    copied.discard(made.ref("log-probs: reference"))  # on which dDPO alone rests
    found = verify(folder, copied, board_markdown, quiet)
    assert "what 1 rows took, from their artifacts" in found.checked
    assert not any("costs / ddpo" in line for line in found.wrong)


def test_figures_follow_without_any_artifact(folder: Path, made: Run, empty: Store) -> None:
    found = verify(folder, empty, board_markdown, quiet)
    assert found.wrong == []
    assert len(found.absent) == len(made.road.jobs)
    assert not any("artifacts" in what for what in found.checked)


def test_a_panel_follows_too(tmp_path: Path) -> None:
    run = make_folder(tmp_path, judge={"name": "openai:m,openai:n"}, prompts=3)
    assert verify(run.folder, run.store, board_markdown, quiet).wrong == []
    rewrite(run.folder / "results.json", lambda results: results["agreement"][0].update(kappa=0.1))
    assert_said(
        verify(run.folder, run.store, board_markdown, quiet),
        "agreement / openai:m, openai:n: kappa is 0.1; from verdicts",
    )


LEFT_OUT = {"teacher, training prompts": "p2", "teacher, near": "p1", "teacher (second sample), near": "p0"}


def test_a_run_follows_whose_teacher_had_no_answer_to_some_prompts(tmp_path: Path) -> None:
    run = make_folder(tmp_path, left_out=LEFT_OUT)
    found = verify(run.folder, run.store, board_markdown, quiet)
    assert (found.wrong, found.absent) == ([], [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found["prompt_sets"][0]["left_out"].pop("p1"), "results.json keeps prompt 'p1', and a stage of"),
        (lambda found: found["prompt_sets"][1].update(left_out={"p3": "no"}), "leaves out prompt 'p3', and no stage"),
        (lambda found: found["training"].pop("left_out"), "results.json keeps prompt 'p2'"),
    ],
    ids=["kept", "left out", "training"],
)
def test_what_was_left_out_is_held_against_the_stages(
    tmp_path: Path, change: Callable[[Data], object], said: str
) -> None:
    run = make_folder(tmp_path, left_out=LEFT_OUT)
    rewrite(run.folder / "results.json", change)
    assert_said(verify(run.folder, run.store, board_markdown, quiet), said)


def test_a_run_whose_judge_failed_follows_and_says_what_was_never_made(tmp_path: Path) -> None:
    def failing(candidate: str, number: int) -> Said:
        return (None, 1.0) if (candidate, number) == ("sft", 1) else by_number(candidate, number)

    run = make_folder(tmp_path, say=failing)
    found = verify(run.folder, run.store, board_markdown, quiet)
    assert found.wrong == []
    assert [line.partition(" (")[0] for line in found.absent] == [
        "judge openai:m: sft, near",
        "judge openai:m: sft, far",
    ]
    rewrite_line(run.folder / "verdicts.jsonl", 0, detail="changed")  # of another candidate
    assert_said(
        verify(run.folder, run.store, board_markdown, quiet),
        "verdicts.jsonl: 1 verdicts are not in the judgings of the store",
    )


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose models were asked a task."""
    root = tmp_path_factory.mktemp("asked")
    return make_folder(root, retention=[str(task_file(root / "tasks"))])


def test_what_models_still_can_follows_from_the_artifacts_of_all_that_were_asked(asked: Run, tmp_path: Path) -> None:
    assert [one.method for one in asked.results.retention] == ["teacher", "student (untrained)", "sft", "ddpo"]
    found = verify(asked.folder, asked.store, board_markdown, quiet)
    assert found.wrong == [] and "what models still can, from their artifacts" in found.checked
    folder = Path(shutil.copytree(asked.folder, tmp_path / "copy"))
    rewrite(folder / "results.json", lambda results: results["retention"][2].update(value=0.75))
    found = verify(folder, asked.store, board_markdown, quiet)
    assert_said(found, f"what sft still can is not what its artifact {asked.ref('retention: sft')} says")


@pytest.mark.parametrize("row", ["sft", "teacher", ""])
def test_a_run_whose_models_were_asked_says_what_they_can(asked: Run, tmp_path: Path, empty: Store, row: str) -> None:
    """Of one, or of all: with and without the artifacts."""
    folder = Path(shutil.copytree(asked.folder, tmp_path / "copy"))

    def left_out(results: Data) -> None:
        results["retention"] = [one for one in results["retention"] if row and one["method"] != row]

    rewrite(folder / "results.json", left_out)
    for store in (empty, asked.store):
        found = verify(folder, store, board_markdown, quiet)
        said = f"results.json does not have what {row or 'ddpo'} still can, and manifest.json has a stage of it"
        assert_said(found, said)


def test_a_run_whose_tokens_were_compared_has_them_to_show(folder: Path, empty: Store) -> None:
    """Also where nothing vouches for them any more."""
    (folder / "tokens.json").unlink()
    rewrite(folder / MANIFEST, lambda manifest: manifest["files"].pop("tokens.json"))
    assert verify(folder, empty, board_markdown, quiet).wrong == [
        "tokens.json is missing, and results.json has measures of tokens"
    ]


def test_a_measure_of_another_digest_is_held_against_none_of_its_name(folder: Path, empty: Store) -> None:
    def another(results: Data) -> None:
        results["measured"][0].update(digest="another", unit="bits", better="neither", bound="lower")

    rewrite(folder / "results.json", another)
    found = verify(folder, empty, board_markdown, quiet)
    assert [line for line in found.wrong if "of the measure forward_kl is" in line] == [
        "results.json: bound of the measure forward_kl is lower; it is exact"
    ]


def test_bounds_are_those_of_a_teacher_behind_a_server(folder: Path, empty: Store) -> None:
    server = {"base_url": "http://host/v1", "model": "m"}
    rewrite(folder / "results.json", lambda results: results["config"].update(teacher_server=server))
    found = verify(folder, empty, board_markdown, quiet)
    assert_said(found, "bound of the measure forward_kl is exact; it is lower")
    assert not any("bound of the measure nll" in line for line in found.wrong if "teacher_bound" not in line)


def test_rows_of_a_set_that_is_none_stop_nothing(made: Run, folder: Path) -> None:
    """Every artifact is here, so that tokens.json is made again from prompts.jsonl."""
    rewrite_line(folder / "prompts.jsonl", -1, prompt_set="elsewhere")
    found = verify(folder, made.store, board_markdown, quiet)
    assert_said(found, "prompts.jsonl: 'elsewhere' is no prompt set of results.json")


# ---- files of the folder


def in_results(change: Callable[[Data], None]) -> Change:
    return lambda folder: rewrite(folder / "results.json", change)


def in_manifest(change: Callable[[Data], None]) -> Change:
    return lambda folder: rewrite(folder / MANIFEST, change)


def in_text(name: str, old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def in_row(name: str, number: int, **values: Any) -> Change:
    return lambda folder: rewrite_line(folder / name, number, **values)


def without_sft(results: Data) -> None:
    results["rows"] = [row for row in results["rows"] if row["method"] != "sft"]


CHANGES: dict[str, tuple[Change, list[list[str]]]] = {
    "a preference": (
        in_row("verdicts.jsonl", 0, preference=0.0),
        [["results.json: rows / near, teacher (second sample), openai:m: ties is 2; from verdicts.jsonl it is 1"]],
    ),
    "a status": (
        in_row("verdicts.jsonl", 0, preference=None, status="skipped"),
        [["judging / openai:m: skipped is 0; from verdicts.jsonl it is 1"], ["missing is 0; from verdicts.jsonl"]],
    ),
    "tokens of a response": (
        in_row("responses.jsonl", 0, tokens=2000),
        [["prompt_sets / near: teacher: mean_tokens is 4.5; from responses.jsonl it is 503.75"]],
    ),
    "how a response ended": (
        in_row("responses.jsonl", -1, finish="length"),
        [["rows / far, ddpo, openai:m: cut_share is 0.25; from responses.jsonl it is 0.5"]],
    ),
    "a rate": (
        in_results(lambda r: row_of(r, "near", "sft").update(preference_rate=0.5)),
        [
            ["rows / near, sft, openai:m: preference_rate is 0.5; from verdicts.jsonl it is 0"],
            ["leaderboard.md is not"],
        ],
    ),
    "the rate of several lines": (
        in_results(lambda r: row_of(r, "far", "sft").update(half_tie_rate=0.9, mean_preference=0.9, by_run=[0.9])),
        [
            ["rows / far, sft, openai:m: half_tie_rate is 0.9; from verdicts.jsonl it is "],
            ["rows / far, sft, openai:m: mean_preference is 0.9; from verdicts.jsonl it is "],
            ["rows / far, sft, openai:m: by_run[0] is 0.9; from verdicts.jsonl it is "],
        ],
    ),
    "the end of an interval": (
        in_results(lambda r: row_of(r, "near", "sft")["win_interval"].__setitem__(1, 0.9)),
        [["rows / near, sft, openai:m: win_interval[1] is 0.9; from verdicts.jsonl"]],
    ),
    "a p": (
        in_results(lambda r: r["contrasts"][0].update(p=0.01, p_holm=0.01, distinguishable=True)),
        [
            ["contrasts / near, ddpo, sft, openai:m: p is 0.01; from verdicts.jsonl it is 1"],
            ["contrasts / near, ddpo, sft, openai:m: distinguishable is True"],
        ],
    ),
    "what is said of a difference": (
        in_results(lambda r: r["contrasts"][0].update(error=0.01, degrees=9.0, detectable=0.1, seeds=3)),
        [
            [f"contrasts / near, ddpo, sft, openai:m: {name} is {value}; from verdicts.jsonl it is"]
            for name, value in (("error", "0.01"), ("degrees", "9"), ("detectable", "0.1"), ("seeds", "3"))
        ],
    ),
    "the family of a contrast": (
        in_results(lambda r: r["contrasts"][0].update(family="anchors")),
        [["contrasts / near, ddpo, sft, openai:m: family is anchors; from verdicts.jsonl it is "]],
    ),
    "a contrast that is said to be small": (
        in_results(
            lambda r: r["contrasts"][0].update(
                equivalence={"margin": 0.05, "interval": [-0.01, 0.01], "finding": "equivalent"}
            )
        ),
        [["contrasts / near, ddpo, sft, openai:m: equivalence is {", "it is None"]],
    ),
    "when a contrast was declared": (
        in_results(lambda r: r["contrasts"][0].update(declared=not r["contrasts"][0]["declared"])),
        [["contrasts / near, ddpo, sft, openai:m: declared is "]],
    ),
    "when a contrast in a measure was declared": (
        in_results(lambda r: r["measure_contrasts"][0].update(declared=not r["measure_contrasts"][0]["declared"])),
        [["measure_contrasts / forward_kl, near, ddpo, sft: declared is "]],
    ),
    "what a rate's deviations are made of": (
        in_results(lambda r: row_of(r, "near", "sft")["components"].update(prompt=0.01, within=0.3)),
        [
            ["rows / near, sft, openai:m: components: prompt is 0.01; from verdicts.jsonl it is "],
            ["components: within is 0.3; from verdicts.jsonl it is None"],
        ],
    ),
    "what a measure's deviations are made of": (
        in_results(lambda r: r["measures"][0]["components"].update(seed=0.01)),
        [["measures / forward_kl, near, student (untrained): components: seed is 0.01; from measures.jsonl"]],
    ),
    "what a set could tell": (
        in_results(lambda r: r["prompt_sets"][0].update(detectable=0.01)),
        [["prompt_sets / near: detectable is 0.01; from verdicts.jsonl it is "]],
    ),
    "a luck of seeds that one run cannot know": (
        in_results(lambda r: r["luck"].append(luck())),
        [["results.json: luck is [{"]],
    ),
    "students that nobody judged against each other": (
        in_results(lambda r: r["versus"].append(versus("ddpo", "sft"))),
        [["results.json: versus is [{"]],
    ),
    "a rank": (
        in_results(lambda r: row_of(r, "far", "ddpo").update(rank=[1, 1])),
        [["rows / far, ddpo, openai:m: rank is [1, 1]; from verdicts.jsonl it is None"]],
    ),
    "a set that is ranked": (
        in_results(lambda r: r["prompt_sets"][0].update(unranked="")),
        [["prompt_sets / near: unranked is "]],
    ),
    "a row that is left out": (
        in_results(lambda r: r["rows"].remove(row_of(r, "near", "sft"))),
        [["rows / near, sft, openai:m is not there"]],
    ),
    "a method that is left out": (in_results(without_sft), [["length / near, sft, openai:m is {"]]),
    "a contrast that is made up": (
        in_results(lambda r: r["contrasts"].append({**r["contrasts"][0], "first": "sft", "second": "ddpo"})),
        [["contrasts / near, sft, ddpo, openai:m is {", "it is not there"]],
    ),
    "what was measured": (
        in_row("measures.jsonl", 0, values={"nll": [9.0, 1]}),
        [["results.json: measures / nll, near, teacher: value is ", "; from measures.jsonl it is"]],
    ),
    "a measure's value": (
        in_results(lambda r: r["measures"][0].update(value=9.0)),
        [["measures / forward_kl, near, student (untrained): value is 9; from measures.jsonl"]],
    ),
    "what a measure finds better": (
        in_results(lambda r: r["measure_contrasts"][0].update(better="sft", distinguishable=True)),
        [["measure_contrasts / forward_kl, near, ddpo, sft: better is sft; from measures.jsonl"]],
    ),
    "a loss that is not marked": (
        in_results(lambda r: r["methods"][0].update(minimises=[])),
        [["measures / nll, near, sft: own_loss is True; from measures.jsonl it is False"]],
    ),
    "what a measure finds better, wherever it is said": (
        in_results(lambda r: r["measured"][0].update(better="higher")),
        [["results.json: better of the measure forward_kl is higher; it is lower"]],
    ),
    "what a measure is a bound of": (
        in_results(lambda r: r["measured"][0].update(bound="lower", teacher_bound="upper")),
        [
            ["results.json: bound of the measure forward_kl is lower; it is exact"],
            ["results.json: teacher_bound of the measure forward_kl is upper; it is exact"],
        ],
    ),
    "a measure's unit, and what it reads": (
        in_results(lambda r: r["measured"][0].update(unit="bits", reads="pairs", group="text")),
        [
            ["unit of the measure forward_kl is bits; it is nats a token"],
            ["reads of the measure forward_kl is pairs"],
            ["group of the measure forward_kl is text"],
        ],
    ),
    "costs that are left out": (
        in_results(lambda r: r["costs"].pop(0)),
        [["results.json does not have what sft took, and manifest.json has a stage of it"]],
    ),
    "costs of nobody": (
        in_results(lambda r: r["costs"].append({**r["costs"][0], "method": "kd"})),
        [["results.json has what kd took, and manifest.json has no stage of it"]],
    ),
    "tasks that nobody was asked": (
        in_results(lambda r: r["retention"].append(retention("sft", "method"))),
        [["results.json has what sft still can, and manifest.json has no stage of it"]],
    ),
    "a measure that is left out": (
        in_results(lambda r: r.update(measured=r["measured"][1:])),
        [["measures / forward_kl, near, sft is {"]],
    ),
    "facts of a training": (
        in_results(lambda r: r["methods"][0]["facts"].update(steps=30)),
        [["results.json: methods / sft: steps is 30; manifest.json has 3"]],
    ),
    "a training that is another": (
        in_results(lambda r: r["methods"][0].update(artifact="train/0")),
        [["manifest.json has no training train/0, which results.json has for sft"]],
    ),
    "the command": (
        in_results(lambda r: r["runs"][0].update(command="another")),
        [["manifest.json: command is python -m harness run --student small; results.json has another"]],
    ),
    "a judge": (
        in_results(lambda r: r["judges"][0]["setup"].update(model="gpt")),
        [["manifest.json: judges.openai:m.model is m; results.json has gpt"]],
    ),
    "the board": (
        in_text("leaderboard.md", "+0.0%", "+9.0%"),
        [["leaderboard.md is not what results.json renders to"]],
    ),
    "a setting": (
        in_text("config.yaml", "beta: 0.1", "beta: 0.2"),
        [["config.settings.ddpo.beta is 0.1; config.yaml has 0.2"]],
    ),
    "a setting that is left out": (
        in_text("config.yaml", "    beta: 0.1\n", ""),
        [["config.yaml lacks settings of results.json"]],
    ),
    "a curve": (
        in_row("metrics/sft.jsonl", 1, loss=0.0),
        [["metrics/sft.jsonl is not the curve that its training train/"]],
    ),
    "a prompt": (
        in_row("prompts.jsonl", 4, category="hard"),
        [["prompts.jsonl: the prompts of far are not those that results.json has the digest of"]],
    ),
    "the prompt set of a prompt": (
        in_row("prompts.jsonl", 4, prompt_set="elsewhere"),
        [["prompts.jsonl: 'elsewhere' is no prompt set of results.json"]],
    ),
    "the prompt set of an answer": (
        in_row("responses.jsonl", 0, prompt_set="elsewhere"),
        [["responses.jsonl: 'elsewhere' is no prompt set of results.json"]],
    ),
    "an answer to no prompt": (
        in_row("responses.jsonl", 0, prompt_id="p9"),
        [["responses.jsonl: the prompts answered on near are not those of prompts.jsonl"]],
    ),
}


@pytest.mark.parametrize("stamped", [False, True], ids=["", "stamped anew"])
@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES)
def test_what_was_changed_in_a_folder_is_named(
    folder: Path, empty: Store, change: Change, said: list[list[str]], stamped: bool
) -> None:
    """By its sha256; and where the manifest was changed to match, by what follows from it."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    change(folder)
    (changed,) = [path.relative_to(folder) for path, data in before.items() if path.read_bytes() != data]
    if stamped:
        restamp(folder)
    found = verify(folder, empty, board_markdown, quiet)
    assert any("sha256" in line for line in found.wrong) == (not stamped)
    if not stamped:
        assert_said(found, f"{changed} is not the file that the run wrote")
    for parts in said:
        assert_said(found, *parts)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(name="another"), ["manifest.json: name is another; results.json has small-seed0-"]),
        (lambda m: m.update(seconds=9.0), ["manifest.json: seconds is 9; of its stages it is "]),
        (lambda m: m.update(cost=9.0), ["manifest.json: cost is 9; of its stages it is None"]),
        (lambda m: m["prompts"].update(near="0"), ["manifest.json: prompts.near is 0; results.json has"]),
        (lambda m: m["files"].pop("config.yaml"), ["manifest.json does not vouch for config.yaml"]),
        (lambda m: m["files"]["config.yaml"].update(sha256="0"), ["config.yaml is not the file that the run wrote"]),
        (
            lambda m: m["stages"][0].update(seconds=2.5),
            ["read train", "seconds of the artifact are not those of manifest.json"],
        ),
        (lambda m: m.update(stages=[]), ["manifest.json has no training train/"]),
    ],
)
def test_what_was_changed_in_the_manifest_is_named(
    folder: Path, made: Run, change: Callable[[Data], None], said: list[str]
) -> None:
    in_manifest(change)(folder)
    found = verify(folder, made.store, board_markdown, quiet)
    assert found.wrong
    assert_said(found, *said)


@pytest.mark.parametrize(
    "name",
    ["leaderboard.md", "config.yaml", "metrics/ddpo.jsonl", "verdicts.jsonl", "responses.jsonl", "prompts.jsonl"],
)
def test_a_file_that_is_missing_is_named(folder: Path, empty: Store, name: str) -> None:
    (folder / name).unlink()
    assert_said(verify(folder, empty, board_markdown, quiet), f"{name} is missing")


BROKEN = ["results.json", MANIFEST, "verdicts.jsonl", "responses.jsonl", "prompts.jsonl"]


@pytest.mark.parametrize(("name", "text"), [*((name, "{") for name in BROKEN), ("results.json", ""), (MANIFEST, "{}")])
def test_nothing_can_be_said_without_the_files_that_figures_are_made_of(
    folder: Path, empty: Store, name: str, text: str
) -> None:
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=re.escape(name)) as caught:
        verify(folder, empty, board_markdown, quiet)
    assert "\n" not in str(caught.value)


# ---- artifacts


@pytest.mark.parametrize(
    ("label", "file"),
    [
        ("responses: sft, near", "responses.jsonl"),
        ("judge openai:m: ddpo, far", "verdicts.jsonl"),
        ("train sft", "metrics.jsonl"),
        ("log-probs: reference", "made"),
    ],
)
def test_a_flipped_byte_of_an_artifact_is_found_whatever_is_remembered_of_it(
    made: Run, copied: Store, label: str, file: str
) -> None:
    ref = made.ref(label)
    path = copied.path(ref) / file
    stamp, data = path.stat(), bytearray(path.read_bytes())
    copied.digest(path)  # remembered by size and time of change
    for place in (0, len(data) // 2):
        data[place] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert copied.intact(ref)
    found = verify(made.folder, copied, board_markdown, quiet)
    assert found.wrong == [f"{label} ({ref}): {file} is not the file that manifest.json has the sha256 of"]


def test_an_artifact_whose_job_was_changed_has_not_its_key(made: Run, copied: Store) -> None:
    changes: dict[str, Data] = {
        "judge openai:m: sft, near": {"judge_source": "another"},
        "responses: sft, near": {"seed": 1},
        "train ddpo": {"seed": 1},
    }
    for label, values in changes.items():
        rewrite(copied.path(made.ref(label)) / MANIFEST, lambda manifest, job=values: manifest["job"].update(job))
    rewrite(copied.path(made.ref("train sft")) / MANIFEST, lambda manifest: manifest["job"].update(nonsense=1))
    rewrite(copied.path(made.ref("log-probs: reference")) / MANIFEST, lambda manifest: manifest["facts"].update(n=1))
    found = verify(made.folder, copied, board_markdown, quiet)
    assert sorted(found.wrong) == sorted(
        [
            *(
                f"{label} ({made.ref(label)}): its key does not follow from its job (changed, or of another version)"
                for label in changes
            ),
            f"train sft ({made.ref('train sft')}): its manifest.json is damaged, or of another version",
            f"log-probs: reference ({made.ref('log-probs: reference')}): facts of the artifact are not those of "
            "manifest.json",
        ]
    )


def test_files_and_artifacts_that_are_missing_are_told_apart(made: Run, copied: Store) -> None:
    (copied.path(made.ref("train sft")) / "metrics.jsonl").unlink()
    gone = made.ref("responses: teacher, near")
    shutil.rmtree(copied.path(gone))
    found = verify(made.folder, copied, board_markdown, quiet)
    assert found.absent == [f"responses: teacher, near ({gone})"]
    assert found.wrong == [f"train sft ({made.ref('train sft')}): metrics.jsonl is missing in the store"]
    assert not any("from the artifacts" in what for what in found.checked)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (in_row("verdicts.jsonl", 3, detail="x"), ["verdicts.jsonl: 1 verdicts are not in the judgings of the store"]),
        (in_row("verdicts.jsonl", 3, detail="x"), ["verdicts.jsonl: 1 verdicts are lacking here"]),
        (
            in_text("measures.jsonl", '"p1", "values": {', '"p1", "values": {"not shown": [1.0, 1], '),
            ["measures.jsonl: what was measured of teacher on p1 of near is not what its artifact holds"],
        ),
        (
            in_results(lambda r: r["measured"][0].update(digest="another")),
            ["results.json: the measure forward_kl is not the one that was measured by its digest"],
        ),
        (
            lambda folder: rewrite(folder / "tokens.json", lambda t: t["departures"][0].update(token="x")),
            ["tokens.json: it is not what the comparisons of the artifacts say"],
        ),
        (
            in_row("responses.jsonl", 1, text="x"),
            ["responses.jsonl: what teacher answered to p1 of near is not what its artifact holds"],
        ),
    ],
)
def test_rows_that_move_no_figure_are_held_against_the_artifacts(
    folder: Path, made: Run, change: Change, said: list[str]
) -> None:
    change(folder)
    restamp(folder)
    found = verify(folder, made.store, board_markdown, quiet)
    assert_said(found, *said)
    assert len(found.wrong) <= 2


# ---- differences


@pytest.mark.parametrize(
    ("was", "now", "found"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, []),  # what only the first has is held against something else
        ({"a": 1}, {"a": 1, "b": 2}, [("x.b", "not there", 2)]),
        ({"a": {"b": [1, 2.0]}}, {"a": {"b": [1, 2.5]}}, [("x.a.b[1]", 2.0, 2.5)]),
        ([1, 2], [1], [("x", [1, 2], [1])]),
        (0.1 + 0.2, 0.3, []),
        (1, 1.0, []),
        (True, 1, []),
        (0.3, 0.3001, [("x", 0.3, 0.3001)]),
        (None, 0.0, [("x", None, 0.0)]),
        ([{"name": "a", "v": 1}, {"name": "b", "v": 2}], [{"name": "b", "v": 3}], [
            ("x / a", {"name": "a", "v": 1}, "not there"),
            ("x / b: v", 2, 3),
        ]),
    ],
)  # fmt: skip
def test_differences_are_named_by_where_they_are(was: Any, now: Any, found: list[Any]) -> None:
    assert list(differences(was, now, "x")) == found
    assert list(differences(json.loads(json.dumps(was)), was, "x")) == []


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("runs", 0, "seed"), 7, "seed is 7"),
        (("evaluation", "sampling", "temperature"), 0.1, "eval_sampling.temperature is 0.1"),
        (("methods", 0, "settings", "learning_rate"), 9.0, "learning_rate is 9"),
        (("training", "mean_tokens"), 1.5, "the lengths of the training responses"),
        (("config", "measures"), ["nll"], "first_measure is forward_kl; its configuration has nll"),
    ],
)
def test_what_stands_beside_the_figures_is_held_against_the_configuration(
    folder: Path, empty: Store, where: tuple[Any, ...], value: Any, said: str
) -> None:
    results = json.loads((folder / "results.json").read_text())
    place = results
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    (folder / "results.json").write_text(json.dumps(results))
    assert any(said in line for line in verify(folder, empty, board_markdown, quiet).wrong)


@pytest.mark.parametrize("key", ["runs", "config", "rows"])
def test_results_that_lack_a_part_are_one_line(folder: Path, empty: Store, key: str) -> None:
    results = json.loads((folder / "results.json").read_text())
    del results[key]
    (folder / "results.json").write_text(json.dumps(results))
    with pytest.raises(UserError, match=f"damaged, it has no '{key}'"):
        verify(folder, empty, board_markdown, quiet)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"judge_digest": "f" * 16}, "1 verdicts are by another judge of the name 'openai:m' than results.json has"),
        ({"prompt_digest": "f" * 16}, "1 verdicts are about other prompts of near than those of prompts.jsonl"),
    ],
)
def test_a_verdict_of_another_judge_or_prompt_is_named(folder: Path, empty: Store, values: Data, said: str) -> None:
    rewrite_line(folder / "verdicts.jsonl", 0, **values)
    assert_said(verify(folder, empty, board_markdown, quiet), said)
    rewrite_line(folder / "verdicts.jsonl", 0, **dict.fromkeys(values, ""))  # as an older version left it
    restamp(folder)
    assert verify(folder, empty, board_markdown, quiet).wrong == []
