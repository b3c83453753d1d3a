"""Every reader against files that nobody meant to write.

    python -m tests.fuzz [--inputs 100000] [--seed 0] [reader …]

Input k of a reader is the same for the same seed, whatever ran before.
"""
