"""Who is at the other end of a Unix socket, as the kernel has it."""

from __future__ import annotations

import os
import socket
import struct

_CREDENTIALS = struct.Struct("3i")


def is_this_user(sock: socket.socket) -> bool:
    """Whether the process at the other end is of the user that this one is of."""
    _pid, uid, _gid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return bool(uid == os.geteuid())
