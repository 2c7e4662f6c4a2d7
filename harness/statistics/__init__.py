"""Rates from verdicts, contrasts of methods, length control, agreement: with their uncertainty. No torch here.

Taken by module: `outcomes` (verdicts as columns, and the one rule of a prompt's outcome), `rates`, `contrasts`,
`ratios` (of measures), `length`, `agreement`, `panel`, `alpaca`, `summary` (all of them, of any verdicts).
"""
