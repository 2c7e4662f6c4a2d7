"""Quantised checkpoints: what is said of one where it is to be trained, or cannot be read here."""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import UserError
from harness.models import folders, shapes


def untrainable(folder: Path) -> str:
    """Why a checkpoint cannot be trained, in one line; empty where it is not quantised."""
    found = folders.quantisation(folder)
    if found is None:
        return ""
    return (
        f"student {folder} is quantised ({found['quant_method']}), and weights that are packed cannot be trained; "
        f"name the model that it was made from{_if_plain(folder)}"
    )


def require_readable(who: str, folder: Path) -> None:
    """Refuse a quantised checkpoint that transformers does not read here.

    Raises:
        UserError: with the package that it needs.
    """
    found = folders.quantisation(folder)
    if found is None:
        return
    kind = found["quant_method"]
    begun = f"{who} {folder} is quantised ({kind})"
    if said := _if_plain(folder):
        raise UserError(f"{begun}{said}")
    from transformers.quantizers import AutoHfQuantizer
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    if not AutoHfQuantizer.supports_quant_method(found):
        raise UserError(
            f"{begun}, which transformers does not read; known: {', '.join(sorted(AUTO_QUANTIZER_MAPPING))}"
        )
    from harness.models.loading import device

    if kind == folders.FP8:
        return  # unpacked by transformers alone
    try:
        quantizer = AutoHfQuantizer.from_config(dict(found), pre_quantized=True)
        quantizer.validate_environment(device_map={"": device()})
    except (ImportError, RuntimeError, ValueError, TypeError, KeyError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{begun}, and cannot be read here: {said}") from error


def _if_plain(folder: Path) -> str:
    """What to do where a configuration says so of weights that are plain numbers, as some tools leave it."""
    types = shapes.types_of(folder)
    if types and types <= {"F64", "F32", "F16", "BF16"}:
        return "; its weights are not packed: if they are whole, take quantization_config out of its config.json"
    return ""
