"""Content-addressed artifacts, and what of them may go."""

from harness.store.artifacts import MANIFEST, STORE_VARIABLE, Store

__all__ = ["MANIFEST", "STORE_VARIABLE", "Store"]
