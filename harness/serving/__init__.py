"""Models behind servers and in processes of their own; and which of them hold this machine's memory.

Taken by module: `endpoint` (an OpenAI-compatible server), `refusals` (what an error answer is about), `replies` (what a
good one says), `learning` (what a server does not take), `pool` (many calls at once), `vllm_process`, `resident` (the
models in memory), `settings`.
"""
