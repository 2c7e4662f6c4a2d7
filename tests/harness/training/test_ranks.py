"""On several ranks a training is the one that a single process makes: replicated, sharded, and through the command."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.utils import DistributedType
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import spawn

from baselines.kd import kd_loss
from harness.logprobs.batching import Example, Layout, collate
from harness.logprobs.model import LogProbModel
from harness.logprobs.targets import FULL, DenseTarget
from harness.methods import methods
from harness.training import loop
from harness.training.data import Stored, plan_steps
from harness.training.frozen import Local
from harness.training.loop import CHECKPOINT, shares
from tests.conftest import Run
from tests.harness.logprobs.rows import values_of
from tests.harness.training.on_policy import PREFERENCE, ROWS, TOKENS
from tests.harness.training.trainings import (
    KINDS,
    ONE_BY_ONE,
    PAIRS,
    RESPONSES,
    VOCABULARY,
    InterruptionError,
    Trained,
    apart,
    interrupt_at,
    new_student,
    same_weights,
    signals,
    teacher,
    train,
    whole,
)
from tests.waiting import until

RANKS = 2
# five steps: the last one has an example for one rank only, or two for one and one for the other
ONE_LEFT, THREE_LEFT = 33, 35

# ---- the shares


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("budget", [ONE_BY_ONE, 40, 10**6])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 17])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_shares_hold_every_example_once_in_as_many_micro_batches_on_each_rank(
    ranks: int, count: int, budget: int, layout: Layout
) -> None:
    examples = PAIRS[:count]
    parts = shares(examples, ranks, budget, layout)
    assert len(parts) == ranks
    assert len({len(own) for own in parts}) == 1
    found = [example.index for own in parts for part in own for example in part]
    assert sorted(found) == list(range(count))
    assert parts == shares(list(reversed(examples)), ranks, budget, layout)  # whatever order they come in
    for own in parts:
        assert sum(map(len, own)) in (count // ranks, -(-count // ranks))
        assert [bool(part) for part in own] == sorted((bool(part) for part in own), reverse=True)
        for part in own:
            lengths = [length for example in part for length in example.rows(layout)]
            size = sum(lengths) if layout == "packed" else len(lengths) * max(lengths, default=0)
            assert size <= budget or len(part) == 1


def test_shares_of_ranks_are_of_a_size() -> None:
    sizes = [sum(example.tokens for part in own for example in part) for own in shares(PAIRS, 4, 10**6, "packed")]
    assert max(sizes) - min(sizes) <= max(example.tokens for example in PAIRS)


# ---- ranks: one pair of processes trains all of the cases below

Case = dict[str, Any]
FIVE_STEPS: Case = {"batch_size": 8, "rows": ONE_LEFT}
CASES: dict[str, Case] = {
    **{kind: {"kind": kind, **FIVE_STEPS} for kind in KINDS},
    **{f"{kind}-one-by-one": {"kind": kind, **FIVE_STEPS, "micro_batch_tokens": ONE_BY_ONE} for kind in KINDS},
    "uneven": {"kind": "dadpo", "batch_size": 8, "rows": THREE_LEFT, "micro_batch_tokens": ONE_BY_ONE},
    "padded": {"kind": "dadpo", **FIVE_STEPS, "micro_batch_tokens": 60, "layout": "padded"},
    "recomputed": {"kind": "dadpo", **FIVE_STEPS, "micro_batch_tokens": 60, "gradient_checkpointing": True},
    "bf16": {"kind": "dadpo", **FIVE_STEPS, "micro_batch_tokens": ONE_BY_ONE, "precision": "bf16"},
    "bf16-kd": {"kind": "kd", **FIVE_STEPS, "micro_batch_tokens": ONE_BY_ONE, "precision": "bf16"},
    "adapter": {"kind": "dadpo", **FIVE_STEPS, "micro_batch_tokens": 60, "lora_rank": 4, "learning_rate": 1e-2},
}
FRESH_CASES: dict[str, Case] = {
    "fresh-tokens": {"kind": TOKENS, **FIVE_STEPS, "fresh_every": 3},
    "fresh-bf16": {"kind": TOKENS, **FIVE_STEPS, "precision": "bf16", "micro_batch_tokens": ONE_BY_ONE},
    "fresh-rows": {"kind": ROWS, **FIVE_STEPS, "fresh_share": 0.5, "samples": 2, "nll": 0.1},
    "fresh-pairs": {"kind": PREFERENCE, **FIVE_STEPS},
    "fresh-budget": {"kind": TOKENS, **FIVE_STEPS, "tokens": 330, "warmup_ratio": 0.3, "fresh_every": 3},
    "fresh-adapter": {"kind": ROWS, **FIVE_STEPS, "lora_rank": 4, "learning_rate": 1e-2},
}
CASES |= FRESH_CASES
SHARDED_CASES = ["sft", "kd-one-by-one", "dadpo-one-by-one", "adapter", "bf16", "bf16-kd"]
STOP = 2
RESUMED = {
    "dadpo": "resumed",
    "fresh-tokens": "fresh resumed",
    "fresh-budget": "budget resumed",
}  # what one process began, and two go on with


def in_ranks(rank: int, root: Path) -> None:
    """What each rank does, and leaves what it found."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}  # accelerate wants to see them
    os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS), **address})
    # they meet in a file instead: a port that is free now may be another's by then
    meeting = f"file://{root / 'meeting'}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=RANKS)
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name, case in CASES.items():
        found[name] = outcome(train(work=root / name, **case))
    for name in RESUMED:
        found[RESUMED[name]] = outcome(train(work=root / RESUMED[name], **CASES[name]))
    found["ranks"] = (loop.ranks(), loop.is_main_process())
    found["interrupted"] = interrupted(root / "interrupted")
    found["broken"] = error_of(root / "broken")
    with mock.patch.object(loop, "Accelerator", sharding):
        for name in SHARDED_CASES:
            found[f"sharded {name}"] = outcome(train(work=root / f"sharded {name}", **CASES[name]))
        found["sharded resumed"] = outcome(train(work=root / "sharded resumed", **CASES["dadpo"]))
    found["passes"] = {what: sharded_pass(what, rank) for what in ("sequence", "token")}
    found["round trip"] = round_trip(root / "round trip", rank)
    torch.save(found, root / f"found-{rank}.pt")
    torch.distributed.destroy_process_group()


