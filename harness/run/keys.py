"""What is in each stage's key, as docs/keys.md shows it: `python -m harness.run.keys` prints the table."""

from __future__ import annotations

from collections.abc import Iterable

from tabulate import tabulate

from harness.run.jobs import Job, stages

HEADINGS = ("stage", "version", "in its key", "in it where not the default", "not in it")


def keys_table(kinds: Iterable[type[Job]]) -> str:
    """In Markdown: a row a stage."""
    return tabulate([_row(kind) for kind in kinds], HEADINGS, tablefmt="pipe", disable_numparse=True)


def _row(kind: type[Job]) -> tuple[str, ...]:
    names = [name for name in kind.model_fields if name != "stage" and name not in kind.not_in_key]
    reasons: dict[str, list[str]] = {}
    for name, why in kind.not_in_key.items():
        reasons.setdefault(why, []).append(name)
    return (
        f"`{kind.model_fields['stage'].default}`",
        str(kind.version),
        _listed(name for name in names if name not in kind.added_later),
        _listed(name for name in names if name in kind.added_later),
        "; ".join(f"{_listed(found)} ({why})" for why, found in reasons.items()),
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    print(keys_table(stages.values()))
