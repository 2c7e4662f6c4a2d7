"""What a judge that reads text is worth: its report.

It is asked pairs with known answers, good responses damaged in known steps, and people's own labelled pairs, each in
both orders, and told apart from the faults that judges have:

    labels        a pair is right if the judge prefers the better response in every order it sees
    position      what the place in the prompt is worth: flips, and the mean preference for the response shown first
    length        the preference for the better response where it is the longer one, minus that where it is the
                  shorter one; over pairs whose lengths differ. 0 for a judge that is equally right on both, 1 for
                  one that sees length alone, and 0 for one that guesses
    consistency   the same questions a second time
    damage        a damaged response against itself: 0.5 where nothing is damaged, less the more is

Nothing that the judge failed to answer is dropped: a pair with a verdict missing is counted as missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from itertools import pairwise
from pathlib import Path
from re import split
from typing import Literal, Protocol, Self, TypeVar, get_args
from zlib import crc32

import numpy as np
from pydantic import ValidationError, model_validator
from tabulate import tabulate

from harness.errors import UserError
from harness.judging.protocol import BOTH_ORDERS, NO_ORDER, Answer, Comparison, Question
from harness.records import Message, Order, Prompt, Record, Response, Verdict, read_jsonl
from harness.statistics.agreement import (
    Agreement,
    Mean,
    Share,
    agreement,
    both_orders,
    difference,
    flips,
    mean,
    share,
    tie_rate,
)
from harness.statistics.rates import RESAMPLES, Interval, Outcome, outcomes, rates
from harness.store import canonical_hash

# A bias needs both a size that matters and an interval that excludes none at all.
MISSING_LIMIT = 0.10  # share of verdicts missing: more, and what is left is a selection
POSITION_LIMIT = 0.10  # |mean preference for the response shown first − 0.5|
LENGTH_LIMIT = 0.20  # |length bias|
LEAST_ACCURACY = 0.60  # share of pairs right, of pairs that a competent human decides at a glance
DAMAGE_LEVEL = 0.01  # of the one-sided test that a kind of damage lowers the preference; there are four kinds

MATCHED = 0.8  # lengths are matched where the shorter response has at least this share of the longer one's characters
LONG = 6  # sentences that a response must have to be damaged
DAMAGED_ITEMS = 24

Kind = Literal[
    "fact",
    "reasoning",
    "off-topic",
    "instruction",
    "incomplete",
    "incoherent",
    "tone",
    "padding",
    "terse",
    "bait",
]
Damage = Literal["shuffled", "truncated", "off-topic", "repeated"]
DOSES: dict[Damage, tuple[float, ...]] = {
    "shuffled": (0.25, 0.5, 1.0),  # share of sentences moved
    "truncated": (0.25, 0.5, 0.75),  # share of sentences cut from the end
    "off-topic": (0.25, 0.5, 1.0),  # share of sentences replaced by another response's
    "repeated": (0.25, 0.5, 0.75),  # share of the text that is its last sentence over again
}
FindingName = Literal["unusable", "chance", "weak", "position-biased", "length-biased", "insensitive to damage"]


class Checked(Protocol):
    """What of a judge a check needs; every `Judge` has it."""

    @property
    def name(self) -> str: ...

    @property
    def setup(self) -> dict[str, str]: ...

    @property
    def orders(self) -> tuple[Order, ...]: ...

    @property
    def measures(self) -> tuple[str, ...]: ...


# Each question with its answer, in any order. It goes through the caller's cache, and counts what it costs.
Ask = Callable[[Iterable[Question]], Iterable[tuple[Question, Answer]]]


# ---- what is asked


class LabelledPair(Record):
    """A prompt with a better and a worse response; `kind` is what is wrong with the worse one."""

    prompt_id: str
    kind: Kind
    prompt: str
    better: str
    worse: str
    answer: str = ""

    @model_validator(mode="after")
    def _two_responses(self) -> Self:
        if not all(text.strip() for text in (self.prompt, self.better, self.worse)) or self.better == self.worse:
            raise ValueError("a pair needs a prompt and two different responses")
        return self


class HumanLabel(Record):
    """A pair that a person labelled: which response is better, `a`, `b`, or neither."""

    prompt_id: str
    prompt: str = ""
    messages: tuple[Message, ...] = ()
    response_a: str
    response_b: str
    label: Literal["a", "b", "tie"]

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if bool(self.prompt.strip()) == bool(self.messages):
            raise ValueError("expected either a 'prompt' or 'messages'")
        if self.messages and self.messages[-1].role != "user":
            raise ValueError("the last message must be the user's")
        return self

    @property
    def conversation(self) -> tuple[Message, ...]:
        return self.messages or (Message(role="user", content=self.prompt),)


R = TypeVar("R", LabelledPair, HumanLabel)


def _read(path: Path, kind: type[R]) -> tuple[R, ...]:
    rows: list[R] = []
    lines: dict[str, int] = {}
    for number, data in read_jsonl(path):
        try:
            row = kind.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"'{part}': " for part in first["loc"][:1])
            raise UserError(f"{path}:{number}: {where}{first['msg'].removeprefix('Value error, ')}") from error
        if row.prompt_id in lines:
            raise UserError(
                f"{path}:{number}: prompt_id '{row.prompt_id}' was used on line {lines[row.prompt_id]} already; "
                "each pair needs one of its own"
            )
        lines[row.prompt_id] = number
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: no pairs in the file")
    return tuple(rows)


def read_pairs(path: Path | None = None) -> tuple[LabelledPair, ...]:
    """Labelled pairs of a JSONL file, or those of benchmarks/judge_check.

    Raises:
        UserError: a row that does not fit or a repeated prompt_id, by file and line; or an empty file.
    """
    shipped = resources.files("benchmarks") / "judge_check" / "pairs.jsonl"
    return _read(path or Path(str(shipped)), LabelledPair)


def read_labels(path: Path) -> tuple[HumanLabel, ...]:
    """Human labels of a JSONL file: prompt_id, prompt or messages, response_a, response_b, label (a, b or tie).

    Raises:
        UserError: as `read_pairs`.
    """
    return _read(path, HumanLabel)


def sentences(text: str) -> list[str]:
    """Sentences of plain prose: what white space after a full stop, a question or an exclamation mark divides."""
    return split(r"(?<=[.!?])\s+", text.strip())


def damage(kind: Damage, text: str, dose: float, rng: np.random.Generator, other: str = "") -> str:
    """A response of at least two sentences with a share of them damaged (see DOSES), joined by single spaces.

    Doses are rounded to whole sentences: at least one, and two for a shuffle.

    With an equal generator a larger dose moves or replaces the places of a smaller one, and more. `other` is what
    `off-topic` takes its sentences from: all of it, in its order, at dose 1. `repeated` takes nothing away, so the
    response grows; `truncated` shortens it: a judge of length alone cannot dislike both.

    Raises:
        ValueError: fewer than two sentences.
    """
    parts = sentences(text)
    if len(parts) < 2:
        raise ValueError("only a response of two sentences or more can be damaged")
    places = rng.permutation(len(parts))  # always drawn whole, so that doses are nested
    if dose == 0:
        return " ".join(parts)
    count = max(1, int(dose * len(parts) + 0.5))
    if kind == "shuffled":
        moved = places[: max(2, count)]
        before = list(parts)
        for to, source in zip(moved, np.roll(moved, 1), strict=True):  # one cycle: none stays where it was
            parts[to] = before[source]
    elif kind == "truncated":
        parts = parts[: max(1, len(parts) - count)]
    elif kind == "off-topic":
        foreign = sentences(other)
        for place in places[:count]:
            parts[place] = foreign[place % len(foreign)]
    else:
        parts += [parts[-1]] * max(1, int(len(parts) * dose / (1 - dose) + 0.5))
    return " ".join(parts)


@dataclass(frozen=True)
class Case:
    """`ours` against `theirs`, judged as the candidate against the reference, or, `swapped`, the other way round.

    Half of the cases are swapped, so that a judge without orders gains nothing by preferring the candidate.
    """

    prompt: Prompt
    ours: str
    theirs: str
    swapped: bool

    @property
    def comparison(self) -> Comparison:
        ours, theirs = self._response(self.ours), self._response(self.theirs)
        return Comparison(self.prompt, theirs, ours) if self.swapped else Comparison(self.prompt, ours, theirs)

    def _response(self, text: str) -> Response:
        return Response(prompt_id=self.prompt.id, token_ids=(), text=text, finish="stop")

    def verdict(self, judge: str, order: Order, answer: Answer) -> Verdict:
        """A verdict in which `ours` is the candidate, whichever the judge was given."""
        ok = answer.preference if answer.status == "ok" else None
        turned: dict[Order, Order] = {
            "candidate_first": "reference_first",
            "reference_first": "candidate_first",
            "none": "none",
        }
        return Verdict(
            prompt_set="judge-check",
            prompt_id=self.prompt.id,
            candidate="ours",
            reference="theirs",
            order=turned[order] if self.swapped else order,
            status=answer.status,
            preference=1 - ok if self.swapped and ok is not None else ok,
            judge=judge,
            detail=answer.detail,
        )


@dataclass(frozen=True)
class Plan:
    """What a judge is asked.

    damaged: the first so many of the better responses of LONG sentences or more are damaged; 0 for none.
    with_answers: show the known right answers to a judge that uses them. Off, because the prompts that it will judge
        mostly have none.
    """

    pairs: tuple[LabelledPair, ...]
    humans: tuple[HumanLabel, ...] = ()
    damaged: int = DAMAGED_ITEMS
    seed: int = 0
    with_answers: bool = False

    @cached_property
    def labelled(self) -> dict[str, Case]:
        """prompt_id → the better response against the worse one."""
        found: dict[str, Case] = {}
        seen: Counter[str] = Counter()
        for pair in self.pairs:
            seen[pair.kind] += 1  # roles alternate within a kind, so that they say nothing of kinds and lengths
            swapped = seen[pair.kind] % 2 == 0
            found[pair.prompt_id] = Case(self._prompt(pair, pair.prompt_id), pair.better, pair.worse, swapped)
        return found

    @cached_property
    def labels(self) -> dict[str, Case]:
        """prompt_id → response a against response b."""
        return {
            row.prompt_id: Case(
                Prompt(id=f"{row.prompt_id}/human", messages=row.conversation),
                row.response_a,
                row.response_b,
                number % 2 == 1,
            )
            for number, row in enumerate(self.humans)
        }

    @cached_property
    def doses(self) -> dict[tuple[Damage, str, float], Case]:
        """(kind, prompt_id, dose) → the damaged response against itself undamaged."""
        long = [pair for pair in self.pairs if len(sentences(pair.better)) >= LONG][: self.damaged]
        found: dict[tuple[Damage, str, float], Case] = {}
        if len(long) < 2:  # there is no other response to take sentences from
            return found
        for number, pair in enumerate(long):
            other = long[(number + 1) % len(long)].better
            whole = " ".join(sentences(pair.better))
            for kind, doses in DOSES.items():
                for dose in doses:
                    rng = np.random.default_rng([self.seed, crc32(f"{pair.prompt_id}/{kind}".encode())])
                    prompt = self._prompt(pair, f"{pair.prompt_id}/{kind}/{dose:.0%}")
                    hurt = damage(kind, pair.better, dose, rng, other)
                    found[kind, pair.prompt_id, dose] = Case(prompt, hurt, whole, number % 2 == 1)
        return found

    def _prompt(self, pair: LabelledPair, name: str) -> Prompt:
        return Prompt(
            id=name,
            messages=(Message(role="user", content=pair.prompt),),
            answer=pair.answer if self.with_answers else "",
        )

    @property
    def cases(self) -> list[Case]:
        return [*self.labelled.values(), *self.labels.values(), *self.doses.values()]


def questions_of(judge: Checked, cases: Iterable[Case]) -> list[Question]:
    """Each case in each of the judge's orders; each has a prompt id of its own.

    Raises:
        UserError: the judge does not read text, but compares measures of the teacher's samples.
    """
    if judge.measures or judge.orders not in (BOTH_ORDERS, NO_ORDER):
        raise UserError(f"judge '{judge.name}' compares measures, not texts; only a judge that reads can be checked")
    return [Question(case.comparison, order) for case in cases for order in judge.orders]


def _asked(judge: Checked, cases: Sequence[Case], ask: Ask) -> dict[str, list[Verdict]]:
    """Prompt id → a verdict for each order.

    Raises:
        RuntimeError: `ask` gave fewer, more or other answers than it was asked for.
    """
    questions = questions_of(judge, cases)
    expected = {(question.comparison.prompt.id, question.order) for question in questions}
    if len(expected) < len(questions):
        raise RuntimeError("two cases of a check have one prompt id")
    by_id = {case.prompt.id: case for case in cases}
    found: dict[str, list[Verdict]] = {case.prompt.id: [] for case in cases}
    for question, answer in ask(questions):
        key = (question.comparison.prompt.id, question.order)
        if key not in expected:
            raise RuntimeError(f"judge {judge.name} answered {key}, which it was not asked, or answered before")
        expected.remove(key)
        found[key[0]].append(by_id[key[0]].verdict(judge.name, question.order, answer))
    if expected:
        raise RuntimeError(f"judge {judge.name} left {len(expected)} of {len(questions)} questions without an answer")
    return found


# ---- what is found


@dataclass(frozen=True)
class Score:
    """Pairs by the both-order rule: right (a win of the better response), tied, wrong; `missing` is in neither.

    accuracy: right / (right + tied + wrong).     net: (right − wrong) / the same, −1..1, 0 by guessing.
    preference: mean preference for the better response, both orders, 0..1.
    """

    pairs: int
    right: int
    tied: int
    wrong: int
    missing: int
    accuracy: Share
    net: float | None
    net_interval: Interval | None
    preference: Mean


@dataclass(frozen=True)
class Position:
    """flips, ties: see `agreement`. first: mean preference for the response shown first, 0.5 is unbiased."""

    flips: Share
    ties: Share
    first: Mean


@dataclass(frozen=True)
class Length:
    """Mean preference for the better response where it is the longer, the shorter, and where lengths are matched.

    bias: longer − shorter, −1..1; above 0, length is rewarded.
    """

    longer: Mean
    shorter: Mean
    matched: Mean
    bias: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Consistency:
    """A second asking. same: pairs with the same outcome. apart: mean absolute difference of the preferences, 0..1.
    missing: pairs that have a verdict missing in either asking, in neither number."""

    same: Share
    apart: Mean
    missing: int


@dataclass(frozen=True)
class DamageCurve:
    """Mean preference for the damaged response by dose; at dose 0 it is 0.5 by construction, and is not asked.

    slope: change of the preference from 0.5 per unit of dose, a least-squares line through (0, 0.5) for each
        response, and the mean of these.
    p: one-sided sign-flip permutation test of slope < 0: for a judge that cannot tell them apart, a response's
        slope is as likely to be positive.
    falls, rises: share of adjacent steps of a response's curve (0.5 included) that fall, and that rise. A judge that is
        certain at the first dose has no further to fall.
    monotone: the mean curve never rises.
    missing: comparisons with a verdict missing.
    """

    kind: Damage
    doses: tuple[float, ...]
    preferences: tuple[Mean, ...]
    slope: Mean
    p: float | None
    falls: Mean
    rises: Mean
    monotone: bool
    missing: int

    @property
    def seen(self) -> bool:
        return self.p is not None and self.p < DAMAGE_LEVEL


@dataclass(frozen=True)
class Humans:
    """Against people's labels. agreement: win, tie and loss of response a, judge by human. decided: the share of the
    same choice, of the pairs in which neither says tie. human_ties: people's ties among all labelled pairs."""

    agreement: Agreement
    decided: Share
    human_ties: Share
    position: Position | None


