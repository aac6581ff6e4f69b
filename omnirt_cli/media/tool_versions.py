"""Which version an ffmpeg is, asked once for each file: starting it only for that would cost every run 0.1 s.

The answers lie in the user's cache, by the program's real path, size and time; a program that was replaced is asked
again. A cache that cannot be read or written changes nothing but the time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from omnirt_cli.errors import InputMissingError
from omnirt_cli.files import write_atomic
from omnirt_cli.media.tools import INSTALL_HINT, find_tool, tool_version

OLDEST = (4, 2)
"""The oldest ffmpeg that is known to copy every sound of `deliver.COPIED_CODECS` into MP4."""

_CACHE_BYTES = 1 << 16
_ENTRIES_AT_MOST = 20


def known_version(name: str) -> str:
    """The version of the `ffmpeg` or `ffprobe` on PATH, remembered or asked.

    Raises:
        InputMissingError: It is not there, or does not run.
    """
    key = _identity(find_tool(name))
    remembered = _read()
    version = remembered.get(key)
    if version is None:
        version = tool_version(name)
        _write({**remembered, key: version})
    return version


def require_tools(version_of: Callable[[str], str] = known_version) -> None:
    """See that ffmpeg and ffprobe are there, answer, and are not too old.

    Args:
        version_of: How their versions are learned; `tools.tool_version` asks them now.

    Raises:
        InputMissingError: One of them is not there, does not run, or is too old.
    """
    for name in ("ffprobe", "ffmpeg"):
        version = version_of(name)
        numbers = re.match(r"n?(\d+)\.(\d+)", version)
        # A build from the sources calls itself by its commit, which says nothing of its age.
        if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
            raise InputMissingError(
                f"{find_tool(name)} has version {version}, too old",
                hint=f"{OLDEST[0]}.{OLDEST[1]} or later; {INSTALL_HINT}",
            )


def _identity(tool: str) -> str:
    """What changes when the program does; itself where the file cannot be looked at."""
    path = Path(os.path.realpath(tool))
    try:
        facts = path.stat()
    except OSError:
        return tool
    return f"{path} {facts.st_size} {facts.st_mtime_ns} {facts.st_ino}"


def _place() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("omnirt") / "tool-versions.json"


def _read() -> dict[str, str]:
    try:
        with _place().open("rb") as file:
            found = json.loads(file.read(_CACHE_BYTES))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(key): value for key, value in found.items() if isinstance(value, str)}


def _write(versions: dict[str, str]) -> None:
    newest = dict(list(versions.items())[-_ENTRIES_AT_MOST:])
    with contextlib.suppress(OSError):
        place = _place()
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(place, json.dumps(newest, indent=1).encode())
