"""Whether two files hold the same picture: its packets, as ffmpeg lists them without decoding.

The list (`framecrc`) has each packet's times, length, Adler-32 and flags, and a sum of the decoder's settings: what is
equal here is decoded to the same frames. It tells files of our own making apart, not forgeries.
"""

from __future__ import annotations

import hashlib
from typing import Any

import ffmpeg


def list_packets(source: Any, target: str, frames: int | None = None) -> Any:
    """The output, of a command of ffmpeg-python, that lists the first picture's packets.

    Args:
        source: Its input.
        target: Where the list goes.
        frames: How many packets to list; all of them by default.
    """
    limit = {} if frames is None else {"frames:v": frames}
    return ffmpeg.output(source["v:0"], target, **{"c:v": "copy"}, **limit, format="framecrc")


class PacketSum:
    """What remains of such a list: how many packets, and a digest of all of it."""

    def __init__(self) -> None:
        self.count = 0
        self._digest = hashlib.sha256()

    def add(self, text: bytes) -> None:
        """Take the next part of the list."""
        self._digest.update(text)
        # One line for each packet; those of the settings begin with the only "#" in them.
        self.count += text.count(b"\n") - text.count(b"#")

    @property
    def digest(self) -> str:
        """Equal for equal lists."""
        return self._digest.hexdigest()
