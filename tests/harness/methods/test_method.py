"""What a method's digest follows, and which methods and controls a run needs."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import baselines
from harness.core.errors import UserError
from harness.measures import measures
from harness.methods import Control, Method, MethodSettings, TokenSettings, methods, selected_controls
from harness.methods.registry import MethodRegistry, load_methods

SOURCES = {
    "own_loss": "def loss(inputs, settings):\n    return inputs.policy[:, 0]\n",
    "own_settings": (
        "from harness.methods.settings import MethodSettings\n\nclass Settings(MethodSettings):\n    mine: int = 1\n"
    ),
    "own_transform": "def transform(signals, settings, seed):\n    return signals\n",
}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Write one of SOURCES to a file and import it."""

    def load_one(name: str) -> ModuleType:
        path = tmp_path / f"{name}.py"
        path.write_text(SOURCES[name])
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # a class finds its file through its module
        spec.loader.exec_module(module)
        return module

    return load_one


def method_of(loss: Callable[..., Any], **others: Any) -> Method:
    fields: dict[str, Any] = {"level": "sequence", "data": "responses", "per": "token", **others}
    return Method(name="own", summary="", source="", loss=loss, **fields)


@pytest.fixture
def own(load: Callable[[str], ModuleType]) -> Method:
    """A method whose loss, settings and transform lie in three files."""
    loss, settings, transform = (load(name) for name in SOURCES)
    return method_of(loss.loss, settings=settings.Settings, transform=transform.transform)


@pytest.mark.parametrize("name", SOURCES)
def test_an_edit_of_any_of_its_files_is_another_training(name: str, own: Method, tmp_path: Path) -> None:
    before = own.source_digest
    assert own.source_digest == before
    (tmp_path / f"{name}.py").write_text(SOURCES[name] + "# edited\n")
    assert own.source_digest != before


@pytest.mark.parametrize(
    "field",
    [
        {"level": "token"},
        {"data": "pairs"},
        {"per": "example"},
        {"signals": ("reference_log_probs",)},
        {"transform": None},
        {"settings": MethodSettings},
    ],
    ids=lambda field: next(iter(field)),
)
def test_another_field_is_another_training(field: dict[str, Any], own: Method) -> None:
    assert replace(own, **field).source_digest != own.source_digest


@pytest.mark.parametrize("field", [{"summary": "other"}, {"source": "other"}, {"controls": lambda _settings: []}])
def test_what_does_not_shape_the_training_is_no_part_of_the_digest(field: dict[str, Any], own: Method) -> None:
    assert replace(own, **field).source_digest == own.source_digest


def test_a_loss_behind_a_partial_is_followed_to_its_file(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    method = method_of(functools.partial(load("own_loss").loss))
    before = method.source_digest
    (tmp_path / "own_loss.py").write_text(SOURCES["own_loss"] + "# edited\n")
    assert method.source_digest != before


def test_an_edit_of_a_module_that_a_loss_imports_is_another_training(more_baselines: Path) -> None:
    (more_baselines / "zz_maths.py").write_text("def half(x):\n    return x / 2\n")
    text = "from dataclasses import replace\nfrom baselines import sft\nfrom baselines.zz_maths import half"
    loss = "def loss(inputs, settings):\n    return half(inputs.policy[:, 0])"
    (more_baselines / "zz_own.py").write_text(f"{text}\n{loss}\nMETHOD = replace(sft.METHOD, name='zz', loss=loss)\n")
    own, others = load_methods()["zz"], {name: method.source_digest for name, method in methods.items()}
    before = own.source_digest
    (more_baselines / "zz_maths.py").write_text("def half(x):\n    return x / 3\n")
    assert own.source_digest != before
    assert {name: method.source_digest for name, method in methods.items()} == others


# ---- where methods are found


@pytest.fixture
def more_baselines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files count as files of baselines/."""
    folder = tmp_path / "more"
    folder.mkdir()
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(folder)])
    known = set(sys.modules)
    yield folder
    for name in [name for name in sys.modules if name.startswith("baselines.") and name not in known]:
        del sys.modules[name]
        delattr(baselines, name.removeprefix("baselines."))


def test_a_file_in_baselines_is_all_that_a_method_needs(more_baselines: Path) -> None:
    text = "from dataclasses import replace\n\nfrom baselines.kd import METHOD as KD\n\n"
    (more_baselines / "skd.py").write_text(text + "METHOD = replace(KD, name='skd')\n")
    assert load_methods().keys() >= {"skd", "kd", "sft", "ddpo", "dadpo"}


def test_one_name_in_two_files_is_refused(more_baselines: Path) -> None:
    (more_baselines / "zz_again.py").write_text("from baselines.kd import METHOD\n")
    with pytest.raises(UserError, match=r"zz_again\.py: method 'kd' is defined in two files"):
        load_methods()


def test_a_file_without_a_method_is_passed_over(more_baselines: Path) -> None:
    (more_baselines / "helpers.py").write_text("METHOD = 'not one'\n")
    assert "helpers" not in load_methods()


@pytest.mark.parametrize("name", methods.names())
def test_token_level_methods_say_where_the_teacher_s_distributions_are_from(name: str) -> None:
    method = methods.get(name)
    assert issubclass(method.settings, TokenSettings) is (method.level == "token")
    assert issubclass(method.settings, MethodSettings)


@pytest.mark.parametrize("name", methods.names())
def test_a_method_minimises_measures_that_there_are_and_that_tables_show(name: str) -> None:
    for measure in methods.get(name).minimises:
        assert measures.get(measure).group, measure


# ---- what a run needs


@pytest.mark.parametrize(
    ("names", "controls", "expected"),
    [
        (["kd"], "none", ["sft", "kd"]),
        (["dadpo"], "none", ["sft", "dadpo"]),
        (["dadpo"], "basic", ["sft", "dadpo", "ddpo"]),
        (["dadpo"], "full", ["sft", "dadpo", "ddpo"]),
        (["ddpo", "sft"], "basic", ["sft", "ddpo"]),
    ],
)
def test_the_closure_has_sft_the_methods_and_those_of_their_controls(
    names: list[str], controls: str, expected: list[str]
) -> None:
    found = methods.closure(names, controls)
    assert found[: len(names)] == expected[: len(names)]
    assert sorted(found) == sorted(expected)


def test_the_closure_of_an_unknown_method_is_refused() -> None:
    with pytest.raises(UserError, match="unknown method 'dapdo'; did you mean 'dadpo'"):
        methods.closure(["dapdo"], "none")


def test_the_closure_reaches_the_controls_of_a_method_alone() -> None:
    wanted = [Control("c", "kd", {}, "")]
    registry = MethodRegistry("other", lambda: {"own": method_of(print, controls=lambda _settings: wanted)})
    assert registry.closure(["own"], "basic") == ["sft", "own", "kd"]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("none", []),
        ("basic", ["ddpo-beta0.15"]),
        ("full", ["ddpo-beta0.15", "ddpo-beta0.142857", "dadpo-permuted", "dadpo-mean", "sft-continued"]),
    ],
)
def test_controls_are_selected_by_level(level: str, expected: list[str]) -> None:
    method = methods.get("dadpo")
    assert [control.name for control in selected_controls(method, method.settings(), level)] == expected
