"""The hot path's parts: chunks taken away beside the computing, embeddings made ahead, lines of the log in order."""

from __future__ import annotations

import gc
import io
import itertools
import threading
import time
import traceback
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from launchers.model_env.omnirt_worker import device as devices
from launchers.model_env.omnirt_worker.copying import to_host
from launchers.model_env.omnirt_worker.delivery import QUEUE_CHUNKS, Delivered, Delivery
from launchers.model_env.omnirt_worker.device import HostDevice, StreamedDevice, WaitingDevice, device_of
from launchers.model_env.omnirt_worker.embeddings import Embedding, Embeddings, Helper
from launchers.model_env.omnirt_worker.encoder import Encoder, EncoderError
from launchers.model_env.omnirt_worker.log_order import LogOrder, kept
from launchers.model_env.omnirt_worker.overlay import Overlay, laid
from launchers.model_env.omnirt_worker.render import Chunk
from launchers.model_env.omnirt_worker.requests import PictureRequest
from tests.driver_runs import raw_encoder

HOST = HostDevice()


def _chunk(index: int, frames: Any = None) -> Chunk:
    mark = HOST.mark()
    made = np.full((2, 4, 4, 3), float(index), np.float32) if frames is None else frames
    return Chunk(index, made, Embedding(None, mark, mark), mark, HOST.mark())


def _order() -> LogOrder:
    return LogOrder(io.StringIO())


# --- delivery -------------------------------------------------------------------------------------


def test_chunks_are_taken_away_in_order_with_their_pixels() -> None:
    taken: list[Delivered] = []

    with Delivery(HOST, _order(), None, taken.append) as delivery:
        for index in range(5):
            delivery.put(_chunk(index))

    assert [(made.index, made.frames, made.height, made.width) for made in taken] == [(n, 2, 4, 4) for n in range(5)]
    assert [bytes(made.pixels) for made in taken] == [bytes([index]) * 96 for index in range(5)]
    assert all(made.copy_ms > 0 and made.core_ms >= 0 for made in taken)


def test_the_computing_thread_does_not_wait_for_the_taking_away() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: Delivered) -> None:
        begun.set()
        go_on.wait(10)

    with Delivery(HOST, _order(), None, slow) as delivery:
        delivery.put(_chunk(0))
        assert begun.wait(10)
        delivery.put(_chunk(1))
        go_on.set()


def test_who_computes_faster_than_chunks_are_taken_away_waits() -> None:
    alive: list[weakref.ref[np.ndarray[Any, Any]]] = []
    most = 0

    with Delivery(HOST, _order(), None, lambda _: time.sleep(0.02)) as delivery:
        for index in range(12):
            frames = np.zeros((2, 4, 4, 3), np.float32)
            alive.append(weakref.ref(frames))
            delivery.put(_chunk(index, frames))
            del frames
            most = max(most, sum(reference() is not None for reference in alive))

    # The one that is being delivered, and those in the queue.
    assert most <= QUEUE_CHUNKS + 2


def test_a_fault_is_raised_in_the_computing_thread_with_its_own_traceback() -> None:
    def refuse(_: Delivered) -> None:
        raise ZeroDivisionError("in the other thread")

    def compute() -> None:
        with Delivery(HOST, _order(), None, refuse) as delivery:
            for index in range(50):
                delivery.put(_chunk(index))

    with pytest.raises(ZeroDivisionError) as caught:
        compute()

    assert "in refuse" in "".join(traceback.format_exception(caught.type, caught.value, caught.tb))


def test_a_fault_of_the_last_chunk_is_raised_at_the_end() -> None:
    def refuse(_: Delivered) -> None:
        time.sleep(0.05)
        raise ZeroDivisionError

    delivery = Delivery(HOST, _order(), None, refuse)
    delivery.put(_chunk(0))
    with pytest.raises(ZeroDivisionError):
        delivery.close()
    delivery.close()  # once is enough


def _fail_in_both() -> None:
    def refuse(_: Delivered) -> None:
        raise KeyError

    with Delivery(HOST, _order(), None, refuse) as delivery:
        delivery.put(_chunk(0))
        raise ZeroDivisionError


def test_an_error_of_the_core_is_not_hidden_by_the_deliverys() -> None:
    with pytest.raises(ZeroDivisionError):
        _fail_in_both()


def test_an_encoder_that_dies_is_told_by_the_computing_thread(tmp_path: Path) -> None:
    picture = PictureRequest(str(raw_encoder(tmp_path)), str(tmp_path / "v.rgb"), 64, 64, 25)
    frames = np.zeros((28, 64, 64, 3), np.float32)

    def compute() -> None:
        with Encoder(picture) as encoder, Delivery(HOST, _order(), encoder) as delivery:
            encoder._ffmpeg.kill()
            for index in range(50):
                delivery.put(_chunk(index, frames))

    with pytest.raises(EncoderError, match="killed by SIGKILL"):
        compute()


