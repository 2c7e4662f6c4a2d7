"""Errors that people caused or can mend, and texts that may leave the process."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

SHORTEST_SECRET = 8  # characters; a shorter value of a variable is likely a word that texts hold anyway


class UserError(Exception):
    """Bad input or a missing resource: one line that says what is wrong and what to do (exit status 2)."""


def hide(text: str, secrets: Iterable[str] = ()) -> str:
    """A text with secrets replaced by ***: those given, the environment's keys and tokens, and what stands before
    the host in URLs."""
    known = [value for name, value in os.environ.items() if name.endswith(("_KEY", "_TOKEN"))]
    kept = [value for value in known if len(value) >= SHORTEST_SECRET]
    for secret in sorted({*secrets, *kept}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return re.sub(r"(?<=://)[^\s\"]+(?=@)", "***", text)  # as far as the last @ of the word: a password may hold any
