"""What can go wrong before a launcher runs. The engine maps these to its own exit codes."""

from __future__ import annotations


class LaunchError(Exception):
    """Base of this package's foreseeable faults.

    Attributes:
        message: What happened, and where.
        hint: What to do next, or None where there is nothing to advise.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class EnvScriptUnreadableError(LaunchError):
    """The environment script is not there, is no file, or may not be read."""


class EnvScriptFailedError(LaunchError):
    """The environment script did not run to its end.

    Attributes:
        output: The end of what the script printed.
    """

    def __init__(self, message: str, *, hint: str | None = None, output: bytes = b"") -> None:
        super().__init__(message, hint=hint)
        self.output = output


class ProgramMissingError(LaunchError):
    """A program that has to be started is not there, or may not be executed."""


class GuardError(LaunchError):
    """The guard could not be started, or could not start a launcher that is there."""
