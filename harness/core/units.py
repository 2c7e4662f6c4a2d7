"""Quantities in words: bytes, days, minutes, how many there are, and how many more names."""

from __future__ import annotations

from collections.abc import Iterable

DAY = 86_400.0


def in_bytes(size: float) -> str:
    """A size for people: 1.5 GB is 1,500,000,000 bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def in_days(seconds: float) -> str:
    """An age for people."""
    if seconds < 3600:
        return f"{max(0, seconds) / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 2 * DAY else f"{seconds / DAY:.0f} d"


def in_minutes(seconds: float) -> str:
    """A time for people."""
    if 0 < seconds < 90:
        return "1 minute"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def number_of(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def first_named(names: Iterable[str], at_most: int) -> str:
    """Names in a line: the first ones, and how many more there are."""
    found = list(names)
    more = len(found) - at_most
    return ", ".join(found[:at_most]) + (f" and {more} more" if more > 0 else "")
