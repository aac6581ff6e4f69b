"""Files written whole or not at all: a temporary sibling, flushed to disk, renamed into place."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from pathlib import Path

from omnirt_cli.errors import IOFailureError, OmniRTError, OutputUncreatableError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}


def storage_error(error: OSError, doing: str) -> OmniRTError:
    """Name an operating system's refusal: a full disk is an I/O failure, all else a place that cannot be written."""
    where = f" {error.filename}" if error.filename else ""
    message = f"{doing}:{where} {error.strerror or error}"
    if error.errno in _FULL:
        return IOFailureError(message, hint="free some disk space, or choose another --output-dir")
    return OutputUncreatableError(message, hint="choose a place that this user may write, with --output-dir")


def write_atomic(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one step, so that a reader sees the old file or the new one.

    Raises:
        OSError: The directory cannot be written, or the disk is full; `path` is as it was.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".omnirt-", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o666 & ~current_umask())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_locked(path: Path) -> bool:
    """Whether a process holds the file's lock; False, too, where there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def current_umask() -> int:
    """This process's umask, read without changing it (another thread may be creating files)."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0o022
    for line in status.splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
