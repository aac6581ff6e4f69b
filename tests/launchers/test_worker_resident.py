"""A resident worker of one rank: each request's frames are the script's, and nothing of one is left for the next."""

from __future__ import annotations

import copy
import os
import signal
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launchers.model_env.omnirt_worker import wire
from tests.driver_runs import SIDE, Answer, Resident, drive, raw_encoder, request
from tests.miniature import miniature_runs

FRAME_BYTES = SIDE * SIDE * 3
SECONDS = 4.3
VARIANTS = [
    *((name, None) for name in miniature_runs.FLASHTALK),
    *((name, kind) for name in miniature_runs.FLASHHEAD for kind in ("pro", "lite")),
]


def _script(folder: Path, cwd: Path, variant: str, audio: Path, model_type: str | None, mode: str) -> tuple[bytes, int]:
    """The script's own frames, and how many chunks they are."""
    frames = folder / f"{mode}.rgb"
    kind = [f"--model_type={model_type}"] if model_type else []
    ended = miniature_runs.run(
        variant,
        cwd,
        audio,
        f"--audio_encode_mode={mode}",
        "--base_seed=3",
        *kind,
        env={"MINIATURE_FRAMES": str(frames)},
    )
    return frames.read_bytes(), len(ended.chunks)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resident")


@pytest.fixture(scope="module")
def audio(place: Path) -> Path:
    return miniature_runs.tone(place / "speech.wav", SECONDS)


@pytest.fixture(scope="module")
def shared(place: Path, audio: Path) -> Iterator[Resident]:
    """One worker for all tests that leave it as it was."""
    cwd = miniature_runs.work_dir(place, "flashtalk_quant")
    with Resident(cwd, request("flashtalk_quant", audio, mode="stream", chunks=1)) as worker:
        yield worker


@pytest.fixture
def asked(audio: Path) -> dict[str, Any]:
    return request("flashtalk_quant", audio, mode="stream", chunks=3)


@pytest.fixture
def worker(shared: Resident) -> Iterator[Resident]:
    yield shared
    assert shared.process.poll() is None


def _changed(asked: dict[str, Any], **render: Any) -> dict[str, Any]:
    other = copy.deepcopy(asked)
    other["render"].update(render)
    return other


def _seeded(asked: dict[str, Any], seed: int) -> dict[str, Any]:
    return _changed(asked, base={**asked["render"]["base"], "seed": seed})


# --- the same frames ------------------------------------------------------------------------------


@pytest.mark.parametrize(("variant", "model_type"), VARIANTS)
def test_the_first_request_and_later_ones_give_the_scripts_frames(
    variant: str, model_type: str | None, audio: Path, tmp_path: Path
) -> None:
    cwd = miniature_runs.work_dir(tmp_path, variant)
    stream, chunks = _script(tmp_path, cwd, variant, audio, model_type, "stream")
    once, once_chunks = _script(tmp_path, cwd, variant, audio, model_type, "once")
    in_stream = request(variant, audio, mode="stream", chunks=chunks, model_type=model_type or "pro")
    at_once = request(variant, audio, mode="once", chunks=once_chunks, model_type=model_type or "pro")

    with Resident(cwd, in_stream) as worker:
        answers = [worker.render(asked) for asked in (in_stream, at_once, in_stream)]
        reused = [worker.render(_changed(asked, reuse=True)) for asked in (in_stream, in_stream, at_once)]

    assert [answer.pixels for answer in answers] == [stream, once, stream]
    assert [answer.pixels for answer in reused] == [stream, stream, once]
    assert [answer.prepared["reused"] for answer in reused] == [False, True, True]


def test_the_twentieth_is_as_the_first_whatever_was_rendered_between(worker: Resident, asked: dict[str, Any]) -> None:
    first = worker.render(asked)

    between = [worker.render(_seeded(_changed(asked, chunks=2, reuse=bool(seed % 2)), seed)) for seed in range(18)]
    last = worker.render(asked)

    assert first.pixels == last.pixels
    assert len({answer.pixels for answer in between}) == 18
    assert all(len(answer.pixels) == 2 * 28 * FRAME_BYTES for answer in between)


