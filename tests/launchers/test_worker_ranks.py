"""A resident worker of two real ranks: one step at a time for both, and what becomes of it when one of them fails."""

from __future__ import annotations

import copy
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launchers.model_env.omnirt_worker import wire
from launchers.model_env.omnirt_worker.lockstep import Apart, Lockstep, RankError
from omnirt_cli.models.driven import PROGRAM
from tests.driver_runs import SETTLE_S, SIDE, Answer, Resident, raw_encoder, request
from tests.miniature import miniature_runs

CHUNK_BYTES = 28 * SIDE * SIDE * 3
SECONDS = 4.3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def audio(place: Path) -> Path:
    return miniature_runs.tone(place / "speech.wav", SECONDS)


@pytest.fixture(scope="module")
def shared(place: Path, audio: Path) -> Iterator[Resident]:
    cwd = miniature_runs.work_dir(place, "flashtalk_new")
    with Resident(cwd, request("flashtalk_new", audio, mode="stream", chunks=1), ranks=2) as worker:
        yield worker


@pytest.fixture
def asked(audio: Path) -> dict[str, Any]:
    return request("flashtalk_new", audio, mode="stream", chunks=4)


@pytest.fixture
def worker(shared: Resident) -> Iterator[Resident]:
    yield shared
    assert shared.process.poll() is None


def _changed(asked: dict[str, Any], **render: Any) -> dict[str, Any]:
    other = copy.deepcopy(asked)
    other["render"].update(render)
    return other


def _script(folder: Path, variant: str, audio: Path, mode: str) -> bytes:
    frames = folder / "script.rgb"
    cwd = miniature_runs.work_dir(folder, variant)
    miniature_runs.run(
        variant, cwd, audio, f"--audio_encode_mode={mode}", "--base_seed=3", env={"MINIATURE_FRAMES": str(frames)}
    )
    return frames.read_bytes()


