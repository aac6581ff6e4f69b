"""Where the command line finds a server's API key: in a file, so that neither process lists nor histories show it."""

from __future__ import annotations

import os
from pathlib import Path

from omnirt_cli.server.api_keys import read_api_keys

VARIABLE = "OMNIRT_API_KEY_FILE"


def find_api_key(file: Path | None) -> str | None:
    """The first key in a file, or in the one that the environment names; None where neither does.

    Raises:
        InputMissingError: The file cannot be read.
        ConfigInvalidError: It has no key, or one that no server takes.
    """
    named = os.environ.get(VARIABLE)
    place = file or (Path(named) if named else None)
    return read_api_keys(place)[0] if place else None
