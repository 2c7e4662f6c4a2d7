"""A search of settings: what is tried, on what it is judged, and what comes of it."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli import options
from harness.cli.run import run
from harness.config import Config, Study, study_of
from harness.core.errors import NotFiniteError, UserError
from harness.core.records import plain
from harness.reports import charts
from harness.reports import searched as words
from harness.reports.board import board_markdown
from harness.reports.html import report_html
from harness.reports.report_data import read_run
from harness.results.manifest import read_manifest
from harness.results.pooling import board_of
from harness.results.reading import read_results
from harness.results.schema import Results, SearchFacts
from harness.results.searched import not_as_declared, not_following
from harness.results.studies import STUDY, read_study, runs_in
from harness.results.verify import verify, verify_study
from harness.run import launch, searching
from harness.run import road as roads_of_runs
from harness.run.jobs import Job, LossJob, MeasureJob, RespondJob, TrainJob
from harness.run.road import Road, build_roads
from harness.run.searching import Criterion, Try, Valued, at_edge
from harness.store import Store
from tests.harness.making import quiet
from tests.harness.run.roads import jsonl
from tests.harness.tiny_runs import request

RATES = "training.learning_rate=1e-3,1e-2"
# the last rate is one that no training survives
DIVERGING = "training.learning_rate=1e-3,1e-2,1e30"
PROMPTS = {
    "train": [f"Tell me about {number}." for number in range(12)],
    "test": ["Sing!", "What is rain?"],
}
HELD = "validation=0.4"


def asked(root: Path, checkpoints: dict[str, Path], methods: str = "sft,ddpo", **others: Any) -> options.RunRequest:
    found = request(root, checkpoints, methods, **{"tune": [RATES], "prompts": PROMPTS, "measures": "cut", **others})
    found.set.extend([HELD, "training.epochs=1"])
    return found


def study(found: options.RunRequest) -> tuple[Study, Store]:
    _, layers = found.layers()
    made = study_of(layers)
    return made, options.open_store(made.base)


def roads(found: options.RunRequest) -> list[Road]:
    made, store = study(found)
    return build_roads(made, store, download=False)


def of(road: Road) -> searching.Search:
    assert road.search is not None
    return road.search


# ---- what is refused before any work


@pytest.mark.parametrize(
    ("tune", "more", "said"),
    [
        (["training.learning_rate=1e-3"], {}, r"learning_rate has one value, so there is nothing to choose"),
        (["training.learning_rat=1,2"], {}, r"training\.learning_rat is no setting; did you mean 'learning_rate'"),
        (["settings.ddpo=1,2"], {}, "is no setting of a method"),
        (["settings.dpo.beta=1,2"], {}, r"no row is trained with 'dpo' \(searched are sft, ddpo\)"),
        (["settings.ddpo.beat=1,2"], {}, r"settings\.ddpo\.beat is no setting; did you mean 'beta'"),
        (["settings.ddpo.beta=0.1,0.2"], {}, "as many tries as the others, and these have sft 1, ddpo 2"),
        (["settings.ddpo.beta=0.1,-1", "settings.sft.epochs=1,2"], {}, r"settings\.ddpo\.beta"),
        (["training.epochs=1,0"], {}, "must be above 0"),
        ([RATES, "settings.sft.learning_rate=1,2"], {}, "learning_rate of sft is there twice"),
        (
            [RATES, "settings.ddpo.beta=0.1,0.2"],
            {"tune_by": "loss"},
            r"says nothing of settings\.ddpo\.beta",
        ),
        (["training.epochs=1,2"], {"match": "tokens:ddpo"}, r"as many tokens as ddpo's \(match\), whatever epochs say"),
        ([RATES], {"tune_by": "length"}, "no value of 'length' is better than another; choose by one of forward_kl"),
        ([RATES], {"tune_by": "margin_accuracy"}, "is of methods that rank pairs"),
        ([RATES], {"tune_by": "forward_lk"}, "did you mean 'forward_kl'"),
        (["training.lora_alpha=1,2"], {}, None),
    ],
)
def test_what_makes_no_fair_search_is_refused(
    tmp_path: Path, checkpoints: dict[str, Path], tune: list[str], more: dict[str, Any], said: str | None
) -> None:
    found = asked(tmp_path, checkpoints, tune=tune, **more)
    if said is None:
        assert of(roads(found)[0]).open
        return
    with pytest.raises(UserError, match=said) as refused:
        roads(found)
    assert len(refused.value.lines) == 1


def test_a_loss_is_not_chosen_by_what_shapes_it(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    tune = ["settings.ddpo.beta=0.1,0.2; settings.sft.epochs=1,2"]
    with pytest.raises(UserError, match=r"a method's own loss says nothing of settings\.ddpo\.beta"):
        roads(asked(tmp_path, checkpoints, tune=tune, tune_by="loss"))
    assert len(of(roads(asked(tmp_path, checkpoints, tune=tune))[0]).tries) == 4


def test_tries_that_are_one_training_are_refused(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    # what nothing reads shapes no training
    tune = ["settings.kd.top_k=8,16; settings.sft.epochs=1,2"]
    with pytest.raises(UserError, match=r"kd is trained alike with kd\.top_k=8 and with kd\.top_k=16"):
        roads(asked(tmp_path, checkpoints, "sft,kd", tune=tune))


def test_no_prompt_that_settings_are_chosen_on_is_an_evaluation_prompt(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    found = asked(tmp_path, checkpoints)
    held = of(roads(found)[0]).validation.prompts[0]
    prompts = {**PROMPTS, "test": [held.messages[0].content, "Sing!"]}
    with pytest.raises(UserError, match="holds 1 of the training prompts"):
        roads(asked(tmp_path, checkpoints, prompts=prompts))


def test_every_run_is_checked_with_all_that_is_tried_before_anything_is_made(
    tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: set[tuple[int, int, float]] = set()

    def checked(config: Config, *_: Any) -> None:
        settings = config.settings["ddpo"]
        tried.add((config.seed, config.max_prompt_tokens, settings["learning_rate"]))

    monkeypatch.setattr(roads_of_runs, "check", checked)
    roads(asked(tmp_path, checkpoints, seeds="3,4", grid=["max_prompt_tokens=100,200"]))
    assert tried >= {(seed, length, rate) for seed in (3, 4) for length in (100, 200) for rate in (1e-3, 1e-2)}


def test_a_study_is_refused_and_its_folder_marked_before_its_search_is_made(
    tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    performed: list[Job] = []

    def killed(job: Job, *_: Any) -> None:
        performed.append(job)
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "run_job", killed)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="two runs of the study are the same"):
        run(asked(tmp_path, checkpoints, grid=["limits.train=12,20"]), out=tmp_path / "out")
    for seeds, several in (("3", False), ("3,4", True)):
        found = asked(tmp_path, checkpoints, seeds=seeds)
        with pytest.raises(KeyboardInterrupt):
            run(found)
        (out,) = (path for path in (tmp_path / "runs").iterdir() if ("study" in path.name) == several)
        assert (out / options.MARK).is_file()  # the same folder as when all of it is found
        (out / options.MARK).unlink()
        (out / "mine.txt").write_text("notes")
        with pytest.raises(UserError, match=re.escape(out.name)):
            run(found)
        assert len(performed) == 1
        performed.clear()


# ---- what is tried


def test_every_method_that_a_row_is_trained_with_is_tried_alike(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    (road,) = roads(asked(tmp_path, checkpoints, "dadpo", controls="full"))
    found = of(road)
    trained = {entry.method for entry in road.entries}
    assert {entry.kind for entry in road.entries} == {"method", "control"} and "sft" in found.found
    assert set(found.found) == trained | {"sft"}
    for method in found.found:
        assert [one.point["training.learning_rate"] for one in found.of(method)] == [1e-3, 1e-2]


def test_nothing_is_searched_of_sft_where_nothing_reads_it(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    assert set(of(roads(asked(tmp_path, checkpoints, "kd"))[0]).found) == {"kd"}


def test_a_plan_takes_the_first_value_for_what_is_not_found_yet(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    (road,) = roads(asked(tmp_path, checkpoints))
    found = of(road)
    assert found.open == ("sft", "ddpo") and set(found.jobs) <= set(road.jobs)
    assert {entry.settings.learning_rate for entry in road.entries} == {1e-3}
    assert [note for note in road.notes if note.startswith("the search of sft, ddpo is not made yet")]
    # all but the first round is laid on what is only assumed
    ready = {one.method for one in found.tries if any(job.ref == one.training for job in found.ready)}
    assert ready == {"sft"}


def test_validation_prompts_are_in_no_training_and_no_evaluation(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    (road,) = roads(asked(tmp_path, checkpoints))
    found = of(road)
    held = next(ref for ref, prompts in found.prompts.items() if prompts.digest == found.validation.digest)
    texts = {prompt.messages for prompt in found.validation.prompts}
    assert texts and texts.isdisjoint(prompt.messages for prompt in road.train.prompts)
    reading = [job for job in road.jobs.values() if held in str(job.model_dump())]
    assert not any(isinstance(job, TrainJob) or job.ref in road.evaluating for job in reading)
    # nobody's responses but the teacher's, for a measure of these
    (drawn,) = [job for job in reading if isinstance(job, RespondJob)]
    assert (drawn.purpose, drawn.seed, drawn.sampling) == ("chosen", 0, road.config.train_sampling)


def test_a_measure_of_the_student_s_own_responses_has_them_drawn(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    found = of(roads(asked(tmp_path, checkpoints, tune_by="reverse_kl"))[0])
    for one in found.tries:
        value = found.jobs[one.value]
        assert isinstance(value, MeasureJob)
        drawn = found.jobs[value.responses]
        assert isinstance(drawn, RespondJob) and drawn.model.artifact == one.training
        assert drawn.ref in one.own


def test_a_method_s_own_loss_is_of_the_trained_student(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    (road,) = roads(asked(tmp_path, checkpoints, tune_by="loss"))
    for one in of(road).tries:
        value, training = road.jobs[one.value], road.jobs[one.training]
        assert isinstance(value, LossJob) and isinstance(training, TrainJob)
        assert value.start.artifact == one.training and value.prompts != training.prompts
        assert value.stored and not set(value.stored) & set(training.stored)
        assert value.signals.keys() == training.signals.keys()


def test_what_all_rows_take_as_many_tokens_as_is_found_before_them(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    (road,) = roads(asked(tmp_path, checkpoints, "sft,ddpo,kd", match="tokens:ddpo"))
    found, trainings = of(road), {}
    for one in found.tries:
        job = found.jobs[one.training]
        assert isinstance(job, TrainJob)
        trainings.setdefault(one.method, set()).add(job.match)
    assert list(found.found) == ["sft", "ddpo", "kd"]
    # SFT, where others start, is as long as its settings say; kd as long as what was found for ddpo
    assert trainings == {"sft": {None}, "ddpo": {None}, "kd": {road.trainings["ddpo"]}}
    assert road.trainings["kd"] in {one.training for one in found.of("kd")}


def test_students_are_read_after_the_last_of_their_trainings(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    (road,) = roads(asked(tmp_path, checkpoints, "sft,ddpo,kd"))
    found = of(road)
    refs = list(found.jobs)
    for methods in (["sft"], ["ddpo", "kd"]):
        of_round = [one for one in found.tries if one.method in methods]
        last = max(refs.index(one.training) for one in of_round)
        assert all(refs.index(ref) > last for one in of_round for ref in one.own if ref != one.training)


# ---- what is found


def tries_of(*values: float) -> tuple[list[Try], dict[str, Valued]]:
    made = [Try("kd", {"training.epochs": number}, f"train/{number}", f"loss/{number}", ()) for number in range(9)]
    made = made[: len(values)]
    return made, {one.value: Valued(value, {}) for one, value in zip(made, values, strict=True)}


@pytest.mark.parametrize(
    ("values", "better", "place"),
    [
        ((3.0, 1.0, 2.0), "lower", 1),
        ((3.0, 1.0, 2.0), "higher", 0),
        ((2.0, 1.0, 1.0), "lower", 1),
        ((math.nan, 2.0), "lower", 1),
        ((-math.inf, 2.0), "lower", 1),
        ((math.inf, 2.0), "higher", 1),
    ],
)
def test_the_best_is_the_first_of_the_best_finite_ones(values: tuple[float, ...], better: str, place: int) -> None:
    from harness.measures import measures

    measure = measures.get("top1" if better == "higher" else "forward_kl")
    made, known = tries_of(*values)
    assert searching._best("kd", made, known, Criterion(measure.name, measure)) is made[place]


def test_where_no_value_is_finite_the_tries_are_named() -> None:
    made, known = tries_of(math.nan, math.inf)
    with pytest.raises(UserError, match=r"no try of kd has a finite loss \(epochs=0; epochs=1\)"):
        searching._best("kd", made, known, Criterion("loss", None))


def test_what_lies_at_the_edge() -> None:
    points = [{"training.learning_rate": rate, "training.start": start} for rate in (1, 2, 3) for start in ("a", "b")]
    assert at_edge(points, points[0]) == at_edge(points, points[5]) == ("training.learning_rate",)
    assert at_edge(points, points[2]) == ()
    assert at_edge([{"x": True}, {"x": False}], {"x": True}) == ()


def test_tries_are_held_against_each_other_prompt_by_prompt() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(size=40)
    one, other = (
        Valued(0.0, {f"p{i}": float(z) for i, z in enumerate(hard + 0.01 * rng.normal(size=40))}) for _ in range(2)
    )
    assert one.standard_error == pytest.approx(np.std(list(one.by_prompt.values()), ddof=1) / math.sqrt(40))
    apart = one.apart(other)
    assert apart is not None and one.standard_error is not None and apart < one.standard_error / 20


def test_a_try_that_comes_to_no_number_is_known_by_the_job_that_says_so(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    made, store = study(asked(tmp_path, checkpoints, tune=[DIVERGING]))
    (road,) = build_roads(made, store, download=False)
    lost = of(road).of("sft")[1].training
    errors = [NotFiniteError("the loss is nan"), KeyboardInterrupt()]

    def perform(*_: Any) -> Any:
        raise errors.pop(0)

    def make(jobs: Iterable[Job]) -> None:
        launch.run_job(next(job for job in jobs if job.ref == lost or not errors[1:]), store, quiet, perform)

    # nothing is there yet, and so the first job that is missing is another
    with pytest.raises(KeyboardInterrupt):
        build_roads(made, store, download=False, make=make)
    assert store.stamped(searching.NOT_FINITE, lost) == "the loss is nan"
    first = next(iter(road.jobs.values()))
    errors[:] = [NotFiniteError("of no try")]
    with pytest.raises(NotFiniteError, match="of no try"):
        build_roads(made, store, download=False, make=make)
    assert store.stamped(searching.NOT_FINITE, first.ref) is None


# ---- the whole of it


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Path:
    """A study of two seeds, whose last rate no training survives; killed once, and gone on with."""
    root = tmp_path_factory.mktemp("searched")
    found = asked(root, checkpoints, tune=[DIVERGING], seeds="3,4")
    with pytest.MonkeyPatch.context() as patch:
        performed = launch.run_job
        seen: list[Job] = []

        def killed(job: Job, *rest: Any, **more: Any) -> bool:
            seen.append(job)
            if sum(isinstance(one, TrainJob) for one in seen) == 2:
                raise KeyboardInterrupt
            return performed(job, *rest, **more)

        patch.setattr(launch, "run_job", killed)
        with pytest.raises(KeyboardInterrupt):
            run(found, out=root / "out")
    assert run(found, out=root / "out") == 0
    return root


def results_of(root: Path) -> list[Results]:
    return [read_results(folder) for folder in runs_in(root / "out")]


def search_of(results: Results) -> SearchFacts:
    assert results.search is not None
    return results.search


def test_the_best_is_what_rows_are_trained_with(whole: Path) -> None:
    for results in results_of(whole):
        search = search_of(results)
        assert (search.criterion, search.seed, search.own_losses) == ("forward_kl", 3, ())
        for found in search.found:
            tries = search.of(found.method)
            values = [one.value for one in tries]
            assert values[2] is None and tries[2].tokens is None  # it came to no number
            assert values.index(min(value for value in values if value is not None)) == tries.index(
                next(one for one in tries if one.point == found.point)
            )
            (row,) = [one for one in results.methods if one.name == found.method]
            assert row.settings.learning_rate == found.point["training.learning_rate"]
            assert all(one.seconds > 0 and one.standard_error for one in tries[:2])


def test_the_run_of_the_first_seed_trains_nothing_that_was_tried(whole: Path) -> None:
    first, second = results_of(whole)
    tried = {(one.method, one.training) for one in search_of(first).tries}
    assert {(one.name, one.artifact) for one in first.methods} <= tried
    assert {(one.name, one.artifact) for one in second.methods}.isdisjoint(tried)


def test_what_was_tried_is_no_cost_of_a_row(whole: Path) -> None:
    first, second = results_of(whole)
    one, other = ({cost.method: cost.trained_tokens for cost in run.costs} for run in (first, second))
    of_own = {row.name: row.facts.tokens for row in first.methods}
    assert one == {"sft": of_own["sft"], "ddpo": of_own["sft"] + of_own["ddpo"]}
    assert one.keys() == other.keys()


def test_contrasts_are_declared_before_anything_is_known_of_rows(whole: Path) -> None:
    for results in results_of(whole):
        assert results.stamps and all(stamp.early for stamp in results.stamps)


def test_another_run_computes_nothing(
    whole: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = results_of(whole)

    def performed(job: Job, *rest: Any) -> None:
        raise AssertionError(job.label)

    monkeypatch.setattr(launch, "run_job", performed)
    found = asked(whole, checkpoints, tune=[DIVERGING], seeds="3,4")
    assert run(found, out=whole / "out") == 0
    assert results_of(whole) == before
    assert not of(roads(found)[0]).open  # and so it is planned with what was found


def test_no_run_is_evaluated_on_what_a_search_that_is_made_already_was_trained_on(
    whole: Path, tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    """Runs of a grid of training prompts have none of the search's, whose prompts are the configuration's own."""
    other = jsonl(tmp_path / "other.jsonl", [f"Say {number}." for number in range(12)])
    near = jsonl(tmp_path / "near.jsonl", [PROMPTS["train"][0], "Sing!"])
    grid = [f"train_prompts={other}"]
    found = asked(whole, checkpoints, tune=[DIVERGING], seeds="3,4", grid=grid, eval=f"in:{near}")
    with pytest.raises(UserError, match="holds 1 of the training prompts"):
        roads(found)
    clean = asked(whole, checkpoints, tune=[DIVERGING], seeds="3,4", grid=grid)
    assert not any(of(road).open for road in roads(clean))
    # nor where the grid has the evaluation sets too
    found = asked(whole, checkpoints, tune=[DIVERGING], seeds="3,4", grid=[f"{grid[0]}; eval=[in:{near}]"])
    with pytest.raises(UserError, match=r"by the search: .* holds 1 of the training prompts"):
        roads(found)


def test_every_run_has_what_was_tried_and_all_of_it_follows(whole: Path) -> None:
    for folder in runs_in(whole / "out"):
        found = verify(folder, Store(whole / "store"), board_markdown, quiet)
        assert found.wrong == []
        stages = {stage.ref for stage in read_manifest(folder).stages if stage.made}
        for one in search_of(read_results(folder)).tries:
            assert {one.training, one.measured} <= stages or one.value is None


def test_what_does_not_follow_is_said(whole: Path) -> None:
    results = results_of(whole)[0]
    search = search_of(results)
    trained = {one.training: {"tokens": one.tokens} for one in search.tries}
    assert not [*not_following(results, search, trained)]
    found = search.found[0]
    other = next(one.point for one in search.of(found.method) if one.point != found.point)
    changed = search.model_copy(
        update={"found": (found.model_copy(update={"point": other, "edge": ()}), *search.found[1:])}
    )
    said = [*not_following(results, changed, trained)]
    assert len(said) == 3 and "the best of its tries is another" in said[0] and "edge" in said[1]
    fewer = search.model_copy(update={"tries": search.tries[1:]})
    assert "different numbers of tries" in next(iter(not_following(results, fewer, trained)))
    assert "took other tokens" in next(iter(not_following(results, search, {})))


def test_what_a_search_says_of_its_fairness_is_recomputed(whole: Path) -> None:
    results = results_of(whole)[0]
    search = search_of(results)
    trained = {one.training: {"tokens": one.tokens} for one in search.tries}

    def said(**changed: Any) -> list[str]:
        return [*not_following(results, search.model_copy(update=changed), trained)]

    assert said(own_losses=("ddpo",)) == ["forward_kl is the own loss of no method here, and the search says ddpo"]
    assert said(better="higher")[0] == "the search takes higher forward_kl for better; better is lower"
    own = said(criterion="loss", own_losses=("sft",))
    assert own == ["loss is the own loss of sft, ddpo here, and the search says sft"]
    assert said(criterion="nll") == ["nll is the own loss of sft here, and the search says of none"]
    assert said(criterion="of a plug-in", better="higher", own_losses=("ddpo",))[0].startswith("sft was found with")


def test_tries_are_held_against_what_the_study_declares(whole: Path) -> None:
    results = results_of(whole)[1]
    search = search_of(results)
    axes = read_study(whole / "out").tune

    def said(search: SearchFacts | None = search, axes: Any = axes, seed: int = 3, by: str = "forward_kl") -> list[str]:
        return [*not_as_declared(results, search, seed, axes, by)]

    assert said() == []
    # fewer of each method are as many for all, and not what is declared
    kept = search.model_copy(update={"tries": tuple(one for one in search.tries if one.value is not None)})
    assert said(kept) == [f"{name} was tried with other settings than are declared" for name in ("sft", "ddpo")]
    alone = search.model_copy(update={"tries": tuple(search.of("sft"))})
    assert said(alone) == ["ddpo was tried with other settings than are declared"]
    assert said(seed=4) == ["tries are chosen by forward_kl at seed 3; declared is forward_kl at seed 4"]
    assert said(by="nll") and said(None) and said(axes=()) and not said(None, axes=())


def test_a_study_s_tries_and_validation_prompts_are_verified(whole: Path, tmp_path: Path) -> None:
    store = Store(whole / "store")
    out = Path(shutil.copytree(whole / "out", tmp_path / "out"))
    found = verify_study(out, store, board_markdown, quiet)
    assert found.wrong == [] and any(one.startswith("what was tried") for one in found.checked)
    told = json.loads((out / STUDY).read_text())
    told["tune"] = [{"training.learning_rate": [1e-3, 1e-2]}]
    (out / STUDY).write_text(json.dumps(told))
    assert (
        sum("tried with other settings" in line for line in verify_study(out, store, board_markdown, quiet).wrong) == 4
    )
    (folder, _) = runs_in(out)
    told = json.loads((folder / "results.json").read_text())
    told["search"]["digest"] = "0" * len(told["search"]["digest"])
    (folder / "results.json").write_text(json.dumps(told))
    wrong = verify(folder, store, board_markdown, quiet).wrong
    assert any("no prompts with the digest of the validation prompts" in line for line in wrong)


def test_the_board_and_the_page_show_it(whole: Path) -> None:
    folders = runs_in(whole / "out")
    results = [read_results(folder) for folder in folders]
    together = board_of(dict(zip(folders, results, strict=True)))
    assert together.search is not None and together.differing == ()
    for text in (board_markdown([together]), board_markdown([results[0]])):
        part = text.split(f"### {words.HEAD}")[1]
        assert "Every method had 3 tries, trained at seed 3" in part and "not finite" in part
        for found in together.search.found:
            best = next(one for one in together.search.of(found.method) if one.point == found.point)
            assert f"**learning_rate={best.point['training.learning_rate']}: {best.value:.3f} ±" in part
            assert ("at the edge of its range (learning_rate)" in part) >= bool(found.edge)
    page = report_html(read_run(folders[0]))
    assert words.HEAD in page and 'id="search"' in page and "not finite" in page
    assert len(words.lines(together.search)) == len(together.search.found)


def test_runs_that_were_tuned_apart_say_so(whole: Path) -> None:
    folders = runs_in(whole / "out")
    first, second = (read_results(folder) for folder in folders)
    search = search_of(second)
    slower = search.model_copy(
        update={"tries": tuple(one.model_copy(update={"seconds": one.seconds + 1}) for one in search.tries)}
    )
    alike = board_of(dict(zip(folders, (first, second.model_copy(update={"search": slower})), strict=True)))
    assert alike.search == first.search
    for other in (None, search.model_copy(update={"criterion": "top1"})):
        apart = board_of(dict(zip(folders, (first, second.model_copy(update={"search": other})), strict=True)))
        assert apart.search is None and "search" in apart.differing
        assert "the runs were not tuned alike" in board_markdown([apart])


def test_an_own_loss_is_named_as_one(whole: Path) -> None:
    search = search_of(results_of(whole)[0])
    kd = search.model_copy(update={"own_losses": ("kd",)})
    assert words.own_loss_words(kd) == "forward KL is what kd's own loss is: chosen by it, kd has an advantage."
    assert words.own_loss_words(kd) in words.lead(kd) and "advantage" not in words.lead(search)
    assert "no matter of one another" in words.lead(kd.model_copy(update={"criterion": "loss"}))


def test_a_row_that_is_longer_than_its_tries_were_says_so(whole: Path) -> None:
    results = results_of(whole)[0]
    assert words.told(results) == words.lead(search_of(results))
    rows = [row.model_copy(update={"match": "ddpo"} if row.name == "sft" else {}) for row in results.methods]
    matched = results.model_copy(update={"methods": tuple(rows)})
    said = "the row sft, trained for as many tokens as ddpo, has what was found at that length, and no tries at its own"
    assert said in board_markdown([matched]) and said not in board_markdown([results])
    assert words.told(results.model_copy(update={"search": None})) == ""


def test_a_run_without_a_search_says_nothing_of_one() -> None:
    from tests.harness.results_made import make_run

    assert "search" not in plain(Results.model_validate(make_run()))


def test_a_plot_of_tries_has_rates_by_their_logarithm(whole: Path) -> None:
    search = search_of(results_of(whole)[0])
    shown = charts.tries(search)
    assert [one.title for one in shown] == [one.method for one in search.found]
    assert [text for _, text in shown[0].x_ticks] == ["0.001", "0.01"]  # of those that have a value
    far = search.model_copy(
        update={
            "tries": tuple(
                one.model_copy(update={"point": {"training.learning_rate": rate}, "value": 1.0})
                for one, rate in zip(search.of("sft"), (1e-5, 1e-4, 1e-3), strict=True)
            ),
            "found": search.found[:1],
        }
    )
    (chart,) = charts.tries(far)
    places = [float(x) for x, _ in chart.x_ticks]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)
    assert all(mark.low and mark.high for mark in charts.tries(search)[0].series[0].marks)