@dataclass(frozen=True)
class Finding:
    name: FindingName
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}" if self.detail else self.name


@dataclass(frozen=True)
class Report:
    """What a judge is worth. `asdict` of it is plain JSON.

    pair_set: digest of the labelled pairs; numbers of different sets are not comparable.
    statuses: verdicts by status in the first asking. position: None for a judge that sees no order.
    verdict: "usable", or every finding, joined by "; ".
    """

    judge: str
    setup: dict[str, str]
    pair_set: str
    seed: int
    verdicts: int
    statuses: dict[str, int]
    labels: Score
    kinds: dict[str, Score]
    position: Position | None
    length: Length
    consistency: Consistency | None
    damage: tuple[DamageCurve, ...]
    humans: Humans | None
    findings: tuple[Finding, ...]
    verdict: str

    @property
    def usable(self) -> bool:
        return not self.findings


def check(judge: Checked, ask: Ask, plan: Plan, ask_again: Ask | None = None) -> Report:
    """Ask a judge everything in `plan`, and report.

    ask: gives each question's answer, through a cache or not; called once. ask_again: the same without the cache, for
        self-consistency, called once with the questions about labelled pairs; None leaves that out.

    Raises:
        UserError: the judge does not read text.
        RuntimeError: `ask` or `ask_again` did not answer what it was asked.
    """
    found = _asked(judge, plan.cases, ask)
    labelled = [verdict for case in plan.labelled.values() for verdict in found[case.prompt.id]]
    statuses = Counter(verdict.status for verdicts in found.values() for verdict in verdicts)
    by_kind = {kind: {pair.prompt_id for pair in plan.pairs if pair.kind == kind} for kind in get_args(Kind)}
    again = None if ask_again is None else _asked(judge, list(plan.labelled.values()), ask_again)
    score, position = _score(labelled, plan.seed), _position(judge, labelled, plan.seed)
    length = _length(plan, labelled)
    curves = tuple(_curve(kind, plan, found) for kind in DOSES) if plan.doses else ()
    total = sum(statuses.values())
    findings = _findings(1 - statuses["ok"] / total if total else 0.0, score, position, length, curves)
    return Report(
        judge=judge.name,
        setup=dict(judge.setup),
        pair_set=canonical_hash([pair.model_dump() for pair in plan.pairs])[:12],
        seed=plan.seed,
        verdicts=total,
        statuses={str(status): count for status, count in statuses.items()},
        labels=score,
        kinds={
            kind: _score([verdict for verdict in labelled if verdict.prompt_id in ids], plan.seed)
            for kind, ids in by_kind.items()
            if ids
        },
        position=position,
        length=length,
        consistency=None if again is None else _consistency(found, again, plan.seed),
        damage=curves,
        humans=_humans(judge, plan, found) if plan.humans else None,
        findings=findings,
        verdict="; ".join(str(finding) for finding in findings) or "usable",
    )


