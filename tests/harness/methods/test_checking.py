"""What is said of a method's functions that raise or give what was not expected: one line that names their file."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from harness.core.errors import UserError
from harness.methods import (
    PAIR,
    POLICY,
    RESPONSE,
    Definition,
    DistributionSettings,
    Method,
    MethodSettings,
    SequenceInputs,
    Term,
    TokenSettings,
    methods,
)
from harness.methods.checking import advanced, called, controls_of, probe

HERE = __file__
SETTINGS = {"sequence": MethodSettings, "token": TokenSettings, "distribution": DistributionSettings}


def method_of(loss: Callable[..., Any], level: Any = "sequence", **others: Any) -> Method:
    fields: dict[str, Any] = {
        "per": "example" if level == "sequence" else "token",
        "responses": PAIR if level == "sequence" else RESPONSE,
        "settings": SETTINGS[level],
        "defines": Definition("", "", "", ""),
        **others,
    }
    return Method(name="own", summary="", source="", level=level, loss=loss, **fields)


def refusal(ask: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        ask()
    (line,) = caught.value.lines
    assert str(caught.value).startswith(HERE)
    return line.removeprefix(HERE)


def probed(method: Method) -> str:
    return refusal(lambda: probe(method, method.settings()))


def fine(inputs: Any, settings: Any) -> Any:
    """Follows from all that any level's inputs have."""
    found = inputs.policy
    for values in inputs.models.values():
        found = found - values.clamp(min=-50)
    return found if found.dim() == 1 else (found.clamp(min=-50) ** 2).sum(-1)


def broken(inputs: Any, settings: Any) -> Any:
    return inputs.policy[:, 0] / settings.no_such_thing


def ends(inputs: Any, settings: Any) -> Any:
    sys.exit(0)


def log_ratio(inputs: Any, settings: Any) -> Any:
    return inputs.policy[:, 0] + inputs.teacher[:, 0] * 0


def naive_kl(inputs: Any, settings: Any) -> Any:
    return (inputs.teacher.exp() * (inputs.teacher - inputs.policy)).sum(-1)


def kl_with_a_gradient_of_nan(inputs: Any, settings: Any) -> Any:
    mass = inputs.policy.exp()
    return (mass * (inputs.policy - inputs.teacher)).masked_fill(mass == 0, 0.0).sum(-1)


@pytest.mark.parametrize(
    ("level", "reads"),
    [
        (level, reads)
        for level in SETTINGS
        for reads in ((), ("teacher",), ("reference", "teacher"))
        if reads or level != "distribution"
    ],
)
def test_a_loss_that_uses_all_that_it_reads_is_taken(level: str, reads: tuple[str, ...]) -> None:
    method = method_of(fine, level, reads=reads)
    assert probe(method, method.settings()) is None


@pytest.mark.parametrize("name", methods.names())
def test_every_method_here_is_taken(name: str) -> None:
    method = methods.get(name)
    assert probe(method, method.settings()) is None


