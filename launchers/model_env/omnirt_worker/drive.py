"""One render from a request in a file to a finished silent video; the log is in the script's own words."""

from __future__ import annotations

import sys
from pathlib import Path

from . import log_order, ranks, script_log
from .checkout import Checkout
from .delivery import Delivery
from .embeddings import Helper
from .encoder import Encoder
from .render import Render
from .requests import Request, read_request
from .stopping import finish_when_stopped


def main(path: Path) -> None:
    """Carry out the one request of the file. An error ends this rank with its traceback, as the script's would."""
    request = read_request(path)
    sys.path.insert(0, request.model.checkout)
    checkout = Checkout.load(request.model, ranks.world_size())
    if ranks.rank() == 0:
        _render_and_encode(checkout, request)
    else:
        render = _prepared(checkout, request)
        for index in range(request.render.chunks):
            render.step(index)
    ranks.leave()


def _prepared(checkout: Checkout, request: Request) -> Render:
    checkout.prepare(request.render.base)
    return Render(checkout, request.render, Helper(checkout.device))


def _render_and_encode(checkout: Checkout, request: Request) -> None:
    """Rank 0's part. Whatever ends it, what was computed goes into the file."""
    encoder = Encoder(request.picture)
    with finish_when_stopped(encoder.close), encoder, log_order.kept() as order:
        render = _prepared(checkout, request)
        script_log.info("Data preparation done. Start to generate video...")
        with Delivery(checkout.device, order, encoder) as delivery:
            for index in range(request.render.chunks):
                order.computing(index)
                delivery.put(render.step(index))
    script_log.info(f"Saving generated video to {request.picture.path}")
    script_log.info("Finished.")
