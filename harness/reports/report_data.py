"""What the page of a run, or of a study, is made from, as folders hold it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.core.records import RunPrompt, RunResponse, Verdict, read_jsonl, read_records
from harness.reports.cells import runs_words
from harness.reports.charts import Metrics
from harness.results.figures import RunRows
from harness.results.folder import CONFIG, CURVES, RUN_PROMPTS, RUN_RESPONSES, read_made, read_tokens
from harness.results.labelled import labelled_boards, labelled_run
from harness.results.naming import row_names
from harness.results.pooling import as_one, kinds_of, pooled
from harness.results.reading import read_results
from harness.results.schema import Results
from harness.results.studies import runs_in
from harness.results.tokens import Departure, Positions, TokenViews, View
from harness.run.jobs import VERDICTS


@dataclass(frozen=True)
class ReportData:
    """What a run's folder holds, or those of several of one kind. None: the run was made before that was kept.

    verdicts: of several runs under the rows' common names, each seed's responses as further samples of a prompt.
    browsed: how many samples of a prompt are shown with their responses; None for all. some: which runs what is shown
    run by run is of, where there are others. curves: which row each of `metrics` is of; empty where their names say it.
    """

    results: Results
    verdicts: Sequence[Verdict]
    metrics: Metrics | None = None
    prompts: Sequence[RunPrompt] | None = None
    responses: Sequence[RunResponse] | None = None
    config: str | None = None
    tokens: TokenViews = field(default_factory=TokenViews)
    browsed: int | None = None
    some: str = ""
    curves: Mapping[str, str] = field(default_factory=dict)


def read_report(folder: Path, labels: Sequence[Path] = ()) -> list[ReportData]:
    """A finished run, a record of one, or a study: of that one for each kind of its runs. labels: people's.

    Raises:
        UserError: no results there, or a file that is not what it should be.
    """
    folders = runs_in(folder)
    if folders == [folder]:
        run = read_run(folder)
        return [replace(run, results=labelled_run(folder, run.results, labels)) if labels else run]
    boards = labelled_boards(folders, labels) if labels else None
    return [
        replace(found, results=boards[place]) if boards else found
        for place, found in enumerate(map(_read_several, kinds_of(folders)))
    ]


def read_run(folder: Path) -> ReportData:
    """A finished run's folder, or a record of one.

    Raises:
        UserError: as `read_report`.
    """
    responses = folder / RUN_RESPONSES
    return ReportData(
        results=read_results(folder),
        verdicts=read_records(folder / VERDICTS, Verdict),
        metrics=_metrics(folder) or None,
        prompts=_prompts(folder),
        responses=read_records(responses, RunResponse) if responses.is_file() else None,
        config=_config(folder),
        tokens=read_tokens(folder),
    )


def _metrics(folder: Path) -> Metrics:
    return {path.stem: [row for _, row in read_jsonl(path)] for path in sorted((folder / CURVES).glob("*.jsonl"))}


def _prompts(folder: Path) -> Sequence[RunPrompt] | None:
    return read_records(folder / RUN_PROMPTS, RunPrompt) if (folder / RUN_PROMPTS).is_file() else None


def _config(folder: Path) -> str | None:
    return (folder / CONFIG).read_text(encoding="utf-8") if (folder / CONFIG).is_file() else None


# ---- several runs


def _read_several(kind: Mapping[Path, Results]) -> ReportData:
    """Runs of one kind. Responses are of the first seed alone: those of all would make a page that no browser opens."""
    folders, runs = list(kind), list(kind.values())
    if len(runs) == 1:
        return read_run(folders[0])
    made, names = [read_made(folder) for folder in folders], row_names(runs)
    first = runs[0].runs[0].seed
    shown = [place for place, run in enumerate(runs) if run.runs[0].seed == first]
    rows = as_one(runs, made)
    metrics, curves = _curves(folders, runs, names)
    return ReportData(
        results=pooled(runs, made),
        verdicts=list(_as_samples(runs, rows)),
        metrics=metrics or None,
        prompts=_prompts(folders[0]),
        responses=_once([rows[runs[place].name] for place in shown]),
        config=_config(folders[0]),
        tokens=_joined([(read_tokens(folders[place]), names[place]) for place in shown]),
        browsed=1 + max((verdict.sample for found in made for verdict in found.verdicts), default=0),
        some=f"seed {first} ({runs_words([place + 1 for place in shown])})" if len(shown) < len(runs) else "",
        curves=curves,
    )


def _as_samples(runs: Sequence[Results], rows: Mapping[str, RunRows]) -> Iterator[Verdict]:
    """All verdicts, those of each further seed on further samples; where a training was made twice at one, the second
    on samples behind all seeds'."""
    seeds = list(dict.fromkeys(run.runs[0].seed for run in runs))
    samples = 1 + max((verdict.sample for found in rows.values() for verdict in found.verdicts), default=0)
    seen = Counter[tuple[str, str, int]]()
    for run in runs:
        seed = run.runs[0].seed
        found = rows[run.name].verdicts
        pairs = {(verdict.candidate, verdict.reference) for verdict in found}
        places = {pair: seeds.index(seed) + len(seeds) * seen[(*pair, seed)] for pair in pairs}
        seen.update((*pair, seed) for pair in pairs)
        for verdict in found:
            place = places[verdict.candidate, verdict.reference]
            yield verdict.model_copy(update={"sample": verdict.sample + place * samples}) if place else verdict


