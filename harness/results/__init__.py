"""What a run leaves: figures from verdicts, the run's folder, its manifest; pooled, verified, recorded."""
