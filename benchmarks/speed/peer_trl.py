"""TRL's trainers on the same work. Runs only where TRL is installed (a development dependency).

Where the policy writes the responses, its trainers call `generate`; what that takes is told apart. Its samples are held
to one length from outside, by the trainer's own generation settings.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import trl
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from transformers.generation import GenerateDecoderOnlyOutput
from trl.experimental.gkd import GKDConfig, GKDTrainer
from trl.experimental.iw_opd import IWOPDConfig, IWOPDTrainer

from benchmarks.speed.workload import BETA_REFERENCE, BETA_TEACHER, Row, Workload

NAME = f"trl {trl.__version__}"


class _Gate(TrainerCallback):  # type: ignore[misc]
    """Every step waits for its turn and says when it is done."""

    def __init__(self, begin: Callable[[], None], end: Callable[[float], None], writing: _Writing) -> None:
        self.begin, self.end, self.writing = begin, end, writing

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.begin()
        self.writing.seconds = 0.0

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.end(self.writing.seconds)


class _Writing:
    """In the place of the policy's `generate`: the same, timed; or the rows' own responses, where they are given.

    seconds: since the step began."""

    def __init__(self, model: Any, work: Workload) -> None:
        self.generate, self.work, self.seconds, self.steps = model.generate, work, 0.0, 0
        model.generate = self

    def __call__(self, *, input_ids: torch.Tensor, **asked: Any) -> Any:
        began = time.monotonic()
        found = self._given(input_ids, asked) if self.work.given else self.generate(input_ids, **asked)
        self.seconds += time.monotonic() - began
        self.steps += 1
        return found

    def _given(self, prompts: torch.Tensor, asked: dict[str, Any]) -> Any:
        rows = [self.work.rows[place] for place in self.work.step_rows[self.steps]]
        responses = torch.tensor([row.responses[0] for row in rows], device=prompts.device)
        sequences = torch.cat([prompts, responses], 1)
        return GenerateDecoderOnlyOutput(sequences=sequences) if asked.get("return_dict_in_generate") else sequences


def _in_order(trainer: type) -> type:
    """The trainer, reading its data in the given order, already tokenised."""

    class InOrder(trainer):  # type: ignore[misc]
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(self.train_dataset if dataset is None else dataset)

    return InOrder


def train(work: Workload, begin: Callable[[], None], end: Callable[[float], None]) -> dict[str, Any]:
    """Train through the workload; the losses and gradient norms of its steps, and the seconds of the reference's
    log-probs. `end` is told the seconds of the step that the policy wrote in."""
    model = AutoModelForCausalLM.from_pretrained(work.model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(work.model)
    common: dict[str, Any] = {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": work.rows_a_step,
        "num_train_epochs": 1,
        "learning_rate": work.learning_rate,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": work.precision == "bf16",
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "use_cpu": not torch.cuda.is_available(),
    }
    make = {"sft": _sft, "kd": _kd, "gkd": _gkd, "rkl": _rkl, "opd": _opd}.get(work.method, _dpo)
    trainer, seconds = make(work, model, tokenizer, common)
    trainer.add_callback(_Gate(begin, end, _Writing(model, work)))
    trainer.train()
    steps = [row for row in trainer.state.log_history if "loss" in row]
    losses, norms = ([float(row[name]) for row in steps] for name in ("loss", "grad_norm"))
    return {"losses": losses, "grad_norms": norms, "reference_seconds": seconds}


def _dpo(work: Workload, model: Any, tokenizer: Any, common: dict[str, Any]) -> tuple[Any, float]:
    """DPOTrainer with cached reference log-probs. It has no daDPO, but daDPO is DPO at β1+β2 with a mixed reference
    (docs/methods/dadpo.md, 2), so the same trainer is given that mixture."""
    mixed = work.method == "dadpo"
    spent = 0.0

    class Trainer(_in_order(trl.DPOTrainer)):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset  # token ids already

        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            nonlocal spent
            began = time.monotonic()
            found = super()._precompute_ref_logps(dataset, name, batch_size)
            spent = time.monotonic() - began
            if not mixed:
                return found
            weight = BETA_TEACHER / (BETA_REFERENCE + BETA_TEACHER)
            offsets = np.array([row.teacher for row in work.rows])
            for column, name_of in enumerate(("ref_chosen_logps", "ref_rejected_logps")):
                values = np.array(found[name_of]) + weight * offsets[:, column]
                found = found.remove_columns(name_of).add_column(name_of, values.astype(np.float32))
            return found.with_format("python")

    args = trl.DPOConfig(
        **common,
        beta=BETA_REFERENCE + BETA_TEACHER if mixed else BETA_REFERENCE,
        max_length=None,
        precompute_ref_log_probs=True,
    )
    rows = [
        {"prompt_ids": row.prompt, "chosen_ids": row.responses[0], "rejected_ids": row.responses[1]}
        for row in work.rows
    ]
    trainer = Trainer(model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    return trainer, spent


def _labelled(work: Workload) -> list[dict[str, list[int]]]:
    return [
        {"input_ids": row.prompt + row.responses[0], "labels": [-100] * len(row.prompt) + row.responses[0]}
        for row in work.rows
    ]


def _sft(work: Workload, model: Any, tokenizer: Any, common: dict[str, Any]) -> tuple[Any, float]:
    """SFTTrainer with its packing collator: a step's examples in one row, without padding."""
    args = trl.SFTConfig(**common, padding_free=True, packing=False, max_length=None, shuffle_dataset=False)
    data = Dataset.from_list(_labelled(work))
    trainer = _in_order(trl.SFTTrainer)(model=model, args=args, train_dataset=data, processing_class=tokenizer)
    return trainer, 0.0


