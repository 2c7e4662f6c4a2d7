"""Names to checkpoints, loading, pruning, and chat formatting. Importing this imports no torch."""
