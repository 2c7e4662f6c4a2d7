"""What is refused before any work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baselines.kd import kd_loss
from harness.config import resolve
from harness.core.errors import RefusedError, UserError
from harness.judging import judges
from harness.judging.proxies import TYPICALITY
from harness.judging.registry import whole
from harness.methods import Control, FreshSettings, Method, MethodSettings, methods
from harness.models.hub import Hub, Wanted
from harness.run.checks import check
from harness.run.jobs import DistributionsJob, JudgeJob, TrainJob
from harness.run.road import build_road
from harness.store import Store
from tests.conftest import tiny_model
from tests.harness.run.roads import SERVED, Build, jsonl, made_sources, read_by

ROOT = Path(__file__).parents[3]


# ---- all together


def test_all_that_is_wrong_is_said_at_once(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    seen = jsonl(tmp_path / "seen.jsonl", ["Say two."])
    with pytest.raises(UserError) as caught:
        build(
            eval=[seen, jsonl(tmp_path / "a" / "set.jsonl", ["a"]), jsonl(tmp_path / "b" / "set.jsonl", ["b"])],
            settings={"sft": {"start": "sft"}},
            contrasts=[["sft", "nobody"]],
            judge={"name": "openai:m", "max_cost": 1},
        )
    parts = ["two evaluation sets", "'seen' holds 1", "no row 'nobody'", "settings.sft.start", "judge.max_cost needs"]
    said = str(caught.value)
    assert "\n" not in said and [part for part in parts if part not in said] == []
    assert said.index("two evaluation sets") < said.index("'seen' holds") and "; evaluation set 'seen'" in said


def test_a_refused_run_downloads_nothing(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[bool] = []

    def snapshot(self: Hub, wanted: Wanted, download: bool) -> Path | None:
        fetched.append(download)
        return None

    monkeypatch.setattr(Hub, "snapshot", snapshot)
    config = resolve(
        [
            {
                "student": "owner/small",
                "teacher": "owner/large",
                "train_prompts": jsonl(tmp_path / "train.jsonl", ["Sing!"]),
                "eval": [jsonl(tmp_path / "test.jsonl", ["Sing!"])],
                "judge": "typicality",
            }
        ]
    )
    with pytest.raises(UserError, match="'test' holds 1 of the training prompts"):
        build_road(config, Store(tmp_path / "store"), download=True)
    assert fetched == [False, False]


def test_a_key_is_needed_where_a_judge_is_to_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config, sources = made_sources(judge={"name": "openai:m"})
    store = Store(tmp_path)
    check(config, sources, store, to_be_asked=False)
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        check(config, sources, store, to_be_asked=True)


# ---- prompts, methods and judges


@pytest.mark.anew
def test_a_method_is_tried_once_for_its_sources_and_settings_and_a_refusal_is_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def probe(method: Method, settings: MethodSettings) -> None:
        tried.append(method.name)
        if settings.epochs == 7:
            raise UserError(f"{method.name} is wrong")

    monkeypatch.setattr("harness.run.checks.probe", probe)
    store = Store(tmp_path)

    def asked(**sft: Any) -> list[str]:
        tried.clear()
        config, sources = made_sources(methods=["sft", "kd"], settings={"sft": sft})
        check(config, sources, store, to_be_asked=False)
        return [*tried]

    assert asked() == ["sft", "kd"]
    assert asked() == []
    assert asked(epochs=4) == ["sft"]
    for _ in range(2):
        with pytest.raises(UserError, match="sft is wrong"):
            asked(epochs=7)
        assert tried == ["sft"]
    monkeypatch.setattr(Method, "source_digest", "edited")
    assert asked() == ["sft", "kd"]


def test_a_training_prompt_with_further_turns_is_refused(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    path.write_text('{"question_id": 1, "turns": ["one", "two"]}\n')
    with pytest.raises(UserError, match="prompt '1' has further turns, and a training takes one"):
        build(train_prompts=str(path))
    (evaluation,) = build(eval=[str(path)], judge=read_by("openai:m")).evaluations
    assert evaluation.prompt_set.prompts[0].turns == ("two",)


def test_rows_that_are_not_there_are_named_with_all_else_that_is_refused(build: Build, tmp_path: Path) -> None:
    seen = jsonl(tmp_path / "seen.jsonl", ["Say two."])
    with pytest.raises(RefusedError) as caught:
        build(eval=[seen], contrasts=[["sft", "kid"]], versus=[["kd", "kid"]], methods=["sft", "kd"])
    said = str(caught.value)
    assert "contrasts: the board has no row 'kid'" in said and "versus: the board has no row 'kid'" in said
    assert "holds 1 of the training prompts" in said


def test_evaluation_prompts_that_are_training_prompts_are_refused(build: Build, tmp_path: Path) -> None:
    seen = jsonl(tmp_path / "seen.jsonl", ["Sing!", "Say two."])
    with pytest.raises(UserError, match=r"'seen' holds 1 of the training prompts \(first: seen-1\)"):
        build(eval=[seen])
    build(eval=[seen], limits={"train": 1})  # the second prompt is not trained on now


def test_two_evaluation_sets_of_one_name_are_refused(build: Build, tmp_path: Path) -> None:
    sets = [jsonl(tmp_path / folder / "set.jsonl", [folder]) for folder in ("a", "b")]
    with pytest.raises(UserError, match="two evaluation sets are named 'set'"):
        build(eval=sets)


def test_sft_that_starts_from_itself_is_refused(build: Build) -> None:
    with pytest.raises(UserError, match=r"settings\.sft\.start"):
        build(settings={"sft": {"start": "sft"}})


def test_a_judge_with_an_unknown_measure_is_refused(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = replace(TYPICALITY, name="odd", measure="perplexity")
    monkeypatch.setattr(judges, "_entries", {**dict(judges.items()), "odd": whole(odd)})
    with pytest.raises(UserError, match="judge 'odd' asks for the measure 'perplexity'"):
        build(judge="odd")


@pytest.mark.parametrize(
    ("measure", "why"),
    [
        ("forward_kl", "which reads both distributions at each token of the teacher's responses, and so has no value"),
        ("reverse_kl", "which reads both distributions at each token of the student's own responses, and so has no"),
        ("margin_accuracy", "which reads log-probs of the teacher's and the SFT student's response"),
        ("self_bleu", "which compares the samples of a prompt, and a judge is given single responses; name another"),
    ],
)
def test_a_judge_with_a_measure_that_single_responses_do_not_have_is_refused(
    build: Build, monkeypatch: pytest.MonkeyPatch, measure: str, why: str
) -> None:
    odd = replace(TYPICALITY, name="odd", measure=measure)
    monkeypatch.setattr(judges, "_entries", {**dict(judges.items()), "odd": whole(odd)})
    with pytest.raises(UserError) as refused:
        build(judge="odd")
    assert f"judge 'odd' asks for the measure '{measure}', {why}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("measure", ["length", "cut", "distinct_1", "repetition", "teacher_nll"])
def test_a_judge_may_be_of_any_measure_that_single_responses_have(
    build: Build, monkeypatch: pytest.MonkeyPatch, measure: str
) -> None:
    odd = replace(TYPICALITY, name="odd", measure=measure)
    monkeypatch.setattr(judges, "_entries", {**dict(judges.items()), "odd": whole(odd)})
    jobs = [job for job in build(judge="odd").jobs.values() if isinstance(job, JudgeJob)]
    assert jobs
    for job in jobs:
        read = {"candidate": job.candidate, "reference": job.reference, "samples": job.samples}
        if measure != "teacher_nll":  # responses alone: no job makes anything of them
            assert job.measures == {f"{measure}/{role}": ref for role, ref in read.items()}


def test_a_refused_road_leaves_no_artifact(build: Build, own_store: Path) -> None:
    with pytest.raises(UserError):
        build(settings={"sft": {"start": "sft"}})
    assert not list(own_store.glob("*/*/manifest.json"))


def test_a_prompt_that_a_judge_s_template_cannot_ask_about_is_refused_before_any_work(
    build: Build, tmp_path: Path
) -> None:
    template = tmp_path / "mine.yaml"
    template.write_text((ROOT / "benchmarks/judge_templates/default.yaml").read_text())
    text = "[Asked] {question} [A] {answer_a} [B] {answer_b}"
    row = {"name": "mine", "type": "pairwise", "prompt_template": text, "output_format": "[[A]]"}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    build(judge=read_by("openai:m", template=str(template)), eval=["followups"])
    with pytest.raises(UserError, match=r"judge template mine\.jsonl: prompt '"):
        build(judge=read_by("openai:m", template=str(tmp_path / "mine.jsonl")), eval=["followups"])


def test_a_share_of_fresh_responses_that_no_role_has_is_refused(build: Build) -> None:
    build(methods=["kd"], settings={"kd": {"fresh_share": 0.5}}, controls="none")
    with pytest.raises(
        UserError, match=r"^settings\.distillm2\.fresh_share: distillm2 trains on stored .*; leave it out$"
    ):
        build(methods=["distillm2"], settings={"distillm2": {"fresh_share": 0.5}}, controls="none")


@pytest.mark.parametrize(
    "setting",
    [{"stored": "student"}, {"samples": 3}, {"max_new_tokens": 7}, {"fresh_every": 2}, {"sampling_temperature": 0.5}],
    ids=str,
)
def test_a_setting_of_fresh_responses_that_no_role_has_is_refused(build: Build, setting: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"^settings\.distillm2\.{next(iter(setting))}: .*; leave it out$"):
        build(methods=["distillm2"], settings={"distillm2": setting}, controls="none")


def test_a_control_that_writes_its_own_responses_is_matched_in_tokens_too(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = methods.get

    def controlled(name: str) -> Method:
        made = Control("as-long", "gkd", {"fresh_share": 0.5, "start": "student"}, "more", match_tokens=True)
        return replace(real(name), controls=lambda settings: [made]) if name == "kd" else real(name)

    monkeypatch.setattr(methods, "get", controlled)
    road = build(methods=["kd"])
    job = road.jobs[road.trainings["as-long"]]
    assert isinstance(job, TrainJob) and job.match == road.trainings["kd"] and job.sampling is not None


@pytest.mark.parametrize(
    ("match", "asked", "refused"),
    [
        ("sft", ["sft", "ddpo"], "ddpo"),  # where it starts is all that there is
        ("kd", ["kd", "ddpo", "sft"], "ddpo"),
        ("kd", ["kd", "sft"], ""),
        ("ddpo", ["ddpo", "sft", "kd"], ""),
        ("distillm2", ["distillm2", "ddpo"], ""),
    ],
)
def test_a_budget_that_sft_alone_takes_is_refused(build: Build, match: str, asked: list[str], refused: str) -> None:
    layer = {"methods": asked, "controls": "none", "match": match}
    if not refused:
        build(**layer)
        return
    said = rf"^{refused}: nothing is left to train on: it takes as many tokens as {match} does .*start=student$"
    with pytest.raises(UserError, match=said) as caught:
        build(**layer)
    assert "\n" not in str(caught.value)
    build(**layer, settings={refused: {"start": "student"}})
    if match == "kd":  # it goes through the same responses more often
        build(**layer, settings={"kd": {"epochs": 9}})


@pytest.mark.parametrize(
    ("method", "settings"),
    [("rkl", {"fresh_share": 1.0}), ("kd", {"stored": "student"}), ("kd", {"stored": "student", "fresh_share": 0.5})],
    ids=str,
)
def test_a_likelihood_of_what_the_teacher_wrote_is_refused_where_it_wrote_nothing(
    build: Build, method: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=rf"^settings\.{method}\.nll=0\.5 is of stored responses that the teacher .*"):
        build(methods=[method], settings={method: {"nll": 0.5, **settings}}, controls="none")


@pytest.mark.parametrize(
    ("method", "settings"),
    [("kd", {}), ("rkl", {"fresh_share": 0.5}), ("distillm2", {}), ("dpkd-token", {})],
    ids=str,
)
def test_a_likelihood_of_what_the_teacher_wrote_is_taken_where_it_wrote_some(
    build: Build, method: str, settings: dict[str, Any]
) -> None:
    build(methods=[method], settings={method: {"nll": 0.5, **settings}}, controls="basic")


@pytest.fixture
def known(checkpoints: dict[str, Path]) -> dict[str, Any]:
    """A teacher behind a server, with its tokenizer."""
    return {"teacher": None, "teacher_server": {**SERVED, "tokenizer": str(checkpoints["llama-teacher"])}}


def test_a_served_teacher_s_20_largest_log_probs_are_stored_where_nothing_else_is_said(
    build: Build, known: dict[str, Any]
) -> None:
    jobs = build(**known, methods=["kd"], controls="none").jobs.values()
    (train,) = (job for job in jobs if isinstance(job, TrainJob) and job.method == "kd")
    (read,) = (job for job in jobs if isinstance(job, DistributionsJob))
    assert read.model.served is not None and read.top_k == 20
    assert (train.distributions, train.teacher) == (read.ref, None)
    assert [train.settings[name] for name in ("teacher_signal", "support", "top_k")] == ["stored", "tail", 20]


@pytest.mark.parametrize(
    ("method", "settings"),
    [("kd", {"fresh_share": 0.5}), ("kd", {"teacher_signal": "online"}), ("distillm2", {}), ("opd", {})],
)
def test_a_served_teacher_is_asked_between_steps(
    build: Build, known: dict[str, Any], method: str, settings: dict[str, Any]
) -> None:
    """Of what the policy writes as it trains, of several roles, and where that is asked for."""
    road = build(**known, methods=[method], settings={method: settings}, controls="none")
    (train,) = (job for job in road.jobs.values() if isinstance(job, TrainJob) and job.method == method)
    assert train.teacher is not None and train.teacher.served is not None and train.distributions is None
    assert method == "opd" or (train.settings["support"], train.settings["top_k"]) == ("tail", 20)
    assert train.apart is False  # no file knows its credentials


@pytest.mark.parametrize(
    ("method", "settings", "named"),
    [
        ("opd", {}, True),
        ("opd", {"fresh_share": 0.0, "stored": "student"}, True),
        ("kd", {"stored": "student"}, True),
        ("kd", {}, False),  # it is trained on them: they say it themselves
        ("distillm2", {}, False),
        ("sdft", {}, False),  # as its demonstrations do; its teacher is behind no server
    ],
)
def test_a_training_knows_the_prompts_that_a_server_gives_no_answer_to(
    build: Build, known: dict[str, Any], method: str, settings: dict[str, Any], named: bool
) -> None:
    road = build(**known, methods=[method], settings={method: settings}, controls="none")
    made = [job for job in road.jobs.values() if isinstance(job, DistributionsJob)]
    trained = [job for job in road.jobs.values() if isinstance(job, TrainJob) and job.method == method]
    assert {job.answered for job in (*made, *trained)} == {road.teacher_responses if named else None}
    for job in trained:
        assert road.teacher_responses in (*job.beside, *job.stored)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"support": "full", "teacher_signal": "online"},
            r"top k alone: set settings\.kd\.support=tail, or name a teacher",
        ),
        ({"support": "full"}, r"top k alone: set settings\.kd\.support=tail, or name a teacher"),
        ({"top_k_of": "policy"}, r"top k alone: set settings\.kd\.top_k_of=teacher, or name a teacher that is here$"),
        (
            {"temperature": 2.0},
            r"log-probs at temperature 1: set settings\.kd\.temperature=1, or name a teacher that is",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_what_a_server_cannot_give_is_one_line_with_the_setting(
    build: Build, known: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=rf"^kd: a server gives .*{message}") as caught:
        build(**known, methods=["kd"], settings={"kd": settings}, controls="none")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("names", "said"), [(["kd"], "kd"), (["sft", "kd", "opd", "dadpo"], "kd, opd")])
def test_a_teacher_that_is_read_token_by_token_says_its_tokenizer(build: Build, names: list[str], said: str) -> None:
    with pytest.raises(UserError, match=rf"^{said}: .* set teacher_server\.tokenizer to a model") as caught:
        build(teacher=None, teacher_server=SERVED, methods=names, controls="none")
    assert "\n" not in str(caught.value) and "--methods" in str(caught.value)


def with_method(monkeypatch: pytest.MonkeyPatch, like: str, **fields: Any) -> None:
    """Have a method `own`, as another but for these fields."""
    fields = {"name": "own", "controls": lambda _settings: [], "compared_with": (), **fields}
    monkeypatch.setattr(methods, "_entries", {**dict(methods.items()), "own": replace(methods.get(like), **fields)})


def test_a_stored_top_k_is_of_a_teacher_that_is_shown_nothing(build: Build) -> None:
    settings = {"teacher_signal": "stored", "fresh_share": 0.0, "top_k_of": "teacher"}
    with pytest.raises(UserError, match=r"^sdft: settings\.sdft\.teacher_signal=stored keeps .*; set it to online$"):
        build(methods=["sdft"], settings={"sdft": settings}, controls="none")


def test_a_stored_top_k_is_of_the_first_sample(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    with_method(monkeypatch, "kd", responses=(("response", "student", 1),))
    build(methods=["own"])
    with pytest.raises(UserError, match=r"^own: settings\.own\.teacher_signal=stored is of the first sample of each"):
        build(methods=["own"], settings={"own": {"teacher_signal": "stored"}})


@pytest.fixture
def two_tokenizers(tmp_path: Path, other_tokenizer: Any) -> dict[str, Any]:
    """A teacher that splits text otherwise than the student."""
    folder = tmp_path / "foreign"
    tiny_model("llama", 4, 32).save_pretrained(folder)
    other_tokenizer.save_pretrained(folder)
    return {"teacher": str(folder), "measures": ["length"], "controls": "none"}


FRESH_PAIR: dict[str, Any] = {
    "responses": (("chosen", "teacher", 0), ("rejected", "policy", 0)),
    "settings": FreshSettings,
    "reads": ("teacher",),
    "transform": None,
    "loss": lambda inputs, settings: inputs.teacher.sum(1) - inputs.policy.sum(1),
}


def test_sums_of_fresh_responses_are_of_the_student_s_own_tokens(
    build: Build, two_tokenizers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_method(monkeypatch, "dadpo", **FRESH_PAIR)
    build(**two_tokenizers, methods=["own"], settings={"own": {"fresh_share": 0.0}})  # each by its own tokens
    with pytest.raises(UserError, match=r"tokenizer"):
        build(**two_tokenizers, methods=["own"], settings={"own": {"fresh_share": 0.5}})


def test_the_reference_is_read_by_the_student_s_tokens_whatever_the_teacher_s_are(
    build: Build, two_tokenizers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(inputs: Any, settings: Any) -> Any:
        return kd_loss(inputs.policy, inputs.reference)

    with_method(monkeypatch, "kd", reads=("reference",), loss=loss)
    build(**two_tokenizers, methods=["own"])
    with pytest.raises(UserError, match=r"tokenizer"):
        build(**two_tokenizers, methods=["kd"])


def test_tokens_that_the_teacher_wrote_are_read_by_it(
    build: Build, two_tokenizers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(inputs: Any, settings: Any) -> Any:
        return inputs.policy - inputs.reference

    with_method(monkeypatch, "opd", reads=("reference",), loss=loss)
    build(**two_tokenizers, methods=["own"], settings={"own": {"stored": "student"}})
    with pytest.raises(UserError, match=r"tokenizer"):
        build(**two_tokenizers, methods=["own"], settings={"own": {"stored": "teacher", "fresh_share": 0.5}})


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("distributed_type: FSDP\nfsdp_config: {fsdp_version: 2}\n", True),
        ('{"distributed_type": "FSDP"}', True),
        ("distributed_type: MULTI_GPU\n", False),
        ("[", False),  # accelerate says what is wrong with it
        ("- a\n", False),
    ],
)
def test_what_samples_as_it_trains_is_not_sharded(build: Build, tmp_path: Path, text: str, refused: bool) -> None:
    file = tmp_path / "accelerate.yaml"
    file.write_text(text)
    ranks = {"launcher": "accelerate", "processes": 2, "accelerate_config": str(file), "controls": "none"}
    build(**ranks, methods=["kd", "gkd"], settings={"gkd": {"fresh_share": 0.0}})
    if not refused:
        build(**ranks, methods=["kd", "gkd"])
        return
    with pytest.raises(UserError, match=r"^gkd: the policy samples as it trains, .* leave accelerate_config out, set"):
        build(**ranks, methods=["kd", "gkd"])


@pytest.mark.parametrize("judge", ["proxy", "typicality", "embedding"])
def test_a_judge_that_measures_takes_no_prompts_of_several_turns(build: Build, tmp_path: Path, judge: str) -> None:
    (tmp_path / "far.jsonl").write_text('{"id": "a", "prompt": "Sing!", "turns": ["More."]}\n')
    with pytest.raises(UserError, match=r"measures answers to one turn, and 'far' has prompts of several") as caught:
        build(judge=judge)
    assert "\n" not in str(caught.value)
    build(judge=judge, eval=["everyday-test"])
    build(judge=read_by("openai:m"))
