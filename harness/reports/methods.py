"""What methods there are, as `list methods` and docs/methods/README.md show it: `python -m harness.reports.methods`
prints the page's tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from rich.padding import Padding
from rich.table import Table
from tabulate import tabulate

from harness.core.progress import plain_console
from harness.methods import Method, methods
from harness.methods.costs import StepCost, step_costs

HEADINGS = ("method", "level", "data", "needs", "direction", "step", "paper")
INDENT = 2
WIDE = 120  # characters: papers are shown from here on
Gives = Literal["text", "sums", "tokens", "distributions"]


def teacher_gives(method: Method) -> Gives:
    """What of the teacher a loss is given, beside responses that the teacher wrote: nothing but these, or log-probs
    of whole responses, of their tokens, or of all outcomes in each place."""
    if "teacher" not in method.reads or method.teacher_sees is not None:
        return "text"
    if "distribution" in method.levels():
        return "distributions"
    return "tokens" if "token" in method.levels() else "sums"


def from_stored(method: Method) -> bool:
    """Whether it can train, by its defaults but for `teacher_signal`, with no teacher in memory or behind a server: all
    that the teacher gives is stored beforehand, sums or, of one response, a top k."""
    if teacher_gives(method) == "text":
        return True
    if method.fresh_share(method.settings()) > 0:
        return False
    top_k = method.levels() == {"distribution"} and len(method.roles) == 1 and "reference" not in method.reads
    return method.levels() == {"sequence"} or top_k


def methods_lines(listed: Iterable[tuple[str, Method]], width: int | None) -> list[str]:
    """For a terminal, at its own width where none is given. No cell is cut; a narrow one has no room for the papers."""
    console, costs = plain_console(stderr=False, width=width), step_costs()
    headings = HEADINGS if console.width >= WIDE else HEADINGS[:-1]
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading == HEADINGS[0], overflow="fold")
    for name, method in listed:
        table.add_row(*[name, *_cells(method, costs)][: len(headings)])
    with console.capture() as shown:
        console.print(Padding(table, (0, 0, 0, INDENT)))
    return [line.rstrip() for line in shown.get().splitlines()]


def page_tables(listed: Iterable[tuple[str, Method]]) -> str:
    """In Markdown: what can be run with what there is, and a row a method."""
    known, costs = list(listed), step_costs()
    rows = [[f"[{name}]({name}.md)", *map(_escaped, _cells(method, costs))] for name, method in known]
    return f"{_by_need(known)}\n\n{tabulate(rows, HEADINGS, tablefmt='pipe', disable_numparse=True)}"


def _by_need(known: Iterable[tuple[str, Method]]) -> str:
    rows: dict[str, list[str]] = {
        "the teacher's text alone": [],
        "its text, and log-probs of whole responses": [],
        "its text, and its distributions there, a top k at least": [],
        "the teacher itself, to read what a student is training on": [],
    }
    text, sums, stored, at_hand = rows.values()
    for name, method in known:
        gives = teacher_gives(method)
        row = text if gives == "text" else sums if gives == "sums" else stored if from_stored(method) else at_hand
        row.append(f"[{name}]({name}.md)")
    tokenizers = ("any", "any", "the student's", "the student's")
    cells = [
        [have, f"{'and ' if number else ''}{', '.join(found) or '–'}", tokenizer]
        for number, ((have, found), tokenizer) in enumerate(zip(rows.items(), tokenizers, strict=True))
    ]
    return tabulate(cells, ("you have", "you can run", "teacher's tokenizer"), tablefmt="pipe", disable_numparse=True)


def _cells(method: Method, costs: dict[str, StepCost]) -> list[str]:
    """What stands behind its name, as HEADINGS have it."""
    cost = costs.get(method.name)
    levels = " + ".join(dict.fromkeys(term.level for term in method.terms))
    step = f"{cost.relative:.2g}×" if cost else "–"
    return [levels, _data(method), _needs(method), method.defines.direction, step, method.source]


def _data(method: Method) -> str:
    share = method.fresh_share(method.settings())
    if share:
        return "fresh" if share == 1 else f"{share:.0%} fresh, else stored"
    roles = f": {', '.join(method.roles)}" if len(method.roles) > 1 else ""
    return f"stored{roles}" + (", or fresh" if any(who == "policy" for _, who, _ in method.responses) else "")


def _needs(method: Method) -> str:
    found = ["reference"] if "reference" in method.reads else []
    if method.teacher_sees is not None:
        found.append("its own start as teacher")
    elif "teacher" in method.reads:
        found.append(f"teacher: {teacher_gives(method)}")
    return ", ".join(found) or "text alone"


def _escaped(text: str) -> str:
    return text.replace("|", r"\|")


if __name__ == "__main__":
    print(page_tables(methods.items()))
