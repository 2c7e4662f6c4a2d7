"""One module from a packed batch to log-probs, which training and scoring share.

Taken by module, as they import torch: `batching` (examples as batches), `model` (LogProbModel), `targets` (a teacher's
rows), `scoring` and `served` (what frozen models say of responses), `comparing` (what two say of each token),
`settings`.
"""
