"""How weights are updated: the loop that every method shares, and adapters.

Taken by module, as it imports torch: `loop`, `adapters`, `settings`.
"""
