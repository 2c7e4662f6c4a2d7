"""A first draft of a method: its file, its test and its page, which run as they are."""

from __future__ import annotations

import importlib.util
import keyword
from dataclasses import dataclass
from importlib import resources

import jinja2

from harness.core.errors import UserError
from harness.core.files import absolute
from harness.methods.method import A_NAME, Level, is_name

TAKEN = "its file would have the name of a Python module that is here already"


@dataclass(frozen=True)
class _Words:
    """What the draft of a level says of itself: in its METHOD's definition and on its page."""

    formula: str
    direction: str
    support: str
    normaliser: str
    data: str
    start: str
    weight: str = "none"


_STORED, _FRESH = (
    "stored: the teacher's responses; `fresh_share` for the policy's own",
    "fresh: the policy's own responses",
)
_SFT, _STUDENT = "the SFT student", "the untrained student"
_WORDS: dict[tuple[Level, bool], _Words] = {
    ("sequence", False): _Words(
        "L = −log σ( β ( log π_θ(chosen)/|chosen| − log π_θ(rejected)/|rejected| ) )",
        "raises chosen over rejected, by β times the difference of mean log-probs",
        "the tokens of both responses",
        "pairs",
        "stored pairs: the teacher's response over the SFT student's",
        _SFT,
    ),
    ("sequence", True): _Words(
        "L = ½ ( log π_θ(y) − log π_te(y) )²      over all response tokens",
        "KL(policy ‖ teacher) of responses, by samples",
        "the sampled tokens",
        "response tokens",
        _FRESH,
        _SFT,
    ),
    ("token", False): _Words(
        "L = ½ ( log π_θ(y_t) − log π_te(y_t) )²      averaged over response tokens",
        "½ (log policy − log teacher)²",
        "the sampled tokens",
        "response tokens",
        _STORED,
        _STUDENT,
    ),
    ("token", True): _Words(
        "L = ½ ( log π_θ(y_t) − log π_te(y_t) )²      averaged over response tokens",
        "KL(policy ‖ teacher) by samples",
        "the sampled tokens",
        "response tokens",
        _FRESH,
        _SFT,
    ),
    ("distribution", False): _Words(
        "L = ½ Σ_v ( √π_θ(v) − √π_te(v) )²      averaged over response tokens",
        "½ Σ (√policy − √teacher)², symmetric",
        "the vocabulary",
        "response tokens",
        _STORED,
        _STUDENT,
    ),
    ("distribution", True): _Words(
        "L = ½ Σ_v ( √π_θ(v) − √π_te(v) )²      averaged over response tokens",
        "½ Σ (√policy − √teacher)², symmetric",
        "the vocabulary",
        "response tokens",
        _FRESH,
        _SFT,
    ),
}


def drafts(name: str, level: Level, fresh: bool) -> dict[str, str]:
    """The text of each file, by the file's name: the method, its test, its page.

    Raises:
        UserError: no method or no module can be called so.
    """
    module = name.replace("-", "_")
    if not is_name(name):
        raise UserError(f"a method cannot be called '{name}': {A_NAME}")
    if keyword.iskeyword(module):
        raise UserError(f"a method cannot be called '{name}': it is a keyword of Python, and names a module")
    if _is_there(module):
        raise UserError(f"a method cannot be called '{name}': {TAKEN} ({module}); choose another name")
    said = {
        **vars(_WORDS[level, fresh]),
        "name": name,
        "module": module,
        "function": module if module.endswith("_loss") else f"{module}_loss",
        "level": level,
        "fresh": fresh,
    }
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, autoescape=False
    )
    folder = resources.files("harness.methods") / "drafts"

    def filled(template: str) -> str:
        return environment.from_string((folder / template).read_text(encoding="utf-8")).render(said)

    return {
        f"{module}.py": filled(f"{level}.py.j2"),
        f"test_{module}.py": filled("test.py.j2"),
        f"{name}.md": filled("page.md.j2"),
    }


def _is_there(module: str) -> bool:
    """Whether Python finds another module of that name; a folder without an `__init__` gives way, and the file that is
    to be written is no other."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return True
    return spec is not None and spec.origin is not None and absolute(spec.origin) != absolute(f"{module}.py")
