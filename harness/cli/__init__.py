"""What people type: options, and one module for each group of commands. Importing it imports no torch.

Nothing stands above it: `harness.__main__` alone takes `app` from here.
"""
