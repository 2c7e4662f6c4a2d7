"""From names to checkpoints: finding, loading, converting and pruning them; their tokenizers and chat templates.

Taken by module. Without torch: `specs` (names), `lineage` (family and vendor), `locate` (where files are), `reference`
(a checkpoint in keys), `families`, `folders`, `hub`, `shapes`, `memory`, `speed`, `control_tokens`, `settings`. With
it: `loading`, `tokenizers`, `chat`, `convert`, `pruning`.
"""
