"""Which OmniRT a daemon or a client is of, to the letter: what they tell each other may change without a release.

The worker program counts too: a worker that runs an older one is not what a client of the newer expects.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import launchers
from omnirt_cli import __version__

_OWN = Path(__file__).resolve().parent
_PROGRAMS = Path(launchers.__file__).resolve().parent
_DIGITS = 8


@functools.cache
def code_version() -> str:
    """OmniRT's version, and a digest of the code that speaks here: equal code is equal, wherever it is installed."""
    digest = hashlib.sha256()
    for root in (_OWN, _PROGRAMS):
        for source in sorted(root.rglob("*.py")):
            digest.update(str(source.relative_to(root)).encode() + b"\0" + source.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:_DIGITS]}"
