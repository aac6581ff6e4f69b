"""The worker program's parts by themselves: the loop's arithmetic, arguments, the encoder's short queue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchers.model_env.omnirt_worker import encoder, render, windows
from launchers.model_env.omnirt_worker.checkout import Checkout, fitting
from launchers.model_env.omnirt_worker.encoder import PIPE_BYTES, QUEUE_CHUNKS, Encoder, EncoderError
from launchers.model_env.omnirt_worker.frames import to_bytes
from launchers.model_env.omnirt_worker.requests import PictureRequest
from omnirt_cli.models import frames
from omnirt_cli.models.base import Geometry
from tests.driver_runs import raw_encoder
from tests.omnirt_cli_runs import ROOT

GEOMETRIES = (Geometry(64, 64, 33, 5, 25), Geometry(64, 64, 29, 1, 25), Geometry(64, 64, 33, 9, 25))
CHUNK = 28 * 64 * 64 * 3


def _slices(geometry: Geometry) -> windows.Slices:
    return windows.Slices.of(
        {
            "sample_rate": geometry.sample_rate,
            "tgt_fps": geometry.fps,
            "frame_num": geometry.frame_num,
            "motion_frames_num": geometry.motion_frames_num,
            "cached_audio_duration": 8,
        }
    )


# --- arithmetic -----------------------------------------------------------------------------------


@given(st.sampled_from(GEOMETRIES), st.sampled_from(frames.Loop), st.integers(1, 600_000))
def test_a_plans_chunks_of_once_lie_within_what_is_encoded(geometry: Geometry, loop: frames.Loop, samples: int) -> None:
    plan = frames.plan(loop, frames.Mode.ONCE, geometry, samples=samples, duration_s=samples / 16000)
    slices, pads = _slices(geometry), loop is frames.Loop.PADDING

    sound = windows.once_sound(np.ones(plan.total_samples, np.float32), slices, pads=pads, chunks=plan.chunks)
    last = list(windows.once_pieces(slices, plan.chunks))[-1]

    encoded = int(len(sound) / 16000 * 25) if loop is frames.Loop.DROPPING else int(len(sound) * 25 / 16000)
    assert last.stop <= encoded
    assert last.stop - last.start == geometry.frame_num


@given(st.sampled_from(GEOMETRIES), st.integers(1, 300_000))
def test_once_encodes_what_the_scripts_encode(geometry: Geometry, samples: int) -> None:
    """The padding scripts fill up to whole slices behind the first; the others add nothing."""
    slices = _slices(geometry)
    sound = np.ones(samples + geometry.first_samples, np.float32)

    padded = windows.once_sound(sound, slices, pads=True, chunks=1)
    as_it_is = windows.once_sound(sound, slices, pads=False, chunks=1)

    assert (len(padded) - geometry.first_samples) % geometry.slice_samples == 0
    assert 0 <= len(padded) - len(sound) < geometry.slice_samples
    assert len(as_it_is) == len(sound)


@given(st.sampled_from(GEOMETRIES), st.integers(1, 400_000))
def test_stream_plays_the_sound_once_from_end_to_end(geometry: Geometry, samples: int) -> None:
    plan = frames.plan(frames.Loop.PADDING, frames.Mode.STREAM, geometry, samples=samples, duration_s=samples / 16000)
    slices = _slices(geometry)
    sound = np.arange(1, plan.total_samples + 1, dtype=np.float32)

    heard = [window[-slices.samples :] for window in windows.stream_windows(sound, slices, plan.chunks)]

    whole = np.concatenate(heard)
    assert len(whole) == plan.chunks * geometry.slice_samples
    assert np.array_equal(whole[: len(sound)], sound)
    assert not whole[len(sound) :].any()


def test_a_window_is_what_a_queue_of_python_floats_would_hold() -> None:
    slices = windows.Slices(33, 28, 5, 6, 200, 12)
    sound = np.linspace(0.1, 0.9, 17, dtype=np.float32)

    got = list(windows.stream_windows(sound, slices, 4))

    kept = [0.0] * 12
    for number, window in enumerate(got):
        heard = [float(value) for value in sound[number * 5 : number * 5 + 5]]
        kept = (kept + heard + [0.0] * (5 - len(heard)))[-12:]
        assert window.dtype == np.float64
        assert window.tolist() == kept


def test_a_slice_longer_than_the_window_leaves_its_end() -> None:
    slices = windows.Slices(33, 28, 20, 6, 200, 12)

    (window,) = windows.stream_windows(np.arange(20, dtype=np.float32), slices, 1)

    assert window.tolist() == list(range(8, 20))


def test_a_sound_of_another_form_is_refused(tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "s.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(64))

    with pytest.raises(ValueError, match="not 16 bit mono at 16000 Hz"):
        windows.read_wav(str(tmp_path / "s.wav"), 16000)


# --- arguments ------------------------------------------------------------------------------------


def test_arguments_go_by_the_names_that_a_function_has() -> None:
    def get_base_data(pipeline, cond_image_path_or_dir, base_seed, use_face_crop) -> None: ...

    asked = {"pipeline": 1, "image": "a.png", "seed": 7, "face_crop": False, "prompt": None}

    assert fitting(get_base_data, asked) == {
        "pipeline": 1,
        "cond_image_path_or_dir": "a.png",
        "base_seed": 7,
        "use_face_crop": False,
    }


def test_an_argument_that_a_function_lacks_is_refused_and_not_dropped() -> None:
    def get_pipeline(world_size, ckpt_dir) -> None: ...

    with pytest.raises(TypeError, match="get_pipeline takes no quantize_mode or quantize"):
        fitting(get_pipeline, {"world_size": 1, "ckpt_dir": "", "quantize": "quanto-int4"})


def test_a_function_that_takes_anything_gets_the_usual_name() -> None:
    assert fitting(lambda **_: None, {"image": "a.png"}) == {"cond_image": "a.png"}


# --- the encoder ----------------------------------------------------------------------------------


class _DrawsFromTorch:
    """Stands for a pipeline that samples from torch's own generator while its portrait is prepared."""

    device = "cpu"


