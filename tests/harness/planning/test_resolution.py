"""What `plan` says that a run can tell, and from what it knows that."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from io import StringIO
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from harness.cli.run import run
from harness.config import study_of
from harness.core.records import write_jsonl
from harness.planning import spread
from harness.planning.resolution import boards_of, measures_table, printed, scopes
from harness.planning.spread import ASSUMED, EARLIER, HERE, Spreads
from harness.results.reading import read_results
from harness.results.schema import Results
from harness.run.jobs import VERDICTS
from harness.run.road import Road, build_roads
from harness.run.rows import UNTRAINED
from harness.statistics.power import told, told_of_methods
from harness.store import Store
from tests.harness.runs_made import judged
from tests.harness.tiny_runs import request, road_of

NEAR, FAR = "near", "far"


@dataclasses.dataclass(frozen=True)
class Done:
    root: Path
    checkpoints: dict[str, Path]

    def asked(self, *contrasts: tuple[str, str], **others: Any) -> Any:
        prompts = {"train": ["Say one.", "Say two."], NEAR: list("abcdef"), FAR: list("ghijk")}
        where = f"in:{self.root / 'near.jsonl'},{self.root / 'far.jsonl'}"
        given = {
            "prompts": prompts,
            "eval": where,
            "measures": "distinct_1,nll",
            "judge": "embedding",
            "methods": "sft,kd,ddpo",
            **others,
        }
        found = request(self.root, self.checkpoints, **given)
        return dataclasses.replace(found, set=[*found.set, RATE, f"contrasts={json.dumps([*map(list, contrasts)])}"])

    def road(self, *contrasts: tuple[str, str], **others: Any) -> tuple[Road, Spreads]:
        road, store = road_of(self.asked(*contrasts, **others))
        return road, Spreads(road, store)


PAIR = ("ddpo", "sft")
RATE = "training.learning_rate=0.02"  # so that rows differ


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Done:
    found = Done(tmp_path_factory.mktemp("planned"), checkpoints)
    run(found.asked(PAIR), out=found.root / "out")
    return found


@pytest.fixture
def results(done: Done) -> Results:
    return read_results(done.root / "out")


# ---- what a run says of itself afterwards


def test_a_run_that_is_there_is_planned_as_its_board_has_it(done: Done, results: Results) -> None:
    road, spreads = done.road(PAIR)
    planned = {scope.name: scope for scope in scopes(road, spreads)}
    assert {name: scope.known.whose for name, scope in planned.items()} == {NEAR: HERE, FAR: HERE}
    for found in results.contrasts:
        scope = planned[found.scope]
        assert scope.tests == 2  # on two sets, and none of them primary
        assert told(scope.known.spread.at(1), scope.prompts, tests=2) == pytest.approx(found.detectable, rel=1e-9)
        assert found.error is not None
        assert scope.known.spread.at(1) == pytest.approx(found.error * sqrt(found.n), rel=1e-9)


def test_so_are_its_measures(done: Done, results: Results) -> None:
    road, spreads = done.road(PAIR)
    known = {evaluation.name: spreads.measured(evaluation) for evaluation in road.evaluations}
    seen = 0
    for found in results.measure_contrasts:
        if found.differing:
            prompts = len(next(one for one in road.evaluations if one.name == found.scope).prompt_set.prompts)
            # two sets: a family of two
            assert told(known[found.scope][found.measure].at(1), prompts, tests=2) == pytest.approx(found.detectable)
            seen += 1
    assert seen >= 2


def test_families_are_those_of_the_board(done: Done) -> None:
    """By the declared contrasts, whether or not any was judged."""
    pairs = [PAIR, ("kd", "sft"), ("ddpo", "kd"), ("ddpo", UNTRAINED)]
    road, spreads = done.road(*pairs, primary="ddpo:sft")
    assert [(one.name, one.tests) for one in scopes(road, spreads)] == [(NEAR, 5), (FAR, 5)]
    both = f"in:{done.root / 'near.jsonl'},in:{done.root / 'far.jsonl'}"
    road, spreads = done.road(*pairs, primary="ddpo:sft", eval=both)
    assert [(one.name, one.prompts, one.tests) for one in scopes(road, spreads)] == [
        (NEAR, 6, 6),
        (FAR, 5, 6),
        ("in-domain", 11, 2),
    ]


def test_a_primary_contrast_with_an_anchor_is_none_of_the_methods(done: Done) -> None:
    """Theirs is as large as without it, as on the board (results/figures.py)."""
    road, spreads = done.road(PAIR, ("kd", "sft"), primary=f"ddpo:{UNTRAINED}")
    assert road.config.primary == ("ddpo", UNTRAINED)
    assert [(one.name, one.tests) for one in scopes(road, spreads)] == [(NEAR, 4), (FAR, 4)]


# ---- what is known beforehand


@pytest.mark.parametrize(("judge", "sd"), [("typicality", 0.55), ("openai:m", 0.9), ("typicality,openai:m", 0.9)])
def test_without_anything_judged_it_is_assumed(
    tmp_path: Path, checkpoints: dict[str, Path], judge: str, sd: float
) -> None:
    road, spreads = Done(tmp_path, checkpoints).road(PAIR, judge=judge)
    known = scopes(road, spreads)[0].known
    assert (known.whose, known.spread.at(1)) == (ASSUMED, pytest.approx(sd))
    assert measures_table(road, spreads) is None


def test_what_is_assumed_of_a_judge_that_reads_is_near_parity() -> None:
    """.30 wins and .30 losses of each row, whose values correlate by .325."""
    assert sqrt(2 * (0.3 + 0.3) * (1 - 0.325)) == pytest.approx(spread.OF_A_JUDGE)


def test_earlier_judgings_of_the_judge_are_believed(done: Done) -> None:
    """Of another seed: none of its own judgings is there."""
    here, _ = done.road(PAIR)
    road, spreads = done.road(PAIR, seed=5)
    found = {scope.name: scope.known for scope in scopes(road, spreads)}
    assert {name: known.whose for name, known in found.items()} == {NEAR: EARLIER, FAR: EARLIER}
    # the same contrast, on these prompts
    own = Spreads(here, spreads.store)
    for evaluation in here.evaluations:
        known = own.judged(evaluation, here.judges[0][0])
        assert found[evaluation.name].spread.variance == pytest.approx(known.spread.variance)
    assert set(spreads.measured(road.evaluations[0])) == set(own.measured(here.evaluations[0]))


def test_where_no_earlier_run_had_the_rows_others_are_compared_each_with_each(done: Done) -> None:
    here, own = done.road(PAIR)
    road, spreads = done.road(("dadpo", "sft"), seed=5, methods="sft,dadpo")
    known = spreads.judged(road.evaluations[0], road.judges[0][0])
    own.pairs = [("sft", "kd"), ("sft", "ddpo"), ("kd", "ddpo")]
    assert known.whose == EARLIER
    assert known.spread == own.judged(here.evaluations[0], here.judges[0][0]).spread


def test_of_two_rows_that_are_one_model_nothing_is_learnt(store: Store) -> None:
    for name in "ab":
        with store.making(f"judge/{name * 32}") as work:
            write_jsonl(work / VERDICTS, judged(name, [(1.0, 1.0), (0.0, 0.0)]))
            store.commit(f"judge/{name * 32}", work, {}, {}, 0.0)
    assert spread._of_verdicts(store, {name: f"judge/{name * 32}" for name in "ab"}, [("a", "b")]) is None


def test_judgings_of_other_prompts_are_believed_where_there_are_no_others(done: Done) -> None:
    prompts = {"train": ["Say one.", "Say two."], NEAR: ["Why?", "Who?"], FAR: ["When?"]}
    shutil.copytree(done.root / "store", done.root.parent / "other" / "store", dirs_exist_ok=True)
    road, spreads = Done(done.root.parent / "other", done.checkpoints).road(PAIR, prompts=prompts)
    assert {scope.known.whose for scope in scopes(road, spreads)} == {EARLIER}


def test_what_was_found_once_is_not_read_again(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    road, spreads = done.road(PAIR)
    found, table = scopes(road, spreads), measures_table(road, spreads)
    monkeypatch.setattr(spread, "read_records", None)
    assert scopes(road, spreads) == found
    assert measures_table(road, spreads) is not None
    assert table is not None


def test_a_damaged_judging_says_nothing(done: Done, tmp_path: Path) -> None:
    root = Path(shutil.copytree(done.root, tmp_path / "copy"))
    for file in (root / "store" / "judge").rglob(VERDICTS):
        file.write_text("")
    shutil.rmtree(root / "store" / "kept" / "spreads", ignore_errors=True)
    road, spreads = Done(root, done.checkpoints).road(PAIR)
    assert {scope.known.whose for scope in scopes(road, spreads)} == {ASSUMED}


def test_several_responses_a_prompt_say_what_is_within_one(store: Store) -> None:
    """Two rows, twelve prompts, two responses each; a value is −1, 0 or 1."""
    values = np.random.default_rng(4).choice([-1.0, 0.0, 1.0], (2, 12, 2), p=[0.3, 0.4, 0.3])
    rows = {name: f"judge/{name * 32}" for name in "ab"}
    for (name, ref), of_row in zip(rows.items(), values, strict=True):
        verdicts = [
            verdict.model_copy(update={"sample": sample})
            for prompt, both in enumerate((of_row + 1) / 2)
            for sample, preference in enumerate(both.tolist())
            for verdict in judged(name, [(preference, preference)], first=prompt)
        ]
        with store.making(ref) as work:
            write_jsonl(work / VERDICTS, verdicts)
            store.commit(ref, work, {}, {}, 0.0)
    within = values.var(axis=2, ddof=1).mean(axis=1)  # of each row
    apart = values[0].mean(axis=1) - values[1].mean(axis=1)
    variance = apart.var(ddof=1) + within.sum() * (1 - 1 / 2)
    assert spread._of_verdicts(store, rows, [("a", "b")]) == pytest.approx([variance, within.sum()])


# ---- what is printed


def text(road: Road, store: Store) -> str:
    return printed_text([road], store)


def test_plan_prints_what_a_run_can_tell(done: Done, results: Results) -> None:
    road, spreads = done.road(PAIR, primary="ddpo:sft")
    said = " ".join(text(road, spreads.store).split())
    known = scopes(road, spreads)[0]
    alone = told(known.known.spread.at(1), 6)
    assert alone is not None
    assert f"{100 * alone:.1f}" in said
    for part in (
        "points of preference rate, 80% power, two-sided 5%",
        "methods with 1, 3, 5 seeds is at least 7.9, 4.6, 3.5 where its SD is 2 points; 19.8, 11.4, 8.9 where",
        "primary, corrected for no other: ddpo − sft on near",
        "nll (nats a token)",
        "distinct_1 (points)",
    ):
        assert part in said


def test_where_nothing_is_known_plan_says_so(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    road, spreads = Done(tmp_path, checkpoints).road(PAIR, judge="openai:m", samples=4)
    said = " ".join(text(road, spreads.store).split())
    assert "assumed where this judge has not judged before" in said
    assert "measures: what they can tell is not known before something like it has been measured" in said
    assert "4 responses a prompt: what of the SD is within a prompt is not known" in said


def test_a_set_of_one_prompt_tells_nothing(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    prompts = {"train": ["Say one.", "Say two."], NEAR: ["Why?"], FAR: ["When?"]}
    road, spreads = Done(tmp_path, checkpoints).road(PAIR, prompts=prompts)
    assert "│ near" in text(road, spreads.store)
    assert "│     – │" in text(road, spreads.store)


# ---- of a study


BETA = "settings.ddpo.beta=0.1,0.5"


def roads(done: Done, *contrasts: tuple[str, str], **others: Any) -> tuple[list[Road], Store]:
    _, layers = done.asked(*contrasts, **others).layers()
    study = study_of(layers)
    store = Store(done.root / "store")
    return build_roads(study, store, download=False), store


def test_settings_are_rows_of_the_common_board_and_seeds_are_not(done: Done) -> None:
    """ddpo at two settings against sft, and kd, which no setting moves, against it: three contrasts a set, not one
    a run."""
    found, store = roads(done, PAIR, ("kd", "sft"), seeds="0,1,2", grid=[BETA])
    (board,) = boards_of(found)
    assert (len(found), board.seeds, board.rows, board.contrasts) == (6, 3, 4, 3)
    assert {scope.tests for scope in scopes(board.road, Spreads(board.road, store), board)} == {3 * 2}
    said = " ".join(printed_text(found, store).split())
    assert "3 seeds, luck 2: what is told of methods, alone / with Holm" in said
    assert "(of 6)" in said and "seeds for 10 / 5" not in said
    alone = told_of_methods(scopes(board.road, Spreads(board.road, store), board)[0].known.spread.at(1), 6, 3, 0.02, 4)
    assert alone is not None and f"{100 * alone:.1f} /" in said


def test_a_primary_contrast_of_each_setting_is_none_of_the_study(done: Done) -> None:
    found, store = roads(done, PAIR, ("kd", "sft"), grid=[BETA], primary="ddpo:sft")
    (board,) = boards_of(found)
    assert (board.primary, board.each_its_own, board.contrasts) == (None, True, 3)
    assert "primary: none, as runs of the study name several" in " ".join(printed_text(found, store).split())
    found, _ = roads(done, PAIR, ("kd", "sft"), grid=[BETA], primary="kd:sft")
    (board,) = boards_of(found)
    assert (board.primary, board.primary_at) == (("kd", "sft"), "")
    assert {scope.tests for scope in scopes(board.road, Spreads(board.road, store), board)} == {2 * 3 - 1}


def test_what_shares_no_table_is_planned_as_boards_of_their_own(done: Done) -> None:
    found, store = roads(done, PAIR, seeds="0,1", grid=["eval_sampling.temperature=0.7,1"])
    boards = boards_of(found)
    assert [(board.seeds, board.contrasts) for board in boards] == [(2, 1), (2, 1)]
    assert "on the board of eval_sampling.temperature=0.7:" in printed_text(found, store)


def printed_text(roads: Sequence[Road], store: Store) -> str:
    console = Console(file=StringIO(), width=120)
    for part in printed(roads, store):
        console.print(part, markup=False, highlight=False)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]
