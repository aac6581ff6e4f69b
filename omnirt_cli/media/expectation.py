"""What a finished video must be: the one thing that verification is told."""

from __future__ import annotations

from dataclasses import dataclass

from omnirt_cli.media.audio import Speech


@dataclass(frozen=True)
class Expectation:
    """What the video must be.

    Attributes:
        frames: Exactly; OmniRT's own mux cuts by count.
        duration_s: Of the picture.
        frame_tolerance: Frames more or fewer that pass, for a video that OmniRT did not cut itself.
        speech: The driving sound, which says where speech is audible; None where it is not known.
        portrait_luma: Mean luma (0 to 255) of the portrait as the model crops it; None where it is not known.
        allow_black: A black picture only warns.
        allow_frozen: A still picture only warns.
    """

    frames: int
    fps: float
    width: int
    height: int
    duration_s: float
    frame_tolerance: int = 0
    speech: Speech | None = None
    portrait_luma: float | None = None
    allow_black: bool = False
    allow_frozen: bool = False
