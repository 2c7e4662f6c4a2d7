"""Recorded results: benchmarks/results, from which the top-level leaderboard.md is rendered and nothing else."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from harness.core.errors import UserError
from harness.results.folder import RESULTS, as_file_name
from harness.results.manifest import changed_files, files_in, read_manifest
from harness.results.reading import read_results
from harness.store import MANIFEST

RUNS = Path("runs")  # where `run` puts its folders unless it is told otherwise


def recorded_runs() -> list[Path]:
    """The folders of recorded runs that say what they were made of; none where the harness is no checkout."""
    try:
        return [folder for folder in recorded() if (folder / MANIFEST).is_file()]
    except UserError:
        return []


def unrecorded_runs() -> list[Path]:
    """Run folders below `runs`, in the current folder; others that lie there are left alone."""
    return sorted(path.parent for path in RUNS.glob(f"*/{MANIFEST}") if (path.parent / RESULTS).is_file())


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


def record(run: Path) -> Path:
    """Copy a run's result files to benchmarks/results, all of them or none; the folder there.

    Raises:
        UserError: a file is missing, or is not the one that the run wrote.
    """
    results = read_results(run)
    changed = changed_files(run)
    if changed:
        raise UserError(f"{run}: {changed[0]}; run it again (nothing is computed twice)")
    target = results_folder() / as_file_name(results.name)
    if target.resolve() != run.resolve():
        beside = target.with_name(f".{target.name}.partial")
        shutil.rmtree(beside, ignore_errors=True)
        try:
            for name in [MANIFEST, *files_in(run)]:
                (beside / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(run / name, beside / name)
            if target.exists():
                shutil.rmtree(target)
            beside.replace(target)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    return target


def recorded() -> list[Path]:
    """The folders of all recorded runs, by name."""
    found = (path.parent for path in results_folder().glob(f"*/{RESULTS}"))
    return sorted(folder for folder in found if not folder.name.startswith("."))  # one that is being copied
