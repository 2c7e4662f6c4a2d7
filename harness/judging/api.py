"""A judge behind an OpenAI-compatible server: OpenAI, vLLM, SGLang, llama.cpp, Ollama and the like.

It asks in the best form that the template and the server know (`auto`): a letter with log-probs, else a JSON object
with a rationale, else a rationale in words. What a server refuses to take (a reasoning model: temperature, max_tokens,
logprobs) is learnt from its first refusal, and left out from then on (`serving.learning`). A limit that leaves a model
that thinks first no room for a letter is a reason to ask in the next form.
"""

from __future__ import annotations

import asyncio
import atexit
import time
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, get_args
from weakref import WeakValueDictionary

from harness.core.errors import UserError
from harness.core.records import Prompt
from harness.core.secrets import hide_long
from harness.judging.protocol import REFUSED, Answer, Arrived, Judge, Question
from harness.judging.reply_forms import UNREAD, Form, letter_preference
from harness.judging.settings import JudgeEntry, Judging, Prices
from harness.judging.templates import Template, without_control_tokens
from harness.serving import replies
from harness.serving.endpoint import (
    Endpoint,
    FailedCallError,
    FilteredError,
    LimitError,
    RefusedError,
    Server,
    ServerError,
    find_server,
)
from harness.serving.learning import LIMIT, NEW_LIMIT, Body, Learnt, ask_learning
from harness.serving.pool import ALONE_AT_MOST, share
from harness.serving.replies import Said

TOP_LOG_PROBS = (20, 5)  # as many as servers give, and what some of them stop at
READINGS = 2  # a reply that cannot be read is asked for once more
GIVE_UP_AFTER = 50  # failed questions in a row, each after all its tries
BILLED_CHARACTERS_PER_TOKEN = 4  # expected of a call, and assumed where its reply does not say what it was charged for
# what leaves a model that thinks first no room for its verdict
ROOM = "judge.max_tokens, thoughts included: set it higher"
LETTER = "the one token of a letter: another judge.form gives it room"
MAX_COST = "the limit of judge.max_cost is reached"


@dataclass
class Capabilities(Learnt):
    """What has been learnt of a server: parameters that it refuses, how many log-probs it gives, forms it cannot do."""

    top: int = TOP_LOG_PROBS[0]
    impossible: set[Form] = field(default_factory=set)
    gave_letters: bool = False

    def copy(self) -> Capabilities:
        return replace(self, without=set(self.without), impossible=set(self.impossible))

    def merge(self, other: Capabilities) -> None:
        super().merge(other)
        self.impossible |= other.impossible
        self.top = min(self.top, other.top)
        self.gave_letters = self.gave_letters or other.gave_letters

    def learn(self, parameter: str) -> bool:
        if parameter in ("logprobs", "top_logprobs"):
            # vLLM speaks of logprobs where top_logprobs are too many, so fewer are asked for in either case
            if "letter" not in self.impossible and self.top != TOP_LOG_PROBS[-1]:
                self.top = TOP_LOG_PROBS[-1]
                return True
            return self.cannot("letter")
        if parameter == "response_format":
            return self.cannot("structured")
        return super().learn(parameter)

    def cannot(self, form: Form) -> bool:
        before = len(self.impossible)
        self.impossible.add(form)
        return len(self.impossible) > before


class Session:
    """A server's connections and what is known of it, on one event loop, for as long as this process lives."""

    def __init__(self, server: Server, settings: JudgeEntry, budget: Budget) -> None:
        self.endpoint = Endpoint(
            server,
            settings.concurrency,
            settings.timeout,
            settings.tries,
            settings.requests_per_minute,
            settings.tokens_per_minute,
        )
        self.concurrency = settings.concurrency
        self.known = Capabilities()
        self.server = server
        self.prices = settings.prices
        self.budget = budget
        self.heard = False  # whether any question was ever answered
        self.stopped = ""  # why no further question is asked
        self.failures = 0  # in a row
        self._runner: asyncio.Runner | None = None

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        if self._runner is None:
            self._runner = asyncio.Runner()
            atexit.register(self.close)
        self._runner.run(work)

    def close(self) -> None:
        """Close connections and the loop; a later use opens them again."""
        if self._runner is not None:
            self._runner.run(self.endpoint.close())
            self._runner.close()
            self._runner = None
            atexit.unregister(self.close)


