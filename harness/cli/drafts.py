"""`new-method`: a first draft of a method. Importing this imports no more than typer."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from harness.core.errors import UserError


def new_method(
    name: Annotated[str, typer.Argument(help="What it is called, such as my-loss.")],
    level: Annotated[
        str,
        typer.Option(
            metavar="sequence|token|distribution",
            help="What its loss is given: sums of log-probs over responses, the log-prob of each token, or whole "
            "distributions; docs/adding-a-method.md.",
        ),
    ],
    fresh: Annotated[
        bool, typer.Option("--fresh", help="On-policy: it trains on responses that the student samples as it trains.")
    ] = False,
) -> None:
    """Write a method, its test and its page into this folder: they run as they are, and the formula is yours to change.

    Nothing that is there is written over.
    """
    from harness.core.files import write_atomically
    from harness.core.registry import did_you_mean
    from harness.methods import methods
    from harness.methods.drafting import drafts
    from harness.methods.method import Level

    if level not in get_args(Level):
        raise UserError(f"unknown level '{level}'{did_you_mean(level, get_args(Level))}")
    if name in methods:
        raise UserError(f"there is a method '{name}' already ({methods.get(name).file}); choose another name")
    files = drafts(name, cast(Level, level), fresh)
    for file in files:
        if Path(file).exists():
            raise UserError(f"{file} is there already; choose another name, or move it away")
    for file, text in files.items():
        write_atomically(Path(file), text)
    code, test, page = files
    print(f"{code}, {test} and {page} written; they run as they are:")
    for command in (
        ["python", "-m", "pytest", test],
        ["python", "-m", "harness", "run", "--preset", "embedded", "--plugin", code, "--methods", name],
    ):
        print(f"  {shlex.join(command)}")
