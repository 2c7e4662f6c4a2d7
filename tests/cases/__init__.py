"""Inputs that went wrong for people with tools of this kind, each through the command that people type.

One file a kind. A case makes its small input itself, from one pair of tiny checkpoints, and says what is to come
out: the right figure, or one line and exit status 2. Each kind is tested more closely where its root lies.
"""