class Budget:
    """Money spent by all judges of a run, and set aside for calls on their way, against a limit."""

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._spent = self._aside = 0.0
        self._dearer = 1.0  # how many times its expected cost the dearest call has cost so far

    async def take(self, cost: float) -> float | None:
        """Set a call's likely cost aside, and say how much that is; None where it would pass the limit even after all
        calls on their way have cost what they cost."""
        while True:
            aside = cost * self._dearer
            if self._limit is None or self._spent + self._aside + aside <= self._limit:
                self._aside += aside
                return aside
            if self._aside <= 1e-12:  # rounding
                return None
            await asyncio.sleep(0.02)

    def settle(self, aside: float, likely: float, cost: float) -> None:
        """What a call did cost, in place of what was set aside for it."""
        self._aside -= aside
        self._spent += cost
        if likely:
            self._dearer = max(self._dearer, cost / likely)


@dataclass(frozen=True)
class OpenAIJudge(Judge):
    """`server` is the URL without credentials."""

    name: str
    summary: str
    model: str
    server: str
    form: str
    temperature: float
    max_tokens: int
    key_variable: str
    template: Template = field(repr=False)
    session: Session = field(repr=False)
    version: int = 2

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": self.model,
            "server": self.server,
            "template": self.template.digest,
            "form": self.form,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "version": self.version,
            "orders": self.orders,
            "measures": self.measures,
            "members": self.members,
        }

    @property
    def setup(self) -> dict[str, str]:
        return {
            "model": self.model,
            "server": self.server,
            "template": f"{self.template.name} ({self.template.digest})",
            "form": self.form,
            "temperature": f"{self.temperature:g}",
        }

    @property
    def prices(self) -> Prices:
        return self.session.prices

    @property
    def reply_tokens(self) -> tuple[int, int]:
        """About what a reply is charged for, in the form tried first, and in the longest that it may come to."""
        forms = self._forms()
        lengths = [1 if form == "letter" else self.max_tokens for form in forms]
        return lengths[0], max(lengths)

    def check(self, prompts: Iterable[Prompt]) -> None:
        self.template.check(prompts)

    def notes(self, prompts: Iterable[Prompt]) -> list[str]:
        return self.template.notes(prompts)

    def still_reads(self, question: Question, answer: Answer) -> bool:
        if answer.status != "ok" or answer.detail not in get_args(Form):
            return True
        read = self.template.read(answer.raw, answer.detail)  # type: ignore[arg-type]
        return read.preference is not None and question.for_candidate(read.preference) == answer.preference

    def require_key(self) -> None:
        self.session.server.require_key(self.key_variable)

    def answer(self, questions: Iterable[Question], arrived: Arrived) -> None:
        self.session.run(self._answer_all(iter(questions), arrived))

    async def _answer_all(self, questions: Iterator[Question], arrived: Arrived) -> None:
        """The first question goes alone: what a server refuses is learnt once, and a wrong key costs one call."""
        session = self.session

        async def work(question: Question) -> None:
            answer = await self.ask(question)
            session.heard = session.heard or answer.status in ("ok", "unparsable")
            arrived(question, answer)

        for question in islice(questions, ALONE_AT_MOST):
            await work(question)
            if session.heard:
                break
        await share(questions, session.concurrency, work)
        if session.stopped and not session.heard and session.stopped != MAX_COST:
            raise UserError(f"judge {self.name}: {session.stopped}")

    async def ask(self, question: Question) -> Answer:
        """The answer to one question, or why there is none."""
        began = time.monotonic()
        used = [0, 0]
        answer = await self._ask(question, used)
        seconds = round(time.monotonic() - began, 3)
        raw, detail = (self._storable(text) for text in (answer.raw, answer.detail))
        return replace(answer, detail=detail, raw=raw, input_tokens=used[0], output_tokens=used[1], seconds=seconds)

    def _storable(self, text: str) -> str:
        """A server's words as a file may hold them: it can quote what it was sent, and JSON half a surrogate pair."""
        return hide_long(text, self.session.server.secrets).encode("utf-8", "replace").decode()

    async def _ask(self, question: Question, used: list[int]) -> Answer:
        """`used` gathers the tokens of every call that was answered."""
        session = self.session
        answer = await self._once(question, used)
        for _ in range(READINGS - 1):
            if answer.status != "unparsable" or session.stopped:
                break
            again = await self._once(question, used)
            answer = again if again.status in ("ok", "unparsable") else answer  # what arrived stays
        return answer

    async def _once(self, question: Question, used: list[int]) -> Answer:
        session = self.session
        if session.stopped:
            return Answer("skipped", detail=session.stopped)
        try:
            answer = await self._reply(question, used)
        except (FilteredError, LimitError) as error:  # an answer of its kind: asked again it would be the same
            session.failures = 0
            room = LETTER if self._forms()[-1] == "letter" else ROOM
            why = f"no verdict within {room}" if isinstance(error, LimitError) else "a moderator refused it"
            return Answer("unparsable", detail=f"{why} ({error})")
        except (FailedCallError, RefusedError) as error:
            why = f"{REFUSED}{error}" if isinstance(error, RefusedError) else str(error)
            session.failures += 1
            if session.failures >= GIVE_UP_AFTER:
                session.stopped = f"{session.failures} questions in a row failed; the last: {why}"
            return Answer("failed", detail=why)
        except ServerError as error:
            session.stopped = str(error)
            return Answer("skipped", detail=session.stopped)
        except _OverBudgetError:
            session.stopped = MAX_COST
            return Answer("skipped", detail=session.stopped)
        session.failures = 0
        return answer

    async def _reply(self, question: Question, used: list[int]) -> Answer:
        """What the server says to one question, in the form that it can be asked in."""
        session = self.session

        async def post(body: Body) -> Body:
            length = sum(len(message["content"]) for message in body["messages"]) // BILLED_CHARACTERS_PER_TOKEN
            expected = (length, next((body[name] for name in (LIMIT, NEW_LIMIT) if name in body), self.max_tokens))
            likely = session.prices.cost(*expected) or 0.0
            aside = await session.budget.take(likely)
            if aside is None:
                raise _OverBudgetError
            spent = (0, 0)
            try:
                reply = await session.endpoint.post("/chat/completions", body, sum(expected), replies.lacks)
                spent = _usage(reply, expected[0])
            finally:
                session.budget.settle(aside, likely, session.prices.cost(*spent) or 0.0)
                used[0], used[1] = used[0] + spent[0], used[1] + spent[1]
            return reply

        begun: Capabilities | None = None
        while True:
            reply, learnt = await ask_learning(
                session.known,
                lambda learnt: self.body(question, self.form_now(learnt), learnt),
                post,
                self._learn,
                begun,
            )
            form, said = self.form_now(learnt), replies.said_in(reply)
            choice = replies.choice_of(reply) or {}
            if form == "letter" and letter_preference(_top_log_probs(choice), self.template.letters)[0] is not None:
                learnt.gave_letters = True
            elif form == "letter" and not learnt.gave_letters and _could_have_letters(said) and len(self._forms()) > 1:
                # a server that knows no log-probs often says nothing of it, and a model that begins with its thoughts
                # never with a letter; once letters came, a reply without is that question's own
                learnt.cannot("letter")
                begun = learnt
                continue
            session.known.merge(learnt)
            left_out = f", without {', '.join(sorted(learnt.without))}" if learnt.without else ""
            return replace(read_choice(choice, said, form, self.template, question), form=form + left_out)

    def _learn(self, learnt: Capabilities, error: RefusedError) -> bool:
        """Whether there is something to leave out after a refusal."""
        if isinstance(error, LimitError):
            another = self.form_now(learnt) == "letter" and len(self._forms()) > 1
            return another and not learnt.gave_letters and learnt.cannot("letter")
        return error.parameter is not None and learnt.learn(error.parameter)

    def form_now(self, known: Capabilities | None = None) -> Form:
        """The best form that the template has and the server is not known to be unable to do; the last one at worst."""
        forms, known = self._forms(), known or self.session.known
        return next((form for form in forms if form not in known.impossible), forms[-1])

    def _forms(self) -> tuple[Form, ...]:
        return self.template.forms if self.form == "auto" else (self.form,)  # type: ignore[return-value]

    def body(self, question: Question, form: Form, known: Capabilities) -> Body:
        """A chat completion's request; what stands inside a response stays text for any server's tokenizer."""
        messages = [
            {"role": message.role, "content": without_control_tokens(message.content)}
            for message in self.template.messages(question, form)
        ]
        body: Body = {"model": self.model, "messages": messages, "temperature": self.temperature}
        body[LIMIT] = 1 if form == "letter" else self.max_tokens
        if form == "letter" and "letter" not in known.impossible:
            body |= {"logprobs": True, "top_logprobs": known.top}
        if form == "structured" and "structured" not in known.impossible:
            schema = {"name": "verdict", "strict": True, "schema": self.template.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return known.applied(body)


class _OverBudgetError(Exception):
    pass


def read_choice(choice: dict[str, Any], said: Said, form: Form, template: Template, question: Question) -> Answer:
    """An answer from one choice of a chat completion, and what it says."""
    raw = said.text or said.refusal
    if said.finish == "filtered":
        return Answer("unparsable", None, f"a moderator refused it (finish: {said.word})", raw)
    top = _top_log_probs(choice) if form == "letter" else []
    if top:
        first, mass = letter_preference(top, template.letters)
        detail = why = f"the letters have {mass:.3f} of the probability"
    else:
        # the last verdict of a reply that was cut off may be one that it quotes
        whole = said.text and (form == "letter" or said.finish != "length")
        first, why = template.read(raw, form) if whole else UNREAD
        detail = form
    if first is not None:
        return Answer("ok", question.for_candidate(first), detail, raw)
    why = "a refusal" if said.refusal else why if said.text else "no text"
    if said.finish == "length" and (form != "letter" or said.thought):
        why += f" within {LETTER if form == 'letter' else ROOM}"
    return Answer("unparsable", None, f"{why} (finish: {said.word or 'unsaid'})", raw)


def _top_log_probs(choice: dict[str, Any]) -> list[tuple[str, float]]:
    """(token, log-prob) of the most probable first tokens; empty where the server gives none."""
    try:
        top = choice["logprobs"]["content"][0]["top_logprobs"]
        return [(str(entry["token"]), min(float(entry["logprob"]), 0.0)) for entry in top]
    except (KeyError, TypeError, IndexError, ValueError, OverflowError):
        return []


def _could_have_letters(said: Said) -> bool:
    """Whether log-probs could have come with it: not with a refusal, the model's or a moderator's."""
    return said.finish == "length" or (said.finish != "filtered" and bool(said.text or said.thought))


def _usage(reply: dict[str, Any], expected_input: int) -> tuple[int, int]:
    """Tokens in and out as the server counts them; about as many as there are, where it does not say."""
    usage = reply.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    counted = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    tokens_in, tokens_out = (count if isinstance(count, int) and count >= 0 else None for count in counted)
    if tokens_out is None:
        tokens_out = len(replies.said_in(reply).text) // BILLED_CHARACTERS_PER_TOKEN + 1
    return expected_input if tokens_in is None else tokens_in, tokens_out


_sessions: dict[tuple[str, str, str], Session] = {}
_budgets: WeakValueDictionary[str, Budget] = WeakValueDictionary()  # for as long as a session holds one


def open_api_judge(name: str, model: str, judging: Judging, template: Template) -> OpenAIJudge:
    """The judge `openai:MODEL`. All that are opened with the same settings share a session; all judges of one
    configuration share its limit of cost.

    Raises:
        UserError: a limit of cost without prices, or a form that the template does not have.
    """
    settings = judging.of(name)
    if judging.max_cost is not None and settings.prices.cost(1, 1) is None:
        raise UserError(
            "judge.max_cost needs judge.prices.input and judge.prices.output, your server's money a million tokens"
        )
    if settings.form != "auto" and settings.form not in template.forms:
        raise UserError(
            f"template '{template.name}' has no form '{settings.form}'; it has: {', '.join(template.forms)}"
        )
    server = find_server(settings.base_url, settings.key_variable)
    budget = _budgets.setdefault(repr(judging), Budget(judging.max_cost))
    key = (name, repr(judging), server.url)
    if key not in _sessions:
        _sessions[key] = Session(server, settings, budget)
    return OpenAIJudge(
        name,
        f"the model {model} at {server.url}, asked for the better of two responses in both orders",
        model,
        server.url,
        settings.form,
        settings.temperature,
        settings.max_tokens,
        settings.key_variable,
        template,
        _sessions[key],
    )
