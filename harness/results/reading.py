"""The results of a run's folder: as written where this version wrote them, computed again where an older one did.

Every figure follows from the verdicts and responses; what stands beside the figures is in the manifest and in the
configuration. Only a little is nowhere else than in the older file, and is taken from there: what a judge misses in
words, whether a prompt set is in-domain, where prompts are from and their overlap with the training set.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config import Config
from harness.core.errors import UserError
from harness.core.section import parse_yaml
from harness.judging.proxies import JUDGES
from harness.methods import shaping
from harness.results.figures import Declared, Results, RunRows, figures
from harness.results.folder import (
    CONFIG,
    ENTRY,
    KEYS,
    RESULTS,
    SCHEMA,
    described_entry,
    panel_misses,
    read_made,
    read_part,
    read_versioned,
)
from harness.results.manifest import read_manifest
from harness.run.rows import CEILING, UNTRAINED, entries_of
from harness.statistics.panel import SUMMARIES

# stages by the labels that they have in the manifests of older versions
_TEACHER, _SAMPLES, _TRAINING = "responses: teacher, training prompts", "responses: teacher for judging,", "train "


def read_results(folder: Path) -> Results:
    """The results of a run's folder. Those of an older version are computed again, which is said on stderr.

    Raises:
        UserError: there are none, or of a newer version; or they are damaged.
    """
    if not is_older(folder):
        return _shaping_alone(read_part(folder, RESULTS, "results", SCHEMA, KEYS))
    old, path = read_versioned(folder, RESULTS, "results", SCHEMA), folder / RESULTS
    version = f"{path} is of an older version ({old['schema']}, this program writes {SCHEMA})"
    made, manifest = read_made(folder), read_manifest(folder)
    try:
        found = _computed(folder, old, made, manifest)
    except (UserError, ValidationError, LookupError, TypeError, AttributeError, ValueError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise UserError(f"{version} and cannot be computed again ({what}); run it again") from error
    print(f"note: {version}; computed again from its verdicts and responses", file=sys.stderr)
    return _shaping_alone(found)


def _shaping_alone(results: Results) -> Results:
    """Rows as trainings are compared: files of before still say how each was computed."""
    return {**results, "methods": [{**row, "settings": shaping(row["settings"])} for row in results["methods"]]}


def is_older(folder: Path) -> bool:
    """Whether an older version wrote the results.

    Raises:
        UserError: as `read_results`.
    """
    return bool(read_versioned(folder, RESULTS, "results", SCHEMA)["schema"] < SCHEMA)


def _computed(folder: Path, old: Results, made: RunRows, manifest: Results) -> Results:
    """This version's results. What has no other source than `old` is taken from there, and left out where it lacks it.

    Raises:
        UserError, ValidationError, LookupError, TypeError, AttributeError, ValueError: what is needed is nowhere, or is
            not what it should be.
    """
    config = _config(folder, old)
    names = [name.strip() for name in config["judge"]["name"].split(",")]
    judges = _judges(old, manifest, names)
    declared = Declared(
        sets=_sets(old, made),
        candidates=_candidates(config, made),
        judges=names,
        parts=[judge["name"] for judge in judges if judge["name"] not in SUMMARIES],
        contrasts=[(first, second) for first, second in config["contrasts"] or ()],
    )
    stages = [stage for stage in manifest["stages"] if stage["made"]]
    labelled = {stage["label"]: stage for stage in stages}
    run = _named(_rows(old, "runs"), manifest["name"])
    known = {
        "name": manifest["name"],
        "seed": config["seed"],
        "date": max(stage["created"] for stage in stages)[:10],
        "harness": run.get("harness") or manifest["environments"][stages[-1]["environment"]].get("harness"),
        "command": manifest["command"],
    }
    found = figures(declared, {manifest["name"]: made})
    results: Results = {
        "schema": SCHEMA,
        "name": manifest["name"],
        "runs": [known],
        "pair": {
            "student": config["student"],
            "teacher": config["teacher"],
            "weights": {role: manifest["weights"][role] for role in manifest["weights"] if role != "others"},
        },
        "pruning": next((stage["facts"] for stage in stages if stage["ref"].startswith("prune/")), None),
        "judge": declared.judge,
        "judges": judges,
        "judge_samples": config["judge"]["samples"] if any(label.startswith(_SAMPLES) for label in labelled) else 0,
        "training": _training(old, config, manifest, labelled[_TEACHER]["facts"]),
        "evaluation": {"sampling": config["eval_sampling"]},
        "methods": _methods(old, config, labelled),
        **found,
        "prompt_sets": [
            {
                **entry,
                "digest": manifest["prompts"][entry["name"]],
                **_beside(_named(_rows(old, "prompt_sets"), entry["name"])),
            }
            for entry in found["prompt_sets"]
        ],
        "config": config,
    }
    plain: Results = json.loads(json.dumps(results))  # as it would be written and read
    return plain


def _config(folder: Path, old: Results) -> Results:
    if isinstance(old.get("config"), dict):
        return dict(old["config"])
    return parse_yaml((folder / CONFIG).read_text(encoding="utf-8"), str(folder / CONFIG))


def _sets(old: Results, made: RunRows) -> dict[str, bool]:
    """The prompt sets in their order, and whether each is in-domain, which the older file's sets or rows say."""
    told: dict[str, bool] = {}
    for row in [*_rows(old, "rows"), *_rows(old, "prompt_sets")]:
        name = row.get("prompt_set") or row.get("name")
        if name and "in_domain" in row:
            told[name] = row["in_domain"]
    return {name: told[name] for name in dict.fromkeys(response.prompt_set for response in made.responses)}