def test_a_picture_is_written_as_the_driver_writes_it(worker: Resident, asked: dict[str, Any], tmp_path: Path) -> None:
    by_driver = drive(miniature_runs.work_dir(tmp_path, "flashtalk_quant"), asked)
    asked["picture"]["path"] = str(tmp_path / "resident.mp4")

    answer = worker.render(asked, frames="none", picture=True)

    assert answer.last["type"] == "done"
    assert answer.pixels == b""
    assert (tmp_path / "resident.mp4").read_bytes() == by_driver.pixels


def test_frames_and_a_picture_are_given_together(worker: Resident, asked: dict[str, Any], tmp_path: Path) -> None:
    asked["picture"].update(path=str(tmp_path / "v.rgb"), ffmpeg=str(raw_encoder(tmp_path)))

    answer = worker.render(asked, picture=True)

    assert answer.pixels == (tmp_path / "v.rgb").read_bytes()


# --- what is said ---------------------------------------------------------------------------------


def test_a_request_is_answered_step_by_step(worker: Resident, asked: dict[str, Any]) -> None:
    answer = worker.render(asked, name="a name")

    assert [message.type for message in answer.messages] == ["started", "prepared", "chunk", "chunk", "chunk", "done"]
    assert {message.header["id"] for message in answer.messages} == {"a name"}
    assert [chunk["index"] for chunk in answer.chunks] == [0, 1, 2]
    for chunk in answer.chunks:
        assert (chunk["frames"], chunk["width"], chunk["height"]) == (28, SIDE, SIDE)
        assert min(chunk["core_ms"], chunk["embedding_ms"], chunk["copy_ms"]) > 0
    assert answer.last["chunks"] == 3
    assert answer.last["memory"]["rss_bytes"] > 0
    assert answer.last["memory"]["device_peak_bytes"] is None


def test_who_connects_learns_what_is_loaded(worker: Resident) -> None:
    assert worker.ready["type"] == "ready"
    assert worker.ready["pid"] == worker.process.pid
    assert worker.ready["world_size"] == 1
    assert worker.ready["device"] == "cpu"
    assert worker.ready["params"]["frame_num"] == 33


def test_the_log_of_a_request_stands_between_two_lines(worker: Resident, asked: dict[str, Any]) -> None:
    worker.render(asked, name="logged")

    text = worker.log.read_text()
    own = text.partition("[worker] request logged\n")[2].partition("[worker] request logged ended\n")[0]
    assert own.index("Data preparation done") < own.index("chunk-0 done") < own.index("chunk-2 done")
    assert own.index("chunk-2 done") < own.index("Finished.")
    assert own.count("[driver] copy: ") == 3


def test_a_chunks_steps_stand_before_its_line_and_behind_the_one_before(
    worker: Resident, asked: dict[str, Any]
) -> None:
    worker.render(_changed(asked, constants={"DEBUG_TIMING": True}, chunks=6), name="steps")

    own = worker.log.read_text().partition("[worker] request steps\n")[2]
    parts = own.partition("[worker] request steps ended")[0].split("Generate video chunk-")
    assert [part.count("model denoise per step") for part in parts] == [4, 4, 4, 4, 4, 4, 0]


def test_its_state_can_be_asked_for_while_it_computes(worker: Resident, asked: dict[str, Any]) -> None:
    worker.ask(_changed(asked, chunks=20), name="long")
    worker.until("chunk")
    wire.send(worker.sock, {"type": "status"})
    (busy,) = (message.header for message in worker.until("status") if message.type == "status")
    worker.until("done")
    wire.send(worker.sock, {"type": "status"})
    (ready,) = (message.header for message in worker.until("status"))

    assert (busy["state"], busy["request"]) == ("busy", "long")
    assert (ready["state"], ready["request"]) == ("ready", None)
    assert ready["requests_done"] == busy["requests_done"] + 1
    assert ready["rss_bytes"] > 0


# --- one request's own settings -------------------------------------------------------------------


def test_settings_hold_for_one_request(worker: Resident, asked: dict[str, Any]) -> None:
    def steps(answer_id: str) -> int:
        own = worker.log.read_text().partition(f"[worker] request {answer_id}\n")[2]
        return own.partition(f"[worker] request {answer_id} ended")[0].count("model denoise per step")

    asked["render"]["chunks"] = 1
    worker.render(asked, name="before")
    worker.render(_changed(asked, constants={"DEBUG_TIMING": True}, params={"sample_steps": 7}), name="with")
    worker.render(_changed(asked, constants={"DEBUG_TIMING": True}), name="steps again")
    worker.render(asked, name="after")

    assert [steps(name) for name in ("before", "with", "steps again", "after")] == [0, 7, 4, 0]


