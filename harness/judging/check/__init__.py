"""A judge's own report: bias by position and length, consistency, and whether damaged responses lose."""
