"""The portrait: what it is, and the form of it that every checkout opens.

Pillow only, for named formats only, and within Pillow's pixel limit, which it checks before anything is
decoded.
"""

from __future__ import annotations

import contextlib
import shutil
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnirt_cli.errors import InputInvalidError, IOFailureError
from omnirt_cli.media.files import regular_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")

_COPIED = {"PNG": "portrait.png", "JPEG": "portrait.jpg"}
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = 5
"""From this EXIF orientation on, width and height change places."""

_THUMBNAIL_SIDE = 512
"""Enough for a face of a twentieth of the picture to be found in it."""

_UPRIGHT = 1
_MIN_SIDE = 16


@dataclass(frozen=True)
class Portrait:
    """A picture that can be rendered.

    Attributes:
        format: Pillow's name: one of `FORMATS`.
        width: Pixels, as stored: before an EXIF rotation.
        height: Pixels, as stored.
        mode: Pillow's name of the pixel layout, e.g. `RGB`, `RGBA`, `P`, `CMYK`, `I;16`.
        exif_orientation: 1 for upright, 2 to 8 for the others.
        frames: More than one for an animation.
        mean_luma: 0 (black) to 255, of the picture as it is rendered.
        thumbnail: The rendered picture in grey, its longer side at most 512 pixels.
    """

    path: Path
    format: str
    width: int
    height: int
    mode: str
    exif_orientation: int
    has_alpha: bool
    frames: int
    mean_luma: float
    thumbnail: Image.Image | None = field(default=None, repr=False, compare=False)

    @property
    def plain(self) -> bool:
        """Every checkout opens the file as it is, and sees what a viewer sees."""
        upright = self.exif_orientation == _UPRIGHT
        return self.format in _COPIED and self.mode == "RGB" and upright and not self.has_alpha and self.frames == 1

    @property
    def upright_width(self) -> int:
        """Pixels, after an EXIF rotation."""
        return self.width if self.exif_orientation < _SIDEWAYS else self.height

    @property
    def upright_height(self) -> int:
        """Pixels, after an EXIF rotation."""
        return self.height if self.exif_orientation < _SIDEWAYS else self.width

    @property
    def bare_name(self) -> str:
        """The name under which `write_portrait` puts it."""
        return _COPIED[self.format] if self.plain else _COPIED["PNG"]

    def facts(self) -> dict[str, Any]:
        """What the report says of it."""
        return {
            "format": self.format,
            "width": self.width,
            "height": self.height,
            "mode": self.mode,
            "exif_orientation": self.exif_orientation,
            "has_alpha": self.has_alpha,
            "frames": self.frames,
            "mean_luma": round(self.mean_luma, 2),
        }


def inspect_portrait(path: Path) -> Portrait:
    """Decode a picture once and say what it is.

    Raises:
        InputMissingError: The file is not there.
        InputInvalidError: It is not a PNG, JPEG, WebP, BMP or TIFF picture, is truncated, or has too many
            pixels.
    """
    from PIL import Image, UnidentifiedImageError

    regular_file(path, "image")
    try:
        with _opened(path) as image:
            _refuse_tiny(path, image)
            return _describe(path, image)
    except UnidentifiedImageError:
        raise InputInvalidError(
            f"the image {path} is not a picture that can be used", hint=f"give one of {', '.join(FORMATS)}"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputInvalidError(f"the image {path} has too many pixels: {error}", hint="scale it down") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
    ) as error:  # what Pillow's decoders raise for damaged files
        raise InputInvalidError(f"the image {path} is damaged: {error}", hint="copy or export it again") from error


def write_portrait(portrait: Portrait, directory: Path) -> str:
    """Put the portrait into the working directory, and return its bare name there.

    A plain picture is copied byte for byte. Any other becomes an 8-bit RGB PNG: rotated as its EXIF says,
    transparency on white, the first frame of an animation. `copy_advice` says so.

    Raises:
        IOFailureError: The copy cannot be written.
    """
    name = _COPIED[portrait.format] if portrait.plain else "portrait.png"
    try:
        if portrait.plain:
            shutil.copyfile(portrait.path, directory / name)
        else:
            _save_normal(portrait.path, directory / name)
    except OSError as error:
        raise IOFailureError(
            f"the portrait cannot be copied to {directory}: {error.strerror or error}",
            hint="check free space",
        ) from error
    return name


def crop_luma(portrait: Portrait, width: int, height: int) -> float:
    """Mean luma (0 to 255) of what the model sees: scaled to cover `width` x `height`, centre-cropped."""
    from PIL import ImageStat

    if portrait.thumbnail is None:
        return portrait.mean_luma
    small = portrait.thumbnail
    scale = min(small.width / width, small.height / height)
    seen_width, seen_height = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (small.width - seen_width) // 2, (small.height - seen_height) // 2
    seen = small.crop((left, top, left + seen_width, top + seen_height))
    return float(ImageStat.Stat(seen).mean[0])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture, its pixels not read yet; what Pillow warns of as a decompression bomb is an error here."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=FORMATS) as image:
            yield image


def _refuse_tiny(path: Path, image: Image.Image) -> None:
    if min(image.size) < _MIN_SIDE:
        raise InputInvalidError(
            f"the image {path} has {image.width}x{image.height} pixels, too few for a portrait",
            hint="give a picture of the face at the size of the video or larger",
        )


def _describe(path: Path, image: Image.Image) -> Portrait:
    stored = _Stored(
        format=str(image.format),
        mode=image.mode,
        orientation=int(image.getexif().get(_EXIF_ORIENTATION, _UPRIGHT) or _UPRIGHT),
        has_alpha=image.has_transparency_data,
        frames=int(getattr(image, "n_frames", 1)),
    )
    width, height = image.size
    small = _normal(image).convert("L")
    small.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    mean = sum(level * count for level, count in enumerate(small.histogram())) / (small.width * small.height)
    return Portrait(
        path=path,
        format=stored.format,
        width=width,
        height=height,
        mode=stored.mode,
        exif_orientation=stored.orientation,
        has_alpha=stored.has_alpha,
        frames=stored.frames,
        mean_luma=mean,
        thumbnail=small,
    )


@dataclass(frozen=True)
class _Stored:
    """What a file says of itself; decoding may change Pillow's view of it."""

    format: str
    mode: str
    orientation: int
    has_alpha: bool
    frames: int


def _normal(image: Image.Image) -> Image.Image:
    """An upright, opaque, 8-bit RGB picture of the first frame."""
    from PIL import Image, ImageOps

    image.seek(0)
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        upright = _eight_bit(upright)
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        return Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB")
    return upright.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit and float greys in 8 bits: Pillow's own conversion clips them instead of scaling."""
    levels = image.convert("F")
    white = 65535.0 if image.mode != "F" else 1.0 if _is_fraction(levels) else 255.0
    return levels.point(lambda level: level * (255.0 / white) + 0.0).convert("L")


def _is_fraction(levels: Image.Image) -> bool:
    brightest = levels.getextrema()[1]
    return isinstance(brightest, float) and brightest <= 1


def _save_normal(source: Path, destination: Path) -> None:
    with _opened(source) as image:
        _normal(image).save(destination, "PNG", compress_level=1)
