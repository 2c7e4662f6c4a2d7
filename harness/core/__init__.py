"""Ground that every room stands on: errors, files, records, registries, progress. It knows no room.

Taken by module: `errors` (UserError), `records` (the typed rows that travel), `files` (hashes, whole files or none),
`sources` (a digest of code), `registry`, `section` (settings), `secrets`, `escape`, `units`, `progress`, `hub`,
`environment`, `allocator`.
"""
