"""What `judge-check` prints: a judge's report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from harness.judging.check.check import (
    FLIP_LIMIT,
    LEAST_CONSISTENT,
    LEAST_KAPPA,
    LENGTH_LIMIT,
    MATCHED,
    MISSING_LIMIT,
    POSITION_LIMIT,
    Consistency,
    Humans,
    Length,
    Position,
    Report,
)
from harness.judging.check.perturbation import LEVEL, LONG, PerturbationCurve
from harness.reports.columns import pipes
from harness.statistics.agreement import Agreement, Mean, Share
from harness.statistics.rates import Interval


def check_markdown(report: Report) -> str:
    """The report as Markdown that reads well in a terminal; every number with its 95% interval and N."""
    parts = [
        f"# Judge check: {report.judge}",
        f"**Verdict: {report.verdict}**",
        _facts(report),
        "## Pairs with a known answer\n\n" + _labels_table(report) + "\n\n" + _known_line(report.known),
        "## Position\n\n" + _position_lines(report.position),
        "## Length\n\n" + _length_lines(report.length),
        "## The same questions again\n\n" + _consistency_lines(report.consistency),
        "## Damage\n\n" + _damage_table(report.damage),
    ]
    if report.humans:
        parts.append("## Human labels\n\n" + _human_lines(report.humans))
    return "\n\n".join([*parts, _LEGEND]) + "\n"


_LEGEND = f"""\
Brackets hold 95% intervals. A pair is right only if the better response is preferred in every order shown; a
disagreement between orders is a tie.

- *unusable*: more than {MISSING_LIMIT:.0%} of verdicts are missing
- *chance*: the interval of (right − wrong) / N reaches 0
- *weak*: the interval of κ with the known answers reaches below {LEAST_KAPPA:.2f}
- *flips*: the interval of the share of flips reaches above {FLIP_LIMIT:.0%}
- *position-biased*: the interval of the preference for the first response leaves 0.5 ± {POSITION_LIMIT:g}
- *length-biased*: a length bias of more than {LENGTH_LIMIT:g}, and an interval without 0
- *inconsistent*: the interval of the share of equal outcomes when asked again reaches below {LEAST_CONSISTENT:.0%}
- *insensitive to damage*: the preference does not fall (one-sided p ≥ {LEVEL:g}) for the kinds named

