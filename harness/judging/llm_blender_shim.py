"""Makes llm-blender 0.0.2 import under transformers 5, which no longer has a name that it asks for at import.

To be deleted when a bare `import llm_blender` works again: a test fails on that day.
"""

from __future__ import annotations

import importlib
from typing import Any

from harness.core.errors import UserError

GONE = "TRANSFORMERS_CACHE"  # where downloads went; read by parts of llm-blender that are not used here


def pairrm_class() -> Any:
    """llm-blender's DebertaV2PairRM.

    Raises:
        UserError: llm-blender, or something that it needs, is not installed.
    """
    from huggingface_hub.constants import HF_HUB_CACHE
    from transformers.utils import hub

    if not hasattr(hub, GONE):
        setattr(hub, GONE, HF_HUB_CACHE)
    try:
        return importlib.import_module("llm_blender.pair_ranker.pairrm").DebertaV2PairRM
    except ImportError as error:
        raise UserError(f"judge pairrm needs llm-blender ({error}): pip install 'dadpo-harness[pairrm]'") from error
