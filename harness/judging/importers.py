"""Judgments that other tools wrote, as verdicts: AlpacaEval's annotations, Arena-Hard's and FastChat's judgments.

Every importer takes one tool's files and an optional `reference`, and keeps the judgments against that model alone. A
judgment that exists twice (same prompt, candidate, reference and judge) is kept, as a `repeat`: the tools' own tables
count it too. A judge that was asked in vain is `failed`, and so is a judgment that lacks what others of its file have:
a game, a preference, a response; words that hold no verdict are `unparsable`. Formats as written by alpaca_eval 0.6,
arena-hard-auto v0.1 and v2, and FastChat's llm_judge. `note` is called with what else people are to be told.

All raise UserError, by file and line (or index, from 0), for what is not the format: a field that says whose judgment
it is and is not there, a file in which no row has what the format is about, and what would have to be guessed (a third
game, a grade, a winner that is none).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.files import canonical_hash
from harness.core.records import SHORT, Message, Order, Prompt, Status, Verdict, read_jsonl
from harness.statistics.arena_hard import LABELS

Note = Callable[[str], None]
Importer = Callable[[Sequence[Path], str | None, Note], list[Verdict]]
Judgment = tuple[str, dict[str, Any]]  # where it stands, and what it holds
API_ERROR = "$ERROR$"  # what FastChat and Arena-Hard v0.1 write in place of an answer that never came
_NO_GAME = "no answer"  # of a game that is not there
_OUTPUTS = ("output_1", "output_2")  # AlpacaEval's reference, and its candidate
_FASTCHAT_GAMES = {"g1": "model_1", "g2": "model_2"}  # who is shown first
_ARENA_ORDERS: tuple[Order, ...] = ("reference_first", "candidate_first")


def _untold(_: str) -> None: ...


def from_alpaca_eval(paths: Sequence[Path], reference: str | None = None, note: Note = _untold) -> list[Verdict]:
    """AlpacaEval's annotations.json: a list of objects; output_2 is the candidate's, output_1 the reference's.

    `preference` is 1 (output_1) to 2 (output_2), 0 or 1.5 a draw, null a judge that failed; what else AlpacaEval drops
    as no preference is `unparsable`. A row failed that lacks its preference or one of the outputs. It shuffles the two
    outputs and undoes that: each prompt was judged in one order, which is not known. Prompts have no id there: theirs
    is a hash of the instruction. All are one prompt set.
    """
    files = _files(paths, _json_list)
    return _kept(chain.from_iterable(map(_alpaca_file, files)), reference)


def from_arena_hard(paths: Sequence[Path], reference: str | None = None, note: Note = _untold) -> list[Verdict]:
    """Arena-Hard's model_judgment JSONL: two games a row; A is the baseline in the first, the model in the second.

    Where no row of a model and judge in a file has a second game (`pairwise: False`), each prompt was judged in one
    order; else a game that a row lacks, or that is no object, failed. v0.1 has `question_id` and does not name its
    baseline: `reference` does, or it is "baseline". v2 has `uid`, `category` (the prompt set) and `baseline`. `score`
    is a label, see LABELS, and stands in `detail`.
    """
    found = (_arena_file(rows, reference or "baseline") for rows in _files(paths, _json_lines))
    return _kept(chain.from_iterable(found), reference)


def from_fastchat(paths: Sequence[Path], reference: str | None = None, note: Note = _untold) -> list[Verdict]:
    """FastChat's *_pair.jsonl: model_1 is shown first in game 1, model_2 in game 2; winners are named by model.

    reference: the model that the others are compared with; without it, the one that all rows share, and of two such
        the one that is model_2 throughout, where FastChat puts its baseline.
    A game that a row lacks failed; one that no row of a file has was not asked for. A judgment is of one `turn`, the
    first where none is said. Rows of the reference against itself are left out, which is noted. The judge is the model
    with all templates that the files have of it (FastChat takes one for each kind of question); which one stands in
    `detail`.
    """
    files = list(_files(paths, _json_lines))
    rows = list(chain.from_iterable(files))
    every = [(_text(row, "model_1", where), _text(row, "model_2", where)) for where, row in rows]
    pairs = [(one, other) for one, other in every if one != other]
    if not pairs:
        raise UserError(f"every row sets a model against itself: {_named(chain.from_iterable(every))}")
    chosen = reference or _shared(pairs)
    if not any(chosen in pair for pair in pairs):
        raise UserError(f"no judgment against '{chosen}'; there are those of {_named(chain.from_iterable(pairs))}")
    if alone := every.count((chosen, chosen)):
        said = "1 row sets" if alone == 1 else f"{alone} rows set"
        note(f"{said} the reference '{chosen}' against itself, and nothing follows from that: left out")
    digests = _fastchat_judges(rows)
    found = (_fastchat_file(file, chosen, digests) for file in files)
    return _kept(chain.from_iterable(found), chosen)


IMPORTERS: dict[str, Importer] = {
    "alpaca-eval": from_alpaca_eval,
    "arena-hard": from_arena_hard,
    "fastchat": from_fastchat,
}


def _alpaca_file(rows: Sequence[Judgment]) -> Iterator[Verdict]:
    for name in ("preference", *_OUTPUTS):
        if not any(name in row and (row[name] is not None or name == "preference") for _, row in rows):
            raise UserError(f"{rows[0][0]}: '{name}' is missing, here and in all rows of its file")
    return (_alpaca(row, where) for where, row in rows)


def _alpaca(row: dict[str, Any], where: str) -> Verdict:
    status, preference = _alpaca_preference(row.get("preference"), where)
    detail = f"preference {row['preference']}" if "preference" in row else "no preference"
    texts = [_text(row, name, where) if row.get(name) is not None else None for name in _OUTPUTS]
    if lacking := [name for name, text in zip(_OUTPUTS, texts, strict=True) if text is None]:
        status, preference, detail = "failed", None, f"no {' and '.join(lacking)}"
    reference_length, candidate_length = (None if text is None else len(text) for text in texts)
    instruction = _text(row, "instruction", where)
    return Verdict(
        prompt_set="alpaca-eval",  # whatever part of it (`dataset`) the row is of: its figures are of the whole
        prompt_id=hashlib.sha256(instruction.encode()).hexdigest()[:16],
        prompt_digest=Prompt(id="", messages=(Message(role="user", content=instruction),)).digest,
        candidate=_text(row, "generator_2", where),
        reference=_text(row, "generator_1", where),
        order="unknown",
        status=status,
        preference=preference,
        judge=_text(row, "annotator", where),
        candidate_characters=candidate_length,
        reference_characters=reference_length,
        detail=detail,
        raw=_words(row.get("raw_completion"), "text"),
    )


def _alpaca_preference(value: Any, where: str) -> tuple[Status, float | None]:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "failed", None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise UserError(f"{where}: 'preference' is neither a number nor null")
    if value == 0:
        return "ok", 0.5
    return ("ok", float(value) - 1) if 1 <= value <= 2 else ("unparsable", None)


def _arena_file(rows: Sequence[Judgment], baseline: str) -> Iterator[Verdict]:
    """The verdicts of one file: as many a row as any of the same model and judge has games."""
    if not any("games" in row for _, row in rows):
        raise UserError(f"{rows[0][0]}: neither this row nor any other of its file has 'games'")
    games = [_arena_games(row, where) for where, row in rows]
    strange = [where for (where, _), played in zip(rows, games, strict=True) if any(played)]
    if strange and not any(isinstance(game, dict) for played in games for game in played):
        raise UserError(f"{strange[0]}: neither this row nor any other of its file has a game that is an object")
    sides = [(_text(row, "model", where), _text(row, "judge", where)) for where, row in rows]
    most: dict[tuple[str, str], int] = {}
    for side, played in zip(sides, games, strict=True):
        most[side] = max(most.get(side, 1), len(played))
    for (where, row), played, side in zip(rows, games, sides, strict=True):
        yield from _arena(row, where, [*played, *[None] * (most[side] - len(played))], baseline)


def _arena_games(row: dict[str, Any], where: str) -> list[Any]:
    games = [] if row.get("games") is None else row["games"]
    if not isinstance(games, list) or len(games) > len(_ARENA_ORDERS):
        raise UserError(f"{where}: 'games' is no list of two games at most")
    return games


def _arena(row: dict[str, Any], where: str, games: Sequence[Any], baseline: str) -> Iterator[Verdict]:
    for order, game in zip(_ARENA_ORDERS, games, strict=False):
        status, first, label, words = _arena_game(game, where)
        yield Verdict(
            prompt_set=_set(row, "category", "arena-hard"),
            prompt_id=_id(row, "uid" if "uid" in row else "question_id", where),
            candidate=_text(row, "model", where),
            reference=_text(row, "baseline", where) if "baseline" in row else baseline,
            order=order,
            status=status,
            preference=1 - first if first is not None and order == "reference_first" else first,
            judge=_text(row, "judge", where),
            detail=label,
            raw=words,
        )


def _arena_game(game: Any, where: str) -> tuple[Status, float | None, str, str]:
    """Status, preference for A, label, and the judge's words."""
    if not isinstance(game, dict):  # null, or what is left of one
        return "failed", None, _NO_GAME, _words(game, "")
    if _is_grade(game.get("score")):
        raise UserError(
            f"{where}: 'score' is a grade ({game['score']}): an answer that was graded by itself is in no comparison"
        )
    label, words = _words(game.get("score"), ""), _words(game.get("judgment"), "answer")
    if label in LABELS:
        return "ok", LABELS[label], label, words
    return _unread(words), None, label or "no label", words


