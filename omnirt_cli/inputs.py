"""Looking at a request's portrait and recording in the background, while the rest is imported and planned.

Decoding the recording takes ffmpeg longer than planning takes Python; a command starts the look as soon as it knows the
paths.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from omnirt_cli.errors import UsageError
from omnirt_cli.request import Inputs

if TYPE_CHECKING:
    from omnirt_cli.media.audio import Speech
    from omnirt_cli.media.image import Portrait

Found = TypeVar("Found")


class Look(Generic[Found]):
    """Work in a thread of its own; its error is raised where the result is asked for."""

    def __init__(self, work: Callable[[], Found]) -> None:
        self._work = work
        self._result: Found | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that asks for the result
            self._error = error

    def result(self) -> Found:
        """Wait for what was found.

        Raises:
            BaseException: Whatever the work raised.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result


_SAMPLES = Path(__file__).parent / "miniature" / "assets"


def sample_inputs() -> Inputs:
    """The portrait and the speech that come with OmniRT, for a look at a model that is about no render."""
    return Inputs(image=str(_SAMPLES / "portrait.png"), audio=str(_SAMPLES / "speech.wav"))


@dataclass(frozen=True)
class InputLooks:
    """The looks under way; None where the request names no such input."""

    image: Look[Portrait] | None
    audio: Look[Speech] | None

    def portrait(self) -> Portrait:
        """The portrait.

        Raises:
            UsageError: None was named.
            InputMissingError, InputInvalidError: It cannot be used.
        """
        if self.image is None:
            raise UsageError("--image is required for --task audio2video")
        return self.image.result()

    def speech(self) -> Speech:
        """The recording.

        Raises:
            UsageError: None was named.
            InputMissingError, InputInvalidError: It cannot be used.
        """
        if self.audio is None:
            raise UsageError("--audio is required for --task audio2video")
        return self.audio.result()


def start_looking(inputs: Inputs, cwd: Path) -> InputLooks:
    """Start to look at what a request names; relative paths start at `cwd`."""
    return InputLooks(
        image=_look_at_image(cwd / inputs.image) if inputs.image else None,
        audio=_look_at_audio(cwd / inputs.audio) if inputs.audio else None,
    )


def _look_at_image(path: Path) -> Look[Portrait]:
    def work() -> Portrait:
        from omnirt_cli.media.image import inspect_portrait

        return inspect_portrait(path)

    return Look(work)


def _look_at_audio(path: Path) -> Look[Speech]:
    def work() -> Speech:
        from omnirt_cli.media.audio import inspect_audio

        return inspect_audio(path)

    return Look(work)
