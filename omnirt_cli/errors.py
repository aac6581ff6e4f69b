"""Every way a run can end badly: one class, one stable code, one exit code.

An error is raised where the fact is known, with a message that says what happened and a hint that says what to do
next. Only `main.py` turns errors into exit codes; the table in `docs/exit-codes.md` is generated from this module.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omnirt_cli.report import RunReport


class ExitCode(IntEnum):
    """The process's exit status; one meaning each, the same for every command."""

    OK = 0
    PARTIAL = 1
    USAGE = 2
    MODEL_FAILED = 10
    OUT_OF_DEVICE_MEMORY = 11
    TIMED_OUT = 12
    OUTPUT_INVALID = 13
    INPUT_INVALID = 65
    INPUT_MISSING = 66
    DEVICES_UNAVAILABLE = 69
    INTERNAL = 70
    OUTPUT_UNCREATABLE = 73
    IO_ERROR = 74
    BUSY = 75
    NOT_AUTHORISED = 77
    CONFIG_INVALID = 78
    CANCELLED_HUP = 129
    CANCELLED_INT = 130
    CANCELLED_TERM = 143


PRECEDENCE = (
    ExitCode.USAGE,
    ExitCode.CONFIG_INVALID,
    ExitCode.INPUT_MISSING,
    ExitCode.INPUT_INVALID,
    ExitCode.DEVICES_UNAVAILABLE,
    ExitCode.BUSY,
    ExitCode.OUTPUT_UNCREATABLE,
)
"""Which exit code speaks when several checks fail before a launch: the first of these."""


class OmniRTError(Exception):
    """Base of every foreseeable fault.

    Attributes:
        message: What happened, and where.
        hint: What to do next, or None where there is nothing to advise.
        report: The run's report, where the run got far enough to have one.
    """

    code: ClassVar[str]
    exit_code: ClassVar[ExitCode]
    meaning: ClassVar[str]

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.report: RunReport | None = None

    @property
    def exit_status(self) -> int:
        """The number the process ends with."""
        return int(self.exit_code)


class PartialError(OmniRTError):
    """Some of several things failed."""

    code = "partial"
    exit_code = ExitCode.PARTIAL
    meaning = "batch: some or all rows failed; bench: a required gate missed; doctor: a failing check"


class UsageError(OmniRTError):
    """The command line asks for something that does not exist or does not fit."""

    code = "usage"
    exit_code = ExitCode.USAGE
    meaning = "unknown flag, missing or malformed value, a flag that the model or the checkout lacks"


class ModelFailedError(OmniRTError):
    """The external script, or its launcher, failed."""

    code = "model_failed"
    exit_code = ExitCode.MODEL_FAILED
    meaning = "the child failed, its launcher was killed, or ranks could not be stopped; the report says which and why"


class OutOfDeviceMemoryError(OmniRTError):
    """The child said that a device's memory was exhausted."""

    code = "out_of_device_memory"
    exit_code = ExitCode.OUT_OF_DEVICE_MEMORY
    meaning = "recognised in the child's output"


class RunTimeoutError(OmniRTError):
    """A limit on the run's time passed, and the run was stopped."""

    code = "timed_out"
    exit_code = ExitCode.TIMED_OUT
    meaning = "`--timeout` or `--stall-timeout`"


class OutputInvalidError(OmniRTError):
    """The child ended well, but what it left is not the video that was asked for."""

    code = "output_invalid"
    exit_code = ExitCode.OUTPUT_INVALID
    meaning = "exit 0 but no output, an empty, corrupt, black, frozen or mismatching one"


class InputInvalidError(OmniRTError):
    """An input is there but cannot be used."""

    code = "input_invalid"
    exit_code = ExitCode.INPUT_INVALID
    meaning = "the image, audio or manifest cannot be used"


class InputMissingError(OmniRTError):
    """Something named by the user is not there."""

    code = "input_missing"
    exit_code = ExitCode.INPUT_MISSING
    meaning = "a named input, checkout, checkpoint, interpreter, env script, ffmpeg or ffprobe is not there"


class DevicesUnavailableError(OmniRTError):
    """The devices asked for cannot be had."""

    code = "devices_unavailable"
    exit_code = ExitCode.DEVICES_UNAVAILABLE
    meaning = (
        "none, not enough, not visible, a malformed visibility list (the corrected value is shown), not enough memory, "
        "or held by another program"
    )


class InternalError(OmniRTError):
    """A bug in OmniRT."""

    code = "internal"
    exit_code = ExitCode.INTERNAL
    meaning = "a bug in OmniRT; the traceback is in the log, its path on stderr"


class OutputUncreatableError(OmniRTError):
    """The output place cannot be written."""

    code = "output_uncreatable"
    exit_code = ExitCode.OUTPUT_UNCREATABLE
    meaning = "the output place cannot be written"


class IOFailureError(OmniRTError):
    """The operating system refused to store something in mid-run."""

    code = "io_error"
    exit_code = ExitCode.IO_ERROR
    meaning = "disk full and the like"


class BusyError(OmniRTError):
    """Another OmniRT holds what this one needs."""

    code = "busy"
    exit_code = ExitCode.BUSY
    meaning = "devices are leased, or the batch lock or the output is held, by another OmniRT; try later"


class NotAuthorisedError(OmniRTError):
    """The caller may not do this."""

    code = "not_authorised"
    exit_code = ExitCode.NOT_AUTHORISED
    meaning = "the caller may not do this"


class ConfigInvalidError(OmniRTError):
    """A settings file, a request file or an environment value is wrong."""

    code = "config_invalid"
    exit_code = ExitCode.CONFIG_INVALID
    meaning = "settings file, request file or environment value, with file, line and the nearest valid key"


class CancelledRunError(OmniRTError):
    """The run was cancelled by a signal (or by its caller); everything it started was stopped.

    Attributes:
        signal_number: The signal that ended it; SIGINT for a caller's own cancel.
    """

    code = "cancelled"
    exit_code = ExitCode.CANCELLED_INT
    meaning = "SIGHUP (unless ignored, as under nohup) / SIGINT / SIGTERM, after everything was stopped and reported"

    def __init__(self, message: str, *, signal_number: int = 2, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.signal_number = signal_number

    @property
    def exit_status(self) -> int:
        """128 plus the signal's number, as shells have it."""
        return 128 + self.signal_number


ERRORS: tuple[type[OmniRTError], ...] = (
    PartialError,
    UsageError,
    ModelFailedError,
    OutOfDeviceMemoryError,
    RunTimeoutError,
    OutputInvalidError,
    InputInvalidError,
    InputMissingError,
    DevicesUnavailableError,
    InternalError,
    OutputUncreatableError,
    IOFailureError,
    BusyError,
    NotAuthorisedError,
    ConfigInvalidError,
    CancelledRunError,
)
"""Every concrete error, in the order of its exit code."""


def most_telling(errors: Iterable[OmniRTError]) -> OmniRTError | None:
    """The error that gives the exit code when several were found before a launch."""
    found = list(errors)
    ranked = [error for code in PRECEDENCE for error in found if error.exit_code is code]
    return next(iter(ranked or found), None)
