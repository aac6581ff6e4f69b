"""One render from a request in a file to a finished silent video; the log is in the script's own words."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from . import frames, ranks, render, script_log
from .checkout import Checkout
from .encoder import Encoder
from .requests import Request, read_request
from .stopping import finish_when_stopped


def main() -> None:
    """Carry out the one request of the file. An error ends this rank with its traceback, as the script's would."""
    parser = argparse.ArgumentParser(description="Drives a model's checkout for one render.")
    parser.add_argument("--request", type=Path, required=True, help="the request, a JSON file")
    request = read_request(parser.parse_args().request)
    sys.path.insert(0, request.model.checkout)
    checkout = Checkout.load(request.model, ranks.world_size())
    if ranks.rank() == 0:
        _render_and_encode(checkout, request)
    else:
        for _ in render.chunks(checkout, request.render):
            continue
    ranks.leave()


def _render_and_encode(checkout: Checkout, request: Request) -> None:
    """Rank 0's part. Whatever ends it, what was computed goes into the file."""
    encoder = Encoder(request.picture)
    with finish_when_stopped(encoder.close), encoder:
        for chunk in render.chunks(checkout, request.render, ready=_say_ready):
            began = time.monotonic()
            pixels = frames.to_bytes(chunk.frames)
            copied = time.monotonic()
            encoder.put(pixels)
            script_log.times(chunk.embedding_s, copied - began, time.monotonic() - copied)
            script_log.info(f"Generate video chunk-{chunk.index} done, cost time: {chunk.core_s:.3f}s")
    script_log.info(f"Saving generated video to {request.picture.path}")
    script_log.info("Finished.")


def _say_ready() -> None:
    script_log.info("Data preparation done. Start to generate video...")
