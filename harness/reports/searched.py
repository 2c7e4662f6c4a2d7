"""How settings were chosen, in words: on the board, on the page and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config.study import in_words, short
from harness.measures.measure import direction, is_share
from harness.reports.cells import measure_digits, measure_value
from harness.results.schema import FoundFacts, Results, SearchFacts, TryFacts

HEAD = "How settings were chosen"
AS_GOOD = "≈"  # a try that is not told apart from the best
LEVEL = 0.95  # of intervals


def lead(search: SearchFacts) -> str:
    """What was tried, on what, and by what the best was chosen."""
    each = len(search.of(search.found[0].method)) if search.found else 0
    unit = f"{search.unit}; " if search.unit else ""
    parts = [
        f"Every method had {each} tries, trained at seed {search.seed}, and each row is trained with the best by "
        f"{search.head} ({unit}{direction(search.better)}) on {search.prompts} validation prompts, "
        f"{100 * search.share:g}% of the training prompts, which nothing was trained on.",
        "Controls have what was found for the method that they are trained with, and their own settings over it.",
        f"Behind ± is the standard error over prompts; {AS_GOOD} marks a try that these prompts do not tell from the "
        "best.",
    ]
    return " ".join([*parts, *([own_loss_words(search)] if search.own_losses else [])])


def told(run: Results) -> str:
    """The same of a board's own search, and which of its rows is longer than its tries were; empty without one."""
    if run.search is None:
        return ""
    row = next((one for one in run.methods if one.method == "sft" and one.match and not one.controls), None)
    longer = (
        f"The tries of sft are as long as its epochs say, as where others start; the row {row.name}, trained for as "
        f"many tokens as {row.match}, has what was found at that length, and no tries at its own."
        if row
        else ""
    )
    return " ".join(filter(None, [lead(run.search), longer]))


def own_loss_words(search: SearchFacts) -> str:
    """Whom the criterion is at home with."""
    if search.criterion == "loss":
        return "Each method is chosen by its own loss: values of different methods are no matter of one another."
    names = search.own_losses
    whose = f"{names[0]}'s own loss is" if len(names) == 1 else f"the own losses of {', '.join(names)} are"
    who = f"{names[0]} has" if len(names) == 1 else "these have"
    return f"{search.head} is what {whose}: chosen by it, {who} an advantage."


def edge_words(found: FoundFacts) -> str:
    """Where the best is the last that was tried; empty where it lies within."""
    if not found.edge:
        return ""
    return f"at the edge of its range ({', '.join(map(short, found.edge))}): a better value may lie beyond"


def tries_words(search: SearchFacts, method: str, bold: str = "**") -> str:
    """Each try of a method with its value, the best one marked."""
    best = _found(search, method)
    said = []
    for one in search.of(method):
        near = f" {AS_GOOD}" if as_good(one, search) else ""
        text = f"{in_words(one.point)}: {value_words(one, search)}{near}"
        said.append(f"{bold}{text}{bold}" if best and one.point == best.point else text)
    return "; ".join(said)


def value_words(one: TryFacts, search: SearchFacts) -> str:
    if one.value is None:
        return "not finite"
    error = one.standard_error
    digits = measure_digits([(one.value - error, one.value + error)] if error else [], search.unit)
    value = measure_value(one.value, None, search.unit, digits=digits)
    if error is None:
        return value
    return f"{value} ± {100 * error if is_share(search.unit) else error:.{digits}f}"


def as_good(one: TryFacts, search: SearchFacts) -> bool:
    """Whether a try that is not the best lies within the 95% interval of no difference from it."""
    best = _best(search, one.method)
    if best is None or best.value is None or one.value is None or one.apart is None:
        # of a single prompt no difference is told
        return best is not None and one.point != best.point and one.value is not None and search.prompts < 2
    return one.point != best.point and abs(one.value - best.value) <= wide(search) * one.apart


def wide(search: SearchFacts) -> float:
    """By how many standard errors over its prompts a 95% interval reaches to either side, as Student's t has it."""
    from scipy.special import stdtrit

    return float(stdtrit(max(1, search.prompts - 1), (1 + LEVEL) / 2))


def lines(search: SearchFacts) -> list[str]:
    """A line a method, for the terminal."""
    found = []
    for one in search.found:
        best = _best(search, one.method)
        value = f", {search.head} {value_words(best, search)}" if best else ""
        edge = f"; {edge_words(one)}" if one.edge else ""
        found.append(
            f"{one.method}: the best of {len(search.of(one.method))} tries is {in_words(one.point)}{value}{edge}"
        )
    return found


def _found(search: SearchFacts, method: str) -> FoundFacts | None:
    return next((one for one in search.found if one.method == method), None)


def _best(search: SearchFacts, method: str) -> TryFacts | None:
    found = _found(search, method)
    return next((one for one in search.of(method) if found and one.point == found.point), None)


def axes(tries: Sequence[TryFacts]) -> list[str]:
    """The settings of a method's tries, those that are numbers first: what a plot runs along."""
    keys = list(tries[0].point) if tries else []
    return sorted(keys, key=lambda key: not all(_is_number(one.point.get(key)) for one in tries))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
