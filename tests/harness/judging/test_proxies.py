"""The proxies on made-up measurements, and on doses of damage to a real teacher's responses."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harness.core.records import Message, Prompt, Response
from harness.generation import sampler
from harness.generation.protocol import Sampling
from harness.judging import Answer, Comparison, Judge, Judging, Measurement, Question, judges, open_judge
from harness.judging.proxies import (
    JUDGES,
    PROXY,
    TYPICALITY,
    MeasureJudge,
    Unanimous,
    plain_preference,
    prefer,
    similarity,
    typicality,
)
from harness.logprobs.batching import Example
from harness.logprobs.model import LogProbModel
from harness.logprobs.scoring import sequence_log_probs
from harness.measures import measures
from harness.measures.encoder import embed
from harness.models import chat, convert, loading, tokenizers
from harness.models.hub import MissingModelError
from harness.models.locate import locate
from harness.models.specs import models
from harness.prompts import Library, training_set
from harness.statistics.rates import rates
from harness.store import Store
from tests.harness.asking import quiet, verdicts_of

# ---- on made-up measurements


def response(text: str = "Some text.") -> Response:
    return Response(prompt_id="a", token_ids=(1, 2), text=text, finish="stop")


def compared(candidate: str = "One.", reference: str = "Two.", **measured: Measurement) -> Comparison:
    prompt = Prompt(id="a", messages=(Message(role="user", content="Why?"),))
    return Comparison(prompt, response(candidate), response(reference), measured)


def likelihoods(candidate: float, reference: float, *samples: float) -> Measurement:
    """Mean negative log-probs a token."""
    return Measurement(np.array([candidate]), np.array([reference]), np.array(samples)[:, None])


def vectors(candidate: Sequence[float], reference: Sequence[float], *samples: Sequence[float]) -> Measurement:
    return Measurement(np.array(candidate), np.array(reference), np.array(samples))


def preference(judge: Judge, comparison: Comparison) -> float:
    (verdict,) = verdicts_of(judge, [comparison])
    assert (verdict.status, verdict.order) == ("ok", "none")
    assert verdict.preference is not None
    return verdict.preference


def preferences(judge: Judge, comparisons: Sequence[Comparison]) -> list[float | None]:
    """What a judge itself says of each, in turn."""
    asked = [Question(comparison, "none") for comparison in comparisons]
    found: list[tuple[Question, Answer]] = []
    judge.answer(iter(asked), lambda question, answer: found.append((question, answer)))
    assert [question for question, _ in found] == asked
    return [answer.preference for _, answer in found]


GOOD = {"teacher_nll": likelihoods(1.0, 2.0, 1.0), "embedding": vectors([1, 0], [0, 1], [1, 0])}
BAD = {"teacher_nll": likelihoods(2.0, 1.0, 1.0), "embedding": vectors([0, 1], [1, 0], [1, 0])}
EVEN = {"teacher_nll": likelihoods(1.0, 1.0, 1.0), "embedding": vectors([1, 0], [1, 0], [1, 0])}
KINDS = {1.0: GOOD, 0.5: EVEN, 0.0: BAD}


@pytest.mark.parametrize(("candidate", "reference", "expected"), [(2, 1, 1.0), (1, 2, 0.0), (1, 1, 0.5)])
def test_the_higher_value_is_preferred(candidate: float, reference: float, expected: float) -> None:
    assert prefer(candidate, reference) == expected


@pytest.mark.parametrize(
    ("candidate", "reference", "expected"),
    [
        (2.5, 4.0, 1.0),
        (4.0, 2.5, 0.0),
        (0.5, 2.5, 0.0),  # far more likely than the teacher's own samples: not typical
        (1.5, 2.5, 0.5),  # as far below as the other is above
        (2.0, 2.0, 0.5),
    ],
)
def test_typicality_prefers_the_likelihood_nearer_to_that_of_the_samples(
    candidate: float, reference: float, expected: float
) -> None:
    assert typicality(likelihoods(candidate, reference, 1.0, 3.0)) == expected


@pytest.mark.parametrize(
    ("candidate", "reference", "expected"),
    [
        ([1, 0, 0], [0, 0, 1], 1.0),
        ([0, 0, 1], [1, 0, 0], 0.0),
        ([1, 0, 0], [0, 1, 0], 0.5),
        ([0.6, 0.8, 0], [1, 0, 0], 1.0),  # near both samples, where the other is one of them
        ([0, 0, -1], [-1, 0, 0], 1.0),  # opposite to a sample is worse than unrelated
    ],
)
def test_similarity_prefers_the_embedding_nearer_to_the_samples_on_average(
    candidate: list[float], reference: list[float], expected: float
) -> None:
    assert similarity(vectors(candidate, reference, [1, 0, 0], [0, 1, 0])) == expected


@pytest.mark.parametrize("decide", [typicality, similarity])
def test_a_measures_preference_is_antisymmetric(decide: Callable[[Measurement], float]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        candidate, reference, samples = rng.normal(size=3), rng.normal(size=3), rng.normal(size=(2, 3))
        there = decide(Measurement(candidate, reference, samples))
        assert decide(Measurement(reference, candidate, samples)) == 1 - there


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.name)
@pytest.mark.parametrize(
    ("candidate", "reference", "expected"),
    [("", "Text.", 0.0), (" \n\t", "Text.", 0.0), ("Text.", "", 1.0), ("", " ", 0.5)],
)
def test_an_empty_response_loses_whatever_its_measures_say(
    judge: Judge, candidate: str, reference: str, expected: float
) -> None:
    for measured in KINDS.values():
        assert preference(judge, compared(candidate, reference, **measured)) == expected


def test_two_responses_with_text_are_left_to_the_measures() -> None:
    assert plain_preference(compared("a", ".")) is None


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.name)
def test_equal_responses_tie_whatever_rounding_does_to_their_measures(judge: Judge) -> None:
    assert preference(judge, compared("Same.", "Same.", **GOOD)) == 0.5


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.name)
@pytest.mark.parametrize("expected", KINDS)
def test_measures_that_agree_decide(judge: Judge, expected: float) -> None:
    assert preference(judge, compared(**KINDS[expected])) == expected


@pytest.mark.parametrize("likelihood", KINDS)
@pytest.mark.parametrize("embedded", KINDS)
def test_the_proxy_ties_unless_both_parts_prefer_one_side(likelihood: float, embedded: float) -> None:
    measured = {"teacher_nll": KINDS[likelihood]["teacher_nll"], "embedding": KINDS[embedded]["embedding"]}
    expected = likelihood if likelihood == embedded else 0.5
    assert preference(PROXY, compared(**measured)) == expected


def test_unanimity_takes_any_number_of_parts() -> None:
    def part(name: str, value: float) -> MeasureJudge:
        return MeasureJudge(name, "", "", name, lambda _: value)

    measured = dict.fromkeys("abc", likelihoods(1, 1, 1))
    for values, expected in (((1, 1, 1), 1.0), ((0, 0, 0), 0.0), ((1, 1, 0.5), 0.5), ((1, 1, 0), 0.5)):
        judge = Unanimous("all", "", "", tuple(map(part, "abc", values)))
        assert judge.measures == judge.members == ("a", "b", "c")
        assert preference(judge, compared(**measured)) == expected


def test_a_measure_that_says_nothing_of_a_response_gives_no_verdict_and_no_tie() -> None:
    nothing, said = np.zeros(0), np.ones(1)
    for measured in (
        Measurement(nothing, said, said[None]),
        Measurement(said, nothing, said[None]),
        Measurement(said, said, np.zeros((0, 1))),
    ):
        silent = compared(teacher_nll=measured, embedding=GOOD["embedding"])
        for judge in (TYPICALITY, PROXY):
            (verdict,) = verdicts_of(judge, [silent])
            assert (verdict.status, verdict.preference) == ("unparsable", None)
            assert verdict.detail == "the measure 'teacher_nll' says nothing of one of the responses"
        same = compared("Same.", "Same.", teacher_nll=measured, embedding=GOOD["embedding"])
        assert preference(TYPICALITY, same) == preference(PROXY, same) == 0.5


def test_a_proxy_is_known_by_its_measure_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (TYPICALITY.digest, PROXY.digest)
    known = dict(measures.items())
    newer = replace(known["teacher_nll"], version=known["teacher_nll"].version + 1)
    monkeypatch.setattr(measures, "_entries", {**known, "teacher_nll": newer})
    assert TYPICALITY.digest != before[0] and PROXY.digest != before[1]


def test_each_comparison_gets_the_answer_to_its_own_measures_in_turn() -> None:
    for judge in JUDGES:
        asked = [compared(**KINDS[expected]) for expected in (1.0, 0.0, 0.5, 1.0)]
        assert preferences(judge, asked) == [1.0, 0.0, 0.5, 1.0]


def test_proxies_are_registered_say_what_they_miss_and_need_no_order() -> None:
    for judge in JUDGES:
        assert open_judge(judge.name, Judging(name=judge.name)) is judge
        assert judge.misses and judge.summary
        assert judge.orders == ("none",)
        assert judge.setup == {}
        assert all(member in judges for member in judge.members)
    assert PROXY.members == ("typicality", "embedding")


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.name)
def test_a_proxy_is_known_by_its_version_and_not_by_its_code_or_what_is_said_of_it(judge: Any) -> None:
    assert isinstance(judge.version, int)
    assert replace(judge, summary="other", misses="other").digest == judge.digest
    assert replace(judge, version=judge.version + 1).digest != judge.digest


def test_the_rule_of_a_proxy_is_in_no_key() -> None:
    assert replace(TYPICALITY, decide=similarity).identity() == TYPICALITY.identity()


def test_a_part_s_version_is_the_proxy_s_too() -> None:
    typical, embedded = PROXY.parts
    newer = replace(PROXY, parts=(typical, replace(embedded, version=embedded.version + 1)))
    assert newer.digest != PROXY.digest
    assert len({judge.digest for judge in JUDGES}) == len(JUDGES)


# what runs are pooled by and verdicts are keyed by: a digest changes only with a version that was raised
DIGESTS = {
    "typicality": "ff557f8e27971231",
    "embedding": "6d8f577fe6fe5cd1",
    "proxy": "1e287a8045c85b80",
}


def test_the_digests_of_proxies_stay_what_they_are() -> None:
    assert {judge.name: judge.digest[:16] for judge in JUDGES} == DIGESTS


def draw_likelihoods(rng: np.random.Generator) -> Measurement:
    """Candidate, reference and samples of one prompt, all from one skewed distribution of its own."""
    values = rng.normal(scale=2) + rng.gamma(2.0, rng.uniform(0.1, 1), size=4)
    return likelihoods(*values)


def draw_embeddings(rng: np.random.Generator) -> Measurement:
    rows = rng.normal(size=8) + rng.uniform(0.2, 2) * rng.normal(size=(4, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Measurement(rows[0], rows[1], rows[2:])


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.name)
def test_a_student_distributed_as_its_teacher_is_at_parity(judge: Judge) -> None:
    rng = np.random.default_rng(0)
    comparisons = [compared(teacher_nll=draw_likelihoods(rng), embedding=draw_embeddings(rng)) for _ in range(4000)]
    assert np.mean(preferences(judge, comparisons)) == pytest.approx(0.5, abs=0.025)  # three standard errors


def test_typicality_does_not_reward_a_student_that_is_only_more_likely() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(500):
        values = rng.normal(2.0, 0.3, size=4)
        values[0] -= 1.0
        found.append(typicality(likelihoods(*values)))
    assert np.mean(found) < 0.1


# ---- on a real teacher

PROMPTS, LENGTH = 32, 40
TEACHER, EMBEDDER = "smollm2-135m", "all-minilm-l6-v2"
LIKELIHOOD = MeasureJudge(  # what typicality must not be
    "likelihood", "", "", "teacher_nll", lambda m: prefer(-float(m.candidate[0]), -float(m.reference[0]))
)


def installed(name: str, store: Store) -> Path:
    try:
        return locate(name, models.get(name), store, download=False)[0]
    except MissingModelError as error:
        pytest.skip(str(error))


@dataclass(frozen=True)
class Teacher:
    """A frozen model in a folder, and how it is sampled and scored."""

    folder: Path
    tokenizer: Any
    prompts: list[Prompt]
    encoded: list[list[int]]

    def text(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    def response(self, prompt: Prompt, tokens: Sequence[int]) -> Response:
        return Response(prompt_id=prompt.id, token_ids=tuple(tokens), text=self.text(tokens), finish="length")

    def samples(self, wanted: dict[str, float], seed: int) -> dict[str, list[Response]]:
        """Responses to every prompt for each name, at the temperature that goes with it."""
        model = loading.load_model(self.folder, torch.bfloat16, sampler.GROUPED_ATTENTION)
        stops, vocabulary = chat.stop_ids(model, self.tokenizer), chat.vocabulary_size(self.tokenizer)
        made: dict[tuple[str, int], Response] = {}
        for temperature in sorted(set(wanted.values())):
            sampling = Sampling(temperature=temperature, max_new_tokens=LENGTH)
            names = [name for name, own in wanted.items() if own == temperature]
            rows = [(name, index) for name in names for index in range(len(self.prompts))]
            for batch in sampler.form_batches([len(self.encoded[index]) for _, index in rows], 64):
                here = [rows[row] for row in batch]
                uniforms = [sampler.row_uniforms(seed, name, self.prompts[i].id, LENGTH) for name, i in here]
                encoded = [self.encoded[index] for _, index in here]
                decoded = sampler.decode_batch(model, encoded, torch.stack(uniforms), sampling, stops, vocabulary)
                for row, tokens in zip(here, decoded, strict=True):
                    made[row] = self.response(self.prompts[row[1]], tokens)
        return {name: [made[name, index] for index in range(len(self.prompts))] for name in wanted}

    def mean_nll(self, responses: dict[str, list[Response]]) -> dict[str, NDArray[np.float64]]:
        """[prompts, 1] for each name."""
        rows = [(name, index) for name in responses for index in range(len(self.prompts))]
        examples = [
            Example(number, self.encoded[index], (responses[name][index].token_ids,))
            for number, (name, index) in enumerate(rows)
        ]
        model = LogProbModel(loading.load_model(self.folder, torch.float32))
        sums = sequence_log_probs(model, examples, "bf16", 4096, quiet)
        means = -sums / [[len(example.responses[0])] for example in examples]
        return dict(zip(responses, means.reshape(len(responses), -1, 1), strict=True))


def damaged(teacher: Teacher, good: list[Response], seed: int) -> dict[str, list[Response]]:
    """Responses that are worse than the teacher's in known ways."""
    end = teacher.tokenizer.eos_token_id
    bodies = [[token for token in response.token_ids if token != end] for response in good]
    shuffled = [random.Random(seed + index).sample(body, len(body)) for index, body in enumerate(bodies)]
    made = {"shuffled": shuffled, "of another prompt": [*bodies[1:], bodies[0]], "empty": [[end]] * len(good)}
    return {
        name: [teacher.response(prompt, tokens) for prompt, tokens in zip(teacher.prompts, rows, strict=True)]
        for name, rows in made.items()
    }