def test_a_chunk_is_not_kept_when_it_is_delivered() -> None:
    frames = np.zeros((2, 4, 4, 3), np.float32)
    kept_frames = weakref.ref(frames)
    done = threading.Event()

    with Delivery(HOST, _order(), None, lambda _: done.set()) as delivery:
        delivery.put(_chunk(0, frames))
        del frames
        assert done.wait(10)
        for _ in range(100):
            if kept_frames() is None:
                break
            time.sleep(0.01)
        gc.collect()
        assert kept_frames() is None


# --- the log --------------------------------------------------------------------------------------


def test_what_a_chunk_prints_waits_for_the_line_of_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    target = io.StringIO()
    order = LogOrder(target)

    order.computing(0)
    order.write("step of 0\n")
    assert target.getvalue() == "step of 0\n"
    order.computing(1)
    order.write("step of 1\n")
    order.computing(2)
    order.write("step of 2\n")
    assert target.getvalue() == "step of 0\n"

    order.tell_chunk("times of 0\n", "chunk-0")
    assert target.getvalue() == "step of 0\ntimes of 0\nstep of 1\n"
    order.tell_chunk("times of 1\n", "chunk-1")
    assert target.getvalue().endswith("times of 1\nstep of 2\n")
    assert [line.rsplit(" - ")[1] for line in capsys.readouterr().err.splitlines()] == ["chunk-0", "chunk-1"]


def test_libraries_find_the_rest_of_an_output_there(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="utf-8") as target:
        order = LogOrder(target)

        assert order.buffer is target.buffer
        assert order.fileno() == target.fileno()
        assert (order.encoding, order.writable(), order.isatty()) == ("utf-8", True, False)


def test_what_is_still_held_is_printed_at_the_end_whatever_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    def compute() -> None:
        with kept() as order:
            order.computing(3)
            print("of a chunk whose forerunner has no line")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compute()
    print("and after it")
    assert capsys.readouterr().out == "of a chunk whose forerunner has no line\nand after it\n"


# --- embeddings -----------------------------------------------------------------------------------


def test_the_next_embedding_is_made_in_another_thread() -> None:
    threads: list[str] = []

    def source() -> Iterator[int]:
        for number in itertools.count():
            threads.append(threading.current_thread().name)
            yield number

    embeddings, helper = Embeddings(source(), HOST), Helper(HOST)
    values = []
    for _ in range(3):
        values.append(embeddings.take().value)
        embeddings.begin_next(helper)
    embeddings.settle()

    assert values == [0, 1, 2]
    assert threads[0] == "MainThread"
    assert {name.partition("_")[0] for name in threads[1:]} == {"embedding"}


def test_what_goes_wrong_there_is_raised_where_it_is_wanted() -> None:
    def source() -> Iterator[int]:
        yield 0
        raise ValueError("too short")

    embeddings, helper = Embeddings(source(), HOST), Helper(HOST)
    embeddings.take()
    embeddings.begin_next(helper)

    with pytest.raises(ValueError, match="too short"):
        embeddings.take()


def test_what_goes_wrong_with_one_that_nobody_wants_is_nobodys_business() -> None:
    def source() -> Iterator[int]:
        time.sleep(0.05)
        raise ValueError
        yield 0

    embeddings = Embeddings(source(), HOST)
    embeddings.begin_next(Helper(HOST))

    embeddings.settle()


def test_the_other_thread_has_gradients_as_this_one() -> None:
    def source() -> Iterator[bool]:
        while True:
            yield torch.is_grad_enabled()

    embeddings, helper = Embeddings(source(), HOST), Helper(HOST)
    seen = []
    for enabled in (False, True):
        with torch.set_grad_enabled(enabled):
            embeddings.begin_next(helper)
            seen.append(embeddings.take().value)

    assert seen == [False, True]


# --- devices --------------------------------------------------------------------------------------


