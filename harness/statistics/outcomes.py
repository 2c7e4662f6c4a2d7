"""Verdicts as columns, and the outcome of each comparison: what every other module of this folder counts.

A *comparison* is a candidate against a reference, by one judge, on one prompt set; it has one outcome for each prompt
(or each turn of it, where turns were judged), run and sample: what a system answered several times to one prompt, and
what was asked several times of one response, are samples of it. A
judge is its name and its digest; one whose digest is not known is a judge of its own. A prompt is its set, its id and
the digest of what was asked; where that is not known it is the one prompt of its set and id of which it is. Several ids
of one text in one set are one prompt that was asked several times.

An outcome is a win only if every order prefers the candidate, a loss only if every order prefers the reference; a
disagreement is a tie; a verdict that is missing or not ok in any order makes it missing. One order is all only where no
prompt of the comparison was asked in both. This is the one place that has the rule: an outcome is always found from the
whole of its comparison, and prompts are picked afterwards.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UserError
from harness.core.records import SHORT, Order, Status, Verdict
from harness.statistics.arena_hard import LABEL_CODES, NO_LABEL

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Outcome = Literal["win", "tie", "loss", "missing"]
Orders = Literal["both", "one", "none", "mixed"]
ORDERS: tuple[Order, ...] = get_args(Order)
STATUSES: tuple[Status, ...] = get_args(Status)
_ORDER = {name: float(code) for code, name in enumerate(ORDERS)}
_STATUS = {name: float(code) for code, name in enumerate(STATUSES)}
_FIRST, _SECOND, _NEITHER, _UNKNOWN = map(ORDERS.index, ("candidate_first", "reference_first", "none", "unknown"))
OK = STATUSES.index("ok")
NAN = float("nan")
Line = tuple[str, str, int, dict[str, Any]]  # run, file, line number, row
ComparisonKey = tuple[str, str, str, str]  # prompt set, candidate, reference, judge
Unit = tuple[str, int, int, int]  # prompt id, turn, repeat, sample
_WORDS: dict[float, Outcome] = {1.0: "win", 0.0: "tie", -1.0: "loss"}


@dataclass(frozen=True)
class Codes:
    """What codes stand for. A prompt is (prompt set, prompt id, digest): the same id in two sets, or of two texts, is
    two prompts. A judge is its name, with what tells it from others of that name."""

    run: tuple[str, ...]
    prompt_set: tuple[str, ...]
    prompt: tuple[tuple[str, str, str], ...]
    candidate: tuple[str, ...]
    reference: tuple[str, ...]
    judge: tuple[str, ...]


@dataclass(frozen=True)
class _Table:
    """Arrays [n], one entry a row; names apart. asked: the prompt by its own id, `prompt` by what it is: the first one
    of its set that is of the same text, or that it repeats. turn: of the prompt, 0 where it is judged as a whole.
    sample: which response to it, and, `_REPEAT` a time, which time that was judged."""

    names: Codes
    run: Ints
    prompt_set: Ints
    prompt: Ints
    asked: Ints
    turn: Ints
    sample: Ints
    candidate: Ints
    reference: Ints
    judge: Ints

    def __len__(self) -> int:
        return len(self.run)

    def select(self, rows: NDArray[np.bool_] | Ints) -> Self:
        """Some of the rows, by mask or index."""
        columns = [field.name for field in fields(self) if field.name != "names"]
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def where(self, **names: str) -> Self:
        """The rows of these names, as in `where(candidate="sft", judge="proxy")`; an unknown name has none."""
        keep = np.ones(len(self), dtype=bool)
        for column, name in names.items():
            known = getattr(self.names, column)
            keep &= getattr(self, column) == (known.index(name) if name in known else -1)
        return self.select(keep)


@dataclass(frozen=True)
class Verdicts(_Table):
    """A row a verdict. order, status: places in ORDERS and STATUSES. preference: 0..1, NaN where not ok.

    Lengths are tokens where both are known (`in_tokens`), else characters where both are, else NaN. label: place of the
    verdict's label in Arena-Hard's LABELS, or NO_LABEL.
    """

    order: Ints
    status: Ints
    preference: Floats
    candidate_length: Floats
    reference_length: Floats
    in_tokens: NDArray[np.bool_]
    label: Ints


@dataclass(frozen=True)
class Outcomes(_Table):
    """A row an outcome of one prompt, or of one of its turns, in one run.

    value: 1 win, 0 tie, −1 loss, NaN missing. preference: mean over its orders, NaN where missing.
    failed: verdicts that are not ok. orders: of its whole comparison, a place in ORDER_KINDS.
    """

    value: Floats
    preference: Floats
    candidate_length: Floats
    reference_length: Floats
    in_tokens: NDArray[np.bool_]
    failed: Ints
    orders: Ints

    @property
    def judged(self) -> Self:
        return self.select(~np.isnan(self.value))

    @property
    def words(self) -> list[Outcome]:
        """Each outcome by its name."""
        return [_WORDS.get(value, "missing") for value in self.value.tolist()]

    @property
    def prompt_ids(self) -> list[str]:
        """Each outcome's prompt id, without its set."""
        return [self.names.prompt[code][1] for code in self.asked.tolist()]

    @property
    def units(self) -> list[Unit]:
        """What each outcome is of, within its comparison and run."""
        repeat, sample = np.divmod(self.sample, _REPEAT)
        return list(zip(self.prompt_ids, self.turn.tolist(), repeat.tolist(), sample.tolist(), strict=True))

    @property
    def orders_seen(self) -> Orders:
        """both; one (some verdicts have their other order nowhere); none (the judge sees no order); or mixed."""
        kinds = np.unique(self.orders)
        return ORDER_KINDS[int(kinds[0])] if len(kinds) == 1 else "mixed"


