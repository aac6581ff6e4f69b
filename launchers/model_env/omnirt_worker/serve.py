"""A model that stays loaded and renders one request after the other: what each rank does from start to end."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from . import meeting, ranks, wire
from .checkout import Checkout
from .follow import follow
from .requests import ServeRequest, read_serve
from .server import Server
from .session import Session


def main(path: Path) -> None:
    """Serve until told to leave. An error while loading ends this rank with its traceback."""
    request = read_serve(path)
    sys.path.insert(0, request.model.checkout)
    if ranks.rank() == 0:
        _serve(request)
    else:
        _follow(request)


def _serve(request: ServeRequest) -> None:
    here, world_size = Path.cwd(), ranks.world_size()
    meeting_place = meeting.open_for(here, request.ranks_socket, world_size)
    session = Session(Checkout.load(request.model, world_size))
    others = meeting.gather(meeting_place, world_size)
    server = Server(session, others, request.settle_s)
    server.run(wire.listen(here, request.socket))
    _leave()


def _follow(request: ServeRequest) -> None:
    session = Session(Checkout.load(request.model, ranks.world_size()))
    rank = ranks.rank()
    follow(session, meeting.join(Path.cwd(), request.ranks_socket, rank), rank)
    _leave()


def _leave() -> None:
    """Together; taking the interpreter and torch apart would keep the devices for seconds more."""
    ranks.leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
