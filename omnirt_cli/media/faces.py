"""Where the faces in a portrait are, as far as OpenCV's frontal-face cascade sees them.

The cascade is data inside OpenCV 4's wheels: no download, no network, some tens of milliseconds. OpenCV 5 ships neither
the cascade nor its classifier (opencv/opencv#25198), and its own detector needs a model file that no wheel holds. A
cascade sees upright, frontal faces, drawn ones less surely; what it finds is good for advice and never for a refusal.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from omnirt_cli.media.image import Portrait

HOW_TO_LOOK = "faces were not looked for, which needs OpenCV 4: pip install 'omnirt[faces]'"
"""Why `find_faces` returned None, and what to do about it."""

_CASCADE = "haarcascade_frontalface_alt2.xml"
_SCALE_STEP = 1.1
_NEIGHBOURS = 4
"""Overlapping hits that make a face. With 6 a singer in sunglasses is missed; with 4 nothing was found in pictures of
temples, flowers and logos."""

_SMALLEST_SIDE = 24
_TILTS_DEGREES = (20.0, -20.0)
"""A head leant on a hand is past what the cascade sees; so far a picture is turned before "no face" is said."""

_BYSTANDER = 1 / 3
"""A face less tall than this part of the largest is in the background, or none."""


@dataclass(frozen=True)
class Face:
    """A square around a face, brow to chin, in parts (0 to 1) of the upright picture's width and height."""

    left: float
    top: float
    width: float
    height: float


def find_faces(portrait: Portrait) -> tuple[Face, ...] | None:
    """The faces in a portrait, the largest first; None where OpenCV 4 is not installed (see `HOW_TO_LOOK`)."""
    classifier = _load_classifier()
    if classifier is None or portrait.thumbnail is None:
        return None
    faces = _search(classifier, portrait.thumbnail)
    for tilt in _TILTS_DEGREES:
        if not faces:
            faces = _search_tilted(classifier, portrait.thumbnail, tilt)
    faces.sort(key=lambda face: face.height, reverse=True)
    return tuple(face for face in faces if face.height >= faces[0].height * _BYSTANDER)


def _load_classifier() -> Any | None:
    """OpenCV's classifier with the cascade; None where OpenCV is missing, broken or too new."""
    try:
        cv2 = importlib.import_module("cv2")
        classifier = cv2.CascadeClassifier(cv2.data.haarcascades + _CASCADE)
    except (ImportError, AttributeError):
        return None
    return None if classifier.empty() else classifier


def _search(classifier: Any, picture: Image.Image) -> list[Face]:
    """The faces in a grey picture."""
    import numpy as np

    found = classifier.detectMultiScale(
        np.asarray(picture), scaleFactor=_SCALE_STEP, minNeighbors=_NEIGHBOURS, minSize=(_SMALLEST_SIDE, _SMALLEST_SIDE)
    )
    across, down = picture.size
    return [
        Face(int(left) / across, int(top) / down, int(width) / across, int(height) / down)
        for left, top, width, height in found
    ]


def _search_tilted(classifier: Any, picture: Image.Image, degrees: float) -> list[Face]:
    """The faces in a picture turned counter-clockwise about its middle, where they are when it is upright again."""
    faces = _search(classifier, picture.rotate(degrees))
    return [_turned_back(face, picture.size, math.radians(degrees)) for face in faces]


def _turned_back(face: Face, size: tuple[int, int], angle: float) -> Face:
    across, down = size
    x = (face.left + face.width / 2 - 0.5) * across
    y = (face.top + face.height / 2 - 0.5) * down
    back_x = x * math.cos(angle) - y * math.sin(angle)
    back_y = x * math.sin(angle) + y * math.cos(angle)
    left = back_x / across + 0.5 - face.width / 2
    top = back_y / down + 0.5 - face.height / 2
    return Face(left, top, face.width, face.height)