def outcome(done: Trained) -> dict[str, Any]:
    sharded = done.whole is not None
    weights = done.whole if sharded else {f"causal_lm.{name}": value for name, value in done.weights.items()}
    # only the first rank writes metrics: what another reads of them may lack the last line
    modules = dict(done.model.named_modules())
    return {
        **{name: getattr(done, name) for name in ("losses", "metrics", "gradients", "seeds")},
        "weights": weights,
        "text": [[(one.index, one.fresh, [list(ids) for ids in one.responses]) for one in step] for step in done.steps],
        "units": [name for name, module in modules.items() if isinstance(module, FSDPModule)],
        "tied": done.model.head is done.model.causal_lm.get_input_embeddings().weight,
    }


def interrupted(work: Path) -> bool:
    try:
        train(work=work, tick=interrupt_at(STOP), checkpoint_steps=1, **CASES["dadpo"])
    except InterruptionError:
        return True
    return False


def error_of(work: Path) -> str:
    """A loss that is not finite in one rank's share."""
    method = methods.get("sft")
    first = plan_steps(RESPONSES[:8], 8, 1, 0)[0]
    longest = max(first, key=lambda row: (RESPONSES[row].tokens, -row))

    def loss(inputs: Any, settings: Any) -> torch.Tensor:
        broken = inputs.lengths[:, 0] == len(RESPONSES[longest].responses[0])
        return torch.where(broken, torch.nan, -inputs.policy[:, 0])

    try:
        train(dataclasses.replace(method, loss=loss), work, rows=8, batch_size=8)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def shard(model: LogProbModel) -> LogProbModel:
    """Each decoder layer, and what is left."""
    mesh = init_device_mesh("cpu", (RANKS,))
    for layer in model.causal_lm.model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def sharding(*arguments: Any, mixed_precision: str, **named: Any) -> Accelerator:
    """What accelerate makes of `fsdp_version: 2` on a GPU; on a CPU it leaves its plug-in aside."""
    accelerator = Accelerator(*arguments, mixed_precision=mixed_precision, **named)
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=True
    )
    if mixed_precision != "no":
        plugin.set_mixed_precision(mixed_precision)
    accelerator.state.distributed_type, accelerator.state.fsdp_plugin = DistributedType.FSDP, plugin
    accelerator.device_placement = False
    return accelerator


