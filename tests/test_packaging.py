"""The wheel: what is in it, and that it works away from the repository."""

from __future__ import annotations

import ast
import itertools
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PARTS = ("harness", "baselines", "benchmarks", "tests", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a clean copy of the repository, built with what is installed."""
    pytest.importorskip("setuptools", minversion="77")
    pytest.importorskip("build")
    copy = tmp_path_factory.mktemp("copy")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, copy / part)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation"],
        cwd=copy,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (made,) = (copy / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the wheel in it; what it depends on is looked up in this one."""
    home = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(home, with_pip=False, system_site_packages=False)
    scripts = "Scripts" if os.name == "nt" else "bin"
    interpreter = home / scripts / ("python.exe" if os.name == "nt" else "python")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", interpreter, "install", "--quiet", "--no-index", "--no-deps", wheel],
        check=True,
    )
    # a folder that a .pth file names is searched last, and its own .pth files (an editable install's) are not read
    site = subprocess.run(
        [interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return interpreter


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [python, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_wheel_holds_every_module_and_no_test(names: set[str]) -> None:
    modules = {path.relative_to(ROOT).as_posix() for part in PARTS[:3] for path in (ROOT / part).rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules


@pytest.mark.parametrize(
    "pattern",
    [
        "terms.yaml",
        "prompts/*.jsonl",
        "prompts/*.md",
        "models/*.yaml",
        "pairs/*.yaml",
        "presets/*.yaml",
        "chat_templates/*.jinja",
    ],
)
def test_the_wheel_holds_the_data_that_ships(names: set[str], pattern: str) -> None:
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "benchmarks").glob(pattern)}
    assert files
    assert files <= names


def test_the_wheel_holds_its_license(names: set[str]) -> None:
    assert any(name.endswith("/LICENSE") for name in names)


def test_the_installed_harness_is_the_wheel_s_copy(python: Path, tmp_path: Path) -> None:
    code = "import harness, baselines, benchmarks\nfor m in (harness, baselines, benchmarks): print(m.__file__)"
    done = run(python, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.split():
        assert Path(line).is_relative_to(python.parents[1])
        assert not Path(line).is_relative_to(ROOT)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("methods", "dadpo"), ("models", "qwen2.5-7b"), ("prompts", "followups"), ("presets", "embedded")],
)
def test_the_wheel_lists_what_there_is_away_from_the_repository(
    python: Path, tmp_path: Path, kind: str, name: str
) -> None:
    done = run(python, tmp_path, "-m", "harness", "list", kind)
    assert (done.returncode, done.stderr) == (0, "")
    assert name in done.stdout


def test_the_wheel_has_a_command_of_its_own(python: Path, tmp_path: Path) -> None:
    command = next(python.parent.glob("harness*"))
    done = subprocess.run([command, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "leaderboard" in done.stdout


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    names = {Requirement(text).name.replace("_", "-").lower() for text in declared}
    providers = packages_distributions()
    ours = {"harness", "baselines", "benchmarks"}
    undeclared = {
        (module, str(path.relative_to(ROOT)))
        for top in ours
        for path in (ROOT / top).rglob("*.py")
        for module in imported_by(path) - sys.stdlib_module_names - ours
        if not {name.replace("_", "-").lower() for name in providers.get(module, [module])} & names
    }
    assert undeclared == set()


def imported_by(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_at_the_top_of_the_harness_there_are_rooms_alone() -> None:
    assert {path.name for path in (ROOT / "harness").glob("*.py")} == {"__init__.py", "__main__.py"}
    for room in (ROOT / "harness").iterdir():
        if room.is_dir() and room.name != "__pycache__":
            module = ast.parse((room / "__init__.py").read_text(encoding="utf-8"))
            assert ast.get_docstring(module), f"{room.name} does not say what it is for"
