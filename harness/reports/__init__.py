"""How results are shown: boards, pages, plots, cards' tables, and what commands print. No torch here.

Taken by module, as pages and tables take a moment to import: `board`, `formats`, `html`, and for what commands print
`judge`, `judge_check`, `stats` and `preview`; `columns` and `cells` for tables elsewhere.
"""
