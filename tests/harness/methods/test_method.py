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
import torch

import baselines
from harness.core.errors import UserError
from harness.measures import measures
from harness.methods import (
    PAIR,
    POLICY,
    RESPONSE,
    Control,
    Definition,
    DistributionInputs,
    DistributionSettings,
    FreshSettings,
    Method,
    MethodSettings,
    Term,
    TokenInputs,
    TokenSettings,
    methods,
    selected_controls,
)
from harness.methods.inputs import NotReadError
from harness.methods.registry import MethodRegistry, load_methods

SOURCES = {
    "own_loss": "def loss(inputs, settings):\n    return inputs.policy[:, 0]\n",
    "own_settings": (
        "from harness.methods.settings import MethodSettings\n\nclass Settings(MethodSettings):\n    mine: int = 1\n"
    ),
    "own_transform": "def transform(sums, settings, seed):\n    return sums\n",
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


ANY = Definition("any", "none", "any", "any")


def plain(inputs: Any, settings: Any) -> Any:
    """A loss."""


def further(inputs: Any, settings: Any) -> Any:
    """Another."""


def method_of(loss: Callable[..., Any], **others: Any) -> Method:
    fields: dict[str, Any] = {"level": "sequence", "responses": RESPONSE, "per": "token", **others}
    return Method(name="own", summary="", source="", loss=loss, defines=ANY, **fields)


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
        {"responses": PAIR},
        {"responses": (("response", "student", 0),)},
        {"responses": (("response", "teacher", 1),)},
        {"responses": (("answer", "teacher", 0),)},
        {"per": "example"},
        {"reads": ("reference",)},
        {"also": (Term("sequence", further, "example"),)},
        {"also": (Term("sequence", plain, "example", weight=lambda _settings: 2.0),)},
        {"transform": None},
        {"settings": MethodSettings},
    ],
    ids=range(10),
)
def test_another_field_is_another_training(field: dict[str, Any], own: Method) -> None:
    assert replace(own, **field).source_digest != own.source_digest


@pytest.mark.parametrize(
    "field",
    [
        {"summary": "other"},
        {"source": "other"},
        {"controls": lambda _settings: []},
        {"defines": replace(ANY, direction="other")},
    ],
)
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


# ---- what makes no sense


def carried(state: Any, loss: Any, progress: Any, settings: Any) -> Any:
    """A state."""


def shown(messages: Any, demonstration: Any) -> Any:
    """What a teacher reads."""


def changed(sums: Any, settings: Any, seed: Any) -> Any:
    """Sums."""


