"""What rows are called on a board of several runs, and where they stand in the grid of a study.

A row whose trainings are alike in all runs keeps its name. Where they differ it is several rows, each named by the
settings that tell it from the others: `dadpo (beta_teacher=0.05)`. Names do not depend on the order of the runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.files import canonical_hash
from harness.core.records import plain
from harness.methods import shaping
from harness.results.schema import MethodFacts, Results

UNSET = object()  # in the place of a setting that an older version did not have
LONGEST = 40  # characters of a value in a name
Words = Mapping[tuple[int, str], Any]  # what shaped a training, each by its place among such words and its name
_OWN, _SFT, _COMMON = range(3)


@dataclass(frozen=True)
class Training:
    """What a row's training in one run is.

    digest: of everything that shaped it but the seed. made: its seed and its artifact. run: of the run, in its name.
    """

    digest: str
    made: tuple[int, str]
    words: Words
    run: str

    @property
    def marks(self) -> set[Any]:
        """Two trainings with one of these in common are one: what a digest says of a run need not shape every row."""
        return {self.digest, self.made}


def row_names(runs: Sequence[Results]) -> list[dict[str, str]]:
    """What each run's rows are called on the common board, by their names in it."""
    trained = [trainings(run) for run in runs]
    every: dict[str, list[Training]] = {}
    for found in trained:
        for name, one in found.items():
            every.setdefault(name, []).append(one)
    labels = {name: _labels(_kinds(found)) for name, found in every.items()}
    return [
        {row.method: row.method for row in run.rows}
        | {name: _named(name, labels[name][one.digest]) for name, one in found.items()}
        for run, found in zip(runs, trained, strict=True)
    ]


def trainings(run: Results) -> dict[str, Training]:
    """Each row that was trained, by its name in the run."""
    config, training = run.configured, run.training
    sft = shaping(config.settings["sft"])  # where the pairs' rejected responses and the reference come from
    common = [
        training.digest,
        sorted(training.left_out),
        plain(training.sampling),
        config.max_prompt_tokens,
        config.scoring_precision,
        sft,
    ]
    by_name = {one.name: one for one in run.methods}
    found = {}
    for one in run.methods:
        matched = _matched(one, by_name)
        # settings leave it to the method, and versions of before trained all with the dropout that a checkpoint has
        dropping = [one.facts.dropout, one.facts.dropout_on]
        found[one.name] = Training(
            canonical_hash([common, one.method, plain(one.settings), matched, dropping]),
            (run.runs[0].seed, one.artifact),
            _words(run, one, sft, by_name),
            run.name.rsplit("-", 1)[-1],
        )
    return found


def _matched(one: MethodFacts, by_name: Mapping[str, MethodFacts]) -> list[Any]:
    """All that says how many tokens a row takes that takes as many as another: what that one is trained with, and so
    on."""
    other = by_name.get(one.matches)
    return [other.method, plain(other.settings), _matched(other, by_name)] if other else [one.matches]


def _words(run: Results, one: MethodFacts, sft: Mapping[str, Any], by_name: Mapping[str, MethodFacts]) -> Words:
    """What shaped a training, as names have it: its own settings, those of SFT before it, and what all of the run's
    trainings have in common, by its key in the configuration."""
    config, training = run.config, run.training
    own = {"method": one.method, **plain(one.settings), "match": one.matches}
    if other := by_name.get(one.matches):
        own |= {f"{one.matches}.{key}": value for key, value in plain(other.settings).items()}
    before = {} if one.method == "sft" else {f"sft.{key}": value for key, value in sft.items()}
    limits = config.get("limits")
    common = {
        "train_prompts": training.prompt_set.rpartition("/")[2],
        "limits.train": limits.get("train") if isinstance(limits, dict) else None,
        "validation": config.get("validation"),
        **{f"train_sampling.{key}": value for key, value in plain(training.sampling).items()},
        "max_prompt_tokens": config.get("max_prompt_tokens"),
        "scoring_precision": config.get("scoring_precision"),
        "prompts": training.digest[:6],
        "left_out": len(training.left_out),
    }
    parts = {_OWN: own, _SFT: before, _COMMON: common}
    return {(place, key): value for place, part in parts.items() for key, value in part.items()}


