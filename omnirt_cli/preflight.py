"""The named checks before a launch: one list for `generate`, `validate`, `--dry-run` and later `doctor`.

A check is a function that returns what the plan needs or raises an `OmniRTError`. All of them run, so that a user sees
every problem at once; the exit code is the most telling one's.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from enum import Enum
from typing import TypeVar

from omnirt_cli.checks import Check, failed, passed, skipped, warned
from omnirt_cli.errors import InputMissingError, IOFailureError, OmniRTError, UsageError, most_telling
from omnirt_cli.files import storage_error
from omnirt_cli.yaml_document import nearest

Found = TypeVar("Found")


class CheckName(str, Enum):
    """Every preflight check; `optional` ones may be left out with `--skip-check`."""

    REQUEST = "request"
    CONFIG = "config"
    FFMPEG = "ffmpeg"
    BACKEND = "backend"
    DEVICES = "devices"
    VISIBILITY = "visibility"
    CHECKOUT = "checkout"
    INTERPRETER = "interpreter"
    ENV_SCRIPT = "env_script"
    CHECKPOINT = "checkpoint"
    WAV2VEC = "wav2vec"
    IMAGE = "image"
    AUDIO = "audio"
    KNOBS = "knobs"
    OUTPUT = "output"
    DISK = "disk"
    LEASES = "leases"
    DEVICE_MEMORY = "device_memory"
    HOST_MEMORY = "host_memory"
    PORTRAIT = "portrait"


OPTIONAL = frozenset(
    {
        CheckName.CHECKPOINT,
        CheckName.WAV2VEC,
        CheckName.DEVICES,
        CheckName.DISK,
        CheckName.DEVICE_MEMORY,
        CheckName.HOST_MEMORY,
        CheckName.PORTRAIT,
    }
)
"""Checks that `--skip-check` may leave out: what they ask, a run can find out by itself."""

VIDEO_CHECKS = frozenset({"av_sync", "black", "drift", "frozen", "silent_audio", "size", "fps", "duration"})
"""Checks of the finished video that `--skip-check` may leave out."""


def check_names(names: Iterable[str]) -> frozenset[str]:
    """The names given with `--skip-check`, refused where nothing of that name can be left out.

    Raises:
        UsageError: An unknown name, or a check that a run cannot do without.
    """
    known = {name.value for name in OPTIONAL} | VIDEO_CHECKS
    for name in names:
        if name not in known:
            guess = nearest(name, known)
            raise UsageError(
                f"--skip-check {name}: no check of that name can be left out",
                hint=f"did you mean {guess}?" if guess else f"one of: {', '.join(sorted(known))}",
            )
    return frozenset(names)


_NOT_TO_BE_HAD = frozenset({errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


def refusal(name: CheckName, error: OSError) -> OmniRTError:
    """What an operating system's refusal means for a check that did not foresee it."""
    if name in (CheckName.OUTPUT, CheckName.DISK):
        return storage_error(error, "the output")
    where = f"{error.filename} " if error.filename else ""
    if error.errno == errno.EACCES:
        return InputMissingError(f"{where}cannot be read by this user", hint="check the permissions of its folders")
    message = f"{where}cannot be used: {error.strerror or error}"
    if error.errno in _NOT_TO_BE_HAD:
        return InputMissingError(message, hint="check the path")
    return IOFailureError(message, hint="check the disk or the network share that it lies on")


class CheckList:
    """Runs checks one after another and remembers what each said.

    Attributes:
        checks: Verdicts in order.
        errors: What failed, in order.
    """

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self.errors: list[OmniRTError] = []
        self._skip: frozenset[str] = frozenset()

    def leave_out(self, names: frozenset[str]) -> None:
        """Skip these checks from now on."""
        self._skip = names

    def run(self, name: CheckName, check: Callable[[], Found], *, detail: str | None = None) -> Found | None:
        """Run one check; its finding, or None where it failed or was left out."""
        if name.value in self._skip:
            self.checks.append(skipped(name.value, "left out by --skip-check"))
            return None
        try:
            found = check()
        except OmniRTError as error:
            self.fail(name, error)
            return None
        except OSError as error:
            # A path is the user's, and can lie where nobody foresaw: no such place is a bug of OmniRT's.
            self.fail(name, refusal(name, error))
            return None
        self.checks.append(passed(name.value, detail=detail))
        return found

    def fail(self, name: CheckName, error: OmniRTError) -> None:
        """Note a failure found elsewhere."""
        self.errors.append(error)
        self.checks.append(failed(name.value, detail=error.message, hint=error.hint))

    def warn(self, name: CheckName, message: str) -> None:
        """Note a finding that stops nothing."""
        self.checks.append(warned(name.value, detail=message))

    def add(self, checks: Iterable[Check], error: OmniRTError | None) -> None:
        """Take over verdicts that were found elsewhere, and the failure among them."""
        self.checks += checks
        if error is not None:
            self.errors.append(error)

    def cannot_run(self, name: CheckName, why: str) -> None:
        """Note a check that an earlier failure made impossible."""
        self.checks.append(skipped(name.value, why))

    def error(self) -> OmniRTError | None:
        """The failure that gives the exit code, or None."""
        return most_telling(self.errors)
