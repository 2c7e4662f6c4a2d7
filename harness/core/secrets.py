"""Keys and credentials: none of them reaches a file or a message."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

SHORTEST_SECRET = 8  # characters; a shorter value of a variable is likely a word that texts hold anyway


def hide(text: str, secrets: Iterable[str] = ()) -> str:
    """A message with secrets replaced by ***: those given, the environment's keys and tokens, and what stands before
    the host in URLs. A given one that is shorter than SHORTEST_SECRET is hidden where it is a word of its own."""
    given = set(secrets)
    known = {value for name, value in os.environ.items() if name.endswith(("_KEY", "_TOKEN"))}
    text = hide_long(text, given | known)
    for secret in sorted((secret for secret in given if 0 < len(secret) < SHORTEST_SECRET), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return re.sub(r"(?<=://)[^\s\"]+(?=@)", "***", text)  # as far as the last @ of the word: a password may hold any


def hide_long(text: str, secrets: Iterable[str]) -> str:
    """What a model wrote, with secrets replaced by ***. One shorter than SHORTEST_SECRET is not searched for: a key
    such as "a", for a server that asks for none, is in every text."""
    for secret in sorted((secret for secret in secrets if len(secret) >= SHORTEST_SECRET), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


KEY_VARIABLE = "OPENAI_API_KEY"


def without_credentials(url: str) -> str:
    """A URL without what stands before its host's `@`.

    Raises:
        ValueError: not an http or https URL, or one with a query, where a key could hide. It quotes nothing.
    """
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no number where the port stands, among others
        known = False
    if not known:
        raise ValueError("expected a URL like http://127.0.0.1:8000/v1")
    if re.search(r"[\s'\"<>]", url):
        raise ValueError("a URL has no white space and no quotes: in a password write %20, %22, %27 for them")
    if parts.query or parts.fragment or "@" in parts.path:
        raise ValueError(
            "a server's URL has no query, and no @ in its path: in a password write %23 for #, %2F for /, %3F for ?, "
            "and put a key into the environment"
        )
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
