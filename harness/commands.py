"""What the commands do, between the command line and the harness."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from rich.table import Table

from harness import config as configuration
from harness.config import MACHINE, Config, JudgeConfig, Judging, Layer, Prices
from harness.errors import UserError, hide
from harness.progress import plain_console
from harness.registry import did_you_mean
from harness.store import MANIFEST, STORE_VARIABLE, Store, canonical_hash, write_atomically

if TYPE_CHECKING:
    from harness.judging import Judge
    from harness.judging.protocol import Answer, Question
    from harness.records import Prompt

DEFAULT_STORE = "~/.cache/dadpo-harness"
DEFAULT_PRESET, DEFAULT_ON_A_GPU = "embedded", "single-gpu"
MARK = "harness-run.json"
DOUBTFUL = 3  # the status of `verify` where something does not follow


@dataclass(frozen=True)
class Request:
    """The arguments of `run` and `plan`, as given."""

    preset: str | None
    config: Path | None
    assignments: list[str]
    methods: str | None
    student: str | None
    teacher: str | None
    judge: str | None
    template: str | None
    max_cost: float | None
    controls: str | None
    train_prompts: str | None
    eval: str | None
    limit: int | None
    seed: int | None

    def options(self) -> Layer:
        """The command-line options as a layer of configuration."""
        layer: Layer = {
            "methods": _split(self.methods),
            "student": self.student,
            "teacher": self.teacher,
            "judge": judge_options(self.judge, self.template, self.max_cost),
            "controls": self.controls,
            "train_prompts": self.train_prompts,
            "eval": _split(self.eval),
            "limits": None if self.limit is None else {"train": self.limit, "eval": self.limit},
            "seed": self.seed,
        }
        return {key: value for key, value in layer.items() if value is not None}

    def layers(self) -> tuple[str | None, list[Layer]]:
        """The preset's name and all layers, weakest first. With nothing that names a student, this machine's."""
        above = [configuration.read_config_file(self.config)] if self.config else []
        above.append(configuration.parse_assignments(self.assignments))
        above.append(self.options())
        preset = self.preset
        if preset is None and not any("student" in layer for layer in above):
            preset = default_preset()
        below = [configuration.preset_layer(preset)] if preset else []
        for layer in below:  # how a preset prunes is said of its own student: nobody asked for it of another
            if any(one.get("student", layer.get("student")) != layer.get("student") for one in above):
                layer.pop("prune", None)
        return preset, below + above

    def command(self, preset: str | None) -> str:
        """The command that reproduces the run."""
        parts = ["python", "-m", "harness", "run"]
        if preset:
            parts += ["--preset", preset]
        if self.config:
            parts += ["--config", str(self.config)]
        for text in self.assignments:
            if text.partition("=")[0] not in MACHINE:
                parts += ["--set", text]
        for name in [field.name for field in fields(self)][3:]:  # after preset, config and assignments
            value = getattr(self, name)
            if value is not None and name != "max_cost":  # how much may be spent shapes nothing
                parts += [f"--{name.replace('_', '-')}", str(value)]
        return hide(shlex.join(parts))


def default_preset() -> str:
    """The preset of a run that names no student."""
    import torch

    return DEFAULT_ON_A_GPU if torch.cuda.is_available() else DEFAULT_PRESET


def judge_options(judge: str | None, template: str | None, max_cost: float | None) -> Layer | None:
    """What the command line says of the judge, as the `judge` part of a layer."""
    said = {"name": judge, "template": template, "max_cost": max_cost}
    return {key: value for key, value in said.items() if value is not None} or None


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def open_store(config: Config | JudgeConfig | None = None) -> Store:
    named = config.store if config else None
    return Store(Path(named or os.environ.get(STORE_VARIABLE) or DEFAULT_STORE).expanduser())


def run(request: Request, out: Path | None, copy: Path | None, refresh: bool, owner: str | None = None) -> int:
    """The process's status: ASK_AGAIN where judgings lack verdicts."""
    from harness import pushing, students
    from harness.launch import run_jobs
    from harness.launchers import launcher
    from harness.pipeline import ask_again, build_road
    from harness.reporting import board, manifest, results

    preset, layers = request.layers()
    config = configuration.resolve(layers)
    if out:
        _check_ours(out)
    if copy:
        _check_file(copy, "--leaderboard")
    if owner is not None:
        pushing.check_owner(owner)
    store = open_store(config)
    road = build_road(config, store, download=True)
    methods = [entry.name for entry in road.entries if not entry.controls]
    repositories = pushing.repositories(owner, road.pair.student, methods) if owner is not None else {}
    if refresh:
        ask_again(road, store)
    out = out or _default_out(preset, road.config)
    _check_ours(out)
    command = request.command(preset)
    write_atomically(out / MARK, json.dumps({"command": command}, ensure_ascii=False) + "\n")
    console = plain_console()
    for note in road.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    made = run_jobs(road.jobs.values(), store, console, launcher(config))
    found, rows = results.collect(road, store, command)
    text = board.render([found])
    results.write_run(out, road, store, found, rows, text)
    write_atomically(out / MANIFEST, results.as_json(manifest.make_manifest(road, store, found, out)))
    folders = students.write_students(out, road, store, found)
    if copy:
        write_atomically(copy, text)
    print(text)
    unanswered = sum(not store.has(ref) for ref in road.jobs)
    rest = f"{unanswered} judgings lack verdicts: run it again to ask for them" if unanswered else "the rest were there"
    console.print(f"{made} of {len(road.jobs)} artifacts made, {rest}; written to {out}", markup=False, soft_wrap=True)
    pushing.push(folders, repositories, lambda line: console.print(line, markup=False, soft_wrap=True))
    return ASK_AGAIN if unanswered else 0


