"""Two distributions, position by position, against an independent computation in float64."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.logprobs import comparing
from harness.logprobs import model as model_module
from harness.logprobs.batching import Example, Layout
from harness.logprobs.comparing import IDS, SCORE, LiveTeacher, StoredStates, Teacher, TopKTeacher, compare, compared
from harness.logprobs.model import LogProbModel
from harness.logprobs.scoring import hidden_states, response_starts, sequence_log_probs, top_log_probs
from harness.logprobs.targets import StoredTopK, Support
from tests.conftest import tiny_model
from tests.harness.logprobs.test_scoring import LAYOUTS, own_rows, quiet, random_examples, shuffled

FIELDS = {
    "forward_kl",
    "reverse_kl",
    "overlap",
    "teacher_entropy",
    "teacher_log_prob",
    "student_log_prob",
    "teacher_top",
    "student_top",
}
Exact = dict[str, NDArray[Any]]


def exact(teacher: Tensor, student: Tensor, labels: Tensor) -> Exact:
    """The same of log-probs [n, V] in float64, token by token, as the definitions have it."""
    rows: dict[str, list[float]] = {name: [] for name in sorted(FIELDS)}
    for log_p, log_q, label in zip(teacher.tolist(), student.tolist(), labels.tolist(), strict=True):
        p, q = [math.exp(value) for value in log_p], [math.exp(value) for value in log_q]
        pairs = list(zip(p, q, log_p, log_q, strict=True))
        rows["forward_kl"].append(math.fsum(a * (la - lb) for a, _, la, lb in pairs if a))
        rows["reverse_kl"].append(math.fsum(b * (lb - la) for _, b, la, lb in pairs if b))
        rows["overlap"].append(math.fsum(min(a, b) for a, b, _, _ in pairs))
        rows["teacher_entropy"].append(-math.fsum(a * la for a, _, la, _ in pairs if a))
        rows["teacher_log_prob"].append(log_p[label])
        rows["student_log_prob"].append(log_q[label])
        rows["teacher_top"].append(max(range(len(p)), key=log_p.__getitem__))
        rows["student_top"].append(max(range(len(q)), key=log_q.__getitem__))
    return {name: np.array(values) for name, values in rows.items()}


def assert_same(found: Exact, wanted: Exact, tolerance: float = 1e-5) -> None:
    assert found.keys() - {SCORE} == FIELDS
    for name, values in wanted.items():
        assert found[name].dtype == (np.int32 if name in IDS else np.float32)
        np.testing.assert_allclose(found[name], values, rtol=tolerance, atol=tolerance, err_msg=name)


# ---- of rows


def random_rows(rows: int, vocabulary: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    teacher, noise = (torch.randn(rows, vocabulary, generator=draw, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(vocabulary, (rows,), generator=draw)
    return torch.log_softmax(spread * teacher, -1), torch.log_softmax(spread * (teacher + noise / 2), -1), labels


def as_columns(found: dict[str, Tensor]) -> Exact:
    return {name: values.numpy().astype(np.int32) if name in IDS else values.numpy() for name, values in found.items()}


@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0, 30.0])
@pytest.mark.parametrize("vocabulary", [1, 2, 1001])
def test_columns_are_the_definitions(vocabulary: int, spread: float) -> None:
    teacher, student, labels = random_rows(7, vocabulary, spread)
    assert_same(as_columns(compared(teacher.float(), student.float(), labels)), exact(teacher, student, labels))


def test_sums_over_a_whole_vocabulary_are_good_to_a_hundred_thousandth() -> None:
    teacher, student, labels = random_rows(6, 49152, 3.0)
    found = compared(teacher.float(), student.float(), labels)
    wanted = exact(teacher, student, labels)
    for name in FIELDS - set(IDS):
        np.testing.assert_allclose(found[name].numpy(), wanted[name], rtol=0, atol=1e-5, err_msg=name)


def test_what_has_no_probability_counts_where_the_other_would_say_it() -> None:
    half = math.log(0.5)
    none = -math.inf
    teacher = torch.tensor([[half, half, none], [half, half, none], [0.0, none, none], [half, half, none]])
    student = torch.tensor([[half, half, none], [0.0, none, none], [half, half, none], [none, half, half]])
    found = compared(teacher, student, torch.tensor([0, 0, 0, 1]))
    log2 = math.log(2)
    assert found["forward_kl"].tolist() == pytest.approx([0, math.inf, log2, math.inf])
    assert found["reverse_kl"].tolist() == pytest.approx([0, log2, math.inf, math.inf])
    assert found["overlap"].tolist() == pytest.approx([1, 0.5, 0.5, 0.5])
    assert found["teacher_entropy"].tolist() == pytest.approx([log2, log2, 0, log2])


def test_a_model_whose_log_probs_are_no_numbers_does_not_pass_for_one() -> None:
    broken, whole = torch.full((1, 3), math.nan), torch.log_softmax(torch.ones(1, 3), -1)
    for pair in ((broken, whole), (whole, broken)):
        found = compared(*pair, torch.tensor([0]))
        assert found["forward_kl"].isnan().all() and found["reverse_kl"].isnan().all()


# ---- of models


def dense(causal_lm: Any, examples: list[Example], vocabulary: int, temperature: float) -> Tensor:
    """Log-probs [T, vocabulary] float64 of a stock copy, one sequence at a time."""
    own = copy.deepcopy(causal_lm).double()
    logits = torch.cat([rows for example in examples for rows in own_rows(own, example)])
    return torch.log_softmax(logits[:, :vocabulary] / temperature, -1)


def labels_of(examples: list[Example]) -> Tensor:
    return torch.tensor([token for example in examples for response in example.responses for token in response])


def wanted_of(
    teacher: Any, student: Any, examples: list[Example], vocabulary: int = 512, temperature: float = 1.0
) -> Exact:
    rows = (dense(each, examples, vocabulary, temperature) for each in (teacher, student))
    return exact(*rows, labels_of(examples))


def found_of(
    student: LogProbModel, teacher: Teacher, examples: list[Example], vocabulary: int = 512, **other: Any
) -> Exact:
    settings: dict[str, Any] = {
        "temperature": 1.0, "precision": "fp32", "batch_tokens": 60, "tick": quiet, **other
    }  # fmt: skip
    return compare(student, teacher, examples, vocabulary, **settings)


@pytest.fixture(params=[5 * 512, 2**25], ids=["small chunks", "large chunks"])
def chunked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "CHUNK_NUMBERS", request.param)
    monkeypatch.setattr(comparing, "CACHE_NUMBERS", 2 * 512)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("theirs", LAYOUTS)
@pytest.mark.parametrize("own", LAYOUTS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_live_teacher_s_are_the_definitions_in_the_order_given(
    own: Layout, theirs: Layout, temperature: float
) -> None:
    student, teacher = tiny_model("llama", seed=0), tiny_model("llama", seed=2, hidden=48)
    examples = shuffled(random_examples(9, 1))
    wanted = wanted_of(teacher, student, examples, temperature=temperature)
    scores = sequence_log_probs(LogProbModel(copy.deepcopy(teacher), theirs), examples, "fp32", 60, quiet)
    side = LiveTeacher(LogProbModel(teacher, theirs))
    found = found_of(LogProbModel(student, own), side, examples, temperature=temperature)
    assert_same(found, wanted, 1e-4)
    starts = response_starts(examples)
    sums = np.add.reduceat(found[SCORE].astype(np.float64), starts[:-1])
    np.testing.assert_allclose(sums, scores[:, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("own", "teachers"), [(512, 544), (544, 512), (544, 576)])
def test_ids_that_one_of_them_lacks_are_no_outcome(own: int, teachers: int) -> None:
    student, teacher = tiny_model("llama", seed=0, vocabulary=own), tiny_model("llama", seed=2, vocabulary=teachers)
    examples = random_examples(6, 1)
    wanted = wanted_of(teacher, student, examples, 512, 0.8)
    scores = sequence_log_probs(LogProbModel(teacher), examples, "fp32", 60, quiet)
    found = found_of(LogProbModel(student), LiveTeacher(LogProbModel(teacher)), examples, temperature=0.8)
    assert_same(found, wanted, 1e-4)
    # the score is over all of the teacher's ids
    sums = np.add.reduceat(found[SCORE].astype(np.float64), response_starts(examples)[:-1])
    np.testing.assert_allclose(sums, scores[:, 0], rtol=0, atol=1e-5)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("own", LAYOUTS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_stored_states_stand_for_the_teacher(own: Layout, precision: str) -> None:
    student, teacher = LogProbModel(tiny_model("llama", seed=0), own), LogProbModel(tiny_model("qwen2", seed=2))
    # as a stage has them: numbered in their order
    examples = [Example(row, e.prompt, e.responses) for row, e in enumerate(shuffled(random_examples(9, 1)))]
    states, sums = hidden_states(teacher, examples, precision, 40, quiet)
    np.testing.assert_allclose(sums, sequence_log_probs(teacher, examples, precision, 40, quiet), rtol=0, atol=1e-5)
    assert states.shape == (len(labels_of(examples)), 32) and states.dtype == torch.float32
    stored = StoredStates(teacher, states, response_starts(examples))
    teacher.causal_lm.model.register_forward_pre_hook(lambda *_: pytest.fail("read the teacher"))
    found = found_of(student, stored, examples, temperature=0.7, precision=precision)
    assert SCORE not in found
    fresh = LogProbModel(tiny_model("qwen2", seed=2))
    live = found_of(student, LiveTeacher(fresh), examples, temperature=0.7, precision=precision)
    tolerance = 1e-5 if precision == "fp32" else 0.05  # other batches round bf16 otherwise
    for name in FIELDS - set(IDS):
        np.testing.assert_allclose(found[name], live[name], rtol=0, atol=tolerance, err_msg=name)


def test_a_top_k_with_all_else_as_one_outcome_bounds_the_whole() -> None:
    student, teacher = LogProbModel(tiny_model("llama", seed=0)), LogProbModel(tiny_model("llama", seed=2))
    examples = random_examples(8, 1)
    p, q = (dense(tiny_model("llama", seed=seed), examples, 512, 1.0).exp() for seed in (2, 0))
    whole = found_of(student, LiveTeacher(teacher), examples)
    for k in (1, 5, 20, 512):
        ids, log_probs = top_log_probs(teacher, examples, k, 512, "fp32", 60, quiet)
        stored = StoredTopK(ids, log_probs, response_starts(examples), Support("tail", k))
        found = found_of(student, TopKTeacher(stored, whole["teacher_log_prob"]), examples)
        for name in ("teacher_log_prob", "student_log_prob", "teacher_top", "student_top"):
            np.testing.assert_allclose(found[name], whole[name], rtol=0, atol=1e-5, err_msg=name)
        for name, sign in {"forward_kl": 1, "reverse_kl": 1, "teacher_entropy": 1, "overlap": -1}.items():
            gap = sign * (whole[name] - found[name])
            assert gap.min() > -1e-4, name
            assert gap.max() > 0.01 if k < 512 else gap.max() < 1e-4, name
        # by hand: k + 1 outcomes of exact masses
        known = [rows.gather(-1, torch.from_numpy(ids).long()) for rows in (p, q)]
        a, b = (torch.cat([rows, (1 - rows.sum(-1, keepdim=True)).clamp(min=1e-9)], -1) for rows in known)
        np.testing.assert_allclose(found["forward_kl"], (a * (a / b).log()).sum(-1), rtol=0, atol=1e-4)


def test_micro_batches_do_not_change_the_values() -> None:
    student, teacher = LogProbModel(tiny_model("llama", seed=0)), LogProbModel(tiny_model("llama", seed=2), "padded")
    examples = shuffled(random_examples(12, 1))
    usual, other = (found_of(student, LiveTeacher(teacher), examples, batch_tokens=tokens) for tokens in (40, 10**6))
    for name, values in usual.items():
        np.testing.assert_allclose(values, other[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_is_no_distance_from_itself(layout: Layout) -> None:
    model = LogProbModel(tiny_model("llama", seed=0), layout)
    found = found_of(model, LiveTeacher(model), random_examples(9, 1), temperature=0.9)
    for name, wanted in {"forward_kl": 0.0, "reverse_kl": 0.0, "overlap": 1.0}.items():
        np.testing.assert_allclose(found[name], wanted, rtol=0, atol=1e-6)
    assert np.array_equal(found["teacher_top"], found["student_top"])


def test_no_random_number_is_drawn_and_ticks_go_to_the_end() -> None:
    model, examples = LogProbModel(tiny_model("llama", seed=0)), random_examples(6, 1)
    ticks: list[tuple[int, int]] = []
    torch.manual_seed(7)
    before = torch.get_rng_state()
    found_of(model, LiveTeacher(model), examples, tick=lambda done, total, note="": ticks.append((done, total)))
    assert torch.equal(torch.get_rng_state(), before)
    total = sum(example.tokens for example in examples)
    assert ticks[0] == (0, total) and ticks[-1] == (total, total) and len(ticks) > 2