def loss_of(model: LogProbModel, examples: list[Example], what: str) -> torch.Tensor:
    batch = collate(examples)
    if what == "sequence":
        sums = batch.sum_by_response(model(batch))
        return -torch.nn.functional.logsigmoid(0.1 * (sums[:, 0] - sums[:, 1])).sum()
    loss = values_of(kd_loss, DenseTarget({"teacher": Local(teacher(), VOCABULARY).rows(examples, 1.0)}, FULL))
    _, total = model(batch, [loss], labels=False)
    return total


def sharded_pass(what: str, rank: int) -> dict[str, Any]:
    """Loss and gradients of eight examples, four on each rank."""
    model = shard(new_student())
    kinds = {type(parameter) for parameter in model.parameters()}
    shares = all(parameter.to_local().numel() < parameter.numel() for parameter in model.parameters())
    loss = loss_of(model, PAIRS[rank:8:RANKS], what)
    loss.backward()
    total = loss.detach().clone()
    torch.distributed.all_reduce(total)
    return {
        "of DTensor alone": all(issubclass(kind, DTensor) for kind in kinds) and shares,
        "sharded": (loop._sharded(model), loop._sharded(new_student())),
        "loss": total.item(),
        "gradients": {name: RANKS * whole(p.grad) for name, p in model.named_parameters()},  # of the mean over ranks
    }


def round_trip(folder: Path, rank: int) -> dict[str, Any]:
    """Sharded weights and moments after two steps, what a checkpoint holds of them, and what comes back."""
    folder.mkdir(exist_ok=True)

    def fresh(seed: int) -> tuple[LogProbModel, Any]:
        model = shard(new_student())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1 + seed)
        return model, mock.Mock(optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True))

    model, optimizer = fresh(seed=0)
    for _ in range(2):
        loss_of(model, PAIRS[rank:8:RANKS], "sequence").backward()
        optimizer.optimizer.step()
        optimizer.optimizer.zero_grad()
    loop._save(
        folder, 7, model, optimizer, {"tokens": 1, "written": 2, "cut": 3, "state": {"t": 0.5}, "data": {}}, rank == 0
    )
    torch.distributed.barrier()
    other, state = fresh(seed=1)
    resumed = loop._resume(folder, other, state, Stored([], []), {}, rank == 0)
    return {"resumed": resumed, "saved": everything(model, optimizer), "loaded": everything(other, state)}


