"""`record`, `leaderboard`, `report` and `verify`: what runs left, read again. Importing this imports no more than
typer."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DOUBTFUL, RankIncomplete, beside, check_file, open_store

Labels = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="People's labels, as `label` wrote them; they correct the judge. Repeatable."),
]
RunDir = Annotated[Path, typer.Argument(help="The output folder of a finished run, or a record of one.")]


def record(
    run_dir: Annotated[Path, typer.Argument(help="The output folder of a finished run, or of a study.")],
) -> None:
    """Add a run's small result files to benchmarks/results; of a study those of all its runs, or none."""
    from harness.results.recording import record as copy
    from harness.results.recording import record_study
    from harness.results.studies import is_study

    recorded = record_study(run_dir) if is_study(run_dir) else copy([run_dir])
    print(f"recorded in {', '.join(map(str, recorded))}; now: python -m harness leaderboard")


def leaderboard(
    run_dirs: Annotated[
        list[Path] | None, typer.Argument(help="Runs and studies; without any, the recorded ones.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="A .md, .html, .csv or .json file.")] = None,
    labels: Labels = None,
    rank_incomplete: RankIncomplete = False,
) -> None:
    """Render a leaderboard. Without arguments: the top-level leaderboard.md from benchmarks/results.

    Runs of one kind (pair, judge, template, prompt sets, sampling) share tables: seeds of one training are one row,
    with the spread between them. Others stand in tables of their own.
    """
    from harness.core.files import write_atomically
    from harness.reports import board, formats
    from harness.results import folder, recording
    from harness.results.labelled import labelled_boards
    from harness.results.studies import runs_in

    if out:
        check_file(out, "--out")
    write = formats.writer(out) if out else board.board_markdown
    named = [folder for path in run_dirs or () for folder in runs_in(path)]
    text = write(labelled_boards(named or recording.recorded(), labels or (), rank_incomplete))
    if out is None and not run_dirs and not labels:  # what is recorded has none
        out = Path(str(resources.files("benchmarks"))).parent / folder.BOARD
    if out is None:
        print(text)
    else:
        write_atomically(out, text)
        print(f"written to {out}", file=beside(out))


def report(
    run_dir: Annotated[
        Path, typer.Argument(help="The output folder of a finished run or study, or a record of a run.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the page.")] = Path("report.html"),
    labels: Labels = None,
) -> None:
    """A run as one page that needs no network: board, plots, training curves, and every prompt with its responses.

    Of a study: its common board, curves over its grid, and the prompts with the responses of its first seed.
    """
    from harness.core.files import write_atomically
    from harness.reports import html
    from harness.reports.report_data import read_report

    check_file(out, "--out")
    write_atomically(out, html.reported(read_report(run_dir, labels or ())))
    print(f"written to {out}; open it in a browser", file=beside(out))


def verify(
    run_dir: Annotated[
        Path, typer.Argument(help="The output folder of a finished run or of a study, or a record of a run.")
    ],
    store: Annotated[Path | None, typer.Option(metavar="DIR", help="Where its artifacts are.")] = None,
) -> int:
    """Compute every figure of a run again from its files, and check every hash. Status 0: all follow; 3: not.

    Artifacts are read again where the store has them; figures need the folder alone. Of a study every run is, and
    their common board.
    """
    from harness.core.progress import StageView, plain_console
    from harness.reports.board import board_markdown
    from harness.results.studies import is_study
    from harness.results.verify import verify as hold
    from harness.results.verify import verify_study
    from harness.store import Store

    console = plain_console()
    asked = verify_study if is_study(run_dir) else hold
    with StageView(console, 1) as view:
        found = asked(run_dir, Store(store) if store else open_store(), board_markdown, view.stage("artifacts"))
    for what in found.checked:
        print(f"checked: {what}")
    if found.absent:
        print(f"not checked: {len(found.absent)} artifacts that this store does not have, such as {found.absent[0]}")
    for problem in found.wrong:
        print(f"WRONG: {problem}")
    print(f"{len(found.wrong)} problems in {run_dir}" if found.wrong else f"every figure of {run_dir} follows")
    return DOUBTFUL if found.wrong else 0
