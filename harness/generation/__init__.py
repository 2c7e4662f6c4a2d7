"""Sampling responses.

Taken by module, so that torch and vLLM are imported where something is drawn: `protocol` (what a generator is given and
gives), `backends` (which one draws, and opening it), `settings`.
"""