def _is_grade(score: Any) -> bool:
    """Whether a score is a number, also one in words."""
    text = score.strip() if isinstance(score, str) else str(score)
    return re.fullmatch(r"\d+(\.\d+)?", text) is not None


def _fastchat_file(rows: Sequence[Judgment], reference: str, digests: Mapping[str, str]) -> Iterator[Verdict]:
    played = [game for game in _FASTCHAT_GAMES if any(row.get(f"{game}_winner") is not None for _, row in rows)]
    if not played:
        raise UserError(f"{rows[0][0]}: neither this row nor any other of its file has 'g1_winner' or 'g2_winner'")
    for where, row in rows:
        if reference in (row["model_1"], row["model_2"]) and row["model_1"] != row["model_2"]:
            yield from _fastchat(row, where, played, reference, digests)


def _fastchat(
    row: dict[str, Any], where: str, games: Sequence[str], reference: str, digests: Mapping[str, str]
) -> Iterator[Verdict]:
    ours, theirs = ("model_1", "model_2") if row["model_2"] == reference else ("model_2", "model_1")
    judge, *template = _fastchat_judge(row, where)
    preferences: dict[str | None, float] = {ours: 1.0, "tie": 0.5, theirs: 0.0}
    for game in games:
        first, winner = _FASTCHAT_GAMES[game], row.get(f"{game}_winner")
        words = _words(row.get(f"{game}_judgment"), "answer")
        if winner not in (*preferences, "error", None):
            raise UserError(f"{where}: '{winner}' is no winner; known are model_1, model_2, tie and error")
        yield Verdict(
            prompt_set="fastchat",
            prompt_id=_id(row, "question_id", where),
            turn=_turn(row, where),
            candidate=row[ours],
            reference=reference,
            order="candidate_first" if first == ours else "reference_first",
            status="ok" if winner in preferences else "failed" if winner is None else _unread(words),
            preference=preferences.get(winner),
            judge=judge,
            judge_digest=digests[judge],
            detail=": ".join([*template, winner or _NO_GAME]),
            raw=words,
        )


