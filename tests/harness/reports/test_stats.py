"""Figures of verdict files: by hand, against the figures that records give, and as people read them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from scipy.stats import nct, t, ttest_1samp

from harness.core.errors import UserError
from harness.core.records import Order, Verdict, plain, write_jsonl
from harness.judging.importers import IMPORTERS
from harness.reports.stats import NAMED_AT_MOST, imported, stats_text
from harness.statistics import agreement
from harness.statistics.outcomes import from_records, outcomes, read_verdicts
from harness.statistics.rates import Rates, rates, wilson
from harness.statistics.summary import Statistics, statistics_of
from tests.harness.tabular import BOTH, verdict

Data = dict[str, Any]
Said = tuple[float | None, ...]
WIN, LOSS, FLIP, BIASED = (1.0, 0.9), (0.0, 0.1), (0.9, 0.1), (0.1, 0.9)


def judged(*said: Said, **fields: Any) -> list[Verdict]:
    """Of p0, p1, …: a preference (None failed) in both orders, or in none."""
    return [
        verdict(f"p{number}", order, preference, **fields)
        for number, both in enumerate(said)
        for order, preference in zip(BOTH if len(both) == 2 else ("none",), both, strict=True)
    ]


def figures(rows: list[Verdict], *contrasts: tuple[str, str]) -> Data:
    found = statistics_of(from_records(rows), contrasts)
    assert Statistics.model_validate_json(json.dumps(plain(found), allow_nan=False)) == found
    return plain(found)


def text_of(found: Data) -> str:
    return stats_text(Statistics.model_validate(found))


def tables(text: str) -> dict[str, list[dict[str, str]]]:
    """Title of a section → the rows of its table."""
    found = {}
    for section in text.split("## ")[1:]:
        lines = [line.strip("|") for line in section.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.split("|")] for line in lines]
        found[section.splitlines()[0]] = [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]
    return found


# ---- comparisons


def test_a_comparison_has_the_rates_and_the_flips_of_its_verdicts() -> None:
    rows = judged(WIN, WIN, LOSS, FLIP, BIASED, (0.5, 0.9), (None, 1.0))
    (row,) = figures(rows)["comparisons"]
    expected = rates(rows)
    assert (row["wins"], row["ties"], row["losses"], row["missing"], row["n"]) == (2, 3, 1, 1, 6)
    assert row["preference_rate"] == pytest.approx(1 / 6)
    assert {name: row[name] for name in Rates.model_fields} == plain(expected)
    assert row["verdicts"] == {"ok": 13, "unparsable": 0, "failed": 1, "skipped": 0}
    # one preference of exactly a half is on neither side
    assert row["flips"] == {"count": 2, "n": 6, "share": 2 / 6, "interval": list(wilson(2, 6))}
    assert row["orders"] == "both"


def test_figures_of_many_comparisons_are_those_of_each_alone() -> None:
    """Random verdicts: orders lacking, repeated or none, in any sequence, by names in no order."""
    drawn = random.Random(0)
    rows = [
        verdict(
            f"p{drawn.randrange(12)}",
            drawn.choice(get_args(Order)),
            drawn.choice([0.0, 0.3, 0.5, 0.8, 1.0, None]),
            **{name: drawn.choice("yxz") for name in ("prompt_set", "candidate", "reference", "judge")},
        )
        for _ in range(3000)
    ]
    made = figures(rows)["comparisons"]
    assert len(made) == 81
    for row in made:
        names = {name: row[name] for name in ("prompt_set", "candidate", "reference", "judge")}
        mine = [one for one in rows if all(getattr(one, name) == value for name, value in names.items())]
        flipped = agreement.flips(mine)
        assert row["flips"] == plain(flipped)
        assert row["verdicts"]["ok"] == sum(one.status == "ok" for one in mine)
        assert row["failed_verdicts"] == sum(one.status != "ok" for one in mine) == row["verdicts"]["failed"]
        alone = rates(mine)
        assert (row["wins"], row["ties"], row["losses"]) == (alone.wins, alone.ties, alone.losses)


def test_runs_are_counted_apart_but_are_no_further_prompts(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    write_jsonl(paths[0], judged(FLIP, WIN, WIN, WIN))
    write_jsonl(paths[1], judged(FLIP, WIN, WIN, FLIP))
    found = plain(statistics_of(read_verdicts(paths)))
    (row,) = found["comparisons"]
    assert row["flips"] == {"count": 3, "n": 8, "share": 3 / 8, "interval": list(wilson(2, 4))}
    assert (row["n"], row["prompts"]) == (8, 4)
    assert tables(text_of(found))["Rates"][0]["N"] == "8 (4 prompts)"


def test_the_table_of_rates() -> None:
    unread = verdict("p9", "none", None, status="unparsable")
    text = text_of(figures([*judged((1.0,), (1.0,), (0.5,), (0.0,)), unread]))
    (row,) = tables(text)["Rates"]
    assert [row[name] for name in ("prompt set", "candidate", "reference", "judge")] == ["set", "a", "teacher", "judge"]
    assert row["preference rate"].startswith("+25.0% [") and row["win rate"].startswith("50.0% [")
    assert "Brackets hold 95% intervals over prompts, which hold the checkpoints that were judged fixed" in text
    assert row["half-tie win rate"].startswith("62.5% [") and row["mean preference"].startswith("62.5% [")
    assert (row["W / T / L"], row["N"], row["missing"]) == ("2 / 1 / 1", "4", "1 (20.0%)")
    assert (row["failed verdicts"], row["orders"], row["flips"]) == ("1", "none", "")
    assert list(tables(text)) == ["Rates", "Length", "AlpacaEval"]


def test_judgments_in_one_order_are_whole_and_the_board_says_what_is_in_them() -> None:
    rows = [verdict(f"p{i}", BOTH[i % 2], preference) for i, preference in enumerate((1.0, 1.0, 0.0, 0.5))]
    found = figures(rows)
    (row,) = found["comparisons"]
    assert (row["wins"], row["ties"], row["losses"], row["missing"], row["orders"]) == (2, 1, 1, 0, "one")
    assert row["flips"]["n"] == 0 and row["flips"]["share"] is None
    assert "a preference for the first place is in these figures" in text_of(found)
    assert "a preference for the first place" not in text_of(figures(judged(WIN)))


def test_nothing_is_no_verdicts() -> None:
    assert text_of(figures([])) == "No verdicts.\n"


# ---- AlpacaEval


def as_alpaca_eval(path: Path, preferences: list[float | None], **names: str) -> list[Verdict]:
    told = {"generator_1": "base", "generator_2": "model", "annotator": "gpt4", **names}
    rows = [
        {"instruction": f"Q{i}", "output_1": "So.", "output_2": "Because.", **told, "preference": preference}
        for i, preference in enumerate(preferences)
    ]
    path.write_text(json.dumps(rows))
    return IMPORTERS["alpaca-eval"]([path], None)


def test_alpaca_eval_s_figures_of_its_own_file(tmp_path: Path) -> None:
    # 1, 0, ½, ¾ without the null and the 7: mean 9/16; squares (49 + 81 + 1 + 9) / 256 = 35/64
    rows = as_alpaca_eval(tmp_path / "annotations.json", [2, 1, 0, 1.75, None, 7])
    found = figures(rows)
    assert found["alpaca_eval"] == [
        {
            "candidate": "model",
            "reference": "base",
            "judge": "gpt4",
            "prompts": 4,
            "win_rate": pytest.approx(56.25),
            "standard_error": pytest.approx(100 * (35 / 64 / 3 / 4) ** 0.5),
            "n_wins": 2,
            "n_wins_base": 1,
            "n_draws": 1,
            "n_total": 4,
            "discrete_win_rate": 62.5,
        }
    ]
    line = (
        "- AlpacaEval's figures for model against base by gpt4: win_rate 56.25, standard_error 21.35, n_wins 2, "
        "n_wins_base 1, n_draws 1, n_total 4, discrete_win_rate 62.50"
    )
    assert line in text_of(found).splitlines()
    assert "be too small" not in text_of(found)
    (row,) = found["comparisons"]
    assert row["verdicts"] == {"ok": 4, "unparsable": 1, "failed": 1, "skipped": 0}


def test_alpaca_eval_s_figures_are_by_annotator_and_what_its_error_then_is_is_said() -> None:
    rows = [*judged((1.0, 0.0)), *judged((1.0, 1.0), judge="other"), *judged((None,), candidate="b")]
    found = figures(rows)
    first, second, third = found["alpaca_eval"]
    assert (first["candidate"], first["judge"], first["n_total"], first["prompts"], first["win_rate"]) == (
        *("a", "judge"),
        *(2, 1, 50),
    )
    assert (second["candidate"], second["judge"], second["n_total"], second["win_rate"]) == ("a", "other", 2, 100)
    assert (third["candidate"], third["n_total"], third["win_rate"]) == ("b", 0, None)
    assert "standard_error takes each for a draw of its own: it may be too small" in text_of(found)
    assert "b against teacher by judge: n_wins 0" in text_of(found)


# ---- ranks


def test_groups_take_ranks() -> None:
    rows = [
        *judged(*[WIN] * 20, candidate="best"),
        *judged(*[LOSS] * 19, WIN, candidate="weak"),
        *judged(*[LOSS] * 20, candidate="weaker"),
    ]
    found = figures(rows)
    (known,) = found["neighbours"]
    assert [(row["candidate"], row["group"], row["rank"]) for row in known["rows"]] == [
        ("best", 0, [1, 1]),
        ("weak", 1, [2, 3]),
        ("weaker", 1, [2, 3]),
    ]
    assert known["reason"] == ""
    assert [test["distinguishable"] for test in known["tests"]] == [True, False]
    alone = ttest_1samp([0.0] * 19 + [2.0], 0.0).pvalue  # one prompt of 20 differs
    assert known["tests"][1]["p"] == pytest.approx(alone) and known["tests"][1]["prompt_set"] == "set"
    ranks = [(row["rank"], row["candidate"]) for row in tables(text_of(found))["Ranks"]]
    assert ranks == [("1", "best"), ("2–3", "weak"), ("2–3", "weaker")]
    error, first = np.std([0.0] * 19 + [2.0], ddof=1) / 20**0.5, t.ppf(1 - 0.05 / 2 / 2, 19)
    size = max(test["detectable"] for test in known["tests"])
    assert nct.sf(first, 19, size / error) == pytest.approx(0.8)
    assert f"- neighbours on set against teacher by judge: told apart from {100 * size:.0f} points on (80% power)" in (
        text_of(found)
    )


def test_what_no_difference_would_tell_is_said_so() -> None:
    text = text_of(figures([*judged(WIN, LOSS), *judged(WIN, WIN, candidate="b")]))
    assert "- neighbours on set against teacher by judge: told apart at no difference (80% power)" in text


def test_a_table_with_too_much_missing_is_not_ranked() -> None:
    half = (1.0, None)
    rows = [*judged(*[WIN] * 10, candidate="all"), *judged(*[WIN] * 9, half, candidate="nine")]
    (known,) = figures(rows)["neighbours"]
    assert [row["rank"] for row in known["rows"]] == [[1, 2], [1, 2]]  # 10% is not above 10%
    rows = [*judged(*[WIN] * 10, candidate="all"), *judged(*[WIN] * 8, half, half, candidate="eight")]
    found = figures(rows)
    (known,) = found["neighbours"]
    reason = "20.0% of the prompts are missing for eight; above 10% nothing is ranked unless --rank-incomplete says so"
    assert (known["rows"], known["tests"], known["reason"]) == ([], [], reason)
    (told,) = plain(statistics_of(from_records(rows), rank_incomplete=True))["neighbours"]
    assert [row["rank"] for row in told["rows"]] == [[1, 2], [1, 2]] and not told["reason"]
    text = text_of(found)
    assert f"- not ranked on set against teacher by judge: {reason}" in text.splitlines()
    assert tables(text)["Ranks"] == []


def test_prompts_that_a_candidate_has_no_verdict_of_are_missing_too() -> None:
    (known,) = figures([*judged(*[WIN] * 10), *judged(*[LOSS] * 5, candidate="b")])["neighbours"]
    assert known["reason"].startswith("50.0% of the prompts are missing for b")


def test_candidates_are_neighbours_within_a_set_a_reference_and_a_judge() -> None:
    cells = [("a", "s", "t"), ("b", "s", "t"), ("a", "s", "u"), ("b", "r", "t")]
    rows = [row for c, s, t in cells for row in judged(WIN, candidate=c, prompt_set=s, reference=t)]
    (known,) = figures(rows)["neighbours"]
    assert (known["prompt_set"], known["reference"], known["judge"]) == ("s", "t", "judge")


# ---- contrasts


def test_declared_contrasts_by_each_judge() -> None:
    rows = [
        *judged(*[WIN] * 8, WIN, candidate="new"),
        *judged(*[LOSS] * 8, (1.0, None), candidate="old"),
        *judged(WIN, LOSS, candidate="new", judge="other"),
        *judged(WIN, WIN, candidate="old", judge="other"),
    ]
    found = figures(rows, ("new", "old"), ("old", "new"), ("new", "old"))
    first, turned, other, _ = found["contrasts"]
    names = ("prompt_set", "reference", "judge", "first", "second", "n", "left_out", "differing", "difference")
    assert [first[name] for name in names] == ["set", "teacher", "judge", "new", "old", 8, 1, 8, 2.0]
    # two tests are a family, and each judge is one
    assert first["p_holm"] == pytest.approx(2 * first["p"]) and first["distinguishable"]
    assert turned["difference"] == -2 and turned["distinguishable"]
    assert (other["judge"], other["difference"], other["distinguishable"]) == ("other", -1, False)
    assert other["p"] == pytest.approx(ttest_1samp([0.0, -2.0], 0.0).pvalue)
    text = text_of(found)
    assert "They were named after the verdicts were there" in text
    assert "Of one run: what is found is of these checkpoints." in text and "several seeds" not in text
    shown = tables(text)["Contrasts, chosen afterwards"]
    assert shown[0]["contrast"] == "new − old" and shown[0]["difference in points"].startswith("+200.0 [+")
    assert (shown[0]["p"], shown[0]["p after Holm"], shown[0]["N"], shown[0]["left out"]) == (
        f"{first['p']:.3f}",
        f"{first['p_holm']:.3f}",
        "8",
        "1",
    )
    assert [row["finding"] for row in shown] == [
        *["this checkpoint of new is better than that of old"] * 2,
        *["not told apart: no difference has 80% power here"] * 2,
    ]


def test_contrasts_of_several_files_are_of_methods_and_small_ones_are_said_to_be(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for place, path in enumerate(paths):
        new = [WIN] * 28 + [FLIP] * 2 if place else [WIN] * 29 + [LOSS]
        write_jsonl(path, [*judged(*new, candidate="new"), *judged(*[LOSS, FLIP] * 15, candidate="old")])
    found = plain(statistics_of(read_verdicts(paths), [("new", "old")], margin=1.9))
    (made,) = found["contrasts"]
    assert made["seeds"] == 2
    text = text_of(found)
    assert "Several files are several seeds: random draws, of which the test has what another one would move." in text
    assert "Of one run" not in text
    (shown,) = tables(text)["Contrasts, chosen afterwards"]
    assert shown["finding"] == "new is better" and shown["by the 90% interval"].startswith("equivalent within ±190 [+")


def shifted(rows: list[Verdict], by: int) -> list[Verdict]:
    return [row.model_copy(update={"prompt_id": f"p{int(row.prompt_id[1:]) + by}"}) for row in rows]


def in_files(tmp_path: Path, *files: list[Verdict]) -> Path:
    for place, rows in enumerate(files):
        write_jsonl(tmp_path / f"{place}.jsonl", rows)
    return tmp_path


@pytest.mark.parametrize("apart", ["prompts", "candidates"])
def test_contrasts_with_no_luck_in_their_test_are_of_checkpoints(tmp_path: Path, apart: str) -> None:
    new, old = judged(*[WIN] * 29, LOSS, candidate="new"), judged(*[LOSS, FLIP] * 15, candidate="old")
    if apart == "prompts":  # the same rows, each file on prompts of its own
        folder = in_files(tmp_path, [*new, *old], shifted([*new, *old], 100))
    else:  # two files of each, and none of both
        folder = in_files(tmp_path, new, new, old, old)
    found = plain(statistics_of(read_verdicts(sorted(folder.iterdir())), [("new", "old")]))
    (made,) = found["contrasts"]
    assert (made["seeds"], made["trained"], made["methods"]) == (2, [True, True], False)
    assert not found["neighbours"][0]["tests"][0]["methods"]
    text = text_of(found)
    assert tables(text)["Contrasts, chosen afterwards"][0]["finding"] == (
        "these checkpoints of new are better than those of old"
    )
    assert "nothing is known of what a seed moves: what is found is of these checkpoints." in text
    assert "random draws" not in text


def test_what_no_training_made_has_no_checkpoints(tmp_path: Path) -> None:
    new, start = judged(*[WIN] * 29, LOSS, candidate="new"), judged(*[LOSS, FLIP] * 15, candidate="start")
    (tmp_path / "one").mkdir()
    folders = in_files(tmp_path / "one", [*new, *start]), tmp_path / "several"
    folders[1].mkdir()
    in_files(folders[1], [*new, *start], [*new, *start])
    for folder, pair, said in (
        (folders[0], ("new", "start"), "this checkpoint of new is better than start"),
        # of one trained row its own luck is in what rows share, and that is in the test
        (folders[1], ("start", "new"), "new is better"),
    ):
        found = plain(statistics_of(read_verdicts(sorted(folder.iterdir())), [pair], untrained=["start"]))
        assert found["contrasts"][0]["trained"] == [name != "start" for name in pair]
        assert tables(text_of(found))["Contrasts, chosen afterwards"][0]["finding"] == said


def test_a_contrast_without_a_common_prompt_is_shown_and_one_of_what_is_elsewhere_is_not() -> None:
    rows = [*judged(WIN), *judged((None,), candidate="b"), *judged(WIN, candidate="c", reference="else")]
    found = figures(rows, ("a", "b"))
    (made,) = found["contrasts"]
    assert (made["reference"], made["n"], made["left_out"], made["difference"]) == ("teacher", 0, 1, None)
    assert tables(text_of(found))["Contrasts, chosen afterwards"][0]["finding"] == "no prompt was judged for both"


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (("dadpo", "sfft"), "unknown candidate 'sfft' in a contrast; did you mean 'sft'?"),
        (("teacher", "sft"), "unknown candidate 'teacher' in a contrast; known: dadpo, sft"),
        (("sft", "sft"), "a contrast of 'sft' with itself says nothing; name two candidates"),
    ],
)
def test_a_contrast_that_is_none_is_refused(pair: tuple[str, str], said: str) -> None:
    rows = [*judged(WIN, candidate="sft"), *judged(WIN, candidate="dadpo")]
    with pytest.raises(UserError) as caught:
        statistics_of(from_records(rows), [pair])
    assert str(caught.value) == said


# ---- Arena-Hard


def as_arena_hard(path: Path, *games: list[str | None]) -> list[Verdict]:
    rows = [
        {"question_id": number, "model": "model", "judge": "gpt-4", "games": [{"score": label} for label in labels]}
        for number, labels in enumerate(games)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return IMPORTERS["arena-hard"]([path], "gpt-4-0314")


def test_arena_hard_s_score_of_its_own_file(tmp_path: Path) -> None:
    """3 + 1 wins, a tie and a loss of 6; without the prompt that lacks a game a win less."""
    rows = as_arena_hard(tmp_path / "judged.jsonl", ["B>>A", "A=B"], ["A>B", "B>>A"], [None, "A>B"])
    write_jsonl(tmp_path / "verdicts.jsonl", rows)
    found = plain(statistics_of(read_verdicts([tmp_path / "verdicts.jsonl"])))
    (row,) = found["arena_hard"]
    assert (row["candidate"], row["reference"], row["games"], row["left_out"]) == ("model", "gpt-4-0314", 5, 1)
    line = "- Arena-Hard's score of model on arena-hard against gpt-4-0314 by gpt-4: "
    lines = text_of(found).splitlines()
    assert f"{line}50.00% by v0.1, 43.75% by v2 (5 games, 1 without a label)" in lines
    assert "## Arena-Hard" in lines
    whole = figures(as_arena_hard(tmp_path / "judged.jsonl", ["B>A", "B>A"], ["A=B", "A>B"]))
    assert f"{line}62.50% (4 games)" in text_of(whole).splitlines()
    single = figures(as_arena_hard(tmp_path / "judged.jsonl", ["B>A"], ["A<B"]))
    assert f"{line}100.00% (2 games)" in text_of(single).splitlines()
    turned = figures(as_arena_hard(tmp_path / "judged.jsonl", ["A<B"]))
    assert f"{line}none (1 games)" in text_of(turned).splitlines()
    assert "Arena-Hard" not in text_of(figures(judged(WIN, LOSS)))


# ---- length


def test_length_is_shown_and_equal_reasons_share_a_line() -> None:
    sizes = {"candidate_tokens": 30, "reference_tokens": 20}
    text = text_of(figures([*judged(WIN, **sizes), *judged(LOSS, candidate="b"), *judged(WIN, candidate="c")]))
    (row,) = tables(text)["Length"]
    assert (row["candidate"], row["mean length"], row["at equal length"]) == ("a", "30 against 20 tokens", "")
    lines = [line for line in text.splitlines() if "no rate at equal length" in line]
    assert lines == [
        "- no rate at equal length for a on set against teacher by judge: 1 judged prompts with known lengths; "
        "at least 100 are needed",
        "- no rate at equal length for b on set against teacher by judge, c on set against teacher by judge: "
        "no lengths are known",
    ]
    many = [row for i in range(NAMED_AT_MOST + 2) for row in judged(WIN, candidate=f"c{i}")]
    assert "no rate at equal length for any: no lengths are known" in text_of(figures(many))
    assert f"c{NAMED_AT_MOST - 1} on set against teacher by judge and 2 more:" in text_of(
        figures([*many, *judged(WIN, **sizes)])
    )


def test_a_rate_at_equal_length() -> None:
    drawn = random.Random(0)
    rows = []
    for i in range(200):
        longer = drawn.randrange(-40, 41)
        win = drawn.random() < (0.7 if longer > 0 else 0.3)
        rows.append(verdict(f"p{i}", "none", float(win), candidate_tokens=100 + longer, reference_tokens=100))
    found = figures(rows)
    (made,) = found["length"]
    assert made["reason"] == "" and made["coefficient"] > 0
    cell = tables(text_of(found))["Length"][0]["at equal length"]
    assert cell.startswith(f"{100 * made['controlled_rate']:+.1f}% [")


def test_a_candidate_alone_has_no_difficulty_and_neither_has_alpacaeval_s_figure() -> None:
    def rows(candidate: str, shift: int) -> list[Verdict]:
        drawn, found = random.Random(shift), []
        for i in range(200):
            sizes = {"candidate_tokens": 100 + drawn.randrange(-40, 41), "reference_tokens": 100}
            found.append(verdict(f"p{i}", "none", float(drawn.random() < 0.5), candidate=candidate, **sizes))
        return found

    alone, both = text_of(figures(rows("a", 1))), text_of(figures([*rows("a", 1), *rows("b", 2)]))
    assert [row["difficulty"] for row in tables(alone)["Length"]] == ["no term"]
    assert [row["difficulty"] for row in tables(both)["Length"]] == ["from the others"] * 2
    assert "no other candidate was judged on these prompts" in alone
    assert "no other candidate" not in both
    assert "is not AlpacaEval's length-controlled win rate" in alone and "is not AlpacaEval's" in both


# ---- agreement


def test_two_judges_agree_as_their_outcomes_do(tmp_path: Path) -> None:
    one = judged(WIN, WIN, LOSS, LOSS, (1.0, None))
    two = judged(WIN, LOSS, LOSS, LOSS, WIN, judge="two")
    found = figures([*one, *two, *judged(WIN, judge="three", candidate="b")])
    (pair,) = found["agreement"]  # no comparison is shared with the third judge
    assert pair == plain(agreement.agreements(outcomes(from_records([*one, *two])), ["judge", "two"])[0])
    # p_o = 3/4, p_e = 2/4 · 1/4 + 2/4 · 3/4 = 1/2
    assert (pair["first"], pair["second"], pair["n"], pair["missing"]) == ("judge", "two", 4, 1)
    assert pair["kappa"] == pytest.approx(0.5)
    assert "- judge and two: Cohen's κ 0.50 [" in text_of(found) and "over 4 outcomes, 1 missing" in text_of(found)
    # a file is a run, and a judge's file is joined with the other's all the same
    for name, rows in (("one", one), ("two", two)):
        write_jsonl(tmp_path / name, rows)
    assert plain(statistics_of(read_verdicts([tmp_path / "one", tmp_path / "two"])))["agreement"] == [pair]


def test_several_runs_are_joined_run_by_run(tmp_path: Path) -> None:
    for name, said in (("x", (WIN, LOSS)), ("y", (LOSS, WIN))):
        write_jsonl(tmp_path / name, [*judged(*said), *judged(*said, judge="two")])
    (pair,) = plain(statistics_of(read_verdicts([tmp_path / "x", tmp_path / "y"])))["agreement"]
    assert (pair["n"], pair["missing"], pair["kappa"]) == (4, 0, 1)


# ---- names, imports


def test_names_are_data() -> None:
    odd = "a|b\n# c {row} {{0}} %s"
    rows = [*judged(WIN, candidate=odd, judge=odd), *judged((None,), candidate="x\ny", judge=odd)]
    rows += judged(WIN, candidate=odd, judge="j\n- k")
    text = text_of(figures(rows, (odd, "x\ny")))
    assert "| a\\|b # c {row} {{0}} %s |" in text
    assert not any(line.startswith(("# c", "y", "- k")) for line in text.splitlines())
    assert "- not ranked on set against teacher by a|b # c {row} {{0}} %s: 100.0% of the prompts" in text


def test_what_an_import_found(tmp_path: Path) -> None:
    rows = as_alpaca_eval(tmp_path / "annotations.json", [2, 1, None, 7])
    assert imported(rows, "alpaca-eval\n").splitlines() == [
        "4 verdicts from alpaca-eval",
        "- prompts: 4",
        "- prompt sets: 1 (alpaca-eval)",
        "- candidates: 1 (model)",
        "- references: 1 (base)",
        "- judges: 1 (gpt4)",
        "- orders: one: no prompt was judged in its other order; a preference for the first place is in these figures",
        "- failed: 1",
        "- unparsable: 1",
    ]


def test_repeats_and_orders_of_an_import(tmp_path: Path) -> None:
    row = {"question_id": 81, "model_1": "m", "model_2": "base", "g1_winner": "model_1", "g2_winner": "tie"}
    told = {**row, "judge": ["gpt-4", "pair-v2"], "g1_judgment": "[[A]]", "g2_judgment": "[[C]]", "turn": 1}
    (tmp_path / "pair.jsonl").write_text("\n".join(json.dumps(told) for _ in range(3)))
    rows = IMPORTERS["fastchat"]([tmp_path / "pair.jsonl"], None)
    lines = imported(rows, "fastchat").splitlines()
    assert lines[:2] == ["6 verdicts from fastchat", "- prompts: 1"]
    assert "- orders: both" in lines
    assert lines[-2:] == [
        "- turns: 1; those of one prompt have an outcome each",
        "- repeats: 4; they count too, each time as a sample of its prompt",
    ]
    (row_,) = figures(rows)["comparisons"]
    assert (row_["ties"], row_["n"], row_["orders"]) == (3, 3, "both")  # a tie in one order is no win
    assert row_["prompts"] == 1


def test_an_id_that_ends_with_a_number_is_no_repeat_where_nothing_is_repeated() -> None:
    text = imported([verdict("issue#2", BOTH[0]), verdict("issue#3", BOTH[0])], "files")
    assert "- prompts: 2" in text and "repeats" not in text
    assert "- orders: one: no prompt was judged in its other order" in text


# ---- who judged, and what


def test_two_judges_of_one_name_have_rows_and_agreement_of_their_own() -> None:
    rows = [*judged(WIN, WIN, judge_digest="a" * 16), *judged(LOSS, WIN, judge_digest="b" * 16)]
    found = figures(rows)
    told = {row["judge"]: (row["n"], row["preference_rate"]) for row in found["comparisons"]}
    assert told == {"judge (aaaaaa)": (2, 1.0), "judge (bbbbbb)": (2, 0.0)}
    (pair,) = found["agreement"]
    assert (pair["first"], pair["second"], pair["n"]) == ("judge (aaaaaa)", "judge (bbbbbb)", 2)


def test_repeats_leave_every_interval_as_it_is() -> None:
    said = [WIN] * 12 + [LOSS] * 20 + [FLIP] * 8
    (once,) = figures(judged(*said))["comparisons"]
    four = [row for time in range(4) for row in judged(*said, repeat=time)]
    (found,) = figures(four)["comparisons"]
    assert (found["n"], found["prompts"], found["preference_rate"]) == (160, 40, once["preference_rate"])
    for name in ("win_interval", "preference_interval", "mean_preference_interval"):
        width, other = (row[name][1] - row[name][0] for row in (once, found))
        assert width == pytest.approx(other, rel=0.05)
    assert found["flips"]["n"] == 160


def test_two_turns_of_a_prompt_are_one_draw() -> None:
    said = [WIN] * 15 + [LOSS] * 15
    (one,) = figures(judged(*said, turn=1))["comparisons"]
    (found,) = figures([*judged(*said, turn=1), *judged(*said, turn=2)])["comparisons"]
    assert (found["n"], found["prompts"]) == (60, 30)
    width, other = (row["preference_interval"][1] - row["preference_interval"][0] for row in (one, found))
    assert width == pytest.approx(other, rel=0.05)


def test_judges_in_a_file_each_agree_turn_by_turn_and_time_by_time(tmp_path: Path) -> None:
    for name in ("one", "other"):
        rows = [v for turn in (1, 2) for time in (0, 1) for v in judged(WIN, LOSS, judge=name, turn=turn, repeat=time)]
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    found = plain(statistics_of(read_verdicts([tmp_path / "one.jsonl", tmp_path / "other.jsonl"])))
    (pair,) = found["agreement"]
    assert (pair["n"], pair["missing"], pair["kappa"]) == (8, 0, 1.0)
