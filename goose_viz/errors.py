"""Errors that a person can cause, each with one sentence that says what to do."""

from __future__ import annotations


class GooseError(Exception):
    """Something outside the program is not as it must be.

    The message is one line: what was found, what was expected, what to do.
    """

    def __str__(self) -> str:
        """That line, whatever a file or a person put into it."""
        return " ".join(super().__str__().splitlines())


class CheckpointError(GooseError):
    """A model file that cannot be read, or is not RWKV-7."""


class TokenizerError(GooseError):
    """A vocabulary that cannot be read, or does not fit the model."""


class StateError(GooseError):
    """A state or snapshot file that cannot be read, or does not fit the model."""


class Stopped(Exception):
    """Whoever watches has seen enough."""