*Usable*, none of these, is a low bar: the pairs are easy. A judge that guesses passes for length-biased about once in
twenty checks. docs/judges.md says why these limits."""


def _facts(report: Report) -> str:
    other = ", ".join(f"{count} {status}" for status, count in sorted(report.statuses.items()) if status != "ok")
    lines = [f"{key}: {' '.join(value.split())}" for key, value in report.setup.items()]
    lines.append(f"verdicts: {report.verdicts}; missing: {other or 'none'}; limit: {MISSING_LIMIT:.0%}")
    lines.append(f"pairs: {report.labels.pairs} (set {report.pair_set}); seed {report.seed}")
    return "\n".join(f"- {line}" for line in lines)


def _number(value: float | None, interval: Interval | None, form: str) -> str:
    if value is None:
        return "none"
    if form.endswith("%"):
        ends = (f"{100 * end:{form[:-1]}f}" for end in interval or ())
    else:
        ends = (f"{end:{form}}" for end in interval or ())
    return f"{value:{form}} [{', '.join(ends)}]" if interval else f"{value:{form}} [no interval]"


def _share(found: Share) -> str:
    return f"{_number(found.share, found.interval, '.1%')} ({found.count} of {found.n})"


def _mean(found: Mean, form: str = ".3f") -> str:
    return f"{_number(found.mean, found.interval, form)} (N = {found.n})"


def _labels_table(report: Report) -> str:
    rows = [
        [
            name,
            score.accuracy.n,
            score.missing,
            f"{score.right} / {score.tied} / {score.wrong}",
            _number(score.accuracy.share, score.accuracy.interval, ".1%"),
            _number(score.net, score.net_interval, "+.1%"),
            _number(score.preference.mean, score.preference.interval, ".3f"),
        ]
        for name, score in {"**all**": report.labels, **report.kinds}.items()
    ]
    headers = ["kind", "N", "missing", "right / tied / wrong", "right", "right − wrong", "preference for the better"]
    return pipes(headers, rows)


def _known_line(known: Agreement) -> str:
    limit = f"limit: the lower end at least {LEAST_KAPPA:.2f}"
    return f"- κ of the judge's outcomes and the known ones: {_kappa(known)}; {limit}"


def _position_lines(position: Position | None, held: bool = True) -> str:
    """held: whether limits are said, which hold for plain pairs."""
    if position is None:
        return "None by construction: the judge sees no order."
    pull = f"; limit: both ends from {0.5 - POSITION_LIMIT:g} to {0.5 + POSITION_LIMIT:g}" if held else ""
    most = f"; limit: the upper end at most {FLIP_LIMIT:.0%}" if held else ""
    return (
        f"- preference for the response shown first (0.5 is unbiased): {_mean(position.first)}{pull}\n"
        f"- flips (the orders name different winners): {_share(position.flips)}{most}\n"
        f"- ties: {_share(position.ties)}"
    )


def _length_lines(length: Length) -> str:
    return (
        f"- length bias (0 is unbiased, 1 is length alone): {_number(length.bias, length.interval, '+.3f')}; "
        f"limit: {LENGTH_LIMIT:g}, or an interval with 0\n"
        f"- preference for the better response where it is longer: {_mean(length.longer)}\n"
        f"- where it is shorter: {_mean(length.shorter)}\n"
        f"- where lengths are within {1 - MATCHED:.0%}: {_mean(length.matched)}"
    )


def _consistency_lines(found: Consistency | None) -> str:
    if found is None:
        return "Not asked."
    return (
        f"- the same outcome: {_share(found.same)}; limit: the lower end at least {LEAST_CONSISTENT:.0%}\n"
        f"- mean absolute difference of preferences: {_mean(found.apart)}\n"
        f"- pairs with a verdict missing in either: {found.missing}"
    )


def _damage_table(curves: Sequence[PerturbationCurve]) -> str:
    if not curves:
        return f"Not asked: it takes two responses of {LONG} sentences or more."
    rows = [
        [curve.kind, f"{dose:.0%}", value.n, _number(value.mean, value.interval, ".3f")]
        for curve in curves
        for dose, value in zip(curve.doses, curve.preferences, strict=True)
    ]
    trends = [
        [
            curve.kind,
            curve.slope.n,
            curve.missing,
            _number(curve.slope.mean, curve.slope.interval, "+.3f"),
            "none" if curve.p is None else f"{curve.p:.4f}",
            "yes" if curve.monotone else "no",
        ]
        for curve in curves
    ]
    return (
        "Preference for a damaged response against itself undamaged; 0.5 at dose 0 by construction.\n\n"
        + pipes(["damage", "dose", "N", "preference for the damaged"], rows)
        + "\n\n"
        + pipes(["damage", "N", "missing", "slope", "p", "never rises"], trends)
    )


def _human_lines(humans: Humans) -> str:
    found = humans.agreement
    names = ["a", "tie", "b"]
    table = pipes(["judge \\ human", *names], [[name, *row] for name, row in zip(names, found.table, strict=True)])
    return (
        f"- agreement: {_share(found.agreement)}; {found.missing} missing\n"
        f"- Cohen's κ: {_kappa(found)}\n"
        f"- the same choice where neither says tie: {_share(humans.decided)}\n"
        f"- ties of the humans: {_share(humans.human_ties)}\n\n"
        f"{table}\n\n{_position_lines(humans.position, held=False)}"
    )


def _kappa(found: Agreement) -> str:
    if found.kappa is None:
        return found.note
    note = f" ({found.note})" if found.note else ""
    return _number(found.kappa, found.kappa_interval, ".3f") + note
