"""Methods of files that a run names, and of installed packages: they are methods like any other, and what is wrong with
one is one line with its file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config import resolve
from harness.core import registry as core
from harness.core.errors import UserError
from harness.core.sources import sources
from harness.methods import methods
from harness.methods.registry import MethodRegistry, load_methods
from harness.run.rows import entries_of

OWN = """\
from harness.methods import RESPONSE, Definition, Method, MethodSettings


class Settings(MethodSettings):
    scale: float = 2.0


def _loss(inputs, settings):
    return -settings.scale * inputs.policy[:, 0]


METHOD = Method(
    name="own",
    summary="a loss of ours",
    source="us",
    level="sequence",
    loss=_loss,
    per="token",
    responses=RESPONSE,
    defines=Definition("raises the response", "none", "the sampled tokens", "response tokens"),
    settings=Settings,
)
"""
OF_BEFORE = OWN.replace("    responses=RESPONSE,\n", '    data="responses",\n    signals=(),\n').replace(
    '    level="sequence"', '    level="token"'
)
HELPED = OWN.replace("class Settings", "from near import half\n\n\nclass Settings").replace(
    "-settings.scale *", "-half(settings.scale) *"
)
HALF = "def half(x):\n    return x / 2\n"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write a plug-in's file below a folder of its own; what was imported is forgotten in the end."""
    before, path = set(sys.modules), list(sys.path)

    def write_one(text: str = OWN, name: str = "own.py", folder: str = "mine") -> Path:
        file = tmp_path / folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    yield write_one
    methods.use(())
    assert sys.path == path
    assert not {name for name in set(sys.modules) - before if name in ("own", "near", "nearer")}


def refusal(file: Path) -> str:
    with pytest.raises(UserError) as caught:
        methods.use([str(file)])
    (line,) = caught.value.lines
    return line


# ---- of a file


def test_a_file_s_method_is_one_of_all(write: Write) -> None:
    file = write()
    methods.use([str(file)])
    assert methods.get("own").summary == "a loss of ours"
    assert {"own", "sft"} <= set(methods.names())
    assert methods.file_of("own") == str(file) and methods.file_of("sft") is None
    with pytest.raises(UserError, match="unknown method 'onw'; did you mean 'own'"):
        methods.get("onw")


def test_a_configuration_names_its_files_and_the_next_one_its_own(write: Write) -> None:
    student = {"student": "a", "teacher": "b", "controls": "none"}
    layer = {**student, "methods": ["own"], "plugins": [str(write())], "settings": {"own": {"scale": 3.0}}}
    config = resolve([layer])
    assert config.settings["own"]["scale"] == 3.0
    assert config.plugins == (str(write()),)
    with pytest.raises(UserError, match="unknown method 'own'"):
        resolve([{**layer, "plugins": []}])


def test_a_file_that_is_named_again_is_one(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write()
    monkeypatch.chdir(file.parent)
    named = ["own.py", str(file), "./own.py"]
    config = resolve([{"student": "a", "teacher": "b", "methods": ["own"], "plugins": named}])
    assert config.plugins == ("own.py",)


def test_a_wrong_setting_of_it_is_said_as_any_other_s(write: Write) -> None:
    layer = {"student": "a", "methods": ["own"], "plugins": [str(write())], "settings": {"own": {"scael": 3.0}}}
    with pytest.raises(UserError, match=r"unknown configuration key 'settings\.own\.scael'; did you mean 'scale'"):
        resolve([layer])


def test_what_it_declares_anew_is_held_to_what_the_harness_holds_it_to(write: Write) -> None:
    file = write(OWN.replace("scale: float = 2.0", 'scale: float = 2.0\n    start: str = "sft"'))
    layer = {"student": "a", "methods": ["own"], "plugins": [str(file)], "settings": {"own": {"start": "sft-student"}}}
    with pytest.raises(UserError, match=r"settings\.own.*start: Input should be 'student' or 'sft'"):
        resolve([layer])


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ('"more", "nope", {}', "its control 'more': unknown method 'nope'; known: "),
        ('"more", "sft", {"epoch": 2}', "its control 'more': unknown configuration key 'settings.sft.epoch'; did you"),
        ('"more", "sft", {"epochs": 0}', "its control 'more': configuration key 'settings.sft.epochs': Value error"),
    ],
)
def test_a_control_that_cannot_be_is_said_with_the_file_and_its_name(control: str, expected: str, write: Write) -> None:
    text = OWN.replace("import RESPONSE", "import RESPONSE, Control")
    file = write(
        text.replace("settings=Settings", f'settings=Settings, controls=lambda s: [Control({control}, "why")]')
    )
    with pytest.raises(UserError) as caught:
        entries_of(resolve([{"student": "a", "teacher": "b", "methods": ["own"], "plugins": [str(file)]}]))
    assert str(caught.value).startswith(f"{file}: METHOD 'own': {expected}")


