"""What a judge that reads text is worth: its report.

It is asked pairs with known answers, good responses damaged in known steps, and people's own labelled pairs, each in
both orders, and told apart from the faults that judges have:

    labels        a pair is right if the judge prefers the better response in every order it sees; κ of the judge's
                  outcomes and the known ones is that beyond chance
    position      what the place in the prompt is worth: flips, and the mean preference for the response shown first
    length        the preference for the better response where it is the longer one, minus that where it is the
                  shorter one; over pairs whose lengths differ. 0 for a judge that is equally right on both, 1 for
                  one that sees length alone, and 0 for one that guesses
    consistency   the same questions a second time
    damage        a damaged response against itself

Nothing that the judge failed to answer is dropped: a pair with a verdict missing is counted as missing.

κ, flips, the pull of position and consistency are held to limits by the end of their 95% intervals that speaks against
the judge: it is to be shown that it keeps them, and a handful of pairs shows nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from pydantic import ValidationError

from harness.core.errors import UserError
from harness.core.files import canonical_hash
from harness.core.records import Message, Order, Prompt, Record, Response, Verdict, read_jsonl, read_records
from harness.judging.check.perturbation import (
    DOSES,
    LONG,
    Perturbation,
    PerturbationCurve,
    doses,
    perturbation_curve,
    sentences,
)
from harness.judging.protocol import BOTH_ORDERS, NO_ORDER, Answer, Comparison, Judge, Question
from harness.judging.response_files import read_prompt
from harness.prompts.rows import FIELDS
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
from harness.statistics.outcomes import Outcome, from_records, outcomes, outcomes_by_prompt
from harness.statistics.rates import Interval, rates

# docs/judges.md says why these, and what becomes of judges that err in known ways.
MISSING_LIMIT = 0.10  # share of verdicts missing: more, and what is left is a selection
LEAST_KAPPA = 0.60  # the lower end of κ, on pairs that a competent human decides at a glance
FLIP_LIMIT = 0.20  # the upper end of the share of flips
POSITION_LIMIT = 0.10  # the farther end of |mean preference for the response shown first − 0.5|; all flips one way
LEAST_CONSISTENT = 0.80  # the lower end of the share of pairs with the same outcome when asked again
LENGTH_LIMIT = 0.20  # |length bias|, with an interval that excludes 0: of the longer pairs there are too few for an end
MATCHED = 0.8  # lengths are matched where the shorter response has at least this share of the longer one's characters
DAMAGED_ITEMS = 24
Weakness = Literal[
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
FindingName = Literal[
    "unusable", "chance", "weak", "flips", "position-biased", "length-biased", "inconsistent", "insensitive to damage"
]
# Each question with its answer, in any order. It goes through the caller's cache, and counts what it costs.
Ask = Callable[[Iterable[Question]], Iterable[tuple[Question, Answer]]]


# ---- what is asked
class LabelledPair(Record):
    """A prompt with a better and a worse response; `kind` is what is wrong with the worse one. The right `answer` is
    not shown to the judge: the prompts that it will judge mostly have none."""

    prompt_id: str
    kind: Weakness
    prompt: str
    better: str
    worse: str
    answer: str = ""


class HumanLabel(Record):
    """A pair that a person labelled: which response is better, `a`, `b`, or neither."""

    prompt_id: str
    prompt: Prompt
    response_a: str
    response_b: str
    label: Literal["a", "b", "tie"]


def read_pairs() -> tuple[LabelledPair, ...]:
    """The labelled pairs of benchmarks/judge_check."""
    return tuple(read_records(Path(str(resources.files("benchmarks") / "judge_check" / "pairs.jsonl")), LabelledPair))


def read_labels(path: Path) -> tuple[HumanLabel, ...]:
    """Human labels of a JSONL file: prompt_id, prompt or messages, response_a, response_b, label (a, b or tie).

    Raises:
        UserError: a row that does not fit or a repeated prompt_id, by file and line; or an empty file.
    """
    rows: dict[str, HumanLabel] = {}
    for number, data in read_jsonl(path):
        where = f"{path}:{number}"
        prompt = read_prompt(str(data.get("prompt_id")), data, where)
        if prompt is None:
            raise UserError(f"{where}: neither 'prompt' nor 'messages'")
        others = {name: value for name, value in data.items() if name not in FIELDS - {"id", "category"}}
        try:
            row = HumanLabel.model_validate({**others, "prompt": prompt})
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"{where}: '{first['loc'][0]}': {first['msg']}") from error
        if row.prompt_id in rows:
            raise UserError(f"{where}: a second label under the prompt_id '{row.prompt_id}'; each needs one of its own")
        rows[row.prompt_id] = row
    if not rows:
        raise UserError(f"{path}: no labels in the file")
    return tuple(rows.values())


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
        ours, theirs = (
            Response(prompt_id=self.prompt.id, token_ids=(), text=text, finish="stop")
            for text in (self.ours, self.theirs)
        )
        return Comparison(self.prompt, theirs, ours) if self.swapped else Comparison(self.prompt, ours, theirs)

    def verdict(self, judge: str, order: Order, answer: Answer) -> Verdict:
        """A verdict in which `ours` is the candidate, whichever the judge was given."""
        preference = answer.preference if answer.status == "ok" else None
        if self.swapped:
            preference = None if preference is None else 1 - preference
            order = order if order == "none" else BOTH_ORDERS[1 - BOTH_ORDERS.index(order)]
        return Verdict(
            prompt_set="judge-check",
            prompt_id=self.prompt.id,
            candidate="ours",
            reference="theirs",
            order=order,
            status=answer.status,
            preference=preference,
            judge=judge,
            detail=answer.detail,
        )


@dataclass(frozen=True)
class CheckPlan:
    """What a judge is asked. damaged: the first so many of the better responses of LONG sentences or more are damaged;
    0 for none."""

    pairs: tuple[LabelledPair, ...]
    humans: tuple[HumanLabel, ...] = ()
    damaged: int = DAMAGED_ITEMS
    seed: int = 0

    @cached_property
    def labelled(self) -> dict[str, Case]:
        """prompt_id → the better response against the worse one."""
        found: dict[str, Case] = {}
        seen: Counter[str] = Counter()
        for pair in self.pairs:
            seen[pair.kind] += 1  # roles alternate within a kind, so that they say nothing of kinds and lengths
            swapped = seen[pair.kind] % 2 == 0
            found[pair.prompt_id] = Case(_prompt(pair, pair.prompt_id), pair.better, pair.worse, swapped)
        return found

    @cached_property
    def labels(self) -> dict[str, Case]:
        """prompt_id → response a against response b."""
        return {
            row.prompt_id: Case(
                row.prompt.model_copy(update={"id": f"{row.prompt_id}/human"}),
                row.response_a,
                row.response_b,
                number % 2 == 1,
            )
            for number, row in enumerate(self.humans)
        }

    @cached_property
    def doses(self) -> dict[tuple[Perturbation, str, float], Case]:
        """(kind, prompt_id, dose) → the damaged response against itself undamaged."""
        long = [pair for pair in self.pairs if len(sentences(pair.better)) >= LONG][: self.damaged]
        places = {pair.prompt_id: place for place, pair in enumerate(long)}
        hurt = doses({pair.prompt_id: pair.better for pair in long}, self.seed)
        return {
            (kind, key, dose): Case(
                _prompt(long[places[key]], f"{key}/{kind}/{dose:.0%}"),
                text,
                " ".join(sentences(long[places[key]].better)),
                places[key] % 2 == 1,
            )
            for (kind, key, dose), text in hurt.items()
        }

    @property
    def cases(self) -> list[Case]:
        return [*self.labelled.values(), *self.labels.values(), *self.doses.values()]


def _prompt(pair: LabelledPair, name: str) -> Prompt:
    return Prompt(id=name, messages=(Message(role="user", content=pair.prompt),))


def questions_of(judge: Judge, cases: Iterable[Case]) -> list[Question]:
    """Each case in each of the judge's orders; each has a prompt id of its own.

    Raises:
        UserError: the judge does not read text, but compares measures of the teacher's samples.
    """
    if judge.measures or judge.orders not in (BOTH_ORDERS, NO_ORDER):
        raise UserError(f"judge '{judge.name}' compares measures, not texts; only a judge that reads can be checked")
    return [Question(case.comparison, order) for case in cases for order in judge.orders]


def _asked(judge: Judge, cases: Sequence[Case], ask: Ask) -> dict[str, list[Verdict]]:
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


def matched(first: str, second: str) -> bool:
    """Whether two responses have about the same length in characters."""
    lengths = sorted((len(first), len(second)))
    return lengths[0] >= MATCHED * lengths[1]


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
    """What a judge is worth. Pydantic writes it as plain JSON.

    pair_set: digest of the labelled pairs; numbers of different sets are not comparable.
    statuses: verdicts by status in the first asking. known: win, tie and loss of the response that the judge was given
    as the candidate, as the judge has it by what is known. position: None for a judge that sees no order.
    """

    judge: str
    setup: dict[str, str]
    pair_set: str
    seed: int
    verdicts: int
    statuses: dict[str, int]
    labels: Score
    known: Agreement
    kinds: dict[str, Score]
    position: Position | None
    length: Length
    consistency: Consistency | None
    damage: tuple[PerturbationCurve, ...]
    humans: Humans | None
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        return "; ".join(map(str, self.findings)) or "usable"

    @property
    def usable(self) -> bool:
        return not self.findings


def check(judge: Judge, ask: Ask, plan: CheckPlan, ask_again: Ask | None = None) -> Report:
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
    by_kind = {kind: {pair.prompt_id for pair in plan.pairs if pair.kind == kind} for kind in get_args(Weakness)}
    again = None if ask_again is None else _asked(judge, list(plan.labelled.values()), ask_again)
    score, position = _score(labelled, plan.seed), _position(judge, labelled, plan.seed)
    length = _length(plan, labelled)
    known = _known(plan, labelled)
    consistency = None if again is None else _consistency(found, again, plan.seed)
    curves = _curves(plan, found)
    total = sum(statuses.values())
    missing = 1 - statuses["ok"] / total if total else 0.0
    return Report(
        judge=judge.name,
        setup=dict(judge.setup),
        pair_set=canonical_hash([pair.model_dump() for pair in plan.pairs])[:12],
        seed=plan.seed,
        verdicts=total,
        statuses={str(status): count for status, count in statuses.items()},
        labels=score,
        known=known,
        kinds={
            kind: _score([verdict for verdict in labelled if verdict.prompt_id in ids], plan.seed)
            for kind, ids in by_kind.items()
            if ids
        },
        position=position,
        length=length,
        consistency=consistency,
        damage=curves,
        humans=_humans(judge, plan, found) if plan.humans else None,
        findings=_findings(missing, score, known, position, length, consistency, curves),
    )


def _preferences(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """Prompt id → preference for ours, the mean of its orders; only of prompts with none missing."""
    found = outcomes(from_records(verdicts)).judged
    return dict(zip(found.prompt_ids, found.preference.tolist(), strict=True))


def _score(verdicts: Sequence[Verdict], seed: int) -> Score:
    known = rates(verdicts)
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


def _known(plan: CheckPlan, verdicts: Sequence[Verdict]) -> Agreement:
    """As the judge was asked: the better response is the reference in half of the pairs. Were it the candidate in all,
    what is known would be one outcome, and κ 0 whatever the judge says."""
    turned: dict[Outcome, Outcome] = {"win": "loss", "loss": "win"}
    swapped = {key for key, case in plan.labelled.items() if case.swapped}
    said = outcomes_by_prompt(verdicts)
    judged = {key: turned.get(found, found) if key in swapped else found for key, found in said.items()}
    known: dict[str, Outcome] = {key: "loss" if key in swapped else "win" for key in judged}
    return agreement(judged, known, plan.seed)


def _position(judge: Judge, verdicts: Sequence[Verdict], seed: int) -> Position | None:
    if judge.orders == NO_ORDER:
        return None
    first = [(ours + 1 - theirs) / 2 for ours, theirs in both_orders(verdicts).values()]
    return Position(flips(verdicts), tie_rate(verdicts), mean(first, seed=seed))


def _length(plan: CheckPlan, verdicts: Sequence[Verdict]) -> Length:
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
    before = outcomes_by_prompt(verdict for key in again for verdict in found[key])
    after = outcomes_by_prompt(verdict for verdicts in again.values() for verdict in verdicts)
    same, apart, missing = 0, [], 0
    for key, second in again.items():
        first = found[key]
        if "missing" in (before[key], after[key]):
            missing += 1
            continue
        same += before[key] == after[key]
        known = {verdict.order: verdict.preference or 0.0 for verdict in first}
        apart.append(float(np.mean([abs((verdict.preference or 0.0) - known[verdict.order]) for verdict in second])))
    return Consistency(share(same, len(apart)), mean(apart, seed=seed), missing)


def _curves(plan: CheckPlan, found: Mapping[str, Sequence[Verdict]]) -> tuple[PerturbationCurve, ...]:
    keys = {dose: case.prompt.id for dose, case in plan.doses.items()}
    known = _preferences(verdict for key in keys.values() for verdict in found[key])
    by_kind: dict[Perturbation, dict[tuple[str, float], float | None]] = {kind: {} for kind in DOSES if keys}
    for (kind, name, dose), key in keys.items():
        by_kind[kind][name, dose] = known.get(key)
    return tuple(perturbation_curve(kind, preferences, plan.seed) for kind, preferences in by_kind.items())


def _humans(judge: Judge, plan: CheckPlan, found: Mapping[str, Sequence[Verdict]]) -> Humans:
    verdicts = [verdict for case in plan.labels.values() for verdict in found[case.prompt.id]]
    said = outcomes_by_prompt(verdicts)
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
    missing: float,
    score: Score,
    known: Agreement,
    position: Position | None,
    length: Length,
    consistency: Consistency | None,
    curves: Sequence[PerturbationCurve],
) -> tuple[Finding, ...]:
    """Everything that is wrong, or not shown to be right; what could not be measured at all is no finding, but then
    verdicts are missing."""
    found = []
    if missing > MISSING_LIMIT:
        found.append(Finding("unusable", f"{missing:.0%} of verdicts missing"))
    if score.net_interval is not None and score.net_interval[0] <= 0:
        found.append(Finding("chance", ""))
    elif known.kappa is not None and (known.kappa_interval is None or known.kappa_interval[0] < LEAST_KAPPA):
        perhaps = "" if known.kappa_interval is None else f", perhaps {known.kappa_interval[0]:.2f}"
        found.append(Finding("weak", f"κ {known.kappa:.2f} on plain pairs{perhaps}"))
    if position is not None:
        found += _of_position(position)
    if _apart(length.bias, length.interval, 0.0, LENGTH_LIMIT):
        found.append(Finding("length-biased", f"towards the {'longer' if (length.bias or 0) > 0 else 'shorter'}"))
    if consistency is not None and consistency.same.interval is not None:
        low, same = consistency.same.interval[0], f"{consistency.same.share:.0%} the same when asked again"
        if low < LEAST_CONSISTENT:
            found.append(Finding("inconsistent", f"{same}, perhaps {low:.0%}"))
    unseen = [curve.kind for curve in curves if curve.p is not None and not curve.seen]
    if unseen:
        found.append(Finding("insensitive to damage", ", ".join(unseen)))
    return tuple(found)


def _of_position(position: Position) -> list[Finding]:
    found = []
    if position.flips.interval is not None and position.flips.interval[1] > FLIP_LIMIT:
        high = position.flips.interval[1]
        found.append(Finding("flips", f"{position.flips.share:.0%} of plain pairs, perhaps {high:.0%}"))
    if position.first.interval is not None:
        second, first = 0.5 - position.first.interval[0], position.first.interval[1] - 0.5
        if max(first, second) > POSITION_LIMIT:
            towards = f"towards the {'first' if first > second else 'second'} response"
            known = min(first, second) < 0
            found.append(Finding("position-biased", towards if known else f"perhaps, {towards}"))
    return found


def _apart(value: float | None, interval: Interval | None, from_: float, limit: float) -> bool:
    """Whether a value is more than `limit` away, and its interval excludes none at all."""
    if value is None or interval is None:
        return False
    return abs(value - from_) > limit and not interval[0] <= from_ <= interval[1]
