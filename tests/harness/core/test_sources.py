"""Which files a part is made of: what it imports of its own package, at any depth, and nothing else."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import baselines
from harness.core.sources import sources
from harness.methods import MethodSettings

Tree = dict[str, str]
Load = Callable[..., Any]
LOSS = "def loss(inputs, settings):\n    return helper(inputs)\n"
HELPER = "def helper(inputs):\n    return inputs\n"
# a module with a loss → another of its package, by each way to import it
WAYS = {
    "from its name": "from plug.helpers import helper\n",
    "by its name": "import plug.helpers\nhelper = plug.helpers.helper\n",
    "by another name": "import plug.helpers as h\nhelper = h.helper\n",
    "relative": "from .helpers import helper\n",
    "the module, relative": "from . import helpers\nhelper = helpers.helper\n",
    "the module, from the package": "from plug import helpers\nhelper = helpers.helper\n",
    "all of it": "from .helpers import *\n",
    "inside a function": "def helper(inputs):\n    from plug.helpers import helper\n    return helper(inputs)\n",
    "as a choice": "try:\n    from .helpers import helper\nexcept ImportError:\n    helper = None\n",
}


def written(root: Path, tree: Tree) -> None:
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Write files below a folder that is imported from, and import one: `load(tree, "plug.own")`."""
    known = set(sys.modules)

    def load_one(tree: Tree, name: str, root: Path = tmp_path) -> Any:
        for module in set(sys.modules) - known:
            del sys.modules[module]
        written(root, tree)
        monkeypatch.setattr(sys, "path", [str(root), *(p for p in sys.path if not p.startswith(str(tmp_path)))])
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield load_one
    for module in set(sys.modules) - known:
        del sys.modules[module]


def files(*parts: object) -> list[str]:
    """The names of the modules that count."""
    return [line.split(" ")[0] for line in sources(*parts) if re.fullmatch("[^ ]+ [0-9a-f]{64}", line)]


def counts(root: Path, part: object, name: str) -> bool:
    """Whether an edit of the file is seen; the edit stays."""
    before = sources(part)
    assert sources(part) == before
    written(root, {name: (root / name).read_text() + "# edited\n"})
    return sources(part) != before


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_helper_counts_however_it_is_imported(way: str, load: Load, tmp_path: Path) -> None:
    tree = {"plug/__init__.py": "", "plug/own.py": way + LOSS, "plug/helpers.py": HELPER, "plug/other.py": HELPER}
    loss = load(tree, "plug.own").loss
    assert counts(tmp_path, loss, "plug/helpers.py")
    assert not counts(tmp_path, loss, "plug/other.py")


def test_helpers_of_helpers_count_in_sub_packages_and_in_circles_too(load: Load, tmp_path: Path) -> None:
    tree = {
        "plug/__init__.py": "",
        "plug/losses/__init__.py": "",
        "plug/losses/own.py": "from ..maths.sums import helper\n" + LOSS,
        "plug/maths/__init__.py": "",
        "plug/maths/sums.py": "from . import means\n" + HELPER,
        "plug/maths/means.py": "from . import sums\nfrom ..losses import own\nfrom ... import beyond\n",
    }
    written(tmp_path, tree)
    tree["plug/maths/means.py"] = "def never():\n    " + "; ".join(tree["plug/maths/means.py"].strip().split("\n"))
    loss = load(tree, "plug.losses.own").loss
    assert files(loss) == ["plug.losses.own", "plug.maths.means", "plug.maths.sums"]
    assert counts(tmp_path, loss, "plug/maths/means.py")


def test_nothing_is_imported_to_find_out(load: Load, tmp_path: Path) -> None:
    lazy = "def helper(inputs):\n    from plug.sub.deep import helper\n    return helper(inputs)\n"
    tree = {
        "plug/__init__.py": "",
        "plug/own.py": lazy + LOSS,
        "plug/sub/__init__.py": "raise RuntimeError('run')\n",
        "plug/sub/deep.py": HELPER,
    }
    loss = load(tree, "plug.own").loss
    assert files(loss) == ["plug.own", "plug.sub", "plug.sub.deep"]
    assert counts(tmp_path, loss, "plug/sub/deep.py")
    assert "plug.sub" not in sys.modules


@pytest.mark.parametrize(
    ("init", "own", "seen"),
    [
        ("", "from .helpers import helper\n", False),
        ('"""Losses."""\n__all__ = ["own"]\nfrom .other import x\n', "from . import helpers\nhelper = None\n", False),
        ("import torch\ntorch.set_default_dtype(torch.float32)\n", "from .helpers import helper\n", True),
        ("from .other import x as helper\n", "from . import helper\n", True),
        ("from .other import x as helper\n", "import plug\nhelper = plug.helper\n", True),
        ("from .other import x as helper\n", "from plug import *\n", True),
    ],
)
def test_a_package_counts_where_it_has_code_or_something_is_taken_from_it(
    init: str, own: str, seen: bool, load: Load, tmp_path: Path
) -> None:
    tree = {"plug/__init__.py": init, "plug/own.py": own + LOSS, "plug/helpers.py": HELPER, "plug/other.py": "x = 1\n"}
    loss = load(tree, "plug.own").loss
    assert counts(tmp_path, loss, "plug/__init__.py") is seen
    assert counts(tmp_path, loss, "plug/other.py") is (seen and "other" in init)


