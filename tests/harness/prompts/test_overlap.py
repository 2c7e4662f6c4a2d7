from __future__ import annotations

import pytest

from harness.core.records import Message, Prompt
from harness.prompts import Overlap, overlap


def prompt(identifier: str, *texts: str, turns: tuple[str, ...] = ()) -> Prompt:
    """The user's texts, with answers between them."""
    messages = [Message(role="user", content=texts[0])]
    for text in texts[1:]:
        messages += [Message(role="assistant", content="the model said a b c d e"), Message(role="user", content=text)]
    return Prompt(id=identifier, messages=tuple(messages), turns=turns)


def test_shares_are_of_a_prompt_s_own_n_grams() -> None:
    train = [prompt("t", "a b c d e f")]
    evaluation = [
        prompt("none", "x y z a b"),
        prompt("third", "a b c x y"),  # abc; not bcx, cxy
        prompt("whole", "b c d e"),  # bcd, cde: all of it, and yet another prompt
        prompt("same", "A, b  c: d\ne F!"),
    ]
    found = overlap(train, evaluation, n=3)
    assert found == Overlap(prompts=4, exact=1, shared=3, most=1.0, examples=("whole", "same", "third"))
    assert overlap(train, evaluation[:2], n=3) == Overlap(2, 0, 1, pytest.approx(1 / 3), ("third",))


def test_nothing_in_common_is_nothing() -> None:
    nothing = Overlap(prompts=1, exact=0, shared=0, most=0.0, examples=())
    assert overlap([prompt("t", "a b c")], [prompt("e", "d e f")], n=2) == nothing
    assert overlap([], [prompt("e", "d e f")], n=2) == nothing
    assert overlap([prompt("t", "a b c")], [], n=2) == Overlap(0, 0, 0, 0.0, ())


def test_a_prompt_too_short_for_an_n_gram_counts_where_it_is_equal() -> None:
    train = [prompt("t", "Say hello, please."), prompt("u", "now sing")]
    evaluation = [prompt("same", "say HELLO please"), prompt("part", "say hello"), prompt("other", "sing now")]
    assert overlap(train, evaluation) == Overlap(3, 1, 1, 1.0, ("same",))


def test_n_grams_do_not_reach_across_turns_and_answers_do_not_count() -> None:
    train = [prompt("t", "a b", "c d")]
    assert overlap(train, [prompt("e", "a b c d")], n=3).shared == 0
    assert overlap(train, [prompt("e", "the model said a b c d e")], n=3).shared == 0
    assert overlap(train, [prompt("e", "a b", "c d")], n=3).exact == 1
    assert overlap(train, [prompt("e", "a b")], n=3).shared == 0


def test_further_turns_count_as_the_first_does() -> None:
    train = [prompt("t", "a b c d")]
    later = prompt("later", "x y z", turns=("b c d",))
    assert overlap(train, [later], n=3) == Overlap(1, 0, 1, 0.5, ("later",))
    assert overlap(train, [prompt("first", "a b c d", turns=("x y z",))], n=3).exact == 1


def test_a_prompt_without_words_is_no_copy_of_another() -> None:
    assert overlap([prompt("t", "a b c"), prompt("u", "…")], [prompt("e", "?!")], n=2).shared == 0


def test_the_largest_shares_are_the_examples() -> None:
    train = [prompt("t", "a b c d e f g h")]
    evaluation = [prompt(f"{size}", " ".join("abcdefgh"[:size]) + " x" * (8 - size)) for size in range(2, 8)]
    found = overlap(train, evaluation, n=2)
    assert (found.shared, found.examples) == (6, ("7", "6", "5", "4", "3"))
