"""Paths in requests: read only under one directory, whatever `..`, absolute names or links say.

A file is opened before it is judged, and judged by what was opened; nothing that happens to its name afterwards
matters.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from omnirt_cli.errors import InputInvalidError, InputMissingError, NotAuthorisedError, OmniRTError

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


class MediaRoot:
    """The directory that paths in requests lie under."""

    def __init__(self, root: Path | None) -> None:
        """None takes no paths at all."""
        self._root = root.resolve() if root is not None else None

    def open(self, text: str, what: str) -> BinaryIO:
        """The file behind a path of a request; relative ones start at the root.

        Args:
            text: As the request has it.
            what: How a message calls it: `image` or `audio`.

        Raises:
            NotAuthorisedError: It is not under the root; whether it is there is not said.
            InputMissingError: It is not there.
            InputInvalidError: It is no regular file, or cannot be read.
        """
        if self._root is None:
            raise NotAuthorisedError(
                f"{what}: this server takes no paths", hint="upload the file as multipart/form-data"
            )
        try:
            return self._opened(self._root, Path(os.path.realpath(self._root / text)), text, what)
        except (ValueError, UnicodeEncodeError):
            raise InputInvalidError(f"{what}: this is not a path") from None

    def _opened(self, root: Path, real: Path, text: str, what: str) -> BinaryIO:
        if not real.is_relative_to(root):
            raise _outside(what)
        try:
            descriptor = os.open(real, _OPEN)
        except (FileNotFoundError, NotADirectoryError):
            raise InputMissingError(f"the {what} {text} does not exist under the server's media root") from None
        except OSError as error:
            raise InputInvalidError(f"the {what} {text} cannot be read: {error.strerror}") from None
        try:
            # A folder on the way may have become a link since it was resolved.
            if not Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(root):
                raise _outside(what)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputInvalidError(f"the {what} {text} is not a file")
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise


def _outside(what: str) -> OmniRTError:
    return NotAuthorisedError(
        f"{what}: the path is not under the server's media root", hint="upload the file, or start with --media-root"
    )
