"""`record`, `leaderboard`, `report` and `verify`: what runs left, read again."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from harness.cli.options import DOUBTFUL, check_file, open_store
from harness.core.files import write_atomically
from harness.core.progress import plain_console
from harness.store import Store


def record(run_dir: Path) -> None:
    from harness.results.recording import record as copy

    target = copy(run_dir)
    print(f"recorded in {target}; now: python -m harness leaderboard")


def leaderboard(run_dirs: list[Path], out: Path | None, rank_incomplete: bool) -> None:
    from harness.reports import board
    from harness.reports import formats as files
    from harness.results import folder as results
    from harness.results import pooling, recording

    if out:
        check_file(out, "--out")
    write = files.writer(out) if out else board.board_markdown
    text = write(pooling.boards(run_dirs or recording.recorded(), rank_incomplete))
    if out is None and not run_dirs:
        out = Path(str(resources.files("benchmarks"))).parent / results.BOARD
    if out is None:
        print(text)
    else:
        write_atomically(out, text)
        print(f"written to {out}")


def report(run_dir: Path, out: Path) -> None:
    from harness.reports import html

    check_file(out, "--out")
    write_atomically(out, html.report_html(html.read_run(run_dir)))
    print(f"written to {out}; open it in a browser")


def verify(run_dir: Path, store: Path | None) -> int:
    """Whether a run's figures follow; the process's status: DOUBTFUL where one does not."""
    from harness.core.progress import StageView
    from harness.reports.board import board_markdown
    from harness.results.verify import verify as hold

    console = plain_console()
    with StageView(console, 1) as view:
        found = hold(run_dir, Store(store) if store else open_store(), board_markdown, view.stage("artifacts"))
    for what in found.checked:
        print(f"checked: {what}")
    if found.absent:
        print(f"not checked: {len(found.absent)} artifacts that this store does not have, such as {found.absent[0]}")
    for problem in found.wrong:
        print(f"WRONG: {problem}")
    print(f"{len(found.wrong)} problems in {run_dir}" if found.wrong else f"every figure of {run_dir} follows")
    return DOUBTFUL if found.wrong else 0