def test_preparing_seeds_the_generators_that_nobody_owns() -> None:
    """FlashHead lite's VAE samples from them; its script leaves them as they are."""
    torch = pytest.importorskip("torch")
    drawn = []
    inference = ModuleType("inference")
    inference.infer_params = {}  # type: ignore[attr-defined]
    inference.get_base_data = lambda pipeline, base_seed: drawn.append(float(torch.rand(1)))  # type: ignore[attr-defined]
    checkout = Checkout(inference, _DrawsFromTorch())

    for seed in (3, 3, 4):
        checkout.prepare({"seed": seed})

    assert drawn[0] == drawn[1] != drawn[2]


def test_a_piece_of_once_has_its_own_strides() -> None:
    """With the whole sound's, a compiled model would be compiled anew for each length of sound."""
    torch = pytest.importorskip("torch")
    piece = render._packed(torch.arange(24.0).reshape(1, 12, 2)[:, slice(2, 5)])

    assert piece.stride() == (6, 2, 1)
    assert piece.tolist() == [[[4.0, 5.0], [6.0, 7.0], [8.0, 9.0]]]


def _picture(folder: Path, program: Path | str) -> PictureRequest:
    return PictureRequest(ffmpeg=str(program), path=str(folder / "frames.rgb"), width=64, height=64, fps=25)


def test_a_slow_encoder_makes_the_loop_wait_and_piles_up_nothing(tmp_path: Path) -> None:
    chunk, count = 4 * PIPE_BYTES, QUEUE_CHUNKS + 6
    slow, written = raw_encoder(tmp_path, delay_s=0.003), tmp_path / "frames.rgb"  # a fifth of a second for a chunk
    waiting: list[int] = []

    with Encoder(_picture(tmp_path, slow)) as target:
        for number in range(count):
            target.put(memoryview(bytes(chunk)))
            waiting.append((number + 1) * chunk - (written.stat().st_size if written.exists() else 0))

    # The queue, the chunk that is being written, and what the pipe and the program hold of it.
    assert max(waiting) <= (QUEUE_CHUNKS + 1) * chunk + 2 * PIPE_BYTES
    assert written.stat().st_size == count * chunk


