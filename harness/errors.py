"""The one exception that a person is meant to read."""


class UserError(Exception):
    """Bad input or a missing resource: one line that says what is wrong and what to do (exit status 2)."""
