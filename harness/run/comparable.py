"""Whether a student can be compared with its teacher token by token, asked before anything is drawn."""

from __future__ import annotations

from harness.config import Config
from harness.run.fitting import libraries, tokenizer_at, tokenizer_in
from harness.run.measuring import TOKENS_READ, compared, wanted
from harness.run.sources import Sources
from harness.store import Store


def why_not(config: Config, sources: Sources, store: Store) -> str:
    """Why it cannot be, or is not; empty where it can, and of a model that is not here yet. What two tokenizers differ
    in is kept in the store."""
    if not compared(config, ""):
        return ""
    sampling = config.eval_sampling
    if sampling.temperature == 0:
        return "responses are drawn at temperature 0, at which a distribution is one token"
    if sampling.top_p < 1:
        return (
            f"responses are drawn at top-p {sampling.top_p:g}, which cuts both distributions; set eval_sampling.top_p=1"
        )
    if config.teacher_server:
        if config.measures is None:
            first = next(measure.name for measure in wanted(config) if measure.reads in TOKENS_READ)
            return f"the teacher's server is asked for it only where a run names it (--measures {first},…)"
        if sampling.temperature != 1:
            return (
                f"the teacher's server gives its log-probs at temperature 1, and responses are drawn at "
                f"{sampling.temperature:g}; set eval_sampling.temperature=1"
            )
    found = _difference(sources, store)
    return f"student and teacher have two tokenizers: {found}" if found else ""


def _difference(sources: Sources, store: Store) -> str:
    models = (sources.student, sources.teacher)
    places = [tokenizer_at(found, store) for found in models]
    if any(place is None for place in places):
        return ""

    def find_out() -> str:
        from harness.models.tokenizers import two_tokenizers

        one, other = (tokenizer_in(found, place) for found, place in zip(models, places, strict=True) if place)
        return two_tokenizers(one, other, sources.evaluation_prompts)

    key = {
        **libraries(),
        "models": [[found.here.in_key, [job.ref for job in found.conversions]] for found in models],
        "prompts": [found.digest for found, _ in sources.evaluation],
    }
    said: str = store.recall("comparable", key, find_out)
    return said