def _feed_a_dying_encoder(folder: Path, more_chunks: int) -> None:
    with Encoder(_picture(folder, raw_encoder(folder))) as target:
        target._ffmpeg.kill()
        for _ in range(more_chunks):
            target.put(memoryview(bytes(CHUNK)))
        if not more_chunks:
            raise ZeroDivisionError


def test_an_encoder_that_dies_is_told_by_name_and_nobody_waits_for_it(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="ffmpeg, which writes the video, was killed by SIGKILL"):
        _feed_a_dying_encoder(tmp_path, more_chunks=50)


def test_an_error_of_the_model_is_not_hidden_by_the_encoders(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        _feed_a_dying_encoder(tmp_path, more_chunks=0)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_of_the_worker_does_not_keep_ffmpeg_waiting(tmp_path: Path) -> None:
    """As torch.compile's workers would, which live on."""
    with Encoder(_picture(tmp_path, raw_encoder(tmp_path))) as target:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        target.put(memoryview(bytes(CHUNK)))
        began = time.monotonic()
        target.close()
    waited = time.monotonic() - began
    os.close(writer)
    os.waitpid(child, 0)

    assert waited < 10
    assert encoder._inputs == set()


def test_signals_that_stop_a_run_leave_ffmpeg_to_its_work(tmp_path: Path) -> None:
    ffmpeg = subprocess.run(["which", "ffmpeg"], capture_output=True, check=True, text=True).stdout.strip()
    request = PictureRequest(ffmpeg, str(tmp_path / "v.mp4"), 64, 64, 25)

    with Encoder(request) as target:
        target.put(memoryview(bytes(CHUNK)))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            target._ffmpeg.send_signal(number)
        target.put(memoryview(bytes(CHUNK)))

    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    shown = ["ffprobe", "-v", "error", "-count_packets", "-show_entries", "stream=nb_read_packets", "-of", "csv=p=0"]
    counted = subprocess.run([*shown, str(tmp_path / "v.mp4")], capture_output=True, check=True, text=True).stdout
    assert int(counted.strip().strip(",")) == 56


# --- frames ---------------------------------------------------------------------------------------


def test_values_are_cut_off_not_rounded_with_and_without_torch() -> None:
    import torch

    values = np.array([0.0, 0.99, 1.0, 127.5, 254.999, 255.0], np.float32).reshape(1, 1, 2, 3)

    for made in (values, torch.from_numpy(values)):
        assert bytes(to_bytes(made)) == bytes([0, 0, 1, 127, 254, 255])


def test_a_slice_of_a_chunk_gives_its_own_bytes() -> None:
    import torch

    chunk = torch.arange(4 * 2 * 2 * 3, dtype=torch.float32).reshape(4, 2, 2, 3)

    assert bytes(to_bytes(chunk[1:])) == bytes(range(12, 48))


def test_what_is_not_a_number_is_warned_about_in_numpys_words() -> None:
    import torch

    with pytest.warns(RuntimeWarning, match="invalid value encountered in cast"):
        to_bytes(torch.full((1, 2, 2, 3), float("nan")))


# --- stopping -------------------------------------------------------------------------------------

_STOPPED = """
import os, signal, sys, threading, time
from launchers.model_env.omnirt_worker.stopping import finish_when_stopped

def finish():
    print("finished", flush=True)

with finish_when_stopped(finish):
    child = os.fork()
    if child == 0:
        signal.pause()
    time.sleep(0.3)
    os.kill(child, signal.SIGTERM)
    assert os.waitpid(child, 0)[1] == signal.SIGTERM
    print("going on", flush=True)
    if sys.argv[1] == "stop":
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(20)
    lasting = os.fork()
    if lasting == 0:
        time.sleep(30)
os.kill(lasting, signal.SIGKILL)
print("left", flush=True)
"""


@pytest.mark.parametrize(("how", "code", "said"), [("stop", 143, "going on finished"), ("go on", 0, "going on left")])
def test_a_stop_finishes_first_and_one_of_a_fork_is_none(how: str, code: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _STOPPED, how],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=30,
    )

    assert done.returncode == code, done.stderr
    assert done.stdout.split() == said.split()