def everything(model: LogProbModel, optimizer: Any) -> dict[str, torch.Tensor]:
    """Whole weights and moments."""
    found = {}
    for name, parameter in model.named_parameters():
        found[name] = whole(parameter)
        for moment, value in optimizer.optimizer.state[parameter].items():
            found[f"{name} {moment}"] = whole(value)
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def found(root: Path) -> list[dict[str, Any]]:
    """What each of two ranks did."""
    for name, folder in (*RESUMED.items(), ("dadpo", "sharded resumed")):  # one process began these
        with pytest.raises(InterruptionError):
            train(work=root / folder, tick=interrupt_at(STOP), checkpoint_steps=STOP, **CASES[name])
    context = spawn(in_ranks, (root,), nprocs=RANKS, join=False)
    try:
        until(lambda: context.join(timeout=1), "the end of ranks that wait for one another")
    finally:
        for process in context.processes:
            process.kill()
    return [torch.load(root / f"found-{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The same trainings in one process."""
    folder = tmp_path_factory.mktemp("alone")
    signals()
    return {name: outcome(train(work=folder / name, **case)) for name, case in CASES.items()}


def test_the_cases_hold_a_rank_without_work_and_uneven_micro_batches() -> None:
    def empty(case: str) -> list[list[int]]:
        settings = CASES[case]
        steps = plan_steps(PAIRS[: settings["rows"]], settings["batch_size"], 1, 0)
        assert len(steps) == 5
        parts = shares([PAIRS[row] for row in steps[-1]], RANKS, settings["micro_batch_tokens"], "packed")
        return [[len(part) for part in own] for own in parts]

    assert empty("dadpo-one-by-one") == [[1], [0]]
    assert empty("uneven") == [[1, 1], [1, 0]]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_ranks_train_as_one_process_does(
    name: str, found: list[dict[str, Any]], alone: dict[str, dict[str, Any]]
) -> None:
    (first, second), one = (ranks[name] for ranks in found), alone[name]
    # a budget is spent by what the policy writes, and how much that is
    assert STOP < len(first["losses"]) < 5 if name == "fresh-budget" else len(first["losses"]) == 5
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-4)
    # an adapter's first matrix has no gradient before the second is more than nothing
    step = 1 if "adapter" in name else 0
    assert apart(first["gradients"][step], one["gradients"][step]) < (1e-3 if step else 1e-5)
    assert first["metrics"][0]["grad_norm"] == pytest.approx(one["metrics"][0]["grad_norm"], rel=1e-5)
    for row, want in zip(first["metrics"], one["metrics"], strict=True):
        assert row.keys() == want.keys()
        assert (row["step"], row["tokens"], row["learning_rate"]) == (
            want["step"],
            want["tokens"],
            want["learning_rate"],
        )
        for key in row.keys() - {"accuracy", "tokens_per_s"}:
            assert row[key] == pytest.approx(want[key], rel=1e-3, abs=1e-2), key
    assert same_weights(first["weights"], second["weights"])  # the ranks have not drifted apart
    assert first["text"] == second["text"] == one["text"]
    assert first["weights"].keys() == one["weights"].keys()


@pytest.mark.slow
def test_each_rank_and_step_has_random_numbers_of_its_own(found: list[dict[str, Any]]) -> None:
    """As dropout takes them."""
    first, second = (ranks["dadpo"]["seeds"] for ranks in found)
    assert len({*first, *second}) == 10
    assert first == found[0]["dadpo-one-by-one"]["seeds"]  # whatever the micro-batches


@pytest.mark.slow
def test_ranks_know_how_many_they_are(found: list[dict[str, Any]]) -> None:
    assert [ranks["ranks"] for ranks in found] == [(RANKS, True), (RANKS, False)]


@pytest.mark.slow
def test_ranks_go_on_from_a_checkpoint_of_one_process_and_the_other_way_round(
    found: list[dict[str, Any]], alone: dict[str, dict[str, Any]], root: Path
) -> None:
    for ranks in found:
        assert len(ranks["resumed"]["gradients"]) == 5 - STOP
        assert ranks["interrupted"]
    assert found[0]["resumed"]["losses"] == pytest.approx(alone["dadpo"]["losses"], rel=1e-4)
    assert torch.load(root / "interrupted" / CHECKPOINT, weights_only=True)["step"] == STOP
    resumed = train(work=root / "interrupted", **CASES["dadpo"])
    assert len(resumed.gradients) == 5 - STOP
    assert resumed.losses == pytest.approx(alone["dadpo"]["losses"], rel=1e-4)


@pytest.mark.slow
def test_ranks_go_on_with_what_one_process_s_policy_wrote(
    found: list[dict[str, Any]], alone: dict[str, dict[str, Any]]
) -> None:
    """The interruption is between the two steps of a window."""
    for ranks in found:
        resumed = ranks["fresh resumed"]
        assert resumed["text"] == alone["fresh-tokens"]["text"][STOP:]
        assert len(resumed["gradients"]) == 5 - STOP
    assert found[0]["fresh resumed"]["losses"] == pytest.approx(alone["fresh-tokens"]["losses"], rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_rank_ends_all_with_the_same_words(found: list[dict[str, Any]]) -> None:
    first, second = (ranks["broken"] for ranks in found)
    assert first == second
    assert first.startswith("NotFiniteError: the loss of sft is nan")
    assert all(example.name in first for example in RESPONSES[:8])


# ---- sharded


@pytest.mark.slow
@pytest.mark.parametrize("what", ["sequence", "token"])
def test_a_sharded_model_has_the_loss_and_gradients_of_a_whole_one(what: str, found: list[dict[str, Any]]) -> None:
    model = new_student()
    loss = loss_of(model, PAIRS[:8], what)
    loss.backward()
    for ranks in found:
        seen = ranks["passes"][what]
        assert seen["of DTensor alone"]
        assert seen["sharded"] == (True, False)
        assert seen["loss"] == pytest.approx(loss.item(), rel=1e-5)
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        assert seen["gradients"].keys() == gradients.keys()
        assert apart(list(seen["gradients"].values()), list(gradients.values())) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARDED_CASES)
def test_sharded_ranks_train_as_one_process_does(
    name: str, found: list[dict[str, Any]], alone: dict[str, dict[str, Any]]
) -> None:
    first, one = found[0][f"sharded {name}"], alone[name]
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert first["metrics"][0]["grad_norm"] == pytest.approx(one["metrics"][0]["grad_norm"], rel=1e-5)
    step = 1 if name == "adapter" else 0
    assert apart(first["gradients"][step], one["gradients"][step]) < (1e-3 if step else 1e-5)
    assert first["units"] == ["", "causal_lm.model.layers.0", "causal_lm.model.layers.1"]
    assert first["tied"]
    # whole weights, on the first rank alone, that load into a fresh model
    assert not found[1][f"sharded {name}"]["weights"]
    assert not any(isinstance(weight, DTensor) for weight in first["weights"].values())
    trained = {name for name in one["weights"] if "lora_" in name} if name == "adapter" else one["weights"].keys()
    assert trained <= first["weights"].keys() <= one["weights"].keys()
    for weight in trained:
        assert first["weights"][weight].shape == one["weights"][weight].shape
        assert apart([first["weights"][weight]], [one["weights"][weight]]) < 1e-2


@pytest.mark.slow
def test_sharded_ranks_go_on_from_a_checkpoint_of_one_process(
    found: list[dict[str, Any]], alone: dict[str, dict[str, Any]]
) -> None:
    resumed = found[0]["sharded resumed"]
    assert len(resumed["gradients"]) == 5 - STOP
    assert resumed["losses"] == pytest.approx(alone["dadpo"]["losses"], rel=1e-4)


@pytest.mark.slow
def test_a_checkpoint_of_shares_holds_whole_tensors_and_gives_them_back(
    found: list[dict[str, Any]], root: Path
) -> None:
    model = new_student()
    optimizer = mock.Mock(optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True))
    for _ in range(2):
        (loss_of(model, PAIRS[:8], "sequence") / RANKS).backward()
        optimizer.optimizer.step()
        optimizer.optimizer.zero_grad()
    unsharded = everything(model, optimizer)
    for ranks in found:
        trip = ranks["round trip"]
        assert trip["resumed"] == (7, 1, 2, 3, {"t": 0.5})
        assert same_weights(trip["saved"], trip["loaded"])
        assert trip["saved"].keys() == unsharded.keys()
    state = torch.load(root / "round trip" / CHECKPOINT, weights_only=True)
    for name, parameter in model.named_parameters():
        assert state["model"][name].shape == parameter.shape
        torch.testing.assert_close(state["model"][name], parameter.detach(), rtol=1e-5, atol=1e-4)
        for moment in ("exp_avg", "exp_avg_sq"):
            kept, want = state["optimizer"]["state"][name][moment], unsharded[f"{name} {moment}"]
            assert apart([kept], [want]) < 1e-3


