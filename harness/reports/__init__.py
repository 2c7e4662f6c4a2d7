"""Recorded results and the boards made of them. No torch here."""