def _kd(work: Workload, model: Any, tokenizer: Any, common: dict[str, Any]) -> tuple[Any, float]:
    """GKDTrainer on fixed responses (lmbda 0) with the forward KL (beta 0)."""

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in rows)

        def padded(name: str, value: int) -> torch.Tensor:
            return torch.tensor([row[name] + [value] * (width - len(row[name])) for row in rows])

        mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows])
        return {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100), "attention_mask": mask}

    args = GKDConfig(**common, lmbda=0.0, beta=0.0, temperature=1.0, max_length=None)
    trainer = _in_order(GKDTrainer)(
        model=model,
        teacher_model=_teacher(work),
        args=args,
        data_collator=collate,
        train_dataset=Dataset.from_list(_labelled(work)),
        processing_class=tokenizer,
    )
    return trainer, 0.0


def _teacher(work: Workload) -> Any:
    return AutoModelForCausalLM.from_pretrained(work.teacher, dtype=torch.float32)


def _written_by_policy(rows: list[Row]) -> dict[str, torch.Tensor]:
    """A batch as TRL's collators make it, padded on the left. Its stored responses count: these trainers divide the
    sums over what the policy writes by the number of stored tokens, which is the same here."""
    sequences = {
        "input_ids": [row.prompt + row.responses[0] for row in rows],
        "labels": [[-100] * len(row.prompt) + row.responses[0] for row in rows],
        "attention_mask": [[1] * row.tokens for row in rows],
        "prompts": [row.prompt for row in rows],
        "prompt_attention_mask": [[1] * len(row.prompt) for row in rows],
    }

    def padded(name: str) -> torch.Tensor:
        width, value = max(map(len, sequences[name])), -100 if name == "labels" else 0
        return torch.tensor([[value] * (width - len(ids)) + ids for ids in sequences[name]])

    return {name: padded(name) for name in sequences}


def _by_number(work: Workload) -> tuple[Dataset, Callable[[list[dict[str, int]]], dict[str, torch.Tensor]]]:
    """The rows as their numbers, and what makes a batch of some."""
    numbers = Dataset.from_list([{"row": number} for number in range(len(work.rows))])
    return numbers, lambda rows: _written_by_policy([work.rows[row["row"]] for row in rows])


def _of_one_length(trainer: Any, work: Workload) -> Any:
    """Nothing that the policy writes ends before the rows' own responses do."""
    trainer.generation_config.min_new_tokens = work.length
    return trainer


def _of_stored_rows(kind: Any, args: Any, work: Workload, model: Any, tokenizer: Any) -> Any:
    """A trainer that takes rows with stored responses, and has the policy write others."""
    data, collate = _by_number(work)
    trainer = _in_order(kind)(
        model=model,
        teacher_model=_teacher(work),
        args=args,
        data_collator=collate,
        train_dataset=data,
        processing_class=tokenizer,
    )
    return _of_one_length(trainer, work)


def _gkd(work: Workload, model: Any, tokenizer: Any, common: dict[str, Any]) -> tuple[Any, float]:
    """GKDTrainer on what the policy writes alone (lmbda 1), with the JSD in the middle (beta .5), all at temperature 1:
    whatever it is, the loss of this trainer is at 1."""
    args = GKDConfig(
        **common, lmbda=1.0, beta=0.5, temperature=1.0, max_length=None, max_new_tokens=work.length, seq_kd=False
    )
    return _of_stored_rows(GKDTrainer, args, work, model, tokenizer), 0.0


def _rkl(work: Workload, model: Any, tokenizer: Any, common: dict[str, Any]) -> tuple[Any, float]:
    """DistillationTrainer: the reverse KL (beta 1) over the whole vocabulary."""

    class Trainer(_in_order(trl.DistillationTrainer)):  # type: ignore[misc]
        def _tokenize_prompts(self, prompts: Any) -> Any:
            return prompts, None, {}  # token ids already

    args = trl.DistillationConfig(**common, beta=1.0, temperature=1.0, max_completion_length=work.length)
    trainer = Trainer(
        model=model,
        teacher_model=_teacher(work),
        args=args,
        train_dataset=Dataset.from_list([{"prompt": row.prompt} for row in work.rows]),
        processing_class=tokenizer,
    )
    return _of_one_length(trainer, work), 0.0


def _opd(work: Workload, model: Any, tokenizer: Any, common: dict[str, Any]) -> tuple[Any, float]:
    """IWOPDTrainer with equal weights (gamma 0), which makes it on-policy distillation."""
    args = IWOPDConfig(
        **common,
        iw_opd_gamma=0.0,
        top_p=1.0,
        max_length=None,
        max_completion_length=work.length,
    )
    return _of_stored_rows(IWOPDTrainer, args, work, model, tokenizer), 0.0