# ---- through the command


def jsonl(path: Path, prompts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"id": f"p{i}", "prompt": text}) + "\n" for i, text in enumerate(prompts)))
    return path


def trainings(store: Path) -> dict[str, dict[str, Any]]:
    """Their manifests with their metrics, by label."""
    found = {}
    for path in store.glob("train/*/manifest.json"):
        manifest = json.loads(path.read_text())
        lines = (path.parent / "metrics.jsonl").read_text().splitlines()
        found[manifest["job"]["label"]] = {**manifest, "metrics": [json.loads(line) for line in lines]}
    return found


def without_trainings(store: Path, copy: Path) -> Path:
    """A copy of a store without its trainings, but for SFT where the others begin, and what only the last student
    made."""
    shutil.copytree(store, copy)
    manifests = {path.parent: json.loads(path.read_text()) for path in copy.glob("*/*/manifest.json")}
    trained = {path: manifest for path, manifest in manifests.items() if path.parent.name == "train"}
    assert trained
    last = next(f"train/{path.name}" for path, manifest in trained.items() if manifest["job"]["method"] == "dadpo")
    for path, manifest in manifests.items():
        gone = path in trained and manifest["job"]["method"] != "sft"
        if gone or last in json.dumps(manifest["job"]):
            shutil.rmtree(path)
    return copy