def _default_out(preset: str | None, config: Config) -> Path:
    """A folder under runs/ named after the run; where another configuration's results lie there, one beside it."""
    from harness.reporting.results import CONFIG, as_file_name

    name = "-".join(filter(None, [preset, as_file_name(config.student), f"seed{config.seed}"]))
    out, text = Path("runs") / name, configuration.to_yaml(config)
    if (out / CONFIG).is_file() and (out / CONFIG).read_text(encoding="utf-8") != text:
        return out.with_name(f"{name}-{canonical_hash(text)[:6]}")
    return out


def _check_file(path: Path, option: str) -> None:
    """A file that can be written: no folder, and below no file."""
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder; name a file")
    _check_parents(path, option)


def _check_parents(path: Path, option: str) -> None:
    for parent in path.parents:
        if parent.exists():
            if not parent.is_dir():
                raise UserError(f"{option} {path}: {parent} is a file, not a folder")
            return


def _check_ours(out: Path) -> None:
    """An output folder is new, empty, or one that a run made."""
    _check_parents(out, "--out")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder")
    foreign = [path for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
    if foreign and not (out / MARK).is_file():
        raise UserError(f"--out {out} holds files that no run made; name a new folder")


def plan(request: Request) -> None:
    from harness import planning
    from harness.calibration import rates
    from harness.estimate import estimate, grouped
    from harness.pipeline import build_road

    preset, layers = request.layers()
    config = configuration.resolve(layers)
    store = open_store(config)
    road = build_road(config, store, download=False)
    costs = list(estimate(road, store))
    if any(cost and cost.seconds is None and cost.memory is not None for _, cost in costs):
        costs = list(estimate(road, store, rates(store)))  # measured for a second, where something has never run here
    console = plain_console(stderr=False, width=None if sys.stdout.isatty() else 120)
    if preset:
        for line in configuration.preset_words(preset):
            console.print(f"{preset}: {line}", markup=False, highlight=False)
    console.print(planning.table(road, grouped(costs)))
    for line in [*(f"note: {note}" for note in road.notes), *planning.summary(road, costs, store)]:
        console.print(line, markup=False, highlight=False, soft_wrap=line.startswith("note"))
    for line in judging_bill(costs, config.judge):
        console.print(line, markup=False)


def show_example(request: Request, index: int) -> None:
    """Print one training row of each kind of data that the run's methods train on."""
    from harness.examples import examples_of
    from harness.pipeline import build_road
    from harness.reporting.shown import render

    preset, layers = request.layers()
    # who judges shapes no training: no judge's model or key is needed to look at a row
    config = configuration.resolve(layers).model_copy(update={"judge": Judging(name="typicality")})
    store = open_store(config)
    road = build_road(config, store, download=False)
    console = plain_console(stderr=False)
    for shown in examples_of(road, store, index):
        text = render(shown, config.train_prompts, index, request.command(preset), marks=not console.is_terminal)
        console.print(text, highlight=False, soft_wrap=not console.is_terminal)


def judging_bill(costs: Iterable[tuple[Any, Any]], judging: Judging) -> list[str]:
    """About what each judge that is paid by tokens is asked, one line each."""
    lines = []
    for name in judging.names:
        paid = [cost for job, cost in costs if getattr(job, "judge", None) == name and cost and cost.calls]
        if paid:
            tokens, reply, longest = (
                sum(getattr(cost, what) for cost in paid) for what in ("tokens", "reply_tokens", "longest_reply_tokens")
            )
            prices = judging.of(name).prices
            line = f"judge {name}: {sum(cost.calls for cost in paid):,} calls, about {tokens:,} tokens in and "
            line += f"{reply:,} out, {prices.in_words(tokens, reply)}"
            if prices.cost(1, 1) is None:
                line += " (set judge.prices.input and judge.prices.output)"
            if longest > reply:
                line += f"; without log-probs up to {longest:,} out, {prices.in_words(tokens, longest)}"
            lines.append(f"{line}; what its cache has is free")
    return lines


def list_names(kind: str | None) -> None:
    from harness.judging import judge_kinds, judges
    from harness.methods import methods
    from harness.models.names import models, pairs
    from harness.prompts import prompt_sets

    known: dict[str, Callable[[], dict[str, str]]] = {
        "methods": lambda: {name: f"{method.summary} ({method.source})" for name, method in methods.items()},
        "models": lambda: {name: spec.summary for name, spec in models.items()},
        "pairs": lambda: {n: f"{p.student}, taught by {p.teacher}; {p.summary}" for n, p in pairs.items()},
        "judges": lambda: {
            **{name: judge.summary for name, judge in judges.items()},
            **{kind.name: kind.summary for _, kind in judge_kinds.items()},
        },
        "prompts": lambda: {name: found.summary for name, found in prompt_sets.items()},
        "presets": lambda: {name: str(layer.get("summary", "")) for name, layer in configuration.presets.items()},
    }
    if kind is not None and kind not in known:
        raise UserError(f"unknown kind '{kind}'{did_you_mean(kind, known)}")
    for title in [kind] if kind else known:
        print(f"{title}:")
        summaries = known[title]()
        width = max(map(len, summaries))
        for name, summary in summaries.items():
            print(f"  {name:{width}}  {summary}")
            for line in configuration.preset_words(name)[1:] if title == "presets" else ():
                print(f"  {'':{width}}  - {line}")


def record(run_dir: Path) -> None:
    from harness.reporting.recording import record as copy

    target = copy(run_dir)
    print(f"recorded in {target}; now: python -m harness leaderboard")


def leaderboard(run_dirs: list[Path], out: Path | None, rank_incomplete: bool) -> None:
    from harness.reporting import board, files, pooling, recording, results

    if out:
        _check_file(out, "--out")
    write = files.writer(out) if out else board.render
    text = write(pooling.boards(run_dirs or recording.recorded(), rank_incomplete))
    if out is None and not run_dirs:
        out = Path(str(resources.files("benchmarks"))).parent / results.BOARD
    if out is None:
        print(text)
    else:
        write_atomically(out, text)
        print(f"written to {out}")


def report(run_dir: Path, out: Path) -> None:
    from harness.reporting import html

    _check_file(out, "--out")
    write_atomically(out, html.render(html.read_run(run_dir)))
    print(f"written to {out}; open it in a browser")


def import_verdicts(source: str, files: list[Path], reference: str | None, out: Path) -> None:
    """Another tool's judgments as verdict rows."""
    from harness.judging.external import IMPORTERS
    from harness.records import write_jsonl
    from harness.reporting.stats import imported

    if source not in IMPORTERS:
        raise UserError(f"unknown format '{source}'{did_you_mean(source, IMPORTERS)}")
    _check_file(out, "--out")
    if out.resolve() in [path.resolve() for path in files]:
        raise UserError(f"--out {out} is one of the files to import; name another")
    verdicts = IMPORTERS[source](files, reference)
    write_jsonl(out, verdicts)
    print(imported(verdicts, source))
    print(f"written to {out}; now: python -m harness stats {shlex.quote(str(out))}")


def stats(files: list[Path], contrasts: list[str], seed: int, rank_incomplete: bool, as_json: bool) -> None:
    from harness.reporting.stats import render, statistics_of
    from harness.statistics.outcomes import read_verdicts

    pairs = []
    for text in contrasts:
        first, comma, second = text.partition(",")
        if not (comma and first.strip() and second.strip()):
            raise UserError(f"--contrast {text}: expected two candidates with a comma between them")
        pairs.append((first.strip(), second.strip()))
    found = statistics_of(read_verdicts(files), pairs, seed, rank_incomplete)
    print(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) if as_json else render(found))


