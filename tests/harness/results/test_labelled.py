"""Boards with people's labels: which outcomes a label is of, and every figure against one by hand."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean

import pytest
from scipy import stats

from harness.core.errors import UserError
from harness.core.records import Verdict, read_records
from harness.results.folder import read_made
from harness.results.label_pairs import Pair, as_csv
from harness.results.labelled import (
    LabelFigures,
    LabelledContrast,
    LabelledRate,
    labelled_boards,
    labelled_run,
    labels_of,
    pairs_to_label,
)
from harness.results.schema import Results
from harness.run.jobs import VERDICTS
from harness.run.rows import UNTRAINED
from harness.statistics.outcomes import outcomes_by_prompt
from tests.harness.runs_made import FLIP, LOSS, TIE, WIN, Run, Said, make_folder

PROMPTS = 60
SAID = {"win": 1.0, "tie": 0.0, "loss": -1.0}
Opinion = Callable[[str, int], float]  # candidate and number of the prompt → 1, 0 or −1


def says(seed: int) -> Callable[[str, int], Said]:
    def say(candidate: str, number: int) -> Said:
        return (WIN, TIE, LOSS, FLIP, WIN)[(number * (3 + seed) + number // 7 + len(candidate)) % 5]

    return say


def people(candidate: str, number: int) -> float:
    """They agree with the judge of seed 0 on two of three prompts, and lose else."""
    judge = says(0)(candidate, number)
    return -1.0 if number % 3 == 0 else {WIN: 1.0, LOSS: -1.0}.get(judge, 0.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labelled")


@pytest.fixture(scope="module")
def runs(root: Path) -> list[Run]:
    """Two seeds of one kind."""
    return [
        make_folder(root, f"seed{seed}", says(seed), PROMPTS, seed=seed, primary=["ddpo", "sft"]) for seed in (0, 1)
    ]


def pairs_of(run: Run, count: int = 5000, rows: list[str] | None = None, sets: list[str] | None = None) -> list[Pair]:
    return pairs_to_label(run.results, read_made(run.folder), count, rows, sets)[0]


def label(path: Path, pairs: list[Pair], opinion: Opinion = people) -> Path:
    """A file filled in as somebody with an opinion would."""
    rows = []
    for pair in pairs:
        value = opinion(pair.candidate, int(pair.prompt_id[1:]))
        said = "tie" if value == 0 else "ab"[(value > 0) != pair.candidate_first]
        rows.append({"pair": pair.name, "prompt": "?", "response_a": pair.a, "response_b": pair.b, "label": said})
    path.write_text(as_csv(rows), encoding="utf-8")
    return path


def figures(run: Run, *files: Path) -> LabelFigures:
    found = labels_of(labelled_run(run.folder, run.results, files))
    assert found is not None
    return found


def rate(found: LabelFigures, method: str, scope: str = "near") -> LabelledRate:
    return next(row for row in found.rates if (row.method, row.scope) == (method, scope))


def contrast(found: LabelFigures, scope: str = "near") -> LabelledContrast:
    return next(row for row in found.contrasts if row.scope == scope)


def judged(run: Run, method: str, prompt_set: str = "near") -> Mapping[str, float]:
    rows = [
        row
        for row in read_records(run.folder / VERDICTS, Verdict)
        if (row.candidate, row.prompt_set) == (method, prompt_set)
    ]
    return {name: SAID[word] for name, word in outcomes_by_prompt(rows).items()}


def by_hand(judge: Mapping[str, float], labels: Mapping[str, float]) -> float:
    slope = stats.linregress([judge[name] for name in labels], list(labels.values())).slope
    return slope * mean(judge.values()) + mean(said - slope * judge[name] for name, said in labels.items())


# ---- one run


def test_pairs_are_by_default_the_primary_contrasts_in_domain(runs: list[Run]) -> None:
    pairs, rows = pairs_to_label(runs[0].results, read_made(runs[0].folder), 40, None, None)
    assert rows == ["ddpo", "sft"]
    assert {(pair.candidate, pair.prompt_set) for pair in pairs} == {("ddpo", "near"), ("sft", "near")}
    assert len(pairs) == 40
    found = pairs_of(runs[0], 30, ["sft", UNTRAINED, "sft"], ["far", "near"])
    assert {(pair.candidate, pair.prompt_set) for pair in found} == {
        (name, prompt_set) for name in ("sft", UNTRAINED) for prompt_set in ("near", "far")
    }


def test_names_that_a_run_does_not_have_are_refused(runs: list[Run], root: Path) -> None:
    with pytest.raises(UserError, match=r"--rows: .* has no 'dpo'; did you mean 'ddpo'\?"):
        pairs_of(runs[0], rows=["dpo"])
    with pytest.raises(UserError, match=r"--sets: .* has no 'nere'; did you mean 'near'\?"):
        pairs_of(runs[0], sets=["nere"])
    bare = Results.model_validate({**runs[0].data, "config": {**runs[0].results.config, "primary": None}})
    with pytest.raises(UserError, match=r"has no primary contrast; name rows of it: --rows "):
        pairs_to_label(bare, read_made(runs[0].folder), 9, None, None)


def test_every_figure_of_a_rate(runs: list[Run], tmp_path: Path) -> None:
    pairs = pairs_of(runs[0], 80)
    found = rate(figures(runs[0], label(tmp_path / "ana.csv", pairs)), "ddpo")
    said = {pair.prompt_id: people("ddpo", int(pair.prompt_id[1:])) for pair in pairs if pair.candidate == "ddpo"}
    judge = judged(runs[0], "ddpo")
    assert (found.labels, found.labelled_prompts, found.judged) == (40, 40, 60)
    assert found.by_people == pytest.approx(mean(said.values()))
    assert found.corrected == pytest.approx(by_hand(judge, said))
    row = next(row for row in runs[0].results.rows if (row.method, row.prompt_set) == ("ddpo", "near"))
    assert (found.by_judge, found.judge_interval) == (row.preference_rate, row.preference_interval)
    table = found.agreement.table
    assert sum(map(sum, table)) == 40
    assert found.agreement.agreement.count == sum(judge[name] == value for name, value in said.items())


def test_a_difference_is_of_pairs_of_labels(runs: list[Run], tmp_path: Path) -> None:
    pairs = pairs_of(runs[0], 80)
    found = contrast(figures(runs[0], label(tmp_path / "ana.csv", pairs)))
    first, second = (judged(runs[0], name) for name in ("ddpo", "sft"))
    apart = {name: first[name] - second[name] for name in first}
    numbers = {pair.prompt_id: int(pair.prompt_id[1:]) for pair in pairs}
    said = {name: people("ddpo", number) - people("sft", number) for name, number in numbers.items()}
    assert (found.first, found.second, found.labels, found.judged) == ("ddpo", "sft", 40, 60)
    assert found.by_people == pytest.approx(mean(said.values()))
    assert found.corrected == pytest.approx(by_hand(apart, said))
    known = next(row for row in runs[0].results.contrasts if row.scope == "near")
    assert found.by_judge == pytest.approx(known.difference)
    assert found.judge_interval == pytest.approx(known.interval)


def test_people_who_say_what_the_judge_says_leave_it_alone(runs: list[Run], tmp_path: Path) -> None:
    def same(candidate: str, number: int) -> float:
        return {WIN: 1.0, LOSS: -1.0}.get(says(0)(candidate, number), 0.0)

    found = figures(runs[0], label(tmp_path / "ana.csv", pairs_of(runs[0], 80), same))
    for row in found.rates:
        assert row.corrected == pytest.approx(row.by_judge)
        assert not row.judge_is_off
        assert row.agreement.kappa == 1
    assert (found.agreement.first, found.agreement.second, found.agreement.kappa) == ("openai:m", "people", 1)
    assert found.agreement.n == 80


def test_a_judge_that_people_contradict_is_off(runs: list[Run], tmp_path: Path) -> None:
    found = figures(runs[0], label(tmp_path / "ana.csv", pairs_of(runs[0], 80), lambda candidate, number: -1.0))
    assert all(row.judge_is_off for row in found.rates)
    assert rate(found, "sft").corrected == pytest.approx(-1)
    assert contrast(found).corrected == pytest.approx(0)


def test_few_labels_correct_nothing(runs: list[Run], tmp_path: Path) -> None:
    found = figures(runs[0], label(tmp_path / "ana.csv", pairs_of(runs[0], 40)))
    assert {row.reason for row in (*found.rates, *found.contrasts)} == {"labels of 20 prompts, and 30 are needed"}
    assert {row.corrected for row in (*found.rates, *found.contrasts)} == {None}


def test_what_two_people_labelled_counts_by_its_mean(runs: list[Run], tmp_path: Path) -> None:
    pairs = pairs_of(runs[0], 80)
    files = label(tmp_path / "ana.csv", pairs), label(tmp_path / "ben.csv", pairs[:60], lambda candidate, number: 1.0)
    found = figures(runs[0], *files)
    ben = {pair.prompt_id for pair in pairs[:60] if pair.candidate == "sft"}
    said = []
    for pair in pairs:
        if pair.candidate == "sft":
            ana = people("sft", int(pair.prompt_id[1:]))
            said.append((ana + 1) / 2 if pair.prompt_id in ben else ana)
    assert found.people == ("ana", "ben")
    assert found.labels == 80
    assert rate(found, "sft").by_people == pytest.approx(mean(said))
    (between,) = found.between
    assert (between.first, between.second, between.n) == ("ana", "ben", 60)


def test_domains_of_several_sets_weigh_prompts_alike(root: Path, tmp_path: Path) -> None:
    inputs = root / f"prompts-{PROMPTS}"
    run = make_folder(
        root,
        "both-in",
        says(2),
        PROMPTS,
        seed=2,
        primary=["ddpo", "sft"],
        eval=[f"in:{inputs / 'near.jsonl'}", f"in:{inputs / 'far.jsonl'}"],
    )
    few = [pair for pair in pairs_of(run) if pair.prompt_set == "near" or int(pair.prompt_id[1:]) < 20]
    found = figures(run, label(tmp_path / "ana.csv", few))
    near, far = ([people("sft", number) for number in range(n)] for n in (60, 20))
    assert rate(found, "sft", "in-domain").by_people == pytest.approx((mean(near) + mean(far)) / 2)
    assert rate(found, "sft", "far").reason == "labels of 20 prompts, and 30 are needed"
    assert rate(found, "sft", "in-domain").corrected is not None
    alone = figures(run, label(tmp_path / "ana.csv", [pair for pair in few if pair.prompt_set == "near"]))
    assert rate(alone, "sft", "in-domain").reason == "fewer than 2 labels on a prompt set"


def test_a_panel_is_corrected_as_a_judge_is(root: Path, tmp_path: Path) -> None:
    run = make_folder(
        root, "panel", says(3), PROMPTS, seed=3, primary=["ddpo", "sft"], judge={"name": "openai:m,openai:n"}
    )
    found = figures(run, label(tmp_path / "ana.csv", pairs_of(run, 80)))
    row = next(row for row in run.results.rows if (row.method, row.prompt_set) == ("sft", "near"))
    assert row.judge == found.agreement.first == "panel (majority)"
    assert rate(found, "sft").by_judge == row.preference_rate


# ---- several runs


def pooled(runs: list[Run], *files: Path) -> LabelFigures:
    (board,) = labelled_boards([run.folder for run in runs], files)
    found = labels_of(board)
    assert found is not None
    return found


def test_labels_of_one_seed_correct_that_seed_alone(runs: list[Run], tmp_path: Path) -> None:
    path = label(tmp_path / "ana.csv", pairs_of(runs[1], 80))
    found, alone = pooled(runs, path), figures(runs[1], path)
    assert found.runs == (runs[1].results.name,)
    for name in ("sft", "ddpo"):
        both, one = rate(found, name), rate(alone, name)
        assert both.model_dump(exclude={"judge_interval"}) == one.model_dump(exclude={"judge_interval"})
    assert contrast(found).corrected_interval == pytest.approx(contrast(alone).corrected_interval)


def test_seeds_are_clusters_of_a_prompt_and_their_luck_is_in_a_difference(runs: list[Run], tmp_path: Path) -> None:
    files = [label(tmp_path / f"of{seed}.csv", pairs_of(run, 80)) for seed, run in enumerate(runs)]
    found = pooled(runs, *files)
    assert found.people == ("of0", "of1") and found.between == ()
    row = rate(found, "sft")
    assert (row.labels, row.judged) == (80, 120)
    prompts = [{pair.prompt_id for pair in pairs_of(run, 80)} for run in runs]
    assert row.labelled_prompts == len(prompts[0] | prompts[1])
    said = [mean(people("sft", int(name[1:])) for name in of_run) for of_run in prompts]
    assert row.by_people == pytest.approx(mean(said))
    (board,) = labelled_boards([run.folder for run in runs], ())
    known = next(one for one in board.contrasts if one.scope == "near")
    assert contrast(found).by_judge == pytest.approx(known.difference)
    assert contrast(found).judge_interval == pytest.approx(known.interval)


def test_rows_are_called_as_on_the_common_board(runs: list[Run], root: Path, tmp_path: Path) -> None:
    """Trainings that differ are two rows of a board, and labels are of the one of their run."""
    other = make_folder(
        root, "other", says(4), PROMPTS, seed=4, primary=["ddpo", "sft"], settings={"ddpo": {"learning_rate": 3e-6}}
    )
    path = label(tmp_path / "ana.csv", pairs_of(other, 80))
    found = pooled([runs[0], other], path)
    assert {row.method for row in found.rates} == {"sft", "ddpo (learning_rate=3e-06)"}
    assert rate(found, "ddpo (learning_rate=3e-06)").corrected == pytest.approx(
        rate(figures(other, path), "ddpo").corrected
    )


def test_boards_without_labels_are_as_they_were(runs: list[Run], root: Path, tmp_path: Path) -> None:
    other = make_folder(root, "far-alone", says(0), PROMPTS, eval=[str(root / f"prompts-{PROMPTS}" / "far.jsonl")])
    path = label(tmp_path / "ana.csv", pairs_of(runs[0], 80))
    with_labels, without = labelled_boards([runs[0].folder, other.folder], [path])
    assert labels_of(with_labels) is not None
    assert without == other.results
    assert labelled_boards([runs[0].folder], ()) == [runs[0].results]


def test_a_file_is_known_again_after_a_spreadsheet(runs: list[Run], tmp_path: Path) -> None:
    path = label(tmp_path / "ana.csv", pairs_of(runs[0], 80))
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    saved = tmp_path / "saved.csv"
    out = io.StringIO()
    csv.writer(out, delimiter=";").writerows([rows[0], *sorted(rows[1:])])
    saved.write_text(out.getvalue().replace("tie", "Tie"), encoding="utf-8")
    assert figures(runs[0], saved).rates == figures(runs[0], path).rates