@pytest.mark.slow
def test_the_real_command_trains_the_same_on_two_ranks(tmp_path: Path, checkpoints: dict[str, Path], run: Run) -> None:
    """What SFT reads, KD reads too: the ranks leave it as it is."""
    train_prompts = jsonl(tmp_path / "train.jsonl", [f"Tell me about the number {n}, please." for n in range(17)])
    arguments = [
        *("--student", str(checkpoints["llama"]), "--teacher", str(checkpoints["llama-teacher"])),
        *("--train-prompts", str(train_prompts), "--eval", str(jsonl(tmp_path / "far.jsonl", ["Sing!", "Why?"]))),
        *("--controls", "none", "--seed", "0"),
        *("--set", "train_sampling.max_new_tokens=12", "--set", "eval_sampling.max_new_tokens=6"),
        *("--set", "training.precision=fp32", "--set", "scoring_precision=fp32", "--set", "training.batch_size=8"),
        *("--set", "training.epochs=1"),
    ]
    one_by_one = ["--set", "training.micro_batch_tokens=40"]
    at_once = ["--set", "settings.kd.micro_batch_tokens=4096", "--set", "settings.dadpo.micro_batch_tokens=4096"]

    def made(name: str, *more: str) -> dict[str, dict[str, Any]]:
        out, store = tmp_path / f"board of {name}", tmp_path / name
        run([*arguments, *more], out, store, "sft,kd,dadpo")
        assert "| dadpo " in (out / "leaderboard.md").read_text()
        return trainings(store)

    alone = made("alone", *one_by_one)
    for name in ("ranks", "eights"):
        without_trainings(tmp_path / "alone", tmp_path / name)
    ranks = made("ranks", *one_by_one, "--set", "launcher=accelerate", "--set", "processes=2")
    eights = made("eights", "--set", "settings.sft.micro_batch_tokens=40", *at_once)
    assert alone.keys() == ranks.keys() == eights.keys() == {f"train {method}" for method in ("sft", "kd", "dadpo")}
    for label, want in alone.items():
        assert want["facts"]["ranks"] == 1
        assert ranks[label]["facts"] == {**want["facts"], "ranks": 1 if label == "train sft" else 2}
        assert len(want["metrics"]) == 3  # batches of 8, 8 and 1
        for other in (ranks, eights):
            assert [row["loss"] for row in other[label]["metrics"]] == pytest.approx(
                [row["loss"] for row in want["metrics"]], rel=1e-4
            )
            first, reference = other[label]["metrics"][0], want["metrics"][0]
            assert first["grad_norm"] == pytest.approx(reference["grad_norm"], rel=1e-5)
    budgets = {
        label: [run[label]["job"]["settings"]["micro_batch_tokens"] for run in (alone, ranks, eights)]
        for label in alone
    }
    assert budgets == {"train sft": [40, 40, 40], "train kd": [40, 40, 4096], "train dadpo": [40, 40, 4096]}
