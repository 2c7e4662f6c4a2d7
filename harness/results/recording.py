"""Recorded results: benchmarks/results, from which the top-level leaderboard.md is rendered and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from harness.core.errors import UserError
from harness.results.folder import RESULTS, as_file_name
from harness.results.manifest import changed_files, files_in, read_manifest
from harness.results.reading import read_results
from harness.results.studies import RUNS as OF_A_STUDY
from harness.results.studies import changed_runs, runs_in
from harness.store import MANIFEST

RUNS = Path("runs")  # where `run` puts its folders unless it is told otherwise


def recorded_runs() -> list[Path]:
    """The folders of recorded runs that say what they were made of; none where the harness is no checkout."""
    try:
        return [folder for folder in recorded() if (folder / MANIFEST).is_file()]
    except UserError:
        return []


def unrecorded_runs() -> list[Path]:
    """Run folders below `runs`, in the current folder, and those of studies there; others that lie there are left
    alone."""
    found = (path for place in ("*", f"*/{OF_A_STUDY}/*") for path in RUNS.glob(f"{place}/{MANIFEST}"))
    return sorted(path.parent for path in found if (path.parent / RESULTS).is_file())


def refs_of_run(folder: Path) -> set[str]:
    """The artifacts that a run was made of.

    Raises:
        UserError: the folder holds no manifest.
    """
    return {stage.ref for stage in read_manifest(folder).stages}


def results_folder() -> Path:
    """benchmarks/results of this checkout.

    Raises:
        UserError: the harness runs from an installed package, which is no place to record in.
    """
    folder = Path(str(resources.files("benchmarks") / "results"))
    if not (folder.parents[1] / "pyproject.toml").is_file():
        raise UserError("recorded results live in a checkout of the project; here, name run folders and --out FILE")
    return folder


def record(runs: Sequence[Path]) -> list[Path]:
    """Copy runs' result files to benchmarks/results, all of them or none; the folders there.

    Raises:
        UserError: a file is missing, or is not the one that the run wrote; or one run is there twice.
    """
    targets: dict[Path, Path] = {}
    for run in runs:
        target = results_folder() / as_file_name(read_results(run).name)
        changed = changed_files(run)
        if changed:
            raise UserError(f"{run}: {changed[0]}; run it again (nothing is computed twice)")
        if target in targets:
            raise UserError(f"{run} is the same run as {targets[target]}: it would count twice")
        targets[target] = run
    new = {target: run for target, run in targets.items() if target.resolve() != run.resolve()}
    _replace({target: _copied(run) for target, run in new.items()})
    return list(targets)


def record_study(folder: Path) -> list[Path]:
    """The same of a study's folder: all of its runs or none.

    Raises:
        UserError: as `record`; or study.json says something else of its runs.
    """
    if changed := changed_runs(folder):
        raise UserError(f"{folder}: {changed[0]}; run it again (nothing is computed twice)")
    return record(runs_in(folder))


def _copied(run: Path) -> Callable[[Path], None]:
    """What copies a run's files into a folder."""

    def copy(folder: Path) -> None:
        for name in [MANIFEST, *files_in(run)]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run / name, folder / name)

    return copy


def _replace(made: Mapping[Path, Callable[[Path], None]]) -> None:
    """Folders by what fills them: all are new afterwards, or as they were where one cannot be filled."""
    beside = {target: target.with_name(f".{target.name}.partial") for target in made}
    before = {target: target.with_name(f".{target.name}.before") for target in made}
    moved: list[Path] = []
    try:
        for target, fill in made.items():
            shutil.rmtree(beside[target], ignore_errors=True)
            fill(beside[target])
        for target in made:
            shutil.rmtree(before[target], ignore_errors=True)
            if target.exists():
                target.replace(before[target])
            moved.append(target)
            beside[target].replace(target)
    except BaseException:
        for target in moved:
            shutil.rmtree(target, ignore_errors=True)
            if before[target].exists():
                before[target].replace(target)
        raise
    finally:
        for folder in (*beside.values(), *before.values()):
            shutil.rmtree(folder, ignore_errors=True)


def recorded() -> list[Path]:
    """The folders of all recorded runs, by name."""
    found = (path.parent for path in results_folder().glob(f"*/{RESULTS}"))
    return sorted(folder for folder in found if not folder.name.startswith("."))  # one that is being copied
