"""`run`, `plan`, `show-example`, `list`, `stage` and `doctor`. Importing this imports no more than typer."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    ASK_AGAIN,
    DOUBTFUL,
    MARK,
    Plugins,
    Refresh,
    RunRequest,
    beside,
    check_file,
    check_ours,
    open_store,
)
from harness.core.errors import UserError

if TYPE_CHECKING:
    from harness.config import Study
    from harness.core.records import Ref
    from harness.run.jobs import Job
    from harness.run.road import Road

Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Output folder; by default one under runs/.")]
Copy = Annotated[Path | None, typer.Option("--leaderboard", metavar="FILE", help="A second copy of the board.")]
Owner = Annotated[
    str | None,
    typer.Option(
        "--push-to-hub",
        metavar="OWNER",
        help="Upload each method's student to OWNER on the hub, in private repositories.",
    ),
]
ONE_LINE = 500  # as wide as no row of a table is


def run(request: RunRequest, out: Out = None, copy: Copy = None, refresh: Refresh = False, owner: Owner = None) -> int:
    """Train, judge and print the leaderboard. Run it again after a kill: it goes on where it was.

    Later layers win: defaults, preset, --config, --set, options. Status 3: judgings lack verdicts, and are asked for
    when it is run again.
    """
    from harness.config import study_of
    from harness.core.files import write_atomically
    from harness.core.progress import plain_console
    from harness.reports import board, searched
    from harness.reports.cells import HARMED, harm_words
    from harness.results import folder as results
    from harness.results import manifest, studies
    from harness.results.pooling import boards
    from harness.run.declaring import declare
    from harness.run.known import remember
    from harness.run.launch import run_jobs
    from harness.run.launchers import launcher
    from harness.run.road import ask_again, build_roads, labels_of, together
    from harness.store import MANIFEST
    from harness.students import folders as students
    from harness.students import upload

    preset, layers = request.layers()
    study = study_of(layers)
    names = [member.name for member in study.members] if study.several else []
    if out:
        check_ours(out)
        studies.check_place(out, names)
    if copy:
        check_file(copy, "--leaderboard")
    if owner is not None:
        upload.check_owner(owner)
        upload.check_one_run(study.several)
    store = open_store(study.base)
    console = plain_console()
    made = 0

    def make(jobs: Iterable[Job], labels: Mapping[Ref, str] = MappingProxyType({})) -> None:
        nonlocal made
        made += run_jobs(jobs, store, console, launcher(study.base), labels)

    roads = build_roads(study, store, download=True)  # all that is refused is refused before anything is made
    methods = [entry.name for entry in roads[0].entries if not entry.controls]
    repositories = upload.repositories(owner, roads[0].pair.student, methods) if owner is not None else {}
    out = out or _default_out(preset, study, roads)
    check_ours(out)
    studies.check_place(out, names)
    command = request.command(preset)
    write_atomically(out / MARK, json.dumps({"command": command}, ensure_ascii=False) + "\n")
    if roads[0].search is not None and roads[0].search.open:
        roads = build_roads(study, store, download=True, make=make)
    declare(roads, store)  # before anything is computed, and before what was is discarded
    if refresh:
        remember(store)
        roads = [ask_again(road, store) for road in roads]
    for note in dict.fromkeys(note for road in roads for note in road.notes):
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    jobs = together(roads)
    make(jobs.values(), labels_of(roads))
    folders = studies.folders_of(out, names)
    for road, folder in zip(roads, folders, strict=True):
        found, rows = results.collect(road, store, command)
        shown = [found]
        text = board.board_markdown(shown)
        results.write_run(folder, road, store, found, rows, text)
        write_atomically(folder / MANIFEST, results.as_json(manifest.make_manifest(road, store, found, folder)))
        written = students.write_students(folder, road, store, found)
    if study.several:
        shown = boards(folders)
        text = board.board_markdown(shown)
        studies.write_study(out, study, folders, command, text)
    if copy:
        write_atomically(copy, text)
    print(text, file=beside(copy))
    for harmed in filter(None, map(harm_words, shown)):
        console.print(f"{HARMED}: {harmed}", markup=False, highlight=False, soft_wrap=True)
    for line in searched.lines(found.search) if found.search else ():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    unanswered = sum(not store.has(ref) for ref in jobs)
    rest = f"{unanswered} judgings lack verdicts: run it again to ask for them" if unanswered else "the rest were there"
    console.print(f"{made} of {len(jobs)} artifacts made, {rest}; written to {out}", markup=False, soft_wrap=True)
    upload.push(written, repositories, lambda line: console.print(line, markup=False, soft_wrap=True))
    return ASK_AGAIN if unanswered else 0


def _default_out(preset: str | None, study: Study, roads: Sequence[Road]) -> Path:
    """A folder under runs/ named after the run; where another configuration's results lie there, one beside it. A
    study's is named by all that it is, and so is a run's that is tuned: as before anything of it was found."""
    from harness.config import to_yaml
    from harness.core.files import canonical_hash
    from harness.results.folder import CONFIG, as_file_name

    config = roads[0].config
    named = [preset, as_file_name(config.student)]
    if study.settings.tune:
        kind = "study" if study.several else f"seed{config.seed}-tuned"
        said = [to_yaml(study.base), study.settings.model_dump(mode="json")]
        return Path("runs") / "-".join(filter(None, [*named, kind, canonical_hash(said)[:6]]))
    if study.several:
        digest = canonical_hash([to_yaml(road.config) for road in roads])[:6]
        return Path("runs") / "-".join(filter(None, [*named, "study", digest]))
    name = "-".join(filter(None, [*named, f"seed{config.seed}"]))
    out, text = Path("runs") / name, to_yaml(config)
    if (out / CONFIG).is_file() and (out / CONFIG).read_text(encoding="utf-8") != text:
        return out.with_name(f"{name}-{canonical_hash(text)[:6]}")
    return out


def plan(request: RunRequest, out: Out = None, copy: Copy = None) -> None:
    """What `run` with the same arguments would do, what of it is there already, and what the rest costs."""
    from harness.config import preset_words, study_of
    from harness.core.progress import plain_console
    from harness.planning import resolution
    from harness.planning import summary as planning
    from harness.planning.calibration import measured_speed
    from harness.planning.cost import costs_of, grouped
    from harness.planning.whole import study_words, whole
    from harness.run.road import build_roads

    preset, layers = request.layers()
    study = study_of(layers)
    store = open_store(study.base)
    roads = build_roads(study, store, download=False)
    road = whole(roads)
    costs = list(costs_of(road, store))
    if any(cost and cost.seconds is None and cost.memory is not None for _, cost in costs):
        costs = list(
            costs_of(road, store, measured_speed(store))
        )  # measured for a second, where something has never run here
    console = plain_console(stderr=False, width=None if sys.stdout.isatty() else 120)
    if preset:
        for line in preset_words(preset):
            console.print(f"{preset}: {line}", markup=False, highlight=False)
    if study.several:
        console.print(study_words(study, roads), markup=False, highlight=False, soft_wrap=True)
    console.print(planning.stage_table(roads, grouped(costs)))
    notes = dict.fromkeys(f"note: {note}" for one in roads for note in one.notes)
    for line in [*notes, *planning.summary(road, costs, store)]:
        console.print(line, markup=False, highlight=False, soft_wrap=line.startswith("note"))
    for line in planning.judging_bills(costs):
        console.print(line, markup=False)
    for part in resolution.printed(roads, store):
        console.print(part, markup=False, highlight=False)


def show_example(
    request: RunRequest,
    index: Annotated[int, typer.Option(min=0, help="Which training prompt, counted from 0.")] = 0,
) -> None:
    """One training row of `run` with the same arguments, token by token, and which tokens are in the loss.

    Nothing is computed: responses that are not there yet are said to be missing. Of a study it is one of its first run.
    """
    from harness.config import study_of
    from harness.core.progress import plain_console
    from harness.judging.settings import Judging
    from harness.reports.preview import preview_text
    from harness.run.preview import previews_of
    from harness.run.road import build_road

    preset, layers = request.layers()
    # who judges, and on which prompts, shapes no training: neither's models, keys or limits count in a look at a row
    config = study_of(layers).members[0].config.model_copy(update={"judge": Judging(name="typicality"), "eval": ()})
    store = open_store(config)
    road = build_road(config, store, download=False)
    console = plain_console(stderr=False)
    for shown in previews_of(road, store, index):
        text = preview_text(shown, config.train_prompts, index, request.command(preset), marks=not console.is_terminal)
        console.print(text, highlight=False, soft_wrap=not console.is_terminal)


def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[methods|models|pairs|judges|measures|prompts|presets]", show_default=False),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """What there is, by kind; everything without one."""
    from harness.config import preset_words, presets
    from harness.core.registry import did_you_mean
    from harness.judging import judges
    from harness.measures import measures
    from harness.methods import methods
    from harness.models.specs import models, pairs
    from harness.prompts import prompt_sets
    from harness.reports.methods import methods_lines

    tables: dict[str, Callable[[], list[str]]] = {
        "methods": lambda: methods_lines(methods.items(), None if sys.stdout.isatty() else ONE_LINE)
    }
    known: dict[str, Callable[[], dict[str, str]]] = {
        "models": lambda: {name: spec.summary for name, spec in models.items()},
        "pairs": lambda: {n: f"{p.student}, taught by {p.teacher}; {p.summary}" for n, p in pairs.items()},
        "judges": lambda: {
            name: judge.summary for name, judge in sorted(judges.items(), key=lambda item: item[1].takes_model)
        },
        "measures": lambda: {measure.name: measure.summary for measure in measures.in_order()},
        "prompts": lambda: {name: found.summary for name, found in prompt_sets.items()},
        "presets": lambda: {name: str(layer.get("summary", "")) for name, layer in presets.items()},
    }
    beneath: dict[str, Callable[[str], list[str]]] = {
        "measures": lambda name: [measures.get(name).terms],
        "presets": lambda name: list(preset_words(name)[1:]),
    }
    kinds = (*tables, *known)
    if kind is not None and kind not in kinds:
        raise UserError(f"unknown kind '{kind}'{did_you_mean(kind, kinds)}")
    if plugin:
        methods.use(plugin)
    for title in [kind] if kind else kinds:
        print(f"{title}:")
        for line in tables[title]() if title in tables else ():
            print(line)
        summaries = known[title]() if title in known else {}
        width = max(map(len, summaries), default=0)
        for name, summary in summaries.items():
            print(f"  {name:{width}}  {summary}")
            for line in beneath[title](name) if title in beneath else ():
                print(f"  {'':{width}}  - {line}")


def doctor(
    gpu_check: Annotated[
        bool, typer.Option("--gpu-check", help="Compare what a GPU computes with a CPU's numbers: a table to send in.")
    ] = False,
) -> int:
    """What this machine has, and which presets can run on it. Status 0: at least one; 3: none. With --gpu-check, 1:
    something that the GPU computes is not as on a CPU."""
    from harness.planning import doctor as asked

    if gpu_check:
        from harness.planning.gpu_check import a_gpu, check_gpu

        return check_gpu(functools.partial(print, flush=True), a_gpu())

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


def stage(
    job: Annotated[Path, typer.Argument(metavar="JOB.json", help="A job, as the store's manifests hold it.")],
    work: Annotated[Path | None, typer.Option(hidden=True, help="A workspace that the caller holds.")] = None,
) -> None:
    """Do one stage's job in this process: what `run` does for each missing artifact."""
    from pydantic import ValidationError

    from harness.core.progress import plain_console
    from harness.run.child import end_with_parent, perform_for_parent
    from harness.run.jobs import job_from_json
    from harness.run.launch import run_jobs

    if work is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("ranks of one stage are started by `run` alone: add --set launcher=accelerate to it")
    try:
        asked = job_from_json(job.read_bytes())
    except OSError as error:
        raise UserError(f"{job}: cannot be read ({error})") from error
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{job}: not a job ({where}: {first['msg']})") from error
    store = open_store()
    if work is not None:
        end_with_parent()
        perform_for_parent(asked, job, store, work)  # commits nothing: who holds the workspace does
        return
    if not store.has(asked.ref):
        asked.prepare()
    made = run_jobs([asked], store, plain_console())
    if not store.has(asked.ref):
        raise UserError(f"{asked.ref} lacks verdicts; run it again to ask for them")
    print(f"{asked.ref} {'made' if made else 'was there'}")
