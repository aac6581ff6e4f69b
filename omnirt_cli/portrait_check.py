"""What a person should know of the portrait before a render: what the model does to it, and whether it shows a face."""

from __future__ import annotations

from omnirt_cli.checks import Check, passed, skipped, warned
from omnirt_cli.media.image import Portrait
from omnirt_cli.media.portrait_advice import advise
from omnirt_cli.models.base import Geometry, KnobValue
from omnirt_cli.preflight import CheckName

NAME = CheckName.PORTRAIT.value


def framing(geometry: Geometry, face_crop: KnobValue | None) -> tuple[int, int] | None:
    """The size that the script crops the portrait to; None where it finds and frames the face itself."""
    return None if face_crop is not None and face_crop.value else (geometry.width, geometry.height)


def picture_warnings(portrait: Portrait, size: tuple[int, int] | None) -> list[str]:
    """What is plain from the picture's size and format; looks for no face."""
    return [advice.message for advice in advise(portrait, size)]


def check_faces(portrait: Portrait, size: tuple[int, int] | None) -> Check:
    """Look for the face: there should be one, large enough, and whole after the crop.

    Takes some tenths of a second, and needs an optional package; without it the check is skipped and says so.
    """
    from omnirt_cli.media.faces import HOW_TO_LOOK, find_faces

    faces = find_faces(portrait)
    if faces is None:
        return skipped(NAME, "faces were not looked for", hint=HOW_TO_LOOK)
    plain = {advice.name for advice in advise(portrait, size)}
    found = [advice.message for advice in advise(portrait, size, faces) if advice.name not in plain]
    if found:
        return warned(NAME, detail="; ".join(found), hint="frontal, upper-body, eyes-visible portraits give the best")
    return passed(NAME, detail="one face")
