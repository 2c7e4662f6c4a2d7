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
from harness.cli.store import store_gc
from harness.core.errors import UserError
from harness.reports.board import board_markdown
from harness.results import recording
from harness.results.pooling import boards
from harness.results.reading import read_results
from harness.results.schema import Results, StampFacts
from harness.results.verify import verify
from harness.run import launch
from harness.run.declaring import DECLARED, FAMILIES, contrasted, declare, stamp_of
from harness.run.jobs import VERDICTS
from harness.run.known import KNOWN, TELLING, began_of, moment
from harness.run.rows import CEILING
from harness.store import MANIFEST, STORE_VARIABLE, Store
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


def start(asked: Any) -> None:
    """A run that is killed before anything is there."""
    road, store = road_of(asked)
    declare([road], store)


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
    assert [one.family for one in found.contrasts if one.primary] == ["primary"]
    assert "**Primary contrast, declared before the run: ddpo − sft" in board_markdown([found])
    found = runs.run(DDPO_SFT, SFT_START, primary="sft:student (untrained)", margin=3.0, sets=[NEAR])
    # declared it was, as one of several, with which it is corrected; and so is the one that was primary
    assert declared(found) == {DDPO_SFT: {NEAR: True}, SFT_START: {NEAR: True}}
    assert {(one.first, one.family, one.primary) for one in found.contrasts} == {
        ("ddpo", "methods", False),
        ("sft", "anchors", True),
    }
    assert f"**Primary contrast, named as that afterwards: sft − {START}" in board_markdown([found])
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
    place = runs.root / "store" / "stamps" / DECLARED
    stamps = {file.name: file.read_text() for file in place.iterdir()}
    assert declared(runs.run(margin=5.0)) == {DDPO_SFT: YES}
    assert {file.name: file.read_text() for file in place.iterdir()} == stamps


def test_what_an_interrupted_judging_of_an_older_version_has_said_was_known(runs: Runs) -> None:
    road, store = road_of(runs.asked(DDPO_SFT, SFT_START))
    shutil.rmtree(store.root / "stamps" / KNOWN)
    for pair in contrasted(road):
        for ref in pair.about:
            store.discard(ref)
    row = next(one for one in road.evaluations[0].candidates if one.name == "sft")
    work = store.workspace(next(iter(row.verdicts.values())))
    work.mkdir(parents=True)
    (work / VERDICTS).write_text("{}\n")
    assert declared(runs.run(DDPO_SFT, SFT_START))[SFT_START] == {NEAR: False, FAR: True, POOL: False}


def test_what_was_seen_of_a_row_was_seen_however_many_responses_there_are(runs: Runs) -> None:
    """The first response to a prompt, and its verdict, are there already: no other number makes it new."""
    assert declared(runs.run(DDPO_SFT, SFT_START, out="more", samples=2)) == {DDPO_SFT: NO, SFT_START: NO}
    assert verify(runs.root / "more", runs.store, board_markdown, quiet).wrong == []
    (known := runs.asked(DDPO_SFT)).set.append("eval_sampling.temperature=0.71")  # nor another way to draw them
    road, store = road_of(known)
    declare([road], store)
    assert all(stamp_of(pair.responses, store).began for pair in contrasted(road))  # type: ignore[union-attr]
    # with another seed nothing is
    assert declared(runs.run(DDPO_SFT, SFT_START, out="new", seed=1, samples=2))[SFT_START] == YES


