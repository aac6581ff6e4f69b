"""The environment variables that tests turn; the one place where they are read and described.

==========================  =========================================================================
``MINIATURE_LOAD_S``        seconds that loading pretends to take (0)
``MINIATURE_CHUNK_S``       seconds added to every chunk (0)
``MINIATURE_BUSY``          ``1``: those seconds burn processor time instead of sleeping
``MINIATURE_TORCH``         ``0``: behave as if torch were not installed
``MINIATURE_QUANT``         ``ok``: the quantizing fork's ``--quantize`` succeeds instead of falling back
``MINIATURE_FRAMES``        a file to which the frames go as well, as the encoder gets them (none)
``MINIATURE_TEXT_CTX_DIR``  where LiveAct's text contexts lie (``/tmp``)
``MINIATURE_FAULT``         what goes wrong, see ``engine.faults``
==========================  =========================================================================
"""

import os
import time
from pathlib import Path


def seconds(name: str) -> float:
    return float(os.environ.get(name) or 0.0)


def enabled(name: str, default: str = "0") -> bool:
    return os.environ.get(name, default) not in ("", "0")


def quantizer_works() -> bool:
    return os.environ.get("MINIATURE_QUANT") == "ok"


def frames_file() -> str | None:
    return os.environ.get("MINIATURE_FRAMES") or None


def text_context_dir() -> Path:
    return Path(os.environ.get("MINIATURE_TEXT_CTX_DIR") or "/tmp")


def spend(duration_s: float) -> None:
    """Let ``duration_s`` seconds pass, working or sleeping as ``MINIATURE_BUSY`` says."""
    if not enabled("MINIATURE_BUSY"):
        time.sleep(duration_s)
        return
    end = time.monotonic() + duration_s
    while time.monotonic() < end:
        sum(range(2000))
