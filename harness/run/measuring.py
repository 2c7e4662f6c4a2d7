"""Which measures a run shows, and why it cannot show others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.config import Config
from harness.judging import Judge
from harness.measures import Measure, measures
from harness.measures.measure import Reads
from harness.methods import PAIR, Method, methods
from harness.prompts import PromptSet

# what needs both models' distributions over one tokenizer's tokens
TOKENS_READ: tuple[Reads, ...] = ("teacher_tokens", "own_tokens")
SEVERAL_TURNS = "its prompts have several turns, and what models say of tokens is measured in single answers"


def ranks_pairs(method: Method) -> bool:
    """Whether a method learns to prefer a `chosen` response of the teacher to a `rejected` one of the SFT student:
    those that held-out pairs have."""
    return {(role, who) for role, who, _ in PAIR} <= {(role, who) for role, who, _ in method.responses}


@dataclass(frozen=True)
class Shown:
    """What is measured on one prompt set, and why not more."""

    measures: tuple[Measure, ...]
    unmeasured: str = ""


def wanted(config: Config) -> list[Measure]:
    """The measures that a run shows, as far as nothing stands against them: those that it names, or all that there are.

    Raises:
        UserError: it names one that there is not.
    """
    if config.measures is not None:
        return [measures.get(name) for name in config.measures]
    return [measure for measure in measures.in_order() if measure.group and measure.samples <= config.samples]


def declared_first(config: Config) -> str:
    """The measure that is to be looked at before the others, said before the run: the first that it names, else
    `forward_kl`. Empty where nothing is to be measured."""
    return next((measure.name for measure in wanted(config)), "")


def shown(config: Config, found: PromptSet, incomparable: str) -> Shown:
    """What is measured on a set. incomparable: why student and teacher cannot be compared token by token."""
    asked, several = wanted(config), any(prompt.turns for prompt in found.prompts)
    kept = tuple(
        measure
        for measure in asked
        if not (several and measure.reads != "responses") and not (incomparable and measure.reads in TOKENS_READ)
    )
    return Shown(kept, (SEVERAL_TURNS if several else incomparable) if len(kept) < len(asked) else "")


def read_in_evaluation(config: Config, found: PromptSet, judges: Iterable[Judge], incomparable: str) -> set[Reads]:
    """What of responses to a set's prompts is read for what is shown, and for judges that decide by measures."""
    asked = (measures.get(name) for judge in judges for name in judge.measures if name in measures)
    return {measure.reads for measure in (*shown(config, found, incomparable).measures, *asked)}


def unmeasurable(config: Config, evaluation: Sequence[PromptSet], incomparable: str) -> Iterator[str]:
    """What is wrong with measures that the configuration names, one line each."""
    for name in config.measures or ():
        measure = measures.get(name)
        if measure.group is None:
            yield f"measures: '{name}' is no measure of its own, a judge reads it; leave it out"
        elif measure.samples > config.samples:
            yield (
                f"measures: '{name}' compares {measure.samples} responses to a prompt, and samples = {config.samples}; "
                f"set samples={measure.samples}, or leave it out"
            )
        elif measure.reads == "pairs" and not any(ranks_pairs(methods.get(one)) for one in config.methods):
            yield (
                f"measures: '{name}' is of methods with a chosen response (the teacher's) and a rejected one (the SFT "
                "student's), and none is compared; leave it out"
            )
        elif incomparable and measure.reads in TOKENS_READ:
            yield f"measures: '{name}' cannot be measured: {incomparable}"
    of_tokens = [name for name in config.measures or () if measures.get(name).reads != "responses"]
    for found in evaluation:
        if of_tokens and any(prompt.turns for prompt in found.prompts):
            yield f"measures: '{of_tokens[0]}' cannot be measured on '{found.name}': {SEVERAL_TURNS}"