def _turn(row: dict[str, Any], where: str) -> int:
    turn = 1 if row.get("turn") is None else row["turn"]
    if not isinstance(turn, int) or isinstance(turn, bool) or turn < 1:
        raise UserError(f"{where}: 'turn' is no whole number from 1")
    return turn


def _fastchat_judge(row: dict[str, Any], where: str) -> list[str]:
    """A judge's model, and its template where that is said."""
    judge = [row.get("judge")] if isinstance(row.get("judge"), str) else row.get("judge")
    if not isinstance(judge, list) or not judge or not all(isinstance(name, str) for name in judge):
        raise UserError(f"{where}: 'judge' is missing, or neither a name nor a model and its template")
    return judge


def _fastchat_judges(rows: Sequence[Judgment]) -> dict[str, str]:
    """By its model, a digest of each judge: of the templates that it was asked with; empty where none is said.

    Raises:
        UserError: one was asked one question with two of them.
    """
    asked: dict[tuple[Any, ...], str] = {}
    templates: dict[str, set[str]] = {}
    for where, row in rows:
        judge, *said = _fastchat_judge(row, where)
        template = " ".join(said)
        question = judge, _id(row, "question_id", where), _turn(row, where), row["model_1"], row["model_2"]
        if asked.setdefault(question, template) != template:
            raise UserError(
                f"{where}: '{judge}' judged this question with '{asked[question]}' already, and now with '{template}': "
                "these are two judges; import a file of each"
            )
        templates.setdefault(judge, set()).add(template)
    return {judge: canonical_hash(sorted(used))[:SHORT] if any(used) else "" for judge, used in templates.items()}


