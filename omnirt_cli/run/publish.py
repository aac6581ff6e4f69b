"""From what the script left to a verified video in its place; what fails on the way is kept and named.

The picture comes from the script's result, or, where its mux lost that, from the silent video that a second link kept.
The sound is the user's own. Only a verified file gets the output's name, by a rename on one file system.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from omnirt_cli import __version__
from omnirt_cli.checks import Check, CheckStatus, skipped
from omnirt_cli.errors import OutputInvalidError, OutputUncreatableError
from omnirt_cli.media.deliver import deliver
from omnirt_cli.media.files import sha256_of
from omnirt_cli.media.image import crop_luma
from omnirt_cli.media.streams import count_packets, read_streams, start_probe
from omnirt_cli.media.verify import Expectation, VideoFacts, verify_video
from omnirt_cli.models.base import MODEL_DEFAULT, KnobValue
from omnirt_cli.plan import Plan
from omnirt_cli.report import Artifact
from omnirt_cli.run.scratch import Scratch

if TYPE_CHECKING:
    from omnirt_cli.media.decode import Seen


@dataclass(frozen=True)
class Picture:
    """Where the frames are.

    Attributes:
        repaired: The script's own result is lost or useless; this is its silent video.
        frames: As the file's header counts them, or as many as were seen and are wanted.
        seen: What was measured of them while they were made, where they were decoded then.
    """

    path: Path
    frames: int
    repaired: bool
    seen: Seen | None = None


def find_picture(plan: Plan, scratch: Scratch) -> Picture | None:
    """The best picture that the script left: its result, else the silent video, else None."""
    wanted = plan.expected.frames
    seen = scratch.follower.result() if scratch.follower is not None else None
    if seen is not None and seen.picture.count >= wanted:
        return Picture(scratch.picture, seen.picture.count, repaired=False, seen=seen)
    result = scratch.path / plan.call.result_name
    result_frames = count_frames(result)
    if result_frames >= wanted:
        return Picture(result, result_frames, repaired=False)
    silent_frames = count_frames(scratch.picture)
    if silent_frames > result_frames:
        return Picture(scratch.picture, silent_frames, repaired=True)
    return Picture(result, result_frames, repaired=False) if result_frames else None


def count_frames(video: Path) -> int:
    """Frames by the header's word, else counted; 0 for a file that is missing, empty or no video."""
    try:
        if video.stat().st_size == 0:
            return 0
    except OSError:
        return 0
    with start_probe(video) as probe:
        picture = read_streams(probe).picture
    if picture is None:
        return 0
    return count_packets(video) if picture.frames is None else picture.frames


def deliver_picture(plan: Plan, scratch: Scratch, picture: Picture, revision: str | None) -> None:
    """Put picture and sound together in the scratch directory.

    Raises:
        InputInvalidError: The recording was written to since it was inspected.
        OutputInvalidError: ffmpeg could not make the file.
        IOFailureError: The disk is full.
    """
    recording = scratch.recording
    assert recording is not None, "the inputs are held before anything runs"
    recording.refuse_changed("recording")
    deliver(
        picture.path,
        recording.path,
        frames=plan.expected.frames,
        fps=plan.geometry.fps,
        duration_s=plan.speech.duration_s,
        cut=plan.audio.cut,
        speech=plan.speech,
        metadata=provenance(plan, revision) if plan.publish.metadata else {},
        destination=scratch.delivered,
        ready=scratch.sound,
    )
    recording.refuse_changed("recording")


def provenance(plan: Plan, revision: str | None) -> dict[str, str]:
    """What the video says of itself: that it is AI-generated, by what, and from which run."""
    info = plan.adapter.info
    seed = plan.config.get("seed", KnobValue(info.default_seed, MODEL_DEFAULT)).value
    made_by = "a CPU miniature of " + info.id if plan.checkout.miniature else info.id
    return {
        "comment": (
            f"AI-generated talking-head video. Model: {made_by}; checkout revision: {revision or 'unknown'}; "
            f"seed: {seed}; run: {plan.run_id}; made with OmniRT {__version__}"
        ),
        "ai_generated": "true",
        "model": made_by,
        "model_revision": revision or "unknown",
        "seed": str(seed),
        "omnirt_run_id": plan.run_id,
    }


