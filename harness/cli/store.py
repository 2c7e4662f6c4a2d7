"""`store ls`, `store gc` and `store verify`. Importing this imports no more than typer."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DOUBTFUL, open_store
from harness.core import units
from harness.core.errors import UserError


def store_ls() -> None:
    """Every artifact: what it is, its size and age, and which recorded runs, or runs below runs/, need it."""
    from rich.table import Table

    from harness.core.progress import plain_console
    from harness.results.recording import recorded_runs, refs_of_run, unrecorded_runs
    from harness.store import gc

    store, now = open_store(), time.time()
    kept = gc.artifacts(store)
    runs = {folder.name: folder for folder in recorded_runs()}
    runs |= {str(folder): folder for folder in unrecorded_runs()}
    needed = {name: gc.needed_by(refs_of_run(folder), kept) for name, folder in runs.items()}
    table = Table()
    for name in ("artifact", "what", "size", "age", "needed by"):
        table.add_column(name, justify="right" if name in ("size", "age") else "left", overflow="fold")
    for one in kept:
        users = ", ".join(name for name, refs in needed.items() if one.ref in refs)
        stage, _, key = one.ref.partition("/")
        table.add_row(
            f"{stage}/{key[:8]}", one.label, units.in_bytes(one.bytes), units.in_days(now - one.created), users
        )
    console = plain_console(stderr=False, width=None if sys.stdout.isatty() else 140)
    console.print(table)
    left = gc.rests(store)
    rest = f"; {len(left)} workspaces and damaged ones, {units.in_bytes(sum(r.bytes for r in left))}" if left else ""
    total = units.in_bytes(sum(one.bytes for one in kept))
    console.print(f"{store.root}: {len(kept)} artifacts, {total}{rest}", markup=False, highlight=False, soft_wrap=True)


def store_gc(
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0, help="Keep what was made in the last days, and what it needs.")
    ] = 1.0,
    keep: Annotated[
        list[Path] | None, typer.Option(metavar="RUN_DIR", help="A run or a study whose artifacts stay. Repeatable.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Free it; without this, only say what would go.")] = False,
) -> None:
    """Free artifacts that no recorded run needs, and what interrupted stages left a day ago or longer.

    What a running stage holds stays, and so does what judges said (verdicts.sqlite), when contrasts were declared, and
    of which rows something is known (stamps).
    """
    from harness.results.recording import recorded_runs, refs_of_run
    from harness.results.studies import runs_in
    from harness.run.known import remember
    from harness.store.gc import at_work, find_removable, free

    store, runs = open_store(), [*recorded_runs(), *(run for folder in keep or () for run in runs_in(folder))]
    if yes and (busy := at_work(store)):
        raise UserError(
            f"a run is at work in {store.root} ({busy[0]}), and may yet read anything; free when it has ended"
        )
    if yes and not runs:
        raise UserError("no run is recorded here, so nothing would be kept: name runs with --keep RUN_DIR")
    found = find_removable(store, set().union(*map(refs_of_run, runs)), older_than)
    for one in found.artifacts:
        print(f"{one.ref}  {units.in_bytes(one.bytes):>8}  {one.label}")
    for rest in found.rests:
        print(f"{rest.path.relative_to(store.root)}  {units.in_bytes(rest.bytes):>8}")
    if found.held:
        print(f"in use now, and kept with all that it was made from: {', '.join(found.held)}")
    count = f"{len(found.artifacts)} artifacts and {len(found.rests)} workspaces or damaged ones"
    if not yes:
        print(f"{count} would go, {units.in_bytes(found.bytes)}; add --yes, while no run goes on, to free them")
    else:
        remember(store)
        print(f"{units.in_bytes(free(store, found))} freed ({count}); a run that needs them again makes them again")


def store_verify() -> int:
    """Read every file of every artifact again. Status 0: all are as written; 3: one is not."""
    from harness.core.progress import StageView, plain_console
    from harness.store.gc import damaged

    store = open_store()
    with StageView(plain_console(), 1) as view:
        found = damaged(store, view.stage("artifacts"))
    for ref, file in found:
        print(f"DAMAGED: {ref}: {file} is not what was written; the next run that needs it makes it anew")
    print(f"{len(store.refs())} artifacts read, {len(found)} damaged")
    return DOUBTFUL if found else 0
