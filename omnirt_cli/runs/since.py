"""The moments that `--since` takes: a date, a date with a time, or so long ago."""

from __future__ import annotations

import re
import time
from datetime import datetime

from omnirt_cli.errors import UsageError
from omnirt_cli.runs.ending import utc

_AGO = re.compile(r"(\d{1,6})([dhm])")
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60}


def since_moment(text: str) -> str:
    """The moment as reports have it; a date without a zone is local time.

    Raises:
        UsageError: It is none.
    """
    ago = _AGO.fullmatch(text)
    if ago:
        return utc(max(0.0, time.time() - int(ago[1]) * _SECONDS[ago[2]]))
    try:
        # Python 3.10 does not take the Z.
        return utc(datetime.fromisoformat(re.sub("Z$", "+00:00", text)).timestamp())
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--since {text}: not a moment", hint="e.g. 2026-11-20, 2026-11-20T14:30, 7d, 12h") from error