def _quiet(audio: Path, place: Path) -> Path:
    """The same sound at a thirtieth of its level."""
    with wave.open(str(audio), "rb") as loud, wave.open(str(place), "wb") as file:
        file.setparams(loud.getparams())
        samples = np.frombuffer(loud.readframes(loud.getnframes()), "<i2")
        file.writeframes((samples / 30).astype("<i2").tobytes())
    return place


def test_they_are_taken_off_again_and_a_refusal_sets_none(audio: Path, tmp_path: Path) -> None:
    asked = request("flashtalk_ascend", _quiet(audio, tmp_path / "quiet.wav"), mode="stream", chunks=2)
    quiet = _changed(asked, inference_constants={"_AUDIO_LOUDNESS_NORM_ENABLED": False})
    missing = _changed(quiet, inference_constants={"_AUDIO_LOUDNESS_NORM_ENABLED": False, "no_such": 1})

    with Resident(miniature_runs.work_dir(tmp_path, "flashtalk_ascend"), asked) as worker:
        before, unlevelled = worker.render(asked), worker.render(quiet)
        refused = worker.render(missing)
        after = worker.render(asked)

    assert before.pixels == after.pixels
    assert before.pixels != unlevelled.pixels
    assert refused.last["error"] == "AttributeError: flash_talk.inference has no no_such"


# --- prepared state -------------------------------------------------------------------------------


def test_another_portrait_under_the_same_name_is_not_taken_for_the_first(
    worker: Resident, asked: dict[str, Any], tmp_path: Path
) -> None:
    from PIL import Image

    portrait = tmp_path / "face.png"
    portrait.write_bytes(miniature_runs.PORTRAIT.read_bytes())
    kept = _changed(asked, reuse=True, base={**asked["render"]["base"], "image": str(portrait), "seed": 77})
    first = worker.render(kept)
    with Image.open(portrait) as picture:
        picture.rotate(3).save(portrait)

    turned, again = worker.render(kept), worker.render(kept)

    assert first.pixels != turned.pixels
    assert turned.pixels == again.pixels
    assert [answer.prepared["reused"] for answer in (first, turned, again)] == [False, False, True]


def test_what_was_not_used_for_longest_is_forgotten(worker: Resident, asked: dict[str, Any]) -> None:
    def reused(seed: int) -> bool:
        return bool(worker.render(_seeded(_changed(asked, chunks=1, reuse=True), seed)).prepared["reused"])

    assert [reused(seed) for seed in (201, 202, 203, 204)] == [False] * 4
    assert reused(201)
    assert not reused(205)  # 202 goes
    assert [reused(seed) for seed in (201, 203, 204, 205)] == [True] * 4
    assert not reused(202)


# --- refusals -------------------------------------------------------------------------------------


def _stereo(place: Path) -> str:
    with wave.open(str(place), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(6400))
    return str(place)


def _cut_off(place: Path) -> str:
    place.write_bytes(miniature_runs.PORTRAIT.read_bytes()[:3000])
    return str(place)


def _noise(place: Path) -> str:
    place.write_bytes(b"no picture at all")
    return str(place)


