"""Run by a model's Python: drives a checkout's own functions, as its script would, and encodes the frames as they come.

    python worker.py --request=FILE
    python -m torch.distributed.run --nproc_per_node=N ... worker.py --request=FILE

It stands for the checkout's `generate_video.py` and is started like it: under the guard, in a directory that holds the
private `infer_params.yaml`, by one rank or by many. This file only arranges the module path: the program's own package
is loaded first, by its place, and then the checkout comes before all else, so that its code finds itself.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module


def main() -> None:
    """Load the program's own modules, leave the path to the checkout, and go."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - a link's own place counts
    sys.path.insert(0, here)
    drive = import_module("omnirt_worker.drive")
    # Neighbours of this file have plain names; none may stand for a module of the checkout or of its environment.
    sys.path[:] = [place for place in sys.path if place != here]
    drive.main()


if __name__ == "__main__":
    main()