LINE = broken.__code__.co_firstlineno + 1
PAIRS = "SequenceInputs (policy [4, 2], teacher [4, 2])"
PROBED: dict[str, tuple[dict[str, Any], str]] = {
    "raises": (
        {"loss": broken, "reads": ("teacher",)},
        f":{LINE}: METHOD 'own': its loss raised AttributeError: 'MethodSettings' object has no attribute "
        f"'no_such_thing'; it is given {PAIRS}",
    ),
    "ends the process": (
        {"loss": ends},
        f":{ends.__code__.co_firstlineno + 1}: METHOD 'own': its loss raised SystemExit: 0; it is given "
        "SequenceInputs (policy [4, 2])",
    ),
    "what is not read": (
        {"loss": log_ratio},
        f":{log_ratio.__code__.co_firstlineno + 1}: METHOD 'own': the loss reads inputs.teacher, which its METHOD does "
        'not name: reads=("teacher",)',
    ),
    "what it has no use for": (
        {"loss": lambda i, s: i.policy[:, 0], "reads": ("teacher",)},
        ": METHOD 'own': its loss never looks at inputs.teacher with these settings; leave 'teacher' out of reads, or "
        "use it: it is computed for what a method reads",
    ),
    "a mean": (
        {"loss": lambda i, s: i.policy.mean()},
        ": METHOD 'own': its loss gives a tensor []; expected [4]: one loss an example of SequenceInputs",
    ),
    "a column too many": (
        {"loss": lambda i, s: i.policy},
        ": METHOD 'own': its loss gives a tensor [4, 2]; expected [4]: one loss an example of SequenceInputs",
    ),
    "all tokens": (
        {"loss": lambda i, s: i.sums(i.policy), "level": "token"},
        ": METHOD 'own': its loss gives a tensor [4]; expected [7]: one loss a token of TokenInputs",
    ),
    "all outcomes": (
        {"loss": lambda i, s: i.policy, "level": "distribution", "reads": ("teacher",)},
        ": METHOD 'own': its loss gives a tensor [7, 256]; expected [7]: one loss a row of DistributionInputs",
    ),
    "no tensor": (
        {"loss": lambda i, s: None},
        ": METHOD 'own': its loss gives NoneType; expected a tensor [4]: one loss an example of SequenceInputs",
    ),
    "another dtype": (
        {"loss": lambda i, s: i.policy[:, 0].half()},
        ": METHOD 'own': its loss gives float16; expected float32 [4]: one loss an example of SequenceInputs",
    ),
    "nan": (
        {"loss": lambda i, s: i.policy[:, 0].log()},
        ": METHOD 'own': its loss is nan of small random SequenceInputs",
    ),
    "a gradient of nan": (
        {"loss": lambda i, s: (i.policy[:, 0] - i.policy[:, 0]).abs().sqrt()},
        ": METHOD 'own': the gradient of its loss is nan at small random SequenceInputs",
    ),
    "an outcome without probability": (
        {"loss": naive_kl, "level": "distribution", "reads": ("teacher",)},
        ": METHOD 'own': its loss is nan of small random DistributionInputs where an outcome has no probability under "
        "any model (log-prob -inf), which must add nothing; baselines.divergences.kl does so",
    ),
    "the gradient there": (
        {"loss": kl_with_a_gradient_of_nan, "level": "distribution", "reads": ("teacher",)},
        ": METHOD 'own': the gradient of its loss is nan at small random DistributionInputs where an outcome has no "
        "probability under any model (log-prob -inf), which must add nothing; baselines.divergences.kl does so",
    ),
    "the mean of all examples": (
        {"loss": lambda i, s: i.policy[:, 0] - i.policy[:, 0].mean()},
        ": METHOD 'own': its loss follows from other examples too: it changes where fewer are there, and how many "
        "there are at once is for the memory alone",
    ),
    "the mean of all rows": (
        {"loss": lambda i, s: fine(i, s) / fine(i, s).mean(), "level": "distribution", "reads": ("teacher",)},
        ": METHOD 'own': its loss follows from other rows too: it changes where fewer are there, and how many there "
        "are at once is for the memory alone",
    ),
    "a detached policy": (
        {"loss": lambda i, s: i.policy.detach()[:, 0] * i.teacher[:, 0], "reads": ("teacher",)},
        ": METHOD 'own': its loss has no gradient to the policy, and so nothing to train: it must follow from "
        "inputs.policy, not detached and not under no_grad",
    ),
    "a weight": (
        {"loss": fine, "also": (Term("sequence", fine, "example", lambda s: None),)},
        ": METHOD 'own': the weight of a term is None; expected a number",
    ),
    "state": (
        {"loss": fine, "state": lambda s: {"t": "x"}, "advance": lambda a, b, c, d: a},
        ": METHOD 'own': its state gives {'t': 'x'}; expected finite numbers by name",
    ),
    "advance": (
        {"loss": fine, "state": lambda s: {"t": 0.0}, "advance": lambda a, b, c, d: {"u": 1.0}},
        ": METHOD 'own': its advance gives u; expected what its state has, t",
    ),
    "a transform": (
        {"loss": fine, "reads": ("teacher",), "transform": lambda sums, s, seed: {}},
        ": METHOD 'own': its transform gives nothing; expected what it is given, teacher",
    ),
    "a transform's shape": (
        {"loss": fine, "reads": ("teacher",), "transform": lambda sums, s, seed: {"teacher": np.zeros(3)}},
        ": METHOD 'own': its transform gives 'teacher' (3,); expected finite numbers (4, 2)",
    ),
    "what the teacher sees": (
        {"loss": fine, "level": "distribution", "reads": ("teacher",), "teacher_sees": lambda messages, text: text},
        ": METHOD 'own': its teacher_sees gives 'Water that falls.'; expected messages, as "
        '{"role": …, "content": …}',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBED)
def test_what_is_wrong_is_said_with_the_file_before_anything_is_paid_for(name: str) -> None:
    fields, expected = PROBED[name]
    assert probed(method_of(**fields)) == expected


@pytest.mark.parametrize("within", [lambda i: i.sums(i.policy)[i.row], lambda i: i.before(i.policy)])
def test_a_token_s_loss_may_follow_from_its_response(within: Callable[..., Any]) -> None:
    method = method_of(lambda i, s: i.policy * within(i).detach(), "token", responses=PAIR)
    assert probe(method, method.settings()) is None


def test_what_is_random_is_not_taken_for_what_follows_from_others() -> None:
    method = method_of(lambda i, s: i.policy[:, 0] * torch.rand(len(i.policy)))
    assert probe(method, method.settings()) is None


class Weighted(TokenSettings):
    weight: float = 0.0


def top_64(inputs: Any, settings: Any) -> Any:
    at = inputs.teacher.topk(64, -1).indices
    return -(inputs.teacher.gather(-1, at).exp() * inputs.policy.gather(-1, at).clamp(min=-50)).sum(-1)


HONEST: dict[str, dict[str, Any]] = {
    "a hinge": {"loss": lambda i, s: (1 - (i.policy - i.teacher)[:, 0] + (i.policy - i.teacher)[:, 1]).relu()},
    "a far hinge": {"loss": lambda i, s: (i.teacher - i.policy - 300).relu(), "level": "token"},
    "a rare gate": {"loss": lambda i, s: (i.policy.detach() < -90) * (i.teacher - i.policy), "level": "token"},
    "a ratio clipped to below": {
        "loss": lambda i, s: -(i.policy - i.sampled).exp().clamp(max=1.0) * (i.teacher - i.policy).detach(),
        "level": "token",
    },
    "a narrow trust region": {
        "loss": lambda i, s: -(i.policy - i.sampled).exp().clamp(0.99, 1.01) * (i.teacher - i.policy).detach(),
        "level": "token",
    },
    "a late curriculum": {
        "loss": lambda i, s: (i.policy - i.teacher) ** 2 if i.progress > 0.95 else 0 * i.teacher,
        "level": "token",
    },
    "a term that is off by default": {
        "loss": lambda i, s: -i.policy + s.weight * (i.policy - i.teacher) ** 2,
        "level": "token",
        "settings": Weighted,
    },
    "a top k": {"loss": top_64, "level": "distribution"},
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_what_is_flat_in_places_or_off_by_default_is_taken(name: str) -> None:
    method = method_of(**{"reads": ("teacher",), **HONEST[name]})
    assert probe(method, method.settings()) is None


def test_the_model_that_sampled_finds_tokens_likelier_and_less_likely() -> None:
    ratios: list[torch.Tensor] = []

    def kept(inputs: Any, settings: Any) -> Any:
        ratios.append((inputs.policy - inputs.sampled).detach())
        return inputs.policy

    method = method_of(kept, "token")
    probe(method, method.settings())
    every = torch.cat(ratios)
    assert (every > 0.2).any()
    assert (every < -0.2).any()


def test_what_is_random_in_a_run_is_as_it_was() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    method = methods.get("dadpo")
    probe(method, method.settings())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_partial_s_and_a_decorated_loss_s_file_is_the_one_that_it_is_written_in() -> None:
    assert method_of(functools.partial(fine)).file == HERE
    assert method_of(functools.wraps(fine)(lambda *given: fine(*given))).file == HERE


# ---- in a training


def inputs(**others: Any) -> SequenceInputs:
    given: dict[str, Any] = {"policy": torch.zeros(3, 2), "lengths": torch.ones(3, 2), "models": {}, **others}
    return SequenceInputs(roles=("chosen", "rejected"), **given)


def test_a_call_gives_the_losses_as_they_are() -> None:
    method = method_of(lambda i, s: i.policy[:, 0] * torch.nan)
    assert called(method, method.terms[0], inputs(), method.settings()).isnan().all()


def test_a_call_that_raises_names_the_line() -> None:
    method = method_of(broken)
    said = refusal(lambda: called(method, method.terms[0], inputs(), method.settings()))
    assert said.startswith(f":{LINE}: METHOD 'own': its loss raised AttributeError: ")
    assert said.endswith("it is given SequenceInputs (policy [3, 2])")


def test_a_term_s_loss_is_looked_at_as_the_first_one_is() -> None:
    method = method_of(fine, also=(Term("token", lambda i, s: i.policy[0], "token"),), settings=TokenSettings)
    assert probed(method).endswith("its loss gives a tensor []; expected [15]: one loss a token of TokenInputs")


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_is_left_to_those_who_know_the_micro_batch(error: Exception) -> None:
    def hungry(given: Any, settings: Any) -> Any:
        raise error

    method = method_of(hungry)
    with pytest.raises(type(error)):
        called(method, method.terms[0], inputs(), method.settings())


def test_what_a_method_carries_moves_by_its_own_rule() -> None:
    method = method_of(
        fine, state=lambda s: {"t": 0.0}, advance=lambda state, loss, progress, s: {"t": state["t"] + progress * loss}
    )
    assert advanced(method, {"t": 1.0}, 2.0, 0.5, method.settings()) == {"t": 2.0}
    assert advanced(method_of(fine), {}, 2.0, 0.5, method.settings()) == {}


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        (lambda s: s.nothing, "its controls raised AttributeError: 'MethodSettings' object has no attribute 'nothing'"),
        (lambda s: ["sft"], "its controls give ['sft']; expected a list of Control"),
    ],
)
def test_controls_are_controls(controls: Any, expected: str) -> None:
    method = method_of(fine, controls=controls)
    assert refusal(lambda: controls_of(method, method.settings())).endswith(f"METHOD 'own': {expected}")