def _candidates(config: Results, made: RunRows) -> dict[str, str]:
    """Verdicts are written candidate by candidate, in the board's order."""
    kinds = {CEILING: "ceiling", UNTRAINED: "untrained", **dict.fromkeys(config["methods"], "method")}
    names = dict.fromkeys(verdict.candidate for verdict in made.verdicts)
    return {name: kinds.get(name, "control") for name in names}


def _judges(old: Results, manifest: Results, members: Iterable[str]) -> list[Results]:
    """The judges as the manifest has them; what each does and misses is in the older file, or known of a proxy."""
    proxies = {judge.name: {"summary": judge.summary, "misses": judge.misses} for judge in JUDGES}
    words = {name: {"summary": "", "misses": "", **proxies.get(name, {})} for name in manifest["judges"]}
    for name in words:
        was = _named(_rows(old, "judges"), name)
        words[name] |= {key: was[key] for key in ("summary", "misses") if key in was}
    misses = panel_misses([words[name]["misses"] for name in members if name in words])
    words |= {name: {"summary": text, "misses": misses} for name, text in SUMMARIES.items() if name in words}
    return [
        {
            "name": name,
            **words[name],
            "setup": {key: value for key, value in entry.items() if key != "digest"},
            "digest": entry["digest"],
        }
        for name, entry in manifest["judges"].items()
    ]


def _training(old: Results, config: Results, manifest: Results, facts: Results) -> Results:
    """facts: of the teacher's responses to the training prompts."""
    name = config["train_prompts"]
    return {
        "prompt_set": name,
        "prompts": facts["responses"],
        "digest": manifest["prompts"][name],
        **_beside(old.get("training")),
        "sampling": config["train_sampling"],
        "mean_tokens": facts["tokens"] / facts["responses"],
        "cut_share": facts["cut"] / facts["responses"],
    }


def _methods(old: Results, config: Results, labelled: Mapping[str, Results]) -> list[Results]:
    """The rows that were trained, each with its training's artifact and facts: as the older file has them where it says
    all that is needed (the defaults of then were in force), else as the configuration asks for them."""
    rows = [{key: row[key] for key in ENTRY if key in row} for row in _rows(old, "methods")]
    if not rows or any(len(row) < len(ENTRY) for row in rows):
        rows = [described_entry(entry) for entry in entries_of(Config.model_validate(config))]
    trained = [labelled[_TRAINING + row["name"]] for row in rows]
    return [
        {**row, "artifact": stage["ref"], "facts": stage["facts"]} for row, stage in zip(rows, trained, strict=True)
    ]


def _beside(entry: Any) -> Results:
    """Where prompts are from, and what training saw of them, as far as it is known."""
    keys = ("source", "license", "duplicates", "overlap")
    return {key: entry[key] for key in keys if key in entry} if isinstance(entry, Mapping) else {}


def _rows(old: Results, key: str) -> list[Mapping[str, Any]]:
    rows = old.get(key)
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _named(rows: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next((row for row in rows if row.get("name") == name), {})
