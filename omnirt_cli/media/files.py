"""Regular files, told from everything else, and their checksum. Standard library only, for a quick start."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

from omnirt_cli.errors import InputInvalidError, InputMissingError

_BLOCK = 1 << 20


@dataclass(frozen=True)
class FileStamp:
    """How long a file is and when it was last written; what replaces or rewrites it gives it another.

    Its number is no part of it: overlayfs may give a file another one when it is linked.
    """

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileStamp | None:
        """The stamp of the file behind `path`; None where it cannot be looked at."""
        try:
            facts = path.stat()
        except OSError:
            return None
        return cls(facts.st_size, facts.st_mtime_ns)


def sha256_of(path: Path) -> str:
    """The file's SHA-256 as lower-case hexadecimal; read in blocks, so that its size does not matter.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def regular_file(path: Path, what: str) -> int:
    """Size in bytes of a readable, non-empty regular file; anything else is refused before a tool opens it.

    A FIFO would block whoever opens it, and is gone after one reading, so pipes and devices are refused too.

    Args:
        path: The file that the user named.
        what: How the message calls it: `audio` or `image`.

    Raises:
        InputMissingError: There is no such file, or a folder on the way is closed to this user.
        InputInvalidError: It is a folder, a pipe or a device, is empty, or may not be read.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise InputMissingError(f"the {what} {path} does not exist", hint="check the path") from None
    except PermissionError:
        raise InputMissingError(
            f"the {what} {path} cannot be read by this user", hint="check the permissions of its folders"
        ) from None
    except OSError as error:
        raise InputInvalidError(f"the {what} {path} cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(found.st_mode):
        raise InputInvalidError(f"the {what} {path} is a folder", hint="name a file in it")
    if not stat.S_ISREG(found.st_mode):
        raise InputInvalidError(
            f"the {what} {path} is a pipe or a device", hint="save it to a file first and name that"
        )
    if found.st_size == 0:
        raise InputInvalidError(f"the {what} {path} is empty (0 bytes)", hint="was it copied completely?")
    _open_once(path, what)
    return found.st_size


def _open_once(path: Path, what: str) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputInvalidError(
            f"the {what} {path} cannot be read: {error.strerror}", hint="check its permissions"
        ) from error
