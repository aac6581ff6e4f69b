"""The daemon's runtime directory: one per user, nobody else's, and what lies where in it.

`OMNIRT_RUNTIME_DIR` where it is set; else `$XDG_RUNTIME_DIR/omnirt`; else `/tmp/omnirt-<uid>`. Who could write there
could pose as the daemon or as a client, so a directory that is a link, belongs to somebody else or is open to others is
refused and never repaired.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omnirt_cli.errors import ConfigInvalidError, OmniRTError, OutputUncreatableError

VARIABLE = "OMNIRT_RUNTIME_DIR"
SOCKET_NAME = "daemon.sock"
TAKEN = 3
"""Exit code of a daemon's program: another process is this directory's daemon."""

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class RuntimePlace:
    """The directory.

    Attributes:
        path: Absolute.
        named: Whether `OMNIRT_RUNTIME_DIR` names it, which makes its faults those of the configuration.
    """

    path: Path
    named: bool = False

    @classmethod
    def choose(cls, environ: Mapping[str, str]) -> RuntimePlace:
        """The directory by its name; whether it is there and can be trusted, `check` and `make` say."""
        named = environ.get(VARIABLE)
        if named:
            return cls(Path(named), named=True)
        session = environ.get("XDG_RUNTIME_DIR")
        # Kept by `su` and `sudo -E` it is another user's.
        if session and Path(session).is_absolute() and _belongs_to_this_user(Path(session)):
            return cls(Path(session) / "omnirt")
        return cls(Path(f"/tmp/omnirt-{os.geteuid()}"))  # noqa: S108 - made with mode 0700, or refused

    @property
    def socket(self) -> Path:
        """Where the daemon listens."""
        return self.path / SOCKET_NAME

    @property
    def lock(self) -> Path:
        """Who has its lock is the daemon."""
        return self.path / "daemon.lock"

    @property
    def log(self) -> Path:
        """The daemon's own log."""
        return self.path / "daemon.log"

    @property
    def workers(self) -> Path:
        """The workers' private directories and logs."""
        return self.path / "workers"

    def make(self) -> None:
        """Make the directory where it is missing, and see that it is this user's alone.

        Raises:
            ConfigInvalidError, OutputUncreatableError: It cannot be made, or cannot be trusted.
        """
        self._refuse_relative()
        try:
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(mode=0o700, parents=self.named)
        except OSError as error:
            raise self.refused(f"cannot be made: {error.strerror}") from error
        self.check()

    def check(self) -> bool:
        """See that the directory is this user's alone.

        Returns:
            False where there is none.

        Raises:
            ConfigInvalidError, OutputUncreatableError: It cannot be trusted.
        """
        self._refuse_relative()
        try:
            folder = os.open(self.path, _FOLDER_FLAGS)
        except FileNotFoundError:
            return False
        except NotADirectoryError as error:
            raise self.refused("is a link or no directory") from error
        except OSError as error:
            raise self.refused(f"cannot be used: {error.strerror}") from error
        try:
            problem = _distrust(os.fstat(folder))
        finally:
            os.close(folder)
        if problem is not None:
            raise self.refused(problem)
        return True

    def _refuse_relative(self) -> None:
        if not self.path.is_absolute():
            raise self.refused("is a relative path, which means another place in another directory")

    def refused(self, problem: str) -> OmniRTError:
        """This place cannot serve."""
        if self.named:
            return ConfigInvalidError(f"{VARIABLE}={self.path} {problem}", hint="name a directory of your own")
        return OutputUncreatableError(
            f"the resident daemon's directory {self.path} {problem}",
            hint=f"remove it or have it removed, or set {VARIABLE} to a directory of your own",
        )


def _distrust(found: os.stat_result) -> str | None:
    """Why a directory's owner and mode do not do; None where they do."""
    if found.st_uid != os.geteuid():
        return f"belongs to another user (number {found.st_uid})"
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        return f"is open to others (mode {mode:04o}; it must be 0700)"
    return None


def _belongs_to_this_user(folder: Path) -> bool:
    try:
        return folder.is_dir() and folder.stat().st_uid == os.geteuid()
    except OSError:
        return False
