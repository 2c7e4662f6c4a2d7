"""What a method is, its settings and the registry: all that a method's author imports."""

from harness.methods.method import Control, Method, SequenceInputs
from harness.methods.registry import methods, selected_controls
from harness.methods.settings import COMPUTING, MethodSettings, TokenSettings, shaping

__all__ = [
    "COMPUTING",
    "Control",
    "Method",
    "MethodSettings",
    "SequenceInputs",
    "TokenSettings",
    "methods",
    "selected_controls",
    "shaping",
]
