"""Tells systemd how the server is, where systemd started it with `Type=notify`; elsewhere does nothing.

The protocol of sd_notify(3): one datagram of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

_SOCKET = "NOTIFY_SOCKET"
_WATCHDOG = "WATCHDOG_USEC"


def ready(status: str) -> None:
    """The server answers; `status` is what `systemctl status` shows."""
    _tell("READY=1", f"STATUS={status}")


def stopping() -> None:
    """The server was asked to end, and finishes what runs."""
    _tell("STOPPING=1", "STATUS=finishing the jobs that run")


async def keep_alive() -> None:
    """Feed systemd's watchdog while the event loop turns; without a watchdog this ends at once."""
    period = os.environ.get(_WATCHDOG, "")
    if not (period.isascii() and period.isdigit() and int(period)):
        return
    while True:
        _tell("WATCHDOG=1")
        await asyncio.sleep(int(period) / 1e6 / 2)


def _tell(*lines: str) -> None:
    """Send and forget: that nobody listens any more is no reason to stop serving."""
    name = os.environ.get(_SOCKET, "")
    if not name.startswith(("/", "@")):
        return
    # A leading @ stands for the zero byte of Linux's abstract names.
    address = "\0" + name[1:] if name.startswith("@") else name
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(0)
        sender.sendto("\n".join(lines).encode(), address)