_REPEAT = 1 << 20  # more samples of one prompt than there ever are
_FASTCHAT = "fastchat"  # the prompt set of its judgments
_DIGITS = 7  # a number in an id has fewer
_LABEL = 6  # digits of a digest that tell a judge from another of its name
ORDER_KINDS: tuple[Orders, ...] = ("both", "one", "none")


def from_records(verdicts: Iterable[Verdict]) -> Verdicts:
    """The columns of one run's verdicts in memory."""
    return from_runs({"": verdicts})


def from_runs(runs: Mapping[str, Iterable[Verdict]], one_of_a_name: bool = False) -> Verdicts:
    """The columns of several runs' verdicts in memory, by the name of each.

    one_of_a_name: the runs have said that their judges of one name are one, whatever their verdicts say of them.
    """
    known = {"judge_digest": ""} if one_of_a_name else {}
    return _columns(
        (run, "", number, {**vars(verdict), **known})
        for run, found in runs.items()
        for number, verdict in enumerate(found, 1)
    )


def read_verdicts(files: Mapping[str, Path] | Sequence[Path]) -> Verdicts:
    """The columns of verdict files, each a run: by the name given, or by its path.

    Raises:
        UserError: a line that is not a verdict, by file and line.
    """
    if not isinstance(files, Mapping):
        for path, count in Counter(path.resolve() for path in files).items():
            if count > 1:
                raise UserError(f"{path} is given twice: its verdicts would count twice")
    named = files if isinstance(files, Mapping) else {str(path): path for path in files}
    return _columns(row for run, path in named.items() for row in _lines(run, path))


def _lines(run: str, path: Path) -> Iterator[Line]:
    where, number, decode = str(path), 0, json.JSONDecoder().raw_decode
    try:
        # bytes are split on line feeds only: U+2028 and its like are legal inside a JSON string
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.decode()
                try:
                    # half the time of json.loads, which has the word on all that is not a value and a line feed
                    row, end = decode(text)
                except ValueError:
                    row, end = None, 0
                if row is None or text[end:] not in ("\n", ""):
                    if line.isspace():
                        continue
                    row = json.loads(text)
                if not isinstance(row, dict):
                    raise UserError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
                yield run, where, number, row
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}:{number}: not valid JSON in UTF-8 ({error})") from error


