"""Where a run's files go: their names, the private working directory's place, and whether they can be written.

The one module that knows these names. It writes nothing.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from omnirt_cli.errors import OutputUncreatableError

NAME_MAX = 255


def _shortened(stem: str, limit: int) -> str:
    """A stem of at most `limit` bytes that still tells long names apart."""
    digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:12]
    return os.fsencode(stem)[: limit - 13].decode("utf-8", "ignore") + "-" + digest


@dataclass(frozen=True)
class OutputPaths:
    """Where a run's files go; the one place that knows their names."""

    video: Path

    def _beside(self, suffix: str) -> Path:
        stem = self.video.stem
        if len(os.fsencode(stem + suffix)) > NAME_MAX:
            stem = _shortened(stem, NAME_MAX - len(suffix))
        return self.video.with_name(stem + suffix)

    @property
    def folder(self) -> Path:
        """The output directory."""
        return self.video.parent

    @property
    def report(self) -> Path:
        """The RunReport."""
        return self._beside(".report.json")

    @property
    def log(self) -> Path:
        """The child's output, byte for byte."""
        return self._beside(".log")

    @property
    def failed(self) -> Path:
        """A video that failed verification."""
        return self._beside(".failed.mp4")

    @property
    def partial(self) -> Path:
        """A picture without its sound, or a part of one, that a failed run left."""
        return self._beside(".partial.mp4")

    def scratch(self, run_id: str) -> Path:
        """The private working directory, on the output's file system."""
        return self.folder / f".omnirt-{run_id}"


def scratch_place(outputs: OutputPaths, run_id: str, *, in_checkout: bool) -> Path:
    """Where the private working directory goes.

    A script that runs in it sees bare names only, so any folder does. One that runs in its checkout gets absolute
    paths, and the public save routines strip `res_` and `.mp4` from directories too: then no parent may contain them.
    """
    place = outputs.scratch(run_id)
    if not in_checkout or not any(trap in str(place) for trap in ("res_", ".mp4")):
        return place
    return OutputPaths(Path(tempfile.gettempdir()) / "any.mp4").scratch(run_id)


def refuse_unwritable(outputs: OutputPaths, *, no_clobber: bool) -> None:
    """See that a video and its report can be put where they are wanted.

    Raises:
        OutputUncreatableError: They cannot, or a video is there that must stay.
    """
    folder = existing_folder(outputs.folder)
    if not folder.is_dir():
        raise OutputUncreatableError(f"{folder} is not a directory", hint="choose another --output-dir")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputUncreatableError(f"{folder} cannot be written by this user", hint="choose another --output-dir")
    if outputs.video.is_dir():
        raise OutputUncreatableError(f"{outputs.video} is a directory", hint="name the video inside it")
    if no_clobber and outputs.video.exists():
        raise OutputUncreatableError(f"{outputs.video} exists, and --no-clobber was given")


def existing_folder(folder: Path) -> Path:
    """The nearest parent that is there and that this user may look at; `Path.exists` would raise where they may not."""
    while not os.access(folder, os.F_OK) and folder != folder.parent:
        folder = folder.parent
    return folder
