"""Errors that people caused or can mend."""

from __future__ import annotations


class UserError(Exception):
    """Bad input or a missing resource: one line that says what is wrong and what to do (exit status 2)."""
