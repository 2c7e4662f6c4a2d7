"""One harness that trains every distillation method on the same data and judges the students."""

__version__ = "0.1.0"
