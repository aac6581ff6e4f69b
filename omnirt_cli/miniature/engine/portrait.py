"""Reading the portrait as the variants do: a file, the first PNG of a directory, a crop around the face."""

from pathlib import Path

from PIL import Image

from engine.face import find


def read(path: str) -> Image.Image:
    """The picture in RGB.

    Raises:
        FileNotFoundError: there is none.
    """
    with Image.open(path) as picture:
        return picture.convert("RGB")


def first_of(path_or_dir: str) -> Image.Image:
    """The picture, or of a directory the first ``*.png`` by name; the others are never used.

    Raises:
        AttributeError: the directory has no PNG (the real script fails so).
    """
    if not Path(path_or_dir).is_dir():
        return read(path_or_dir)
    pictures = sorted(Path(path_or_dir).glob("*.png"))
    if not pictures:
        raise AttributeError("'FlashHeadPipeline' object has no attribute 'person_name'")
    return read(str(pictures[0]))


def face_crop(picture: Image.Image) -> Image.Image:
    """A square around the face, as much of it as the picture holds."""
    face = find(picture)
    half = min(2.2 * face.d, picture.width / 2, picture.height / 2)
    x = min(max(face.center[0], half), picture.width - half)
    y = min(max(face.center[1] + 0.4 * face.d, half), picture.height - half)
    return picture.crop((round(x - half), round(y - half), round(x + half), round(y + half)))
