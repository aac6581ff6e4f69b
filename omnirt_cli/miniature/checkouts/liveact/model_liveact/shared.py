"""The machinery that all miniature checkouts share, found beside them: ``miniature/engine``."""

import sys
from pathlib import Path

_MINIATURE = Path(__file__).resolve().parents[3]
if not (_MINIATURE / "engine").is_dir():
    raise ImportError(
        f"{_MINIATURE / 'engine'} is missing: a miniature checkout is copied with its whole miniature/ tree"
    )
sys.path.append(str(_MINIATURE))

from engine import bars, blocks, faults, knobs, portrait, ranks, video  # noqa: E402

__all__ = ["bars", "blocks", "faults", "knobs", "portrait", "ranks", "video"]
