"""Where a page finds a run's video. A file on disk links one that lies in its own folder; a server gives an address."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from omnirt_cli.report import Artifact, RunReport, RunStatus


@dataclass(frozen=True)
class VideoLink:
    """The video as the page shows it, or why it does not.

    Attributes:
        href: Its address, percent-encoded; None where the page cannot show it.
        path: Where the run left it.
        words: What is to be said: that it was not delivered, or why it is not shown.
    """

    href: str | None = None
    path: str | None = None
    words: str | None = None


def video_beside(report: RunReport, folder: Path | None) -> VideoLink:
    """The run's video as a page in `folder` can show it.

    Args:
        report: The run.
        folder: Where the page will lie; None where that is not known.
    """
    delivered = next((found for found in report.artifacts if found.kind == "video"), None)
    if delivered is not None:
        return _link(Path(delivered.path), folder, delivered)
    kept = next((path for path in report.kept if path.endswith(".mp4")), None)
    if kept is None:
        goes_on = report.status is RunStatus.RUNNING
        return VideoLink(words="The run was going on when this was made." if goes_on else "This run left no video.")
    link = _link(Path(kept), folder, None)
    return link if link.href is None else VideoLink(link.href, link.path, "Kept for a look, not delivered.")


def _link(path: Path, folder: Path | None, delivered: Artifact | None) -> VideoLink:
    shown = str(path)
    try:
        size = path.stat().st_size
    except (OSError, ValueError):
        return VideoLink(path=shown, words="The video is not there any more.")
    if delivered is not None and delivered.size_bytes not in (None, size):
        return VideoLink(path=shown, words="The file of that name is another one now.")
    if folder is None or not _same_folder(path.parent, folder):
        return VideoLink(path=shown, words="The video does not lie beside this page, so it is not shown here.")
    # "./" keeps a name with a colon from being read as the scheme of an address.
    return VideoLink(href="./" + quote(os.fsencode(path.name)), path=shown)


def _same_folder(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
