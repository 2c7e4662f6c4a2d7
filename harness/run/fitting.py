"""Whether every prompt can be read by the student and by the teacher, asked before anything is drawn.

A prompt is rendered by both chat templates and measured against what each model takes at once and what a micro-batch
holds. What that gives follows from the prompts, the checkpoint's files and the libraries that split text, and is kept
by those: it is found out once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.config import Config
from harness.core.errors import UserError
from harness.core.records import Message
from harness.core.units import first_named
from harness.measures.measure import Reads
from harness.methods import DistributionSettings, FreshSettings, methods
from harness.methods.checking import shown
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
    """A prompt set, and the settings of how long an answer to it may be and, before it, a demonstration. cut: to how
    many tokens its prompts are, from the left, where models read responses to them; responses to judge are read after
    whole prompts."""

    prompts: PromptSet
    answer: tuple[str, int]
    demonstration: tuple[str, int] | None = None
    training: bool = False
    cut: int | None = None

    @property
    def limit(self) -> str:
        limits = dict([*([self.demonstration] if self.demonstration else []), self.answer])
        return ", ".join(f"{setting} = {tokens:,}" for setting, tokens in limits.items())

    @property
    def longest(self) -> dict[str, int]:
        """How many tokens may come after each prompt, by its id."""
        before = self.demonstration[1] if self.demonstration else 0
        return {prompt.id: before + (1 + len(prompt.turns)) * self.answer[1] for prompt in self.prompts.prompts}


def unreadable(config: Config, sources: Sources, store: Store) -> Iterator[str]:
    """What is wrong with prompts, one line for each model, set and reason. A model that is not here yet is passed over:
    it is asked again once it is."""
    answer = ("eval_sampling.max_new_tokens", config.eval_sampling.max_new_tokens)
    evaluation = [Reading(found, answer) for found, _ in sources.evaluation]
    entries = entries_of(config)
    teacher, student = f"teacher {sources.pair.teacher}", f"student {sources.pair.student}"
    for name, found in ((teacher, sources.teacher), (student, sources.student)):
        # a server reads prompts by its own template and limits; what is here of it is a tokenizer alone
        server = config.teacher_server if found is sources.teacher else None
        if server and not server.tokenizer:  # the student's stands for it
            continue
        positions = None if server else _positions(found, config, sources, store)
        # the student also writes while it trains, and a teacher of that kind reads it
        read_fresh = [entry for entry in entries if found is sources.student or _reads_fresh(entry)]
        answer = _longest([_sampled(config), *(limit for entry in read_fresh for limit in _answers(config, entry))])
        training = [
            Reading(prompts, answer, training=True, cut=config.max_prompt_tokens)
            for prompts in (sources.train, sources.validation)
            if prompts
        ]
        for reading in [*training, *evaluation]:
            if (read := _rendered(found, reading.prompts, store)) is None:
                continue
            budgets = _budgets(config, sources, found is sources.student, reading.prompts)
            yield from _refused(name, reading, read)
            yield from _too_long(name, reading, read, positions)
            yield from _too_large(name, reading, read, budgets)
    positions = _positions(sources.student, config, sources, store, trained=True)
    lines: dict[str, None] = {}  # once, of a method and its controls
    for entry in entries:
        if (said := _shown(entry, sources.train)) and (read := _rendered(sources.student, said, store)):
            reading = Reading(said, _longest(_answers(config, entry)), demonstration=_sampled(config))
            lines |= dict.fromkeys(_too_long(f"{student} as the teacher of {entry.method}", reading, read, positions))
    yield from lines


def _sampled(config: Config) -> tuple[str, int]:
    """The setting of how long the teacher's responses to training prompts are, and it."""
    return "train_sampling.max_new_tokens", config.train_sampling.max_new_tokens


def _answers(config: Config, entry: Entry) -> list[tuple[str, int]]:
    """The settings of how long the responses are that a training reads, stored ones and fresh ones, and these."""
    settings, share = entry.settings, methods.get(entry.method).fresh_share(entry.settings)
    own = settings.max_new_tokens if isinstance(settings, FreshSettings) and share else None
    if own is None:
        return [_sampled(config)]
    return [*([_sampled(config)] if share < 1 else []), (f"settings.{entry.method}.max_new_tokens", own)]


def _longest(limits: Iterable[tuple[str, int]]) -> tuple[str, int]:
    return max(limits, key=lambda limit: limit[1])


def _reads_fresh(entry: Entry) -> bool:
    method = methods.get(entry.method)
    return "teacher" in method.reads and method.teacher_sees is None


def _shown(entry: Entry, train: PromptSet) -> PromptSet | None:
    """The training prompts as a teacher that is shown a demonstration reads them, but for its text; None where there is
    no such teacher."""
    method = methods.get(entry.method)
    if method.teacher_sees is None:
        return None
    try:
        said = [(prompt, shown(method, prompt.messages, "")) for prompt in train.prompts]
    except UserError:  # which `probe` says
        return None
    return replace(train, prompts=tuple(prompt.model_copy(update={"messages": messages}) for prompt, messages in said))


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
    turns = {prompt.id: 1 + len(prompt.turns) for prompt in reading.prompts.prompts}
    after = reading.longest
    longest = {id_: tokens + after[id_] for id_, tokens in read.tokens.items()}
    if positions is not None and (ids := [id_ for id_, tokens in longest.items() if tokens > positions]):
        most = max(ids, key=longest.__getitem__)
        yield (
            f"{name} takes {positions:,} tokens at once, and {_counted(ids)} of '{reading.prompts.name}' may be longer "
            f"with {'a demonstration and ' if reading.demonstration else ''}"
            f"{'its answers' if turns[most] > 1 else 'an answer'} ('{most}': {read.tokens[most]:,} tokens, "
            f"{reading.limit}): {_named(ids)}; lower that, or take these out"
        )


def _budgets(config: Config, sources: Sources, student: bool, found: PromptSet) -> dict[str, int]:
    """By setting, how many tokens of a set's prompts with their responses the student (else the teacher) reads at once,
    as far as it trains on them or says their log-probs. A server has limits of its own."""
    entries, training = entries_of(config), found is sources.train or found is sources.validation
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
    otherwise = "set max_prompt_tokens to cut long prompts from the left" if reading.training else "take these out"
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
    return {"version": VERSION, "libraries": list(_libraries())}


@functools.cache  # asked of each model and prompt set of each run of a study
def _libraries() -> tuple[str, ...]:
    return tuple(map(version, ("transformers", "tokenizers")))


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


def _positions(found: FoundModel, config: Config, sources: Sources, store: Store, trained: bool = False) -> int | None:
    """How many tokens the model takes at once here; trained: in a training, which no vLLM limits."""
    model = found.base or found  # of an adapter its base says it
    place = Path(str(model.here.path))
    known = _gguf_positions(place, model, store) if place.is_file() else positions_of(place)
    limits = [known, config.vllm.max_model_len if sources.generator == "vllm" and not trained else None]
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
