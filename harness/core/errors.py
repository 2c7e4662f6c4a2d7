"""Errors that people caused or can mend."""

from __future__ import annotations

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
