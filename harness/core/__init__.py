"""Ground that every room stands on: errors, files, records, registries, progress. It knows no room."""
