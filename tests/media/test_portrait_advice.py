from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from omnirt_cli.media.faces import Face
from omnirt_cli.media.image import Portrait, inspect_portrait
from omnirt_cli.media.portrait_advice import AdviceName, advise, copy_advice

SQUARE = (512, 512)
MIDDLE = Face(0.3, 0.3, 0.4, 0.4)


def picture(width: int, height: int, **changes: object) -> Portrait:
    facts = {
        "path": Path("me.png"),
        "format": "PNG",
        "width": width,
        "height": height,
        "mode": "RGB",
        "exif_orientation": 1,
        "has_alpha": False,
        "frames": 1,
        "mean_luma": 128.0,
    }
    return Portrait(**{**facts, **changes})


def names(
    portrait: Portrait, size: tuple[int, int] | None = SQUARE, faces: tuple[Face, ...] | None = None
) -> list[str]:
    return [advice.name.value for advice in advise(portrait, size, faces)]


def message(portrait: Portrait, name: AdviceName, faces: tuple[Face, ...] | None = None) -> str:
    return next(advice.message for advice in advise(portrait, SQUARE, faces) if advice.name is name)


@pytest.mark.parametrize(("width", "height"), [(512, 512), (1024, 1024), (768, 1024), (360, 360)])
def test_a_portrait_of_about_the_right_shape_and_size_needs_no_advice(width: int, height: int) -> None:
    assert names(picture(width, height), faces=(MIDDLE,)) == []


def test_a_wide_picture_loses_its_sides_and_says_how_much() -> None:
    said = message(picture(1920, 1080), AdviceName.CROPPED)

    assert "1920x1080 is scaled and centre-cropped to 512x512" in said
    assert "22% is cut off on the left and on the right" in said


def test_a_tall_picture_loses_its_top_and_bottom() -> None:
    assert "25% is cut off at the top and at the bottom" in message(picture(1000, 2000), AdviceName.CROPPED)


def test_an_exif_rotation_comes_before_the_crop() -> None:
    """Stored lying on its side, seen upright: what the crop takes away is top and bottom."""
    turned = picture(2000, 1000, format="JPEG", exif_orientation=6)

    assert names(turned) == ["rotated", "cropped"]
    assert "of 1000x2000 is scaled" in message(turned, AdviceName.CROPPED)
    assert "at the top and at the bottom" in message(turned, AdviceName.CROPPED)


def test_a_small_picture_is_enlarged() -> None:
    assert "300x300 is enlarged 1.7 times to fill 512x512" in message(picture(300, 300), AdviceName.ENLARGED)
    assert names(picture(342, 342)) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"exif_orientation": 3}, "rotated"),
        ({"mode": "RGBA", "has_alpha": True}, "flattened"),
        ({"frames": 7}, "first_frame"),
        ({"mode": "CMYK"}, "converted"),
        ({"format": "WEBP"}, "converted"),
    ],
)
def test_what_the_copy_changes_is_said_once(changes: dict[str, object], name: str) -> None:
    changed = picture(512, 512, **changes)

    assert names(changed) == [name]
    assert tuple(copy_advice(changed)) == advise(changed, SQUARE)


def test_transparency_is_said_of_a_real_file(tmp_path: Path) -> None:
    Image.new("RGBA", (512, 512), (200, 0, 0, 0)).save(tmp_path / "a.png")

    [advice] = advise(inspect_portrait(tmp_path / "a.png"), SQUARE)

    assert advice.name is AdviceName.FLATTENED
    assert "become white" in advice.message


def test_nothing_is_said_of_faces_that_nobody_looked_for() -> None:
    assert names(picture(512, 512), faces=None) == []


def test_no_face_is_advice_that_admits_a_doubt() -> None:
    said = message(picture(512, 512), AdviceName.NO_FACE, faces=())

    assert "no face was found in the image me.png" in said
    assert "can be missed" in said


def test_several_faces_are_counted() -> None:
    said = message(picture(512, 512), AdviceName.SEVERAL_FACES, faces=(MIDDLE, Face(0.0, 0.1, 0.2, 0.2)))

    assert said.startswith("2 faces were found")


def test_a_face_of_a_few_pixels_in_the_video_is_small() -> None:
    """An eighth of 512 is the border, whatever size the picture has."""
    assert "51 pixels tall" in message(picture(2048, 2048), AdviceName.SMALL_FACE, faces=(Face(0.4, 0.4, 0.1, 0.1),))
    assert names(picture(2048, 2048), faces=(Face(0.4, 0.4, 0.125, 0.125),)) == []


def test_a_wide_picture_makes_its_face_larger_in_the_video() -> None:
    """The crop scales by the shorter side: 0.1 of 1000 pixels is 51, 0.1 of the 2000 is 102."""
    assert "small_face" not in names(picture(1000, 2000), faces=(Face(0.4, 0.45, 0.2, 0.1),))


@pytest.mark.parametrize(
    ("left", "lost"),
    [(0.0, "100%"), (0.15, "50%"), (0.25, None), (0.4, None), (0.55, None), (0.65, "50%")],
)
def test_a_face_beyond_the_crop_is_cut(left: float, lost: str | None) -> None:
    """Of 2000x1000 the middle half stays: from 0.25 to 0.75 of the width."""
    face = Face(left, 0.3, 0.2, 0.4)
    advice = advise(picture(2000, 1000), SQUARE, (face,))

    said = [one.message for one in advice if one.name is AdviceName.CUT_FACE]

    assert len(said) == (lost is not None)
    if lost is not None:
        assert f"cuts off {lost} of the face" in said[0]


def test_where_the_script_frames_the_face_itself_only_the_copy_and_the_count_are_said() -> None:
    corner = (Face(0.0, 0.0, 0.05, 0.05),)

    assert names(picture(3000, 300), size=None, faces=corner) == []
    assert names(picture(3000, 300, frames=2), size=None, faces=()) == ["first_frame", "no_face"]