# ---- when it is made


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": "My Loss"}, "its name is 'My Loss'; a method's name is of lower-case letters"),
        ({"name": "teacher"}, "its name is 'teacher'; a method's name is"),
        ({"settings": MethodSettings()}, "settings is a class: MethodSettings, or one of its kinds with your defaults"),
        ({"defines": None}, "defines is a Definition(direction, weight, support, normaliser)"),
        ({"loss": lambda inputs: inputs}, "loss takes (inputs); expected (inputs, settings)"),
        ({"loss": "sft_loss"}, "loss is 'sft_loss'; expected a function of (inputs, settings)"),
        ({"controls": lambda a, b: [a, b]}, "controls takes (a, b); expected (settings)"),
        ({"transform": lambda sums: sums}, "transform takes (sums); expected (sums, settings, seed)"),
        (
            {"level": "token", "loss": lambda student, teacher, settings: student, "responses": POLICY},
            'loss takes (student, teacher, settings); expected (inputs, settings); losses of distributions are '
            'level="distribution" now',
        ),
    ],
)  # fmt: skip
def test_what_a_method_is_made_of_is_looked_at(fields: dict[str, Any], expected: str) -> None:
    made = method_of(fine, reads=("teacher",))
    with pytest.raises(UserError) as caught:
        replace(made, **fields)
    assert expected in caught.value.lines[0]
