"""Whether a student and its teacher can be compared token by token, asked before anything is drawn. No torch here."""

from __future__ import annotations

from harness.config import Config
from harness.core.errors import UserError
from harness.run.fitting import libraries, tokenizer_at, tokenizer_there
from harness.run.measuring import TOKENS_READ, wanted
from harness.run.sources import FoundModel, Sources
from harness.store import Store


def why_not(config: Config, sources: Sources, store: Store) -> str:
    """What keeps the distributions of a run's student and teacher from being compared, in a few words; empty where
    nothing does, or where it is not known yet, as a model's tokenizer is not here."""
    if not any(measure.reads in TOKENS_READ for measure in wanted(config)):
        return ""
    return _of_sampling(config) or _of_a_server(config) or _of_tokenizers(sources, store)


def _of_sampling(config: Config) -> str:
    """Both distributions are those that responses are drawn from."""
    sampling = config.eval_sampling
    if sampling.temperature == 0:
        return "eval_sampling.temperature is 0, where all of a distribution is on one token"
    if sampling.top_p < 1:
        return f"eval_sampling.top_p = {sampling.top_p:g} leaves out a part of a distribution, of each model another"
    return ""


def _of_a_server(config: Config) -> str:
    """What it takes of a server is known when it is asked, after all trainings: so it has to be named."""
    server, temperature = config.teacher_server, config.eval_sampling.temperature
    if not server:
        return ""
    if config.measures is None:
        first = next(measure.name for measure in wanted(config) if measure.reads in TOKENS_READ)
        return f"the teacher's server is asked for it only where a run names it (--measures {first},…)"
    if not server.tokenizer:
        return "teacher_server.tokenizer does not say which tokenizer the teacher has"
    if temperature != 1:
        return (
            f"a served teacher's log-probs are those at temperature 1, and eval_sampling.temperature = {temperature:g}"
        )
    return ""


def _of_tokenizers(sources: Sources, store: Store) -> str:
    models = (sources.student, sources.teacher)
    who = [_identity(found) for found in models]
    # what is measured is measured of single answers
    sets = [found for found, _ in sources.evaluation if not any(prompt.turns for prompt in found.prompts)]
    if not sets or who[0] == who[1]:
        return ""
    places = [tokenizer_at(found, store) for found in models]

    def find_out() -> str:
        from harness.models.tokenizers import why_two

        one, other = (tokenizer_there(found, place) for found, place in zip(models, places, strict=True) if place)
        return why_two(one, other, [prompt for found in sets for prompt in found.prompts])

    if None in places:
        return ""
    key = {**libraries(), "models": who, "prompts": [found.digest for found in sets]}
    try:
        difference: str = store.recall("comparable", key, find_out)
    except UserError:  # one of them cannot be loaded, which is said of it where prompts are read
        return ""
    return f"student and teacher have two tokenizers: {difference}" if difference else ""


def _identity(found: FoundModel) -> list[object]:
    """What a model's tokenizer follows from."""
    return [found.here.in_key, [job.ref for job in found.conversions]]
