"""Where the result goes, and whether the disk has room for it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from omnirt_cli.errors import OutputUncreatableError, UsageError
from omnirt_cli.output_paths import OutputPaths, existing_folder, refuse_unwritable
from omnirt_cli.planner.planning import Planning

DEFAULT_OUTPUT_DIR = "outputs"
BYTES_PER_PIXEL_SECOND = 3.0
"""Upper bound of what x264 spends on a talking head at its default quality (measured on the miniature: under 1)."""


def choose_output(planning: Planning) -> None:
    """Decide the video's path, and see that it can be written.

    Raises:
        UsageError: The name is no video's.
        OutputUncreatableError: The place cannot be written.
    """
    folder_or_file = planning.get("output_dir")
    output = planning.get("output")
    if output is None and folder_or_file is not None and folder_or_file.endswith(".mp4"):
        output = None if Path(folder_or_file).is_dir() else folder_or_file
    if output is not None:
        if not output.endswith(".mp4"):
            raise UsageError(f"--output {output}: the name must end in .mp4")
        video = Path(output)
    else:
        folder = Path(folder_or_file) if folder_or_file else planning.around.cwd / DEFAULT_OUTPUT_DIR
        video = folder / f"{planning.adapter.info.id}-{_seed(planning)}-{time.time_ns() // 1_000_000}.mp4"
    planning.draft.outputs = OutputPaths(Path(os.path.abspath(video)))  # noqa: PTH100 - links in it are the user's
    refuse_unwritable(planning.draft.outputs, no_clobber=bool(planning.get("no_clobber")))


def _seed(planning: Planning) -> int:
    said = planning.get("seed")
    return planning.adapter.info.default_seed if said is None else int(said)


def look_at_disk(planning: Planning) -> None:
    """See that the video and its temporary copies find room.

    Raises:
        OutputUncreatableError: They do not.
    """
    draft = planning.draft
    if draft.outputs is None or draft.geometry is None or draft.audio is None:
        return
    seconds = draft.audio.generated_frames / draft.geometry.fps
    needed = 3 * seconds * draft.geometry.width * draft.geometry.height * BYTES_PER_PIXEL_SECOND + (16 << 20)
    facts = os.statvfs(existing_folder(draft.outputs.folder))
    free = facts.f_bavail * facts.f_frsize
    if free < needed:
        raise OutputUncreatableError(
            f"{draft.outputs.folder}: {free / 2**20:.0f} MiB free, the run may need {needed / 2**20:.0f} MiB",
            hint="free some disk space, choose another --output-dir, or --skip-check disk",
        )
