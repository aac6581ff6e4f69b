"""Run by a model's Python: drives a checkout's own functions, as its script would, and encodes the frames as they come.

    python worker.py --request=FILE     one render, then the end
    python worker.py --serve=FILE       one render after the other, for who connects to its socket
    python -m torch.distributed.run --nproc_per_node=N ... worker.py ...

It stands for the checkout's `generate_video.py` and is started like it: under the guard, in a directory that holds the
private `infer_params.yaml`, by one rank or by many. This file only arranges the module path: the program's own package
is loaded first, by its place, and then the checkout comes before all else, so that its code finds itself.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path

SWITCH_S = 0.001
"""A computing thread that keeps the interpreter gives it to the thread that takes frames away after this time: Python's
own 5 ms, several times a chunk, would be longer than the taking away itself."""


def main() -> None:
    """Load the program's own modules, leave the path to the checkout, and go."""
    parser = argparse.ArgumentParser(description="Drives a model's checkout.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--request", type=Path, help="one render, as a JSON file")
    what.add_argument("--serve", type=Path, help="a model to keep loaded, as a JSON file")
    asked = parser.parse_args()
    sys.setswitchinterval(SWITCH_S)
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - a link's own place counts
    sys.path.insert(0, here)
    program = import_module("omnirt_worker.serve" if asked.request is None else "omnirt_worker.drive")
    # Neighbours of this file have plain names; none may stand for a module of the checkout or of its environment.
    sys.path[:] = [place for place in sys.path if place != here]
    program.main(asked.serve if asked.request is None else asked.request)


if __name__ == "__main__":
    main()
