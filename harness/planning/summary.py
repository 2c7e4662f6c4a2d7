"""What `plan` prints: the stages with what they cost, and what the whole needs of this machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from harness.core.files import canonical_hash
from harness.core.units import in_bytes, in_minutes
from harness.judging import Judging
from harness.models import memory
from harness.planning.cost import Cost, Costs, Group
from harness.planning.machine import free_disk, gpu_memory, main_memory
from harness.planning.whole import Planned
from harness.run.jobs import Job, JudgeJob
from harness.run.road import Road
from harness.store import Store


def judging_bills(costs: Costs) -> list[str]:
    """What `judging_bill` says of each way in which judges are asked: the runs of a study may have several."""
    ways: dict[str, Judging] = {}
    asked: dict[str, list[tuple[Job, Cost | None]]] = {}
    for job, cost in costs:
        if isinstance(job, JudgeJob):
            way = canonical_hash(job.judging.model_dump(mode="json"))
            ways[way] = job.judging
            asked.setdefault(way, []).append((job, cost))
    return [line for way, judging in ways.items() for line in judging_bill(asked[way], judging)]


def judging_bill(costs: Costs, judging: Judging) -> list[str]:
    """About what each judge that is paid by tokens is asked, one line each."""
    lines = []
    judged = [(job.judge, cost) for job, cost in costs if isinstance(job, JudgeJob) and cost]
    for judge in judging.judges:
        paid = [cost for name, cost in judged if name == judge.name and cost.calls]
        if paid:
            tokens, reply, longest = (
                sum(getattr(cost, what) for cost in paid) for what in ("tokens", "reply_tokens", "longest_reply_tokens")
            )
            prices = judge.prices
            line = f"judge {judge.name}: {sum(cost.calls for cost in paid):,} calls, about {tokens:,} tokens in and "
            line += f"{reply:,} out, {prices.in_words(tokens, reply)}"
            if prices.cost(1, 1) is None:
                line += " (set judge.prices.input and judge.prices.output)"
            if longest > reply:
                line += f"; without log-probs up to {longest:,} out, {prices.in_words(tokens, longest)}"
            lines.append(f"{line}; what its cache has is free")
    return lines


def stage_table(roads: Sequence[Road], groups: Iterable[Group]) -> Table:
    pairs = dict.fromkeys(f"{road.pair.student}, taught by {road.pair.teacher}" for road in roads)
    judges = dict.fromkeys(road.config.judge.name for road in roads)
    found = Table(title=f"{'; '.join(pairs)}; judge: {'; '.join(judges)}")
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


def summary(road: Planned, costs: Costs, store: Store) -> list[str]:
    """In a few lines: time, memory and disk of what is to do."""
    to_do = [cost for _, cost in costs if cost]
    tokens, seconds = sum(cost.tokens for cost in to_do), sum(cost.seconds or 0 for cost in to_do)
    unknown = any(cost.seconds is None for cost in to_do)
    rest = " and stages whose speed on this model is not known yet" if unknown else ""
    lines = [
        f"{len(to_do)} of {len(road.jobs)} stages to do: at most {tokens:,} tokens, about {in_minutes(seconds)}{rest}. "
        "Estimates: responses are counted at their limit unless they are there; speeds are those of this store's last "
        "stages of the kind, else (~) of the model's size and what this machine was measured to compute and read a "
        "second, else unknown."
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
        large = {job.stage: job.less_memory for job, cost in costs if cost and cost.memory and cost.memory > total}
        lines += [f"warning: {stage} does not fit in {in_bytes(total)}: {advice}" for stage, advice in large.items()]
    return lines


def _disk(road: Planned, to_do: Sequence[Cost], store: Store) -> list[str]:
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


def to_download(road: Planned) -> int:
    """Bytes of the hub's models that are not here yet and whose size is known: in bf16, as published."""
    return sum(memory.BF16 * shape.parameters for digest, shape in road.shapes.items() if digest.startswith("hub:"))
