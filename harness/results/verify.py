"""Whether a run's figures, or those of a study's runs, follow from its files, and its files from its artifacts."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path
from typing import Any

from harness.config.study import in_words, points_of
from harness.core.files import file_sha256
from harness.core.progress import Tick
from harness.core.records import (
    METRICS,
    SHORT,
    Facts,
    Measured,
    Prompt,
    Ref,
    Response,
    RunMeasured,
    RunPrompt,
    RunResponse,
    Verdict,
    plain,
    prompts_digest,
    read_jsonl,
    read_records,
)
from harness.core.section import parse_yaml
from harness.measures import measures
from harness.methods import shaping
from harness.prompts.settings import PromptSource
from harness.results.costs import Made, costs, rests_on
from harness.results.figures import figures
from harness.results.folder import (
    BOARD,
    CONFIG,
    CURVES,
    RESULTS,
    RUN_MEASURED,
    RUN_PROMPTS,
    RUN_RESPONSES,
    RUN_TOKENS,
    bounds,
    declared_in,
    lengths_in,
    read_made,
    read_tokens,
)
from harness.results.manifest import DeclaredFacts, Manifest, Stage, changed_files, from_results, read_manifest, sums
from harness.results.pooling import boards
from harness.results.reading import is_older, read_results
from harness.results.retention import said
from harness.results.schema import CostFacts, Figures, Results, StampFacts
from harness.results.searched import not_as_declared, not_following, other_values
from harness.results.studies import STUDY, StudyFacts, changed_runs, read_study
from harness.results.tokens import Compared, token_views
from harness.run.declaring import DECLARED, Family, digest_of, family_of, left_out
from harness.run.evaluating import labels_about
from harness.run.jobs import (
    LEFT_OUT,
    MEASURED,
    RESPONSES,
    VERDICTS,
    Job,
    JudgeJob,
    MeasureJob,
    PromptsJob,
    RetentionJob,
    job_from,
)
from harness.run.known import TELLING, began_of, moment
from harness.run.measuring import TOKENS_READ
from harness.run.rows import TEACHER, UNTRAINED
from harness.run.searching import valued
from harness.store import MANIFEST, Store
from harness.store.artifacts import read_manifest as artifact_manifest
from harness.store.gc import refs_in

# what stands in a row, a contrast or a length control that says which one it is
_NAMES = ("name", "measure", "prompt_set", "scope", "method", "first", "second", "judge")
_FROM_RESPONSES = ("mean_tokens", "cut_share", "prompts", "teacher")
_FROM_MEASURED = ("measures", "measure_contrasts", "disagreements", "harms")
# of a measure, what figures are read by; its words may be put otherwise in another version
_OF_A_MEASURE = ("group", "reads", "unit", "better")
_RETENTION = "retention/"
Digest = Callable[[Path], str]
_SAME = 1e-9  # relative: figures are made again by the same sums


@dataclass
class Verification:
    """checked: what was held against what, in words. wrong: what does not follow, one line each.

    absent: artifacts of the run that this store does not have, so that nothing could be said of them; judgings that
    were never done, as verdicts failed, are among them."""

    checked: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    def add(self, what: str, wrong: Iterable[str]) -> None:
        self.checked.append(what)
        self.wrong += wrong


def verify(
    folder: Path, store: Store, board: Callable[[list[Results]], str], tick: Tick, digest: Digest = file_sha256
) -> Verification:
    """Hold a run's folder (or a record of it) against itself, and against those of its artifacts that the store has.

    board: what renders results as a board. digest: of a file of an artifact.

    Raises:
        UserError: a file that is needed is missing or cannot be read.
    """
    found = Verification()
    results, manifest, older = read_results(folder), read_manifest(folder), is_older(folder)
    found.add(f"{len(manifest.files)} files of the folder by their sha256", changed_files(folder))
    if older:
        rows = f"{len(results.rows)} rows of figures, computed again from {VERDICTS} and {RUN_RESPONSES}"
        found.checked.append(f"{rows}, as {RESULTS} is of an older version")
    elif all((folder / name).is_file() for name in (VERDICTS, RUN_RESPONSES)):  # else it is said above
        rows = f"{len(results.rows)} rows of figures from {VERDICTS} and {RUN_RESPONSES}"
        if results.measures:
            rows += f", {len(results.measures)} from {RUN_MEASURED}"
        found.add(rows, _figures(folder, results))
    if all((folder / name).is_file() for name in (RUN_PROMPTS, RUN_RESPONSES)):
        found.add(f"prompts of {len(results.prompt_sets)} sets", _prompts(folder, results))
    if all((folder / name).is_file() for name in (RUN_PROMPTS, VERDICTS)):
        found.add(f"judges and prompts of {VERDICTS}, from {RESULTS} and {RUN_PROMPTS}", _identities(folder, results))
    found.add(
        f"what {RESULTS} says of settings, sampling and seed, from its configuration", _declared(results, manifest)
    )
    if not older:  # an older version says less, and its board is of its own words
        found.add(f"what {RESULTS} says of measures and of losses, from those that are known here", _known(results))
        found.add(f"what rows took and models still can, by the stages of {MANIFEST}", _stages_said(results, manifest))
        if any(one.by_token for one in results.measured):
            found.add(f"{RUN_TOKENS}, where tokens were compared", _has_tokens(folder))
        found.add(f"{BOARD} from {RESULTS}", _board(folder, results, board))
    if results.search is not None:
        found.add(f"what {len(results.search.tries)} tries found, from their values", _search(results, manifest, store))
    found.add(f"{CONFIG} and {RESULTS} from {MANIFEST}", _settings(folder, results, manifest))
    if results.stamps or manifest.declared:
        stamps = (
            f"when {len(results.stamps)} contrasts were declared, from {MANIFEST}, its stages and the store's stamps"
        )
        found.add(stamps, _stamps(results, manifest, store))
    _artifacts(folder, results, manifest, store, found, older, tick, digest)
    return found


def verify_study(folder: Path, store: Store, board: Callable[[list[Results]], str], tick: Tick) -> Verification:
    """Hold each run of a study's folder as `verify` does, then what study.json says of them, and their common board.

    Raises:
        UserError: as `verify`; or study.json is damaged.
    """
    found, facts = Verification(), read_study(folder)
    digest = functools.cache(file_sha256)  # what runs share is read once
    said: dict[str, list[str]] = {}
    whole = {run.name: folder / run.folder for run in facts.runs if (folder / run.folder / MANIFEST).is_file()}
    for name, path in whole.items():
        one = verify(path, store, board, tick, digest)
        for what in one.checked:
            said.setdefault(what, []).append(name)
        found.wrong += [f"{name}: {problem}" for problem in one.wrong]
        found.absent += [absent for absent in one.absent if absent not in found.absent]
    for what, names in said.items():
        of = f"each of {len(names)} runs" if len(names) == len(facts.runs) else "; ".join(names)
        found.checked.append(f"{what} ({of})")
    found.add(f"{len(facts.runs)} runs and {BOARD}, from {STUDY}", [*changed_runs(folder), *_members(facts, whole)])
    if facts.tune or any(read_results(path).search for path in whole.values()):
        found.add(f"what was tried, from {STUDY}", _tried(facts, whole))
    if len(whole) == len(facts.runs) and (folder / BOARD).is_file():
        again = board(boards(list(whole.values()))).encode()
        wrong = [] if (folder / BOARD).read_bytes() == again else [f"{BOARD} is not what its runs' results render to"]
        found.add(f"{BOARD} from the results of its runs", wrong)
    return found


def _members(facts: StudyFacts, folders: Mapping[str, Path]) -> Iterator[str]:
    """The runs are those that are declared: every seed at every point of the grid."""
    declared = [(seed, plain_point(point)) for seed in facts.seeds for point in points_of(facts.grid)]
    if len(declared) != len(facts.runs):
        yield f"{STUDY}: it declares {len(declared)} runs, and has {len(facts.runs)}"
    for (seed, point), run in zip(declared, facts.runs, strict=False):
        if run.name not in folders:
            continue
        (told,) = read_results(folders[run.name]).runs
        if (told.seed, plain_point(told.point)) != (seed, point):
            has = f"seed {told.seed}{f', {in_words(told.point)}' if told.point else ''}"
            yield f"{run.folder}/{RESULTS} is of {has}; {STUDY} declares seed {seed}, {in_words(point) or 'no grid'}"


def _tried(facts: StudyFacts, folders: Mapping[str, Path]) -> Iterator[str]:
    """The tries of each run are those that are declared."""
    for run in facts.runs:
        if run.name in folders:
            results = read_results(folders[run.name])
            said = not_as_declared(results, results.search, facts.seeds[0], facts.tune, facts.tune_by)
            yield from (f"{run.folder}/{RESULTS}, by {STUDY}: {line}" for line in said)


def plain_point(point: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has it."""
    found: dict[str, Any] = json.loads(json.dumps(dict(point)))
    return found


