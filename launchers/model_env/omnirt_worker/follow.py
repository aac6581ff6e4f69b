"""A rank that is not the first: takes the steps that rank 0 tells it, and answers for each.

Between two steps it waits in a read. When rank 0 is gone, so is it, even from within a collective: a thread of its own
does the reading.
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import Any

from . import script_log, wire
from .requests import RenderRequest
from .session import Session
from .windows import samples_of


def follow(session: Session, rank_0: socket.socket, rank: int) -> None:
    """Take steps until rank 0 says that it is enough."""
    steps: queue.SimpleQueue[wire.Message] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(rank_0, steps), name="rank 0", daemon=True).start()
    while (message := steps.get()).type != "stop":
        wire.send(rank_0, {"type": "did", "step": message.header["step"], **_take(session, message, rank)})


def _read(rank_0: socket.socket, steps: queue.SimpleQueue[wire.Message]) -> None:
    """Pass messages on; the end of the connection is the end of this process unless it is leaving anyway."""
    while True:
        try:
            message = wire.receive(rank_0)
        except (OSError, wire.WireError):
            message = None
        if message is None:
            script_log.worker("rank 0 is gone")
            sys.stdout.flush()
            os._exit(1)
        steps.put(message)
        if message.type == "stop":
            return


def _take(session: Session, message: wire.Message, rank: int) -> Mapping[str, Any]:
    """Take one step; what is answered for it."""
    try:
        return {"error": None, **_act(session, message)}
    except Exception as error:  # noqa: BLE001 - rank 0 decides what it means; its text is in the log
        script_log.write_traceback(traceback.format_exc(), rank)
        return {"error": script_log.said(error)}


def _act(session: Session, message: wire.Message) -> Mapping[str, Any]:
    header = message.header
    if message.type == "begin":
        return {"known": session.begin(RenderRequest(**header["render"]), header["key"])}
    if message.type == "prepare":
        session.prepare(known=header["known"])
    elif message.type == "chunk":
        session.step(header["index"], samples_of(message.body) if message.body else None)
    elif message.type == "end":
        session.end()
    else:
        raise wire.WireError(f"no such step: {message.type}")
    return {}
