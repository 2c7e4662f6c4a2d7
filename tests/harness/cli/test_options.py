"""Options: each is written once, and says for itself what it sets and how it is reproduced."""

from __future__ import annotations

import shlex
from dataclasses import fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import pytest
import typer

from harness.cli.options import JudgeRequest, Options, RunRequest, spread
from harness.core.errors import UserError

UNTRAINED = "student (untrained)"
# of each option that sets something: a value, and the layer of configuration that it is
SETS: dict[str, tuple[Any, dict[str, Any]]] = {
    "methods": ("sft, kd,", {"methods": ["sft", "kd"]}),
    "plugin": (["a b.py", "c.py"], {"plugins": ["a b.py", "c.py"]}),
    "student": ("a", {"student": "a"}),
    "teacher": ("a", {"teacher": "a"}),
    "judge": ("a,b", {"judge": {"name": "a,b"}}),
    "template": ("mine.yaml", {"judge": {"template": "mine.yaml"}}),
    "max_cost": (2.5, {"judge": {"max_cost": 2.5}}),
    "measures": ("forward_kl, length", {"measures": ["forward_kl", "length"]}),
    "samples": (2, {"samples": 2}),
    "primary": ("dadpo:ddpo-beta0.15", {"primary": ["dadpo", "ddpo-beta0.15"]}),
    "margin": (5.0, {"margin": 5.0}),
    "versus": ("dadpo:ddpo, dadpo:student (untrained)", {"versus": [["dadpo", "ddpo"], ["dadpo", UNTRAINED]]}),
    "controls": ("none", {"controls": "none"}),
    "train_prompts": ("a", {"train_prompts": "a"}),
    "eval": ("a,in:b", {"eval": ["a", "in:b"]}),
    "limit": (3, {"limits": {"train": 3, "eval": 3}}),
    "retention": ("arc_easy, mine.yaml", {"retention": ["arc_easy", "mine.yaml"]}),
    "seed": (0, {"seed": 0}),
    "seeds": ("0, 1", {"seeds": ["0", "1"]}),
    "grid": (
        ["settings.dadpo.beta_teacher=0,0.1; seed.x=a,b", "limits.train=1e2,20"],
        {
            "grid": [
                {"settings.dadpo.beta_teacher": [0.0, 0.1], "seed.x": ["a", "b"]},
                {"limits.train": [100.0, 20]},
            ]
        },
    ),
    "tune": (["training.learning_rate=1e-5,2e-5"], {"tune": [{"training.learning_rate": [1e-5, 2e-5]}]}),
    "tune_by": ("loss", {"tune_by": "loss"}),
    "match": ("tokens:dadpo", {"match": "tokens:dadpo"}),
}
# of those that set nothing: a value, and what of it stands in the command that reproduces a run
OTHERS: dict[str, tuple[Any, list[str]]] = {
    "preset": ("quick", ["--preset", "quick"]),
    "config": (Path("a b.yaml"), ["--config", "a b.yaml"]),
    "set": (["store=/s", "seed=1", "vllm.python=/p", "limits.eval=2"], ["--set", "seed=1", "--set", "limits.eval=2"]),
}
REPRODUCED = {
    **{name: part for name, (_, part) in OTHERS.items()},
    **{name: [f"--{name.replace('_', '-')}", str(value)] for name, (value, _) in SETS.items()},
    "plugin": ["--plugin", "a b.py", "--plugin", "c.py"],
    "grid": [
        *("--grid", "settings.dadpo.beta_teacher=0,0.1; seed.x=a,b"),
        *("--grid", "limits.train=1e2,20"),
    ],
    "tune": ["--tune", "training.learning_rate=1e-5,2e-5"],
    "max_cost": [],  # how much may be spent shapes nothing
}
GIVEN = {name: value for name, (value, _) in {**OTHERS, **SETS}.items()}


def command(request: RunRequest) -> list[str]:
    python, module, harness, run, *options = shlex.split(request.command(request.preset))
    assert [python, module, harness, run] == ["python", "-m", "harness", "run"]
    return options


