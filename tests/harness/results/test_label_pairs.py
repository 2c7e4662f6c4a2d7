"""Pairs for people: drawn with known chances, written blind, and known again."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path

import pytest

from harness.core.errors import UserError
from harness.core.records import Message, Prompt, RunPrompt, RunResponse
from harness.results.label_pairs import (
    COLUMNS,
    Pair,
    RunPairs,
    as_csv,
    as_rows,
    guarded,
    labels_of_runs,
    read_labels,
    shown,
)

ROWS, SETS = ("dadpo", "ddpo"), {"near": 60, "far": 20}


def responses(seed: int = 0, samples: int = 1) -> list[RunResponse]:
    return [
        RunResponse(
            prompt_set=prompt_set,
            prompt_id=f"p{number}",
            system=system,
            text=f"{system} on {prompt_set} {number} {sample} {seed}",
            tokens=4,
            finish="stop",
            sample=sample,
        )
        for prompt_set, count in SETS.items()
        for number in range(count)
        for system in ("teacher", *ROWS, "sft")
        for sample in range(samples)
    ]


def everything(run: RunPairs) -> set[tuple[str, str, int, str]]:
    return {(*place, name) for place, by_row in run.pairs.items() for name in by_row}


def drawn(prompts: int, seed: int = 0, sets: tuple[str, ...] = ("near", "far")) -> list[Pair]:
    run = RunPairs.of(responses(seed))
    return run.drawn(ROWS, sets, prompts, everything(run))


# ---- the draw


def test_every_row_is_drawn_on_the_same_prompts() -> None:
    pairs = drawn(20)
    assert len(pairs) == 40
    by_row = {name: {(pair.prompt_set, pair.prompt_id) for pair in pairs if pair.candidate == name} for name in ROWS}
    assert by_row["dadpo"] == by_row["ddpo"]
    assert len(by_row["dadpo"]) == 20


def test_sets_share_the_prompts_by_their_sizes() -> None:
    assert Counter(pair.prompt_set for pair in drawn(20)) == {"near": 30, "far": 10}
    assert Counter(pair.prompt_set for pair in drawn(21))["far"] in (10, 12)
    assert Counter(pair.prompt_set for pair in drawn(5000)) == {"near": 120, "far": 40}
    assert {pair.prompt_set for pair in drawn(5, sets=("far",))} == {"far"}


def test_every_prompt_is_as_likely_to_be_drawn() -> None:
    """Over runs of 200 seeds, whose keys differ: 15 of 60 prompts, each 50 ± 4 √(200 · ¼ · ¾) times."""
    counts = Counter(
        pair.prompt_id for seed in range(200) for pair in drawn(15, seed, ("near",)) if pair.candidate == "dadpo"
    )
    assert len(counts) == 60
    assert all(abs(count - 50) < 4 * (200 * 0.25 * 0.75) ** 0.5 for count in counts.values())


def test_more_are_the_same_and_others() -> None:
    assert drawn(20) == drawn(20)
    assert {pair.name for pair in drawn(20)} < {pair.name for pair in drawn(40)}


def test_what_the_judge_has_no_outcome_of_is_not_drawn() -> None:
    run = RunPairs.of(responses())
    judged = everything(run) - {("near", "p7", 0, "ddpo")}
    pairs = run.drawn(ROWS, ["near"], 5000, judged)
    assert len(pairs) == 118
    assert "p7" not in {pair.prompt_id for pair in pairs}


def test_of_several_samples_of_a_prompt_one_is_drawn() -> None:
    run = RunPairs.of(responses(samples=3))
    pairs = run.drawn(ROWS, ["near"], 60, everything(run))
    assert len(pairs) == 120
    by_prompt = {pair.prompt_id: pair.sample for pair in pairs}
    assert all(by_prompt[pair.prompt_id] == pair.sample for pair in pairs)
    assert set(by_prompt.values()) == {0, 1, 2}


# ---- blindness


def test_sides_are_by_chance() -> None:
    first = [pair.candidate_first for seed in range(10) for pair in drawn(80, seed)]
    assert abs(sum(first) - 800) < 4 * 20
    pair = next(pair for pair in drawn(20) if pair.candidate_first)
    assert (pair.a.split()[0], pair.b.split()[0]) == (pair.candidate, "teacher")


def test_a_name_says_nothing_without_the_run() -> None:
    """The same texts in a run whose other responses differ have other names, and may stand the other way round."""
    mine = RunPairs.of(responses())
    other = RunPairs.of(
        [row.model_copy(update={"text": "So."}) if row.prompt_id == "p59" else row for row in responses()]
    )
    one, two = (
        {pair.prompt_id: pair for pair in run.drawn(ROWS[:1], ["near"], 60, everything(run))} for run in (mine, other)
    )
    same = [name for name in one if {one[name].a, one[name].b} == {two[name].a, two[name].b}]
    assert len(same) == 59
    assert not {one[name].name for name in same} & {two[name].name for name in same}
    turned = sum(one[name].candidate_first != two[name].candidate_first for name in same)
    assert 15 < turned < 45


def test_names_are_letters_that_no_spreadsheet_takes_for_something_else() -> None:
    names = [pair.name for pair in drawn(80)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[bcdfghjklmnpqrstvwxz]{12}", name) for name in names)


def test_pairs_of_one_prompt_stand_apart() -> None:
    """Each half of the file has every prompt once, with as good as as many of either row."""
    pairs = drawn(40)
    for half in (pairs[:40], pairs[40:]):
        assert len({(pair.prompt_set, pair.prompt_id) for pair in half}) == 40
        assert 8 < sum(pair.candidate == "dadpo" for pair in half) < 32


# ---- the file


def prompts() -> list[RunPrompt]:
    return [
        RunPrompt(prompt_set=name, id=f"p{number}", messages=(Message(role="user", content=f"{name} {number}?"),))
        for name, count in SETS.items()
        for number in range(count)
    ]


def test_the_file_shows_texts_and_no_names() -> None:
    rows = as_rows(drawn(20), prompts())
    text = as_csv(rows)
    found = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    assert found == rows
    assert list(found[0]) == list(COLUMNS)
    assert {row["label"] for row in found} == {""}


def test_a_prompt_of_several_messages_is_shown_with_heads() -> None:
    told = (Message(role="system", content="Be brief."), Message(role="user", content="Why?"))
    prompt = Prompt(id="p", messages=told, answer="So.")
    assert shown(prompt) == "### System:\nBe brief.\n\n### User:\nWhy?\n\n### A right answer:\nSo."
    assert shown(Prompt(id="p", messages=told[1:])) == "Why?"


def test_identical_responses_are_a_tie_that_nobody_is_asked_about() -> None:
    same = [row.model_copy(update={"text": "Same."}) for row in responses()]
    run = RunPairs.of(same)
    rows = as_rows(run.drawn(ROWS, ["far"], 3, everything(run)), prompts())
    assert [row["label"] for row in rows] == ["tie"] * 6


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert guarded(text) == f"'{text}"
    assert guarded(f"a{text}") == f"a{text}"


def write(path: Path, *rows: str, head: str = "pair,prompt,response_a,response_b,label") -> Path:
    path.write_text("\r\n".join([head, *rows]) + "\r\n", encoding="utf-8-sig")
    return path


def test_labels_are_read_as_spreadsheets_save_them(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    expected = {"bcd": "a", "fgh": "tie", "jkl": "", "mnp": "b"}
    write(path, 'bcd,"p,""q""","x\ny",z,A', "fgh,p,x,z, TIE ", "jkl,p,x,z,", ",,,,", "mnp,p,x,z,b", "mnp,p,x,z,b")
    assert read_labels(path) == expected
    write(
        path, "bcd;p;x;z;A", "fgh;p;x;z;tie", "jkl;p;x;z", "mnp;p;x;z;b", head="pair;prompt;response_a;response_b;label"
    )
    assert read_labels(path) == expected
    path.write_bytes("label\tpair\na\tbcd\ntie\tfgh\n\tjkl\nb\tmnp\tä\n".encode("cp1252"))
    assert read_labels(path) == expected
    write(path, f"bcd,{'p' * 200_000},x,z,a")
    assert read_labels(path) == {"bcd": "a"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["bcd,p,x,z,a", "fgh,p,x,z,c"], "row 3: 'c' is no label; write a, b or tie"),
        (["bcd,p,x,z,a", "bcd,p,x,z,b"], "row 3: the pair bcd is labelled a above, and b here"),
        (["bcd,p,x,z,", "fgh,p,x,z,"], "nothing is labelled in it yet"),
        ([], "no pair in it"),
    ],
)
def test_what_is_no_file_of_labels_is_refused(tmp_path: Path, rows: list[str], said: str) -> None:
    path = write(tmp_path / "l.csv", *rows)
    with pytest.raises(UserError) as error:
        read_labels(path)
    assert str(error.value) == f"{path}: {said}"


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", "1,2", head="x,label")
    with pytest.raises(UserError, match=r"no column 'pair'; labels are a file that `python -m harness label` wrote"):
        read_labels(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_labels(tmp_path / "none.csv")
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    with pytest.raises(UserError, match="no pair in it"):
        read_labels(empty)


# ---- known again


def labelled(path: Path, pairs: list[Pair], label: str = "a") -> Path:
    return write(path, *(f"{pair.name},,,,{label}" for pair in pairs))


def test_labels_are_for_the_side_that_the_candidate_is_on(tmp_path: Path) -> None:
    pairs = drawn(20)
    people, said = labels_of_runs([labelled(tmp_path / "ana.csv", pairs)], {"mine": RunPairs.of(responses())})
    assert people == ["ana"]
    found = {(v.prompt_set, v.prompt_id, v.candidate): v for v in said["mine"]}
    assert len(found) == 40
    for pair in pairs:
        verdict = found[pair.prompt_set, pair.prompt_id, pair.candidate]
        assert verdict.preference == (1.0 if pair.candidate_first else 0.0)
        assert (verdict.judge, verdict.reference) == ("ana", "teacher")
    _, said = labels_of_runs([labelled(tmp_path / "ana.csv", pairs, "tie")], {"mine": RunPairs.of(responses())})
    assert {verdict.preference for verdict in said["mine"]} == {0.5}


def test_labels_find_their_run(tmp_path: Path) -> None:
    files = [labelled(tmp_path / f"l{seed}.csv", drawn(5, seed)) for seed in (0, 1)]
    _, said = labels_of_runs(files, {"one": RunPairs.of(responses(0)), "two": RunPairs.of(responses(1))})
    assert {run: {verdict.judge for verdict in found} for run, found in said.items()} == {"one": {"l0"}, "two": {"l1"}}


def test_another_row_in_the_run_changes_no_name(tmp_path: Path) -> None:
    more = [*responses(), *(row.model_copy(update={"system": "kd"}) for row in responses() if row.system == "sft")]
    assert {pair.name for pair in drawn(20)} <= RunPairs.of(more).by_name.keys()


def test_labels_of_another_run_are_refused(tmp_path: Path) -> None:
    mine = {"mine": RunPairs.of(responses())}
    path = labelled(tmp_path / "l.csv", drawn(5, seed=1))
    with pytest.raises(UserError, match="labels of another run: none of its pairs is of mine"):
        labels_of_runs([path], mine)
    path = labelled(tmp_path / "l.csv", [*drawn(5), drawn(5, seed=1)[0]])
    with pytest.raises(UserError, match=f"not all of its pairs are of mine: {drawn(5, seed=1)[0].name}"):
        labels_of_runs([path], mine)


def test_one_file_twice_is_refused_and_two_of_a_name_are_two_people(tmp_path: Path) -> None:
    path = labelled(tmp_path / "l.csv", drawn(5))
    with pytest.raises(UserError, match="names one file twice"):
        labels_of_runs([path, tmp_path / "." / "l.csv"], {"mine": RunPairs.of(responses())})
    (tmp_path / "more").mkdir()
    other = labelled(tmp_path / "more" / "l.csv", drawn(5))
    people, _ = labels_of_runs([path, other], {"mine": RunPairs.of(responses())})
    assert people == [str(path), str(other)]
