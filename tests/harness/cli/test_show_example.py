"""`show-example`: what is shown is what is trained, and text from outside is text."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from harness import __main__ as program
from harness.cli import run
from harness.cli.options import RunRequest
from harness.core.errors import UserError
from harness.core.records import Message, Prompt, Response, read_records
from harness.methods import PAIR, methods
from harness.models.reference import Model
from harness.models.tokenizers import load_tokenizer
from harness.reports.preview import preview_text
from harness.run import launch
from harness.run.jobs import RESPONSES, PruneJob
from harness.run.preview import Data, Part, Piece, Preview, loss_masks, pieces, previews_of, student_tokenizer
from harness.run.stages import inputs
from tests.harness.making import saved
from tests.harness.tiny_runs import make_responses, request, road_of

TEACHER, STUDENT = "responses: teacher, training prompts", "responses: SFT student, training prompts"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Path:
    """The store of a run of SFT, KD and dDPO that got as far as its responses."""
    folder = tmp_path_factory.mktemp("run")
    make_responses(request(folder, checkpoints, "sft,kd,ddpo"), [TEACHER, "train sft", STUDENT])
    return folder


@pytest.fixture
def asked(root: Path, checkpoints: dict[str, Path]) -> RunRequest:
    return request(root, checkpoints, "sft,kd,ddpo")


def row(shown: Preview, marks: bool = True) -> str:
    return preview_text(shown, "train", 0, "python -m harness run", marks).plain


def trained(asked: RunRequest, method: str) -> tuple[Any, Any, Any]:
    """The examples that a training of the run gets, by prompt id; the tokenizer; the road's job."""
    road, store = road_of(asked)
    job: Any = road.jobs[road.trainings[method]]
    tokenizer = load_tokenizer(Path(str(road.weights["student"].path)))
    data = inputs.data_of(job.prompts, job.responses, tokenizer, store, job.max_prompt_tokens)
    return {example.name: example for example in data.examples}, tokenizer, job


@pytest.mark.parametrize("cut", [None, 9])
def test_it_shows_what_training_reads(root: Path, checkpoints: dict[str, Path], cut: int | None) -> None:
    longest = [] if cut is None else [f"max_prompt_tokens={cut}"]
    asked = request(root, checkpoints, "sft,kd,ddpo")
    asked = request(root, checkpoints, "sft,kd,ddpo", set=[*asked.set, *longest])
    if cut is not None:
        make_responses(asked, [TEACHER, "train sft", STUDENT])
    road, store = road_of(asked)
    for method, number in (("sft", 0), ("ddpo", 1)):
        examples, tokenizer, _ = trained(asked, method)
        for index in range(4):
            shown = previews_of(road, store, index)[number]
            example = examples[f"p{index}"]
            assert shown.methods == (("sft", "kd") if method == "sft" else ("ddpo",))
            assert shown.text == tokenizer.decode(example.prompt)
            assert [part.count() for part in shown.parts] == [len(example.prompt), *map(len, example.responses)]
            assert [part.count(in_loss=True) for part in shown.parts] == [0, *map(len, example.responses)]
            for part, ids in zip(shown.parts, [example.prompt, *example.responses], strict=True):
                assert "".join(piece.text for piece in part.pieces) == tokenizer.decode(ids)
            assert (shown.parts[0].cut > 0) == (cut is not None)


def test_a_response_of_another_tokenizer_is_shown_as_it_is_split_anew(
    tmp_path: Path, checkpoints: dict[str, Path], other_tokenizer: Any
) -> None:
    from tests.conftest import tiny_model

    folder = tmp_path / "teacher"
    saved(folder, tiny_model("llama", 3, vocabulary=len(other_tokenizer)), other_tokenizer)
    asked = request(tmp_path / "r", checkpoints, "sft", teacher=str(folder))
    make_responses(asked, [TEACHER])
    road, store = road_of(asked)
    (shown,) = previews_of(road, store, 2)
    assert shown.retokenised and "another tokenizer's, split anew" in row(shown)
    examples, _, _ = trained(asked, "sft")
    assert shown.parts[1].count() == len(examples["p2"].responses[0])


def test_what_is_in_the_loss_is_what_a_batch_has_as_labels() -> None:
    assert loss_masks([1, 2, 3], [[4, 5], [6]]) == [[True, True], [True]]
    assert loss_masks([1], []) == []


# ---- what is sampled while it trains, and whose responses they are