_PROMPTS = ("train_prompts", "limits.train", "validation")  # these shape a training by its prompts alone
_IF_NOTHING_ELSE = ("prompts", "left_out")  # these follow from what a configuration says, where that differs


def _kinds(found: Iterable[Training]) -> list[list[Training]]:
    """Those that are one training but for the seed, together."""
    kinds: list[tuple[set[Any], list[Training]]] = []
    for one in found:
        marks, same = one.marks, [one]
        apart = []
        for kind in kinds:
            if kind[0] & marks:
                marks, same = marks | kind[0], kind[1] + same
            else:
                apart.append(kind)
        kinds = [*apart, (marks, same)]
    return [kind for _, kind in kinds]


def _labels(kinds: Sequence[Sequence[Training]]) -> dict[str, str]:
    """What tells each kind from the others in words, by the digests of its trainings; with a run's digest, that of the
    first with this training, where words do not."""
    if len(kinds) == 1:
        return {one.digest: "" for one in kinds[0]}
    words = [_told(kinds, kind, first=True) for kind in kinds]
    if len(set(words)) < len(kinds):
        words = [_told(kinds, kind, first=False) for kind in kinds]
    labels: dict[str, str] = {}
    for kind, said in zip(kinds, words, strict=True):
        label = said if said and words.count(said) == 1 else ", ".join(filter(None, [said, kind[0].run]))
        labels |= {one.digest: label for one in kind}
    return labels


def _told(kinds: Sequence[Sequence[Training]], kind: Sequence[Training], first: bool) -> str:
    """The settings on which a kind's trainings agree, and others differ.

    first: without those that follow from others.
    """
    keys = {key for other in kinds for one in other for key in one.words}
    prompts = {value for other in kinds for value in _values(other, (_COMMON, "prompts"))}
    idle = (*(_PROMPTS if len(prompts) == 1 else ()), *(_IF_NOTHING_ELSE if first else ()))
    keys = {key for key in keys if key[1] not in idle}
    parts = []
    for key in sorted(keys):
        values = _values(kind, key)
        if len(values) == 1 and any(_values(other, key) != values for other in kinds):
            parts.append(f"{key[1]}={next(iter(values))}" if values != {""} else f"{key[1]} unset")
    return ", ".join(parts)


def _values(kind: Sequence[Training], key: tuple[int, str]) -> set[str]:
    found = (one.words.get(key, UNSET) for one in kind)
    return {"" if value is UNSET or value == "" else value_words(value) for value in found}


def _named(name: str, label: str) -> str:
    return f"{name} ({label})" if label else name


def value_words(value: Any) -> str:
    """A setting's value as a name has it."""
    if isinstance(value, float):
        return f"{value:g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def point_words(point: Mapping[str, Any]) -> str:
    """Settings with their values."""
    return ", ".join(f"{key}={value_words(value)}" for key, value in point.items())


def grid_points(runs: Sequence[Results], names: Sequence[Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """Of each row of the common board, the settings of the studies' grids on which the runs that have it agree, and
    others differ: a row that is the same training at all points has none. names: as `row_names` has them."""
    points = [run.runs[0].point for run in runs]
    keys = list(dict.fromkeys(key for point in points for key in point))
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for known in names for name in known.values()):
        mine = [point for point, known in zip(points, names, strict=True) if name in known.values()]
        found[name] = {}
        for key in keys:
            values, every = ({value_words(one[key]): one[key] for one in of if key in one} for of in (mine, points))
            if len(values) == 1 < len(every):
                found[name][key] = next(iter(values.values()))
    return found
