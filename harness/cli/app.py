"""Commands: parse, call, print. No logic. Importing this imports neither torch nor pandas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train every distillation method on the same data, judge the students against their teacher, and print "
    "the leaderboard.\n\nA first run, with no GPU, key or download: python -m harness run --preset embedded",
)


Preset = Annotated[str | None, typer.Option(help="A named set of settings; see `list presets`.")]


ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML file of settings.")]


Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. training.epochs=2. Repeatable."),
]


Methods = Annotated[str | None, typer.Option(help="Methods, comma-separated; see `list methods`.")]


Student = Annotated[
    str | None, typer.Option(help="A pair or model of `list`, a pair's file, a local folder, or a hub id.")
]


Teacher = Annotated[str | None, typer.Option(help="The same; by default the pair's teacher.")]


JudgeName = Annotated[
    str | None,
    typer.Option("--judge", metavar="JUDGE,JUDGE", help="proxy, openai:MODEL, pairrm, …; several are a panel."),
]


Template = Annotated[
    str | None, typer.Option(help="How the judge is asked: a named template, or a file of yours; docs/judges.md.")
]


MaxCost = Annotated[float | None, typer.Option(min=0, help="Stop asking before this has been spent; needs prices.")]


Refresh = Annotated[bool, typer.Option("--refresh", help="Ask the judge anew for what it was asked before.")]


Controls = Annotated[str | None, typer.Option(help="none, basic or full: rows that a method's claim travels with.")]


TrainPrompts = Annotated[
    str | None, typer.Option(metavar="SET", help="A prompt set of `list`, or a file or folder of prompts.")
]


Eval = Annotated[
    str | None,
    typer.Option(
        "--eval", metavar="SET,SET", help="Prompt sets of `list`, or files; a file is out-of-domain unless in:PATH."
    ),
]


Limit = Annotated[int | None, typer.Option(min=1, help="Prompts per set, training included.")]


Seed = Annotated[int | None, typer.Option(min=0, help="Moves SFT, student responses, training and evaluation.")]


Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Output folder; by default one under runs/.")]


Copy = Annotated[Path | None, typer.Option("--leaderboard", metavar="FILE", help="A second copy of the board.")]


Push = Annotated[
    str | None,
    typer.Option(metavar="OWNER", help="Upload each method's student to OWNER on the hub, in private repositories."),
]


Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.callback()
def _root(debug: Debug = False) -> None:
    pass  # --debug is read by __main__, wherever it stands


@app.command()
def run(
    preset: Preset = None,
    config: ConfigFile = None,
    set_: Set = None,
    methods: Methods = None,
    student: Student = None,
    teacher: Teacher = None,
    judge: JudgeName = None,
    template: Template = None,
    max_cost: MaxCost = None,
    controls: Controls = None,
    train_prompts: TrainPrompts = None,
    eval_: Eval = None,
    limit: Limit = None,
    seed: Seed = None,
    out: Out = None,
    leaderboard: Copy = None,
    refresh: Refresh = False,
    push_to_hub: Push = None,
) -> None:
    """Train, judge and print the leaderboard. Run it again after a kill: it goes on where it was.

    Later layers win: defaults, preset, --config, --set, options. Status 3: judgings lack verdicts, and are asked for
    when it is run again.
    """
    from harness.cli import run as commands
    from harness.cli.options import RunRequest

    request = RunRequest(
        preset,
        config,
        set_ or [],
        methods,
        student,
        teacher,
        judge,
        template,
        max_cost,
        controls,
        train_prompts,
        eval_,
        limit,
        seed,
    )
    raise typer.Exit(commands.run(request, out, leaderboard, refresh, push_to_hub))


@app.command()
def plan(
    preset: Preset = None,
    config: ConfigFile = None,
    set_: Set = None,
    methods: Methods = None,
    student: Student = None,
    teacher: Teacher = None,
    judge: JudgeName = None,
    template: Template = None,
    max_cost: MaxCost = None,
    controls: Controls = None,
    train_prompts: TrainPrompts = None,
    eval_: Eval = None,
    limit: Limit = None,
    seed: Seed = None,
    out: Out = None,
    leaderboard: Copy = None,
) -> None:
    """What `run` with the same arguments would do, what of it is there already, and what the rest costs."""
    from harness.cli import run as commands
    from harness.cli.options import RunRequest

    request = RunRequest(
        preset,
        config,
        set_ or [],
        methods,
        student,
        teacher,
        judge,
        template,
        max_cost,
        controls,
        train_prompts,
        eval_,
        limit,
        seed,
    )
    commands.plan(request)


@app.command("show-example")
def show_example(
    preset: Preset = None,
    config: ConfigFile = None,
    set_: Set = None,
    methods: Methods = None,
    student: Student = None,
    teacher: Teacher = None,
    judge: JudgeName = None,
    template: Template = None,
    max_cost: MaxCost = None,
    controls: Controls = None,
    train_prompts: TrainPrompts = None,
    eval_: Eval = None,
    limit: Limit = None,
    seed: Seed = None,
    index: Annotated[int, typer.Option(min=0, help="Which training prompt, counted from 0.")] = 0,
) -> None:
    """One training row of `run` with the same arguments, token by token, and which tokens are in the loss.

    Nothing is computed: responses that are not there yet are said to be missing.
    """
    from harness.cli import run as commands
    from harness.cli.options import RunRequest

    request = RunRequest(
        preset,
        config,
        set_ or [],
        methods,
        student,
        teacher,
        judge,
        template,
        max_cost,
        controls,
        train_prompts,
        eval_,
        limit,
        seed,
    )
    commands.show_example(request, index)


Judges = Annotated[str, typer.Option("--judge", metavar="JUDGE,JUDGE", help="See `list judges`; several are a panel.")]


@app.command()
def judge(
    candidate: Annotated[Path, typer.Option(metavar="FILE", help="Responses: JSONL with prompt_id, prompt, response.")],
    reference: Annotated[Path, typer.Option(metavar="FILE", help="The responses that they are compared with.")],
    judge: Judges,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the verdicts go, as JSONL.")],
    template: Template = None,
    max_cost: MaxCost = None,
    config: ConfigFile = None,
    set_: Set = None,
    refresh: Refresh = False,
) -> None:
    """Judge any two files of responses to the same prompts, each pair in both orders.

    Rows have `prompt_id`, `response`, and `prompt` (or `messages`). Every answer is kept as it arrives: run it again
    after a kill or a failure, and only what is missing is asked. Status 0: at least 99% of the verdicts are ok
    (judge.least_ok); 3: fewer.
    """
    from harness.cli import judge as commands
    from harness.cli.options import JudgeRequest

    request = JudgeRequest(judge, template, max_cost, config, set_ or [], refresh)
    raise typer.Exit(commands.judge(request, candidate, reference, out))


@app.command("judge-check")
def judge_check(
    judge: Judges,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSONL: prompt_id, prompt, response_a, response_b, label.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="A copy of the report.")] = None,
    template: Template = None,
    max_cost: MaxCost = None,
    config: ConfigFile = None,
    set_: Set = None,
    refresh: Refresh = False,
) -> None:
    """Check a judge before you rely on it: bias by position and length, consistency, agreement with people, and whether
    damaged responses lose. Status 0: usable; 3: not.
    """
    from harness.cli import judge as commands
    from harness.cli.options import JudgeRequest

    request = JudgeRequest(judge, template, max_cost, config, set_ or [], refresh)
    raise typer.Exit(commands.judge_check(request, labels, out))


@app.command("list")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[methods|models|pairs|judges|prompts|presets]", show_default=False),
    ] = None,
) -> None:
    """What there is, by kind; everything without one."""
    from harness.cli import run as commands

    commands.list_names(kind)


@app.command()
def record(run_dir: Annotated[Path, typer.Argument(help="The output folder of a finished run.")]) -> None:
    """Add a run's small result files to benchmarks/results."""
    from harness.cli import results as commands

    commands.record(run_dir)


