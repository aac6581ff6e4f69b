from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omnirt_cli.errors import InputInvalidError, InputMissingError, IOFailureError
from omnirt_cli.media.image import crop_luma, inspect_portrait, write_portrait
from omnirt_cli.media.portrait_advice import copy_advice


@pytest.fixture
def face() -> Image.Image:
    """120 x 80, its left third dark, the rest bright."""
    grey = np.full((80, 120, 3), 200, np.uint8)
    grey[:, :40] = (20, 30, 40)
    return Image.fromarray(grey)


def written(path: Path, folder: Path) -> Image.Image:
    folder.mkdir()
    name = write_portrait(inspect_portrait(path), folder)
    with Image.open(folder / name) as image:
        image.load()
        return image


def test_a_plain_picture_is_copied_byte_for_byte(tmp_path: Path, face: Image.Image) -> None:
    (tmp_path / "work").mkdir()
    for name, expected in (("my.photo.png", "portrait.png"), ("-x.JPG", "portrait.jpg")):
        face.save(tmp_path / name)
        found = inspect_portrait(tmp_path / name)
        assert found.plain
        assert list(copy_advice(found)) == []
        assert (found.width, found.height, found.frames) == (120, 80, 1)
        assert write_portrait(found, tmp_path / "work") == expected
        assert (tmp_path / "work" / expected).read_bytes() == (tmp_path / name).read_bytes()


def test_an_exif_rotation_is_applied(tmp_path: Path, face: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    face.save(tmp_path / "a.jpg", exif=exif)
    found = inspect_portrait(tmp_path / "a.jpg")
    assert found.exif_orientation == 6
    assert "rotated" in next(copy_advice(found)).message
    upright = written(tmp_path / "a.jpg", tmp_path / "work")
    assert (upright.size, upright.format) == ((80, 120), "PNG")
    assert upright.getpixel((40, 5))[0] < 60  # the stored left side is the top now
    assert upright.getexif().get(0x0112, 1) == 1


def test_transparency_becomes_white(tmp_path: Path, face: Image.Image) -> None:
    face.putalpha(Image.fromarray(np.repeat(np.uint8([[0, 255]]), 60, axis=1).repeat(80, axis=0)))
    face.save(tmp_path / "a.png")
    assert "transparent" in next(copy_advice(inspect_portrait(tmp_path / "a.png"))).message
    flat = written(tmp_path / "a.png", tmp_path / "work")
    assert flat.mode == "RGB"
    assert flat.getpixel((5, 5)) == (255, 255, 255)
    assert flat.getpixel((110, 5)) == (200, 200, 200)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((50, 50), 0x8000, np.uint16)).save(tmp_path / "a.png")
    found = inspect_portrait(tmp_path / "a.png")
    assert found.mode == "I;16"
    assert found.mean_luma == pytest.approx(128, abs=1)
    assert written(tmp_path / "a.png", tmp_path / "work").getpixel((5, 5)) == pytest.approx((128,) * 3, abs=1)


@pytest.mark.parametrize("mode", ["P", "L", "CMYK", "LA"])
def test_other_pixel_layouts_become_rgb(tmp_path: Path, face: Image.Image, mode: str) -> None:
    face.convert(mode).save(tmp_path / "a.tiff")
    normal = written(tmp_path / "a.tiff", tmp_path / "work")
    assert (normal.format, normal.mode, normal.size) == ("PNG", "RGB", (120, 80))
    assert normal.convert("L").getpixel((100, 40)) > normal.convert("L").getpixel((10, 40)) + 100


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_the_first_frame_of_an_animation_is_used(tmp_path: Path, face: Image.Image, name: str) -> None:
    black = Image.new("RGB", face.size)
    face.save(tmp_path / name, save_all=True, append_images=[black], lossless=True)
    found = inspect_portrait(tmp_path / name)
    assert found.frames == 2
    assert any("frames; the first is used" in advice.message for advice in copy_advice(found))
    assert written(tmp_path / name, tmp_path / "work").getpixel((110, 5))[0] > 190


def bomb(width: int, height: int) -> bytes:
    """A PNG header of so many pixels with next to nothing behind it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    body = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def test_what_is_no_picture_is_refused_with_its_reason(tmp_path: Path, face: Image.Image) -> None:
    for name in ("whole.png", "whole.jpg", "whole.gif"):
        Image.effect_noise((200, 200), 90).convert("RGB").save(tmp_path / name)
    png, jpg = (tmp_path / "whole.png").read_bytes(), (tmp_path / "whole.jpg").read_bytes()
    bad = (
        ("not a picture", b"text, whatever its name says"),
        ("not a picture", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"),
        ("not a picture", (tmp_path / "whole.gif").read_bytes()),
        ("0 bytes", b""),
        ("damaged", png[: len(png) // 2]),
        ("damaged", jpg[: len(jpg) // 2]),
        ("too many pixels", bomb(20_000, 20_000)),
        ("too many pixels", bomb(10_000, 9_500)),
    )
    for reason, data in bad:
        (tmp_path / "bad.png").write_bytes(data)
        with pytest.raises(InputInvalidError, match=reason) as caught:
            inspect_portrait(tmp_path / "bad.png")
        assert caught.value.hint


def test_a_picture_of_a_few_pixels_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 200)).save(tmp_path / "a.png")
    with pytest.raises(InputInvalidError, match="too few"):
        inspect_portrait(tmp_path / "a.png")


def test_a_missing_picture_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        inspect_portrait(tmp_path / "no.png")


def test_luma_is_that_of_the_centre_crop(tmp_path: Path, face: Image.Image) -> None:
    face.save(tmp_path / "a.png")
    found = inspect_portrait(tmp_path / "a.png")
    assert found.mean_luma == pytest.approx((29 + 2 * 200) / 3, abs=3)
    assert crop_luma(found, 30, 80) == pytest.approx(200, abs=1)  # the bright middle only
    assert crop_luma(found, 1200, 800) == pytest.approx(found.mean_luma, abs=0.5)


def test_a_portrait_that_cannot_be_copied_is_an_io_error(tmp_path: Path, face: Image.Image) -> None:
    face.save(tmp_path / "a.png")
    with pytest.raises(IOFailureError, match="cannot be copied"):
        write_portrait(inspect_portrait(tmp_path / "a.png"), tmp_path / "no")
