"""Errors that people caused or can mend."""

from __future__ import annotations

import traceback
from collections.abc import Sequence


class UserError(Exception):
    """Bad input or a missing resource: one line that says what is wrong and what to do (exit status 2)."""

    @property
    def lines(self) -> tuple[str, ...]:
        """What is said of it, without line breaks: an error of a library that is quoted may have some."""
        return (" ".join(str(self).split()),)


class RefusedError(UserError):
    """Several things that are wrong, found before any work: one line each."""

    def __init__(self, refusals: Sequence[str]) -> None:
        super().__init__("; ".join(refusals))
        self._refusals = refusals

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(" ".join(refusal.split()) for refusal in self._refusals)


class NotFiniteError(UserError):
    """What was computed of a model came to no number: a training that left its course, or what is read of such a
    model. ref: the artifact that was to be made."""

    ref = ""


def raised_in(error: BaseException, file: str) -> str:
    """A file of the user's with the line of it that an error comes from, as FILE:LINE; the file alone where none of its
    lines has a part in it."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return f"{file}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file}:{lines[-1]}" if lines else file
