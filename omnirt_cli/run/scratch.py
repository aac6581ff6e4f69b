"""The private working directory of one run, and what abandoned ones leave.

It lies beside the output, so that the finished video is renamed and never copied, and holds what the script opens by
relative names and what it writes. A lock tells a living run's directory from an abandoned one; the guard keeps the
lock's descriptor until the last rank is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launchers.sweep import kill_marked
from omnirt_cli.errors import InputInvalidError
from omnirt_cli.files import write_atomic
from omnirt_cli.media.files import FileStamp
from omnirt_cli.output_paths import OutputPaths
from omnirt_cli.report import ErrorInfo, RunReport, RunStatus
from omnirt_cli.run.stamps import utc_now

if TYPE_CHECKING:
    from omnirt_cli.media.deliver import ReadySound
    from omnirt_cli.media.follow import Follower

LOCK_NAME = ".lock"
OWNER_NAME = ".run.json"
PICTURE_NAME = ".picture.mp4"
DELIVERED_NAME = ".delivered.mp4"
RECORDING_NAME = ".recording"
SOUND_NAME = ".sound.m4a"
PORTRAIT_NAME = ".portrait"
ABANDONED_AFTER_S = 24 * 3600.0

_LONGEST_SUFFIX = 16
_COPIED_SHARE = 4
"""A recording is copied only where the disk has room for so many of it: the video needs the rest."""


@dataclass(frozen=True)
class Held:
    """A user's file that a run reads again later, safe from being removed or replaced where that can be had.

    Attributes:
        path: What to read: a second link, a copy, or the user's own name where neither could be made.
        source: The user's own name, for messages.
        stamp: What `path` had when it was held. A link does not protect from a program that rewrites the file in
            place; its stamp tells.
    """

    path: Path
    source: Path
    stamp: FileStamp | None

    @property
    def changed(self) -> bool:
        """Whether it is no longer what it was."""
        return self.stamp is None or FileStamp.of(self.path) != self.stamp

    def refuse_changed(self, what: str) -> None:
        """Raise where it is no longer what it was.

        Args:
            what: How the message calls it.

        Raises:
            InputInvalidError: It was written to, or it was replaced where it could not be held.
        """
        if self.changed:
            raise _changed(what, self.source)


def _changed(what: str, source: Path) -> InputInvalidError:
    return InputInvalidError(
        f"the {what} changed while the run went on: {source}",
        hint="run it again once nothing writes the file any more",
    )


class Scratch:
    """A run's private directory.

    Attributes:
        path: The directory.
        lock_fd: Its lock's descriptor, for the guard to inherit.
        portrait, recording: The user's own files; None until they are held.
        follower: What decodes the picture while it is written, where anything does.
        sound: The recording as the video will carry it, where it was encoded already.
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.lock_fd = lock_fd
        self.portrait: Held | None = None
        self.recording: Held | None = None
        self.follower: Follower | None = None
        self.sound: ReadySound | None = None

    @classmethod
    def create(cls, path: Path, report: Path) -> Scratch:
        """Make the directory and take its lock.

        Raises:
            OSError: The place cannot be written.
        """
        path.mkdir(mode=0o700)
        lock_fd = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock_fd, fcntl.LOCK_EX)
        (path / OWNER_NAME).write_text(json.dumps({"report": str(report)}), encoding="utf-8")
        return cls(path, lock_fd)

    def write(self, name: str, content: bytes) -> None:
        """Put a file under a relative name, making its folders."""
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)

    def hold_inputs(self, portrait: Path, recording: Path, inspected: FileStamp | None) -> None:
        """Keep the user's files for the run, whatever becomes of their names.

        Args:
            portrait: The picture.
            recording: The sound.
            inspected: The sound's stamp when it was inspected, where that is known.

        Raises:
            InputInvalidError: The sound has changed since it was inspected.
        """
        self.portrait = self._hold(portrait, PORTRAIT_NAME)
        self.recording = self._hold(recording, RECORDING_NAME)
        # Looked at only now, so that a change while it was copied is seen too.
        if inspected is not None and FileStamp.of(recording) != inspected:
            raise _changed("recording", recording)

    def _hold(self, source: Path, name: str) -> Held:
        suffix = source.suffix if len(source.suffix) <= _LONGEST_SUFFIX else ""
        place = self.path / f"{name}{suffix}"
        path = place if _link(source, place) or _copy(source, place) else source
        return Held(path, source, FileStamp.of(path))

    def keep_picture_of(self, silent_name: str) -> None:
        """Make the script's temporary silent video outlive its removal.

        The save routines write it by truncating an existing file and delete it by name, whatever their mux did. A
        second link to the same file stays.
        """
        (self.path / silent_name).touch()
        os.link(self.path / silent_name, self.path / PICTURE_NAME)

    @property
    def picture(self) -> Path:
        """The silent video, as far as the script wrote it."""
        return self.path / PICTURE_NAME

    @property
    def sound_place(self) -> Path:
        """Where the recording is encoded to before there is a video."""
        return self.path / SOUND_NAME

    @property
    def delivered(self) -> Path:
        """Where the finished video waits for its verification."""
        return self.path / DELIVERED_NAME

    def close(self, *, remove: bool) -> None:
        """Let go of the lock; the directory goes too unless it is to be kept."""
        if self.follower is not None:
            self.follower.stop()
        if remove:
            shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self.lock_fd)