def _once(made: Sequence[RunRows]) -> list[RunResponse]:
    """Each row's responses from the first that has them."""
    found: dict[tuple[str, str, str, int], RunResponse] = {}
    for rows in made:
        for one in rows.responses:
            found.setdefault((one.prompt_set, one.prompt_id, one.system, one.sample), one)
    return list(found.values())


def _curves(
    folders: Sequence[Path], runs: Sequence[Results], names: Sequence[Mapping[str, str]]
) -> tuple[Metrics, dict[str, str]]:
    """Each training's metrics by its row and seed, row by row; and the rows. What several runs share is there once."""
    found: dict[str, dict[str, Sequence[Mapping[str, Any]]]] = {}
    artifacts: dict[str, set[str]] = {}
    for folder, run, known in zip(folders, runs, names, strict=True):
        metrics = _metrics(folder)
        for one in run.methods:
            name, seed = known[one.name], run.runs[0].seed
            if one.name not in metrics or one.artifact in artifacts.setdefault(name, set()):
                continue
            artifacts[name].add(one.artifact)
            of_row = found.setdefault(name, {})
            label = f"{name}, seed {seed}"
            label = label if label not in of_row else f"{label}, {run.name}"
            of_row[label] = metrics[one.name]
    every = {label: rows for of_row in found.values() for label, rows in of_row.items()}
    return every, {label: name for name, of_row in found.items() for label in of_row}


def _joined(found: Sequence[tuple[TokenViews, Mapping[str, str]]]) -> TokenViews:
    """Those of several runs of one seed under their rows' common names."""
    views: dict[tuple[str, str, int, str], View] = {}
    positions: dict[tuple[str, ...], Positions] = {}
    departures: dict[tuple[str | int, ...], Departure] = {}
    for one, names in found:
        for view in one.views:
            writer = names.get(view.writer, view.writer)
            kl = {names.get(name, name): values for name, values in view.kl.items()}
            key = (view.prompt_set, view.prompt_id, view.sample, writer)
            if key not in views:
                views[key] = view.model_copy(update={"writer": writer, "kl": kl})
            elif views[key].pieces == view.pieces:
                views[key] = views[key].model_copy(update={"kl": {**kl, **views[key].kl}})
        for row in one.positions:
            said = {"method": names.get(row.method, row.method), "writer": names.get(row.writer, row.writer)}
            positions.setdefault((row.prompt_set, *said.values()), row.model_copy(update=said))
        for token in one.departures:
            said = {"method": names.get(token.method, token.method), "writer": names.get(token.writer, token.writer)}
            place: tuple[str | int, ...] = (
                *said.values(),
                token.prompt_set,
                token.prompt_id,
                token.sample,
                token.position,
            )
            departures.setdefault(place, token.model_copy(update=said))
    return TokenViews(
        views=tuple(views.values()), positions=tuple(positions.values()), departures=tuple(departures.values())
    )
