"""`judge`, `judge-check`, `import` and `stats`: judgments of texts without a run. Importing this imports no more than
typer."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import ASK_AGAIN, JudgeRequest, RankIncomplete, beside, check_file, open_store
from harness.core.errors import UserError

if TYPE_CHECKING:
    from harness.config import JudgeConfig
    from harness.core.records import Prompt
    from harness.judging import Judge
    from harness.judging.protocol import Answer, Question
    from harness.store import Store

Verdicts = Annotated[Path, typer.Option(metavar="FILE", help="Where the verdicts go, as JSONL.")]


def import_verdicts(
    source: Annotated[str, typer.Argument(metavar="alpaca-eval|arena-hard|fastchat", show_default=False)],
    files: Annotated[list[Path], typer.Argument(help="That tool's files of judgments.")],
    out: Verdicts,
    reference: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Keep judgments against this model alone.")
    ] = None,
) -> None:
    """Judgments that another tool wrote, as verdict rows, so that its published figures can be computed again."""
    from harness.core.records import write_jsonl
    from harness.core.registry import did_you_mean
    from harness.judging.importers import IMPORTERS
    from harness.reports.stats import imported

    if source not in IMPORTERS:
        raise UserError(f"unknown format '{source}'{did_you_mean(source, IMPORTERS)}")
    check_file(out, "--out")
    if out.resolve() in [path.resolve() for path in files]:
        raise UserError(f"--out {out} is one of the files to import; name another")
    notes: list[str] = []
    verdicts = IMPORTERS[source](files, reference, notes.append)
    write_jsonl(out, verdicts)
    now = f"written to {out}; now: python -m harness stats {shlex.quote(str(out))}"
    print("\n".join([imported(verdicts, source), *(f"note: {note}" for note in notes), now]), file=beside(out))


def stats(
    files: Annotated[list[Path], typer.Argument(help="Verdict files, each a run: of `run`, `judge` or `import`.")],
    contrast: Annotated[
        list[str] | None,
        typer.Option(metavar="FIRST,SECOND", help="Two candidates to test against each other. Repeatable."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(metavar="POINTS", help="Say of each contrast whether it is smaller than this."),
    ] = None,
    rank_incomplete: RankIncomplete = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Rates, intervals and tests of any verdict files; docs/statistics.md has the formulas."""
    from harness.core.records import plain
    from harness.methods.settings import MOST_POINTS
    from harness.reports.stats import stats_text
    from harness.run.rows import ANCHORS
    from harness.statistics.outcomes import read_verdicts
    from harness.statistics.summary import statistics_of

    pairs = []
    for text in contrast or ():
        first, comma, second = text.partition(",")
        if not (comma and first.strip() and second.strip()):
            raise UserError(f"--contrast {text}: expected two candidates with a comma between them")
        pairs.append((first.strip(), second.strip()))
    if margin is not None and not 0 < margin <= MOST_POINTS:
        raise UserError(f"--margin {margin:g}: expected a number of points above 0, and {MOST_POINTS} at most")
    if margin is not None and not pairs:
        raise UserError(f"--margin {margin:g} is said of contrasts; name one with --contrast FIRST,SECOND")
    points = None if margin is None else margin / 100
    found = statistics_of(read_verdicts(files), pairs, rank_incomplete, ANCHORS, points)
    print(json.dumps(plain(found), indent=1, ensure_ascii=False, allow_nan=False) if as_json else stats_text(found))


def judge(
    candidate: Annotated[Path, typer.Option(metavar="FILE", help="Responses: JSONL with prompt_id, prompt, response.")],
    reference: Annotated[Path, typer.Option(metavar="FILE", help="The responses that they are compared with.")],
    request: JudgeRequest,
    out: Verdicts,
) -> int:
    """Judge any two files of responses to the same prompts, each pair in both orders.

    Rows have `prompt_id`, `response`, and `prompt` (or `messages`). Every answer is kept as it arrives: run it again
    after a kill or a failure, and only what is missing is asked. Status 0: at least 99% of the verdicts are ok
    (judge.least_ok); 3: fewer.
    """
    from harness.core.progress import StageView, plain_console
    from harness.core.records import Verdict, write_jsonl
    from harness.judging.cache import CACHE, VerdictCache
    from harness.judging.collect import Place, Tally, ask_for_verdicts
    from harness.judging.response_files import read_comparisons
    from harness.reports.judge import summary

    config = request.resolve()
    check_file(out, "--out")
    if out.resolve() in (candidate.resolve(), reference.resolve()):
        raise UserError(f"--out {out} is one of the files to judge; name another")
    comparisons = read_comparisons(candidate, reference)
    store = open_store(config)
    judges = reading_judges(config, store, [comparison.prompt for comparison in comparisons])
    names = [candidate.stem, reference.stem]
    place = Place("files", *(names if names[0] != names[1] else [str(candidate), str(reference)]))
    places = [(comparison.prompt.id, comparison.candidate.sample) for comparison in comparisons]
    verdicts: list[Verdict] = []
    tallies: dict[str, Tally] = {}
    console = plain_console()
    for note in notes_of(judges, [comparison.prompt for comparison in comparisons]):
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    try:
        with VerdictCache(store.root / CACHE) as cache, StageView(console, len(judges)) as view:
            for asked in judges:
                tick = view.stage(f"judge {asked.name}")
                tallies[asked.name] = ask_for_verdicts(
                    asked, comparisons, place, cache, verdicts.append, tick, request.refresh
                )
    finally:
        if verdicts:
            number_of = {place: number for number, place in enumerate(places)}
            verdicts.sort(
                key=lambda row: (config.judge.names.index(row.judge), number_of[row.prompt_id, row.sample], row.order)
            )
            write_jsonl(out, verdicts)
    print(summary(verdicts, tallies), file=beside(out))
    console.print(f"{len(verdicts)} verdicts written to {out}", markup=False, soft_wrap=True)
    low = [name for name, tally in tallies.items() if tally.ok < config.judge.least_ok * tally.verdicts]
    return ASK_AGAIN if low else 0