RankIncomplete = Annotated[
    bool, typer.Option("--rank-incomplete", help="Rank sets where more than 10% of a row's prompts are missing.")
]


@app.command()
def leaderboard(
    run_dirs: Annotated[list[Path] | None, typer.Argument(help="Runs; without any, the recorded ones.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="A .md, .html, .csv or .json file.")] = None,
    rank_incomplete: RankIncomplete = False,
) -> None:
    """Render a leaderboard. Without arguments: the top-level leaderboard.md from benchmarks/results.

    Runs of one kind (pair, judge, template, prompt sets, sampling) share tables: seeds of one training are one row,
    with the spread between them. Others stand in tables of their own.
    """
    from harness.cli import results as commands

    commands.leaderboard(run_dirs or [], out, rank_incomplete)


RunDir = Annotated[Path, typer.Argument(help="The output folder of a finished run, or a record of one.")]


@app.command()
def report(
    run_dir: RunDir,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the page.")] = Path("report.html"),
) -> None:
    """A run as one page that needs no network: board, plots, training curves, and every prompt with its responses."""
    from harness.cli import results as commands

    commands.report(run_dir, out)


@app.command("import")
def import_(
    source: Annotated[str, typer.Argument(metavar="alpaca-eval|arena-hard|fastchat", show_default=False)],
    files: Annotated[list[Path], typer.Argument(help="That tool's files of judgments.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the verdicts go, as JSONL.")],
    reference: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Keep judgments against this model alone.")
    ] = None,
) -> None:
    """Judgments that another tool wrote, as verdict rows, so that its published figures can be computed again."""
    from harness.cli import judge as commands

    commands.import_verdicts(source, files, reference, out)


@app.command()
def stats(
    files: Annotated[list[Path], typer.Argument(help="Verdict files, each a run: of `run`, `judge` or `import`.")],
    contrast: Annotated[
        list[str] | None,
        typer.Option(metavar="FIRST,SECOND", help="Two candidates to test against each other. Repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling.")] = 0,
    rank_incomplete: RankIncomplete = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Rates, intervals and tests of any verdict files; docs/statistics.md has the formulas."""
    from harness.cli import judge as commands

    commands.stats(files, contrast or [], seed, rank_incomplete, as_json)


@app.command()
def verify(
    run_dir: RunDir,
    store: Annotated[Path | None, typer.Option(metavar="DIR", help="Where its artifacts are.")] = None,
) -> None:
    """Compute every figure of a run again from its files, and check every hash. Status 0: all follow; 3: not.

    Artifacts are read again where the store has them; figures need the folder alone.
    """
    from harness.cli import results as commands

    raise typer.Exit(commands.verify(run_dir, store))


@app.command()
def stage(
    job: Annotated[Path, typer.Argument(metavar="JOB.json", help="A job, as the store's manifests hold it.")],
    work: Annotated[Path | None, typer.Option(hidden=True, help="A workspace that the caller holds.")] = None,
) -> None:
    """Do one stage's job in this process: what `run` does for each missing artifact."""
    from harness.cli import run as commands

    commands.stage(job, work)


@app.command()
def doctor() -> None:
    """What this machine has, and which presets can run on it. Status 0: at least one; 3: none."""
    from harness.cli import run as commands

    raise typer.Exit(commands.doctor())


store_app = typer.Typer(no_args_is_help=True, help="What is in the store, what needs it, and what may go.")


app.add_typer(store_app, name="store")


@store_app.command("ls")
def store_ls() -> None:
    """Every artifact: what it is, its size and age, and which recorded runs, or runs below runs/, need it."""
    from harness.cli import store as commands

    commands.store_ls()


@store_app.command("gc")
def store_gc(
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0, help="Keep what was made in the last days, and what it needs.")
    ] = 1.0,
    keep: Annotated[
        list[Path] | None, typer.Option(metavar="RUN_DIR", help="A run whose artifacts stay. Repeatable.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Free it; without this, only say what would go.")] = False,
) -> None:
    """Free artifacts that no recorded run needs, and what interrupted stages left a day ago or longer.

    What a running stage holds stays, and so does what judges said (verdicts.sqlite).
    """
    from harness.cli import store as commands

    commands.store_gc(older_than, keep or [], yes)


@store_app.command("verify")
def store_verify() -> None:
    """Read every file of every artifact again. Status 0: all are as written; 3: one is not."""
    from harness.cli import store as commands

    raise typer.Exit(commands.store_verify())
