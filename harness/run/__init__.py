"""The road: its sources, checks, jobs, stages and launchers."""