def _preferences(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """Prompt id → preference for ours, the mean of its orders; only of prompts with none missing."""
    verdicts = list(verdicts)
    found: dict[str, list[float]] = {}
    for verdict in verdicts:
        if verdict.preference is not None:
            found.setdefault(verdict.prompt_id, []).append(verdict.preference)
    return {key: float(np.mean(found[key])) for key, outcome in outcomes(verdicts).items() if outcome != "missing"}


def _score(verdicts: Sequence[Verdict], seed: int) -> Score:
    known = rates(verdicts, seed)
    return Score(
        pairs=known.n + known.missing,
        right=known.wins,
        tied=known.ties,
        wrong=known.losses,
        missing=known.missing,
        accuracy=share(known.wins, known.n),
        net=known.preference_rate,
        net_interval=known.preference_interval,
        preference=mean(list(_preferences(verdicts).values()), seed=seed),
    )


def _position(judge: Checked, verdicts: Sequence[Verdict], seed: int) -> Position | None:
    if judge.orders == NO_ORDER:
        return None
    first = [(ours + 1 - theirs) / 2 for ours, theirs in both_orders(verdicts).values()]
    return Position(flips(verdicts), tie_rate(verdicts), mean(first, seed=seed))


def matched(first: str, second: str) -> bool:
    """Whether two responses have about the same length in characters."""
    lengths = sorted((len(first), len(second)))
    return lengths[0] >= MATCHED * lengths[1]


def _length(plan: Plan, verdicts: Sequence[Verdict]) -> Length:
    groups: dict[str, list[float]] = {"longer": [], "shorter": [], "matched": []}
    for key, preference in _preferences(verdicts).items():
        better, worse = plan.labelled[key].ours, plan.labelled[key].theirs
        group = "matched" if matched(better, worse) else "longer" if len(better) > len(worse) else "shorter"
        groups[group].append(preference)
    means = {group: mean(values, seed=plan.seed) for group, values in groups.items()}
    bias, interval = difference(means["longer"], means["shorter"])
    return Length(means["longer"], means["shorter"], means["matched"], bias, interval)


def _consistency(
    found: Mapping[str, Sequence[Verdict]], again: Mapping[str, Sequence[Verdict]], seed: int
) -> Consistency:
    same, apart, missing = 0, [], 0
    for key, second in again.items():
        first = found[key]
        before, after = outcomes(first)[key], outcomes(second)[key]
        if "missing" in (before, after):
            missing += 1
            continue
        same += before == after
        known = {verdict.order: verdict.preference or 0.0 for verdict in first}
        apart.append(float(np.mean([abs((verdict.preference or 0.0) - known[verdict.order]) for verdict in second])))
    return Consistency(share(same, len(apart)), mean(apart, seed=seed), missing)


def _curve(kind: Damage, plan: Plan, found: Mapping[str, Sequence[Verdict]]) -> DamageCurve:
    doses = DOSES[kind]
    curves: dict[str, dict[float, float]] = {}
    asked = [(name, dose, case.prompt.id) for (which, name, dose), case in plan.doses.items() if which == kind]
    for name, dose, key in asked:
        preference = _preferences(found[key]).get(key)
        curve = curves.setdefault(name, {})
        if preference is not None:
            curve[dose] = preference
    known = [curve for curve in curves.values() if curve]
    slopes = [sum(d * (y - 0.5) for d, y in curve.items()) / sum(d * d for d in curve) for curve in known]
    steps = [[after - before for before, after in pairwise([0.5, *curve.values()])] for curve in known]
    means = tuple(mean([curve[dose] for curve in known if dose in curve], seed=plan.seed) for dose in doses)
    steepest = 0.5 / min(doses)
    levels = [0.5, *(value.mean for value in means if value.mean is not None)]
    return DamageCurve(
        kind=kind,
        doses=doses,
        preferences=means,
        slope=mean(slopes, (-steepest, steepest), plan.seed),
        p=sign_flip_test(slopes, plan.seed),
        falls=mean([float(np.mean([step < 0 for step in curve])) for curve in steps], seed=plan.seed),
        rises=mean([float(np.mean([step > 0 for step in curve])) for curve in steps], seed=plan.seed),
        monotone=all(after <= before for before, after in pairwise(levels)),
        missing=len(asked) - sum(len(curve) for curve in known),
    )


def sign_flip_test(values: Sequence[float], seed: int, resamples: int = RESAMPLES) -> float | None:
    """One-sided p that the mean is below 0, under the hypothesis that each value's sign is a coin's; None for none.

    The observed signs count as one of the draws, so p is never 0.
    """
    if not values:
        return None
    sizes = np.asarray(values, dtype=np.float64)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(resamples, len(sizes)))
    # sums of the same numbers in another order differ by rounding
    as_low = (signs @ sizes) <= sizes.sum() + 1e-9
    return float((1 + np.count_nonzero(as_low)) / (1 + resamples))


