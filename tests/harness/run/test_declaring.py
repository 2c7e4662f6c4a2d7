"""When a contrast was declared: what a board says of it, whatever is run afterwards."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.cli.run import plan, run
from harness.core.errors import UserError
from harness.reports.board import board_markdown
from harness.results.pooling import boards
from harness.results.reading import read_results
from harness.results.schema import Results, StampFacts
from harness.results.verify import verify
from harness.run import declaring, launch
from harness.run.declaring import DECLARED, began_of, contrasted, declare, moment, stamp_of
from harness.run.jobs import VERDICTS
from harness.store import MANIFEST, Store
from tests.harness.making import quiet
from tests.harness.runs_made import rewrite
from tests.harness.tiny_runs import request, road_of

START = "student (untrained)"
DDPO_SFT, SFT_START, DDPO_START = ("ddpo", "sft"), ("sft", START), ("ddpo", START)
NEAR, FAR, POOL = "near", "far", "in-domain"
YES = {NEAR: True, FAR: True, POOL: True}
NO = dict.fromkeys(YES, False)


@dataclasses.dataclass(frozen=True)
class Runs:
    """Runs of two tiny models on one store, on two in-domain sets; one measure is taken."""

    root: Path
    checkpoints: dict[str, Path]

    def asked(self, *contrasts: tuple[str, str], sets: Sequence[str] = (NEAR, FAR), **others: Any) -> Any:
        prompts = {"train": ["Say one.", "Say two."], NEAR: ["Sing!", "What is rain?"], FAR: ["Why?", "When?"]}
        where = ",".join(f"in:{self.root / name}.jsonl" for name in sets)
        found = request(self.root, self.checkpoints, prompts=prompts, eval=where, **{"measures": "cut", **others})
        pairs = json.dumps([*map(list, contrasts or (DDPO_SFT,))])
        return dataclasses.replace(found, set=[*found.set, f"contrasts={pairs}"])

    def run(self, *contrasts: tuple[str, str], out: str = "out", refresh: bool = False, **others: Any) -> Results:
        run(self.asked(*contrasts, **others), out=self.root / out, refresh=refresh)
        return read_results(self.root / out)

    @property
    def store(self) -> Store:
        return Store(self.root / "store")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Runs:
    """A run of which one contrast was declared, as the primary one and with a margin."""
    runs = Runs(tmp_path_factory.mktemp("declared"), checkpoints)
    runs.run(primary="ddpo:sft", margin=5.0)
    return runs


@pytest.fixture
def runs(done: Runs, tmp_path: Path) -> Runs:
    """A copy of its store and its folder, to go on from."""
    return Runs(Path(shutil.copytree(done.root, tmp_path / "copy")), done.checkpoints)


def declared(results: Results) -> dict[tuple[str, str], dict[str, bool]]:
    """By contrast and scope, of the judge's; those of measures say the same."""
    found: dict[tuple[str, str], dict[str, bool]] = {}
    for one in results.contrasts:
        found.setdefault((one.first, one.second), {})[one.scope] = one.declared
    assert all(found[one.first, one.second][one.scope] == one.declared for one in results.measure_contrasts)
    return found


# ---- what is declared


def test_a_contrast_of_a_first_run_was_declared_before_it(done: Runs) -> None:
    results = read_results(done.root / "out")
    assert declared(results) == {DDPO_SFT: YES}
    assert all(one.margin_declared for one in results.contrasts)
    said = {(one.run, one.prompt_set, one.primary, one.margin) for one in results.stamps}
    assert said == {(results.name, NEAR, True, 0.05), (results.name, FAR, True, 0.05)}
    assert len({one.family for one in results.stamps}) == 1
    stages = json.loads((done.root / "out" / MANIFEST).read_text())["stages"]
    first = min(moment(stage["created"]) - timedelta(seconds=stage["seconds"]) for stage in stages)  # type: ignore[operator]
    assert all(moment(one.time) < first for one in results.stamps)  # type: ignore[operator]
    assert verify(done.root / "out", done.store, board_markdown, quiet).wrong == []


def test_a_run_that_is_run_again_keeps_its_stamps(runs: Runs) -> None:
    stamps = read_results(runs.root / "out").stamps
    assert runs.run(primary="ddpo:sft", margin=5.0).stamps == stamps
    before = (runs.root / "out" / "results.json").read_bytes()
    runs.run(primary="ddpo:sft", margin=5.0)
    assert (runs.root / "out" / "results.json").read_bytes() == before
    assert declared(runs.run(refresh=True, primary="ddpo:sft"))[DDPO_SFT] == YES  # judged later, and declared as early


def test_a_contrast_that_is_added_was_chosen_afterwards(runs: Runs) -> None:
    found = runs.run(DDPO_SFT, SFT_START, primary="ddpo:sft")
    assert declared(found) == {DDPO_SFT: YES, SFT_START: NO}
    # and stays so, whoever judges from now on, even of verdicts that are yet to be given
    assert declared(runs.run(DDPO_SFT, SFT_START, primary="ddpo:sft", judge="embedding", refresh=True))[SFT_START] == NO
    assert verify(runs.root / "out", runs.store, board_markdown, quiet).wrong == []