TEACHERS_OWN = ("first", "second", "third")  # each is the reference in turn, the other two the further samples
TEMPERATURES = {**dict.fromkeys(TEACHERS_OWN, 0.8), "own": 0.8, "hot": 1.6, "cold": 0.3}


def preference_rates(teacher: Teacher, embedder: Path, seed: int) -> dict[tuple[str, str], float]:
    """By (dose, judge): the mean preference rate of a dose against each of the teacher's three responses."""
    responses = teacher.samples(TEMPERATURES, seed)
    responses |= damaged(teacher, responses["own"], seed)
    texts = [response.text for rows in responses.values() for response in rows]
    embeddings = embed(embedder, texts, quiet).reshape(len(responses), PROMPTS, -1)
    measures = {"teacher_nll": teacher.mean_nll(responses), "embedding": dict(zip(responses, embeddings, strict=True))}

    def comparisons(dose: str, reference: str) -> list[Comparison]:
        further = [name for name in TEACHERS_OWN if name != reference]
        return [
            Comparison(
                prompt,
                responses[dose][i],
                responses[reference][i],
                {
                    name: Measurement(table[dose][i], table[reference][i], np.stack([table[s][i] for s in further]))
                    for name, table in measures.items()
                },
            )
            for i, prompt in enumerate(teacher.prompts)
        ]

    def rate(dose: str, judge: Judge) -> float:
        found = [rates(verdicts_of(judge, comparisons(dose, reference))) for reference in TEACHERS_OWN]
        assert [one.n for one in found] == [PROMPTS] * len(TEACHERS_OWN)
        return float(np.mean([one.preference_rate for one in found]))

    judged = (*JUDGES, LIKELIHOOD)
    return {(dose, judge.name): rate(dose, judge) for dose in responses if dose not in TEACHERS_OWN for judge in judged}


