"""What a method's functions do wrong, in one line with their file's name: asked with small random inputs before
anything is paid for, and at each call of a training. Importing this imports no torch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from harness.core.allocator import out_of_memory
from harness.core.errors import UserError, raised_in
from harness.core.records import Message
from harness.methods.inputs import DistributionInputs, Inputs, NotReadError, SequenceInputs, TokenInputs
from harness.methods.method import Control, Level, Method, Term

if TYPE_CHECKING:
    from torch import Tensor

    from harness.methods.settings import MethodSettings

T = TypeVar("T")
EXAMPLES, OUTCOMES = 4, 256  # of the random inputs; a loss may take a top k of the outcomes
# of each set of them: how far other models are from the policy, in nats, and the training's progress. Several, as a
# loss may be another one in some places (a branch, a curriculum)
DRAWS = ((0.1, 0.0), (1.0, 0.3), (5.0, 0.9), (1.0, 0.99))
OUTCOMES_RULED_OUT = (
    " where an outcome has no probability under any model (log-prob -inf), which must add nothing; "
    "baselines.divergences.kl does so"
)
ONE_EACH = {"sequence": "an example", "token": "a token", "distribution": "a row"}


# ---- each call


def called(method: Method, term: Term, inputs: Inputs, settings: MethodSettings) -> Tensor:
    """A term's losses of these inputs, [n] for policy [n, …]. It looks at no value: a GPU is not waited for.

    Raises:
        UserError: the loss raises, or gives no [n] of float32; by its file. Out of memory is raised as it is.
    """
    losses = _guarded(method, "its loss", term.loss, inputs, settings)
    if wrong := _misfit(losses, len(inputs.policy)):
        raise _fault(method, f"its loss gives {wrong}: one loss {ONE_EACH[term.level]} of {type(inputs).__name__}")
    return losses


def started(method: Method, settings: MethodSettings) -> Mapping[str, float]:
    """What a method carries, as a training begins; nothing where it declares none.

    Raises:
        UserError: it raises, or is no mapping of finite numbers by name; by its file.
    """
    if method.state is None:
        return {}
    return _numbers(method, "state", _guarded(method, "its state", method.state, settings))


def advanced(
    method: Method, state: Mapping[str, float], loss: float, progress: float, settings: MethodSettings
) -> Mapping[str, float]:
    """What it carries after a step; as `started`. Names stay what they are."""
    if method.advance is None:
        return state
    found = _numbers(
        method, "advance", _guarded(method, "its advance", method.advance, state, loss, progress, settings)
    )
    if found.keys() != state.keys():
        raise _fault(method, f"its advance gives {_named(found)}; expected what its state has, {_named(state)}")
    return found


def controls_of(method: Method, settings: MethodSettings) -> list[Control]:
    """A method's controls.

    Raises:
        UserError: they raise, or are no list of Control; by the method's file.
    """
    found = _guarded(method, "its controls", method.controls, settings)
    if not isinstance(found, list | tuple) or not all(isinstance(one, Control) for one in found):
        raise _fault(method, f"its controls give {found!r}; expected a list of Control")
    return list(found)


def shown(method: Method, messages: Sequence[Message], demonstration: str) -> tuple[Message, ...]:
    """What the teacher of a method with `teacher_sees` reads in the place of a prompt's messages.

    Raises:
        UserError: it raises, or gives no messages; by the method's file.
    """
    assert method.teacher_sees is not None
    said = [{"role": one.role, "content": one.content} for one in messages]
    found = _guarded(method, "its teacher_sees", method.teacher_sees, said, demonstration)
    if not isinstance(found, list) or not found or not all(map(_is_message, found)):
        raise _fault(method, f'its teacher_sees gives {found!r}; expected messages, as {{"role": …, "content": …}}')
    return tuple(Message.model_validate(one) for one in found)


# ---- before anything is paid for


def probe(method: Method, settings: MethodSettings) -> None:
    """Call all that a method brings with small random inputs of its levels.

    Raises:
        UserError: something raises or gives what was not expected, a loss is not finite, the policy has no part in
            any, or none so much as looks at a model that the method reads; by its file. A loss that is flat at these
            inputs is taken: a gate may be rare.
    """
    if method.transform is not None:
        _check_transform(method, settings)
    if method.teacher_sees is not None:
        shown(method, [Message(role="user", content="What is rain?")], "Water that falls.")
    for term in method.also:
        weight = _guarded(method, "the weight of a term", term.weight, settings)
        if not isinstance(weight, int | float) or not math.isfinite(weight):
            raise _fault(method, f"the weight of a term is {weight!r}; expected a number")
    trains, asked = _tried(method, settings)
    for name in method.reads:
        if name not in asked:
            raise _fault(
                method,
                f"its loss never looks at inputs.{name} with these settings; leave '{name}' out of reads, or use it: "
                "it is computed for what a method reads",
            )
    if not trains:
        raise _fault(
            method,
            "its loss has no gradient to the policy, and so nothing to train: it must follow from inputs.policy, not "
            "detached and not under no_grad",
        )


class _Watched(dict[str, Any]):
    """What frozen models say, and of which of them it was asked."""

    def __init__(self, models: Mapping[str, Any]) -> None:
        super().__init__(models)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)

    def values(self) -> Any:
        self.asked.update(self)
        return super().values()

    def items(self) -> Any:
        self.asked.update(self)
        return super().items()


def _tried(method: Method, settings: MethodSettings) -> tuple[bool, set[str]]:
    """Whether the policy has a part in the loss, which may be flat here: its gradient is there, be it zero. And the
    models that it looks at."""
    import torch

    state = started(method, settings)
    found, asked = False, set[str]()
    with torch.enable_grad():
        for term in method.terms:
            call = functools.partial(_call, method, term, settings)
            for number in range(len(DRAWS)):
                inputs = _drawn(method, term.level, state, number)
                watched = _Watched(inputs.models)
                losses, follows = _results(method, call, replace(inputs, models=watched))
                asked |= watched.asked
                found |= follows
                _check_apart(method, call, inputs, losses)
            if term.level == "distribution":
                _results(method, call, _drawn(method, term.level, state, 0, ruled_out=True))
    advanced(method, state, 1.0, 0.5, settings)
    return found, asked


def _check_apart(method: Method, call: Callable[[Any], Tensor], inputs: Inputs, losses: Tensor) -> None:
    """Whether a loss is the same without the later half of the examples: how many there are at once only moves the
    computing, and is in no key. What is random gives two losses of the same inputs, and is passed over."""
    import torch

    half = len(losses) // 2
    if isinstance(inputs, TokenInputs):  # of whole responses
        half = int((inputs.row <= inputs.row[half]).sum()) if inputs.row[half] < inputs.row[-1] else 0
    first: dict[str, Any] = {
        name: value[:half] for name, value in vars(inputs).items() if isinstance(value, torch.Tensor)
    }
    models = {name: value[:half] for name, value in inputs.models.items()}
    if not half:
        return
    alone = call(replace(inputs, models=models, **first))
    if not torch.allclose(alone, losses[:half], rtol=1e-3, atol=1e-5) and torch.equal(call(inputs), losses):
        others = "other rows" if isinstance(inputs, DistributionInputs) else "other examples"
        raise _fault(
            method,
            f"its loss follows from {others} too: it changes where fewer are there, and how many there are at once is "
            "for the memory alone",
        )


def _call(method: Method, term: Term, settings: MethodSettings, inputs: Inputs) -> Tensor:
    return called(method, term, inputs, settings)


def _results(method: Method, call: Callable[[Any], Tensor], inputs: Inputs) -> tuple[Tensor, bool]:
    """Values, and whether they follow from the policy."""
    import torch

    follow = [inputs.policy]
    if isinstance(inputs, DistributionInputs):
        follow.append(inputs.label_log_probs)
    values = call(inputs)
    where = OUTCOMES_RULED_OUT if isinstance(inputs, DistributionInputs) and bool(inputs.policy.isinf().any()) else ""
    if not bool(values.isfinite().all()):
        raise _fault(method, f"its loss is {_first_odd(values)} of small random {type(inputs).__name__}{where}")
    if not values.requires_grad:
        return values, False
    gradients = _guarded(
        method, "the gradient of its loss", lambda: torch.autograd.grad(values.sum(), follow, allow_unused=True)
    )
    pulls = [pull for pull in gradients if pull is not None]
    for pull in pulls:
        if not bool(pull.isfinite().all()):
            odd = _first_odd(pull)
            raise _fault(method, f"the gradient of its loss is {odd} at small random {type(inputs).__name__}{where}")
    return values.detach(), bool(pulls)


def _drawn(method: Method, level: Level, state: Mapping[str, float], number: int, ruled_out: bool = False) -> Inputs:
    """Random inputs of a level, always the same. ruled_out: the last outcome has no probability under any model."""
    import torch

    spread, progress = DRAWS[number]
    random = torch.Generator().manual_seed(number)
    roles = method.roles
    common: dict[str, Any] = {"roles": roles, "progress": progress, "state": state}

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random)

    def beside(values: Tensor) -> dict[str, Tensor]:
        """Log-probs near these, of each frozen model."""
        noise = {name: torch.randn(values.shape, generator=random) for name in method.reads}
        return {name: (values + spread * one).clamp(max=-0.01) for name, one in noise.items()}

    if level == "sequence":
        shape = (EXAMPLES, len(roles))
        lengths = torch.randint(2, 9, shape, generator=random).float()
        policy = -lengths * (0.05 + 3 * uniform(*shape))
        models = beside(policy)
        return SequenceInputs(policy=policy.requires_grad_(), models=models, lengths=lengths, **common)
    row = torch.arange(EXAMPLES * len(roles)).repeat_interleave(torch.arange(EXAMPLES * len(roles)) % 3 + 1)
    labels = torch.randint(0, OUTCOMES - 1, row.shape, generator=random)
    common |= {"labels": labels, "row": row, "role": row % len(roles)}
    if level == "token":
        policy = -(0.05 + 3 * uniform(len(row)))
        models = beside(policy)
        sampled = (policy + min(spread, 1.0) * torch.randn(len(row), generator=random)).clamp(max=-0.01)
        return TokenInputs(policy=policy.requires_grad_(), models=models, sampled=sampled, **common)
    logits = torch.randn(len(row), OUTCOMES, generator=random)
    everywhere = torch.zeros(OUTCOMES)
    if ruled_out:
        everywhere[-1] = -math.inf
    noise = {name: torch.randn(logits.shape, generator=random) for name in method.reads}
    models = {name: (logits + spread * one + everywhere).log_softmax(-1) for name, one in noise.items()}
    policy = (logits + everywhere).log_softmax(-1)
    own = policy.gather(-1, labels[:, None]).squeeze(-1)
    return DistributionInputs(
        policy=policy.requires_grad_(), models=models, label_log_probs=own.requires_grad_(), **common
    )


def _check_transform(method: Method, settings: MethodSettings) -> None:
    import numpy as np

    assert method.transform is not None
    random = np.random.default_rng(0)
    shape = (EXAMPLES, len(method.roles))
    sums = {name: -20 * random.random(shape, dtype=np.float32) for name in method.reads}
    found = _guarded(method, "its transform", method.transform, dict(sums), settings, 0)
    if not isinstance(found, Mapping) or found.keys() != sums.keys():
        given = _named(found) if isinstance(found, Mapping) else type(found).__name__
        raise _fault(method, f"its transform gives {given}; expected what it is given, {_named(sums)}")
    for name, values in found.items():
        if np.shape(values) != shape or not np.isfinite(values).all():
            raise _fault(method, f"its transform gives '{name}' {np.shape(values)}; expected finite numbers {shape}")


def _is_message(one: object) -> bool:
    return isinstance(one, dict) and one.keys() == {"role", "content"} and all(isinstance(v, str) for v in one.values())


# ---- in words


def _fault(method: Method, wrong: str, error: BaseException | None = None) -> UserError:
    where = method.file if error is None else raised_in(error, method.file)
    return UserError(f"{where}: METHOD '{method.name}': {wrong}")


def _guarded(method: Method, what: str, call: Callable[..., T], *arguments: Any) -> T:
    """What a function of a method's file gives."""
    try:
        return call(*arguments)
    except NotReadError as error:
        raise _fault(method, str(error), error) from error
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise
        shown = ", ".join(_shown(one) for one in arguments if isinstance(one, Inputs))
        given = f"; it is given {shown}" if shown else ""
        raise _fault(method, f"{what} raised {type(error).__name__}: {error}{given}", error) from error


def _shown(inputs: Inputs) -> str:
    models = "".join(f", {name} {list(values.shape)}" for name, values in inputs.models.items())
    return f"{type(inputs).__name__} (policy {list(inputs.policy.shape)}{models})"


def _misfit(values: object, count: int) -> str:
    """What is wrong with values that should be [n], with what was expected; empty where nothing is."""
    import torch

    if not isinstance(values, torch.Tensor):
        return f"{type(values).__name__}; expected a tensor [{count}]"
    if values.shape != (count,):
        return f"a tensor {list(values.shape)}; expected [{count}]"
    if values.dtype not in (torch.float32, torch.float64):
        return f"{str(values.dtype).removeprefix('torch.')}; expected float32 [{count}]"
    return ""


def _numbers(method: Method, what: str, found: object) -> Mapping[str, float]:
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(value, int | float) and math.isfinite(value)
        for name, value in found.items()
    ):
        raise _fault(method, f"its {what} gives {found!r}; expected finite numbers by name")
    return found


def _named(found: Iterable[object]) -> str:
    return ", ".join(map(str, found)) or "nothing"


def _first_odd(values: Tensor) -> float:
    return float(values.detach()[~values.detach().isfinite()][0])
