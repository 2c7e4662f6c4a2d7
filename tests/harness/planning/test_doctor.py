"""What a machine has, and which presets can run."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from harness.cli import run
from harness.config import presets as known_presets
from harness.planning import doctor
from harness.planning.doctor import Machine, checks, has_extra, missing, why_no_hub
from harness.store import Store
from tests.waiting import LIMIT

LARGE = Machine(gpu=200 * 10**9, memory=500 * 10**9, disk=10**13, hub="")
embedded = pytest.mark.skipif(not has_extra("embedded"), reason="the embedded pair is not installed")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in doctor.KEYS:
        monkeypatch.delenv(name, raising=False)


def layer(name: str) -> dict[str, Any]:
    return {key: value for key, value in known_presets.get(name).items() if key not in ("summary", "ours")}


# ---- presets


@embedded
@pytest.mark.parametrize("name", ["embedded", "quick"])
def test_small_presets_run_without_a_gpu_a_key_or_the_hub(store: Store, name: str) -> None:
    assert missing(layer(name), Machine(None, 16 * 10**9, 50 * 10**9, "not reached"), store) == []


@embedded
def test_memory_and_disk_are_held_against_what_there_is(store: Store) -> None:
    lacks = missing(layer("embedded"), Machine(None, 10**9, 10**8, "not reached"), store)
    assert len(lacks) == 2
    assert "of memory (1.0 GB here)" in lacks[0] and "of disk (100 MB free)" in lacks[1]


@embedded
def test_one_gpu_of_24_gb_will_do_for_its_preset(store: Store) -> None:
    assert missing(layer("single-gpu"), Machine(24 * 10**9, 64 * 10**9, 10**12, ""), store) == []
    lacks = missing(layer("single-gpu"), Machine(12 * 10**9, 64 * 10**9, 10**12, ""), store)
    assert len(lacks) == 1 and "GPU memory (12.0 GB here)" in lacks[0]


@embedded
def test_large_models_want_a_gpu_and_the_hub(store: Store) -> None:
    lacks = missing(layer("single-gpu"), Machine(None, 10**12, 10**13, "not reached"), store)
    assert lacks == ["the hub, or in its cache: Qwen/Qwen2.5-7B-Instruct, Qwen/Qwen2.5-1.5B-Instruct", "a GPU"]


@embedded
def test_an_extra_that_is_asked_for_is_missed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.EXTRAS, "lora", (("no_such_module",), ""))
    assert missing(layer("single-gpu"), LARGE, store) == ["the extra lora"]


@pytest.mark.parametrize("there", [False, True])
def test_the_paper_s_judge_needs_a_key(store: Store, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    variable = f"DOCTOR_KEY_{there}".upper()  # a process opens a server once for each variable
    if there:
        monkeypatch.setenv(variable, "sk-something")
    paper = layer("paper")
    lacks = missing({**paper, "judge": {**paper["judge"], "key_variable": variable}}, LARGE, store)
    assert any(variable in text for text in lacks) != there


def test_what_a_preset_says_wrong_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.layers, "preset_layer", lambda name: {"student": "smolm2"})
    found = doctor.presets(LARGE, store)
    assert all("unknown student 'smolm2'" in text for lacks in found.values() for text in lacks)


def test_the_hub_is_not_asked_for_each_model_and_the_setting_is_as_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    doctor.presets(LARGE, store)
    assert "HF_HUB_OFFLINE" not in doctor.os.environ


# ---- the machine


def test_keys_are_set_or_not_and_never_shown(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:pa55@host/v1")
    found = dict(checks(LARGE, store))
    assert (found["key HF_TOKEN"], found["key OPENAI_API_KEY"]) == ("set", "not set")
    run.doctor()
    said = "".join(capsys.readouterr())
    assert "0123456789" not in said and "pa55" not in said


def test_an_extra_is_there_when_all_of_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.EXTRAS, "lora", (("json", "no_such_module"), "pip install it"))
    monkeypatch.setitem(doctor.EXTRAS, "vllm", (("no_such_parent.child",), "elsewhere"))
    monkeypatch.setitem(doctor.EXTRAS, "pairrm", (("json",), ""))
    assert [has_extra(name) for name in ("lora", "vllm", "pairrm")] == [False, False, True]


def test_status_says_whether_any_preset_can_run(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(doctor, "presets", lambda here, store: {"a": ["a GPU"], "b": []})
    assert run.doctor() == 0
    assert (
        "preset a             lacks a GPU" in (said := capsys.readouterr().out) and "preset b             can" in said
    )
    monkeypatch.setattr(doctor, "presets", lambda here, store: {"a": ["a GPU"]})
    assert run.doctor() == 3


def test_without_torch_there_is_no_traceback(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def broken(*args: Any) -> Any:
        raise ImportError("No module named 'torch'")

    monkeypatch.setattr(doctor, "missing", broken)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run.doctor() == 3
    assert "lacks No module named 'torch'" in capsys.readouterr().out


# ---- the hub


class Silent(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


def test_the_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    server = HTTPServer(("127.0.0.1", 0), Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    assert why_no_hub() == ""
    server.shutdown()
    server.server_close()
    assert why_no_hub() == "not reached (URLError)"


def test_offline_is_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in why_no_hub()


def test_a_hub_that_never_answers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(doctor, "HUB_SECONDS", 0.1)
    asleep = threading.Event()
    monkeypatch.setattr(doctor.urllib.request, "urlopen", lambda *a, **k: asleep.wait(LIMIT))
    assert why_no_hub() == "not reached (TimeoutError)"
    asleep.set()


def test_extras_are_those_of_the_project() -> None:
    assert set(doctor.EXTRAS) == {"embedded", "lora", "pairrm", "sentencepiece", "vllm"}
