"""What a distillation method is to the harness: responses in roles + what frozen models say of them + a loss. The
methods live in baselines/.

A file in baselines/ (or a plug-in's) defines `METHOD = Method(...)`. Nothing else in the harness changes when a method
is added.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from harness.core.errors import UserError
from harness.core.files import canonical_hash
from harness.core.sources import sources
from harness.methods.settings import ALL, DistributionSettings, FreshSettings, MethodSettings, TokenSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    SignalTransform = Callable[[dict[str, "NDArray[np.float32]"], Any, int], dict[str, "NDArray[np.float32]"]]

Level = Literal["sequence", "token", "distribution"]
Who = Literal["teacher", "student", "policy"]
Per = Literal["token", "response", "example"]
Reads = Literal["reference", "teacher"]
Role = tuple[str, Who, int]

# Who wrote what a method trains on: (role, who, which of that one's samples). `student` is the SFT student,
# `policy` the student as it is while it trains.
RESPONSE: tuple[Role, ...] = (("response", "teacher", 0),)
PAIR: tuple[Role, ...] = (("chosen", "teacher", 0), ("rejected", "student", 0))
POLICY: tuple[Role, ...] = (("response", "policy", 0),)
# The frozen model by which one who wrote is read.
WRITERS: Mapping[str, Reads] = {"teacher": "teacher", "student": "reference"}

NAME = r"[a-z][a-z0-9]*([_-][a-z0-9]+)*"  # as options, keys of settings and rows of a board have it
NOT_A_NAME = (ALL, "teacher", "student", "policy", "reference")
A_NAME = (
    "a method's name is of lower-case letters, digits and single hyphens, such as my-loss, and none of "
    + ", ".join(NOT_A_NAME)
)

# What there may be several of, with an example.
SEVERAL = {
    "responses": "RESPONSE",
    "reads": '("teacher",)',
    "also": "(Term(level, loss, per),)",
    "compared_with": '("sft",)',
    "minimises": '("nll",)',
}

OLD_FIELDS = {
    "data": 'responses=RESPONSE (was data="responses") or responses=PAIR (was data="pairs")',
    "signals": 'reads=("reference", "teacher")',
}


@dataclass(frozen=True)
class Term:
    """One more term of a loss, on the same forward pass. level, loss, per: as a Method's. weight: what it is multiplied
    by."""

    level: Level
    loss: Callable[..., Tensor]
    per: Per
    weight: Callable[[Any], float] = field(default=lambda _settings: 1.0)


@dataclass(frozen=True)
class Control:
    """A row that a method's claim travels with: another training, run by itself beside the method."""

    name: str
    method: str
    overrides: dict[str, Any]
    why: str
    level: Literal["basic", "full"] = "basic"
    match_tokens: bool = False  # train on as many tokens as the method that it controls, each with its start


@dataclass(frozen=True)
class Definition:
    """What exactly a method computes, in the words of the table on its page; `list methods` shows the direction.

    direction: of a divergence, as KL(teacher ‖ policy), or what is raised against what. weight: of the mixture that it
    compares with, or of terms. support: the outcomes that it runs over. normaliser: what a sum is divided by."""

    direction: str
    weight: str
    support: str
    normaliser: str


