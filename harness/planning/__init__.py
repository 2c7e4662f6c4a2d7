"""What a run would take: tokens, time, memory, disk and the judge's bill; and what this machine has."""
