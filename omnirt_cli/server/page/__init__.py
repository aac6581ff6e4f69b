"""The page at `/`: its files, and the addresses that they are served under.

They are the same for everybody and hold nothing of anybody, so they are served without a key; what the page then shows
it asks the API for, key in hand. Knows no job.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class PageFile:
    """One of the page's files.

    Attributes:
        name: In this package.
        media_type: With its character set.
    """

    name: str
    media_type: str

    def content(self) -> bytes:
        """Its bytes."""
        return _content(self.name)


_SCRIPT = "text/javascript; charset=utf-8"

FILES = {
    "/": PageFile("index.html", "text/html; charset=utf-8"),
    "/page/style.css": PageFile("style.css", "text/css; charset=utf-8"),
    "/page/icon.svg": PageFile("icon.svg", "image/svg+xml"),
    "/page/app.js": PageFile("app.js", _SCRIPT),
    "/page/api.js": PageFile("api.js", _SCRIPT),
    "/page/elements.js": PageFile("elements.js", _SCRIPT),
    "/page/form.js": PageFile("form.js", _SCRIPT),
    "/page/knobs.js": PageFile("knobs.js", _SCRIPT),
    "/page/recorder.js": PageFile("recorder.js", _SCRIPT),
    "/page/queue.js": PageFile("queue.js", _SCRIPT),
    "/page/job.js": PageFile("job.js", _SCRIPT),
    "/page/progress.js": PageFile("progress.js", _SCRIPT),
}
"""Address -> what is served there. Nothing else of the package is."""


@functools.cache
def _content(name: str) -> bytes:
    return resources.files(__name__).joinpath(name).read_bytes()