@pytest.mark.parametrize(("texts", "new"), [(["Sing!"], False), (["Dance!", "Sing!"], False), (["Dance!"], True)])
def test_what_was_seen_of_a_row_was_seen_whatever_the_prompts_stand_among(
    runs: Runs, texts: list[str], new: bool
) -> None:
    """By the prompts themselves; on others nothing was."""
    rows = [{"id": f"x{number}", "prompt": text} for number, text in enumerate(texts)]
    (runs.root / "part.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert declared(runs.run(DDPO_SFT, sets=["part"])) == {DDPO_SFT: {"part": new}}


def test_what_was_seen_of_a_row_was_seen_however_many_prompts_there_are(runs: Runs) -> None:
    """The start; what is trained on fewer prompts is new."""
    assert declared(runs.run(DDPO_SFT, SFT_START, limit=1)) == {DDPO_SFT: YES, SFT_START: NO}


@pytest.mark.parametrize("marked", [True, False], ids=["", "of an older version"])
def test_what_was_seen_of_a_row_stays_known_when_its_artifacts_go(
    runs: Runs, marked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not marked:
        shutil.rmtree(runs.store.root / "stamps" / KNOWN)
    monkeypatch.setattr(recording, "recorded_runs", list)
    runs.run(out="kept", seed=1)
    monkeypatch.setenv(STORE_VARIABLE, str(runs.store.root))
    store_gc(older_than=0, keep=[runs.root / "kept"], yes=True)
    road, store = road_of(runs.asked(DDPO_SFT, SFT_START))
    assert not any(store.has(ref) for pair in contrasted(road) for ref in pair.about)
    assert declared(runs.run(DDPO_SFT, SFT_START)) == {DDPO_SFT: YES, SFT_START: NO}


def test_judgings_that_are_discarded_to_be_made_anew_stay_known(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an older version, which kept nothing when it began; and the run is killed before it is judged again."""
    shutil.rmtree(runs.store.root / "stamps" / KNOWN)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(launch, "run_jobs", killed)
        runs.run(refresh=True)
    for stage in TELLING:
        shutil.rmtree(runs.store.root / stage, ignore_errors=True)
    assert declared(runs.run(DDPO_SFT, SFT_START))[SFT_START] == NO


# ---- what was declared together


def test_what_is_left_when_others_are_dropped_was_chosen_afterwards(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    runs = Runs(tmp_path, checkpoints)
    assert declared(runs.run(DDPO_SFT, SFT_START, out="whole")) == {DDPO_SFT: YES, SFT_START: YES}
    fewer = runs.run(DDPO_SFT, out="fewer")
    assert declared(fewer) == {DDPO_SFT: NO} and {one.dropped for one in fewer.stamps} == {2}
    assert "some that were declared with them are left out" in board_markdown([fewer])
    assert "(2 of it left out since)" in board_markdown([fewer])
    assert declared(runs.run(DDPO_SFT, SFT_START, sets=[NEAR], out="a set less")) == {
        DDPO_SFT: {NEAR: False},
        SFT_START: {NEAR: False},
    }
    more = runs.run(DDPO_SFT, SFT_START, DDPO_START, out="more")
    assert declared(more) == {DDPO_SFT: YES, SFT_START: YES, DDPO_START: NO}
    for out in ("whole", "fewer", "more"):
        assert verify(runs.root / out, runs.store, board_markdown, quiet).wrong == []
        assert verify(runs.root / out, Store(tmp_path / "none"), board_markdown, quiet).wrong == []


def test_who_starts_with_one_contrast_at_a_time_has_declared_them_all(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    """Runs that are started and killed before anything is there, each with another family, leave none to choose."""
    runs = Runs(tmp_path, checkpoints)
    for pair in (DDPO_SFT, SFT_START, DDPO_START):
        start(runs.asked(pair, sets=[NEAR]))
    best = runs.run(DDPO_SFT, sets=[NEAR])
    assert declared(best) == {DDPO_SFT: {NEAR: False}} and [one.dropped for one in best.stamps] == [2]
    where = "of the contrast of ddpo and sft on near it says that 0 that were declared are not here"
    assert any(where in line for line in forged(runs, {"dropped": 0}, {}))
    every = runs.run(DDPO_SFT, SFT_START, DDPO_START, sets=[NEAR])
    assert declared(every) == {DDPO_SFT: {NEAR: True}, SFT_START: {NEAR: True}, DDPO_START: {NEAR: True}}
    # what is added when something is known is no part of what was declared
    more = (CEILING, "ddpo")
    assert declared(runs.run(DDPO_SFT, SFT_START, DDPO_START, more, sets=[NEAR]))[more] == {NEAR: False}
    assert declared(runs.run(DDPO_SFT, SFT_START, DDPO_START, sets=[NEAR])) == declared(every)


def test_of_primary_contrasts_that_are_named_one_after_another_the_first_is_it(
    tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that are started and killed before anything is there do not leave one stamp each to choose from."""
    runs = Runs(tmp_path, checkpoints)

    def started(*contrasts: tuple[str, str], primary: str) -> None:
        start(runs.asked(*contrasts, primary=primary, sets=[NEAR]))

    started(DDPO_SFT, DDPO_START, primary="ddpo:sft")
    started(SFT_START, DDPO_START, primary=f"sft:{START}")
    every = (DDPO_SFT, SFT_START, DDPO_START)
    later = runs.run(*every, primary=f"sft:{START}", sets=[NEAR], out="later")
    assert [(one.first, one.family) for one in later.contrasts if one.primary] == [("sft", "anchors")]
    assert declared(later)[SFT_START] == {NEAR: True}
    first = runs.run(*every, primary="ddpo:sft", sets=[NEAR], out="first")
    assert [(one.first, one.family) for one in first.contrasts if one.primary] == [("ddpo", "primary")]


def test_a_family_that_is_not_kept_proves_nothing(runs: Runs) -> None:
    for file in (runs.store.root / "stamps" / FAMILIES).iterdir():
        file.write_text(file.read_text().replace("near", "far"))
    assert declared(runs.run(DDPO_SFT, SFT_START, primary="ddpo:sft", margin=5.0))[DDPO_SFT] == NO
    (found,) = {one.dropped for one in read_results(runs.root / "out").stamps if one.second == "sft"}
    assert found is None and "(not known)" in (runs.root / "out" / "leaderboard.md").read_text()
    # until the same is declared again
    for file in (runs.store.root / "stamps" / FAMILIES).iterdir():
        file.unlink()
    assert declared(runs.run(primary="ddpo:sft", margin=5.0)) == {DDPO_SFT: YES}


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
    declare([road], store)
    assert [pair.second for pair in contrasted(road) if stamp_of(pair.responses, store)] == ["sft", "sft"]
    road, store = road_of(runs.asked(seed=7))
    with pytest.raises(UserError, match="may only be read"):
        declare([road], store)


# ---- what verify finds


def flag(out: Path, change: dict[str, Any]) -> None:
    """Change all stamps of a run's results, and say that all was declared."""

    def flagged(found: dict[str, Any]) -> None:
        for stamp in found["stamps"]:
            stamp.update(change)
        for one in found["contrasts"] + found["measure_contrasts"]:
            one["declared"] = True

    rewrite(out / "results.json", flagged)


@pytest.mark.parametrize("earlier", [True, False], ids=["a time", "when its rows began"])
def test_a_stamp_that_was_changed_is_found(runs: Runs, earlier: bool) -> None:
    runs.run(DDPO_SFT, SFT_START, primary="ddpo:sft")
    change = {"time": "2020-01-01T00:00:00.000000+00:00"} if earlier else {"began": "2100-01-01T00:00:00+00:00"}
    out = runs.root / "out"
    flag(out, change)
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


def forged(runs: Runs, of_results: dict[str, Any], of_manifest: dict[str, Any]) -> list[str]:
    """What `verify` says of a run whose stamps were changed, with all that follows from them."""
    out = runs.root / "out"
    flag(out, of_results)
    rewrite(out / MANIFEST, lambda found: [one.update(of_results, **of_manifest) for one in found["declared"]])
    return verify(out, runs.store, board_markdown, quiet).wrong


def test_when_rows_began_is_held_against_the_stamp_in_the_store(runs: Runs) -> None:
    runs.run(DDPO_SFT, SFT_START, primary="ddpo:sft")
    wrong = forged(runs, {"began": ""}, {"stages": []})
    where = f"the contrast of sft and {START} on near"
    assert any(f"{where} has '' for when its rows began; its stamp in the store has 20" in line for line in wrong)
    assert any(f"{where} lacks the stage judge/" in line for line in wrong)


def test_the_stages_of_a_contrast_follow_from_the_manifest_alone(runs: Runs) -> None:
    runs.run(DDPO_SFT, SFT_START, primary="ddpo:sft")
    shutil.rmtree(runs.store.root)
    wrong = forged(runs, {"began": ""}, {"stages": []})
    where = f"the contrast of sft and {START} on near"
    for kind in ("judge typicality: sft, near", "measure sft, near"):
        assert any(f"{where} lacks the stage" in line and kind in line for line in wrong)
    assert any(f"{where} has '' for when its rows began; a stage of theirs began at" in line for line in wrong)


def test_what_was_dropped_is_held_against_the_family(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    runs = Runs(tmp_path, checkpoints)
    runs.run(DDPO_SFT, SFT_START, out="whole")
    runs.run(DDPO_SFT)
    where = "the contrast of ddpo and sft on near"
    assert any(
        f"{where} it says that 0 that were declared are not here; by their responses 2 are not" in line
        for line in forged(runs, {"dropped": 0}, {})
    )
    rewrite(runs.root / "out" / MANIFEST, lambda found: found["families"][0]["members"].pop())
    wrong = verify(runs.root / "out", Store(tmp_path / "none"), board_markdown, quiet).wrong
    assert any("is not what its digest says" in line for line in wrong)
    assert any(f"the family of {where} is not there" in line for line in wrong)


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
        assert stamp_of(pair.responses, store) is None
    declare([road], store, datetime(2030, 1, 1, tzinfo=UTC))
    again = stamp_of(pair.responses, store)
    assert again is not None and again.time.startswith("2030") and again.began.startswith("20")
    assert moment(again.began) < moment(again.time)  # type: ignore[operator]
