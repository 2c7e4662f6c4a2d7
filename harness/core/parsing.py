"""JSON from outside as plain data."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str) -> Any:
    """What a JSON text holds.

    Raises:
        UnicodeEncodeError: a text in it has half a surrogate pair, which nothing could write again.
        ValueError: it is no JSON, nested deeper than can be followed, or gives one name two values in one object.
    """
    try:
        data = json.loads(text, object_pairs_hook=_each_once)
        json.dumps(data, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return data


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' is there twice in one object")
    return found
