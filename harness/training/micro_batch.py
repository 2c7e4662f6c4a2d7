"""A micro-batch of a training: one forward pass of the policy, and all terms of a method's loss on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.logprobs.batching import Batch, Example
from harness.logprobs.model import ValuesOf
from harness.logprobs.targets import Target
from harness.methods import (
    DistributionInputs,
    DistributionSettings,
    Method,
    MethodSettings,
    SequenceInputs,
    Term,
    TokenInputs,
    TokenSettings,
)
from harness.methods.checking import called
from harness.training.frozen import Frozen


class Counts:
    """What sums over a step's examples are divided by: see Method.per."""

    def __init__(self, examples: Sequence[Example]) -> None:
        lengths = [len(response) for example in examples for response in example.responses]
        self.token, self.response, self.example = sum(lengths), len(lengths), len(examples)
        self._fresh = [example for example in examples if example.fresh is not None]

    def of(self, per: str) -> int:
        return int(getattr(self, per))

    def observed(self) -> dict[str, float]:
        """Of what the policy wrote itself: its share of the examples, the share of it that ended, and its mean
        length."""
        if not self._fresh:
            return {}
        lengths = [len(example.responses[example.fresh or 0]) for example in self._fresh]
        return {
            "fresh": len(self._fresh) / self.example,
            "ended": sum(example.ended for example in self._fresh) / len(self._fresh),
            "response_tokens": sum(lengths) / len(lengths),
        }


