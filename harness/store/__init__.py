"""Content-addressed artifacts, and what of them may go."""