def test_an_edited_file_is_read_again_and_another_one_is_not(write: Write) -> None:
    file = write()
    methods.use([str(file)])
    first = methods.get("own")
    methods.use([str(file)])
    assert methods.get("own") is first
    write(OWN.replace("2.0", "4.0"))
    methods.use([str(file)])
    assert methods.get("own").settings().model_dump()["scale"] == 4.0


def test_its_key_follows_its_source_and_the_helpers_beside_it(write: Write) -> None:
    write(HALF, "near.py")
    write("x = 1\n", "never.py")
    methods.use([str(write(HELPED))])
    method = methods.get("own")
    before = method.source_digest
    assert [line.split()[0] for line in sources(method.loss)] == ["own:_loss", "near", "own"]
    write("x = 2\n", "never.py")
    assert method.source_digest == before
    write(HALF + "# edited\n", "near.py")
    assert method.source_digest != before


def test_where_it_lies_is_no_part_of_its_key(write: Write) -> None:
    digests = set()
    for folder in ("here", "there"):
        write(HALF, "near.py", folder)
        methods.use([str(write(HELPED, folder=folder))])
        assert str(folder) in sys.modules["near"].__file__  # type: ignore[operator]
        digests.add(methods.get("own").source_digest)
    assert len(digests) == 1


def test_an_edited_helper_is_read_again(write: Write) -> None:
    write(HALF, "near.py")
    file = write(HELPED)
    methods.use([str(file)])
    write("def half(x):\n    return x / 4  # a quarter\n", "near.py")
    methods.use([str(file)])
    assert methods.get("own").loss.__globals__["half"](1) == 0.25


WRONG: dict[str, tuple[str, str]] = {
    "no python": (OWN + "def (\n", ":{last}: cannot be imported: SyntaxError: invalid syntax"),
    "raises": (OWN + "1 / 0\n", ":{last}: cannot be imported: ZeroDivisionError: division by zero"),
    "ends": (OWN + "import sys; sys.exit(3)\n", ":{last}: cannot be imported: SystemExit: 3"),
    "imports what is not there": (
        OWN + "import nowhere_at_all\n",
        ":{last}: cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all'",
    ),
    "nothing": ("x = 1\n", ": defines no METHOD = Method(...); docs/adding-a-method.md has whole examples"),
    "no method": ("METHOD = print\n", ": defines no METHOD = Method(...); docs/adding-a-method.md has whole examples"),
    "a name that is there": (OWN.replace('"own"', '"sft"'), ": a method 'sft' is there already ("),
    "a field too few": (
        OWN.replace('    per="token",\n', ""),
        ": cannot be imported: TypeError: Method.__init__() missing 1 required positional argument: 'per'",
    ),
    "no sense": (OWN.replace('level="sequence"', 'level="row"'), ": METHOD 'own': the level is 'row'; expected one of"),
    "of before": (
        OF_BEFORE,
        ': METHOD is of the contract before this version: data is now responses=RESPONSE (was data="responses") or '
        'responses=PAIR (was data="pairs"), and level="token" of whole distributions is now level="distribution" (docs',
    ),
    "settings without defaults": (
        OWN.replace("scale: float = 2.0", "scale: float"),
        ": METHOD 'own': the defaults of its settings are wrong (scale: Field required)",
    ),
    "a setting without a type": (
        OWN.replace("scale: float = 2.0", "scale = 2.0"),
        ":4: cannot be imported: PydanticUserError: A non-annotated attribute was detected: `scale = 2.0`; a setting "
        "is as in `beta: float = 1.0`",
    ),
    "a setting of no plain type": (
        OWN.replace("class S", "class Odd: ...\n\n\nclass S").replace("scale: float = 2.0", "scale: Odd = Odd()"),
        ":7: cannot be imported: PydanticSchemaGenerationError: Unable to generate pydantic-core schema for ",
    ),
    "a start that is none": (
        OWN.replace("scale: float = 2.0", 'scale: float = 2.0\n    start: str = "sft-student"'),
        ": METHOD 'own': the defaults of its settings are wrong (start: Input should be 'student' or 'sft')",
    ),
    "a rate below 0": (
        OWN.replace("scale: float = 2.0", "scale: float = 2.0\n    learning_rate: float = -1.0"),
        ": METHOD 'own': the defaults of its settings are wrong (learning_rate: must be above 0)",
    ),
    "a rank below 0": (
        OWN.replace("scale: float = 2.0", "scale: float = 2.0\n    lora_rank: int = -1"),
        ": METHOD 'own': the defaults of its settings are wrong (lora_rank: Input should be greater than or equal",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_file_is_one_line_that_names_it(name: str, write: Write) -> None:
    text, expected = WRONG[name]
    file = write(text)
    said = refusal(file)
    assert said.startswith(str(file))
    assert expected.format(last=text.count("\n")) in said
    assert "own" not in methods and "own" not in sys.modules


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere.py", "there is no such file"),
        ("", "is a folder; name a Python file, such as my_loss.py"),
        ("own.txt", "expected a Python file with a module's name, such as my_loss.py"),
        ("my-loss.py", "expected a Python file with a module's name, such as my_loss.py"),
        ("class.py", "expected a Python file with a module's name, such as my_loss.py"),
    ],
)
def test_what_is_no_python_file_is_refused(name: str, expected: str, write: Write) -> None:
    if name and name != "nowhere.py":
        write(name=name)
    said = refusal(write().parent / name)
    assert said.startswith("plug-in ") and said.endswith(expected)


