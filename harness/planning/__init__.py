"""What a run would take: tokens, time, memory, disk and the judge's bill; and what this machine has.

Taken by module: `whole` (several runs as one), `cost` (each job's), `summary` (what `plan` prints), `calibration` (how
fast this machine is), `doctor`.
"""
