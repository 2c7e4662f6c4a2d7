"""Whether every prompt can be read by the student and by the teacher, asked before anything is drawn.

A prompt is rendered by both chat templates and measured against what each model takes at once and what a micro-batch
holds. What that gives follows from the prompts, the checkpoint's files and the libraries that split text, and is kept
by those: it is found out once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.config import Config
from harness.core.errors import UserError
from harness.core.records import Message
from harness.core.units import first_named
from harness.measures.measure import Reads
from harness.methods import DistributionSettings, methods
from harness.models.folders import has_tokenizer
from harness.models.rendering import Rendered, positions_of, rendered
from harness.prompts import PromptSet
from harness.run.measuring import TOKENS_READ, ranks_pairs, read_in_evaluation
from harness.run.rows import Entry, entries_of, entry_of
from harness.run.sources import FoundModel, Sources
from harness.store import Store

VERSION = 1  # raised when what is kept of a prompt set is another thing
NAMED = 20  # ids in one line; of more, how many


@dataclass(frozen=True)
class Reading:
    """A prompt set, and the sampling's setting for how long an answer to it may be. cut: to how many tokens its prompts
    are, from the left, where models read responses to them; responses to judge are read after whole prompts."""

    prompts: PromptSet
    section: str
    new_tokens: int
    cut: int | None = None

    @property
    def limit(self) -> str:
        return f"{self.section}.max_new_tokens = {self.new_tokens:,}"


def unreadable(config: Config, sources: Sources, store: Store) -> Iterator[str]:
    """What is wrong with prompts, one line for each model, set and reason. A model that is not here yet is passed over:
    it is asked again once it is."""
    readings = [
        Reading(sources.train, "train_sampling", config.train_sampling.max_new_tokens, config.max_prompt_tokens),
        *(Reading(found, "eval_sampling", config.eval_sampling.max_new_tokens) for found, _ in sources.evaluation),
    ]
    teacher, student = f"teacher {sources.pair.teacher}", f"student {sources.pair.student}"
    for name, found in ((teacher, sources.teacher), (student, sources.student)):
        # a server reads prompts by its own template and limits; what is here of it is a tokenizer alone
        server = config.teacher_server if found is sources.teacher else None
        if server and not server.tokenizer:  # the student's stands for it
            continue
        positions = None if server else _positions(found, config, sources, store)
        for reading in readings:
            if (read := _rendered(found, reading.prompts, store)) is None:
                continue
            budgets = _budgets(config, sources, found is sources.student, reading.prompts)
            yield from _refused(name, reading, read)
            yield from _too_long(name, reading, read, positions)
            yield from _too_large(name, reading, read, budgets)


def unaskable(sources: Sources, store: Store) -> Iterator[str]:
    """Why local judges that are here cannot be asked about the evaluation prompts: their chat templates may not take a
    system message of the judge's template. How it asks depends on whether answers are known and how many turns there
    are, and by each such kind it is asked about one prompt."""
    prompts = reversed(sources.evaluation_prompts)
    kinds = {(bool(prompt.reference), len(prompt.messages), len(prompt.turns)): prompt for prompt in prompts}
    for judge, found in sources.judges:
        place = tokenizer_at(found, store) if found else None
        if found is None or place is None:
            continue
        try:
            asked = [told for prompt in kinds.values() if (told := judge.conversation(prompt))]
        except UserError:  # which `check` of the judge says, by the prompt's id
            continue
        if why := _refusal(found, place, judge.digest, asked, store):
            asks = f"what the judge's template ({judge.setup.get('template', 'its own')}) asks"
            yield (
                f"judge {judge.name}: the checkpoint's chat template refuses {asks}: {why.rstrip('.')}; choose another "
                "judge.template or judge"
            )


def _refused(name: str, reading: Reading, read: Rendered) -> Iterator[str]:
    where = f"of '{reading.prompts.name}'"
    for why, ids in _by_reason(read.refused).items():
        yield f"{name}: its chat template refuses {_counted(ids)} {where} ({why.rstrip('.')}): {_named(ids)}"
    for role, ids in _by_reason(read.left_out).items():
        yield (
            f"{name}: its chat template leaves out the {role} message of {_counted(ids)} {where}: {_named(ids)}; "
            "put it into the user's message, or take these out"
        )
    if empty := [id_ for id_, tokens in read.tokens.items() if tokens == 0]:
        yield f"{name}: its chat template makes nothing of {_counted(empty)} {where}: {_named(empty)}"


def _too_long(name: str, reading: Reading, read: Rendered, positions: int | None) -> Iterator[str]:
    answers = {prompt.id: 1 + len(prompt.turns) for prompt in reading.prompts.prompts}
    longest = {id_: tokens + answers[id_] * reading.new_tokens for id_, tokens in read.tokens.items()}
    if positions is not None and (ids := [id_ for id_, tokens in longest.items() if tokens > positions]):
        most = max(ids, key=longest.__getitem__)
        yield (
            f"{name} takes {positions:,} tokens at once, and {_counted(ids)} of '{reading.prompts.name}' may be longer "
            f"with {'its answers' if answers[most] > 1 else 'an answer'} ('{most}': {read.tokens[most]:,} tokens, "
            f"{reading.limit}): {_named(ids)}; lower that, or take these out"
        )


def _budgets(config: Config, sources: Sources, student: bool, found: PromptSet) -> dict[str, int]:
    """By setting, how many tokens of a set's prompts with their responses the student (else the teacher) reads at once,
    as far as it trains on them or says their log-probs. A server has limits of its own."""
    entries, training = entries_of(config), found is sources.train
    kinds = set[Reads]()
    if not training:
        kinds = read_in_evaluation(config, found, sources.opened, sources.incomparable)
    read = {name for entry in entries for name in methods.get(entry.method).reads}
    budgets = {}
    if student:
        pairs = "pairs" in kinds and any(ranks_pairs(methods.get(entry.method)) for entry in entries)
        scored = "reference" in read if training else pairs or bool(kinds & set(TOKENS_READ))
        if training:
            trained = [*entries, entry_of(config, "sft")]
            budgets["micro_batch_tokens"] = min(entry.settings.micro_batch_tokens for entry in trained)
    elif training:
        scored = any(_scored(entry) for entry in entries)
    else:
        scored = bool(kinds & {"log_probs", *TOKENS_READ})
    if scored and (student or not config.teacher_server):
        budgets["scoring_batch_tokens"] = config.scoring_batch_tokens
    return budgets


def _scored(entry: Entry) -> bool:
    """Whether what the teacher says of training responses is computed before the training."""
    method, settings = methods.get(entry.method), entry.settings
    if isinstance(settings, DistributionSettings) and settings.teacher_signal == "stored":
        return True
    return "teacher" in method.reads and method.levels() == {"sequence"}


def _too_large(name: str, reading: Reading, read: Rendered, budgets: Mapping[str, int]) -> Iterator[str]:
    """Prompts that fill a micro-batch alone, after they were cut: where there is room for no response."""
    kept = {id_: min(tokens, reading.cut or tokens) for id_, tokens in read.tokens.items()}
    training = reading.section == "train_sampling"
    otherwise = "set max_prompt_tokens to cut long prompts from the left" if training else "take these out"
    for setting, budget in budgets.items():
        if ids := [id_ for id_, tokens in kept.items() if tokens > budget]:
            most = max(ids, key=kept.__getitem__)
            yield (
                f"{name} reads {_counted(ids)} of '{reading.prompts.name}' as more than {setting} = {budget:,} "
                f"('{most}': {kept[most]:,} tokens): {_named(ids)}; raise {setting}, or {otherwise}"
            )


# ---- what is found out once
def _rendered(found: FoundModel, prompts: PromptSet, store: Store) -> Rendered | None:
    """None where the model's tokenizer is not here yet."""
    place = tokenizer_at(found, store)
    if place is None:
        return None
    key = {
        **libraries(),
        **found.here.in_key,
        "made by": [job.ref for job in found.conversions],
        "prompts": prompts.digest,
    }
    kept = store.recall("rendered", key, lambda: rendered(tokenizer_there(found, place), prompts.prompts).model_dump())
    return Rendered.model_validate(kept)


