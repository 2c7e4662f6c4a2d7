"""The harness's own loop on the same work."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.speed.workload import BETA_REFERENCE, BETA_TEACHER, Workload
from harness.core.allocator import keep_freed_memory
from harness.core.records import METRICS, read_jsonl
from harness.generation.protocol import Sampling
from harness.logprobs.batching import Example
from harness.logprobs.model import LogProbModel
from harness.logprobs.scoring import sequence_log_probs
from harness.logprobs.targets import Support
from harness.methods import DistributionSettings, FreshSettings, Method, MethodSettings, SequenceInputs, methods
from harness.methods.method import WRITERS
from harness.models import loading
from harness.training import loop
from harness.training.data import Data, Fresh, Stored, Wanted, Write, Written
from harness.training.frozen import Frozen, Local
from harness.training.sampling import Writer

NAME = "dadpo-harness"
BATCH_SIZE = 64  # rows that are sampled at once, as a run has it by default
# so that the peer and this side compute the same; methods.py takes each method's own
SAME = {
    "ddpo": {"beta": BETA_REFERENCE},
    "dadpo": {"beta_reference": BETA_REFERENCE, "beta_teacher": BETA_TEACHER},
    "gkd": {"temperature": 1.0, "sampling_temperature": 1.0},
}


def _method(work: Workload) -> Method:
    """The method; of responses of other roles than its own, their plain negative log-likelihood (SFT's loss)."""
    method = methods.get(work.method)
    k = len(work.rows[0].responses)
    if len(method.roles) == k:
        return method

    def loss(inputs: SequenceInputs, settings: Any) -> torch.Tensor:
        return -inputs.policy.sum(1)

    return replace(method, loss=loss, responses=tuple((f"response{i}", "teacher", i) for i in range(k)))


def _settings(work: Workload, method: Method) -> MethodSettings:
    given: dict[str, Any] = {
        "learning_rate": work.learning_rate,
        "batch_size": work.rows_a_step,
        "micro_batch_tokens": work.micro_batch_tokens,
        "checkpoint_steps": 10**6,
        "precision": work.precision,
        "compile": work.compile,
    }
    if work.fresh_share is not None:
        given |= SAME.get(work.method, {})
        if issubclass(method.settings, FreshSettings):
            given["fresh_share"] = work.fresh_share
    return method.settings.model_validate(given)


@dataclass
class _Writing:
    """Has the policy write, and counts the seconds of it; where responses are given, they are what it wrote."""

    write: Write
    given: bool
    seconds: float = 0.0

    def __call__(self, wanted: Sequence[Wanted], with_log_probs: bool) -> list[Written]:
        if self.given:
            return [Written(list(one.example.responses[0]), None, True) for one in wanted]
        began = time.monotonic()
        found = self.write(wanted, with_log_probs)
        self.seconds += time.monotonic() - began
        return found


def train(work: Workload, begin: Callable[[], None], end: Callable[[float], None]) -> dict[str, Any]:
    """Train through the workload; the losses and gradient norms of its steps, and the seconds of the reference's
    log-probs. `end` is told the seconds of the step that the policy wrote in."""
    keep_freed_memory()
    method = _method(work)
    settings = _settings(work, method)
    # the schedule is the one thing that the peer is not asked to share
    loop.learning_rate_at = lambda *_: work.learning_rate
    model = LogProbModel(loading.load_model(Path(work.model), torch.float32))
    examples = [Example(i, row.prompt, tuple(row.responses)) for i, row in enumerate(work.rows)]
    share = method.fresh_share(settings)
    began = time.monotonic()
    sums = _sums(work, method, model, examples, settings) if "sequence" in method.levels() and not share else {}
    seconds = time.monotonic() - began
    by_rows = settings if isinstance(settings, DistributionSettings) else DistributionSettings()
    frozen = Frozen(
        sums=sums,
        readers={} if sums and method.levels() == {"sequence"} else _readers(work, method, examples),
        support=Support(by_rows.support, by_rows.top_k, by_rows.top_k_of),
        temperature=by_rows.temperature,
        wrote=tuple(WRITERS[who] for _, who, _ in method.written(settings)),
    )
    data: Data = Stored(examples, work.step_rows)
    writing = None
    if share:
        assert isinstance(settings, FreshSettings)
        writing = _Writing(_writer(work, model, settings), work.given)
        data = Fresh(examples, work.step_rows, 0, share, settings.fresh_every, settings.samples, 0, writing)
    started = False

    def tick(done: int, total: int, note: str = "") -> None:  # called before each step, and once after the last
        nonlocal started
        if started:
            end(writing.seconds if writing else 0.0)
        started = True
        if done < total:
            begin()
            if writing:
                writing.seconds = 0.0

    folder = Path(tempfile.mkdtemp())
    loop.train(model, data, frozen, method, settings, 0, folder, tick)
    steps = [row for _, row in read_jsonl(folder / METRICS)]
    losses, norms = ([float(row[name]) for row in steps] for name in ("loss", "grad_norm"))
    return {"losses": losses, "grad_norms": norms, "reference_seconds": seconds}


def _sums(
    work: Workload, method: Method, model: LogProbModel, examples: Sequence[Example], settings: MethodSettings
) -> dict[str, NDArray[np.float32]]:
    """The reference's sums of log-probs, and the teacher's, which are made up."""
    if not method.reads:
        return {}
    sums = sequence_log_probs(model, examples, work.precision, settings.micro_batch_tokens, lambda *_: None)
    made = {"reference": sums, "teacher": sums + np.array([row.teacher for row in work.rows])}
    return {name: made[name].astype(np.float32) for name in method.reads}


def _readers(work: Workload, method: Method, examples: Sequence[Example]) -> dict[str, Local]:
    """The frozen models that are read as the training goes. Where the teacher is shown a demonstration, it is the
    student itself, with the stored response behind the prompt."""

    def shown(example: Example) -> Example:
        return replace(example, prompt=[*example.prompt, *examples[example.index].responses[0]])

    demonstrated = method.teacher_sees is not None
    found: dict[str, Local] = {}
    for name in method.reads:
        own = name == "reference" or demonstrated
        model = LogProbModel(loading.reading_model(Path(work.model if own else work.teacher)))
        seen = {"seen": shown} if demonstrated and name == "teacher" else {}
        found[name] = Local(model, len(model.head), **seen)
    return found


def _writer(work: Workload, model: LogProbModel, settings: FreshSettings) -> Writer:
    """Of responses that end where their length is reached, and nowhere before."""
    sampling = Sampling(temperature=settings.sampling_temperature, top_p=1.0, max_new_tokens=work.length)
    return Writer(model, sampling, (), len(model.head), BATCH_SIZE, settings, 0)
