"""What a method is, its settings and the registry: all that a method's author imports."""

from harness.methods.controls import selected_controls
from harness.methods.inputs import DistributionInputs, SequenceInputs, TokenInputs
from harness.methods.method import PAIR, POLICY, RESPONSE, Control, Definition, Method, Role, Term
from harness.methods.registry import methods
from harness.methods.settings import (
    COMPUTING,
    DistributionSettings,
    FreshSettings,
    MethodSettings,
    TokenSettings,
    idle,
    shaping,
)

__all__ = [
    "COMPUTING",
    "PAIR",
    "POLICY",
    "RESPONSE",
    "Control",
    "Definition",
    "DistributionInputs",
    "DistributionSettings",
    "FreshSettings",
    "Method",
    "MethodSettings",
    "Role",
    "SequenceInputs",
    "Term",
    "TokenInputs",
    "TokenSettings",
    "idle",
    "methods",
    "selected_controls",
    "shaping",
]