def libraries() -> dict[str, Any]:
    """What else the ids of a text follow from."""
    return {"version": VERSION, "libraries": [version(name) for name in ("transformers", "tokenizers")]}


def _refusal(found: FoundModel, place: Path, judge: str, asked: Sequence[Sequence[Message]], store: Store) -> str:
    """Why a judge's chat template does not take one of these conversations; empty where it takes all."""

    def find_out() -> str:
        from harness.models.chat import encode_chat

        tokenizer = tokenizer_there(found, place)
        for messages in asked:
            try:
                encode_chat(tokenizer, messages)
            except UserError as error:
                return str(error.__cause__ or error)
        return ""

    if not asked:
        return ""
    said = [[(message.role, message.content) for message in messages] for messages in asked]
    why: str = store.recall("asked", {**libraries(), "judge": judge, "asked": said}, find_out)
    return why


def tokenizer_at(found: FoundModel, store: Store) -> Path | None:
    """A folder with the model's tokenizer, or the GGUF file that it is in. An adapter may leave it to its base."""
    if found.conversion is not None and store.has(found.conversion.ref):
        return store.path(found.conversion.ref)
    place = Path(str(found.here.path))
    if place.is_file() or has_tokenizer(place):
        return place
    return tokenizer_at(found.base, store) if found.base else None


def tokenizer_there(found: FoundModel, place: Path) -> Any:
    """Of a model, in such a place."""
    from harness.models.convert import gguf_tokenizer
    from harness.models.tokenizers import load_tokenizer

    model = found.here
    if not place.is_file():
        return load_tokenizer(place, model.chat_template, model.remote_code)
    tokenizer = gguf_tokenizer(place)
    if model.chat_template is not None and not tokenizer.chat_template:
        tokenizer.chat_template = model.chat_template.text
    return tokenizer


def _positions(found: FoundModel, config: Config, sources: Sources, store: Store) -> int | None:
    """How many tokens the model takes at once here."""
    model = found.base or found  # of an adapter its base says it
    place = Path(str(model.here.path))
    known = _gguf_positions(place, model, store) if place.is_file() else positions_of(place)
    limits = [known, config.vllm.max_model_len if sources.generator == "vllm" else None]
    return min((limit for limit in limits if limit is not None), default=None)


def _gguf_positions(file: Path, found: FoundModel, store: Store) -> int | None:
    def find_out() -> int | None:
        from harness.models.convert import gguf_positions

        return gguf_positions(file)

    known: int | None = store.recall("positions", {"version": VERSION, "digest": found.here.digest}, find_out)
    return known


# ---- in words
def _by_reason(said: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for id_, why in said.items():
        found.setdefault(why, []).append(id_)
    return found


def _counted(ids: Sequence[str]) -> str:
    return f"{len(ids):,} prompt{'' if len(ids) == 1 else 's'}"


def _named(ids: Sequence[str]) -> str:
    return first_named(ids, NAMED)
