"""One voice for all: made once, inspected once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from makers import syllables, voice, write_wav

from omnirt_cli.media.audio import Speech, inspect_audio

SECONDS = 5.0


@pytest.fixture(scope="session")
def loudness() -> np.ndarray:
    return syllables(SECONDS)


@pytest.fixture(scope="session")
def voice_wav(tmp_path_factory: pytest.TempPathFactory, loudness: np.ndarray) -> Path:
    return write_wav(tmp_path_factory.mktemp("voice") / "voice.wav", voice(loudness))


@pytest.fixture(scope="session")
def speech(voice_wav: Path) -> Speech:
    return inspect_audio(voice_wav)
