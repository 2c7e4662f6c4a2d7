"""What `plan` prints: the stages with what they cost, and what the whole needs of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from harness.estimate import Cost, Group
from harness.jobs import AnyJob
from harness.needs import to_download
from harness.pipeline import Road
from harness.store import Store
from harness.store_care import in_bytes

# What makes a stage of the kind need less memory.
SMALLER = "name a smaller model"
READ = f"lower scoring_batch_tokens, or {SMALLER}"
LESS = {
    "train": "lower training.micro_batch_tokens, set training.gradient_checkpointing=true or training.lora_rank=16, or "
    "name a smaller student",
    "respond": f"lower generation_batch_size or the sampling's max_new_tokens, or {SMALLER}",
    "score": READ,
    "distributions": READ,
}
Costs = Sequence[tuple[AnyJob, Cost | None]]


def table(road: Road, groups: Iterable[Group]) -> Table:
    found = Table(title=f"{road.pair.student}, taught by {road.pair.teacher}; judge: {road.config.judge.name}")
    for name in ("stages", "there", "to do", "tokens", "seconds", "GPU memory" if gpu_memory() else "memory"):
        found.add_column(name, justify="left" if name == "stages" else "right")
    for group in groups:
        found.add_row(
            group.label,
            str(group.there or ""),
            str(group.to_do or ""),
            f"{group.tokens:,}" if group.tokens else "",
            _seconds(group),
            in_bytes(group.memory) if group.to_do and group.memory is not None else "",
        )
    return found


def _seconds(group: Group) -> str:
    if not group.to_do:
        return ""
    if group.seconds is None:
        return "unknown"
    return f"{'~' if group.computed else ''}{group.seconds:,.0f}"


def summary(road: Road, costs: Costs, store: Store) -> list[str]:
    """In a few lines: time, memory and disk of what is to do."""
    to_do = [cost for _, cost in costs if cost]
    tokens, seconds = sum(cost.tokens for cost in to_do), sum(cost.seconds or 0 for cost in to_do)
    # a judge's time is not counted among what is unknown of models
    unknown = any(cost.seconds is None for cost in to_do)
    rest = " and stages whose speed on this model is not known yet" if unknown else ""
    lines = [
        f"{len(to_do)} of {len(road.jobs)} stages to do: at most {tokens:,} tokens, about {in_minutes(seconds)}{rest}. "
        "Estimates: responses are counted at their limit unless they are there; speeds are those of this store's last "
        "stages of the kind, else (~) of the model's size and what this machine was measured to compute and read a "
        "second, else of a two-core machine with the embedded pair."
    ]
    return lines + _memory(costs) + _disk(road, to_do, store)


def peak_memory(costs: Costs) -> tuple[int, str] | None:
    """The most that a stage to do needs of its device, and which; None where none is known to need any."""
    known = [(cost.memory, job.label) for job, cost in costs if cost and cost.memory]
    return max(known, default=None)


def _memory(costs: Costs) -> list[str]:
    peak, gpu = peak_memory(costs), gpu_memory()
    if peak is None:
        return []
    kind, total = ("GPU memory", gpu) if gpu else ("memory", main_memory())
    lines = [f"{kind}: at most about {in_bytes(peak[0])} ({peak[1]}){f'; {in_bytes(total)} here' if total else ''}"]
    if total:
        stages = dict.fromkeys(job.stage for job, cost in costs if cost and cost.memory and cost.memory > total)
        lines += [f"warning: {stage} does not fit in {in_bytes(total)}: {LESS.get(stage, SMALLER)}" for stage in stages]
    return lines


def _disk(road: Road, to_do: Sequence[Cost], store: Store) -> list[str]:
    made, scratch, fetched = disk_needed(to_do), max((cost.scratch for cost in to_do), default=0), to_download(road)
    free = free_disk(store.root)
    line = f"disk: about {in_bytes(made)} to be made in {store.root}, up to {in_bytes(scratch)} more while training"
    line += f"; {in_bytes(fetched)} to be downloaded" if fetched else ""
    lines = [f"{line}; {in_bytes(free)} free"]
    if made + scratch > free:
        lines.append("warning: that does not fit on the store's disk; see `store gc`, or --set store=DIR for another")
    return lines


def disk_needed(to_do: Iterable[Cost]) -> int:
    """Bytes that stay in the store."""
    return sum(cost.disk for cost in to_do)


def in_minutes(seconds: float) -> str:
    """A time for people."""
    if 0 < seconds < 90:
        return "1 minute"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def free_disk(folder: Path) -> int:
    """Of the disk that a folder lies on, or would."""
    here = folder.absolute()
    while not here.exists():
        here = here.parent
    return shutil.disk_usage(here).free


def main_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # no such name there
        return None


def gpu_memory() -> int | None:
    """Of the first GPU; None where there is none."""
    import torch

    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(0).total_memory)
