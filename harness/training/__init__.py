"""The one backbone that every method shares: batches, the log-prob model, the loop."""
