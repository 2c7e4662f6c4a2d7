"""Models behind servers and in processes of their own; and which of them hold this machine's memory."""