def test_a_file_that_has_the_name_of_another_module_is_refused(write: Write) -> None:
    file = write(name="random.py")
    assert refusal(file).startswith(f"{file}: there is a module 'random' already (")
    import random

    assert random.Random


def test_a_helper_that_has_the_name_of_another_module_is_refused(write: Write) -> None:
    helper = write(HALF, "random.py")
    file = write(HELPED.replace("from near", "from random"))
    said = refusal(file)
    assert said.startswith(f"{file} imports random.py from beside it; {helper}: there is a module 'random' already (")
    assert said.endswith("rename the file")


def test_a_module_beside_it_that_it_does_not_import_may_have_any_name(write: Write) -> None:
    write(HALF, "random.py")
    methods.use([str(write())])
    assert "own" in methods


def test_two_files_have_helpers_of_one_name_in_two_folders(write: Write) -> None:
    """Python keeps one module of a name: the second one's helper would be the first one's."""
    write(HALF, "near.py")
    first = write(HELPED)
    helper = write(HALF, "near.py", "other")
    second = write(HELPED.replace('"own"', '"own2"'), "own2.py", "other")
    with pytest.raises(UserError, match="there is a module 'near' already") as caught:
        methods.use([str(first), str(second)])
    assert str(caught.value).startswith(f"{second} imports near.py from beside it; {helper}: ")


def test_two_files_of_one_method_are_refused(write: Write) -> None:
    first, second = write(), write(name="own2.py")
    with pytest.raises(UserError) as caught:
        methods.use([str(first), str(second)])
    assert str(caught.value) == f"{second}: a method 'own' is there already ({first}); give METHOD another name"


# ---- of an installed package


def installed(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str, name: str = "own") -> MethodRegistry:
    """A registry as it is where a package is installed that registers its METHOD under this name."""
    package = folder / "of_ours"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "losses.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))

    def load() -> Any:
        import importlib

        return importlib.import_module("of_ours.losses").METHOD

    def entry_points(group: str) -> list[SimpleNamespace]:
        assert group == "dadpo_harness.methods"
        point = {"name": name, "value": "of_ours.losses:METHOD", "module": "of_ours.losses", "load": load}
        return [SimpleNamespace(**point)]

    monkeypatch.setattr(core, "entry_points", entry_points)
    return MethodRegistry("method", load_methods)


@pytest.fixture(autouse=True)
def none_of_ours() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "of_ours"]:
        del sys.modules[name]


def test_a_package_s_method_is_one_of_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = installed(monkeypatch, tmp_path, OWN)
    assert found.get("own").summary == "a loss of ours"
    assert found.file_of("own") is None
    file = tmp_path / "of_ours" / "losses.py"
    before = found.get("own").source_digest
    file.write_text(OWN + "# edited\n")
    assert found.get("own").source_digest != before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("METHOD = print\n", "method 'own' of a plug-in is no harness.methods.Method"),
        (OWN.replace('"own"', '"other"'), "the entry point 'own' of a plug-in holds the method 'other'"),
        (OWN + "1 / 0\n", "{file}:{last} (the entry point own = of_ours.losses:METHOD): a plug-in that "
                          "cannot be imported: ZeroDivisionError: division by zero"),
        (OF_BEFORE, "{file}:12 (the entry point own = of_ours.losses:METHOD): METHOD is of the contract before"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_package_s_is_one_line(
    text: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = installed(monkeypatch, tmp_path, text)
    with pytest.raises(UserError) as caught:
        found.names()
    (line,) = caught.value.lines
    file = tmp_path / "of_ours" / "losses.py"
    assert line.startswith(expected.format(file=file, last=text.count("\n")))