@dataclass(frozen=True)
class Method:
    """One distillation method.

    level: what its loss is given, a record of harness.methods, and its settings: `sequence` SequenceInputs, and returns
        [n] losses of examples; `token` TokenInputs, returns [T] losses of tokens; `distribution` DistributionInputs,
        returns [n] losses of rows, and is called a chunk of rows at a time.
    per: what a step's summed loss is divided by: `token`, all its response tokens; `example`, its examples (so a
        response's tokens are summed); `response`, its responses, after each response's mean over its tokens. The
        setting `per`, where the level has it, goes before.
    responses: what it trains on, in roles: (role, who wrote it, which of that one's samples).
    reads: the frozen models whose log-probs (as the level has them) the loss is given. The reference is the SFT
        student.
    defines: what exactly it computes, in words.
    also: further terms on the same forward pass.
    state: settings → what it carries from step to step, as numbers by name; advance: that state, the step's loss, the
        progress after it in (0, 1] and the settings → the state of the next step. Checkpointed with the weights.
    teacher_sees: a prompt's messages (as {"role", "content"}) and a demonstration (the teacher's response, text) → the
        messages that the teacher reads instead; the teacher is then the policy's own checkpoint as it starts, frozen,
        and no other model is needed; distribution level alone.
    transform: a pure function of a whole data set's sums {"reference": [N, k], "teacher": [N, k]}, settings and seed,
        applied once; sequence level in all terms, stored responses.
    controls: the rows that a claim of this method travels with; the first is the one that the claim is against.
    compared_with: other methods that it is set against by default, where they are on the board.
    minimises: names of the measures (harness.measures) that its loss is: tables mark them in its row.

    Raises:
        UserError: a combination that makes no sense; it names the file.
    """

    name: str
    summary: str
    source: str
    level: Level
    loss: Callable[..., Tensor]
    per: Per
    responses: tuple[Role, ...]
    defines: Definition
    reads: tuple[Reads, ...] = ()
    settings: type[MethodSettings] = MethodSettings
    also: tuple[Term, ...] = ()
    state: Callable[[Any], Mapping[str, float]] | None = None
    advance: Callable[[Mapping[str, float], float, float, Any], Mapping[str, float]] | None = None
    teacher_sees: Callable[[list[dict[str, str]], str], list[dict[str, str]]] | None = None
    transform: SignalTransform | None = None
    controls: Callable[[Any], list[Control]] = field(default=lambda _settings: [])
    compared_with: tuple[str, ...] = ()
    minimises: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for wrong in _senseless(self):
            raise UserError(f"{self.file}: METHOD '{self.name}': {wrong}")

    @property
    def file(self) -> str:
        """Where its loss is from, for people."""
        loss: Any = self.loss
        while isinstance(loss, functools.partial):
            loss = loss.func
        loss = inspect.unwrap(loss) if callable(loss) else type(loss)
        code = getattr(loss, "__code__", None)
        return code.co_filename if code else str(getattr(sys.modules.get(loss.__module__), "__file__", "?"))

    @property
    def terms(self) -> tuple[Term, ...]:
        """All terms of its loss: its own first."""
        return (Term(self.level, self.loss, self.per), *self.also)

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(role for role, _, _ in self.responses)

    def levels(self) -> set[Level]:
        return {term.level for term in self.terms}

    def written(self, settings: MethodSettings) -> tuple[Role, ...]:
        """The stored responses that a training reads, in the order of its roles: those of the policy are whose the
        setting `stored` says."""
        stored: Who = settings.stored if isinstance(settings, FreshSettings) else "teacher"
        return tuple((role, stored if who == "policy" else who, sample) for role, who, sample in self.responses)

    def fresh_share(self, settings: MethodSettings) -> float:
        """Of the examples that are the policy's own, how many are sampled as it trains."""
        if not isinstance(settings, FreshSettings) or all(who != "policy" for _, who, _ in self.responses):
            return 0.0
        return settings.fresh_share

    def stored_roles(self, settings: MethodSettings) -> list[Role]:
        """The roles whose stored responses a training reads: not one that the policy writes all of."""
        all_fresh = self.fresh_share(settings) == 1
        written = zip(self.responses, self.written(settings), strict=True)
        return [role for (_, who, _), role in written if not (all_fresh and who == "policy")]

    def reads_by_token(self, settings: MethodSettings) -> set[Reads]:
        """The frozen models that are read over the student's own tokens: all but those whose sums of stored responses
        are computed beforehand. At the token level whoever wrote stored responses is read as well."""
        by_token = bool({"token", "distribution"} & self.levels() or self.fresh_share(settings))
        wrote = self.stored_roles(settings) if "token" in self.levels() else []
        return {*(self.reads if by_token else ()), *(WRITERS[who] for _, who, _ in wrote)}

    def with_dropout(self, settings: MethodSettings) -> bool:
        """Whether the checkpoint's own dropout is on while it trains: where nothing is said, not if the loss compares
        with a reference or with the policy that sampled, whose log-probs were computed without."""
        if settings.dropout is not None:
            return settings.dropout
        return "reference" not in self.reads and "token" not in self.levels()

    @property
    def source_digest(self) -> str:
        """A digest of what defines the training: the method's fields, and its functions and settings with the files
        that they come from and import. An edited method is trained anew."""
        terms = [(term.level, term.per) for term in self.terms]
        losses = [term.loss for term in self.terms]
        weights = [term.weight for term in self.also]
        parts = (*losses, *weights, self.state, self.advance, self.teacher_sees, self.transform)
        return canonical_hash([terms, self.responses, self.reads, *sources(*parts, self.settings)])


