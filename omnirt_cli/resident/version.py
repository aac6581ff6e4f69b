"""Which OmniRT a daemon or a client is of, to the letter: what they tell each other may change without a release."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from omnirt_cli import __version__

_OWN = Path(__file__).resolve().parent
_DIGITS = 8


@functools.cache
def code_version() -> str:
    """OmniRT's version, and a digest of the code that speaks here: equal code is equal, wherever it is installed."""
    digest = hashlib.sha256()
    for source in sorted(_OWN.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:_DIGITS]}"