class MicroBatch:
    """Examples of one forward pass of the policy, and all terms of the loss on it. counts: of the whole step."""

    def __init__(
        self,
        part: Sequence[Example],
        batch: Batch,
        counts: Counts,
        method: Method,
        settings: MethodSettings,
        frozen: Frozen,
        progress: float,
        state: Mapping[str, float],
    ) -> None:
        self.part, self.batch, self.counts = part, batch, counts
        self.method, self.settings, self.frozen = method, settings, frozen
        self.shared: dict[str, Any] = {"roles": self.method.roles, "progress": progress, "state": state}
        self.lengths = self.batch.lengths()
        self.role = self.batch.owner % self.batch.k
        self.seen: dict[str, Tensor] = {}  # sums of label log-probs by role, as rows of distributions go by

    def loss(self, model: Any, autocast: Callable[[], Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Its share of the step's loss, and sums of what is observed. model: the LogProbModel, as it was prepared."""
        terms, levels = self.method.terms, self.method.levels()
        by_tokens, by_rows = bool({"sequence", "token"} & levels), "distribution" in levels
        with autocast():  # FSDP has none of its own
            tokens = self.frozen.tokens_of(self.part) if by_tokens and not self.frozen.sums else {}
            rows: list[ValuesOf] = []
            if by_rows:
                rows = [self._rows(self.frozen.target_of(self.part, self.batch.labels.device, self.method.reads))]
            found = model(self.batch, rows, by_tokens)
        log_probs, total = found if rows else (found, self.lengths.new_zeros(()))
        read: dict[str, Tensor] = {name: tokens[name] for name in self.method.reads if name in tokens}
        sequence = None
        if log_probs is not None:
            sequence = SequenceInputs(
                policy=self.batch.sum_by_response(log_probs),
                lengths=self.lengths,
                models=self.frozen.sums_of(self.part, self.batch, read),
                **self.shared,
            )
        for term in terms:
            if term.level == "sequence":
                assert sequence is not None
                total = total + self._scale(term) * called(self.method, term, sequence, self.settings).sum()
            elif term.level == "token":
                assert log_probs is not None
                losses = called(self.method, term, self._tokens(log_probs, tokens), self.settings)
                total = total + self._scale(term) * (losses * self._weights(term)).sum()
        return total, _observations(sequence, self.method) if sequence is not None else self.seen

    def _scale(self, term: Term) -> float:
        """What a term's sum over the micro-batch is multiplied by."""
        return term.weight(self.settings) / self.counts.of(self._per(term))

    def _per(self, term: Term) -> str:
        own = isinstance(self.settings, TokenSettings) and term.level != "sequence" and self.settings.per
        return own or term.per

    def _weights(self, term: Term, part: slice = slice(None)) -> Tensor:
        """Of each response token in `part`, [n]: so that each response's mean counts where `per` is response."""
        owner = self.batch.owner[part]
        if self._per(term) != "response":
            return torch.ones_like(owner, dtype=torch.float32)
        return 1 / self.lengths.flatten()[owner]

    def _tokens(self, log_probs: Tensor, tokens: Mapping[str, Tensor]) -> TokenInputs:
        return TokenInputs(
            policy=log_probs,
            sampled=self._sampled(log_probs.detach(), tokens),
            labels=self.batch.labels,
            row=self.batch.owner,
            role=self.role,
            models={name: tokens[name] for name in self.method.reads},
            **self.shared,
        )

    def _sampled(self, policy: Tensor, tokens: Mapping[str, Tensor]) -> Tensor:
        """[T]: of a fresh response under the policy that wrote it, of a stored one under the model that did."""
        if self.batch.k == 1 and all(example.fresh == 0 and example.sampled is None for example in self.part):
            return policy
        found, k = policy.clone(), self.batch.k
        for place in range(self.batch.examples * k):
            example, role = self.part[place // k], place % k
            here = self.batch.owner == place
            if example.fresh != role:
                found[here] = tokens[self.frozen.wrote[role]][here]
            elif example.sampled is not None:
                found[here] = torch.tensor(example.sampled, device=found.device)
        return found

    def _distributions(self, logits: Tensor, part: slice, target: Target) -> DistributionInputs:
        rows = logits if target.vocabulary is None else logits[:, : target.vocabulary]
        temperature = self.frozen.temperature
        policy = torch.log_softmax(rows if temperature == 1 else rows / temperature, -1)
        labels = self.batch.labels[part, None]
        if temperature == 1:
            said = policy.gather(-1, labels).squeeze(-1)
        else:
            said = rows.gather(-1, labels).squeeze(-1) - rows.logsumexp(-1)
        outcomes, models = target.outcomes(policy, part)
        return DistributionInputs(
            policy=outcomes,
            models=models,
            labels=self.batch.labels[part],
            label_log_probs=said,
            row=self.batch.owner[part],
            role=self.role[part],
            **self.shared,
        )

    def _rows(self, target: Target) -> ValuesOf:
        """All distribution-level terms, and the setting `nll`, of the logits of a chunk: [n] losses, scaled as they
        enter the step's loss."""
        terms = [term for term in self.method.terms if term.level == "distribution"]
        nll = self.settings.nll if isinstance(self.settings, DistributionSettings) else 0.0
        if nll:
            # what the teacher wrote, response by response
            written = [
                example.fresh != role and writer == "teacher"
                for example in self.part
                for role, writer in enumerate(self.frozen.wrote)
            ]
            taught = torch.tensor(written, device=self.batch.labels.device)

            def of_taught(inputs: DistributionInputs, settings: MethodSettings) -> Tensor:
                return -inputs.label_log_probs * taught[inputs.row]

            terms.append(Term("distribution", of_taught, terms[0].per, weight=lambda settings: nll))

        def values(logits: Tensor, part: slice) -> Tensor:
            inputs = self._distributions(logits, part, target)
            for place, name in enumerate(_log_prob_names(self.method)):
                own = (inputs.label_log_probs.detach() * (inputs.role == place)).sum()
                self.seen[name] = self.seen.get(name, 0) + own
            losses = [
                self._scale(term) * self._weights(term, part) * called(self.method, term, inputs, self.settings)
                for term in terms
            ]
            return torch.stack(losses).sum(0)

        return values


def _log_prob_names(method: Method) -> list[str]:
    """What the mean log-prob of a response is called, role by role."""
    return ["log_prob"] if len(method.roles) == 1 else [f"log_prob_{role}" for role in method.roles]


def observed_names(method: Method) -> list[str]:
    """Names of what is observed beside the loss."""
    names = _log_prob_names(method)
    if "reference" in method.reads and method.levels() & {"sequence", "token"}:
        names += ["shift" if len(method.roles) == 1 else f"shift_{role}" for role in method.roles]
        names += ["margin", "accuracy"] if len(method.roles) == 2 else []
    return names


def _observations(inputs: SequenceInputs, method: Method) -> dict[str, Tensor]:
    """What users look at, summed over examples: log-probs of the responses, their shifts from the reference, and of two
    roles the margin between these. Both log-probs falling is normal in DPO: only their margin is trained."""
    policy = inputs.policy.detach()
    columns = [*policy.T]
    if "reference" in inputs.models:
        shift = policy - inputs.reference
        columns += [*shift.T]
        if len(inputs.roles) == 2:
            margin = shift[:, 0] - shift[:, 1]
            columns += [margin, (margin > 0).float()]
    return {name: column.sum() for name, column in zip(observed_names(method), columns, strict=True)}