def _figures(folder: Path, results: Results) -> Iterator[str]:
    was, again = plain(results), plain(figures(declared_in(results), {results.name: read_made(folder)}))
    for section in Figures.model_fields:
        for path, one, other in differences(was[section], again[section], section):
            file = RUN_RESPONSES if path.split(": ")[-1].split(".")[0] in _FROM_RESPONSES else VERDICTS
            file = RUN_MEASURED if section in _FROM_MEASURED else file
            yield f"{RESULTS}: {path} is {_short(one)}; from {file} it is {_short(other)}"


def differences(was: Any, now: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """(where, the one, the other) of everything in which two pieces of plain data differ; list entries by their names.

    A key that only the first has is a digest or fact that is held against something else."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in now:
            yield from differences(was.get(key, _LACKING), now[key], f"{path}{'.' if '/' not in path else ': '}{key}")
    elif isinstance(was, list) and isinstance(now, list) and _named(was) is not None and _named(now) is not None:
        ours, theirs = _named(was) or {}, _named(now) or {}
        for name in dict.fromkeys([*ours, *theirs]):
            yield from differences(ours.get(name, _LACKING), theirs.get(name, _LACKING), f"{path} / {name}")
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for number, (one, other) in enumerate(zip(was, now, strict=True)):
            yield from differences(one, other, f"{path}[{number}]")
    elif not _equal(was, now):
        yield path, was, now


_LACKING = "not there"


def _named(rows: list[Any]) -> dict[str, Any] | None:
    """Rows by what they are called; None where they have no names, or not one each."""
    if not rows or not all(isinstance(row, Mapping) and any(name in row for name in _NAMES) for row in rows):
        return None
    named = {", ".join(str(row[name]) for name in _NAMES if name in row): row for row in rows}
    return named if len(named) == len(rows) else None


def _equal(was: Any, now: Any) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (was, now))
    return isclose(was, now, rel_tol=_SAME, abs_tol=1e-12) if numbers else bool(was == now)


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _prompts(folder: Path, results: Results) -> Iterator[str]:
    by_set: dict[str, list[Prompt]] = {}
    for row in read_records(folder / RUN_PROMPTS, RunPrompt):
        by_set.setdefault(row.prompt_set, []).append(
            Prompt(**{name: getattr(row, name) for name in Prompt.model_fields})
        )
    answered: dict[str, set[str]] = {}
    for response in read_records(folder / RUN_RESPONSES, RunResponse):
        answered.setdefault(response.prompt_set, set()).add(response.prompt_id)
    names = {entry.name for entry in results.prompt_sets}
    for file, sets in ((RUN_PROMPTS, by_set), (RUN_RESPONSES, answered)):
        yield from (f"{file}: '{name}' is no prompt set of {RESULTS}" for name in sets if name not in names)
    for entry in results.prompt_sets:
        prompts = by_set.get(entry.name, [])
        if prompts_digest(prompts) != entry.digest:
            yield f"{RUN_PROMPTS}: the prompts of {entry.name} are not those that {RESULTS} has the digest of"
        if answered.get(entry.name, set()) != {prompt.id for prompt in prompts} - entry.left_out.keys():
            but = " but those that were left out" if entry.left_out else ""
            yield f"{RUN_RESPONSES}: the prompts answered on {entry.name} are not those of {RUN_PROMPTS}{but}"


def _identities(folder: Path, results: Results) -> Iterator[str]:
    """Each verdict is by the judge, and about the prompt, that the run says; older verdicts do not say it."""
    judges = {judge.name: judge.digest[:SHORT] for judge in results.judges}
    prompts = {(row.prompt_set, row.id): row.digest for row in read_records(folder / RUN_PROMPTS, RunPrompt)}
    wrong: Counter[str] = Counter()
    for verdict in read_records(folder / VERDICTS, Verdict):
        if verdict.judge_digest not in ("", judges.get(verdict.judge)):
            wrong[f"are by another judge of the name '{verdict.judge}' than {RESULTS} has"] += 1
        if verdict.prompt_digest not in ("", prompts.get((verdict.prompt_set, verdict.prompt_id))):
            wrong[f"are about other prompts of {verdict.prompt_set} than those of {RUN_PROMPTS}"] += 1
    for what, count in wrong.items():
        yield f"{VERDICTS}: {count} verdicts {what}"


def _board(folder: Path, results: Results, board: Callable[[list[Results]], str]) -> Iterator[str]:
    path = folder / BOARD
    if path.is_file() and path.read_bytes() != board([results]).encode():
        yield f"{BOARD} is not what {RESULTS} renders to"


def _settings(folder: Path, results: Results, manifest: Manifest) -> Iterator[str]:
    if (folder / CONFIG).is_file():
        yield from _config(folder / CONFIG, results)
    said = plain(manifest)
    for key, value in plain(from_results(results)).items():
        for path, was, now in differences(said[key], value, key):
            yield f"{MANIFEST}: {path} is {_short(was)}; {RESULTS} has {_short(now)}"
    for key, value in plain(sums(manifest.stages)).items():
        if not _equal(said[key], value):
            yield f"{MANIFEST}: {key} is {_short(said[key])}; of its stages it is {_short(value)}"
    stages = {stage.ref: stage for stage in manifest.stages}
    for one in results.methods:
        stage = stages.get(one.artifact)
        if stage is None or not stage.made:
            yield f"{MANIFEST} has no training {one.artifact}, which {RESULTS} has for {one.name}"
            continue
        for path, was, now in differences(plain(one.facts), stage.facts, f"methods / {one.name}"):
            yield f"{RESULTS}: {path} is {_short(was)}; {MANIFEST} has {_short(now)}"
        curve = folder / CURVES / f"{one.name}.jsonl"
        if not curve.is_file() or file_sha256(curve) != stage.files[METRICS].sha256:
            yield f"{CURVES}/{one.name}.jsonl is not the curve that its training {one.artifact} wrote"


def _declared(results: Results, manifest: Manifest) -> Iterator[str]:
    """What a board says beside its figures, held against the configuration and the stages."""
    config = results.configured
    settings = {one.method: plain(one.settings) for one in results.methods if not one.controls}
    said: dict[str, tuple[Any, Any]] = {
        "seed": (results.runs[0].seed, config.seed),
        "train_sampling": (plain(results.training.sampling), config.train_sampling),
        "eval_sampling": (plain(results.evaluation.sampling), config.eval_sampling),
        "settings": (settings, {name: shaping(config.settings[name]) for name in settings if name in config.settings}),
    }
    if isinstance(named := results.config.get("measures"), list) and named:
        said["first_measure"] = results.first_measure, named[0]
    for key, (value, wanted) in said.items():
        for path, was, now in differences(value, wanted, key):
            yield f"{RESULTS}: {path} is {_short(was)}; its configuration has {_short(now)}"
    facts = [stage.facts for stage in manifest.stages if stage.made]
    if results.pruning is not None and plain(results.pruning) not in facts:
        yield f"{RESULTS}: pruning is not what any stage of {MANIFEST} says"
    yield from _left_out(results, facts)
    lengths = [lengths_in(found) for found in facts if found.get("cut") is not None]
    training = results.training
    if {"mean_tokens": training.mean_tokens, "cut_share": training.cut_share} not in lengths:
        yield f"{RESULTS}: the lengths of the training responses are not what any stage of {MANIFEST} says"


def _known(results: Results) -> Iterator[str]:
    """Measures of a name and digest that are known here are what is said of them; of a teacher that is not behind a
    server no measure is a bound."""
    served = results.config.get("teacher_server") is not None
    for one in results.measured:
        wanted = {} if served else {"bound": "exact", "teacher_bound": "exact"}
        if one.name in measures and (known := measures.get(one.name)).digest == one.digest:
            wanted = {name: getattr(known, name) for name in _OF_A_MEASURE} | bounds(known, served)
        for name, now in wanted.items():
            if (was := getattr(one, name)) != now:
                yield f"{RESULTS}: {name} of the measure {one.name} is {was}; it is {now}"


def _stages_said(results: Results, manifest: Manifest) -> Iterator[str]:
    """Every training has its costs, every model that was asked tasks what it reached, and nothing else has any."""
    trained, whose = [one.name for one in results.methods], _weights(results)
    asked = {
        whose.get(stage.label.partition(": ")[2], "")  # models of the same weights are asked once
        for stage in manifest.stages
        if stage.made and stage.ref.startswith(_RETENTION)
    }
    of_costs, of_tasks = {cost.method for cost in results.costs}, {one.method for one in results.retention}
    expected = {row for row, weights in whose.items() if weights in asked}
    for what, told, wanted in ((_TOOK, of_costs, set(trained)), (_STILL_CAN, of_tasks, expected)):
        for row in sorted(told ^ wanted):
            has, of = ("has", "no stage") if row in told else ("does not have", "a stage")
            yield f"{RESULTS} {has} {what.format(row)}, and {MANIFEST} has {of} of it"


_TOOK, _STILL_CAN = "what {} took", "what {} still can"


def _weights(results: Results) -> dict[str, str | None]:
    """The artifact or digest of the model of each row, and of the teacher."""
    pair = results.pair.weights
    whose = {TEACHER: pair.get("teacher"), UNTRAINED: pair.get("student")}
    return whose | {one.name: one.artifact for one in results.methods}


def _has_tokens(folder: Path) -> Iterator[str]:
    if not (folder / RUN_TOKENS).is_file():
        yield f"{RUN_TOKENS} is missing, and {RESULTS} has measures of tokens"


def _left_out(results: Results, facts: Sequence[Facts]) -> Iterator[str]:
    """The prompts that count nowhere are those that some stage had no answer to."""
    said = {name for entry in (results.training, *results.prompt_sets) for name in entry.left_out}
    said |= set(results.search.left_out) if results.search else set()
    of_stages = {name for found in facts for name in found.get(LEFT_OUT, ())}
    for name in sorted(said ^ of_stages):
        where = f"{RESULTS} leaves out prompt '{name}'" if name in said else f"{RESULTS} keeps prompt '{name}'"
        but = "no stage" if name in said else "a stage"
        yield f"{where}, and {but} of {MANIFEST} had no answer to it"


def _stamps(results: Results, manifest: Manifest, store: Store) -> Iterator[str]:
    """The results have the stamps of the manifest, which are of contrasts of the run, and are those of the store where
    it has them; nothing that tells of a contrast's rows began before `began`, and `dropped` follows from families."""
    told = [StampFacts(**{name: getattr(one, name) for name in _said_of(one)}) for one in manifest.declared]
    for path, was, now in differences([*map(plain, results.stamps)], [*map(plain, told)], "stamps"):
        yield f"{RESULTS}: {path} is {_short(was)}; {MANIFEST} has {_short(now)}"
    stages = {stage.ref: stage for stage in manifest.stages if stage.made}
    answers = {stage.label: stage.ref for stage in manifest.stages if stage.ref.startswith("respond/")}
    families, pairs = _families(manifest), set(declared_in(results).contrasts)
    of_run = [one.responses for one in manifest.declared]
    others = left_out(answers.values(), of_run, store)
    yield from (f"{MANIFEST}: the family {digest} is not what its digest says" for digest in _changed(manifest))
    for one in manifest.declared:
        where = f"the contrast of {one.first} and {one.second} on {one.prompt_set}"
        if (one.first, one.second) not in pairs:
            yield f"{MANIFEST}: {where} is none of the configuration of {RESULTS}"
        known = [answers.get(f"responses: {row}, {one.prompt_set}") for row in (one.first, one.second)]
        if any(ref not in (None, *one.responses) for ref in known):
            yield f"{MANIFEST}: {where} has other responses than the stages of its rows"
        if one.contrast not in ("", digest_of(one.responses)):
            yield f"{MANIFEST}: {where} is not the one that its digest {one.contrast} is of"
        about = _about(one, results, manifest, store)
        for ref in sorted(about.keys() - set(one.stages)):
            yield f"{MANIFEST}: {where} lacks the stage {ref} ({about[ref]}), which tells of its rows"
        times = [(stages[ref].created, stages[ref].seconds) for ref in {*about, *one.stages} if ref in stages]
        yield from _began(one, began_of(times), "a stage of theirs began at", where)
        kept = store.stamped(DECLARED, one.responses)
        if isinstance(kept, dict):
            for name in ("time", "family", "primary", "margin"):
                if (was := getattr(one, name)) != (now := kept.get(name)):
                    yield f"{MANIFEST}: {name} of {where} is {_short(was)}; its stamp in the store has {_short(now)}"
            yield from _began(one, str(kept.get("began", "")), "its stamp in the store has", where)
        family = families.get(one.family) or family_of(one.family, store)
        lacking = family.lacking(of_run) | others if family else others
        if (listed := results.runs[0].lacking.get(one.family)) is not None and (
            one.dropped != len(listed) or not set(listed) >= set(map(digest_of, lacking))
        ):
            yield f"{RESULTS}: what it lacks of the family of {where} is not what {MANIFEST} has"
        if one.dropped is not None and one.dropped < len(lacking):
            said = f"{one.dropped} that were declared are not here; by their responses {len(lacking)} are not"
            yield f"{MANIFEST}: of {where} it says that {said}"
        elif family is None and manifest.families and one.dropped is not None:
            yield f"{MANIFEST}: the family of {where} is not there, by which {one.dropped} of it are not here"


def _said_of(one: DeclaredFacts) -> set[str]:
    """What a manifest says of a stamp that results do: of older versions less."""
    return one.model_fields_set & StampFacts.model_fields.keys()


def _search(results: Results, manifest: Manifest, store: Store) -> Iterator[str]:
    """A search follows from its own values, and these from their artifacts, where the store has them."""
    search = results.search
    assert search is not None
    stages = {stage.ref: stage for stage in manifest.stages if stage.made}
    said = [*not_following(results, search, {ref: stage.facts for ref, stage in stages.items()})]
    train, held = (
        PromptsJob(source=PromptSource(path=Path(one.prompt_set)), digest=one.digest, limit=None).ref
        for one in (results.training, search)
    )
    if train in stages and held not in stages:  # where prompts had other keys than now, neither is
        said.append(f"{MANIFEST} has no prompts with the digest of the validation prompts, {search.digest}")
    for one in search.tries:
        if one.value is not None and one.measured not in stages:
            said.append(f"{MANIFEST} has no {one.measured}, which has the value of a try of {one.method}")
    values = {ref: valued(store.read(ref), search.criterion) for one in search.tries if store.has(ref := one.measured)}
    yield from (f"{RESULTS}: {line}" for line in [*said, *other_values(search, values)])


def _began(one: DeclaredFacts, first: str, who: str, where: str) -> Iterator[str]:
    if (known := moment(first)) and not ((claim := moment(one.began)) and claim <= known):
        yield f"{MANIFEST}: {where} has '{one.began}' for when its rows began; {who} {first}"


def _families(manifest: Manifest) -> dict[str, Family]:
    """What was declared together, by the digests that follow."""
    found = [Family("", one.members, one.primary, one.margin) for one in manifest.families]
    return {one.digest: one for one in found}


def _changed(manifest: Manifest) -> list[str]:
    return sorted({one.digest for one in manifest.families} - _families(manifest).keys())


def _about(one: DeclaredFacts, results: Results, manifest: Manifest, store: Store) -> dict[Ref, str]:
    """What tells of a contrast's rows, by its label, or by its job where the store has it; and that label."""
    named = {
        label
        for row in (one.first, one.second)
        for label in labels_about(row, one.prompt_set, declared_in(results).parts, declared_in(results).candidates)
    }
    telling = [stage for stage in manifest.stages if stage.ref.partition("/")[0] in TELLING]
    return {
        stage.ref: stage.label
        for stage in telling
        if stage.label in named or not set(one.responses).isdisjoint(_reads(stage, store))
    }


def _reads(stage: Stage, store: Store) -> set[Ref]:
    manifest = artifact_manifest(store.path(stage.ref)) if store.has(stage.ref) else None
    return set(refs_in(manifest["job"])) if manifest else set()


def _config(path: Path, results: Results) -> Iterator[str]:
    config = {key: value for key, value in results.config.items() if key != "training"}
    written = parse_yaml(path.read_text(encoding="utf-8", errors="replace"), str(path))
    found = list(differences(config, written, "config"))
    for where, was, now in found:
        yield f"{RESULTS}: {where} is {_short(was)}; {CONFIG} has {_short(now)}"
    if not found and config != written:
        yield f"{CONFIG} lacks settings of {RESULTS}"


def _artifacts(
    folder: Path,
    results: Results,
    manifest: Manifest,
    store: Store,
    found: Verification,
    older: bool,
    tick: Tick,
    digest: Digest,
) -> None:
    """Every file of every artifact that is here is read again, whatever is remembered of it."""
    made = [stage for stage in manifest.stages if stage.made]
    here = [stage for stage in made if store.has(stage.ref)]
    absent = [stage for stage in manifest.stages if stage not in here]  # judgings with verdicts that failed, too
    found.absent += [f"{stage.label} ({stage.ref})" for stage in absent]
    if not here:
        return
    wrong: list[str] = []
    whole: list[Stage] = []
    for number, stage in enumerate(here):
        tick(number, len(here), stage.label)
        problems = list(_artifact(stage, store, digest))
        wrong += problems
        whole += [] if problems else [stage]
    found.add(f"{len(here)} artifacts of the store, every file by its sha256 and every key by its job", wrong)
    if len(here) == len(made):
        every = len(whole) == len(manifest.stages)
        rows = (
            f"{VERDICTS}, {RUN_RESPONSES} and {RUN_MEASURED}" if results.measured else f"{VERDICTS} and {RUN_RESPONSES}"
        )
        found.add(f"{rows} from the artifacts", _rows(folder, results, whole, every, store))
        if every and all((folder / name).is_file() for name in (RUN_TOKENS, RUN_PROMPTS)):
            jobs = [job_from(store.read(stage.ref).manifest["job"]) for stage in whole]
            found.add(f"{RUN_TOKENS} from the artifacts", _tokens(folder, results, jobs, store))
    if any(stage.ref.startswith(_RETENTION) for stage in whole):
        found.add("what models still can, from their artifacts", _retention(results, whole, store))
    if not older and (again := _costs_again(results, whole, store)):
        found.add(f"what {len(again)} rows took, from their artifacts", _costs(results, again))


def _artifact(stage: Stage, store: Store, digest: Digest) -> Iterator[str]:
    where = f"{stage.label} ({stage.ref})"
    for name, known in stage.files.items():
        path = store.path(stage.ref) / name
        if not path.is_file():
            yield f"{where}: {name} is missing in the store"
        elif digest(path) != known.sha256:
            yield f"{where}: {name} is not the file that {MANIFEST} has the sha256 of"
    try:
        written = json.loads((store.path(stage.ref) / MANIFEST).read_text(encoding="utf-8"))
        ref = job_from(written["job"]).ref
        changed = [name for name in ("facts", "seconds", "created") if written[name] != getattr(stage, name)]
        changed += ["peak_memory"] if written.get("peak_memory") != stage.peak_memory else []
    except (ValueError, KeyError, TypeError):
        yield f"{where}: its {MANIFEST} is damaged, or of another version"
        return
    if changed:
        yield f"{where}: {', '.join(changed)} of the artifact are not those of {MANIFEST}"
    if ref != stage.ref:
        yield f"{where}: its key does not follow from its job (changed, or of another version)"


def _retention(results: Results, stages: Sequence[Stage], store: Store) -> Iterator[str]:
    """What models still can is what the artifacts that are here say."""
    kinds, whose = {one.method: one.kind for one in results.retention}, _weights(results)
    for stage in stages:
        artifact = store.read(stage.ref)
        job = job_from(artifact.manifest["job"])
        if not isinstance(job, RetentionJob):
            continue
        for row in (row for row, weights in whose.items() if weights == job.model.weights):
            was = [one for one in results.retention if one.method == row]
            if was and was != said(row, kinds.get(row, "method"), artifact):
                yield f"{RESULTS}: what {row} still can is not what its artifact {stage.ref} says"


def _costs_again(results: Results, stages: Sequence[Stage], store: Store) -> tuple[CostFacts, ...]:
    """What each row took whose training, and all that this rests on, is here."""
    made: dict[Ref, Made] = {}
    for stage in stages:
        manifest = store.read(stage.ref).manifest
        made[stage.ref] = Made(job_from(manifest["job"]), manifest)
    jobs = {ref: one.job for ref, one in made.items()}
    trainings = {one.name: one.artifact for one in results.methods}
    here = {row: ref for row, ref in trainings.items() if jobs.keys() >= set(rests_on(ref, jobs))}
    return costs(here, results.pair.weights.get("teacher"), made)


def _costs(results: Results, again: Iterable[CostFacts]) -> Iterator[str]:
    was = {cost.method: plain(cost) for cost in results.costs}
    for cost in (cost for cost in again if cost.method in was):  # else it is said above
        for path, one, other in differences(was[cost.method], plain(cost), f"costs / {cost.method}"):
            yield f"{RESULTS}: {path} is {_short(one)}; of its artifacts it is {_short(other)}"


def _rows(folder: Path, results: Results, stages: Sequence[Stage], every: bool, store: Store) -> Iterator[str]:
    """The folder's rows are those of the judgings, of the responses that those judged, and of what was measured of
    them, but for prompts that were left out.

    every: the stages are all of the run's. Else some are damaged or not made, and rows that they had are passed over.
    """
    verdicts: Counter[str] = Counter()
    judgings: set[tuple[str, str, str, str]] = set()
    answers: dict[tuple[str, str], str] = {}
    measurings: list[MeasureJob] = []
    sound = {stage.ref for stage in stages}
    left_out = {(entry.name, name) for entry in results.prompt_sets for name in entry.left_out}
    for ref in sound:
        manifest = json.loads((store.path(ref) / MANIFEST).read_text(encoding="utf-8"))
        job = job_from(manifest["job"])
        if isinstance(job, JudgeJob):
            given = (row for _, row in read_jsonl(store.path(ref) / VERDICTS))
            verdicts.update(_verdict(row) for row in given if (job.prompt_set, row["prompt_id"]) not in left_out)
            judgings.add((job.prompt_set, job.candidate_name, job.reference_name, job.judge))
            systems = {job.candidate_name: job.candidate, job.reference_name: job.reference}
            answers |= {(job.prompt_set, name): found for name, found in systems.items() if found in sound}
        elif isinstance(job, MeasureJob):
            measurings.append(job)
    written = Counter(
        _verdict(row)
        for _, row in read_jsonl(folder / VERDICTS)
        if every or (row["prompt_set"], row["candidate"], row["reference"], row["judge"]) in judgings
    )
    for name, rows in (("not in the judgings of the store", written - verdicts), ("lacking here", verdicts - written)):
        if rows:
            yield f"{VERDICTS}: {rows.total()} verdicts are {name}; first: {_short(next(iter(rows)))}"
    expected = {
        (prompt_set, row.prompt_id, system, row.sample): (row.text, len(row.token_ids), row.finish)
        for (prompt_set, system), ref in answers.items()
        for row in read_records(store.path(ref) / RESPONSES, Response)
        if (prompt_set, row.prompt_id) not in left_out
    }
    told = {
        (row.prompt_set, row.prompt_id, row.system, row.sample): (row.text, row.tokens, row.finish)
        for row in read_records(folder / RUN_RESPONSES, RunResponse)
        if every or (row.prompt_set, row.system) in answers
    }
    for key in dict.fromkeys([*expected, *told]):
        if expected.get(key) != told.get(key):
            yield f"{RUN_RESPONSES}: what {key[2]} answered to {key[1]} of {key[0]} is not what its artifact holds"
    yield from _measured(folder, results, measurings, answers, left_out, every, store)


def _tokens(folder: Path, results: Results, jobs: Sequence[Job], store: Store) -> Iterator[str]:
    """tokens.json again, of all of the run's measurings and comparisons."""
    left_out = {(entry.name, name) for entry in results.prompt_sets for name in entry.left_out}
    prompts: dict[str, list[str]] = {entry.name: [] for entry in results.prompt_sets}
    for row in read_records(folder / RUN_PROMPTS, RunPrompt):
        if row.prompt_set in prompts and (row.prompt_set, row.id) not in left_out:  # of another set it is said above
            prompts[row.prompt_set].append(row.id)
    readings = {
        (judging.prompt_set, judging.candidate_name): job.readings
        for job in jobs
        if isinstance(job, MeasureJob) and not job.of_teacher
        for judging in jobs
        if isinstance(judging, JudgeJob) and judging.candidate == job.responses
    }
    compared = [
        Compared(prompt_set, name, TEACHER if reads == "teacher_tokens" else name, store.path(ref))
        for prompt_set in prompts
        for name in declared_in(results).candidates
        for reads in TOKENS_READ
        for ref in readings.get((prompt_set, name), {}).get(reads, ())
    ]
    longest = results.evaluation.sampling.max_new_tokens
    if read_tokens(folder) != token_views(compared, prompts, longest):
        yield f"{RUN_TOKENS}: it is not what the comparisons of the artifacts say"


def _measured(
    folder: Path,
    results: Results,
    jobs: Sequence[MeasureJob],
    answers: Mapping[tuple[str, str], str],
    left_out: Collection[tuple[str, str]],
    every: bool,
    store: Store,
) -> Iterator[str]:
    """answers: by prompt set and system, the artifact of its responses, which a job says that it measured."""
    refs = {
        place: job.ref
        for job in jobs
        for place, found in answers.items()
        if found == job.responses and (place[1] == TEACHER) == job.of_teacher
    }
    digests = {one.name: one.digest for one in results.measured}
    of_rows = [job for job in jobs if job.responses in answers.values()]  # those of a search are of other prompts
    for name in sorted(
        {name for job in of_rows for name, digest in job.measures.items() if digests.get(name) != digest}
    ):
        yield f"{RESULTS}: the measure {name} is not the one that was measured by its digest"
    expected = {
        (prompt_set, row.prompt_id, system): row.values
        for (prompt_set, system), ref in refs.items()
        for row in read_records(store.path(ref) / MEASURED, Measured)
        if (prompt_set, row.prompt_id) not in left_out
    }
    path = folder / RUN_MEASURED
    told = {
        (row.prompt_set, row.prompt_id, row.system): row.values
        for row in (read_records(path, RunMeasured) if path.is_file() else ())
        if every or (row.prompt_set, row.system) in refs
    }
    for key in dict.fromkeys([*expected, *told]):
        if expected.get(key) != told.get(key):
            what = f"what was measured of {key[2]} on {key[1]} of {key[0]}"
            yield f"{RUN_MEASURED}: {what} is not what its artifact holds"


_UNSAID = {name: known.default for name, known in Verdict.model_fields.items() if not known.is_required()}


def _verdict(row: dict[str, Any]) -> str:
    """A row of verdicts as one text; artifacts of before do not say what later versions added."""
    return json.dumps({**_UNSAID, **row}, sort_keys=True, ensure_ascii=False)