def _broken(asked: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """Requests that cannot be carried out, by what their refusal says."""
    base = asked["render"]["base"]
    return {
        "truncated": _changed(asked, base={**base, "image": _cut_off(folder / "cut.png")}),
        "noise.png cannot be decoded": _changed(asked, base={**base, "image": _noise(folder / "noise.png")}),
        "FileNotFoundError": _changed(asked, base={**base, "image": str(folder / "none.png")}),
        "has no PNG": _changed(asked, base={**base, "image": str(folder)}),
        "none.wav": _changed(asked, audio=str(folder / "none.wav")),
        "not 16 bit mono at 16000 Hz": _changed(asked, audio=_stereo(folder / "stereo.wav")),
        "does not start with RIFF": _changed(asked, audio=_noise(folder / "noise.wav")),
        "get_base_data takes no": _changed(asked, base={**base, "face_crop": True}),
        "infer_params has no speed": _changed(asked, params={"speed": 2}),
        "has no SPEED": _changed(asked, constants={"SPEED": 2}),
        "mode is 'twice'": _changed(asked, mode="twice"),
        "chunks is 0": _changed(asked, chunks=0),
        "chunks is '3'": _changed(asked, chunks="3"),
        "base is no object": _changed(asked, base=[]),
        "unexpected keyword argument 'colour'": _changed(asked, colour="red"),
    }


def test_what_cannot_be_carried_out_is_refused_and_the_worker_goes_on(
    worker: Resident, asked: dict[str, Any], tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    before = worker.render(asked).pixels
    for says, broken in _broken(asked, tmp_path).items():
        if says == "has no PNG":
            broken["render"]["base"]["image"] = str(pictures)

        answer = worker.render(broken, name=says)

        assert [message.type for message in answer.messages] == ["failed"], says
        assert answer.last["reason"] == "refused"
        assert answer.last["sound"] is True
        assert says in answer.last["error"]
    assert worker.render(asked).pixels == before
    assert "Traceback" not in worker.log.read_text()


def test_a_picture_that_cannot_be_written_is_refused(worker: Resident, asked: dict[str, Any], tmp_path: Path) -> None:
    nowhere = copy.deepcopy(asked)
    nowhere["picture"]["path"] = str(tmp_path / "no folder" / "v.mp4")
    no_encoder = copy.deepcopy(asked)
    no_encoder["picture"]["ffmpeg"] = str(tmp_path / "no ffmpeg")

    larger = copy.deepcopy(asked)
    larger["picture"]["width"] += 16

    says_of = ((nowhere, "there is no such folder"), (no_encoder, "no ffmpeg"), (larger, "and the model makes 64x64"))
    for broken, says in says_of:
        answer = worker.render(broken, picture=True)
        assert answer.last["reason"] == "refused"
        assert says in answer.last["error"]


def test_frames_in_an_unknown_form_are_refused(worker: Resident, asked: dict[str, Any]) -> None:
    assert "frames is 'jpeg'" in worker.render(asked, frames="jpeg").last["error"]


def test_a_second_request_is_refused_while_one_is_carried_out(worker: Resident, asked: dict[str, Any]) -> None:
    worker.ask(_changed(asked, chunks=12), name="first")
    worker.until("started")
    worker.ask(asked, name="second")
    refusal = worker.until("failed")[-1].header
    answer = Answer(worker.until("done", "failed"))

    assert refusal["id"] == "second"
    assert refusal["error"] == "ValueError: the worker is at request first"
    assert (answer.last["type"], answer.last["id"]) == ("done", "first")


def _is_dropped(worker: Resident) -> bool:
    try:
        return wire.receive(worker.sock) is None
    except ConnectionResetError:  # not all that was sent had been read
        return True


@pytest.mark.parametrize("data", [b"\xff" * 64, b"GET / HTTP/1.1" + bytes(100)], ids=["noise", "a web browser"])
def test_who_sends_no_messages_loses_the_connection_and_the_next_is_served(
    data: bytes, worker: Resident, asked: dict[str, Any]
) -> None:
    worker.sock.sendall(data)
    assert _is_dropped(worker)

    worker.reconnect()

    assert worker.render(asked).last["type"] == "done"


def test_a_request_without_an_id_loses_the_connection_too(worker: Resident, asked: dict[str, Any]) -> None:
    wire.send(worker.sock, {"type": "render", "render": asked["render"]})
    assert _is_dropped(worker)

    worker.reconnect()

    assert worker.render(asked).last["type"] == "done"


# --- ends before the end --------------------------------------------------------------------------


def test_a_cancel_takes_effect_between_two_chunks_and_what_was_computed_is_written(
    worker: Resident, asked: dict[str, Any], tmp_path: Path
) -> None:
    asked["picture"].update(path=str(tmp_path / "v.rgb"), ffmpeg=str(raw_encoder(tmp_path)))
    worker.ask(_changed(asked, chunks=200), name="long", picture=True)
    begun = worker.until("chunk")
    wire.send(worker.sock, {"type": "cancel", "id": "another"})
    wire.send(worker.sock, {"type": "cancel", "id": "long"})
    answer = Answer((*begun, *worker.until("done", "failed")))

    assert (answer.last["reason"], answer.last["sound"]) == ("cancelled", True)
    assert 0 < len(answer.chunks) < 100
    assert (tmp_path / "v.rgb").read_bytes() == answer.pixels
    assert worker.render(asked).last["type"] == "done"


def test_a_client_that_is_gone_has_cancelled(worker: Resident, asked: dict[str, Any]) -> None:
    worker.ask(_changed(asked, chunks=400), name="left")
    worker.until("chunk")

    began = time.monotonic()
    worker.reconnect()

    assert worker.render(asked).last["type"] in ("done", "failed")
    while worker.render(asked).last["type"] == "failed":
        assert time.monotonic() - began < 20
    assert "[worker] request left was cancelled" in worker.log.read_text()


def test_an_error_ends_the_request_with_its_text_and_not_the_worker(audio: Path, tmp_path: Path) -> None:
    asked = request("flashtalk_new", audio, mode="stream", chunks=3)
    asked["picture"].update(path=str(tmp_path / "v.rgb"), ffmpeg=str(raw_encoder(tmp_path)))
    cwd = miniature_runs.work_dir(tmp_path, "flashtalk_new")

    with Resident(cwd, asked, env={"MINIATURE_FAULT": "hccl@chunk2"}) as worker:
        failed = worker.render(asked, name="bad", picture=True)
        good = worker.render(_changed(asked, chunks=2))
        log = worker.log.read_text()

    assert (failed.last["reason"], failed.last["rank"], failed.last["sound"]) == ("error", 0, True)
    assert failed.last["error"].startswith("RuntimeError: [ERROR] HCCL error in")
    assert "Traceback (most recent call last)" in log.partition("[worker] request bad ended")[0]
    assert (tmp_path / "v.rgb").read_bytes() == failed.pixels == good.pixels
    assert len(good.pixels) == 2 * 28 * FRAME_BYTES


def test_after_two_errors_in_a_row_a_worker_is_not_trusted(audio: Path, tmp_path: Path) -> None:
    asked = request("flashtalk_new", audio, mode="stream", chunks=1)
    cwd = miniature_runs.work_dir(tmp_path, "flashtalk_new")

    with Resident(cwd, asked, env={"MINIATURE_FAULT": "hccl@prep"}) as worker:
        first, second = worker.render(asked).last, worker.render(asked).last
        code = worker.ends()

    assert (first["sound"], second["sound"]) == (True, False)
    assert code == 1


def test_an_encoder_that_dies_is_the_requests_error(worker: Resident, asked: dict[str, Any], tmp_path: Path) -> None:
    dying = tmp_path / "dying"
    dying.write_text("#!/bin/sh\nhead -c 100000 >/dev/null\nexit 3\n")
    dying.chmod(0o755)
    asked["picture"].update(path=str(tmp_path / "v.mp4"), ffmpeg=str(dying))

    answer = worker.render(_changed(asked, chunks=30), picture=True)

    assert (
        answer.last["error"] == "omnirt_worker.encoder.EncoderError: ffmpeg, which writes the video, ended with code 3"
    )
    assert answer.last["sound"] is True
    assert worker.render(asked).last["type"] == "done"


def test_a_signal_ends_the_worker_with_the_finished_chunks_written(audio: Path, tmp_path: Path) -> None:
    asked = request("flashtalk_new", audio, mode="stream", chunks=3)
    asked["picture"].update(path=str(tmp_path / "v.rgb"), ffmpeg=str(raw_encoder(tmp_path)))
    cwd = miniature_runs.work_dir(tmp_path, "flashtalk_new")

    with Resident(cwd, asked, env={"MINIATURE_FAULT": "hang@chunk2"}) as worker:
        worker.ask(asked, picture=True)
        begun = (*worker.until("chunk"), *worker.until("chunk"))
        worker.process.send_signal(signal.SIGTERM)
        answer = Answer((*begun, *worker.until("failed")))
        code = worker.ends()

    assert (answer.last["error"], answer.last["sound"]) == ("the worker was stopped by a signal", False)
    assert code == 128 + signal.SIGTERM
    assert (tmp_path / "v.rgb").read_bytes() == answer.pixels


def test_told_to_leave_it_ends_its_request_and_leaves(audio: Path, tmp_path: Path) -> None:
    asked = request("flashtalk_new", audio, mode="stream", chunks=400)

    with Resident(miniature_runs.work_dir(tmp_path, "flashtalk_new"), asked) as worker:
        worker.ask(asked)
        worker.until("chunk")
        wire.send(worker.sock, {"type": "shutdown"})
        answer = Answer(worker.until("done", "failed"))
        code = worker.ends()

    assert answer.last["reason"] == "cancelled"
    assert code == 0


def test_a_model_that_cannot_be_loaded_ends_the_worker_with_its_traceback(audio: Path, tmp_path: Path) -> None:
    asked = request("flashtalk_new", audio, mode="stream", chunks=1)

    with pytest.raises(AssertionError, match="ModuleNotFoundError: No module named 'xfuser'"):
        Resident(
            miniature_runs.work_dir(tmp_path, "flashtalk_new"), asked, env={"MINIATURE_FAULT": "missing_module@load"}
        )


# --- live -----------------------------------------------------------------------------------------


def _slices(audio: Path, samples: int) -> list[bytes]:
    with wave.open(str(audio), "rb") as file:
        data = file.readframes(file.getnframes())
    length = samples * 2
    padded = data + bytes(-len(data) % length)
    return [padded[at : at + length] for at in range(0, len(padded), length)]


def test_sound_that_comes_slice_by_slice_gives_the_files_frames(
    worker: Resident, asked: dict[str, Any], audio: Path
) -> None:
    slices = _slices(audio, 17920)
    whole = worker.render(_changed(asked, chunks=len(slices)))

    worker.ask(_changed(asked, audio=None), name="live")
    worker.until("prepared")
    pixels = []
    for heard in slices:
        wire.send(worker.sock, {"type": "audio", "id": "live"}, heard)
        pixels.append(worker.until("chunk", "failed")[-1].body)
    wire.send(worker.sock, {"type": "finish", "id": "live"})
    ended = worker.until("done", "failed")[-1].header

    assert (ended["type"], ended["chunks"]) == ("done", len(slices))
    assert b"".join(pixels) == whole.pixels


def test_slices_may_come_faster_than_they_are_computed(worker: Resident, asked: dict[str, Any], audio: Path) -> None:
    worker.ask(_changed(asked, audio=None), name="live")
    for heard in _slices(audio, 17920) * 3:
        wire.send(worker.sock, {"type": "audio", "id": "live"}, heard)
    wire.send(worker.sock, {"type": "finish", "id": "live"})

    assert Answer(worker.until("done", "failed")).last["chunks"] == 12


@pytest.mark.parametrize("length", [0, 2, 35838, 35842])
def test_a_slice_of_another_length_is_refused(length: int, worker: Resident, asked: dict[str, Any]) -> None:
    worker.ask(_changed(asked, audio=None), name="live")
    wire.send(worker.sock, {"type": "audio", "id": "live"}, bytes(length))
    answer = Answer(worker.until("done", "failed"))

    assert answer.last["reason"] == "refused"
    assert f"a slice of sound has {length} bytes; it must have 35840" in answer.last["error"]
    assert worker.render(asked).last["type"] == "done"


def test_a_live_request_is_cancelled_while_it_waits_for_sound(worker: Resident, asked: dict[str, Any]) -> None:
    worker.ask(_changed(asked, audio=None), name="live")
    worker.until("prepared")
    wire.send(worker.sock, {"type": "cancel", "id": "live"})

    assert Answer(worker.until("done", "failed")).last["reason"] == "cancelled"


def test_live_sound_is_for_stream_only(worker: Resident, asked: dict[str, Any]) -> None:
    assert "stream mode only" in worker.render(_changed(asked, audio=None, mode="once")).last["error"]


# --- growth ---------------------------------------------------------------------------------------


def _size(pid: int) -> tuple[int, int, int]:
    """Descriptors, threads, and resident kilobytes."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return (
        len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208
        int(status["Threads"]),
        int(status["VmRSS"].split()[0]),
    )


def test_fifty_requests_leave_nothing_behind(worker: Resident, asked: dict[str, Any], tmp_path: Path) -> None:
    asked["picture"].update(path=str(tmp_path / "v.rgb"), ffmpeg="/bin/true")
    short = _changed(asked, chunks=1, reuse=True)
    bad = _changed(short, mode="twice")
    for number in range(8):
        worker.render(_seeded(short, number), picture=bool(number % 2))
    before = _size(worker.process.pid)

    for number in range(50):
        worker.render(bad if number % 10 == 9 else _seeded(short, number % 7))
    after = _size(worker.process.pid)

    assert after[0] == before[0]
    assert after[1] <= before[1]  # a thread that was joined may be there for a moment
    assert after[2] - before[2] < 3000
