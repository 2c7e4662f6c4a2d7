"""A data set of the hub: from a local cache where it is in one, else downloaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.hub import TIMEOUT, asking, offline
from harness.prompts.settings import PromptSource
from harness.prompts.sources import SourceTable, of_dataset, open_table

MAIN = "main"
COMMIT = re.compile(r"[0-9a-f]{40}")


class MissingPromptsError(UserError):
    """A prompt set that this machine does not have and cannot get now."""


def fetch(source: PromptSource, download: bool) -> tuple[SourceTable, str]:
    """The table of a data set, and its commit.

    Raises:
        MissingPromptsError: it is in no local cache, and is not to be downloaded or cannot be.
        UserError: the hub has no such data set, revision, file, configuration or split.
    """
    return _file(source, download) if source.file else _dataset(source, download)


def _file(source: PromptSource, download: bool) -> tuple[SourceTable, str]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    where: dict[str, Any] = {"repo_id": source.hub, "filename": source.file, "repo_type": "dataset"}
    where["revision"] = source.revision or MAIN
    try:
        path = Path(hf_hub_download(**where, local_files_only=True))
    except HFValidationError as error:
        raise UserError(f"'{source.hub}' is not a hub id") from error
    except LocalEntryNotFoundError:
        _reach(source, download)
        with asking(str(source.hub), MissingPromptsError):
            path = Path(hf_hub_download(**where, etag_timeout=TIMEOUT))
    # the cache is …/snapshots/COMMIT/FILE
    return open_table(path), path.parts[-1 - len(Path(str(source.file)).parts)]


def _dataset(source: PromptSource, download: bool) -> tuple[SourceTable, str]:
    import datasets

    datasets.logging.set_verbosity_error()
    hub, split = str(source.hub), source.split or "train"
    try:
        builder = _cached(source)
        if builder is None:
            commit = _reach(source, download)
            with asking(hub, MissingPromptsError):
                try:
                    builder = datasets.load_dataset_builder(hub, source.config, revision=commit)
                    builder.download_and_prepare()
                except datasets.exceptions.DatasetsError as error:  # some are OSErrors: not the network's fault
                    raise UserError(f"{hub}: {' '.join(str(error).split())}") from error
            if builder.hash != commit:  # it went offline meanwhile, and another commit was in the cache
                raise MissingPromptsError(f"{hub}: the hub could not be reached for commit {commit}; run it again")
        data = builder.as_dataset(split=split)
    except ValueError as error:  # an unknown configuration or split: the message lists those that there are
        raise UserError(f"{hub}: {' '.join(str(error).split())}") from error
    return of_dataset(data, hub), str(builder.hash)


def _cached(source: PromptSource) -> Any:
    """What `datasets` has of it in its cache already: its newest commit, or the very one that is asked for."""
    from datasets.packaged_modules.cache.cache import Cache

    where = {"dataset_name": str(source.hub).split("/")[-1], "repo_id": source.hub}
    try:
        builder = Cache(**where, config_name=source.config, hash="auto", version="auto")
    except ValueError:  # nothing, or several configurations and none was named
        return None
    revision = source.revision or MAIN
    if revision in (MAIN, builder.hash):
        return builder
    if not COMMIT.fullmatch(revision):
        return None
    builder = Cache(**where, config_name=builder.config.name, hash=revision)
    return builder if Path(builder.cache_dir).is_dir() else None


def _reach(source: PromptSource, download: bool) -> str:
    """The commit of the revision, from the hub; fails within seconds where it cannot be asked."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    hub = str(source.hub)
    otherwise = "or name a file that holds its prompts"
    if offline():
        raise MissingPromptsError(
            f"{hub} is not in a local cache, and HF_HUB_OFFLINE is set; fetch it once where the hub is reachable, "
            f"{otherwise}"
        )
    if not download:
        raise MissingPromptsError(
            f"{hub} is not in a local cache, and nothing is downloaded now; `run` fetches it, {otherwise}"
        )
    try:
        with asking(hub, MissingPromptsError):
            return str(HfApi().dataset_info(hub, revision=source.revision or MAIN, timeout=TIMEOUT).sha)
    except HFValidationError as error:
        raise UserError(f"'{hub}' is not a hub id") from error
    except MissingPromptsError as error:
        raise MissingPromptsError(f"{error}; try again later, {otherwise}") from error