def _link(source: Path, place: Path) -> bool:
    """A second link; False on another file system, and for a file of another user's that may not be linked."""
    try:
        os.link(os.path.realpath(source), place)
    except OSError:
        return False
    return True


def _copy(source: Path, place: Path) -> bool:
    """A copy with its time; False where there is no room to spare for it."""
    try:
        if source.stat().st_size * _COPIED_SHARE > shutil.disk_usage(place.parent).free:
            return False
        shutil.copy2(source, place)
    except OSError:
        place.unlink(missing_ok=True)
        return False
    return True


def complete_interrupted(folder: Path) -> list[Path]:
    """Complete the reports of runs in `folder` that ended without a word (SIGKILL, power), and remove old scratch.

    A directory whose lock is free belongs to nobody. Its report, if it still says `running`, becomes `interrupted`.
    After 24 hours the directory goes; videos in it are kept.

    Returns:
        The reports that were completed.
    """
    completed = []
    for place in _scratch_places(folder):
        with _free_lock(place) as free:
            if not free:
                continue
            report = _complete_report(place)
            if report is not None:
                completed.append(report)
            if time.time() - place.stat().st_mtime > ABANDONED_AFTER_S:
                _remove_keeping_videos(place)
    return completed


def _scratch_places(folder: Path) -> list[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return []
    return [
        Path(entry.path)
        for entry in entries
        if entry.name.startswith(".omnirt-") and entry.is_dir(follow_symlinks=False) and _is_ours(entry)
    ]


def _is_ours(entry: os.DirEntry[str]) -> bool:
    return entry.stat(follow_symlinks=False).st_uid == os.geteuid()


@contextlib.contextmanager
def _free_lock(place: Path) -> Iterator[bool]:
    """True while this process holds a directory's lock, False where a living run has it."""
    try:
        descriptor = os.open(place / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def _complete_report(place: Path) -> Path | None:
    try:
        path = Path(json.loads((place / OWNER_NAME).read_text(encoding="utf-8"))["report"])
        report = RunReport.model_validate_json(path.read_bytes())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if report.status is not RunStatus.RUNNING or report.scratch_dir != str(place):
        return None
    # The guard held the lock until its last rank was gone; only if it was killed too can there be any left.
    kill_marked(report.run_id)
    report.status = RunStatus.INTERRUPTED
    report.finished_at = utc_now()
    report.error = ErrorInfo(
        code="interrupted",
        message="OmniRT ended without finishing this run (killed, or the machine went down)",
        hint="run it again; what it left is in scratch_dir",
        exit_code=137,
    )
    try:
        write_atomic(path, report.model_dump_json(indent=2).encode())
    except OSError:
        return None
    return path


def _remove_keeping_videos(place: Path) -> None:
    folder = OutputPaths(place).folder
    for name in (DELIVERED_NAME, PICTURE_NAME):
        video = place / name
        if video.is_file() and video.stat().st_size > 0:
            video.replace(folder / f"{place.name.removeprefix('.')}.partial.mp4")
            break
    shutil.rmtree(place, ignore_errors=True)
