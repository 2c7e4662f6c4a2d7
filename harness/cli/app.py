"""The commands by name. Importing this imports neither torch nor pandas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from harness.cli import drafts, judge, labels, results, run, store
from harness.cli.options import spread

COMMANDS: dict[str, Callable[..., int | None]] = {  # each gives the process's status, or none for 0
    "run": run.run,
    "plan": run.plan,
    "show-example": run.show_example,
    "judge": judge.judge,
    "judge-check": judge.judge_check,
    "list": run.list_names,
    "new-method": drafts.new_method,
    "record": results.record,
    "leaderboard": results.leaderboard,
    "report": results.report,
    "label": labels.label,
    "import": judge.import_verdicts,
    "stats": judge.stats,
    "verify": results.verify,
    "stage": run.stage,
    "doctor": run.doctor,
}
STORE_COMMANDS: dict[str, Callable[..., int | None]] = {
    "ls": store.store_ls,
    "gc": store.store_gc,
    "verify": store.store_verify,
}

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train every distillation method on the same data, judge the students against their teacher, and print "
    "the leaderboard.\n\nA first run, with no GPU, key or download: python -m harness run --preset embedded",
)
store_app = typer.Typer(no_args_is_help=True, help="What is in the store, what needs it, and what may go.")


@app.callback()
def _root(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    pass  # --debug is read by __main__, wherever it stands


for group, commands in ((app, COMMANDS), (store_app, STORE_COMMANDS)):
    for name, command in commands.items():
        group.command(name)(spread(command))
app.add_typer(store_app, name="store")
