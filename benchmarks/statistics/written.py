"""Where a simulation's lines go, and the options that say so."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def parser_of(doc: str | None, name: str) -> argparse.ArgumentParser:
    """Of a module with this text; its lines go to a file of this name where `--csv` names no other."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n", 1)[0])
    parser.add_argument("--csv", type=Path, default=RESULTS / name)
    return parser


def write(path: Path, fields: Sequence[str], lines: Iterable[Mapping[str, Any]]) -> None:
    """The lines as CSV, with a head."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