def test_what_another_judge_said_of_a_row_was_known_too(runs: Runs) -> None:
    """Neither a judging nor a measure of this run is there yet."""
    found = runs.run(DDPO_SFT, SFT_START, judge="embedding", measures="distinct_2")
    assert declared(found) == {DDPO_SFT: YES, SFT_START: NO}


def test_a_contrast_that_is_added_while_all_is_judged_anew_was_chosen_afterwards(runs: Runs) -> None:
    assert declared(runs.run(DDPO_SFT, SFT_START, refresh=True))[SFT_START] == NO


def test_the_other_direction_of_a_contrast_is_that_contrast(runs: Runs) -> None:
    assert declared(runs.run(("sft", "ddpo"))) == {("sft", "ddpo"): YES}


def test_a_primary_and_a_margin_that_are_named_afterwards_were_chosen_afterwards(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    runs = Runs(tmp_path, checkpoints)
    found = runs.run(DDPO_SFT, SFT_START, primary="ddpo:sft", margin=5.0, sets=[NEAR])
    assert declared(found) == {DDPO_SFT: {NEAR: True}, SFT_START: {NEAR: True}}
    found = runs.run(DDPO_SFT, SFT_START, primary="sft:student (untrained)", margin=3.0, sets=[NEAR])
    # declared it was, but as one of several; and the one that was primary counts as one of these
    assert declared(found) == {DDPO_SFT: {NEAR: True}, SFT_START: {NEAR: False}}
    assert not any(one.margin_declared for one in found.contrasts)
    assert {one.family for one in found.stamps} == {one.family for one in read_results(runs.root / "out").stamps}


def test_a_set_that_is_added_is_declared_and_the_pool_with_it_is_not(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    runs = Runs(tmp_path, checkpoints)
    runs.run(sets=[NEAR])
    found = runs.run(sets=[NEAR, FAR], primary="ddpo:sft")
    assert declared(found) == {DDPO_SFT: {NEAR: True, FAR: True, POOL: False}}


@pytest.mark.parametrize("until", [1, 10, -3])
def test_a_run_that_is_interrupted_keeps_its_first_stamp(
    tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch, until: int
) -> None:
    """Before anything is judged, or between two judgings."""
    runs, make, count = Runs(tmp_path, checkpoints), launch.run_job, 0
    last = until % len(road_of(runs.asked())[0].jobs)

    def killed(*arguments: Any) -> bool:
        nonlocal count
        count += 1
        if count > last:
            raise KeyboardInterrupt
        return make(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(launch, "run_job", killed)
        runs.run(margin=5.0)
    stamps = {file.name: file.read_text() for file in (runs.root / "store" / "stamps").rglob("*.json")}
    assert declared(runs.run(margin=5.0)) == {DDPO_SFT: YES}
    assert {file.name: file.read_text() for file in (runs.root / "store" / "stamps").rglob("*.json")} == stamps


def test_what_an_interrupted_judging_has_said_was_known(runs: Runs) -> None:
    road, store = road_of(runs.asked(DDPO_SFT, SFT_START))
    for pair in contrasted(road):
        for ref in pair.about:
            store.discard(ref)
    row = next(one for one in road.evaluations[0].candidates if one.name == "sft")
    work = store.workspace(next(iter(row.verdicts.values())))
    work.mkdir(parents=True)
    (work / VERDICTS).write_text("{}\n")
    assert declared(runs.run(DDPO_SFT, SFT_START))[SFT_START] == {NEAR: False, FAR: True, POOL: False}


def test_looking_ahead_stamps_nothing(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    runs = Runs(tmp_path, checkpoints)
    plan(runs.asked())
    assert not (runs.root / "store" / "stamps").exists()


def test_a_run_of_several_seeds_is_declared_where_each_is(runs: Runs) -> None:
    runs.run(DDPO_SFT, SFT_START, out="first", primary="ddpo:sft")
    later = runs.run(DDPO_SFT, SFT_START, out="later", seed=1, primary="ddpo:sft")
    assert declared(later) == {DDPO_SFT: YES, SFT_START: YES}
    (pooled,) = boards([runs.root / "first", runs.root / "later"])
    assert declared(pooled) == {DDPO_SFT: YES, SFT_START: NO}
    # of a run that says nothing of it, as of older versions, all was chosen afterwards
    for name in ("results.json", MANIFEST):
        rewrite(runs.root / "later" / name, lambda found: found.update(stamps=[]) if "stamps" in found else None)
    (pooled,) = boards([runs.root / "first", runs.root / "later"])
    assert declared(pooled) == {DDPO_SFT: NO, SFT_START: NO}


def test_a_store_that_may_only_be_read_will_do_where_all_is_there(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise UserError("this disk may only be read")

    monkeypatch.setattr(Store, "stamp", refused)
    road, store = road_of(runs.asked(DDPO_SFT, SFT_START))
    declare(road, store)
    assert [pair.second for pair in contrasted(road) if stamp_of(pair, store)] == ["sft", "sft"]
    road, store = road_of(runs.asked(seed=7))
    with pytest.raises(UserError, match="may only be read"):
        declare(road, store)


# ---- what verify finds


@pytest.mark.parametrize("earlier", [True, False], ids=["a time", "when its rows began"])
def test_a_stamp_that_was_changed_is_found(runs: Runs, earlier: bool) -> None:
    runs.run(DDPO_SFT, SFT_START, primary="ddpo:sft")
    change = {"time": "2020-01-01T00:00:00.000000+00:00"} if earlier else {"began": "2100-01-01T00:00:00+00:00"}
    out = runs.root / "out"

    def of_results(found: dict[str, Any]) -> None:
        for stamp in found["stamps"]:
            stamp.update(change)
        for one in found["contrasts"] + found["measure_contrasts"]:
            one["declared"] = True

    rewrite(out / "results.json", of_results)
    wrong = verify(out, Store(runs.root / "none"), board_markdown, quiet).wrong
    key = next(iter(change))
    assert any(f"stamps / near, sft, {START}: {key} is" in line and MANIFEST in line for line in wrong)
    assert any("results.json is not the file that the run wrote" in line for line in wrong)

    def of_manifest(found: dict[str, Any]) -> None:
        for stamp in found["declared"]:
            stamp.update(change)

    rewrite(out / MANIFEST, of_manifest)
    wrong = verify(out, runs.store, board_markdown, quiet).wrong
    where = f"the contrast of sft and {START} on near"
    said = (
        f"time of {where} is 2020-01-01T00:00:00.000000+00:00; its stamp in the store has" if earlier else "a stage of"
    )
    assert any(where in line and said in line for line in wrong)


def test_a_flag_that_does_not_follow_from_the_stamps_is_found(runs: Runs) -> None:
    runs.run(DDPO_SFT, SFT_START)
    rewrite(runs.root / "out" / "results.json", lambda found: [one.update(declared=True) for one in found["contrasts"]])
    wrong = verify(runs.root / "out", runs.store, board_markdown, quiet).wrong
    assert any(f"contrasts / near, sft, {START}" in line and "declared is True" in line for line in wrong)


# ---- times


def stamp(time: str, began: str) -> StampFacts:
    return StampFacts(
        first="a", second="b", run="r", prompt_set="p", family="f", primary=False, margin=None, time=time, began=began
    )


@pytest.mark.parametrize(
    ("time", "began", "before"),
    [
        ("2026-01-01T10:00:00.000001+00:00", "2026-01-01T10:00:00.000002+00:00", True),
        ("2026-01-01T10:00:00.000002+00:00", "2026-01-01T10:00:00.000002+00:00", False),
        ("2026-01-01T10:00:00.5+00:00", "2026-01-01T10:00:01+00:00", True),  # in digits it is the later one
        ("2026-01-01T10:00:00.5+00:00", "2026-01-01T10:00:00+00:00", False),
        ("2026-01-01T10:30:00+02:00", "2026-01-01T09:00:00+00:00", True),
        ("2026-01-01T09:30:00", "2026-01-01T10:00:00Z", True),
        ("2026-01-01T10:00:00+00:00", "", True),
        ("", "2026-01-01T10:00:00+00:00", False),
        ("soon", "", False),
        ("2026-01-01T10:00:00+00:00", "once", False),
    ],
)
def test_times_are_compared_as_times(time: str, began: str, before: bool) -> None:
    assert stamp(time, began).before is before


def test_rows_began_when_the_making_of_the_first_did() -> None:
    made = [("2026-01-01T10:00:30+00:00", 2.5), ("2026-01-01T10:00:40.250000+00:00", 20.0)]
    assert began_of(made) == "2026-01-01T10:00:20.250000+00:00"
    assert began_of([]) == ""
    assert began_of([*made, ("no date", 1.0)]) < "1970-01-01"


def test_a_damaged_stamp_is_made_anew_and_proves_nothing(runs: Runs) -> None:
    road, store = road_of(runs.asked())
    pair = contrasted(road)[0]
    files = list((store.root / "stamps" / DECLARED).iterdir())
    for text in ("[]", '{"time": "x"}', "{"):
        for file in files:
            file.write_text(text)
        assert stamp_of(pair, store) is None
    declare(road, store, datetime(2030, 1, 1, tzinfo=UTC))
    again = stamp_of(pair, store)
    assert again is not None and again.time.startswith("2030") and again.began.startswith("20")
    assert declaring.moment(again.began) < declaring.moment(again.time)  # type: ignore[operator]