def test_a_module_in_no_package_has_those_next_to_it(load: Load, tmp_path: Path) -> None:
    tree = {
        "own.py": "import json\nimport numpy\nimport near\nfrom beside.deep import x\n" + LOSS,
        "near.py": "import nearer\n" + HELPER,
        "nearer.py": HELPER,
        "beside/__init__.py": "",
        "beside/deep.py": "from .deeper import x\n",
        "beside/deeper.py": "x = 1\n",
        "never.py": HELPER,
    }
    loss = load(tree, "own").loss
    assert files(loss) == ["beside.deep", "beside.deeper", "near", "nearer", "own"]


def test_what_is_installed_beside_a_plug_in_is_not_its_own(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.core.sources.INSTALLED", frozenset({tmp_path}))
    tree = {
        "own.py": "import near\nimport library\n" + LOSS,
        "near.py": HELPER,
        "library/__init__.py": HELPER,
    }
    assert files(load(tree, "own").loss) == ["near", "own"]


def test_other_packages_and_the_harness_are_no_part_but_baselines_is(load: Load) -> None:
    uses = "import numpy as np\nfrom harness.methods import MethodSettings\nfrom baselines.dadpo import dadpo_loss\n"
    tree = {
        "plug/__init__.py": "",
        "plug/own.py": "import library\n" + uses + LOSS,
        "library/__init__.py": HELPER,
    }
    assert files(load(tree, "plug.own").loss) == ["baselines.dadpo", "plug.own"]
    assert files(MethodSettings) == []


def test_a_baseline_s_helper_is_in_its_key(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(tmp_path)])
    tree = {"fresh.py": "from baselines.maths import helper\n" + LOSS, "maths.py": HELPER}
    loss = load(tree, "baselines.fresh").loss
    assert files(loss) == ["baselines.fresh", "baselines.maths"]
    assert counts(tmp_path, loss, "maths.py")
    for name in ("fresh", "maths"):
        delattr(baselines, name)


def test_neither_places_nor_the_order_of_imports_are_in_it(load: Load, tmp_path: Path) -> None:
    imports = ["from .one import x\n", "from .two import y\n", "from .helpers import helper\n"]
    tree = {"plug/__init__.py": "", "plug/helpers.py": HELPER, "plug/one.py": "from .two import y\nx = 1\n"}
    tree |= {"plug/own.py": "".join(imports) + LOSS, "plug/two.py": "y = 1\n"}
    found = []
    for name in ("here", "there"):
        own = load(tree, "plug.own", tmp_path / name)
        found.append(sources(own.loss))
        assert not any(str(tmp_path) in line for line in found[-1])
        kinds = [line.split(" ")[0] for line in found[-1]]
        assert kinds == ["plug.own:loss", "plug.helpers", "plug.one", "plug.own", "plug.two"]
    assert found[0] == found[1]


def test_two_functions_of_one_file_are_two(load: Load) -> None:
    own = load({"plug/__init__.py": "", "plug/own.py": "def one(): ...\ndef two(): ...\n"}, "plug.own")
    assert sources(own.one) != sources(own.two)


def test_a_function_s_arguments_in_a_partial_are_followed(load: Load, tmp_path: Path) -> None:
    tree = {"plug/__init__.py": "", "plug/own.py": "def scaled(loss, by): ...\n", "plug/helpers.py": HELPER}
    own = load(tree, "plug.own")
    helper = importlib.import_module("plug.helpers").helper
    part = functools.partial(own.scaled, helper, by=2)
    assert files(part) == ["plug.helpers", "plug.own"]
    assert "0x" not in "".join(sources(part))
    assert sources(part) != sources(functools.partial(own.scaled, helper, by=3))
    assert counts(tmp_path, part, "plug/helpers.py")


def test_a_decorated_loss_is_followed_to_the_file_that_it_is_written_in(load: Load, tmp_path: Path) -> None:
    tree = {
        "plug/__init__.py": "",
        "plug/own.py": "from .tools import quick\n@quick\ndef loss(inputs, settings): ...\n",
        "plug/tools.py": "import functools\ndef quick(f):\n    return functools.wraps(f)(lambda *a: f(*a))\n",
    }
    assert files(load(tree, "plug.own").loss) == ["plug.own", "plug.tools"]


def test_a_neighbour_that_is_not_python_yet_counts_by_its_text(load: Load, tmp_path: Path) -> None:
    tree = {"plug/__init__.py": "", "plug/own.py": "def later():\n    from . import draft\n" + LOSS}
    tree["plug/draft.py"] = "def (\n"
    loss = load(tree, "plug.own").loss
    assert counts(tmp_path, loss, "plug/draft.py")


def test_what_no_import_finds_is_its_file(tmp_path: Path) -> None:
    code = "def loss(): ...\n"
    written(tmp_path, {"script.py": code})
    space: dict[str, Any] = {"__name__": "a_script_by_hand"}
    exec(compile(code, str(tmp_path / "script.py"), "exec"), space)
    assert files(space["loss"]) == ["a_script_by_hand"]
    assert counts(tmp_path, space["loss"], "script.py")
