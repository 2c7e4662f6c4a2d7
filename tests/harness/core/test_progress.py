"""Progress: plain lines where nobody watches, a live view on a terminal."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from harness.core import progress
from harness.core.progress import PLAIN_LINE_SECONDS, SILENT_SECONDS, StageView, plain_console

LONG, SHORT = SILENT_SECONDS * 4, SILENT_SECONDS / 2


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


@pytest.fixture
def printed() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def console(printed: io.StringIO) -> Console:
    return Console(file=printed, width=60)


def test_a_finished_stage_leaves_a_line(console: Console, printed: io.StringIO) -> None:
    with StageView(console, 2) as view:
        view.stage("read set")
        view.finish("read set", LONG)
        view.stage("train sft")
        view.finish("train sft", LONG, "; 8 steps")
    assert printed.getvalue().splitlines() == [
        "[1/2] read set: done in 2.0 s",
        "[2/2] train sft: done in 2.0 s; 8 steps",
    ]


def test_a_short_stage_is_silent(console: Console, printed: io.StringIO) -> None:
    with StageView(console, 2) as view:
        view.stage("read set")
        view.finish("read set", SHORT)
        assert printed.getvalue() == ""
        view.stage("train sft")
        view.finish("train sft", LONG)
    assert printed.getvalue().startswith("[2/2] train sft")  # the silent one is counted


def test_a_short_stage_with_a_note_leaves_a_line(console: Console, printed: io.StringIO) -> None:
    with StageView(console, 1) as view:
        view.stage("judge x")
        view.finish("judge x", SHORT, "; some verdicts failed")
    assert printed.getvalue() == "[1/1] judge x: done in 0.2 s; some verdicts failed\n"


def test_a_label_is_text_and_stays_on_one_line(console: Console, printed: io.StringIO) -> None:
    label = "responses: [bold]me[/bold] " + "very " * 20 + "long"
    with StageView(console, 1) as view:
        view.stage(label)
        view.finish(label, LONG)
    assert printed.getvalue() == f"[1/1] {label}: done in 2.0 s\n"


def test_a_long_stage_prints_how_far_it_is(console: Console, printed: io.StringIO, clock: Clock) -> None:
    with StageView(console, 1) as view:
        tick = view.stage("train sft")
        for done in range(1, 5):
            clock.now += PLAIN_LINE_SECONDS * 0.6
            tick(done, 10)
        view.finish("train sft", LONG)
    lines = printed.getvalue().splitlines()
    assert lines == [
        "[1/1] train sft: 2/10, about 72 s left",
        "[1/1] train sft: 4/10, about 54 s left",
        "[1/1] train sft: done in 2.0 s",
    ]


def test_ticks_that_come_fast_print_nothing(console: Console, printed: io.StringIO, clock: Clock) -> None:
    with StageView(console, 1) as view:
        tick = view.stage("train sft")
        for done in range(100):
            clock.now += PLAIN_LINE_SECONDS / 101
            tick(done, 100)
    assert printed.getvalue() == ""


def test_nothing_is_foretold_before_anything_is_done(console: Console, printed: io.StringIO, clock: Clock) -> None:
    with StageView(console, 1) as view:
        tick = view.stage("load")
        clock.now += 10 * PLAIN_LINE_SECONDS
        tick(0, 10)
        assert printed.getvalue() == ""
        tick(1, 10)
    assert "1/10" in printed.getvalue()


def test_each_stage_has_a_clock_of_its_own(console: Console, printed: io.StringIO, clock: Clock) -> None:
    with StageView(console, 2) as view:
        view.stage("first")
        clock.now += 2 * PLAIN_LINE_SECONDS
        view.finish("first", SHORT)
        view.stage("second")(1, 2)
    assert printed.getvalue() == ""


def test_the_interval_is_the_modules(
    console: Console, printed: io.StringIO, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_LINE_SECONDS", 1.0)
    with StageView(console, 1) as view:
        tick = view.stage("quick")
        clock.now += 1.0
        tick(1, 2)
    assert printed.getvalue() == "[1/1] quick: 1/2, about 1 s left\n"


# ---- live


@pytest.fixture
def terminal(printed: io.StringIO) -> Console:
    return Console(file=printed, width=100, force_terminal=True)


def test_a_live_view_runs_and_leaves_the_lines_of_stages(terminal: Console, printed: io.StringIO) -> None:
    with StageView(terminal, 3) as view:
        for label in ("one", "two", "three"):
            tick = view.stage(label)
            tick(0, 4)
            tick(4, 4)
            view.finish(label, SHORT if label == "two" else LONG)
    text = printed.getvalue()
    assert "[1/3] one: done in 2.0 s" in text and "[3/3] three: done in 2.0 s" in text
    assert "two: done" not in text


def test_a_live_view_with_no_stage_ends(terminal: Console) -> None:
    with StageView(terminal, 0):
        pass


def test_a_live_view_ends_with_an_error_and_gives_the_terminal_back(terminal: Console, printed: io.StringIO) -> None:
    with pytest.raises(ValueError, match="broken"), StageView(terminal, 1) as view:
        view.stage("one")(1, 2)
        raise ValueError("broken")
    assert printed.getvalue().rstrip("\n").endswith("\x1b[?25h")  # the cursor is shown again


# ---- names


@pytest.mark.parametrize("label", ["judge openai:x: sft", "train my[bold]", ":smile:", "judge a:[/]b"])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_name_is_shown_as_it_is(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, label: str, terminal: bool
) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "120")
    with StageView(plain_console(), 1) as view:
        tick = view.stage(label)
        clock.now += PLAIN_LINE_SECONDS
        tick(1, 2, f"of {label}")
        clock.now += LONG
        view.finish(label, LONG, f"; {label}")
    shown = capsys.readouterr().err
    assert label in shown and f"done in {LONG:.1f} s; {label}" in shown
