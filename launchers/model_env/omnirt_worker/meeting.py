"""How the ranks of one worker come to know each other: by a socket in their common working directory."""

from __future__ import annotations

import socket
from pathlib import Path

from . import wire

_COMING_S = 600.0
"""How long a rank that has loaded waits for the first rank's socket, which is there before any loading."""


def open_for(folder: Path, name: str, world_size: int) -> socket.socket | None:
    """Rank 0's listening socket; None in a process of its own. To be opened before the model is loaded."""
    return wire.listen(folder, name) if world_size > 1 else None


def gather(server: socket.socket | None, world_size: int) -> dict[int, socket.socket]:
    """Wait until every other rank has come; the launcher ends all of them should one die before.

    Raises:
        wire.WireError: What came is no rank.
    """
    ranks: dict[int, socket.socket] = {}
    if server is None:
        return ranks
    with server:
        while len(ranks) < world_size - 1:
            sock, _ = server.accept()
            hello = wire.receive(sock)
            if hello is None or not isinstance(hello.header.get("rank"), int):
                raise wire.WireError("somebody who is no rank came to the ranks' meeting")
            ranks[hello.header["rank"]] = sock
    return ranks


def join(folder: Path, name: str, rank: int) -> socket.socket:
    """Another rank's connection to rank 0.

    Raises:
        OSError: Rank 0 is not there.
    """
    sock = wire.connect(folder, name, _COMING_S)
    wire.send(sock, {"type": "hello", "rank": rank})
    return sock
