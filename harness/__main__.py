"""`python -m harness`: errors that people caused end in one line and status 2, never in a traceback."""

from __future__ import annotations

import os
import sys
import traceback

from harness.core.disk import refusal
from harness.core.errors import UserError
from harness.core.secrets import hide

INTERRUPTED = 130


def main() -> None:
    from harness.cli.app import app

    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        status = app(arguments, prog_name="python -m harness", standalone_mode=False)
        sys.stdout.flush()  # where it goes to a file, a full disk is met here
    except UserError as error:
        if debug:
            _traceback(error)
        for line in error.lines:
            print(f"error: {hide(line)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:  # who reads what is printed has seen enough; Python prints the rest when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            _traceback(error)
        if refused := refusal(error):
            print(f"error: {hide(refused.lines[0])}", file=sys.stderr)
            sys.exit(2)
        # the command line's own errors (typer has vendored click since, so by shape and not by class)
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            message = " ".join(error.format_message().split()).rstrip(".")
            print(hide(f"error: {message}; see --help") if arguments else message, file=sys.stderr)
            sys.exit(error.exit_code)
        advice = "nothing finished is lost; --debug shows the traceback"
        print(hide(f"internal error: {type(error).__name__}: {error} ({advice})"), file=sys.stderr)
        sys.exit(1)
    if status == INTERRUPTED:  # typer turns Ctrl-C into this status
        print("interrupted; the same command goes on from here", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _traceback(error: Exception) -> None:
    """The whole traceback, without keys: a message may quote what was sent."""
    print(hide("".join(traceback.format_exception(error))), file=sys.stderr, end="")


if __name__ == "__main__":
    main()
