"""Long work shows itself: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def plain_console(stderr: bool = True, width: int | None = None) -> Console:
    """A console that prints names as they are: `openai:x:` is no emoji, and brackets are no markup."""
    return Console(stderr=stderr, width=width, markup=False, emoji=False)


class Tick(Protocol):
    """Called as work goes on: done and total in any unit, and what else a person wants to see of it."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


PLAIN_LINE_SECONDS = 15.0
# stages shorter than this leave no line
SILENT_SECONDS = 0.5


class StageView:
    """Progress over `total` stages, and within the present one. Use as a context manager."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._number = 0
        self._live: Progress | None = None
        if console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
            )
            self._all = self._live.add_task("stages", total=total)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def stage(self, label: str) -> Tick:
        """Begin a stage; the function returned takes (done, total) in any unit."""
        self._number += 1
        if self._live:
            live, task = self._live, self._live.add_task(label, total=None)

            def show(done: int, total: int, note: str = "") -> None:
                live.update(task, completed=done, total=total, description=f"{label}; {note}" if note else label)

            return show
        head = f"[{self._number}/{self._total}] {label}"
        began = last = time.monotonic()

        def tick(done: int, total: int, note: str = "") -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= PLAIN_LINE_SECONDS and done:
                last = now
                left = (now - began) / done * (total - done)
                line = f"{head}: {done}/{total}, about {left:.0f} s left{f'; {note}' if note else ''}"
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)

        return tick

    def finish(self, label: str, seconds: float, note: str = "") -> None:
        """End the present stage with a line that stays."""
        if self._live:
            self._live.remove_task(self._live.task_ids[-1])
            self._live.advance(self._all)
        if seconds < SILENT_SECONDS and not note:
            return
        text = f"[{self._number}/{self._total}] {label}: done in {seconds:.1f} s{note}"
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