def judge_check(
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSONL: prompt_id, prompt, response_a, response_b, label.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="A copy of the report.")] = None,
    *,
    request: JudgeRequest,
) -> int:
    """Check a judge before you rely on it: bias by position and length, consistency, agreement with people, and whether
    damaged responses lose. Status 0: usable; 3: not.
    """
    from harness.core.files import write_atomically
    from harness.core.progress import StageView, plain_console
    from harness.judging.cache import CACHE, VerdictCache
    from harness.judging.check.check import CheckPlan, check, read_labels, read_pairs
    from harness.judging.collect import ask
    from harness.reports.judge_check import check_markdown

    config = request.resolve()
    if out:
        check_file(out, "--out")
    plan = CheckPlan(read_pairs(), humans=read_labels(labels) if labels else ())
    store, console = open_store(config), plain_console()
    judges = reading_judges(config, store, [case.prompt for case in plan.cases])
    reports = []
    with VerdictCache(store.root / CACHE) as cache, StageView(console, 2 * len(judges)) as view:
        for asked in judges:

            def answers(
                questions: Iterable[Question],
                judge: Judge = asked,
                cache: VerdictCache | None = cache,
                label: str = f"{asked.name}: labels and damage",
            ) -> list[tuple[Question, Answer]]:
                found: list[tuple[Question, Answer]] = []
                listed, tick = list(questions), view.stage(label)
                began = time.monotonic()

                def arrived(question: Question, answer: Answer) -> None:
                    found.append((question, answer))

                tally = ask(judge, listed, len(listed), cache, arrived, tick, request.refresh)
                view.finish(label, time.monotonic() - began, f"; {tally.spent}" if tally.spent else "")
                return found

            again = partial(answers, cache=None, label=f"{asked.name}: labels a second time")
            reports.append(check(asked, answers, plan, again))
    text = "\n\n".join(map(check_markdown, reports))
    print(text, file=beside(out))
    if out:
        write_atomically(out, text + "\n")
    return 0 if all(report.usable for report in reports) else ASK_AGAIN


def notes_of(judges: Sequence[Judge], prompts: Sequence[Prompt]) -> list[str]:
    return list(dict.fromkeys(note for judge in judges for note in judge.notes(prompts)))


def reading_judges(config: JudgeConfig, store: Store, prompts: Sequence[Prompt]) -> list[Judge]:
    """The judges named, ready to be asked about texts alone.

    Raises:
        UserError: one reads measures that a run alone makes; or all that is wrong with them, in one line: a template
            that cannot ask about one of the prompts, a key that is lacking.
    """
    from harness.judging.registry import checkpoint_in, factory_of, open_judge
    from harness.run.checks import unready
    from harness.run.loadable import unloadable_judges
    from harness.run.sources import judge_models, locate_all, open_judges

    for name in config.judge.names:
        if factory_of(name)[0].measures:
            raise UserError(f"judge '{name}' reads measures that only a run makes; name one that reads texts")
    # gigabytes are fetched for nothing that would be refused
    located = locate_all([], config.judge, store, False, config.trust_remote_code)
    opened, unopened = open_judges(config, judge_models(config.judge, located))
    refusals = [
        *unopened,
        *unloadable_judges(opened, store),
        *(line for found, _ in opened for line in unready(found, prompts, to_be_asked=True)),
    ]
    if refusals:
        raise UserError("; ".join(refusals))
    located = locate_all([], config.judge, store, True, config.trust_remote_code)
    checkpoints = judge_models(config.judge, located)
    conversions = {job.ref: job for found in checkpoints.values() if found for job in found.conversions}
    if conversions:
        from harness.core.progress import plain_console
        from harness.run.launch import run_jobs

        run_jobs(conversions.values(), store, plain_console())
    return [
        open_judge(name, config.judge, checkpoint_in(store, found.model if found else None), config.vllm)
        for name, found in checkpoints.items()
    ]
