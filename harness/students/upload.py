"""Trained students to the hub: what can be known to fail is refused before any work; what fails after it loses nothing.

Nothing here reads a token: huggingface_hub does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from harness.core.errors import UserError
from harness.core.hub import of_the_hub, offline, within
from harness.models.folders import SAVED
from harness.students.card import last_part
from harness.students.folders import CARD, as_word, folder_names

PATIENCE = 10.0  # seconds that the hub has to say who we are
LONGEST = 52  # characters of a repository's name: the hub takes 96, its owner's name of 42 included


def check_one_run(several: bool) -> None:
    """
    Raises:
        UserError: there are several students of each method.
    """
    if several:
        raise UserError("--push-to-hub uploads the students of one run, and a study has several; push one of its runs")


def check_owner(owner: str) -> None:
    """Refuse what no upload could go through with.

    Raises:
        UserError: no token, no hub, a token that may not write, or an owner that is not the token's.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError

    option = f"--push-to-hub {owner}"
    if offline():
        raise UserError(f"{option}: HF_HUB_OFFLINE is set, so nothing can be uploaded")
    try:
        who = within(PATIENCE, HfApi().whoami)
    except LocalTokenNotFoundError as error:
        raise UserError(f"{option}: there is no token; run `hf auth login`, or export HF_TOKEN=…") from error
    except Exception as error:
        if not of_the_hub(error):
            raise
        raise UserError(f"{option}: the hub does not say whose token this is: {_reason(error)}") from error
    role = who.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise UserError(f"{option}: the token may only read; make one that writes (https://hf.co/settings/tokens)")
    owners = [str(who.get("name")), *(str(organisation.get("name")) for organisation in who.get("orgs", []))]
    if owner not in owners:
        raise UserError(f"{option}: the token is not that owner's; it may write to: {', '.join(owners)}")


def repositories(owner: str, student: str, names: Iterable[str]) -> dict[str, str]:
    """The repository of each method's student: OWNER/STUDENT-METHOD."""
    return {
        name: f"{owner}/{as_word(last_part(student), LONGEST - len(word))}-{word}"
        for name, word in folder_names(names).items()
    }


def push(folders: Mapping[str, Path], repositories: Mapping[str, str], said: Callable[[str], None]) -> None:
    """Upload each student to a private repository; one that is there stays as visible as it is.

    Raises:
        UserError: after the last one, naming those that failed.
    """
    if not repositories:
        return
    from huggingface_hub import HfApi  # takes longer to import than a run whose artifacts are all there has left to do

    failed = []
    for name, repository in repositories.items():
        try:
            HfApi().create_repo(repository, private=True, exist_ok=True)
            HfApi().upload_folder(
                repo_id=repository,
                folder_path=folders[name],
                commit_message=f"{name}, trained and judged by dadpo-harness",
                allow_patterns=[*SAVED, CARD],
                delete_patterns=["*.safetensors", "*.safetensors.index.json"],  # shards of an earlier student
            )
        except Exception as error:
            if not (of_the_hub(error) or isinstance(error, ValueError)):  # ValueError: the hub refuses the card
                raise
            failed.append(f"{repository} ({_reason(error)})")
        else:
            said(f"uploaded to https://huggingface.co/{repository}")
    if failed:
        raise UserError(
            f"not uploaded: {'; '.join(failed)}. The run is whole; run it again to try again: nothing is computed twice"
        )


def _reason(error: Exception) -> str:
    """An error's first line; huggingface_hub's go on for paragraphs."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
