"""What an unfinished run of the driver is still good for: a shorter video, with its sound, verified like a whole one.

The driver's silent video is playable up to its last piece, whatever ended the run. Of it the whole chunks are taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from omnirt_cli.checks import Check, CheckStatus, passed
from omnirt_cli.errors import OutputInvalidError
from omnirt_cli.plan import Plan
from omnirt_cli.run import publish
from omnirt_cli.run.scratch import Scratch

CHECK_NAME = "partial_video"


@dataclass(frozen=True)
class Part:
    """The finished chunks as a video of their own.

    Attributes:
        check: For the report: how much of it there is, and that it was verified.
    """

    path: Path
    check: Check


def finish(plan: Plan, scratch: Scratch) -> Part | None:
    """Put the whole chunks of an unfinished picture and their sound together under the partial video's name.

    Returns:
        The video; None where not even one chunk is whole.

    Raises:
        OutputInvalidError: What came of it fails a check; nothing is kept.
        IOFailureError, OSError: It cannot be written.
    """
    frames = publish.count_frames(scratch.picture)
    chunks = whole_chunks(plan, frames)
    if chunks == 0:
        return None
    part = shortened(plan, chunks)
    picture = publish.Picture(scratch.picture, frames, repaired=False)
    try:
        publish.deliver_picture(part, scratch, picture, plan.checkout.revision)
        checks, _ = publish.verify(part, scratch.delivered)
        failed = [check for check in checks if check.status is CheckStatus.FAILED]
        if failed:
            raise OutputInvalidError(", ".join(check.name for check in failed))
        scratch.delivered.replace(plan.outputs.partial)
    finally:
        scratch.delivered.unlink(missing_ok=True)
    told = f"{chunks} of {plan.expected.chunks} chunks are whole ({part.expected.duration_s:.2f} s, with sound)"
    return Part(plan.outputs.partial, passed(CHECK_NAME, detail=told))


def whole_chunks(plan: Plan, frames: int) -> int:
    """How many chunks so many frames complete."""
    missing = plan.audio.generated_frames - frames
    lost = -(-missing // plan.geometry.slice_frames) if missing > 0 else 0
    return max(0, plan.audio.chunks - lost)


def shortened(plan: Plan, chunks: int) -> Plan:
    """The plan of a video that ends after so many chunks, sound and all."""
    lost = (plan.audio.chunks - chunks) * plan.geometry.slice_frames
    frames = min(plan.expected.frames, plan.audio.generated_frames - lost)
    duration_s = round(frames / plan.geometry.fps, 6)
    expected = plan.expected.model_copy(update={"chunks": chunks, "frames": frames, "duration_s": duration_s})
    return replace(plan, expected=expected, audio=replace(plan.audio, chunks=chunks, frames=frames, cut=True))
