"""`doctor --gpu-check`: each path that only a GPU takes against a CPU's numbers, as a table to send in. It names
versions and the device, and no host and no path."""

from __future__ import annotations

import getpass
import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from harness.core.environment import environment
from harness.core.errors import UserError
from harness.core.secrets import hide
from harness.planning.gpu_paths import PATHS, GpuPath, NotThereError

NO_GPU = (
    "no GPU is here that torch can use: what this compares is a GPU's numbers with a CPU's (doctor says what is here)"
)
HEAD = ("path", "compared with a CPU's", "apart", "at most", "seconds", "")
LONGEST_WORDS = 160  # characters of an error in the table
Verdict = Literal["agrees", "DISAGREES", "FAILED", "not checked"]


@dataclass(frozen=True)
class Row:
    """apart: None where nothing was compared. why: it failed, or was not checked."""

    path: GpuPath
    apart: float | None
    seconds: float
    verdict: Verdict
    why: str = ""

    @property
    def wrong(self) -> bool:
        return self.verdict in ("DISAGREES", "FAILED")


def compare(path: GpuPath, device: torch.device) -> Row:
    began = time.monotonic()

    def row(apart: float | None, verdict: Verdict, why: str = "") -> Row:
        return Row(path, apart, time.monotonic() - began, verdict, why)

    try:
        found, wanted = path.there(device), path.here()
        if [tensor.shape for tensor in found] != [tensor.shape for tensor in wanted]:
            return row(None, "FAILED", "what came out has another shape")
        apart = path.apart(found, wanted)
    except NotThereError as error:
        return row(None, "not checked", str(error))
    except Exception as error:  # whatever a library raises is what is to be told
        return row(None, "FAILED", public(f"{type(error).__name__}: {error}"))
    return row(apart, "agrees" if apart <= path.limit else "DISAGREES")  # what is no number is not below a limit


def public(text: str) -> str:
    """Words of an error on one line, without secrets, paths, and the names of this machine and its user."""
    text = " ".join(hide(text).split())
    text = re.sub(r"(['\"])[^'\"]*[\\/][^'\"]*\1", "…", text)  # a path may have spaces
    text = re.sub(r"(?<![\w.])(?:[A-Za-z]:)?(?:[\\/]+[\w.@+~=-]+)+[\\/]?", "…", text)
    names = [platform.node(), platform.node().partition(".")[0], _user()]
    for name in sorted({name for name in names if len(name) > 1}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text)
    text = text.replace("|", "\\|")
    return text if len(text) <= LONGEST_WORDS else text[:LONGEST_WORDS] + "…"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # it has no name
        return ""


def a_gpu() -> torch.device:
    """Raises: UserError where there is none."""
    if not torch.cuda.is_available():
        raise UserError(NO_GPU)
    return torch.device("cuda", 0)


def check_gpu(say: Callable[[str], None], device: torch.device, paths: Sequence[GpuPath] = PATHS) -> int:
    """Say the table line by line, in markdown; the exit status: 1 where a path is wrong."""
    for line in _words(device):
        say(line)
    rows = []
    for path in paths:
        rows.append(compare(path, device))
        say(_line(_cells(rows[-1])))
    wrong = [row.path.name for row in rows if row.wrong]
    checked = sum(row.verdict != "not checked" for row in rows)
    say("")
    say(f"**{', '.join(wrong)}: not as on a CPU.**" if wrong else f"All {checked} paths that were checked agree.")
    return 1 if wrong else 0


def _words(device: torch.device) -> Iterator[str]:
    made: dict[str, Any] = environment()
    git = made["git"]
    at = f" ({git['commit'][:12]}{', changed' if git['changed'] else ''})" if git else ""
    packages = ", ".join(f"{name} {version}" for name, version in made["packages"].items())
    yield f"harness {made['harness']}{at}, Python {made['python']}, {made['system']}; {packages}"
    yield ""
    yield f"{_device(device)}; {made['processor']}, {made['cores']} cores"
    yield ""
    yield _line(HEAD)
    yield _line(["---", "---", "--:", "--:", "--:", "---"])


def _device(device: torch.device) -> str:
    if device.type != "cuda":
        return str(device.type)
    found = torch.cuda.get_device_properties(device)
    runtime = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
    return f"{found.name} ({found.major}.{found.minor}, {found.total_memory / 2**30:.0f} GiB), {runtime}"


def _cells(row: Row) -> list[str]:
    apart = "" if row.apart is None else f"{row.apart:.1e}"
    said = row.verdict + (f": {row.why}" if row.why else "")
    return [row.path.name, row.path.compared, apart, f"{row.path.limit:g}", f"{row.seconds:.1f}", said]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
