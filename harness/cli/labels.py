"""`label`: pairs of a run for people. Importing this imports no more than typer."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import beside, check_file
from harness.core.errors import UserError


def label(
    run_dir: Annotated[Path, typer.Argument(help="The output folder of a finished run, or a record of one.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="A .csv file to fill in; a page lies beside it.")],
    pairs: Annotated[int, typer.Option(min=1, help="How many; each prompt has one of every row.")] = 100,
    rows: Annotated[
        str | None, typer.Option(metavar="ROW,ROW", help="Whose responses; by default the primary contrast's.")
    ] = None,
    sets: Annotated[
        str | None, typer.Option(metavar="SET,SET", help="Of which prompts; by default the in-domain sets.")
    ] = None,
) -> None:
    """Draw pairs of a run for people to label, blind: a response beside the teacher's.

    Writes a CSV file, to be filled in a spreadsheet or by the page beside it, which any browser opens. What comes back
    corrects the judge: `leaderboard RUN_DIR --labels FILE`, and `report` likewise.
    """
    from harness.core.files import write_atomically
    from harness.core.records import RunPrompt, read_records
    from harness.core.units import number_of
    from harness.reports.label_page import label_page
    from harness.results.folder import RUN_PROMPTS, read_made
    from harness.results.label_pairs import as_csv, as_rows
    from harness.results.labelled import pairs_to_label
    from harness.results.reading import read_results
    from harness.results.studies import one_run
    from harness.statistics.labelled import ENOUGH

    web = out.with_suffix(".html")
    if out.suffix.lower() != ".csv":
        raise UserError(f"--out {out}: labels are written as CSV; name a file that ends in .csv")
    for path in (out, web):
        check_file(path, "--out")
        if path.exists():
            raise UserError(f"{path} is there already, and may hold labels; name another file, or delete it")
    results, made = read_results(one_run(run_dir)), read_made(run_dir)
    if not (run_dir / RUN_PROMPTS).is_file():
        raise UserError(f"{run_dir} holds no {RUN_PROMPTS}; run it again (nothing is computed twice)")
    drawn, chosen = pairs_to_label(results, made, pairs, _names(rows), _names(sets))
    shown = as_rows(drawn, read_records(run_dir / RUN_PROMPTS, RunPrompt))
    write_atomically(out, as_csv(shown))
    write_atomically(web, label_page(shown, out.name))
    each = len(drawn) // len(chosen)
    of_prompts = f"{number_of(each, 'prompt')}, with the responses of {' and '.join(chosen)}"
    said = [f"{number_of(len(drawn), 'pair')} written to {out}: {of_prompts}"]
    if len(drawn) > pairs:
        said.append(f"rounded up from {pairs}, as each prompt has one of every row")
    if len(drawn) < pairs:
        said.append("no more were judged")
    print("; ".join(said), file=beside(out))
    if each < ENOUGH:
        there = f"there {'is' if each == 1 else 'are'} {each} here"
        print(f"note: below {ENOUGH} labelled prompts a rate is not corrected, and {there}", file=beside(out))
    command = shlex.join(["python", "-m", "harness", "leaderboard", str(run_dir), "--labels", str(out)])
    print(f"label them in {web}, or in a spreadsheet; then: {command}", file=beside(out))


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
