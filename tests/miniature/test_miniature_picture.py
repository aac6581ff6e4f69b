"""What is to be seen: the face is found, the mouth follows the voice, the head never stands still."""

import json
import subprocess
import sys

import miniature_runs as runs
import numpy as np
import pytest

FIND = """
import json, sys
sys.path.insert(0, sys.argv[1])
from PIL import Image
from engine.face import find
face = find(Image.open(sys.argv[2]).convert("RGB"))
print(json.dumps([face.left_eye, face.right_eye, face.mouth]))
"""


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """The first seconds of the sample sentence, as every variant can use it."""
    target = tmp_path_factory.mktemp("sound") / "speech.m4a"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", runs.SPEECH, "-t", "4.6", "-c:a", "aac", target]
    subprocess.run(command, check=True)
    return target


@pytest.fixture(scope="module")
def frames(tmp_path_factory, speech):
    ended = runs.run("flashhead", runs.work_dir(tmp_path_factory.mktemp("good"), "flashhead"), speech)
    return runs.pixels(ended.video).astype(float)


def lag_of_the_mouth(frames: np.ndarray, speech) -> tuple[int, float]:
    """How many frames the mouth is behind the voice, and how well the two agree there."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", speech, "-f", "f32le", "-ac", "1", "-ar", "16000", "-"]
    sound = np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, "<f4")
    count = min(len(frames), len(sound) // 640)
    loudness = np.sqrt((sound[: count * 640].reshape(count, 640) ** 2).mean(axis=1))
    darkness = -frames[:count, 39:46, 27:37].mean(axis=(1, 2, 3))
    inner = slice(12, count - 12)
    fit = {lag: np.corrcoef(np.roll(darkness, -lag)[inner], loudness[inner])[0, 1] for lag in range(-10, 11)}
    best = max(fit, key=fit.__getitem__)
    return best, fit[best]


def test_eyes_and_mouth_of_the_sample_portrait_are_found():
    command = [sys.executable, "-c", FIND, str(runs.MINIATURE), str(runs.PORTRAIT)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    drawn = [(309, 452), (459, 452), (384, 618)]
    assert np.abs(np.array(found) - drawn).max() < 8


def test_the_mouth_follows_the_voice(frames, speech):
    lag, agreement = lag_of_the_mouth(frames, speech)
    assert abs(lag) <= 1
    assert agreement > 0.5


def test_old_once_is_a_fifth_of_a_second_ahead(tmp_path, speech):
    cwd = runs.work_dir(tmp_path, "flashtalk_old")
    ended = runs.run("flashtalk_old", cwd, speech, "--audio_encode_mode=once")
    assert lag_of_the_mouth(runs.pixels(ended.video).astype(float), speech)[0] in (-6, -5, -4)


def test_chunks_join_without_a_jump(frames):
    change = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    joints = [index - 1 for index in range(28, len(frames), 28)]
    assert max(change[joints]) <= np.percentile(change, 97)


def test_the_picture_never_stands_still_nor_drifts_away(frames):
    """At this size a slow movement may change no pixel of the next frame, but it does within a fifth of a second."""
    change = np.abs(frames[5:] - frames[:-5]).max(axis=(1, 2, 3))
    assert change.min() > 2
    assert np.abs(frames[-1] - frames[0]).mean() < 12
