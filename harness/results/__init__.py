"""What a run leaves: figures from verdicts, the run's folder, its manifest; pooled, verified, recorded.

Taken by module: `schema` (the types), `folder` and `reading` (a run's folder written and read), `figures`, `measured`
(those of measures), `costs`, `tokens`, `manifest`, `pooling`, `verify`, `recording`.
"""
