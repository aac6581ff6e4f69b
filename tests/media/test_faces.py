from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from PIL import Image

from omnirt_cli.media.faces import HOW_TO_LOOK, find_faces
from omnirt_cli.media.image import Portrait, inspect_portrait

SHIPPED = Path(__file__).resolve().parents[2] / "omnirt_cli" / "miniature" / "assets" / "portrait.png"


@pytest.fixture
def shipped() -> Portrait:
    """One drawn face, 768 x 1024."""
    return inspect_portrait(SHIPPED)


def pasted(folder: Path, *places: tuple[int, int, int, float]) -> Portrait:
    """The shipped face on grey, 1200 x 800: each at a left and a top, so many pixels wide, turned by degrees."""
    canvas = Image.new("RGB", (1200, 800), (128, 128, 128))
    with Image.open(SHIPPED) as face:
        for left, top, width, degrees in places:
            small = face.convert("RGB").resize((width, width * face.height // face.width))
            canvas.paste(small.rotate(degrees, fillcolor=(128, 128, 128)), (left, top))
    canvas.save(folder / "pasted.png")
    return inspect_portrait(folder / "pasted.png")


class TestWithOpenCv:
    @pytest.fixture(autouse=True)
    def opencv(self) -> None:
        cv2 = pytest.importorskip("cv2")
        if not hasattr(cv2, "CascadeClassifier"):
            pytest.skip("OpenCV 5 has no cascades")

    def test_the_shipped_portrait_has_one_face_in_its_middle(self, shipped: Portrait) -> None:
        faces = find_faces(shipped)

        assert faces is not None
        [face] = faces
        assert face.left + face.width / 2 == pytest.approx(0.5, abs=0.05)
        assert face.top + face.height / 2 == pytest.approx(0.48, abs=0.05)
        assert face.height == pytest.approx(0.4, abs=0.05)

    def test_two_faces_are_two_the_larger_first(self, tmp_path: Path) -> None:
        faces = find_faces(pasted(tmp_path, (50, 100, 250, 0), (600, 50, 450, 0)))

        assert faces is not None
        assert [face.left > 0.5 for face in faces] == [True, False]

    def test_a_small_face_far_behind_is_not_counted(self, tmp_path: Path) -> None:
        faces = find_faces(pasted(tmp_path, (50, 300, 110, 0), (500, 10, 580, 0)))

        assert faces is not None
        assert len(faces) == 1
        assert find_faces(pasted(tmp_path, (50, 300, 110, 0))) != ()

    @pytest.mark.parametrize("degrees", [22.0, -22.0])
    def test_a_tilted_head_is_found_where_it_is(self, tmp_path: Path, degrees: float) -> None:
        faces = find_faces(pasted(tmp_path, (650, 50, 450, degrees)))

        assert faces is not None
        [face] = faces
        assert face.left + face.width / 2 == pytest.approx(875 / 1200, abs=0.04)
        assert face.top + face.height / 2 == pytest.approx(350 / 800, abs=0.06)

    def test_an_empty_picture_has_none(self, tmp_path: Path) -> None:
        assert find_faces(pasted(tmp_path)) == ()


def test_without_opencv_nobody_looks(shipped: Portrait, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)

    assert find_faces(shipped) is None
    assert "pip install 'omnirt[faces]'" in HOW_TO_LOOK


def test_opencv_5_has_no_cascade_and_counts_as_missing(shipped: Portrait, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", types.ModuleType("cv2"))

    assert find_faces(shipped) is None
