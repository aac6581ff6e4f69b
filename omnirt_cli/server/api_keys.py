"""API keys: read from a file, and compared so that the time taken tells nothing.

Only their digests stay in memory.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from omnirt_cli.errors import ConfigInvalidError, InputMissingError

MIN_LENGTH = 16


def read_api_keys(path: Path) -> tuple[str, ...]:
    """The keys in a file, one a line; empty lines and those that begin with # are passed over.

    Raises:
        InputMissingError: The file cannot be read.
        ConfigInvalidError: It has no key, or one that is too short or not printable ASCII.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputMissingError(f"the API key file {path} cannot be read: {error}", hint="check its path") from error
    keys = tuple(line.strip() for line in lines if line.strip() and not line.strip().startswith("#"))
    if not keys:
        raise ConfigInvalidError(f"{path} holds no API key", hint="write one a line")
    for key in keys:
        if len(key) < MIN_LENGTH or not (key.isascii() and key.isprintable()) or " " in key:
            raise ConfigInvalidError(
                f"{path} holds a key that is shorter than {MIN_LENGTH} characters or has other characters than "
                "printable ASCII",
                hint="make one with `openssl rand -hex 24`",
            )
    return keys


class KeyRing:
    """The keys that are taken."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def takes(self, key: bytes) -> bool:
        """Whether a key is one of them; every key is compared with every one, however they differ."""
        digest = _digest(key)
        return bool(sum(hmac.compare_digest(digest, known) for known in self._digests))


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
