"""Checkpoints without a model in them, and the hub's cache as its own client lays it out."""

from __future__ import annotations

import hashlib
from pathlib import Path

COMMIT = "a" * 40


def checkpoint(folder: Path, weights: bytes = b"weights", family: str = "llama") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(f'{{"model_type": "{family}"}}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def cached(cache: Path, source: Path, repo: str = "owner/tiny", revision: str = COMMIT) -> Path:
    """A repository with the files of a folder: blobs by digest (sha256 of large files, as git has it of others),
    snapshots of links, refs."""
    root = cache / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / revision
    for folder in (root / "blobs", root / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(revision)
    for file in source.iterdir():
        content = file.read_bytes()
        large = file.suffix in (".safetensors", ".bin", ".model")
        digest = (hashlib.sha256 if large else hashlib.sha1)(content).hexdigest()
        (root / "blobs" / digest).write_bytes(content)
        (snapshot / file.name).symlink_to(root / "blobs" / digest)
    return snapshot