def verify(run_dir: Path, store: Path | None) -> int:
    """Whether a run's figures follow; the process's status: DOUBTFUL where one does not."""
    from harness.progress import StageView
    from harness.reporting.verify import verify as hold

    console = plain_console()
    with StageView(console, 1) as view:
        found = hold(run_dir, Store(store) if store else open_store(), view.stage("artifacts"))
    for what in found.checked:
        print(f"checked: {what}")
    if found.absent:
        print(f"not checked: {len(found.absent)} artifacts that this store does not have, such as {found.absent[0]}")
    for problem in found.wrong:
        print(f"WRONG: {problem}")
    print(f"{len(found.wrong)} problems in {run_dir}" if found.wrong else f"every figure of {run_dir} follows")
    return DOUBTFUL if found.wrong else 0


def doctor() -> int:
    """This machine in one screen; the process's status: DOUBTFUL where no preset can run."""
    from harness import doctor as asked

    with contextlib.suppress(ImportError):
        import torch  # noqa: F401  (GPUs are named where it has been imported)
    store = open_store()
    here = asked.machine(store)
    for name, found in asked.checks(here, store):
        print(f"{name:20} {found}")
    lacks = asked.presets(here, store)
    print()
    for name, what in lacks.items():
        print(f"preset {name:13} {'can run' if not what else 'lacks ' + '; '.join(what)}")
    return DOUBTFUL if all(lacks.values()) else 0