class _Backend:
    """Stands for `torch.cuda`: notes what is asked of it, by which thread."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.device_of_thread: dict[str, int] = {}
        backend = self

        class Event:
            def __init__(self, *, enable_timing: bool, blocking: bool) -> None:
                assert enable_timing
                assert blocking
                self.at = 0.0

            def record(self) -> None:
                backend.note("record")
                self.at = time.monotonic()

            def synchronize(self) -> None:
                backend.note("wait for event")

            def elapsed_time(self, end: Any) -> float:
                return float((end.at - self.at) * 1000)

        class Stream:
            def __init__(self, _: int = 0) -> None:
                backend.note("new stream")

            def wait_event(self, _: Any) -> None:
                backend.note("stream waits")

        self.Event, self.Stream = Event, Stream

    def note(self, what: str) -> None:
        self.asked.append((what, threading.current_thread().name))

    def set_device(self, index: int) -> None:
        self.device_of_thread[threading.current_thread().name] = index

    def current_device(self) -> int:
        return 0

    @contextmanager
    def stream(self, _: Any) -> Iterator[None]:
        self.note("side stream")
        yield

    def current_stream(self, _: int) -> Any:
        return self.Stream()

    def synchronize(self, _: int) -> None:
        self.note("synchronize")


def test_a_pipelines_device_is_told_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipeline:
        def __init__(self, device: Any) -> None:
            self.device = device

    monkeypatch.setattr(torch, "npu", _Backend(), raising=False)

    assert isinstance(device_of(object()), HostDevice)
    assert isinstance(device_of(Pipeline(torch.device("cpu"))), HostDevice)
    assert isinstance(device_of(Pipeline("npu:3")), StreamedDevice)
    assert isinstance(device_of(Pipeline("cuda:0")), StreamedDevice)
    unknown = device_of(Pipeline("mlu:0"))
    assert isinstance(unknown, WaitingDevice)
    assert not unknown.beside
    assert unknown.name == "mlu:0"


def test_a_device_of_an_unknown_kind_is_waited_for_as_the_scripts_do() -> None:
    waited: list[int] = []
    device = WaitingDevice("mlu:0", lambda: waited.append(1))

    device.mark().wait()

    assert waited == [1]


def test_the_computing_thread_never_waits_for_an_accelerator() -> None:
    backend = _Backend()
    device = StreamedDevice("cuda:1", backend)
    taken: list[Delivered] = []

    def embeddings() -> Iterator[int]:
        yield from itertools.count()

    heard, helper = Embeddings(embeddings(), device), Helper(device)
    with Delivery(device, _order(), None, taken.append) as delivery:
        for index in range(4):
            embedding = heard.take()
            heard.begin_next(helper)
            began = device.mark()
            frames = np.zeros((2, 4, 4, 3), np.float32)
            delivery.put(Chunk(index, frames, embedding, began, device.mark()))
    heard.settle()

    by_main = {what for what, thread in backend.asked if thread == "MainThread"}
    assert by_main <= {"record", "stream waits", "new stream"}
    assert set(backend.device_of_thread.values()) == {1}
    assert {name.partition("_")[0] for name in backend.device_of_thread} == {"embedding", "delivery"}
    assert all(made.core_ms >= 0 for made in taken)


def test_each_task_has_one_stream_whichever_threads_do_it() -> None:
    backend = _Backend()
    device = StreamedDevice("cuda:0", backend)

    def work() -> None:
        for task in ("copying", "embedding"):
            with device.side_stream(task):
                pass

    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    asked = [what for what, _ in backend.asked]
    assert asked.count("new stream") == 2
    assert asked.count("side stream") == 6


def test_frames_on_the_host_of_an_accelerator_are_converted_there() -> None:
    device = StreamedDevice("cuda:0", _Backend())

    copied = to_host(torch.full((1, 1, 1, 3), 7.9), device.mark(), device)

    assert bytes(copied.pixels) == bytes([7, 7, 7])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_frames_come_over_from_cuda_as_they_are_on_the_host() -> None:
    device = devices.device_of(type("Pipeline", (), {"device": "cuda:0"})())
    made = torch.rand(28, 416, 704, 3, device="cuda:0") * 255

    copied = to_host(made, device.mark(), device)

    assert bytes(copied.pixels) == made.cpu().numpy().astype(np.uint8).tobytes()
    assert copied.ms > 0


# --- settings -------------------------------------------------------------------------------------


def test_settings_are_taken_off_whatever_happens() -> None:
    place = {"steps": 4, "shift": 5}

    def render() -> None:
        with laid([Overlay(place, "params", {"steps": 2})]):
            assert place == {"steps": 2, "shift": 5}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        render()
    assert place == {"steps": 4, "shift": 5}


def test_none_is_laid_where_one_is_unknown() -> None:
    place, other = {"steps": 4}, {"shift": 5}

    overlays = [Overlay(other, "others", {"shift": 1}), Overlay(place, "params", {"speed": 2})]
    with pytest.raises(AttributeError, match="params has no speed"), laid(overlays):
        pass

    assert (place, other) == ({"steps": 4}, {"shift": 5})
