"""The hub: whether it may be asked, and what its client raises, as one line."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from harness.core.disk import refusal
from harness.core.errors import UserError

T = TypeVar("T")
OFFLINE = "HF_HUB_OFFLINE"
OFFLINE_VARIABLES = (OFFLINE, "TRANSFORMERS_OFFLINE")


def within(seconds: float, call: Callable[[], T]) -> T:
    """The call's result or exception.

    Raises:
        TimeoutError: it took longer; its thread ends with this process.
    """
    done: list[Any] = []

    def work() -> None:
        try:
            done.append((call(), None))
        except BaseException as error:
            done.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not done:
        raise TimeoutError(f"no answer within {seconds:.0f} seconds")
    result, error = done[0]
    if error:
        raise error
    found: T = result
    return found


TIMEOUT = 5.0  # seconds until the hub counts as out of reach


def switched_on(variable: str) -> bool:
    """Whether the environment sets a variable as the hub's client reads one."""
    return os.environ.get(variable, "0").upper() in {"1", "TRUE", "YES", "ON"}


def offline() -> bool:
    """As the hub's client decides it: by transformers' own variable where its own is not set."""
    own, transformers = OFFLINE_VARIABLES
    return switched_on(own if os.environ.get(own) else transformers)


def disk_refusal(error: Exception) -> UserError | None:
    """What keeps the hub's cache from being written; None where an error says nothing of that."""
    from huggingface_hub.constants import HF_HOME

    return refusal(error, Path(HF_HOME))


def of_the_hub(error: Exception) -> bool:
    """Whether an error is the hub's or the network's, and none of this program."""
    from huggingface_hub.errors import HfHubHTTPError

    # the hub's HTTP client, which may be one of several, has exception types of its own
    client = type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3"))
    return client or isinstance(error, HfHubHTTPError | OSError | RuntimeError)


@contextmanager
def asking(hub_id: str, missing: type[UserError]) -> Iterator[None]:
    """What is asked of the hub inside raises a UserError, or `missing` where another day or a token would help."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise missing(f"{hub_id} is gated; accept its terms on the hub and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise UserError(f"{hub_id} does not exist on the hub (or needs HF_TOKEN)") from error
    except RevisionNotFoundError as error:
        raise UserError(f"{hub_id} has no such revision on the hub") from error
    except EntryNotFoundError as error:
        raise UserError(f"{hub_id} has no such file on the hub") from error
    except Exception as error:
        if refused := disk_refusal(error):
            raise refused from error
        if not of_the_hub(error):
            raise
        raise missing(
            f"{hub_id} is not in the local hub cache, and the hub cannot be reached ({type(error).__name__})"
        ) from error