TOKENS: dict[str, Any] = {"level": "token", "settings": TokenSettings, "reads": ("teacher",)}
ROWS: dict[str, Any] = {"level": "distribution", "settings": DistributionSettings, "reads": ("teacher",)}
FRESH_PAIR = (("chosen", "teacher", 0), ("rejected", "policy", 0))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"level": "word"}, "the level is 'word'; expected one of sequence, token, distribution"),
        ({"per": "batch"}, "per is 'batch'; expected one of token, response, example"),
        ({"per": "response"}, 'a sequence-level loss is of whole examples; per="example"'),
        ({"also": (Term("sequence", plain, "response"),)}, 'a sequence-level loss is of whole examples; per="example"'),
        ({"responses": ()}, "responses is empty"),
        ({"responses": (("response", "somebody", 0),)}, "expected (role, one of teacher, student, policy, sample"),
        ({"responses": (("response", "teacher", -1),)}, "sample from 0"),
        ({"responses": (("response", "teacher"),)}, "responses has ('response', 'teacher'); expected"),
        ({"responses": (("response", "teacher", True),)}, "responses has ('response', 'teacher', True); expected"),
        ({"responses": (("", "teacher", 0),)}, "responses has ('', 'teacher', 0); expected"),
        ({"responses": (("a b", "teacher", 0),)}, "with a role of lower-case letters, digits and single hyphens or"),
        ({"responses": ((1, "teacher", 0),)}, "responses has (1, 'teacher', 0); expected"),
        ({"responses": ("response", "teacher", 0)}, "responses has 'response'; expected (role, one of"),
        ({"responses": None}, "responses is of the type NoneType; expected a tuple, such as responses=RESPONSE"),
        ({"responses": "pairs"}, "responses is of the type str; expected a tuple, such as responses=RESPONSE"),
        ({"reads": "teacher"}, 'reads is of the type str; expected a tuple, such as reads=("teacher",)'),
        ({"reads": ("teacher", "teacher")}, "reads has 'teacher' twice"),
        ({"also": Term("token", plain, "token")}, "also is of the type Term; expected a tuple, such as also=(Term("),
        ({"also": (plain,)}, "also has what is no Term(level, loss, per, weight)"),
        ({"compared_with": "sft"}, 'compared_with is of the type str; expected a tuple, such as compared_with=("sft",'),
        ({"minimises": "nll"}, 'minimises is of the type str; expected a tuple, such as minimises=("nll",)'),
        ({"responses": (*RESPONSE, *RESPONSE)}, "responses has one role twice"),
        ({"reads": ("judge",)}, "reads has 'judge'; expected reference or teacher"),
        ({**TOKENS, "settings": MethodSettings}, "its level is token, so its settings must be a TokenSettings"),
        ({**ROWS, "settings": TokenSettings}, "its level is distribution, so its settings must be a Distribution"),
        ({"also": (Term("token", plain, "token"),)}, "its level is token, so its settings must be a TokenSettings"),
        ({"responses": FRESH_PAIR}, "so its settings must be FreshSettings"),
        (
            {"responses": (*POLICY, ("other", "policy", 0)), "settings": FreshSettings},
            "only one role can be the policy's own; several samples of a prompt are the setting `samples`",
        ),
        ({"state": lambda settings: {}}, "state and advance go together"),
        ({"advance": carried}, "state and advance go together"),
        ({**TOKENS, "reads": (), "teacher_sees": shown}, "teacher_sees says what the teacher reads"),
        ({"reads": ("teacher",), "teacher_sees": shown}, "teacher_sees goes with the level distribution"),
        ({**TOKENS, "teacher_sees": shown}, "teacher_sees goes with the level distribution"),
        (
            {**ROWS, "also": (Term("token", further, "token"),), "teacher_sees": shown},
            "teacher_sees goes with the level distribution, and with no term of another",
        ),
        ({**TOKENS, "transform": changed}, "transform is of the sums of stored responses"),
        (
            {"settings": DistributionSettings, "also": (Term("token", further, "token"),), "transform": changed},
            "transform is of the sums of stored responses: level sequence in all terms",
        ),
        (
            {"responses": FRESH_PAIR, "settings": FreshSettings, "transform": changed},
            "transform is of the sums of stored responses",
        ),
        ({**TOKENS, "reads": (), "responses": POLICY}, "reads no frozen model: nothing would pull it"),
        ({**ROWS, "reads": ()}, "it compares distributions and reads no frozen model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_sense_is_refused_in_one_line_with_the_file_s_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        method_of(plain, **fields)
    told = str(caught.value)
    assert told.startswith(f"{__file__}: METHOD 'own': ") and words in told
    assert "\n" not in told


@pytest.mark.parametrize(
    "fields",
    [
        {**TOKENS, "responses": POLICY},
        {**ROWS, "responses": PAIR, "per": "response"},
        {**ROWS, "also": (Term("sequence", further, "token"),), "responses": PAIR},
        {**ROWS, "teacher_sees": shown, "responses": POLICY},
        {"responses": FRESH_PAIR, "settings": FreshSettings, "per": "example"},
        {"state": lambda settings: {"t": 0.0}, "advance": carried},
        {"responses": tuple((f"sample-{n}", "student", n) for n in range(4)), "per": "example"},
    ],
    ids=range(7),
)
def test_what_makes_sense_is_made(fields: dict[str, Any]) -> None:
    assert method_of(plain, **fields).file == __file__


# ---- what it reads and whose responses


def test_the_policy_s_own_stored_responses_are_whose_the_settings_say() -> None:
    method = method_of(plain, **{**TOKENS, "responses": POLICY})
    assert method.written(TokenSettings()) == RESPONSE
    assert method.written(TokenSettings(stored="student")) == (("response", "student", 0),)
    assert method_of(plain, responses=PAIR).written(MethodSettings()) == PAIR


def test_a_share_is_fresh_of_what_is_the_policy_s_own_alone() -> None:
    own, stored = (method_of(plain, **{**TOKENS, "responses": whose}) for whose in (POLICY, RESPONSE))
    assert own.fresh_share(TokenSettings(fresh_share=0.5)) == 0.5
    assert stored.fresh_share(TokenSettings(fresh_share=0.5)) == 0
    assert method_of(plain).fresh_share(MethodSettings()) == 0


def test_a_loss_that_asks_for_what_its_method_does_not_read_is_told_what_to_write() -> None:
    inputs = DistributionInputs(torch.zeros(1, 2), ("response",), {"teacher": torch.ones(1, 2)})
    assert torch.equal(inputs.teacher, torch.ones(1, 2))
    with pytest.raises(
        NotReadError, match=r'inputs\.reference, which its METHOD does not name: reads=\("reference",\)'
    ):
        _ = inputs.reference


def test_sums_stay_in_their_responses() -> None:
    row = torch.tensor([0, 0, 0, 1, 2, 2])
    inputs = TokenInputs(torch.zeros(6), ("response",), {}, row=row)
    values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], requires_grad=True)
    assert inputs.sums(values).tolist() == [7, 8, 48]
    assert inputs.before(values).tolist() == [0, 1, 3, 0, 0, 16]
    (gradient,) = torch.autograd.grad(inputs.before(values).sum(), values)
    assert gradient.tolist() == [2, 1, 0, 0, 1, 0]


def test_rows_know_their_role() -> None:
    inputs = DistributionInputs(torch.zeros(4, 2), ("chosen", "rejected"), {}, role=torch.tensor([0, 1, 1, 0]))
    assert inputs.is_role("rejected").tolist() == [False, True, True, False]


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
def test_a_method_s_settings_are_those_of_its_levels(name: str) -> None:
    method = methods.get(name)
    assert issubclass(method.settings, DistributionSettings) is ("distribution" in method.levels())
    assert issubclass(method.settings, TokenSettings) is bool({"token", "distribution"} & method.levels())
    assert issubclass(method.settings, MethodSettings)
    if any(who == "policy" for _, who, _ in method.responses):
        assert issubclass(method.settings, FreshSettings)


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
        (["dadpo"], "full", ["sft", "dadpo", "ddpo", "gopd"]),
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
    own = method_of(plain, controls=lambda _settings: wanted)
    registry = MethodRegistry("other", lambda: {"own": own, "kd": methods.get("kd")})
    assert registry.closure(["own"], "basic") == ["sft", "own", "kd"]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("none", []),
        ("basic", ["ddpo-beta0.15"]),
        (
            "full",
            ["ddpo-beta0.15", "ddpo-beta0.142857", "dadpo-permuted", "dadpo-mean", "sft-continued", "gopd-same-target"],
        ),
    ],
)
def test_controls_are_selected_by_level(level: str, expected: list[str]) -> None:
    method = methods.get("dadpo")
    assert [control.name for control in selected_controls(method, method.settings(), level)] == expected
