"""Judgments of other tools: each format becomes verdicts, and what is wrong with a file is named by line or index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.records import Message, Prompt, Verdict, read_records, write_jsonl
from harness.judging.importers import IMPORTERS, from_alpaca_eval, from_arena_hard, from_fastchat


def alpaca(preference: Any, instruction: str = "Why?", **more: Any) -> dict[str, Any]:
    names = {"generator_1": "base", "generator_2": "model", "annotator": "gpt4_turbo"}
    return {"instruction": instruction, "output_1": "So.", "output_2": "Because.", **names} | {
        "preference": preference,
        **more,
    }


def arena(first: Any, second: Any, key: str = "q1", **more: Any) -> dict[str, Any]:
    games = [{"user_prompt": "…", "judgment": f"\nMine: [[{s}]]", "score": s} for s in (first, second)]
    return {"question_id": key, "model": "model", "judge": "gpt-4", "games": games, **more}


def arena2(*games: Any, key: str = "u1", **more: Any) -> dict[str, Any]:
    told = {"uid": key, "category": "hard_prompt", "judge": "gpt-4.1", "model": "model", "baseline": "o3-mini"}
    return {**told, "games": list(games), **more}


def game2(score: str | None) -> dict[str, Any]:
    return {"score": score, "judgment": {"answer": f"[[{score}]]"}, "prompt": [{"role": "user", "content": "?"}]}


def chat(first: str, second: str, one: str = "model", two: str = "base", **more: Any) -> dict[str, Any]:
    row = {"question_id": 81, "model_1": one, "model_2": two, "g1_winner": first, "g2_winner": second}
    said = {"g1_user_prompt": "?", "g1_judgment": "[[1]]", "g2_user_prompt": "?", "g2_judgment": "[[2]]"}
    return {**row, "judge": ["gpt-4", "pair-v2"], **said, "turn": 1, "tstamp": 1686.5, **more}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def as_list(*rows: Any, name: str = "annotations.json") -> Path:
    Path(name).write_text(json.dumps(rows), encoding="utf-8")
    return Path(name)


def as_lines(*rows: Any, name: str = "judged.jsonl") -> Path:
    Path(name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return Path(name)


def refused(kind: str, *paths: Path, reference: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        IMPORTERS[kind](paths, reference)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def told(verdicts: list[Verdict]) -> list[tuple[str, str, float | None]]:
    return [(verdict.order, verdict.status, verdict.preference) for verdict in verdicts]


# ---- AlpacaEval


@pytest.mark.parametrize(
    ("written", "status", "preference"),
    [
        (1, "ok", 0.0),
        (2.0, "ok", 1.0),
        (1.25, "ok", 0.25),
        (0, "ok", 0.5),
        (0.0, "ok", 0.5),
        (1.5, "ok", 0.5),
        (None, "failed", None),
        (float("nan"), "failed", None),
        (3, "unparsable", None),
        (-1, "unparsable", None),
        (0.5, "unparsable", None),
    ],
)
def test_an_alpaca_preference(written: Any, status: str, preference: float | None) -> None:
    assert told(from_alpaca_eval([as_list(alpaca(written))])) == [("unknown", status, preference)]


def test_output_2_is_the_candidate_s_and_lengths_are_characters() -> None:
    said = {"message": {"content": "m"}, "text": "m"}
    row = alpaca(2.0, "Où ça ? 🦙", output_1="é" * 3, output_2="🦙🦙", dataset="koala", raw_completion=said)
    (found,) = from_alpaca_eval([as_list(row)])
    assert (found.candidate, found.reference, found.judge) == ("model", "base", "gpt4_turbo")
    assert (found.candidate_characters, found.reference_characters) == (2, 3)
    assert (found.prompt_set, found.raw, found.detail) == ("alpaca-eval", "m", "preference 2.0")


def test_an_instruction_has_one_id_and_digest_in_all_files_and_a_repeat_its_number() -> None:
    one = as_list(alpaca(1, "a"), alpaca(2, "b"), alpaca(2, "a"), name="one.json")
    two = as_list(alpaca(2, "a", generator_2="other"), alpaca(1, "b"), name="two.json")
    found = from_alpaca_eval([one, two])
    a, b, again, other, b_again = (verdict.prompt_id for verdict in found)
    assert (again, other, b_again) == (a, a, b) != (b, b, a)
    assert [verdict.repeat for verdict in found] == [0, 0, 1, 0, 1]
    assert a == "ca978112ca1bbdca"  # the start of sha256 of "a": ids stay as they are
    assert found[0].prompt_digest == Prompt(id="x", messages=(Message(role="user", content="a"),)).digest
    assert found[0].prompt_digest == found[2].prompt_digest != found[1].prompt_digest


def test_alpaca_judgments_against_one_reference() -> None:
    path = as_list(alpaca(1), alpaca(2, generator_1="old"))
    assert told(from_alpaca_eval([path], "old")) == [("unknown", "ok", 1.0)]
    assert refused("alpaca-eval", path, reference="new") == (
        "no judgment against 'new'; there are those against 'base', 'old'"
    )


@pytest.mark.parametrize("name", ["instruction", "output_1", "output_2", "generator_1", "generator_2", "annotator"])
@pytest.mark.parametrize("value", [None, 3, "absent"])
def test_a_field_that_an_annotation_lacks(name: str, value: Any) -> None:
    row = alpaca(1) | {name: value}
    if value == "absent":
        del row[name]
    if value != 3 and name.startswith("output"):
        lacking, whole = from_alpaca_eval([as_list(row, alpaca(1, "b"))])
        assert (lacking.status, lacking.detail, whole.status) == ("failed", f"no {name}", "ok")
        lengths = [lacking.reference_characters, lacking.candidate_characters]
        assert lengths == ([None, 8] if name == "output_1" else [3, None])
        assert refused("alpaca-eval", as_list(row, row)) == (
            f"annotations.json[0]: '{name}' is missing, here and in all rows of its file"
        )
    else:
        assert refused("alpaca-eval", as_list(alpaca(1), row)) == f"annotations.json[1]: '{name}' is missing or no text"


@pytest.mark.parametrize("preference", ["2", True, [1]])
def test_an_alpaca_preference_that_is_none(preference: Any) -> None:
    refusal = "annotations.json[0]: 'preference' is neither a number nor null"
    assert refused("alpaca-eval", as_list(alpaca(preference))) == refusal


def test_an_annotation_without_a_preference_failed_where_others_of_its_file_have_one() -> None:
    row = alpaca(1)
    del row["preference"]
    found = from_alpaca_eval([as_list(alpaca(1, "b"), row)])
    assert [(verdict.status, verdict.detail) for verdict in found] == [
        ("ok", "preference 1"),
        ("failed", "no preference"),
    ]
    assert refused("alpaca-eval", as_list(row, row)).startswith("annotations.json[0]: 'preference' is missing, here")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[{]", "annotations.json: cannot be read as JSON"),
        ("", "annotations.json: cannot be read as JSON"),
        ('{"a": 1}', "annotations.json: expected a JSON list of annotations, found dict"),
        ("[]", "annotations.json holds no judgments"),
        ("[[]]", "annotations.json[0]: expected a JSON object, found list"),
        ('[{"instruction": "\\ud800"}]', "annotations.json[0]: half a surrogate pair"),
        ("[" * 200_000, "annotations.json: cannot be read as JSON"),
    ],
)
def test_a_file_that_holds_no_annotations(text: str, says: str) -> None:
    Path("annotations.json").write_text(text, encoding="utf-8")
    assert refused("alpaca-eval", Path("annotations.json")).startswith(says)


def test_files_that_cannot_be_read() -> None:
    Path("latin.json").write_bytes("[é]".encode("latin-1"))
    assert refused("alpaca-eval", Path("latin.json")).startswith("latin.json: cannot be read as JSON")
    assert refused("alpaca-eval", Path("no.json")).startswith("no.json: cannot be read as JSON")
    assert "is given twice" in refused("alpaca-eval", as_list(alpaca(1)), Path.cwd() / "annotations.json")


# ---- Arena-Hard


@pytest.mark.parametrize(
    ("label", "for_a"),
    [("A>>B", 1), ("A>B", 0.75), ("A=B", 0.5), ("B>A", 0.25), ("B>>A", 0), ("A<<B", 0), ("B<A", 0.75), ("B=A", 0.5)],
)
def test_the_baseline_is_a_in_the_first_game_and_b_in_the_second(label: str, for_a: float) -> None:
    found = from_arena_hard([as_lines(arena(label, label))])
    assert told(found) == [("reference_first", "ok", 1 - for_a), ("candidate_first", "ok", for_a)]
    assert {(v.prompt_id, v.prompt_set, v.candidate, v.reference, v.judge) for v in found} == {
        ("q1", "arena-hard", "model", "baseline", "gpt-4")
    }
    assert found[0].raw == f"\nMine: [[{label}]]"
    assert from_arena_hard([Path("judged.jsonl")], "gpt-4-0314")[0].reference == "gpt-4-0314"


def test_arena_hard_v2() -> None:
    path = as_lines(arena2(game2("B>>A"), game2(None)), arena2(None, game2("A>B"), key="u2", baseline="other"))
    assert told(found := from_arena_hard([path])) == [
        ("reference_first", "ok", 1.0),
        ("candidate_first", "unparsable", None),
        ("reference_first", "failed", None),
        ("candidate_first", "ok", 0.75),
    ]
    assert [(v.prompt_id, v.reference, v.prompt_set, v.raw) for v in found[::3]] == [
        ("u1", "o3-mini", "hard_prompt", "[[B>>A]]"),
        ("u2", "other", "hard_prompt", "[[A>B]]"),
    ]
    assert len(from_arena_hard([path], "other")) == 2
    assert "those against 'o3-mini', 'other'" in refused("arena-hard", path, reference="gpt-4")


def test_an_arena_row_of_one_game_was_judged_in_one_order() -> None:
    """`pairwise: False` asks with the baseline first alone."""
    row = arena("B>A", "A=B")
    one, mute = row | {"games": row["games"][:1]}, arena2(game2(None))
    assert told(from_arena_hard([as_lines(one, mute)])) == [
        ("reference_first", "ok", 0.75),
        ("reference_first", "unparsable", None),
    ]


@pytest.mark.parametrize("lost", [[], [None], [{}], ["A>B"], [3], [["A>B"]], [{"score": True}], [{"score": ["A=B"]}]])
def test_an_arena_row_without_its_second_game_has_a_failed_one(lost: list[Any]) -> None:
    found = from_arena_hard([as_lines(arena2(game2("B>A"), game2("A>B")), arena2(game2("A=B"), *lost, key="u2"))])
    assert told(found) == [
        ("reference_first", "ok", 0.75),
        ("candidate_first", "ok", 0.75),
        ("reference_first", "ok", 0.5),
        ("candidate_first", "failed", None),
    ]


@pytest.mark.parametrize("games", [{"games": None}, {"games": []}, {"games": [None]}, {"games": [None, None]}, {}])
def test_an_arena_row_without_any_game_has_as_many_failed_ones_as_others_of_its_file(games: dict[str, Any]) -> None:
    lacking = arena2(key="u2")
    del lacking["games"]
    found = from_arena_hard([as_lines(lacking | games, arena2(game2("B>A"), game2("A>B")))])
    assert [(v.order, v.status) for v in found] == [
        ("reference_first", "failed"),
        ("candidate_first", "failed"),
        ("reference_first", "ok"),
        ("candidate_first", "ok"),
    ]
    found = from_arena_hard([as_lines(lacking | {"games": []})])
    assert told(found) == [("reference_first", "failed", None)]


def test_whose_second_game_is_lacking_is_asked_by_file_model_and_judge() -> None:
    """A model that was judged in one order, in a file with others or beside one of its own, lost no game."""
    single = arena2(game2("A=B"), model="single")
    pairs = arena2(game2("A=B"), game2("A=B")), arena2(key="u2")
    one, two = as_lines(single, *pairs), as_lines(single | {"uid": "u3"}, arena2(game2("A=B"), key="u3"), name="two")
    found = from_arena_hard([one, two])
    assert [(v.candidate, v.prompt_id, v.status) for v in found] == [
        ("single", "u1", "ok"),
        ("model", "u1", "ok"),
        ("model", "u1", "ok"),
        ("model", "u2", "failed"),
        ("model", "u2", "failed"),
        ("single", "u3", "ok"),
        ("model", "u3", "ok"),
    ]


def test_a_file_in_which_no_row_has_games_is_none_of_arena_hard() -> None:
    row = arena("A=B", "A=B")
    del row["games"]
    assert refused("arena-hard", as_lines(row, row)) == (
        "judged.jsonl:1: neither this row nor any other of its file has 'games'"
    )
    assert refused("arena-hard", as_lines(arena2(None), arena2("A>B", "A>B"))) == (
        "judged.jsonl:2: neither this row nor any other of its file has a game that is an object"
    )


def test_arena_games_without_a_label() -> None:
    row, mute = arena(None, "A>>>B"), arena(None, None, "q2")
    row["games"][0]["judgment"] = "\n$ERROR$"
    mute["games"] = [{"score": None}, {"judgment": "Well."}]
    found = from_arena_hard([as_lines(row, mute)])
    assert [(v.status, v.detail) for v in found] == [
        ("failed", "no label"),
        ("unparsable", "A>>>B"),
        ("failed", "no label"),
        ("unparsable", "no label"),
    ]


def test_an_arena_row_that_is_there_twice_keeps_both_games_together() -> None:
    one, two = as_lines(arena("A=B", "A>B")), as_lines(arena("A>B", "A>B"), arena("A>B", "A>B", model="m"), name="2")
    times = [(v.candidate, v.repeat) for v in from_arena_hard([one, two])]
    assert times == [("model", 0)] * 2 + [("model", 1)] * 2 + [("m", 0)] * 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": None}, "'model' is missing or no text"),
        ({"judge": 4}, "'judge' is missing or no text"),
        ({"question_id": None}, "'question_id' is missing, or neither a text nor a whole number"),
        ({"uid": ""}, "'uid' is missing, or neither"),
        ({"baseline": None}, "'baseline' is missing or no text"),
        ({"games": {"score": "A=B"}}, "'games' is no list of two games at most"),
        ({"games": "A=B"}, "'games' is no list of two games at most"),
        ({"games": [game2("A=B")] * 3}, "'games' is no list of two games"),
        ({"games": [{"score": 7}]}, "'score' is a grade (7): an answer that was graded by itself is in no comparison"),
        ({"games": [{"score": "8.5"}]}, "'score' is a grade (8.5)"),
        ({"games": [{"score": 7}, {"score": 7}]}, "'score' is a grade (7)"),
        ({"games": [None, {"score": 7}]}, "'score' is a grade (7)"),
    ],
)
def test_an_arena_row_that_is_none(change: dict[str, Any], says: str) -> None:
    path = as_lines(arena("A=B", "A=B"), arena("A=B", "A=B") | change)
    assert refused("arena-hard", path).startswith(f"judged.jsonl:2: {says}")


# ---- FastChat


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(("winner", "preference"), [("model", 1.0), ("base", 0.0), ("tie", 0.5)])
def test_a_fastchat_winner_is_a_model_whoever_was_first(swapped: bool, winner: str, preference: float) -> None:
    one, two = ("base", "model") if swapped else ("model", "base")
    first = {one: "model_1", two: "model_2", "tie": "tie"}[winner]
    found = from_fastchat([as_lines(chat(first, "tie", one, two))], "base")
    orders = ["reference_first", "candidate_first"] if swapped else ["candidate_first", "reference_first"]
    assert told(found) == [(orders[0], "ok", preference), (orders[1], "ok", 0.5)]
    assert {(v.candidate, v.reference, v.judge, v.prompt_id, v.turn) for v in found} == {
        ("model", "base", "gpt-4", "81", 1)
    }
    assert [(v.raw, v.detail) for v in found] == [("[[1]]", f"pair-v2: {first}"), ("[[2]]", "pair-v2: tie")]


@pytest.mark.parametrize("game", ["g1", "g2"])
@pytest.mark.parametrize("winner", [None, "absent"])
def test_a_fastchat_row_without_a_game_has_a_failed_one(game: str, winner: str | None) -> None:
    row = chat("model_1", "model_1", question_id=82) | {f"{game}_winner": winner}
    if winner == "absent":
        del row[f"{game}_winner"], row[f"{game}_judgment"]
    found = from_fastchat([as_lines(chat("model_1", "model_1"), row)])
    assert told(found[:2]) == [("candidate_first", "ok", 1.0), ("reference_first", "ok", 1.0)]
    lost, kept = ("candidate_first", "reference_first") if game == "g1" else ("reference_first", "candidate_first")
    assert sorted(told(found[2:]), key=str) == sorted([(lost, "failed", None), (kept, "ok", 1.0)], key=str)
    assert [v.detail for v in found[2:] if v.status == "failed"] == ["pair-v2: no answer"]


def test_a_fastchat_file_in_which_no_row_has_a_second_game_was_judged_in_one_order() -> None:
    rows = [chat("model_1", "tie", question_id=number) for number in (81, 82)]
    for row in rows:
        del row["g2_winner"]
    one, none = as_lines(*rows), [{**row, "g1_winner": None} for row in rows]
    assert told(from_fastchat([one])) == [("candidate_first", "ok", 1.0)] * 2
    assert told(from_fastchat([as_lines(rows[0], none[1])])) == [
        ("candidate_first", "ok", 1.0),
        ("candidate_first", "failed", None),
    ]
    assert refused("fastchat", as_lines(*none)) == (
        "judged.jsonl:1: neither this row nor any other of its file has 'g1_winner' or 'g2_winner'"
    )


def test_a_fastchat_error() -> None:
    found = from_fastchat([as_lines(chat("error", "error", g2_judgment="$ERROR$"))])
    assert [(v.status, v.preference) for v in found] == [("unparsable", None), ("failed", None)]


def test_turns_and_repeats_are_of_one_prompt() -> None:
    rows = chat("tie", "tie"), chat("tie", "tie", turn=2), chat("tie", "tie"), chat("tie", "tie", one="other")
    found = from_fastchat([as_lines(*rows[:2]), as_lines(*rows[2:], name="more.jsonl")])
    assert {v.prompt_id for v in found} == {"81"}
    assert [(v.turn, v.repeat) for v in found[::2]] == [(1, 0), (2, 0), (1, 1), (1, 0)]
    assert found[-1].candidate == "other"


def test_a_fastchat_turn_that_is_not_said_is_the_first() -> None:
    absent = chat("tie", "tie", question_id=82)
    del absent["turn"]
    found = from_fastchat([as_lines(chat("tie", "tie", turn=None), absent)])
    assert [(v.prompt_id, v.turn) for v in found[::2]] == [("81", 1), ("82", 1)]


def test_rows_of_the_reference_against_itself_are_left_out_and_counted() -> None:
    notes: list[str] = []
    itself = chat("tie", "tie", "base", "base")
    path = as_lines(itself, chat("model_1", "tie"), chat("tie", "tie", "other"), chat("tie", "tie", "other", "other"))
    for reference in ("base", None):
        found = from_fastchat([path], reference, notes.append)
        assert {(v.candidate, v.reference) for v in found} == {("model", "base"), ("other", "base")}
    assert notes == ["1 row sets the reference 'base' against itself, and nothing follows from that: left out"] * 2
    from_fastchat([as_lines(itself, chat("tie", "tie"), itself)], None, notes.append)
    assert notes[-1].startswith("2 rows set the reference 'base' against itself")
    assert refused("fastchat", as_lines(itself)) == "every row sets a model against itself: 'base'"


def test_a_fastchat_judge_is_its_model_with_its_templates() -> None:
    def digests(*rows: dict[str, Any]) -> set[str]:
        return {v.judge_digest for v in from_fastchat([as_lines(*rows)])}

    math = {"judge": ["gpt-4", "pair-math-v1"], "question_id": 111}
    (plain,), (of_two,) = digests(chat("tie", "tie")), digests(chat("tie", "tie"), chat("tie", "tie", **math))
    (other,) = digests(chat("tie", "tie", judge=["gpt-4", "pair-v3"]))
    assert len({plain, of_two, other}) == 3
    assert digests(chat("tie", "tie", judge="gpt-4")) == {""}
    twice = as_lines(chat("tie", "tie"), chat("tie", "tie", judge=["gpt-4", "pair-v3"]))
    assert refused("fastchat", twice) == (
        "judged.jsonl:2: 'gpt-4' judged this question with 'pair-v2' already, and now with 'pair-v3': these are two "
        "judges; import a file of each"
    )


def test_the_baseline_is_the_model_that_all_rows_share_in_all_files() -> None:
    one = as_lines(chat("tie", "tie", "a", "base"), chat("tie", "tie", "base", "b"), name="one.jsonl")
    assert {v.reference for v in from_fastchat([one])} == {"base"}
    pair = as_lines(chat("tie", "tie", "a", "b"), name="pair.jsonl")
    assert from_fastchat([pair])[0].reference == "b"  # FastChat's own place for a baseline
    asks = "which model is the reference? Name one of 'a', 'b', 'base'"
    assert refused("fastchat", one, pair) == asks
    both = as_lines(chat("tie", "tie", "a", "b"), chat("tie", "tie", "b", "a"), name="both.jsonl")
    assert refused("fastchat", both) == "which model is the reference? Name one of 'a', 'b'"
    assert {v.candidate for v in from_fastchat([one, pair], "b")} == {"a", "base"}  # rows without it are no part
    assert refused("fastchat", pair, reference="c") == "no judgment against 'c'; there are those of 'a', 'b'"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_1": None}, "'model_1' is missing or no text"),
        ({"g2_winner": 2}, "'2' is no winner; known are model_1, model_2, tie and error"),
        ({"g1_winner": "A"}, "'A' is no winner; known are model_1, model_2, tie and error"),
        ({"judge": []}, "'judge' is missing, or neither"),
        ({"judge": [1]}, "'judge' is missing, or neither"),
        ({"question_id": True}, "'question_id' is missing, or neither"),
        ({"turn": 0}, "'turn' is no whole number from 1"),
        ({"turn": "1"}, "'turn' is no whole number from 1"),
    ],
)
def test_a_fastchat_row_that_is_none(change: dict[str, Any], says: str) -> None:
    path = as_lines(chat("tie", "tie"), chat("tie", "tie") | change)
    assert refused("fastchat", path).startswith(f"judged.jsonl:2: {says}")


@pytest.mark.parametrize("kind", ["arena-hard", "fastchat"])
def test_a_file_that_holds_no_lines_of_json(kind: str) -> None:
    Path("judged.jsonl").write_text("{}{\n")
    assert refused(kind, Path("judged.jsonl")).startswith("judged.jsonl:1: not valid JSON")
    Path("judged.jsonl").write_text("\n")
    assert refused(kind, Path("judged.jsonl")) == "judged.jsonl holds no judgments"


def test_what_was_imported_can_be_written_and_read() -> None:
    found = from_alpaca_eval([as_list(alpaca(None, "\u2028🦙", raw_completion="<b>\u2028"))])
    found += from_fastchat([as_lines(chat("error", "tie", g1_judgment="\u2028«é»"))])
    write_jsonl(Path("verdicts.jsonl"), found)
    assert read_records(Path("verdicts.jsonl"), Verdict) == found