@pytest.fixture(scope="session")
def doses(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], float]:
    folder = tmp_path_factory.mktemp("doses")
    store = Store(folder / "store")
    gguf, embedder = installed(TEACHER, store), installed(EMBEDDER, store)
    convert.dequantise_gguf(gguf, folder / "teacher")
    tokenizer = tokenizers.load_tokenizer(folder / "teacher")
    prompts = training_set("everyday-test", Library()).prompts[:PROMPTS]
    encoded = [chat.encode_chat(tokenizer, prompt.messages) for prompt in prompts]
    return preference_rates(Teacher(folder / "teacher", tokenizer, prompts, encoded), embedder, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dose", "judge", "bound"),
    [
        ("shuffled", "typicality", -0.4),
        ("shuffled", "embedding", -0.1),  # sees the topic, which survives: the true rate is near -0.4
        ("shuffled", "proxy", -0.4),
        ("of another prompt", "typicality", -0.3),
        ("of another prompt", "embedding", -0.3),
        ("of another prompt", "proxy", -0.3),
        ("hot", "typicality", -0.4),
        ("hot", "embedding", -0.4),
        ("hot", "proxy", -0.4),
    ],
)
def test_a_damaged_response_clearly_loses_to_the_teachers(
    doses: dict[tuple[str, str], float], dose: str, judge: str, bound: float
) -> None:
    assert doses[dose, judge] < bound


@pytest.mark.slow
@pytest.mark.parametrize("judge", ["typicality", "embedding", "proxy"])
def test_an_empty_response_always_loses_to_the_teachers(doses: dict[tuple[str, str], float], judge: str) -> None:
    assert doses["empty", judge] == -1


@pytest.mark.slow
def test_a_colder_teacher_is_not_rewarded_by_typicality_as_it_is_by_likelihood(
    doses: dict[tuple[str, str], float],
) -> None:
    assert doses["cold", "typicality"] < 0.15
    assert doses["cold", "likelihood"] > doses["cold", "typicality"] + 0.5


@pytest.mark.slow
@pytest.mark.parametrize("judge", ["typicality", "embedding", "proxy"])
def test_the_teachers_own_further_response_is_near_parity(doses: dict[tuple[str, str], float], judge: str) -> None:
    assert abs(doses["own", judge]) < 0.45
