"""What every render needs of the machine, whatever the model: ffmpeg that is able, room, places to write."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from omnirt_cli import bounded, host_memory
from omnirt_cli.checks import Check, CheckStatus, failed, passed, skipped, warned
from omnirt_cli.devices.leases import LeaseDirectory
from omnirt_cli.doctor.examination import Section
from omnirt_cli.errors import OmniRTError
from omnirt_cli.output_paths import existing_folder
from omnirt_cli.planner.launch import user_cache
from omnirt_cli.runs.place import DataPlace
from omnirt_cli.settings import Surroundings

_MEDIA_TIMEOUT_S = 30.0
_FFMPEG = "ffmpeg"
_WAV_IN_MP4 = "wav_in_mp4"
_DISK = "disk"
_HOST_MEMORY = "host_memory"
_LEASES = "leases"
_RUN_STORE = "run_store"
_USER_CACHE = "user_cache"
_LITTLE_ROOM = 2 << 30
"""Below this a long video and its temporary copies may not fit; the disk check of a run counts exactly."""
_LITTLE_MEMORY = 4 << 30


def look_at_machine(around: Surroundings, output: Path) -> Section:
    """Look at everything; nothing here takes more than a second or two."""
    ffmpeg = _looked(_FFMPEG, _ffmpeg)
    usable = ffmpeg.status is CheckStatus.PASSED
    checks: dict[str, Callable[[], Check]] = {
        _WAV_IN_MP4: lambda: _wav_in_mp4() if usable else skipped(_WAV_IN_MP4, "ffmpeg cannot be used"),
        _DISK: lambda: _room(output),
        _HOST_MEMORY: _memory,
        _LEASES: lambda: _leases(around),
        _RUN_STORE: _run_store,
        _USER_CACHE: _user_cache,
    }
    return Section(title="machine", checks=[ffmpeg, *(_looked(name, check) for name, check in checks.items())])


def _looked(name: str, check: Callable[[], Check]) -> Check:
    """A check's verdict; what the operating system keeps from it is told, for doctor is there to tell."""
    try:
        return check()
    except OSError as error:
        return warned(name, detail=f"could not be looked at: {error}")


def _ffmpeg() -> Check:
    from omnirt_cli.media.tool_versions import require_tools
    from omnirt_cli.media.tools import ffmpeg_version, find_tool, tool_version

    try:
        require_tools(tool_version)
        version = ffmpeg_version()
        encoders = _said(find_tool("ffmpeg"), "-hide_banner", "-encoders")
    except OmniRTError as error:
        return failed(_FFMPEG, detail=error.message, hint=error.hint)
    missing = [name for name in ("libx264", "aac") if f" {name} " not in encoders]
    if missing:
        return failed(
            _FFMPEG,
            detail=f"{find_tool('ffmpeg')} {version} has no encoder {' and no encoder '.join(missing)}",
            hint="install a full build (Debian, Ubuntu: `apt-get install ffmpeg`)",
        )
    return passed(_FFMPEG, detail=f"{version}, {find_tool('ffmpeg')}")


def _wav_in_mp4() -> Check:
    """Whether this ffmpeg copies WAV into MP4, as the oldest FlashTalk script asks of it."""
    from omnirt_cli.media.tools import find_tool

    ffmpeg = find_tool("ffmpeg")
    with tempfile.TemporaryDirectory(prefix="omnirt-doctor-") as folder:
        target = Path(folder, "copy.mp4")
        _said(
            ffmpeg, "-v", "error", "-f", "lavfi", "-i", "sine=d=0.2:r=16000", "-c:a", "pcm_s16le",
            "-f", "wav", str(Path(folder, "tone.wav")),
        )  # fmt: skip
        _said(ffmpeg, "-v", "error", "-i", str(Path(folder, "tone.wav")), "-c", "copy", str(target))
        able = target.is_file() and target.stat().st_size > 0
    if able:
        return passed(_WAV_IN_MP4, detail="this ffmpeg copies WAV into MP4")
    return warned(
        _WAV_IN_MP4,
        detail="this ffmpeg cannot copy WAV into MP4, which loses the video of a checkout that is run by hand",
        hint="OmniRT works around it; ffmpeg 7 and later can",
    )


def _said(*argv: str) -> str:
    try:
        return bounded.run(argv, timeout_s=_MEDIA_TIMEOUT_S).stdout.decode("utf-8", "replace")
    except OSError:
        return ""


def _room(output: Path) -> Check:
    folder = existing_folder(output)
    name = _DISK
    if not os.access(folder, os.W_OK | os.X_OK):
        return failed(name, detail=f"{folder} cannot be written by this user", hint="choose another --output-dir")
    free = shutil.disk_usage(folder).free
    detail = f"{free / 2**30:.1f} GiB free in {folder}"
    if free < _LITTLE_ROOM:
        return warned(name, detail=detail, hint="free some space before a long render")
    return passed(name, detail=detail)


def _memory() -> Check:
    there = host_memory.available()
    name = _HOST_MEMORY
    if there.bytes is None:
        return skipped(name, f"how much memory is free is not known ({there.limited_by})")
    detail = f"{there.bytes / 2**30:.1f} GiB can be taken ({there.limited_by})"
    if there.bytes < _LITTLE_MEMORY:
        return warned(name, detail=detail, hint="the scripts keep every frame in memory: 1 min of 448*768 is 6 GiB")
    return passed(name, detail=detail)


def _leases(around: Surroundings) -> Check:
    try:
        directory = LeaseDirectory.open(around.environ)
    except OmniRTError as error:
        return failed(_LEASES, detail=error.message, hint=error.hint)
    return passed(_LEASES, detail=f"device leases are kept in {directory.path}")


def _run_store() -> Check:
    try:
        place = DataPlace.current().root
    except OSError as error:
        return warned(_RUN_STORE, detail=f"`omnirt runs` has no place: {error}", hint="set OMNIRT_DATA_DIR")
    folder = existing_folder(place)
    if not os.access(folder, os.W_OK | os.X_OK):
        return warned(
            _RUN_STORE,
            detail=f"{folder} cannot be written: renders work, but `omnirt runs` will not know of them",
            hint="set OMNIRT_DATA_DIR",
        )
    return passed(_RUN_STORE, detail=str(place))


def _user_cache() -> Check:
    place = user_cache()
    if place is not None:
        return passed(_USER_CACHE, detail=str(place))
    return warned(
        _USER_CACHE,
        detail="this user's cache cannot be written: renders work, but start without what earlier ones left",
        hint="set HOME or XDG_CACHE_HOME to a folder of this user's",
    )
