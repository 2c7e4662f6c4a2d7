"""The model hub and its cache on this machine. What is missing is known in seconds, before anything is downloaded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import UserError
from harness.core.hub import OFFLINE_VARIABLES, TIMEOUT, disk_refusal, of_the_hub, switched_on, within
from harness.models import folders

# seconds for a call to the hub with everything before it: looking up a name knows no limit of its own
DEADLINE = 10.0


class MissingModelError(UserError):
    """A model that this machine does not have and cannot get now. command: what fetches it where there is a network."""

    def __init__(self, what: str, command: str = "") -> None:
        self.what, self.command = what, command
        super().__init__(what + _advice([command]))


def all_missing(errors: Iterable[MissingModelError]) -> MissingModelError:
    """Several missing models as one error, with what to do said once."""
    errors = list(errors)
    whats = dict.fromkeys(error.what for error in errors)
    return MissingModelError("missing models: " + "; ".join(whats) + _advice(error.command for error in errors))


def _advice(commands: Iterable[str]) -> str:
    known = dict.fromkeys(command for command in commands if command)
    if not known:
        return ""
    return f"; where there is a network: {' && '.join(known)}; or point HF_HOME at a folder whose hub/ has them"


@dataclass(frozen=True)
class Wanted:
    """A model of the hub. pickled: pickled weights will do where there are no others. code: Python files too.
    weights: without them, its tokenizer and configuration alone."""

    hub_id: str
    revision: str | None = None
    pickled: bool = False
    code: bool = False
    weights: bool = True

    @property
    def name(self) -> str:
        return f"{self.hub_id}@{self.revision}" if self.revision else self.hub_id

    @property
    def command(self) -> str:
        return f"hf download {self.hub_id}" + (f" --revision {self.revision}" if self.revision else "")


class Hub:
    """Asked for each model that is not in its cache; once it could not be reached, not again."""

    def __init__(self) -> None:
        self._unreachable = ""

    def snapshot(self, wanted: Wanted, download: bool) -> Path | None:
        """A model's folder in the hub's cache; None for one that could be downloaded, where that is not asked for.

        Raises:
            MissingModelError: it is not in the cache, and cannot be had: it says why.
            UserError: the hub has no such weights.
        """
        cached = self._cached(wanted)
        if cached:
            return cached
        here = f"{wanted.name} is not in the local hub cache"
        for name in OFFLINE_VARIABLES:
            if switched_on(name):
                raise MissingModelError(f"{here}, and {name} is set", wanted.command)
        if self._unreachable:
            raise MissingModelError(f"{here}, and {self._unreachable}", wanted.command)
        try:
            names = within(DEADLINE, lambda: _ask(wanted))
            weights = _weights(wanted, names) if wanted.weights else ""
            if not download:
                return None
            from huggingface_hub import snapshot_download

            code = wanted.code or weights.startswith(folders.PICKLED)
            allowed = [*_fetched(wanted, weights), *folders.SMALL_FILES, *((folders.CODE,) if code else ())]
            return Path(snapshot_download(wanted.hub_id, revision=wanted.revision, allow_patterns=allowed))
        except UserError:
            raise
        except Exception as error:
            raise self._explained(wanted, here, error) from error

    def _cached(self, wanted: Wanted) -> Path | None:
        """A model's folder in the cache, where all of it is there."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(wanted.hub_id, revision=wanted.revision, local_files_only=True))
        except LocalEntryNotFoundError:
            return None
        except HFValidationError as error:
            raise UserError(f"'{wanted.hub_id}' is not a registered model, a folder, or a hub id") from error
        kinds = (False, True) if wanted.pickled else (False,)
        if wanted.weights and folders.adapter_weights(folder, wanted.pickled):
            return folder
        whole = not wanted.weights or any(folders.is_checkpoint(folder, pickled) for pickled in kinds)
        lacking = wanted.code and folders.lacks_own_code(folder)  # fetched before its code was asked for
        return folder if whole and folders.has_tokenizer(folder) and not lacking else None

    def _explained(self, wanted: Wanted, here: str, error: Exception) -> Exception:
        """What an exception of the hub's client means; the exception itself where it is none."""
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        hub_id = wanted.hub_id
        if isinstance(error, GatedRepoError):
            where = f"https://huggingface.co/{hub_id}"
            return MissingModelError(f"{hub_id} is gated: accept its terms at {where} and set HF_TOKEN")
        if isinstance(error, RepositoryNotFoundError):
            return MissingModelError(f"{hub_id} does not exist on the hub, or is private (then set HF_TOKEN)")
        if isinstance(error, RevisionNotFoundError):
            return MissingModelError(f"{hub_id} has no revision '{wanted.revision}' on the hub")
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            return MissingModelError(f"{here}, and the hub answers {error.response.status_code}", wanted.command)
        if refused := disk_refusal(error):
            return refused
        if not of_the_hub(error):
            return error
        self._unreachable = f"the hub cannot be reached ({type(error).__name__})"
        return MissingModelError(f"{here}, and {self._unreachable}", wanted.command)


def _ask(wanted: Wanted) -> list[str]:
    """The names of a repository's files, if this machine may read them. Two calls at most, neither made again."""
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url

    info = HfApi().model_info(wanted.hub_id, revision=wanted.revision, timeout=TIMEOUT)
    if info.gated:  # anyone may read what a gated repository holds, but not the files
        get_hf_file_metadata(hf_hub_url(wanted.hub_id, "config.json", revision=wanted.revision), timeout=TIMEOUT)
    return [sibling.rfilename for sibling in info.siblings or []]


def _weights(wanted: Wanted, names: list[str]) -> str:
    """The file of a repository that has its weights, or that says which files have them.

    Raises:
        UserError: it has no weights that may be loaded.
    """
    safe, pickled = (
        next((name for name in (single, single + folders.INDEX_ENDING, adapter) if name in names), "")
        for single, adapter in (
            (folders.SAFETENSORS, folders.ADAPTER_WEIGHTS),
            (folders.PICKLED, folders.PICKLED_ADAPTER),
        )
    )
    if not (safe or pickled):
        raise UserError(f"{wanted.hub_id} holds no safetensors weights on the hub")
    if not (safe or wanted.pickled):
        raise UserError(f"{wanted.hub_id} holds pickled weights only; a pair's own file can allow them (pickled: true)")
    return safe or pickled


def _fetched(wanted: Wanted, weights: str) -> list[str]:
    """The files of weights that are downloaded: those that an index names, where there is one."""
    if not weights.endswith(folders.INDEX_ENDING):
        return [weights] if weights else []
    from huggingface_hub import hf_hub_download

    return folders.shards_of(Path(hf_hub_download(wanted.hub_id, weights, revision=wanted.revision)))


def hub_origin(path: Path) -> tuple[str, str] | None:
    """The hub id and the commit of a folder in the hub's cache; None for any other."""
    place = re.search(r"/models--([^/]+)/snapshots/([0-9a-f]{40})$", path.as_posix())
    return (place[1].replace("--", "/", 1), place[2]) if place else None