def _humans(judge: Checked, plan: Plan, found: Mapping[str, Sequence[Verdict]]) -> Humans:
    verdicts = [verdict for case in plan.labels.values() for verdict in found[case.prompt.id]]
    said = outcomes(verdicts)
    words: dict[str, Outcome] = {"a": "win", "b": "loss", "tie": "tie"}
    judged = {row.prompt_id: said[plan.labels[row.prompt_id].prompt.id] for row in plan.humans}
    labels = {row.prompt_id: words[row.label] for row in plan.humans}
    decided = [key for key in labels if {judged[key], labels[key]} <= {"win", "loss"}]
    return Humans(
        agreement=agreement(judged, labels, plan.seed),
        decided=share(sum(judged[key] == labels[key] for key in decided), len(decided)),
        human_ties=share(sum(label == "tie" for label in labels.values()), len(labels)),
        position=_position(judge, verdicts, plan.seed),
    )


def _findings(
    missing: float, score: Score, position: Position | None, length: Length, curves: Sequence[DamageCurve]
) -> tuple[Finding, ...]:
    """Everything that is wrong; what could not be measured at all is no finding, but then verdicts are missing."""
    found = []
    if missing > MISSING_LIMIT:
        found.append(Finding("unusable", f"{missing:.0%} of verdicts missing"))
    if score.net_interval is not None and score.net_interval[0] <= 0:
        found.append(Finding("chance", ""))
    elif score.accuracy.share is not None and score.accuracy.share < LEAST_ACCURACY:
        found.append(Finding("weak", f"{score.accuracy.share:.0%} of plain pairs right"))
    if position is not None and _apart(position.first.mean, position.first.interval, 0.5, POSITION_LIMIT):
        shown = position.first.mean or 0.0
        found.append(Finding("position-biased", f"towards the {'first' if shown > 0.5 else 'second'} response"))
    if _apart(length.bias, length.interval, 0.0, LENGTH_LIMIT):
        found.append(Finding("length-biased", f"towards the {'longer' if (length.bias or 0) > 0 else 'shorter'}"))
    unseen = [curve.kind for curve in curves if curve.p is not None and not curve.seen]
    if unseen:
        found.append(Finding("insensitive to damage", ", ".join(unseen)))
    return tuple(found)


