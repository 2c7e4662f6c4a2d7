"""What people type: options, and one module for each group of commands. Importing it imports no torch."""