def test_what_the_policy_writes_itself_is_said_to_be_sampled_while_it_trains(
    root: Path, checkpoints: dict[str, Path]
) -> None:
    asked = request(root, checkpoints, "kd")
    (stored,) = previews_of(*road_of(asked), 0)
    half = request(root, checkpoints, "kd", set=[*asked.set, "settings.kd.fresh_share=0.5"])
    (mixed,) = previews_of(*road_of(half), 0)
    assert mixed.parts == stored.parts and "sampled while it trains" not in row(stored)
    assert "response (the teacher's, or of 50% of the examples the policy's own)" in row(mixed)
    assert "response: sampled while it trains, from the policy as it is at that step, in 50% of the" in row(mixed)
    whole = request(root, checkpoints, "kd", set=[*asked.set, "settings.kd.fresh_share=1"])
    (fresh,) = previews_of(*road_of(whole), 0)
    assert [part.role for part in fresh.parts] == ["prompt"] and fresh.missing == ()
    assert "kd: the prompt once, then response (the policy's own)\n" in row(fresh)
    assert "as it is at that step; there is none to show." in row(fresh) and "Not there yet" not in row(fresh)


def test_each_role_is_shown_with_its_own_sample(
    tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = tuple((name, "student", place) for place, name in enumerate("abc"))
    other = replace(
        methods.get("orpo"), name="zz", responses=roles, loss=lambda inputs, settings: -inputs.policy.sum(-1)
    )
    monkeypatch.setitem(methods._all(), "zz", other)
    asked = request(tmp_path / "r", checkpoints, "zz")
    make_responses(asked, [TEACHER, "train sft", f"{STUDENT}, 3 each"])
    road, store = road_of(asked)
    (shown,) = previews_of(road, store, 1)
    (ref,) = {ref for _, ref in shown.data.stored}
    written = [response for response in inputs.load_responses(ref, store) if response.prompt_id == "p1"]
    assert [part.role for part in shown.parts] == ["prompt", "a", "b", "c"]
    assert [part.count() for part in shown.parts[1:]] == [len(response.token_ids) for response in written]
    assert "c (the SFT student's, sample 2)" in row(shown)


def test_what_the_teacher_is_shown_instead_of_the_prompt_is_there_to_read(
    tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sees(messages: list[dict[str, str]], demonstration: str) -> list[dict[str, str]]:
        return [*messages[:-1], {"role": "user", "content": f"{messages[-1]['content']} Like this: {demonstration}!"}]

    monkeypatch.setitem(methods._all(), "zz", replace(methods.get("kd"), name="zz", teacher_sees=sees))
    asked = request(tmp_path / "r", checkpoints, "kd,zz")
    _, before = previews_of(*road_of(asked), 2)
    assert before.teacher_text == "" and "the teacher's response, which the teacher is to see" in row(before)
    make_responses(asked, [TEACHER])
    road, store = road_of(asked)
    kd, shown = previews_of(road, store, 2)
    said = inputs.responses_by_key(road.teacher_responses, store)["p2", 0].text
    assert kd.teacher_text == "" and f"Tell me about 2. Like this: {said}!" in shown.teacher_text
    assert "What the teacher reads instead:\n" in row(shown) and shown.parts == kd.parts


# ---- what is not there yet


def test_without_responses_the_prompt_is_shown_and_nothing_is_made(
    tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_jobs(*_: Any) -> int:
        raise AssertionError("computed")

    monkeypatch.setattr(launch, "run_jobs", no_jobs)
    asked = request(tmp_path / "r", checkpoints, "sft,ddpo")
    run.show_example(asked, 3)
    out = capsys.readouterr().out
    assert "<|im_start|>user\n  Tell me about 3.<|im_end|>\n  <|im_start|>assistant\n" in out
    assert "Not there yet: response. This makes it: python -m harness run" in out
    assert "Not there yet: chosen and rejected." in out and out.count("«") == 2  # in the legends alone
    assert not list((tmp_path / "r" / "store").rglob("manifest.json"))


def test_of_a_pair_that_is_there_by_half_the_half_is_shown(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    asked = request(tmp_path / "r", checkpoints, "ddpo")
    make_responses(asked, [TEACHER])
    (shown,) = previews_of(*road_of(asked), 0)
    assert [part.role for part in shown.parts] == ["prompt", "chosen"] and shown.missing == ("rejected",)


def test_a_tokenizer_that_is_yet_to_be_converted_is_said_to_be(asked: RunRequest) -> None:
    road, store = road_of(asked)
    jobs = {**road.jobs, "convert/0": road.jobs[road.teacher_responses]}
    road = replace(road, jobs=jobs, weights={"student": Model(artifact="convert/0")})
    shown = previews_of(road, store, 0)[0]
    text = row(shown)
    assert "[user] Tell me about 0." in text and "tokenizer is not here yet" in text and "Tokens" not in text


def test_pruning_changes_no_tokenizer(asked: RunRequest) -> None:
    road, store = road_of(asked)
    whole = road.weights["student"]
    prune = PruneJob(model=whole, prompts="prompts/0", responses="respond/0", ratio=0.2)
    jobs = {**road.jobs, prune.ref: prune}
    road = replace(road, jobs=jobs, weights={"student": Model(artifact=prune.ref)})
    assert student_tokenizer(road, store) == (Path(str(whole.path)), whole)


@pytest.mark.parametrize("index", [4, -1])
def test_a_row_that_is_not_there_is_refused(asked: RunRequest, index: int) -> None:
    with pytest.raises(UserError, match="the training prompts are 0 to 3"):
        previews_of(*road_of(asked), index)


# ---- how it is shown


def part(role: str, *texts: str, in_loss: bool = True, cut: int = 0) -> Part:
    return Part(role, tuple(Piece(text, 1, False, in_loss) for text in texts), cut)


def shown_of(*parts: Part, **others: Any) -> Preview:
    prompt = Prompt(id="p", messages=(Message(role="user", content="x"),))
    data = Data(tuple((role, "respond/0") for role in PAIR))
    return Preview(
        **{"methods": ("m",), "data": data, "prompt": prompt, "text": "x", "parts": parts, "missing": (), **others}
    )


def test_marks_where_there_are_no_colours_and_colours_where_there_are() -> None:
    shown = shown_of(
        part("prompt", "Hi", in_loss=False), part("chosen", "Yes", " sir", "\n"), part("rejected", "No", cut=1)
    )
    text = row(shown)
    assert "    Hi\n" in text and "    «Yes» «␣sir» «↵»\n" in text
    assert "chosen: 3 tokens, 3 in the loss; it ends its turn" in text
    assert "rejected: 1 tokens, 1 in the loss; cut at the length limit, so no end of turn is trained" in text
    assert "prompt: 1 tokens, 0 in the loss" in text
    coloured = preview_text(shown, "train", 0, "c", marks=False)
    assert "«" not in coloured.plain
    underlined = {coloured.plain[span.start : span.end] for span in coloured.spans if "underline" in str(span.style)}
    assert underlined == {"Yes", "␣sir", "↵", "No"}


def test_a_pair_of_one_text_is_said_to_be_one() -> None:
    assert "chosen and rejected are the same text" in row(
        shown_of(part("prompt", "x"), part("chosen", "y"), part("rejected", "y"), equal=True)
    )


def test_text_from_outside_is_text() -> None:
    prompt = Prompt(id="[red]p\u001b[31m", messages=(Message(role="user", content="[bold]\u202ex\r\nz"),))
    hostile = part("chosen", "[/red]", "\u001b]0;title\u0007", ":smile:", "\r", "")
    text = preview_text(shown_of(hostile, prompt=prompt, text="[link=x]\u001b[2J"), "[b]s", 0, "c", marks=True)
    assert "\u001b" not in text.plain and "\u202e" not in text.plain and "\r" not in text.plain
    for said in ("[red]p[U+001B]", "[b]s", "«[/red]»", "«[U+001B]]0;title[U+0007]»", "«:smile:»", "«[U+000D]»"):
        assert said in text.plain
    assert "[bold][U+202E]x" in row(shown_of(prompt=prompt, text=None))
    assert isinstance(text, Text)


def test_tokens_that_make_one_character_are_one_piece(tokenizer: Any) -> None:
    ids = tokenizer("a🙂 é", add_special_tokens=False).input_ids
    found = pieces(tokenizer, ids, [True] * len(ids))
    assert "".join(piece.text for piece in found) == "a🙂 é"
    assert ("🙂", 4) in [(piece.text, piece.tokens) for piece in found]
    broken = pieces(tokenizer, [*ids[1:3], tokenizer.eos_token_id], [True] * 3)
    assert [(piece.tokens, piece.control) for piece in broken] == [(2, False), (1, True)]


def test_a_control_token_in_a_text_is_shown_as_text(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    texts = {"train": ["Say <|im_end|> twice."], "test": ["Sing!"]}
    asked = request(tmp_path / "r", checkpoints, "sft", prompts=texts)
    (shown,) = previews_of(*road_of(asked), 0)
    assert sum(piece.control for piece in shown.parts[0].pieces) == 3  # the template's own
    assert "<|im_end|> twice" in str(shown.text)


# ---- the command


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            program.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def test_the_command_takes_the_options_of_run(cli: Any, root: Path, asked: RunRequest) -> None:
    options = [f"--set={text}" for text in asked.set or ()]
    options += [f"--student={asked.student}", f"--teacher={asked.teacher}", f"--train-prompts={asked.train_prompts}"]
    # a judge that is a server needs none to look at a row
    options += [f"--eval={asked.eval}", "--methods=sft,ddpo", "--controls=none", "--judge=openai:m"]
    status, out, err = cli("show-example", *options, "--index", 1)
    assert (status, err) == (0, "")
    road, store = road_of(asked)
    responses = read_records(store.read(road.teacher_responses).path / RESPONSES, Response)
    assert "Not there yet" not in out and f"response: {len(responses[1].token_ids)} tokens" in out
    assert out.count("row 1 of ") == 2 and "Tell me about 1." in out


def test_a_row_beyond_the_last_is_one_line(cli: Any, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    pair = ["--student", checkpoints["llama"], "--teacher", checkpoints["llama-teacher"]]
    status, out, err = cli("show-example", *pair, "--limit", 2, "--index", 2)
    assert (status, out) == (2, "") and err.count("\n") == 1 and "0 to 1" in err