def store_ls() -> None:
    """Every artifact of the store with the runs that need it."""
    from harness import store_care as care

    store, now = open_store(), time.time()
    kept = care.artifacts(store)
    runs = {folder.name: folder for folder in care.recorded_runs()}
    runs |= {str(folder): folder for folder in care.unrecorded_runs()}
    needed = {name: care.needed_by(care.refs_of_run(folder), kept) for name, folder in runs.items()}
    table = Table()
    for name in ("artifact", "what", "size", "age", "needed by"):
        table.add_column(name, justify="right" if name in ("size", "age") else "left", overflow="fold")
    for one in kept:
        users = ", ".join(name for name, refs in needed.items() if one.ref in refs)
        stage, _, key = one.ref.partition("/")
        table.add_row(f"{stage}/{key[:8]}", one.label, care.in_bytes(one.bytes), care.in_days(now - one.created), users)
    console = plain_console(stderr=False, width=None if sys.stdout.isatty() else 140)
    console.print(table)
    left = care.rests(store)
    rest = f"; {len(left)} workspaces and damaged ones, {care.in_bytes(sum(r.bytes for r in left))}" if left else ""
    total = care.in_bytes(sum(one.bytes for one in kept))
    console.print(f"{store.root}: {len(kept)} artifacts, {total}{rest}", markup=False, highlight=False, soft_wrap=True)


