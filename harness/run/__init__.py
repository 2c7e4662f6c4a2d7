"""The road: what it reads from outside, what is refused, its jobs, how each is done, and where.

Taken by module: `road` (build_road: find, check, lay), `rows` (of the board), `jobs`, `needs`, `launch` (run_jobs),
`launchers`, `child` (a job for another process), `preview` (a training row).
"""
