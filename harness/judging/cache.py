"""Answers that arrived, kept for good: SQLite, one file on a local disk, shared by all runs on a machine.

A key is the hash of everything that shapes an answer: the judge with its model, server, template and sampling settings
(`Judge.identity`), the prompt with its further turns and known answers, both texts, and the order. Only what a judge
said is kept, readable or not; a call that failed is no answer.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from harness.core.disk import refusal
from harness.core.errors import UserError
from harness.judging.protocol import Answer, Question

CACHE = "verdicts.sqlite"
KEPT = ("ok", "unparsable")
WAIT_SECONDS = 60.0  # for another process that is writing


def question_key(judge_digest: str, question: Question) -> bytes:
    """The key of one question to one judge."""
    comparison = question.comparison
    parts = [judge_digest, question.order, comparison.candidate.text, comparison.reference.text]
    parts += [comparison.prompt.answer]
    for message in comparison.prompt.messages:
        parts += [message.role, message.content]
    if turns := comparison.prompt.turns:  # how many parts there are says which of them these are
        parts += [f"{len(turns)} further turns", *turns, *comparison.prompt.references[1:]]
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode()
        whole.update(b"%d:" % len(data))  # so that no text can pass for two
        whole.update(data)
    return whole.digest()


class VerdictCache:
    """Use as a context manager, in one thread. Each answer is committed as it arrives: a killed process loses none."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        try:
            self._base = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)
            with FileLock(f"{path}.lock"):  # SQLite does not wait for its turn to change the mode
                self._base.execute("PRAGMA journal_mode=WAL")  # readers and one writer side by side
            self._base.execute("PRAGMA synchronous=NORMAL")  # a crash of the machine may lose the last answers
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS answers"
                " (key BLOB PRIMARY KEY, judge TEXT, answer TEXT, created TEXT) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> UserError:
        return refusal(error, self._path) or UserError(
            f"the verdict cache {self._path} cannot be used ({error}); move it away, or choose another store with "
            "DADPO_HARNESS_STORE"
        )

    def __enter__(self) -> VerdictCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """The answers that are there, by key; at most some hundred keys a call."""
        marks = ",".join("?" * len(keys))
        try:
            rows = self._base.execute(f"SELECT key, answer FROM answers WHERE key IN ({marks})", keys).fetchall()
            return {key: Answer(**json.loads(text)) for key, text in rows}
        except (sqlite3.Error, ValueError, TypeError) as error:  # the latter two: a row that this version did not write
            raise self._broken(error) from error

    def put(self, key: bytes, judge: str, answer: Answer) -> None:
        """Keep an answer, in place of an older one; what is no answer is not kept."""
        if answer.status not in KEPT:
            return
        row = (key, judge, json.dumps(vars(answer)), datetime.now(UTC).isoformat(timespec="seconds"))
        try:
            self._base.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise self._broken(error) from error