def test_every_option_of_a_run_is_tested_here() -> None:
    assert set(GIVEN) == {field.name for field in fields(RunRequest)}


@pytest.mark.parametrize("name", SETS)
def test_an_option_sets_what_it_says(name: str) -> None:
    value, layer = SETS[name]
    assert RunRequest(**{name: value}).layer() == layer


@pytest.mark.parametrize("text", ["dadpo", "dadpo:", ":ddpo", ":"])
@pytest.mark.parametrize("option", ["primary", "versus"])
def test_two_rows_are_named_with_a_colon_between(option: str, text: str) -> None:
    with pytest.raises(UserError) as caught:
        RunRequest(**{option: text}).layer()
    assert str(caught.value) == f"--{option} {text}: expected two rows with a colon between them, such as dadpo:ddpo"


def test_options_of_one_section_are_one_section_of_the_layer() -> None:
    assert RunRequest(**GIVEN).layer() == {
        **{key: value for _, layer in SETS.values() for key, value in layer.items() if key != "judge"},
        "judge": {"name": "a,b", "template": "mine.yaml", "max_cost": 2.5},
    }


@pytest.mark.parametrize("name", REPRODUCED)
def test_an_option_says_how_it_is_reproduced(name: str) -> None:
    assert command(RunRequest(**{name: GIVEN[name]})) == REPRODUCED[name]


def test_the_command_that_reproduces_a_run_does_not_depend_on_the_order_of_the_options() -> None:
    hints = get_type_hints(RunRequest, include_extras=True)
    parts = [(field.name, hints[field.name], field) for field in reversed(fields(RunRequest))]
    other: Any = make_dataclass("Reversed", parts, bases=(Options,), frozen=True)
    other.command = RunRequest.command
    turned = [part for name in reversed(fields(RunRequest)) for part in REPRODUCED[name.name]]
    assert command(other(**GIVEN)) == turned
    assert command(RunRequest(**GIVEN)) == [part for field in fields(RunRequest) for part in REPRODUCED[field.name]]


def test_a_preset_that_nobody_named_is_reproduced() -> None:
    assert RunRequest(seed=1).command("embedded") == "python -m harness run --preset embedded --seed 1"


def test_judging_has_the_same_options_for_the_same_settings(tmp_path: Path) -> None:
    file = tmp_path / "judge.yaml"
    file.write_text("judge: {samples: 5, form: letter}")
    asked = JudgeRequest("a,b", template="mine.yaml", max_cost=2.5, config=file, set=["judge.form=rationale"])
    judge = asked.resolve().judge
    assert (judge.names, judge.template, judge.max_cost) == (("a", "b"), "mine.yaml", 2.5)
    assert (judge.samples, judge.form) == (5, "rationale")


# ---- as typer takes them


def spread_out(*arguments: str) -> Any:
    """What a command is called with that has records of options between its own."""
    app = typer.Typer(add_completion=False)
    called: list[Any] = []

    @spread
    def judge(candidate: Annotated[str, typer.Option()], request: JudgeRequest, out: str = "here") -> int:
        called.append((candidate, request, out))
        return 3

    app.command()(judge)
    assert app(list(arguments), standalone_mode=False) == 3  # what a command returns is the process's status
    return called[0]


def test_a_record_of_options_reaches_a_command_whole() -> None:
    arguments = ["--candidate", "c", "--judge", "a", "--set", "k=1", "--set", "l=2", "--refresh"]
    assert spread_out(*arguments) == ("c", JudgeRequest("a", set=["k=1", "l=2"], refresh=True), "here")


def test_an_option_that_is_required_is_so_in_a_record_too() -> None:
    with pytest.raises(Exception, match="judge"):
        spread_out("--candidate", "c")


def test_a_command_without_a_record_keeps_its_own_options() -> None:
    def report(run_dir: Annotated[Path, typer.Argument()], out: Path = Path("report.html")) -> None: ...

    app = typer.Typer(add_completion=False)
    app.command()(spread(report))
    assert app(["folder"], standalone_mode=False) is None
