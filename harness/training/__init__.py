"""The one backbone that every method shares: the loop, its checkpoints, and adapters."""