def store_gc(days: float, keep: list[Path], yes: bool) -> None:
    """Free what no recorded run and none of these needs; without `yes`, say what that is."""
    from harness.store_care import at_work, free, in_bytes, plan_to_free, recorded_runs

    store, runs = open_store(), [*recorded_runs(), *keep]
    if yes and (busy := at_work(store)):
        raise UserError(
            f"a run is at work in {store.root} ({busy[0]}), and may yet read anything; free when it has ended"
        )
    if yes and not runs:
        raise UserError("no run is recorded here, so nothing would be kept: name runs with --keep RUN_DIR")
    found = plan_to_free(store, runs, days)
    for one in found.artifacts:
        print(f"{one.ref}  {in_bytes(one.bytes):>8}  {one.label}")
    for rest in found.rests:
        print(f"{rest.path.relative_to(store.root)}  {in_bytes(rest.bytes):>8}")
    if found.held:
        print(f"in use now, and kept with all that it was made from: {', '.join(found.held)}")
    count = f"{len(found.artifacts)} artifacts and {len(found.rests)} workspaces or damaged ones"
    if not yes:
        print(f"{count} would go, {in_bytes(found.bytes)}; add --yes, while no run goes on, to free them")
    else:
        print(f"{in_bytes(free(store, found))} freed ({count}); a run that needs them again makes them again")


def store_verify() -> int:
    """Read every artifact again; the process's status: DOUBTFUL where one is damaged."""
    from harness.progress import StageView
    from harness.store_care import damaged

    store = open_store()
    with StageView(plain_console(), 1) as view:
        found = damaged(store, view.stage("artifacts"))
    for ref, file in found:
        print(f"DAMAGED: {ref}: {file} is not what was written; the next run that needs it makes it anew")
    print(f"{len(store.refs())} artifacts read, {len(found)} damaged")
    return DOUBTFUL if found else 0


ASK_AGAIN = 3  # the status of `judge` where too many verdicts are not ok, and of `run` where judgings lack verdicts


@dataclass(frozen=True)
class JudgeRequest:
    """The arguments that `judge` and `judge-check` share, as given."""

    judge: str
    template: str | None
    max_cost: float | None
    config: Path | None
    assignments: list[str]
    refresh: bool

    def resolve(self) -> JudgeConfig:
        layers = [configuration.read_config_file(self.config)] if self.config else []
        layers.append(configuration.parse_assignments(self.assignments))
        layers.append({"judge": judge_options(self.judge, self.template, self.max_cost)})
        return configuration.resolve_judging(layers)


def judge(request: JudgeRequest, candidate: Path, reference: Path, out: Path) -> int:
    """Judge one response file against another; the process's status."""
    from harness.judging.asking import Names, Tally, ask_for_verdicts
    from harness.judging.cache import CACHE, VerdictCache
    from harness.judging.files import read_comparisons
    from harness.judging.opening import prices_of
    from harness.progress import StageView
    from harness.records import Verdict, write_jsonl
    from harness.reporting.judged import summary

    config = request.resolve()
    _check_file(out, "--out")
    if out.resolve() in (candidate.resolve(), reference.resolve()):
        raise UserError(f"--out {out} is one of the files to judge; name another")
    comparisons = read_comparisons(candidate, reference)
    store = open_store(config)
    judges = _reading_judges(config, store, [comparison.prompt for comparison in comparisons])
    names = [candidate.stem, reference.stem]
    who = Names("files", *(names if names[0] != names[1] else [str(candidate), str(reference)]))
    place = {comparison.prompt.id: number for number, comparison in enumerate(comparisons)}
    verdicts: list[Verdict] = []
    tallies: dict[str, Tally] = {}
    console = plain_console()
    try:
        with VerdictCache(store.root / CACHE) as cache, StageView(console, len(judges)) as view:
            for asked in judges:
                tick = view.stage(f"judge {asked.name}")
                prices = prices_of(asked, config.judge)
                tallies[asked.name] = ask_for_verdicts(
                    asked, comparisons, who, cache, prices, verdicts.append, tick, request.refresh
                )
    finally:
        if verdicts:
            verdicts.sort(key=lambda row: (config.judge.names.index(row.judge), place[row.prompt_id], row.order))
            write_jsonl(out, verdicts)
    print(summary(verdicts, tallies))
    console.print(f"{len(verdicts)} verdicts written to {out}", markup=False, soft_wrap=True)
    low = [name for name, tally in tallies.items() if tally.ok < config.judge.least_ok * tally.verdicts]
    return ASK_AGAIN if low else 0