def _shared(pairs: list[tuple[str, str]]) -> str:
    shared = set(pairs[0]).intersection(*pairs)
    if len(shared) > 1:
        shared -= {first for first, _ in pairs}
    if len(shared) != 1:
        raise UserError(f"which model is the reference? Name one of {_named(chain.from_iterable(pairs))}")
    return shared.pop()


def _unread(words: str) -> Status:
    return "failed" if words.strip() in ("", API_ERROR) else "unparsable"


def _kept(verdicts: Iterable[Verdict], reference: str | None) -> list[Verdict]:
    """Those against the reference; of a question that is there several times, each says which time it is."""
    found = list(verdicts)
    kept, seen = [], Counter[tuple[Any, ...]]()
    for verdict in found:
        if reference in (None, verdict.reference):
            names = verdict.candidate, verdict.reference, verdict.judge, verdict.judge_digest
            key = verdict.prompt_set, verdict.prompt_id, verdict.turn, *names, verdict.order
            kept.append(verdict.model_copy(update={"repeat": seen[key]}) if seen[key] else verdict)
            seen[key] += 1
    if not kept:
        others = _named(verdict.reference for verdict in found)
        raise UserError(f"no judgment against '{reference}'; there are those against {others}")
    return kept


def _named(models: Iterable[str]) -> str:
    return ", ".join(f"'{model}'" for model in sorted(set(models)))


def _files(paths: Sequence[Path], read: Callable[[Path], Iterator[Judgment]]) -> Iterator[list[Judgment]]:
    for path, count in Counter(path.resolve() for path in paths).items():
        if count > 1:
            raise UserError(f"{path} is given twice: its judgments would count twice")
    for path in paths:
        rows = list(read(path))
        if not rows:
            raise UserError(f"{path} holds no judgments")
        yield rows


def _json_lines(path: Path) -> Iterator[Judgment]:
    return ((f"{path}:{number}", row) for number, row in read_jsonl(path))


def _json_list(path: Path) -> Iterator[Judgment]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # no UTF-8 is a ValueError too
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(data, list):
        raise UserError(f"{path}: expected a JSON list of annotations, found {type(data).__name__}")
    for index, row in enumerate(data):
        if not isinstance(row, dict):
            raise UserError(f"{path}[{index}]: expected a JSON object, found {type(row).__name__}")
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{path}[{index}]: half a surrogate pair (\\ud800…) is not text") from error
        yield f"{path}[{index}]", row


def _text(row: dict[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise UserError(f"{where}: '{name}' is missing or no text")
    return value


def _id(row: dict[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise UserError(f"{where}: '{name}' is missing, or neither a text nor a whole number")
    return str(value)


def _set(row: dict[str, Any], name: str, default: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) and value else default


def _words(value: Any, inside: str) -> str:
    """The judge's own words: a text, or the text inside an object; empty where there are none."""
    found = value.get(inside) if isinstance(value, dict) else value
    return found if isinstance(found, str) else ""
