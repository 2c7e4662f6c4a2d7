"""Judging through the real command against a server: statuses, what is asked again, limits, panels, and whole runs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.judging import JudgeFactory, api, judges
from harness.judging.proxies import EMBEDDING
from harness.models.hub import Hub, Wanted
from harness.serving import endpoint
from tests import serving
from tests.conftest import Ended
from tests.serving import Answering, Call, Fault, Reply, Server, completion, digest, fraction, judged, mixed, status
from tests.waiting import LIMIT, until

ROOT = Path(__file__).parents[1]
PROMPTS = 40
KEY = "sk-0123456789abcdef"


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.001)
    return folder


@pytest.fixture
def cli(cli: Any) -> Any:
    """Run a command as a process of its own would: nothing learnt of a server outlives it."""

    def run(*arguments: str | Path) -> Ended:
        try:
            ended: Ended = cli(*arguments)
        finally:
            for session in api._sessions.values():
                session.close()
            api._sessions.clear()
        return ended

    return run


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def files(cwd: Path) -> list[str]:
    """Arguments: two files of responses to as many prompts."""
    ours = [{"prompt_id": f"p{i}", "prompt": f"Question {i}?", "response": f"Ours {i}."} for i in range(PROMPTS)]
    theirs = [{"prompt_id": f"p{i}", "response": f"Theirs {i}."} for i in range(PROMPTS)]
    found = [write(cwd / "ours.jsonl", ours), write(cwd / "theirs.jsonl", theirs)]
    return ["--candidate", str(found[0]), "--reference", str(found[1]), "--out", "verdicts.jsonl"]


def at(server: Server, judge: str = "openai:stub", *settings: str) -> list[str]:
    return ["--judge", judge, "--set", f"judge.base_url={server.base_url}", *settings]


def good(call: Call) -> Reply:
    return judged(call.body)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(good) as made:
        yield made


def fails_on(share: float, of: Callable[[Call], Reply] = good) -> Answering:
    """A server that never answers some of the questions, whatever is done."""

    def answering(call: Call) -> Reply:
        return status(500) if fraction("lost", digest(call.body["messages"])) < share else of(call)

    return answering


def assert_one_line(ended: Ended, *parts: str) -> None:
    assert ended.status == 2, ended.out + ended.err
    assert ended.err.startswith("error: ") and ended.err.count("\n") == 1, ended.err
    for part in parts:
        assert part in ended.err
    assert KEY not in ended.out + ended.err


# ---- files


def test_two_files_are_judged_in_both_orders(cli: Any, files: list[str], server: Server) -> None:
    ended = cli("judge", *files, *at(server))
    assert ended.status == 0, ended.err
    found = lines(Path("verdicts.jsonl"))
    assert [(row["prompt_id"], row["order"]) for row in found] == [
        (f"p{i}", order) for i in range(PROMPTS) for order in ("candidate_first", "reference_first")
    ]
    assert {(row["status"], row["judge"], row["candidate"], row["reference"]) for row in found} == {
        ("ok", "openai:stub", "ours", "theirs")
    }
    assert len(server.calls) == 2 * PROMPTS
    assert {call.headers["authorization"] for call in server.calls} == {f"Bearer {KEY}"}
    assert f"openai:stub: {2 * PROMPTS} of {2 * PROMPTS} verdicts ok (100.0%)" in ended.out
    assert f"{200 * PROMPTS:,} tokens in" in ended.out and "cost unknown" in ended.out
    assert "80 verdicts written to verdicts.jsonl" in ended.err
    for path in Path.cwd().parent.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_the_preferences_are_the_server_s_for_each_side(cli: Any, files: list[str], server: Server) -> None:
    cli("judge", *files, *at(server))
    asked = {}
    for call in server.calls:
        text = call.body["messages"][-1]["content"]
        number = re.search(r"Ours (\d+)\.", text)
        assert number
        first = text.index("Ours") < text.index("Theirs")
        preference = 0.01 + 0.98 * fraction(call.body["messages"])
        asked[f"p{number[1]}", "candidate_first" if first else "reference_first"] = (
            preference if first else 1 - preference
        )
    found = {(row["prompt_id"], row["order"]): row["preference"] for row in lines(Path("verdicts.jsonl"))}
    assert found == pytest.approx(asked)


def test_a_second_run_asks_nothing_and_writes_the_same(cli: Any, files: list[str], server: Server) -> None:
    cli("judge", *files, *at(server))
    before = Path("verdicts.jsonl").read_bytes()
    ended = cli("judge", *files, *at(server))
    assert (ended.status, len(server.calls)) == (0, 2 * PROMPTS)
    assert Path("verdicts.jsonl").read_bytes() == before
    assert f"{2 * PROMPTS} from the cache, 0 asked for now" in ended.out and "tokens in" not in ended.out
    assert cli("judge", *files, *at(server), "--refresh").status == 0
    assert len(server.calls) == 4 * PROMPTS


def test_identical_responses_cost_nothing(cli: Any, files: list[str], server: Server, cwd: Path) -> None:
    rows = lines(cwd / "ours.jsonl")
    write(cwd / "theirs.jsonl", [{"prompt_id": row["prompt_id"], "response": row["response"]} for row in rows])
    ended = cli("judge", *files, *at(server))
    assert ended.status == 0 and server.calls == []
    assert f"{2 * PROMPTS} of identical responses" in ended.out


def test_passing_failures_leave_no_trace(cli: Any, files: list[str]) -> None:
    with Server(mixed(0.1)) as server:
        ended = cli("judge", *files, *at(server), "--set", "judge.tries=12")
        assert ended.status == 0, ended.out + ended.err
        assert len(server.calls) > 2 * PROMPTS
    assert {row["status"] for row in lines(Path("verdicts.jsonl"))} == {"ok"}


def test_a_server_that_fails_on_some_questions_gives_status_3_and_only_those_are_asked_again(
    cli: Any, files: list[str]
) -> None:
    with Server(fails_on(0.05)) as server:
        ended = cli("judge", *files, *at(server), "--set", "judge.tries=2")
        lost = {row["prompt_id"] for row in lines(Path("verdicts.jsonl")) if row["status"] == "failed"}
        assert ended.status == 3 and 0 < len(lost) < 10
        assert len(lines(Path("verdicts.jsonl"))) == 2 * PROMPTS
        line = next(line for line in ended.out.splitlines() if line.startswith("- failed"))
        assert set(re.findall(r"\bp\d+\b", line)) == lost
        assert "run the same command again to ask for them" in line and "(2 tries)" in line
        failed = sum(row["status"] == "failed" for row in lines(Path("verdicts.jsonl")))
        before = len(server.calls)
        assert cli("judge", *files, *at(server), "--set", "judge.tries=2").status == 3
        assert len(server.calls) == before + 2 * failed
        server.answering = good
        ended = cli("judge", *files, *at(server))
        assert ended.status == 0 and len(server.calls) == before + 3 * failed
        assert f"{2 * PROMPTS - failed} from the cache, {failed} asked for now" in ended.out
    assert {row["status"] for row in lines(Path("verdicts.jsonl"))} == {"ok"}


def test_how_many_must_be_ok_is_a_setting(cli: Any, files: list[str]) -> None:
    with Server(fails_on(0.05)) as server:
        arguments = [*files, *at(server), "--set", "judge.tries=1", "--set"]
        assert cli("judge", *arguments, "judge.least_ok=0.5").status == 0
        assert cli("judge", *arguments, "judge.least_ok=0.999").status == 3


def test_answers_without_a_verdict_are_shown_and_not_paid_for_again(cli: Any, files: list[str]) -> None:
    def unsure(call: Call) -> Reply:
        odd = "Question 7?" in call.body["messages"][-1]["content"]
        return completion("C", [("C", -0.01), ("A", -7.0), ("B", -8.0)]) if odd else judged(call.body)

    with Server(unsure) as server:
        ended = cli("judge", *files, *at(server))
        assert ended.status == 3
        assert re.search(r"^- unparsable \(.*\): p7; an answer without a verdict; --refresh", ended.out, re.MULTILINE)
        before = len(server.calls)
        assert cli("judge", *files, *at(server)).status == 3 and len(server.calls) == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_judging_that_was_ended_goes_on_where_it_was(cli: Any, files: list[str], how: signal.Signals) -> None:
    def until_ended(call: Call) -> Reply | Fault:
        return judged(call.body) if call.number < answered or resumed else serving.stall(3600)

    concurrency, answered, resumed = 4, 20, False
    with Server(until_ended) as server:
        arguments = ["judge", *files, *at(server), "--set", f"judge.concurrency={concurrency}"]
        with subprocess.Popen(
            [sys.executable, "-m", "harness", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            until(lambda: len(server.calls) == answered + concurrency or process.poll() is not None)
            process.send_signal(how)
            out, said = process.communicate(timeout=LIMIT)
        if how is signal.SIGINT:
            assert process.returncode == 130
            assert out == "" and said == "interrupted; the same command goes on from here\n"
            kept = lines(Path("verdicts.jsonl"))  # what arrived is there to be read
            assert len(kept) == answered and {row["status"] for row in kept} == {"ok"}
        resumed = True
        ended = cli(*arguments)
        assert ended.status == 0
        assert f"{answered} from the cache, {2 * PROMPTS - answered} asked for now" in ended.out
        # those on their way when it ended are asked again, and no others
        assert len(server.calls) == 2 * PROMPTS + concurrency
    assert len(lines(Path("verdicts.jsonl"))) == 2 * PROMPTS


# ---- status 2: nothing can be judged


def test_a_wrong_key_costs_one_call_and_is_never_said(cli: Any, files: list[str]) -> None:
    def refuses(call: Call) -> Reply:
        return status(401, f"Incorrect API key provided: {KEY}.", code="invalid_api_key")

    with Server(refuses) as server:
        assert_one_line(cli("judge", *files, *at(server)), "judge openai:stub", "refuses the key", "401")
        assert len(server.calls) == 1


def test_an_unknown_model_costs_one_call(cli: Any, files: list[str]) -> None:
    def unknown(call: Call) -> Reply:
        return status(404, "The model `stub` does not exist", code="model_not_found")

    with Server(unknown) as server:
        assert_one_line(cli("judge", *files, *at(server)), "no such model or address")
        assert len(server.calls) == 1


BAD: dict[str, tuple[list[str], list[str]]] = {
    "unknown judge": (["--judge", "opnai:stub"], ["unknown judge 'opnai:stub'", "did you mean 'openai'?"]),
    "no model": (["--judge", "openai"], ["names no model; say openai:MODEL"]),
    "one judge twice": (["--judge", "openai:a,openai:a"], ["judge.name", "each once"]),
    "a proxy": (["--judge", "typicality"], ["judge 'typicality' reads measures that only a run makes"]),
    "a proxy in a panel": (["--judge", "openai:stub,proxy"], ["judge 'proxy' reads measures"]),
    "a limit without prices": (["--judge", "openai:stub", "--max-cost", "1"], ["judge.prices.input"]),
    "an unknown setting": (["--judge", "openai:stub", "--set", "judge.trys=1"], ["judge.trys", "mean 'tries'?"]),
    "a run's setting": (["--judge", "openai:stub", "--set", "seed=1"], ["unknown configuration key 'seed'"]),
    "an unknown template": (["--judge", "openai:stub", "--template", "defalt"], ["defalt", "default"]),
    "a URL with a query": (
        ["--judge", "openai:stub", "--set", "judge.base_url=http://me:pa55word@h/v1?k=1"],
        ["judge.base_url", "no query"],
    ),
    "a missing file": (["--judge", "openai:stub", "--candidate", "missing.jsonl"], ["missing.jsonl: cannot be read"]),
    "a bad row": (["--judge", "openai:stub", "--reference", "bad.jsonl"], ["bad.jsonl:2: 'response' is missing"]),
    "other prompts": (["--judge", "openai:stub", "--reference", "other.jsonl"], ["other.jsonl has no response to"]),
    "a folder to write to": (["--judge", "openai:stub", "--out", "."], ["--out . is a folder"]),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "parts"), BAD.values(), ids=BAD)
def test_what_cannot_be_judged_is_one_line_before_any_call(
    cli: Any, files: list[str], server: Server, arguments: list[str], parts: list[str]
) -> None:
    Path("bad.jsonl").write_text('{"prompt_id": "p0", "response": "x"}\n{"prompt_id": "p1"}\n')
    Path("other.jsonl").write_text('{"prompt_id": "q", "response": "x"}\n')
    ended = cli("judge", *files, "--set", f"judge.base_url={server.base_url}", *arguments)
    assert_one_line(ended, *parts)
    assert server.calls == [] and not Path("verdicts.jsonl").exists()
    assert "pa55" not in ended.err


def test_all_that_is_wrong_with_the_judges_is_said_before_a_model_is_fetched(
    cli: Any, files: list[str], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[bool] = []

    def snapshot(self: Hub, wanted: Wanted, download: bool) -> Path | None:
        fetched.append(download)
        return None

    monkeypatch.setattr(Hub, "snapshot", snapshot)
    monkeypatch.delenv("OPENAI_API_KEY")
    own = "judge.own={'openai:m': {base_url: null}, 'openai:n': {template: defalt}}"
    ended = cli("judge", *files, *at(server, "transformers:owner/model,openai:m,openai:n", "--set", own))
    assert_one_line(ended, "defalt", "; ", "export OPENAI_API_KEY=")
    assert fetched == [False]


def test_a_family_that_reads_measures_is_refused(cli: Any, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "_entries", dict(judges.items()))
    judges.add("near", JudgeFactory("near", "by embedding", lambda *_: EMBEDDING, measures=("embedding",)))
    assert_one_line(cli("judge", *files, "--judge", "near:mine"), "judge 'near:mine' reads measures that only a run")


def test_no_server_at_all_gives_up_before_long(cli: Any, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    call = endpoint.Endpoint._call

    async def counted(asked: endpoint.Endpoint, path: str, body: dict[str, Any]) -> dict[str, Any]:
        called.append(path)
        return await call(asked, path, body)

    monkeypatch.setattr(endpoint.Endpoint, "_call", counted)
    with socket.socket() as taken:  # nobody listens there, and nobody else can meanwhile
        taken.bind(("127.0.0.1", 0))
        gone = f"judge.base_url=http://127.0.0.1:{taken.getsockname()[1]}/v1"
        concurrency = 4
        patience = ("--set", "judge.tries=1", "--set", f"judge.concurrency={concurrency}")
        ended = cli("judge", *files, "--judge", "openai:stub", "--set", gone, *patience)
    assert api.GIVE_UP_AFTER <= len(called) < api.GIVE_UP_AFTER + concurrency < 2 * PROMPTS
    assert ended.status in (2, 3) and "connection failed" in ended.out + ended.err


# ---- money

PRICES = ("--set", "judge.prices={input: 10000, output: 10000}")  # a question: about 100 tokens in, 1 out


def test_a_limit_of_cost_stops_before_it_and_the_next_run_goes_on(cli: Any, files: list[str], server: Server) -> None:
    limited = ["judge", *files, *at(server), *PRICES, "--set", "judge.concurrency=1", "--max-cost"]
    ended = cli(*limited, "40")
    spent = 101 * 10_000 / 1e6 * len(server.calls)
    assert ended.status == 3 and 0 < len(server.calls) < 2 * PROMPTS and spent <= 40
    assert "cost" in ended.out and "the limit of judge.max_cost is reached" in ended.out
    first = len(server.calls)
    cli(*limited, "40")  # of this run
    assert first < len(server.calls) <= 2 * first
    while cli(*limited, "40").status == 3:
        assert len(server.calls) <= 2 * PROMPTS
    assert len(server.calls) == 2 * PROMPTS and len({digest(call.body) for call in server.calls}) == 2 * PROMPTS
    assert {row["status"] for row in lines(Path("verdicts.jsonl"))} == {"ok"}


def test_a_limit_that_is_less_than_one_question_asks_nothing(cli: Any, files: list[str], server: Server) -> None:
    ended = cli("judge", *files, *at(server), *PRICES, "--max-cost", "0.001")
    assert ended.status == 3 and server.calls == []
    assert {row["status"] for row in lines(Path("verdicts.jsonl"))} == {"skipped"}


# ---- panels


def test_two_models_are_a_panel(cli: Any, files: list[str]) -> None:
    def by_model(call: Call) -> Reply:
        first = fraction(call.body["model"], call.body["messages"])
        return completion("A" if first > 0.5 else "B", [("A", -0.1), ("B", -3.0)] if first > 0.5 else [("B", -0.1)])

    with Server(by_model) as server:
        own = "judge.own={'openai:two': {prices: {input: 1, output: 1}}}"
        ended = cli("judge", *files, *at(server, "openai:one,openai:two", "--set", own))
        assert ended.status == 0
        assert {call.body["model"] for call in server.calls} == {"one", "two"}
        assert len(server.calls) == 4 * PROMPTS
    found = lines(Path("verdicts.jsonl"))
    assert [row["judge"] for row in found] == ["openai:one"] * 2 * PROMPTS + ["openai:two"] * 2 * PROMPTS
    for name in ("panel (majority)", "panel (mean)", "openai:one", "openai:two"):
        assert re.search(rf"^\| {re.escape(name)} +\|", ended.out, re.MULTILINE)
    assert f"openai:one and openai:two: Cohen's κ" in ended.out and f"over {PROMPTS} prompts" in ended.out  # noqa: F541
    spent = {line.split(":")[1]: line for line in ended.out.splitlines() if "verdicts ok" in line}
    assert "cost unknown" in spent["one"] and "cost 0.00808" in spent["two"]


def test_one_judge_of_a_panel_that_fails_gives_status_3(cli: Any, files: list[str]) -> None:
    def answering(call: Call) -> Reply:
        return judged(call.body) if call.body["model"] == "one" else fails_on(0.2)(call)  # type: ignore[return-value]

    with Server(answering) as server:
        ended = cli("judge", *files, *at(server, "openai:one,openai:two", "--set", "judge.tries=1"))
    assert ended.status == 3
    assert "openai:one: 80 of 80 verdicts ok" in ended.out and "openai:two: 80 of 80" not in ended.out


# ---- whole runs


@pytest.fixture
def tiny(cwd: Path, checkpoints: dict[str, Path]) -> list[str]:
    """A run of tiny models that takes seconds: two prompts to judge on."""
    train = write(cwd / "train.jsonl", [{"id": f"t{i}", "prompt": f"Tell me about {i}."} for i in range(4)])
    test = write(cwd / "test.jsonl", [{"id": f"e{i}", "prompt": f"Why is {i} good?"} for i in range(2)])
    return [
        *("--student", str(checkpoints["llama"]), "--teacher", str(checkpoints["llama-teacher"])),
        *("--train-prompts", str(train), "--eval", str(test), "--methods", "sft"),
        *("--set", "train_sampling.max_new_tokens=6", "--set", "eval_sampling.max_new_tokens=6"),
    ]


QUESTIONS = 2 * 2 * 3  # prompts, orders, and candidates: teacher, untrained student, sft


@pytest.mark.slow
def test_a_run_with_a_judge_that_reads_has_it_on_the_board(cli: Any, tiny: list[str], server: Server) -> None:
    judge = at(server, "openai:fake")
    ended = cli("run", *tiny, *judge, "--out", "result")
    assert ended.status == 0, ended.err
    board = Path("result/leaderboard.md").read_text()
    header = next(line for line in board.splitlines() if line.startswith("Judge: "))
    assert re.match(r"Judge: openai:fake \(model fake, server http://127\.0\.0\.1:\d+/v1, template default", header)
    results = json.loads(Path("result/results.json").read_text())
    (described,) = results["judges"]
    template = re.fullmatch(r"default \(([0-9a-f]{8,64})\)", described["setup"]["template"])
    assert template and template[1] in header
    assert described["setup"]["server"] == server.base_url and described["setup"]["model"] == "fake"
    assert "declared proxy" not in board and "further teacher samples" not in board and results["judge_samples"] == 0
    asked = len(server.calls)
    identical = sum(row["identical"] for row in results["rows"])
    assert 0 < asked <= QUESTIONS - 2 * identical
    for row in results["rows"]:
        assert row["flips"]["n"] == row["n"] == 2 and "identical" in row
    stages = json.loads(Path("result/manifest.json").read_text())["stages"]
    assert not any("teacher for judging" in stage["label"] for stage in stages)

    before = {path: path.read_bytes() for path in Path("result").glob("*.*")}
    ended = cli("run", *tiny, *judge, "--out", "result")  # a rerun makes no call
    assert ended.status == 0 and len(server.calls) == asked and "\n0 of " in "\n" + ended.err
    assert {path: path.read_bytes() for path in before} == before

    ended = cli("run", *tiny, *judge, "--out", "result", "--refresh")
    assert ended.status == 0 and len(server.calls) == 2 * asked
    assert (Path("result/verdicts.jsonl").read_text().count('"ok"')) == QUESTIONS

    # another name for how fast it is asked is no other judge
    ended = cli("run", *tiny, *judge, "--set", "judge.concurrency=2", "--out", "again")
    assert ended.status == 0 and len(server.calls) == 2 * asked
    # another template is
    assert cli("run", *tiny, *judge, "--set", "judge.form=rationale", "--out", "third").status == 0
    assert len(server.calls) > 2 * asked


@pytest.mark.slow
def test_a_run_whose_judge_fails_shows_it_and_asks_for_the_rest_alone(cli: Any, tiny: list[str]) -> None:
    with Server(fails_on(0.3)) as server:
        judge = [*at(server, "openai:fake"), "--set", "judge.tries=1", "--out", "result"]
        ended = cli("run", *tiny, *judge)
        assert ended.status == 3 and "judgings lack verdicts: run it again to ask for them" in ended.err
        results = json.loads(Path("result/results.json").read_text())
        failed = sum(row["failed_verdicts"] for row in results["rows"])
        assert 0 < failed < QUESTIONS and sum(row["missing"] for row in results["rows"]) > 0
        server.answering, before = good, len(server.calls)
        ended = cli("run", *tiny, *judge)
        assert ended.status == 0 and "lack verdicts" not in ended.err
        results = json.loads(Path("result/results.json").read_text())
        assert sum(row["failed_verdicts"] for row in results["rows"]) == 0
        assert len(server.calls) <= before + failed


@pytest.mark.slow
def test_a_run_with_a_panel_and_a_proxy_has_them_all_on_the_board(cli: Any, tiny: list[str], server: Server) -> None:
    ended = cli("run", *tiny, *at(server, "openai:one,openai:two,typicality"), "--out", "result")
    assert ended.status == 0, ended.err
    results = json.loads(Path("result/results.json").read_text())
    names = ["panel (majority)", "panel (mean)", "openai:one", "openai:two", "typicality"]
    assert results["judge"] == names[0] and [judge["name"] for judge in results["judges"]] == names
    assert {row["judge"] for row in results["rows"]} == set(names)
    pairs = [(pair["first"], pair["second"]) for pair in results["agreement"]]
    assert pairs == [(names[2], names[3]), (names[2], names[4]), (names[3], names[4])]
    by_judge = {name: [row["identical"] for row in results["rows"] if row["judge"] == name] for name in names}
    assert len(set(map(tuple, by_judge.values()))) == 1
    board = Path("result/leaderboard.md").read_text()
    assert "Agreement of the judges" in board and "judges openai:one, openai:two, typicality" in board
    assert "**Not all judges read: typicality is a declared proxy.**" in board


@pytest.mark.slow
def test_credentials_of_a_url_are_in_nothing_that_a_run_leaves(
    cli: Any, cwd: Path, tiny: list[str], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    url = server.base_url.replace("http://", "http://user:pa55word@")
    ended = cli("run", *tiny, "--judge", "openai:fake", "--set", f"judge.base_url={url}", "--out", "result")
    assert ended.status == 0, ended.err
    assert {call.headers["authorization"] for call in server.calls} == {"Basic dXNlcjpwYTU1d29yZA=="}
    assert "pa55" not in ended.out + ended.err
    for path in cwd.parent.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"pa55" not in data and b"dXNlcjpwYTU1d29yZA" not in data, path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], "cost unknown (set judge.prices.input and judge.prices.output)"),
        (["--set", "judge.prices={input: 1000000, output: 2000000}"], None),
    ],
)
def test_plan_says_what_a_judge_would_cost(
    cli: Any, tiny: list[str], server: Server, settings: list[str], expected: str | None
) -> None:
    ended = cli("plan", *tiny, *at(server, "openai:x"), *settings)
    assert ended.status == 0 and server.calls == []
    found = re.search(r"judge openai:x: (\d+) calls, about ([\d,]+) tokens in and (\d+)\s+out, (.*)", ended.out)
    assert found, ended.out
    calls, tokens, reply = (int(found[number].replace(",", "")) for number in (1, 2, 3))
    assert (calls, reply) == (QUESTIONS, QUESTIONS)  # a letter each
    assert calls * 100 < tokens < calls * 2000
    text = " ".join(ended.out.split())
    if expected:
        assert expected in text
    else:
        cost = re.search(r"cost ([\d.e+]+);", text)
        assert cost and float(cost[1]) == pytest.approx(tokens + 2 * reply, rel=1e-3)


@pytest.mark.slow
def test_plan_says_nothing_of_money_for_a_proxy(cli: Any, tiny: list[str]) -> None:
    ended = cli("plan", *tiny, "--judge", "typicality")
    assert ended.status == 0 and "calls" not in ended.out and "cost" not in ended.out


# ---- judge-check


@pytest.mark.slow
def test_judge_check_finds_a_judge_at_chance_and_pays_for_it_once(cli: Any, cwd: Path, server: Server) -> None:
    ended = cli("judge-check", *at(server), "--out", "report.md")
    assert ended.status == 3 and "chance" in ended.out.splitlines()[-1] + ended.out
    assert (cwd / "report.md").read_text().strip() == ended.out.strip()
    first = len(server.calls)
    ended = cli("judge-check", *at(server))
    assert ended.status == 3 and len(server.calls) - first == 120  # the second asking alone is never from the cache


def test_judge_check_refuses_what_is_no_label_file(cli: Any, cwd: Path, server: Server) -> None:
    write(
        cwd / "labels.jsonl", [{"prompt_id": "p", "prompt": "Q?", "response_a": "a", "response_b": "b", "label": "c"}]
    )
    assert_one_line(cli("judge-check", *at(server), "--labels", "labels.jsonl"), "labels.jsonl:1")
    assert server.calls == []


def test_judge_never_writes_over_what_it_reads(cli: Any, files: list[str], server: Server) -> None:
    files[-1] = files[1]
    assert_one_line(cli("judge", *files, *at(server)), "one of the files to judge")
    assert server.calls == []