def judge_check(request: JudgeRequest, labels: Path | None, out: Path | None) -> int:
    """A judge's own report; the process's status: ASK_AGAIN where the judge is not usable."""
    from harness.judging.asking import ask
    from harness.judging.cache import CACHE, VerdictCache
    from harness.judging.check import Plan, check, read_labels, read_pairs
    from harness.judging.opening import prices_of
    from harness.progress import StageView
    from harness.reporting.checked import render

    config = request.resolve()
    if out:
        _check_file(out, "--out")
    plan = Plan(read_pairs(), humans=read_labels(labels) if labels else ())
    store, console = open_store(config), plain_console()
    judges = _reading_judges(config, store, [case.prompt for case in plan.cases])
    reports = []
    with VerdictCache(store.root / CACHE) as cache, StageView(console, 2 * len(judges)) as view:
        for asked in judges:
            prices = prices_of(asked, config.judge)

            def answers(
                questions: Iterable[Question],
                judge: Judge = asked,
                prices: Prices | None = prices,
                cache: VerdictCache | None = cache,
                label: str = f"{asked.name}: labels and damage",
            ) -> list[tuple[Question, Answer]]:
                found: list[tuple[Question, Answer]] = []
                listed, tick = list(questions), view.stage(label)
                began = time.monotonic()

                def arrived(question: Question, answer: Answer) -> None:
                    found.append((question, answer))

                tally = ask(judge, listed, len(listed), cache, prices, arrived, tick, request.refresh)
                view.finish(label, time.monotonic() - began, f"; {tally.spent}" if tally.spent else "")
                return found

            again = partial(answers, cache=None, label=f"{asked.name}: labels a second time")
            reports.append(check(asked, answers, plan, again))
    text = "\n\n".join(map(render, reports))
    print(text)
    if out:
        write_atomically(out, text + "\n")
    return 0 if all(report.usable for report in reports) else ASK_AGAIN


def _reading_judges(config: JudgeConfig, store: Store, prompts: Sequence[Prompt]) -> list[Judge]:
    """The judges named, ready to be asked about texts alone.

    Raises:
        UserError: one reads measures that a run alone makes; or its template cannot ask about one of the prompts.
    """
    from harness.judging import judges, open_judge
    from harness.judging.opening import check_ready, checkpoint_in
    from harness.pipeline import judge_checkpoints, locate_all

    for name in config.judge.names:
        if name in judges and judges.get(name).measures:
            raise UserError(f"judge '{name}' reads measures that only a run makes; name one that reads texts")
    jobs: dict[str, Any] = {}
    located = locate_all([], config.judge, store, True, config.trust_remote_code)
    checkpoints = judge_checkpoints(config.judge, located, lambda job: jobs.setdefault(job.ref, job).ref)
    if jobs:
        from harness.launch import run_jobs

        run_jobs(jobs.values(), store, plain_console())
    found = [
        open_judge(name, config.judge, checkpoint_in(store, model), config.vllm) for name, model in checkpoints.items()
    ]
    for opened in found:
        check_ready(opened, prompts)
    return found


def stage(path: Path, work: Path | None) -> None:
    """Do a job and commit it; in `work`, only do it, for the process that holds that workspace."""
    from harness.jobs import job_from_json
    from harness.launch import run_jobs
    from harness.launchers import end_with_parent, perform_for_parent

    if work is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("ranks of one stage are started by `run` alone: add --set launcher=accelerate to it")
    try:
        job = job_from_json.validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: not a job ({where}: {first['msg']})") from error
    store = open_store()
    if work is not None:
        end_with_parent()
        perform_for_parent(job, path, store, work)
        return
    made = run_jobs([job], store, plain_console())
    if not store.has(job.ref):
        raise UserError(f"{job.ref} lacks verdicts; run it again to ask for them")
    print(f"{job.ref} {'made' if made else 'was there'}")