def _apart(value: float | None, interval: Interval | None, from_: float, limit: float) -> bool:
    """Whether a value is more than `limit` away, and its interval excludes none at all."""
    if value is None or interval is None:
        return False
    return abs(value - from_) > limit and not interval[0] <= from_ <= interval[1]


# ---- how it is shown


def render(report: Report) -> str:
    """The report as Markdown that reads well in a terminal; every number with its 95% interval and N."""
    parts = [
        f"# Judge check: {report.judge}",
        f"**Verdict: {report.verdict}**",
        _facts(report),
        "## Pairs with a known answer\n\n" + _labels_table(report),
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
- *weak*: less than {LEAST_ACCURACY:.0%} right
- *position-biased*: preference for the first response over {POSITION_LIMIT:g} from 0.5, and an interval without 0.5
- *length-biased*: a length bias of more than {LENGTH_LIMIT:g}, and an interval without 0
- *insensitive to damage*: the preference does not fall (one-sided p ≥ {DAMAGE_LEVEL:g}) for the kinds named

*Usable*, none of these, is a low bar: the pairs are easy. A judge that guesses passes for length-biased about once in
twenty checks."""


def _facts(report: Report) -> str:
    other = ", ".join(f"{count} {status}" for status, count in sorted(report.statuses.items()) if status != "ok")
    lines = [f"{key}: {' '.join(value.split())}" for key, value in report.setup.items()]
    lines.append(f"verdicts: {report.verdicts}; missing: {other or 'none'}")
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


def _table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


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
    return _table(headers, rows)


def _position_lines(position: Position | None) -> str:
    if position is None:
        return "None by construction: the judge sees no order."
    return (
        f"- preference for the response shown first (0.5 is unbiased): {_mean(position.first)}\n"
        f"- flips (the orders name different winners): {_share(position.flips)}\n"
        f"- ties: {_share(position.ties)}"
    )


def _length_lines(length: Length) -> str:
    return (
        f"- length bias (0 is unbiased, 1 is length alone): {_number(length.bias, length.interval, '+.3f')}\n"
        f"- preference for the better response where it is longer: {_mean(length.longer)}\n"
        f"- where it is shorter: {_mean(length.shorter)}\n"
        f"- where lengths are within {1 - MATCHED:.0%}: {_mean(length.matched)}"
    )


def _consistency_lines(found: Consistency | None) -> str:
    if found is None:
        return "Not asked."
    return (
        f"- the same outcome: {_share(found.same)}\n"
        f"- mean absolute difference of preferences: {_mean(found.apart)}\n"
        f"- pairs with a verdict missing in either: {found.missing}"
    )


def _damage_table(curves: Sequence[DamageCurve]) -> str:
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
            _number(curve.falls.mean, curve.falls.interval, ".1%"),
            _number(curve.rises.mean, curve.rises.interval, ".1%"),
            "yes" if curve.monotone else "no",
        ]
        for curve in curves
    ]
    return (
        "Preference for a damaged response against itself undamaged; 0.5 at dose 0 by construction.\n\n"
        + _table(["damage", "dose", "N", "preference for the damaged"], rows)
        + "\n\n"
        + _table(["damage", "N", "missing", "slope", "p", "steps that fall", "that rise", "never rises"], trends)
    )


def _human_lines(humans: Humans) -> str:
    found = humans.agreement
    names = ["a", "tie", "b"]
    table = _table(["judge \\ human", *names], [[name, *row] for name, row in zip(names, found.table, strict=True)])
    kappa = found.note if found.kappa is None else _number(found.kappa, found.kappa_interval, ".3f")
    note = f" ({found.note})" if found.note and found.kappa is not None else ""
    return (
        f"- agreement: {_share(found.agreement)}; {found.missing} missing\n"
        f"- Cohen's κ: {kappa}{note}\n"
        f"- the same choice where neither says tie: {_share(humans.decided)}\n"
        f"- ties of the humans: {_share(humans.human_ties)}\n\n"
        f"{table}\n\n{_position_lines(humans.position)}"
    )
