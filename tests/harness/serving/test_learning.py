"""What a server does not take is left out, under every name that it may have."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.serving.endpoint import LimitError, RefusedError
from harness.serving.learning import Learnt, ask_learning

BODY = {"model": "m", "max_tokens": 9, "seed": 3, "temperature": 1.0}


def test_a_body_without_what_is_refused_and_with_its_limit_under_the_other_name() -> None:
    learnt = Learnt()
    assert learnt.applied(BODY) == BODY and learnt.lost(BODY) == set()
    assert learnt.learn("max_tokens") and not learnt.learn("max_tokens")
    assert learnt.applied(BODY) == {"model": "m", "max_completion_tokens": 9, "seed": 3, "temperature": 1.0}
    assert learnt.lost(BODY) == set()
    learnt.learn("seed")
    learnt.learn("max_completion_tokens")
    assert learnt.applied(BODY) == {"model": "m", "temperature": 1.0}
    assert learnt.lost(BODY) == {"seed", "max_tokens"}


def asked(known: Learnt, refuses: dict[str, RefusedError]) -> tuple[list[dict[str, Any]], Learnt]:
    """The bodies that were sent until one was taken, and what was learnt."""
    sent = []

    async def post(body: dict[str, Any]) -> str:
        sent.append(body)
        for name, error in refuses.items():
            if name in body:
                raise error
        return "yes"

    def learn(learnt: Learnt, error: RefusedError) -> bool:
        return error.parameter is not None and learnt.learn(error.parameter)

    reply, learnt = asyncio.run(ask_learning(known, lambda learnt: learnt.applied(BODY), post, learn))
    assert reply == "yes"
    return sent, learnt


def test_what_is_refused_one_after_another_is_left_out_and_what_is_known_is_not_asked() -> None:
    known = Learnt({"max_tokens"})
    refuses = {name: RefusedError("no", name) for name in ("seed", "temperature", "max_tokens")}
    sent, learnt = asked(known, refuses)
    assert len(sent) == 3 and sent[-1] == {"model": "m", "max_completion_tokens": 9}
    assert learnt.without == {"max_tokens", "seed", "temperature"}
    assert known.without == {"max_tokens"}  # until its caller has found the reply to be one


@pytest.mark.parametrize("error", [RefusedError("no"), RefusedError("no", "seed"), LimitError("no")], ids=repr)
def test_a_refusal_that_teaches_nothing_is_raised(error: RefusedError) -> None:
    with pytest.raises(RefusedError) as raised:
        asked(Learnt({"seed"}), {"model": error})
    assert raised.value is error