def verify(plan: Plan, video: Path, seen: Seen | None = None) -> tuple[list[Check], VideoFacts | None]:
    """Check a video against the plan; checks that the user left out say so.

    Args:
        plan: What was asked for.
        video: The file.
        seen: What was measured of its picture while that was made (`Picture.seen`).
    """
    if plan.verify.mode == "off":
        return [skipped("file", "verification is off")], None
    expectation = Expectation(
        frames=plan.expected.frames,
        fps=plan.expected.fps,
        width=plan.expected.width,
        height=plan.expected.height,
        duration_s=plan.expected.duration_s,
        speech=plan.speech,
        portrait_luma=crop_luma(plan.portrait, plan.expected.width, plan.expected.height),
        allow_black=plan.verify.allow_black,
        allow_frozen=plan.verify.allow_frozen,
    )
    mode: Literal["full", "fast"] = "fast" if plan.verify.mode == "fast" else "full"
    verification = verify_video(video, expectation, mode=mode, seen=seen)
    checks = [_unless_skipped(check, plan.verify.skip) for check in verification.checks]
    if not plan.size_is_known:
        checks = [_unless_guessed(check) for check in checks]
    return checks, verification.facts


def _unless_skipped(check: Check, skip: frozenset[str]) -> Check:
    return skipped(check.name, "left out by --skip-check") if check.name in skip else check


def _unless_guessed(check: Check) -> Check:
    if check.name != "size" or check.status is not CheckStatus.FAILED:
        return check
    why = "nothing in this checkout tells its size; the expected one is the model's usual"
    return check.model_copy(update={"status": CheckStatus.WARNED, "detail": why})


def refuse_invalid(checks: list[Check]) -> None:
    """Raise for a video that failed a check.

    Raises:
        OutputInvalidError: Names every failed check, expected against actual.
    """
    failed = [check for check in checks if check.status is CheckStatus.FAILED]
    if failed:
        raise OutputInvalidError(
            "the video is not what was asked for: " + "; ".join(_told(check) for check in failed),
            hint="the rejected video was kept beside the report; the log shows what the script did",
        )


Fingerprint = tuple[int, int, int]
"""Which file it is, how long, and when it was last written."""


def fingerprint(video: Path) -> Fingerprint | None:
    """What tells a file from another under its name; None where there is none."""
    try:
        facts = video.stat(follow_symlinks=False)
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def refuse_changed(video: Path, made: Fingerprint | None) -> None:
    """Raise where the file that was checked is not the one that was made.

    Raises:
        OutputInvalidError: It was removed, replaced or written to meanwhile.
    """
    if made is None or fingerprint(video) != made:
        raise OutputInvalidError(
            "the video was removed or replaced while it was checked",
            hint="find out which program works in the output directory, or choose another --output-dir",
        )


def _told(check: Check) -> str:
    if check.expected is None and check.actual is None:
        return f"{check.name} ({check.detail})" if check.detail else check.name
    told = f"{check.name} (expected {check.expected}, found {check.actual})"
    return f"{told}: {check.detail}" if check.detail else told


def put_in_place(source: Path, video: Path, *, no_clobber: bool) -> None:
    """Give a file its final name; a reader sees the old file or the new one.

    Raises:
        OutputUncreatableError: The name is taken and may not be replaced.
        OSError: The place cannot be written.
    """
    _flush(source)
    if not no_clobber:
        source.replace(video)
        return
    try:
        os.link(source, video)
    except FileExistsError as error:
        raise OutputUncreatableError(f"{video} appeared during the run, and --no-clobber was given") from error
    source.unlink()


def _flush(path: Path) -> None:
    """Have the bytes on disk before the name points at them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keep(source: Path, place: Path) -> Path | None:
    """Keep a file of a failed run under a name that says so; None where there is nothing in it."""
    try:
        if source.stat().st_size == 0:
            return None
        source.replace(place)
    except OSError:
        return None
    return place


def artifact(video: Path, facts: VideoFacts | None) -> Artifact:
    """The report's entry for a delivered or kept video."""
    size, digest = video.stat().st_size, sha256_of(video)
    if facts is None:
        return Artifact(path=str(video), size_bytes=size, sha256=digest)
    return Artifact(
        path=str(video),
        sha256=digest,
        width=facts.width,
        height=facts.height,
        num_frames=facts.num_frames,
        fps=facts.fps,
        duration_s=facts.duration_s,
        size_bytes=size,
    )