def _senseless(method: Method) -> list[str]:
    """What is wrong with a method, in words; the first is told."""
    found = _misshapen(method)
    if found:  # what follows is asked of settings and definitions
        return found
    levels, whose = [term.level for term in method.terms], [who for _, who, _ in method.responses]
    for level in levels:
        if level not in get_args(Level):
            found.append(f"the level is {level!r}; expected one of {', '.join(get_args(Level))}")
    for term in method.terms:
        if term.per not in get_args(Per):
            found.append(f"per is {term.per!r}; expected one of {', '.join(get_args(Per))}")
        if term.level == "sequence" and term.per == "response":
            found.append('a sequence-level loss is of whole examples; per="example", or "token"')
    if not method.responses:
        found.append("responses is empty; name at least one (role, who wrote it, sample), such as RESPONSE")
    if len(set(method.roles)) < len(method.roles):
        found.append("responses has one role twice")
    for name in method.reads:
        if name not in get_args(Reads):
            found.append(f"reads has {name!r}; expected {' or '.join(get_args(Reads))}")
        elif method.reads.count(name) > 1:
            found.append(f"reads has {name!r} twice")
    kinds: tuple[tuple[Level, type[MethodSettings]], ...] = (
        ("token", TokenSettings),
        ("distribution", DistributionSettings),
    )
    for level, kind in kinds:
        if level in method.levels() and not issubclass(method.settings, kind):
            found.append(f"its level is {level}, so its settings must be a {kind.__name__}")
    if "policy" in whose and not issubclass(method.settings, FreshSettings):
        found.append("responses are the policy's own, so its settings must be FreshSettings, or those of a level")
    if whose.count("policy") > 1:
        found.append("only one role can be the policy's own; several samples of a prompt are the setting `samples`")
    if (method.state is None) != (method.advance is None):
        found.append("state and advance go together: what is carried, and how a step moves it")
    if method.teacher_sees is not None and "teacher" not in method.reads:
        found.append('teacher_sees says what the teacher reads, and the loss reads none: reads=("teacher",)')
    if method.teacher_sees is not None and set(levels) != {"distribution"}:
        found.append("teacher_sees goes with the level distribution, and with no term of another")
    if method.transform is not None and (set(levels) != {"sequence"} or "policy" in whose):
        found.append(
            "transform is of the sums of stored responses: level sequence in all terms, none of the policy's own"
        )
    if "distribution" in levels and not method.reads:
        found.append('it compares distributions and reads no frozen model; reads=("teacher",), or ("reference",)')
    if {"token", "distribution"} & set(levels) and not method.reads and "policy" in whose:
        found.append("it trains on the policy's own responses and reads no frozen model: nothing would pull it")
    return found


def is_name(name: object) -> bool:
    """Whether a method can be called so."""
    return isinstance(name, str) and re.fullmatch(NAME, name) is not None and name not in NOT_A_NAME


def _misshapen(method: Method) -> list[str]:
    """What of its parts is not what it has to be."""
    found = []
    name, settings, defines = (getattr(method, field) for field in ("name", "settings", "defines"))
    if not is_name(name):
        found.append(f"its name is {name!r}; {A_NAME}")
    if not (isinstance(settings, type) and issubclass(settings, MethodSettings)):
        found.append("settings is a class: MethodSettings, or one of its kinds with your defaults")
    if not isinstance(defines, Definition):
        found.append("defines is a Definition(direction, weight, support, normaliser): what exactly it computes")
    for part, example in SEVERAL.items():
        if not isinstance(value := getattr(method, part), tuple | list):
            found.append(f"{part} is of the type {type(value).__name__}; expected a tuple, such as {part}={example}")
    if found:  # what follows goes through them
        return found
    for one in method.responses:
        if not _is_role(one):
            found.append(
                f"responses has {one!r}; expected (role, one of {', '.join(get_args(Who))}, sample from 0), with a "
                "role of lower-case letters, digits and single hyphens or underscores, such as chosen"
            )
    if not all(isinstance(term, Term) for term in method.also):
        return [*found, "also has what is no Term(level, loss, per, weight)"]
    takes = ("inputs", "settings")
    functions: list[tuple[str, object, tuple[str, ...]]] = [
        ("loss", method.loss, takes),
        *(("the loss of a further term", term.loss, takes) for term in method.also),
        *(("the weight of a further term", term.weight, ("settings",)) for term in method.also),
        ("state", method.state, ("settings",)),
        ("advance", method.advance, ("state", "loss", "progress", "settings")),
        ("teacher_sees", method.teacher_sees, ("messages", "demonstration")),
        ("transform", method.transform, ("sums", "settings", "seed")),
        ("controls", method.controls, ("settings",)),
    ]
    for what, function, expected in functions:
        given = _signature(function)
        if function is not None and given is None:
            found.append(f"{what} is {function!r}; expected a function of ({', '.join(expected)})")
        elif given is not None and not _takes(given, len(expected)):
            now = '; losses of distributions are level="distribution" now' if method.level == "token" else ""
            found.append(f"{what} takes {given}; expected ({', '.join(expected)}){now}")
    return found


def _is_role(one: object) -> bool:
    if not isinstance(one, tuple | list) or len(one) != 3:
        return False
    role, who, sample = one
    named = isinstance(role, str) and re.fullmatch(NAME, role) is not None
    return named and who in get_args(Who) and type(sample) is int and sample >= 0


def _signature(function: object) -> inspect.Signature | None:
    """How a function is called; of one that does not say it, in any way."""
    if not callable(function):
        return None
    try:
        return inspect.signature(function).replace(return_annotation=inspect.Signature.empty)
    except ValueError:
        return inspect.signature(lambda *arguments: None)


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def refusal_of_old(error: BaseException, path: Path | str) -> UserError | None:
    """One line of what replaces a field of the contract before, where that is what is wrong with a METHOD."""
    for name, instead in OLD_FIELDS.items() if isinstance(error, TypeError) else ():
        if f"Method.__init__() got an unexpected keyword argument '{name}'" in str(error):
            return UserError(
                f"{path}: METHOD is of the contract before this version: {name} is now {instead}, and "
                'level="token" of whole distributions is now level="distribution" (docs/adding-a-method.md)'
            )
    return None