def _columns(rows: Iterable[Line]) -> Verdicts:
    """One pass; names become codes, everything else a float64."""
    codes = tuple[dict[Any, int], ...]({} for _ in range(6))
    runs, sets, prompts, candidates, references, judges = codes
    shared: dict[tuple[Any, ...], tuple[float, ...]] = {}  # what many rows have alike is looked up once
    flat = array("d")
    for run, file, number, row in rows:
        try:
            prompt_set, status, preference = row["prompt_set"], row["status"], row.get("preference")
            repeat, sample, turn = row.get("repeat", 0), row.get("sample", 0), row.get("turn", 0)
            who, candidate, reference = row.get("judge_digest", ""), row["candidate"], row["reference"]
            key = (run, repeat, sample, prompt_set, candidate, reference, row["judge"], who, row["order"], status)
            alike = shared.get(key)
            if alike is None:
                _require_count("repeat", repeat)
                _require_count("sample", sample)
                names = (run, prompt_set, candidate, reference, (row["judge"], who))
                coded = zip((runs, sets, candidates, references, judges), names, strict=True)
                time = float(repeat * _REPEAT + sample)
                alike = (*(_code(known, name) for known, name in coded), _ORDER[key[8]], _STATUS[status], time)
                shared[key] = alike
            asked = (prompt_set, row["prompt_id"], row.get("prompt_digest", ""))
            prompt = prompts.get(asked)
            if prompt is None:
                prompt = _code(prompts, asked)
            if turn != 0:
                _require_count("turn", turn)
            if (preference is not None) != (status == "ok"):
                raise ValueError("a verdict has a preference if, and only if, its status is ok")
            label = LABEL_CODES.get(row.get("detail", ""), NO_LABEL)
            if preference is None:
                preference, label = NAN, NO_LABEL
            elif type(preference) not in (float, int) or not 0 <= preference <= 1:
                raise ValueError("preference is a number from 0 to 1")
            flat.extend((*alike, prompt, turn, label, preference, *_lengths(row)))
        except KeyError as error:
            raise UserError(f"{file}:{number}: not a verdict (no, or unknown: {error.args[0]})") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{file}:{number}: not a verdict ({error})") from error
    table = np.frombuffer(flat).reshape(-1, 15).T
    run_, set_, candidate, reference, judge, order, state, sample_, prompt_, turn_, label_ = table[:11].astype(np.int64)
    same = _same_prompts(list(prompts))
    return Verdicts(
        Codes(tuple(runs), tuple(sets), tuple(prompts), tuple(candidates), tuple(references), _labels(list(judges))),
        run=run_,
        prompt_set=set_,
        prompt=same.prompt[prompt_],
        asked=same.asked[prompt_],
        turn=np.where(turn_ == 0, same.turn[prompt_], turn_),
        sample=(sample_ // _REPEAT * same.times + same.time[prompt_]) * _REPEAT + sample_ % _REPEAT,
        candidate=candidate,
        reference=reference,
        judge=judge,
        order=order,
        status=state,
        preference=table[11].copy(),
        candidate_length=table[12].copy(),
        reference_length=table[13].copy(),
        in_tokens=table[14] == 1,
        label=label_,
    )


def _require_count(name: str, value: Any) -> None:
    if type(value) is not int or not 0 <= value < _REPEAT:
        raise ValueError(f"{name} is a whole number from 0")


@dataclass(frozen=True)
class _Same:
    """[prompts] of each prompt as rows name it: the one that it is (`asked`: by its own id), which turn of that, 0
    where its id says none, and which time of asking it, from 0 and below `times`."""

    prompt: Ints
    asked: Ints
    turn: Ints
    time: Ints

    @property
    def times(self) -> int:
        return int(self.time.max(initial=0)) + 1


def _same_prompts(prompts: Sequence[tuple[str, str, str]]) -> _Same:
    """Which of them are one: prompts of one text in one set, whatever their ids, asked so many times.

    Where the text is not known, `ID#N` is the N-th time of asking ID if that and all times before are there, and in a
    set of FastChat's `ID-turn-N` is a turn of ID: so older versions wrote what is a `repeat` and a `turn` now.
    """
    asked = _by_text(prompts)
    digests = [prompts[place][2] for place in asked.tolist()]
    known = {
        (prompt_set, prompt_id, digest) for (prompt_set, prompt_id, _), digest in zip(prompts, digests, strict=True)
    }
    columns: list[tuple[int, int, int, int]] = []  # the prompt, the turn, which time, and which of its ids
    ids: dict[tuple[str, str, bool], tuple[int, dict[str, int]]] = {}  # of one prompt: its place, and a number an id
    for place, ((prompt_set, prompt_id, _), digest) in enumerate(zip(prompts, digests, strict=True)):
        first, number = _numbered(prompt_id, "#")
        before = (f"{first}#{n}" if n > 1 else first for n in range(1, number))
        if number < 2 or not all((prompt_set, name, digest) in known for name in before):
            first, number = prompt_id, 1
        turn = 0
        if prompt_set == _FASTCHAT and not digest:
            first, turn = _numbered(first, "-turn-")
        one, numbers = ids.setdefault((prompt_set, digest or first, bool(digest)), (place, {}))
        columns.append((one, turn, number - 1, numbers.setdefault(first, len(numbers))))
    prompt, turns, time, of = np.array(columns, dtype=np.int64).reshape(-1, 4).T
    return _Same(prompt, asked, turns, of * (int(time.max(initial=0)) + 1) + time)


def _numbered(name: str, mark: str) -> tuple[str, int]:
    """`q#3` as q and 3; a name without the mark and a number behind it as it is, and 0."""
    first, _, number = name.rpartition(mark)
    is_one = first and number.isascii() and number.isdigit() and number[0] != "0" and len(number) < _DIGITS
    return (first, int(number)) if is_one else (name, 0)


def _by_text(prompts: Sequence[tuple[str, str, str]]) -> Ints:
    """[prompts] the place of each; of one whose text is not known that of the one of its set and id whose text is."""
    known: dict[tuple[str, str], list[int]] = {}
    for place, (prompt_set, prompt_id, digest) in enumerate(prompts):
        if digest:
            known.setdefault((prompt_set, prompt_id), []).append(place)
    places = np.arange(len(prompts))
    for place, (prompt_set, prompt_id, digest) in enumerate(prompts):
        found = [] if digest else known.get((prompt_set, prompt_id), [])
        if len(found) == 1:
            places[place] = found[0]
    return places


def _labels(judges: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """What judges are called: by name, with the beginning of their digests where several have it."""
    digests: dict[str, list[str]] = {}
    for name, digest in judges:
        digests.setdefault(name, []).append(digest)
    length = {
        name: next(n for n in range(_LABEL, SHORT + 1) if n == SHORT or len({d[:n] for d in of_name}) == len(of_name))
        for name, of_name in digests.items()
    }
    return tuple(
        f"{name} ({digest[: length[name]] or 'unknown'})" if len(digests[name]) > 1 else name for name, digest in judges
    )


def _code(known: dict[Any, int], name: Any) -> int:
    """The number of a name; a name is looked at when it is first met."""
    code = known.get(name)
    if code is None:
        for part in name if isinstance(name, tuple) else (name,):
            if not isinstance(part, str):
                raise TypeError(f"names and ids are text, not {type(part).__name__}")
            part.encode()  # half a surrogate pair is not text, and no board could show it
        code = known[name] = len(known)
    return code


def _lengths(row: dict[str, Any]) -> tuple[float, float, float]:
    """(candidate, reference, 1 for tokens or 0 for characters)."""
    for unit, tokens in (("tokens", 1.0), ("characters", 0.0)):
        candidate, reference = row.get(f"candidate_{unit}"), row.get(f"reference_{unit}")
        if candidate is not None and reference is not None:
            if type(candidate) is not int or type(reference) is not int or candidate < 0 or reference < 0:
                raise ValueError(f"lengths in {unit} are whole numbers")
            return candidate, reference, tokens
    return NAN, NAN, 0.0


def outcomes(verdicts: Verdicts) -> Outcomes:
    """One outcome for each (run, candidate, reference, judge, prompt, turn, sample), by comparison, prompt, turn, run.

    A comparison of which no prompt has both orders was judged in one order: each prompt's one verdict is then whole.
    An order that is repeated without saying so makes the outcome missing.
    """
    columns = [verdicts.candidate, verdicts.reference, verdicts.judge, verdicts.prompt_set, verdicts.prompt]
    columns.append(verdicts.turn)
    comparison, unit = joint_codes(columns[:4]), joint_codes([*columns, verdicts.run, verdicts.sample])
    _, first, index = np.unique(unit, return_index=True, return_inverse=True)
    n = len(first)

    def count(rows: NDArray[np.bool_]) -> Ints:
        return np.bincount(index[rows], minlength=n)

    def mean(values: Floats) -> Floats:
        known = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.bincount(index[known], values[known], n) / np.bincount(index[known], minlength=n))

    shown = [count(verdicts.order == order) for order in (_FIRST, _SECOND, _NEITHER, _UNKNOWN)]
    ok, rows = count(verdicts.status == OK), np.bincount(index, minlength=n)
    # what orders a comparison has, from its prompts
    _, group = np.unique(comparison[first], return_inverse=True)
    paired = np.bincount(group, (shown[0] > 0) & (shown[1] > 0))[group] > 0
    single = shown[0] + shown[1] + shown[3]
    ordered = np.bincount(group, single)[group] > 0
    orders = np.where(paired, 0, np.where(ordered, 1, 2))
    once = (single == 1) & (orders == 1)
    whole = ((shown[0] == 1) & (shown[1] == 1) | once) & (shown[2] == 0) | (shown[2] == 1) & (rows == 1)
    missing = ~whole | (ok < rows)
    wins, losses = count(verdicts.preference > 0.5), count(verdicts.preference < 0.5)
    value = np.where(wins == rows, 1.0, np.where(losses == rows, -1.0, 0.0))
    return Outcomes(
        verdicts.names,
        run=verdicts.run[first],
        prompt_set=verdicts.prompt_set[first],
        prompt=verdicts.prompt[first],
        asked=verdicts.asked[first],
        turn=verdicts.turn[first],
        sample=verdicts.sample[first],
        candidate=verdicts.candidate[first],
        reference=verdicts.reference[first],
        judge=verdicts.judge[first],
        value=np.where(missing, NAN, value),
        preference=np.where(missing, NAN, mean(verdicts.preference)),
        candidate_length=mean(verdicts.candidate_length),
        reference_length=mean(verdicts.reference_length),
        in_tokens=count(verdicts.in_tokens) > 0,
        failed=rows - ok,
        orders=orders,
    )


def unit_of(verdict: Verdict) -> Unit:
    """What a verdict is of: the same as the unit of its outcome."""
    return verdict.prompt_id, verdict.turn, verdict.repeat, verdict.sample


def outcomes_by_prompt(verdicts: Iterable[Verdict]) -> dict[str, Outcome]:
    """The outcome of each prompt id, from all verdicts of one comparison in one run."""
    found = outcomes(from_records(verdicts))
    return dict(zip(found.prompt_ids, found.words, strict=True))


def joint_codes(columns: Sequence[Ints]) -> Ints:
    """One number for each combination of codes, in the order of the columns."""
    joint, largest = np.zeros(len(columns[0]), dtype=np.int64), 0
    for column in columns:
        size = int(column.max(initial=0)) + 1
        largest = largest * size + size - 1
        if largest >= 2**62:
            joint = np.unique(joint, return_inverse=True)[1]
            largest = int(joint.max(initial=0)) * size + size - 1
        joint = joint * size + column
    return joint


def comparisons(found: Outcomes) -> Iterator[tuple[ComparisonKey, Ints]]:
    """((prompt set, candidate, reference, judge), the places of its outcomes) for each comparison."""
    columns = (found.prompt_set, found.candidate, found.reference, found.judge)
    key = joint_codes(columns)
    order = np.argsort(key, kind="stable")
    names = (found.names.prompt_set, found.names.candidate, found.names.reference, found.names.judge)
    for rows in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        if len(rows):
            one, two, three, four = (known[column[rows[0]]] for known, column in zip(names, columns, strict=True))
            yield (one, two, three, four), rows
