"""What becomes of a portrait before a model animates it, said while it can still be changed.

Advice and no verdict: a picture that can be opened can be rendered. Knows what `write_portrait` does to a file and that
the SoulX scripts scale the portrait to cover the video and crop its centre (`resize_and_centercrop` of FlashTalk and
FlashHead, `center_rescale_crop_keep_ratio` of LiveAct). Must not decode anything: the facts are found elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omnirt_cli.media.faces import Face
    from omnirt_cli.media.image import Portrait

MOST_CUT_AWAY = 0.42
"""More of the picture than this cut away is said: the 44 % that 1920x1080 loses to 512x512, where portraits lost their
sides (SoulX-FlashHead issue 73), not what a square picture loses to the 7:12 of FlashTalk."""

MOST_ENLARGED = 1.5
"""A picture enlarged more than this is visibly softer than the video could be."""

SMALLEST_FACE_PX = 64
"""From brow to chin, in the video. The Wan VAE makes one latent of 8 pixels, the transformer one token of two latents a
side: at 64 pixels the mouth, a quarter of the face, is one token of 16 pixels tall."""

MOST_FACE_CUT = 0.05
"""Of the face's area; the box around a face is no more exact than this."""

_PLAIN_FORMATS = frozenset({"PNG", "JPEG"})
_PLAIN_MODES = frozenset({"RGB", "RGBA"})
_UPRIGHT = 1


class AdviceName(str, Enum):
    """What is advised about: first what the copy for the script changes, then what the script does with the copy."""

    ROTATED = "rotated"
    FLATTENED = "flattened"
    FIRST_FRAME = "first_frame"
    CONVERTED = "converted"
    CROPPED = "cropped"
    ENLARGED = "enlarged"
    NO_FACE = "no_face"
    SEVERAL_FACES = "several_faces"
    SMALL_FACE = "small_face"
    CUT_FACE = "cut_face"


@dataclass(frozen=True)
class Advice:
    """One thing that a person may want to change, in one sentence."""

    name: AdviceName
    message: str


def advise(portrait: Portrait, size: tuple[int, int] | None, faces: Sequence[Face] | None = None) -> tuple[Advice, ...]:
    """All that can be said about a portrait.

    Args:
        portrait: What `inspect_portrait` found.
        size: Width and height of the video; None where the script finds and crops the face itself.
        faces: What `find_faces` found, the largest first; None where nobody looked, and nothing is said of faces.
    """
    advice = [*copy_advice(portrait)]
    crop = _Crop.of(portrait, *size) if size is not None else None
    if crop is not None:
        advice += _framing_advice(portrait, crop)
    if faces is not None:
        advice += _count_advice(portrait, faces)
    if crop is not None and faces:
        advice += _face_advice(portrait, crop, faces[0])
    return tuple(advice)


def copy_advice(portrait: Portrait) -> Iterator[Advice]:
    """What `write_portrait` changes in the copy that the script opens."""
    image = f"the image {portrait.path}"
    if portrait.exif_orientation != _UPRIGHT:
        orientation = portrait.exif_orientation
        yield Advice(AdviceName.ROTATED, f"{image} is rotated as its EXIF orientation ({orientation}) says")
    if portrait.has_alpha:
        yield Advice(AdviceName.FLATTENED, f"{image} has transparent parts; they become white")
    if portrait.frames > 1:
        yield Advice(AdviceName.FIRST_FRAME, f"{image} has {portrait.frames} frames; the first is used")
    if portrait.mode not in _PLAIN_MODES:
        yield Advice(AdviceName.CONVERTED, f"{image} is converted from {portrait.mode} to RGB")
    if portrait.format not in _PLAIN_FORMATS:
        yield Advice(AdviceName.CONVERTED, f"{image} is converted from {portrait.format} to PNG")


@dataclass(frozen=True)
class _Crop:
    """How the upright picture becomes a frame: scaled to cover it, then its centre cut out.

    Attributes:
        scale: Pixels of the video per pixel of the picture.
        kept_width: The part of the picture's width that stays, 0 to 1.
        kept_height: The same of its height.
    """

    width: int
    height: int
    scale: float
    kept_width: float
    kept_height: float

    @classmethod
    def of(cls, portrait: Portrait, width: int, height: int) -> _Crop:
        scale = max(width / portrait.upright_width, height / portrait.upright_height)
        kept_width = width / (portrait.upright_width * scale)
        kept_height = height / (portrait.upright_height * scale)
        return cls(width, height, scale, kept_width, kept_height)

    @property
    def cut_away(self) -> float:
        """The part of the picture that the video does not show."""
        return 1 - self.kept_width * self.kept_height

    def kept_of(self, face: Face) -> float:
        """The part of a face that the video shows."""
        across = _overlap(face.left, face.width, self.kept_width)
        down = _overlap(face.top, face.height, self.kept_height)
        return across * down


def _overlap(start: float, length: float, kept: float) -> float:
    """The part of a stretch that lies within the middle `kept` of a line from 0 to 1."""
    border = (1 - kept) / 2
    inside = min(start + length, 1 - border) - max(start, border)
    return max(0.0, inside) / length


def _framing_advice(portrait: Portrait, crop: _Crop) -> Iterator[Advice]:
    image = f"the image {portrait.path} of {portrait.upright_width}x{portrait.upright_height}"
    frame = f"{crop.width}x{crop.height}"
    if crop.cut_away > MOST_CUT_AWAY:
        yield Advice(
            AdviceName.CROPPED,
            f"{image} is scaled and centre-cropped to {frame}: {_cut_sides(crop)}; "
            "crop it to that shape to choose what stays",
        )
    if crop.scale > MOST_ENLARGED:
        yield Advice(
            AdviceName.ENLARGED,
            f"{image} is enlarged {crop.scale:.1f} times to fill {frame}; a larger one makes a sharper video",
        )


def _cut_sides(crop: _Crop) -> str:
    if crop.kept_width < crop.kept_height:
        return f"{(1 - crop.kept_width) / 2:.0%} is cut off on the left and on the right"
    return f"{(1 - crop.kept_height) / 2:.0%} is cut off at the top and at the bottom"


def _count_advice(portrait: Portrait, faces: Sequence[Face]) -> Iterator[Advice]:
    image = f"in the image {portrait.path}"
    if not faces:
        yield Advice(
            AdviceName.NO_FACE,
            f"no face was found {image} (one that is drawn, turned or half hidden can be missed); "
            "the model moves whatever is there",
        )
    elif len(faces) > 1:
        yield Advice(
            AdviceName.SEVERAL_FACES,
            f"{len(faces)} faces were found {image}, and there is one voice for all; crop it to the one that speaks",
        )


def _face_advice(portrait: Portrait, crop: _Crop, face: Face) -> Iterator[Advice]:
    """What becomes of the largest face."""
    image, frame = f"the image {portrait.path}", f"{crop.width}x{crop.height}"
    tall = round(face.height * portrait.upright_height * crop.scale)
    if tall < SMALLEST_FACE_PX:
        yield Advice(
            AdviceName.SMALL_FACE,
            f"the face in {image} is {tall} pixels tall in the {frame} video, too few for its mouth to move clearly; "
            "crop the image closer to the face",
        )
    lost = 1 - crop.kept_of(face)
    if lost > MOST_FACE_CUT:
        yield Advice(
            AdviceName.CUT_FACE,
            f"{image} is scaled and centre-cropped to {frame}, which cuts off {lost:.0%} of the face; "
            "crop it so that the face is in the middle",
        )