# --- the same frames ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["stream", "once"])
def test_two_ranks_give_the_scripts_frames_again_and_again(
    mode: str, worker: Resident, asked: dict[str, Any], audio: Path, tmp_path: Path
) -> None:
    script = _script(tmp_path, "flashtalk_new", audio, mode)
    wanted = _changed(asked, mode=mode, chunks=len(script) // CHUNK_BYTES)

    answers = [worker.render(_changed(wanted, reuse=reuse)) for reuse in (False, True, True)]

    assert [answer.pixels == script for answer in answers] == [True, True, True]
    assert answers[2].prepared["reused"]
    assert worker.ready["world_size"] == 2


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", ["flashtalk_old", "flashtalk_ascend", "flashtalk_quant", "flashhead"])
def test_every_variant_does(variant: str, audio: Path, tmp_path: Path) -> None:
    script = _script(tmp_path, variant, audio, "stream")
    asked = request(variant, audio, mode="stream", chunks=len(script) // CHUNK_BYTES)

    with Resident(tmp_path / f"work_{variant}", asked, ranks=2) as worker:
        first, second = worker.render(asked), worker.render(asked)

    assert first.pixels == second.pixels == script


def test_sound_that_comes_slice_by_slice_reaches_both(worker: Resident, asked: dict[str, Any], audio: Path) -> None:
    with wave.open(str(audio), "rb") as file:
        data = file.readframes(2 * 17920)
    whole = worker.render(_changed(asked, chunks=2))

    worker.ask(_changed(asked, audio=None))
    for half in (data[:35840], data[35840:]):
        wire.send(worker.sock, {"type": "audio", "id": "r"}, half)
    wire.send(worker.sock, {"type": "finish", "id": "r"})
    answer = Answer(worker.until("done", "failed"))

    assert answer.pixels == whole.pixels


def test_settings_reach_both_and_are_taken_off_both(worker: Resident, asked: dict[str, Any]) -> None:
    before = worker.render(asked)
    stepped = worker.render(_changed(asked, params={"sample_steps": 2}), name="two steps")
    after = worker.render(asked)

    log = worker.log.read_text().partition("[worker] request two steps\n")[2]
    assert log.partition("[worker] request two steps ended")[0].count("denoise per step") == 2 * 4
    assert before.pixels == stepped.pixels == after.pixels


# --- what they never hear, and cancelling ---------------------------------------------------------


def test_a_broken_request_is_refused_before_the_other_rank_hears_of_it(
    worker: Resident, asked: dict[str, Any], tmp_path: Path
) -> None:
    portrait = tmp_path / "face.png"
    portrait.write_bytes(b"no picture")
    broken = _changed(asked, base={**asked["render"]["base"], "image": str(portrait)})

    answer = worker.render(broken, name="broken")

    assert answer.last["reason"] == "refused"
    assert "[rank1]" not in worker.log.read_text()
    assert worker.render(asked).last["type"] == "done"


def test_both_come_out_of_a_cancelled_request_together(worker: Resident, asked: dict[str, Any]) -> None:
    worker.ask(_changed(asked, chunks=300))
    worker.until("chunk")
    wire.send(worker.sock, {"type": "cancel", "id": "r"})

    assert Answer(worker.until("done", "failed")).last["reason"] == "cancelled"
    assert worker.render(asked).last["type"] == "done"


def test_told_to_leave_both_leave(audio: Path, asked: dict[str, Any], tmp_path: Path) -> None:
    with Resident(miniature_runs.work_dir(tmp_path, "flashtalk_new"), asked, ranks=2) as worker:
        wire.send(worker.sock, {"type": "shutdown"})
        assert worker.ends() == 0


# --- errors ---------------------------------------------------------------------------------------


def _faulty(folder: Path, asked: dict[str, Any], fault: str) -> Resident:
    cwd = miniature_runs.work_dir(folder, "flashtalk_new")
    return Resident(cwd, asked, ranks=2, env={"MINIATURE_FAULT": fault})


def test_one_ranks_error_ends_the_request_with_its_text_where_both_come_out_of_the_step(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    with _faulty(tmp_path, asked, "hccl@prep:rank1") as worker:
        first = worker.render(asked, name="first").last
        alive = worker.process.poll() is None
        second = worker.render(asked).last
        code = worker.ends()
        log = worker.log.read_text()

    assert (first["reason"], first["rank"], first["sound"]) == ("error", 1, True)
    assert first["error"].startswith("RuntimeError: [ERROR] HCCL error in")
    own = log.partition("[worker] request first\n")[2].partition("[worker] request first ended")[0]
    assert "[rank1]: Traceback (most recent call last)" in own
    assert alive
    assert second["sound"] is False  # twice in a row
    assert code == 1


def test_an_error_of_both_is_told_once_and_they_go_on(asked: dict[str, Any], tmp_path: Path) -> None:
    with _faulty(tmp_path, asked, "hccl@chunk2") as worker:
        failed = worker.render(asked)
        good = worker.render(_changed(asked, chunks=2))

    assert (failed.last["rank"], failed.last["sound"]) == (0, True)
    assert good.last["type"] == "done"
    assert failed.pixels == good.pixels


def test_where_one_waits_in_a_collective_for_ever_the_worker_ends(asked: dict[str, Any], tmp_path: Path) -> None:
    asked["picture"].update(path=str(tmp_path / "v.rgb"), ffmpeg=str(raw_encoder(tmp_path)))

    with _faulty(tmp_path, asked, "hccl@chunk2:rank1") as worker:
        began = time.monotonic()
        answer = worker.render(asked, picture=True)
        took = time.monotonic() - began
        code = worker.ends()
        log = worker.log.read_text()

    assert (answer.last["reason"], answer.last["rank"], answer.last["sound"]) == ("error", 1, False)
    assert answer.last["error"].startswith("RuntimeError: [ERROR] HCCL error in")
    assert took < SETTLE_S + 10
    assert code == 1
    assert "[worker] request r ended" in log
    assert (tmp_path / "v.rgb").read_bytes() == answer.pixels
    assert len(answer.pixels) == 2 * CHUNK_BYTES


def test_a_rank_that_is_killed_ends_the_worker(asked: dict[str, Any], tmp_path: Path) -> None:
    with _faulty(tmp_path, asked, "kill@chunk2:rank1") as worker:
        answer = worker.render(asked)
        code = worker.ends()

    assert (answer.last["reason"], answer.last["sound"]) == ("error", False)
    assert answer.last["error"] in ("rank 1 is gone", "the worker was stopped by a signal")  # the launcher is as fast
    assert code == 1


def test_a_signal_reaches_a_worker_that_hangs_in_a_collective(asked: dict[str, Any], tmp_path: Path) -> None:
    asked["picture"].update(path=str(tmp_path / "v.rgb"), ffmpeg=str(raw_encoder(tmp_path)))

    with _faulty(tmp_path, asked, "hang@chunk2:rank1") as worker:
        worker.ask(asked, picture=True)
        begun = (*worker.until("chunk"), *worker.until("chunk"))
        wire.send(worker.sock, {"type": "cancel", "id": "r"})
        worker.process.terminate()
        answer = Answer((*begun, *worker.until("failed")))
        worker.ends()

    assert answer.last["sound"] is False
    assert (tmp_path / "v.rgb").read_bytes() == answer.pixels


# --- without a launcher that would end them -------------------------------------------------------


def _by_hand(cwd: Path, rank: int, port: int, fault: str) -> subprocess.Popen[bytes]:
    group = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with (cwd / f"rank{rank}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), "--serve=serve.json"],
            cwd=cwd,
            env=miniature_runs.environment({**group, **meeting, "MINIATURE_FAULT": fault}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("fault", ["", "hang@chunk0:rank1"], ids=["while it waits", "while it hangs"])
def test_a_rank_leaves_when_the_first_is_killed(fault: str, asked: dict[str, Any], tmp_path: Path) -> None:
    cwd = miniature_runs.work_dir(tmp_path, "flashtalk_new")
    Resident.write_serve(cwd, asked)
    port = _free_port()
    first, second = (_by_hand(cwd, rank, port, fault) for rank in (0, 1))
    try:
        sock = wire.connect(cwd, "worker.sock", timeout_s=60)
        sock.settimeout(60)
        wire.receive(sock)
        if fault:
            wire.send(sock, {"type": "render", "id": "r", "render": asked["render"], "frames": "raw"})
            while (message := wire.receive(sock)) is not None and message.type != "prepared":
                continue
        first.send_signal(signal.SIGKILL)
        assert second.wait(20) == 1
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    sock.close()
    assert "[worker] rank 0 is gone" in (cwd / "rank1.log").read_text()


# --- the steps by themselves ----------------------------------------------------------------------


class _Rank:
    """Answers steps as it is told, in a thread."""

    def __init__(self, answer: Callable[[wire.Message], dict[str, Any] | None]) -> None:
        self.here, self._there = socket.socketpair()
        self.heard: list[str] = []
        self._answer = answer
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (message := wire.receive(self._there)) is not None:
            self.heard.append(message.type)
            if (answer := self._answer(message)) is not None:
                wire.send(self._there, {"type": "did", "step": message.header["step"], "error": None, **answer})

    def close(self) -> None:
        self._there.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._there.close()


class _Watched:
    """A lockstep with one such rank; what would end the process is noted instead."""

    def __init__(self, answer: Callable[[wire.Message], dict[str, Any] | None]) -> None:
        self.rank = _Rank(answer)
        self.apart: list[Apart] = []
        self.fell_apart = threading.Event()
        self.lockstep = Lockstep({1: self.rank.here}, self._note, 0.2)

    def _note(self, why: Apart) -> None:
        self.apart.append(why)
        self.fell_apart.set()
        threading.Event().wait()


def test_what_both_parts_gave_comes_back() -> None:
    watched = _Watched(lambda message: {"known": message.header["key"] == "k"})

    own, others = watched.lockstep.together({"type": "begin", "key": "k"}, lambda: 7)

    assert own == 7
    assert [answer["known"] for answer in others] == [True]


def test_a_step_lasts_until_the_slowest_has_answered() -> None:
    watched = _Watched(lambda _: time.sleep(0.5) or {})

    began = time.monotonic()
    watched.lockstep.together({"type": "chunk"}, lambda: None)

    assert time.monotonic() - began >= 0.5
    assert not watched.apart  # slow is no fault


def test_the_first_error_is_told_and_not_what_follows_from_it() -> None:
    watched = _Watched(lambda _: {"error": "ValueError: the cause"})

    def own() -> None:
        time.sleep(0.1)
        raise ConnectionError("closed by peer")

    with pytest.raises(RankError, match="the cause") as caught:
        watched.lockstep.together({"type": "chunk"}, own)

    assert caught.value.rank == 1
    own_result, _ = _Watched(lambda _: {}).lockstep.together({"type": "end"}, lambda: "well")
    assert own_result == "well"


def test_an_own_error_stays_what_it_is() -> None:
    watched = _Watched(lambda _: time.sleep(0.1) or {"error": "ConnectionError: closed by peer"})

    with pytest.raises(ZeroDivisionError):
        watched.lockstep.together({"type": "chunk"}, lambda: 1 // 0)


def test_who_does_not_come_out_of_a_step_after_an_error_is_apart() -> None:
    watched = _Watched(lambda _: None)

    def together() -> None:
        with pytest.raises(ZeroDivisionError):
            watched.lockstep.together({"type": "chunk"}, lambda: 1 // 0)

    threading.Thread(target=together, daemon=True).start()

    assert watched.fell_apart.wait(10)
    assert watched.apart[0].rank == 0
    assert "did not come out of the step" in watched.apart[0].text


def test_an_own_part_that_hangs_after_anothers_error_is_apart() -> None:
    watched = _Watched(lambda _: {"error": "ValueError: the cause"})
    hanging = threading.Event()
    threading.Thread(target=lambda: watched.lockstep.together({"type": "chunk"}, hanging.wait), daemon=True).start()

    assert watched.fell_apart.wait(10)
    assert watched.apart == [Apart(1, "ValueError: the cause")]


def test_a_rank_that_is_gone_is_noticed_between_two_requests_too() -> None:
    watched = _Watched(lambda _: {})

    watched.rank.close()

    assert watched.fell_apart.wait(10)
    assert watched.apart == [Apart(1, "rank 1 is gone")]


def test_a_process_of_its_own_has_nobody_to_tell() -> None:
    threads = threading.active_count()
    lockstep = Lockstep({}, lambda _: os._exit(1), 0.1)

    assert lockstep.together({"type": "chunk"}, lambda: 3) == (3, [])
    with pytest.raises(ZeroDivisionError):
        lockstep.together({"type": "chunk"}, lambda: 1 // 0)
    lockstep.stop()
    assert threading.active_count() == threads
