"""Devices are sampled beside a run: peaks and a bounded series come of it, and whatever the tool does costs nothing."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirt_cli.devices.device import Device, DeviceUse, Holder
from omnirt_cli.devices.npu_smi import NpuSmi, ask_npu_smi
from omnirt_cli.devices.usage import UseSource
from omnirt_cli.devices.vendor_tool import VendorToolError, VendorToolMissingError
from omnirt_cli.models.base import Backend
from omnirt_cli.report import DeviceInfo, DevicesInfo
from omnirt_cli.run import device_use
from omnirt_cli.run.device_use import STOP_S, Opener, SampledUse, UseFacts
from omnirt_cli.run.use_series import POINTS_AT_MOST, Moment, UseSeries
from tests.vendor_tools import Chip, calls, failing_tool, fake_npu_smi, gone, hanging_tool, processes_of

DEVICES = (
    Device("2", "GPU-2", total_gib=80.0, free_gib=79.0),
    Device("3", "GPU-3", total_gib=80.0, free_gib=40.0),
)
GIB = 1 << 30


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for the child's start."""
    monkeypatch.setattr(device_use, "FIRST_S", 0.0)


class Told:
    """A tool that gives one answer after the other, and the last one from then on."""

    def __init__(self, *answers: Mapping[str, DeviceUse] | Exception, takes_s: float = 0.0) -> None:
        self._answers = itertools.chain(answers, itertools.repeat(answers[-1]))
        self._takes_s = takes_s
        self.asked = 0

    def use(self) -> Mapping[str, DeviceUse]:
        self.asked += 1
        time.sleep(self._takes_s)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def telling(tool: Told, every_s: float = 0.005) -> Opener:
    return lambda *_: UseSource("nvml", tool, every_s)


def sampled(opener: Opener, devices: Sequence[Device] = DEVICES) -> SampledUse:
    return SampledUse(Backend.CUDA, devices, began=time.monotonic(), environ={}, opener=opener)


def watch(tool: Told, devices: Sequence[Device] = DEVICES, *, looks: int = 4) -> UseFacts:
    use = sampled(telling(tool), devices)
    use.start()
    wait_until(lambda: tool.asked >= looks)
    return use.stop()


def wait_until(met: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def held(gib: float, percent: float | None = None, *holders: Holder) -> DeviceUse:
    return DeviceUse(gib, percent, holders)


# What is told


def test_peak_growth_use_and_series_of_each_device() -> None:
    tool = Told(
        {"GPU-2": held(2.0, 0), "GPU-3": held(41.0, 10)},
        {"GPU-2": held(30.5, 100), "GPU-3": held(40.0, 30)},
        {"GPU-2": held(20.0, 50), "GPU-3": held(40.0, 20)},
    )

    facts = watch(tool)

    first, second = facts.devices
    assert (first.id, first.peak_gib, first.peak_source, first.growth_gib) == ("2", 30.5, "nvml", 29.5)
    assert (second.id, second.peak_gib, second.growth_gib) == ("3", 41.0, 1.0)
    assert [point.memory_gib for point in first.series][:3] == [2.0, 30.5, 20.0]
    assert [point.use_percent for point in second.series][:3] == [10.0, 30.0, 20.0]
    assert [point.at_ms for point in first.series] == sorted(point.at_ms for point in first.series)
    assert first.use_percent_avg == pytest.approx(50.0, abs=1.0)
    assert facts.sampling is not None
    assert (facts.sampling.source, facts.sampling.problem) == ("nvml", None)
    assert facts.sampling.looks >= 3
    assert (facts.sampling.interval_ms or 0) >= 5


def test_what_is_not_told_is_absent_and_never_zero() -> None:
    (facts,) = watch(Told({"GPU-2": DeviceUse()}), (Device("2", "GPU-2"),)).devices

    assert (facts.peak_gib, facts.growth_gib, facts.own_peak_gib, facts.use_percent_avg) == (None,) * 4
    assert facts.peak_source is None
    assert {(point.memory_gib, point.use_percent) for point in facts.series} == {(None, None)}


def test_a_device_that_vanishes_keeps_what_was_seen_and_is_named() -> None:
    tool = Told({"GPU-2": held(5.0), "GPU-3": held(6.0)}, {"GPU-2": held(7.0)})

    facts = watch(tool)

    assert [it.peak_gib for it in facts.devices] == [7.0, 6.0]
    assert facts.sampling is not None
    assert facts.sampling.problem == "nvml did not always tell of device 3"


@pytest.fixture
def child() -> Iterator[int]:
    """A grandchild, as a rank is."""
    rank = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {rank!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", launcher], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


def test_what_the_run_s_own_processes_hold_is_told_apart(child: int) -> None:
    own, other, untold = Holder(child, None, 20.0), Holder(1, "somebody", 9.0), Holder(child, None, None)

    facts = watch(Told({"GPU-2": held(30.0, None, own, other), "GPU-3": held(5.0, None, other, untold)}))

    assert [(it.peak_gib, it.own_peak_gib) for it in facts.devices] == [(30.0, 20.0), (5.0, None)]


def test_a_worker_s_processes_are_own_for_whoever_asks_it_to_render(child: int) -> None:
    tool = Told({"GPU-2": held(30.0, None, Holder(child, None, 20.0), Holder(os.getpid(), None, 4.0))})
    use = sampled(telling(tool))
    use.start(child)
    wait_until(lambda: tool.asked >= 2)

    assert use.stop().devices[0].own_peak_gib == 20.0


def test_a_peak_of_torch_s_may_come_after_the_end() -> None:
    use = sampled(telling(Told({})))
    use.stop()

    use.note_peak("2", 3 * GIB)

    assert use.facts().devices[0].peak_gib == 3.0


def test_torch_tells_where_the_tool_does_not_and_what_a_look_missed() -> None:
    use = sampled(telling(tool := Told({"GPU-2": held(10.0), "GPU-3": held(44.0)})))
    use.start()
    wait_until(lambda: tool.asked >= 2)
    use.note_peak("2", 24 * GIB)
    use.note_peak("2", 12 * GIB)
    use.note_peak("3", 3 * GIB)
    use.note_peak("9", 5 * GIB)
    facts = {it.id: it for it in use.stop().devices}

    assert (facts["2"].peak_gib, facts["2"].peak_source, facts["2"].own_peak_gib) == (24.0, "torch", 24.0)
    assert (facts["3"].peak_gib, facts["3"].peak_source, facts["3"].own_peak_gib) == (44.0, "nvml", 3.0)
    assert facts["3"].growth_gib == 4.0
    assert (facts["9"].peak_gib, facts["9"].peak_source, facts["9"].series) == (5.0, "torch", ())


def test_it_all_goes_into_the_report_and_what_others_wrote_there_stays() -> None:
    devices = DevicesInfo(
        kind="cuda", used=[DeviceInfo(id="2", memory_free_before_gib=79.0), DeviceInfo(id="7", name="untouched")]
    )

    facts = watch(Told({"GPU-2": held(3.0, 50), "GPU-3": held(1.0)}))
    facts.put_into(devices)
    facts.put_into(None)

    seen, other = devices.used
    assert (seen.memory_peak_gib, seen.memory_growth_gib, seen.use_percent_avg) == (3.0, 2.0, 50.0)
    assert (seen.memory_peak_source, seen.memory_free_before_gib) == ("nvml", 79.0)
    assert other == DeviceInfo(id="7", name="untouched")
    assert DevicesInfo.model_validate_json(devices.model_dump_json()) == devices


def test_a_run_that_ends_before_the_first_look_has_no_figures_rather_than_zeros(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device_use, "FIRST_S", 60.0)
    use = sampled(telling(tool := Told({"GPU-2": held(3.0)})))
    use.start()
    facts = use.stop()

    assert tool.asked == 0
    assert facts.sampling is not None
    assert (facts.sampling.looks, facts.sampling.interval_ms, facts.sampling.problem) == (0, None, None)
    assert {(it.peak_gib, it.use_percent_avg, it.series) for it in facts.devices} == {(None, None, ())}


def test_on_the_cpu_there_is_nothing_to_look_at() -> None:
    use = SampledUse(Backend.CPU, (Device("0", "cpu-0"),), began=0.0, environ={})
    use.start()

    assert use.stop().sampling is None
    assert "device-use" not in {thread.name for thread in threading.enumerate()}


# It costs the run nothing


def test_looks_take_a_twentieth_of_the_time_at_most() -> None:
    tool = Told({}, takes_s=0.03)
    use = sampled(telling(tool))
    began = time.monotonic()
    use.start()
    wait_until(lambda: tool.asked >= 3)
    took = time.monotonic() - began
    use.stop()

    assert took >= 2 * 0.03 * 20


def test_a_tool_that_fails_once_is_asked_again_and_that_is_said() -> None:
    facts = watch(Told(VendorToolError("npu-smi info failed"), {"GPU-2": held(3.0), "GPU-3": held(3.0)}))

    assert facts.devices[0].peak_gib == 3.0
    assert facts.sampling is not None
    assert facts.sampling.problem == "npu-smi info failed"


def test_a_tool_that_fails_again_and_again_is_left_alone() -> None:
    tool = Told({"GPU-2": held(3.0)}, VendorToolError("the driver is gone"))
    use = sampled(telling(tool))
    use.start()
    wait_until(lambda: tool.asked >= 4)
    time.sleep(0.1)
    facts = use.stop()

    assert tool.asked == 4
    assert facts.devices[0].peak_gib == 3.0
    assert facts.sampling is not None
    assert (facts.sampling.looks, facts.sampling.problem) == (1, "the driver is gone")


def test_without_a_tool_nothing_is_known_and_the_reason_is() -> None:
    def none(*_: object) -> UseSource:
        raise VendorToolMissingError("npu-smi is not on PATH")

    use = sampled(none)
    use.start()
    wait_until(lambda: "not on PATH" in str(use.facts().sampling))
    facts = use.stop()

    assert facts.sampling is not None
    assert (facts.sampling.source, facts.sampling.looks, facts.sampling.problem) == (None, 0, "npu-smi is not on PATH")
    assert facts.devices[0].peak_gib is None


def test_a_bug_in_a_look_ends_the_looks_and_nothing_else() -> None:
    facts = watch(Told({"GPU-2": held(3.0)}, TypeError("unhashable")), looks=2)

    assert facts.sampling is not None
    assert facts.sampling.problem == "a bug in OmniRT: TypeError: unhashable"


class Library:
    """A driver that answers once and then hangs until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.asked = 0

    def use(self) -> Mapping[str, DeviceUse]:
        self.asked += 1
        if self.asked > 1:
            self.released.wait(30)
        return {"GPU-2": held(float(self.asked)), "GPU-3": held(1.0)}


def test_a_driver_that_hangs_holds_up_nobody_and_its_late_answer_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device_use, "SILENT_S", 0.2)
    library = Library()
    use = sampled(lambda *_: UseSource("nvml", library, 0.005))
    use.start()
    wait_until(lambda: library.asked == 2)
    time.sleep(0.25)

    began = time.monotonic()
    facts = use.stop()
    took = time.monotonic() - began
    library.released.set()
    time.sleep(0.05)

    assert took < STOP_S + 0.5
    assert facts.devices[0].peak_gib == 1.0
    assert facts.sampling is not None
    assert re.fullmatch(r"nvml had not answered for 0\.[4-9] s when the run ended", facts.sampling.problem or "")
    assert use.facts() == use.stop() == facts


# With a real tool


@pytest.fixture
def npus(tmp_path: Path) -> tuple[Device, ...]:
    fake_npu_smi(tmp_path, [Chip(0)])
    return ask_npu_smi({"PATH": str(tmp_path)}).devices or ()


def start(folder: Path, devices: tuple[Device, ...], timeout_s: float = 20.0) -> SampledUse:
    tool = NpuSmi({"PATH": str(folder)}, timeout_s)
    use = SampledUse(
        Backend.ASCEND,
        devices,
        began=time.monotonic(),
        environ={},
        opener=lambda *_: UseSource("npu-smi", tool, 0.01),
    )
    use.start()
    return use


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting a stand-in takes longer than the vendor's answer would; no test waits twenty times as long."""
    monkeypatch.setattr(device_use, "SHARE", 1.0)


@pytest.mark.usefixtures("eager")
def test_memory_that_grows_in_npu_smi_s_table_is_seen(tmp_path: Path, npus: tuple[Device, ...]) -> None:
    later = [[Chip(0, used_mib=used, core_percent=busy)] for used, busy in ((60_000, 95), (50_000, 90))]
    tool = fake_npu_smi(tmp_path, [Chip(0, used_mib=20_000)], later=later)
    asked = len(calls(tool))

    use = start(tmp_path, npus)
    wait_until(lambda: len((use.facts().devices[0]).series) >= 2)
    (facts,) = use.stop().devices

    assert facts.peak_gib == pytest.approx(60_000 / 1024, abs=0.001)
    assert facts.growth_gib == pytest.approx((60_000 - 3400) / 1024, abs=0.001)
    assert facts.series[-1].use_percent in (95.0, 90.0)
    assert set(calls(tool)[asked:]) == {"info"}


@pytest.mark.usefixtures("eager")
def test_npu_smi_that_vanishes_mid_run_leaves_what_was_seen(tmp_path: Path, npus: tuple[Device, ...]) -> None:
    use = start(tmp_path, npus)
    wait_until(lambda: bool(use.facts().devices[0].series))
    (tmp_path / "npu-smi").unlink()
    wait_until(lambda: "npu-smi cannot be started" in str(use.facts().sampling))

    assert use.stop().devices[0].peak_gib == pytest.approx(3400 / 1024, abs=0.001)


@pytest.mark.usefixtures("eager")
def test_npu_smi_that_begins_to_hang_is_ended_and_not_asked_again(
    tmp_path: Path, npus: tuple[Device, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_use, "SILENT_S", 0.1)
    use = start(tmp_path, npus, timeout_s=1.0)
    wait_until(lambda: bool(use.facts().devices[0].series))
    tool = hanging_tool(tmp_path, "npu-smi")
    wait_until(lambda: "did not answer within 1 s" in str(use.facts().sampling))
    hung = len(calls(tool))
    time.sleep(0.3)
    facts = use.stop()

    assert facts.devices[0].peak_gib is not None
    assert facts.sampling is not None
    assert facts.sampling.problem == "npu-smi info did not answer within 1 s"
    assert len(calls(tool)) == hung
    wait_until(lambda: all(gone(pid) for pid in processes_of(tool)))


def test_the_end_does_not_wait_for_a_tool_that_is_at_it(tmp_path: Path, npus: tuple[Device, ...]) -> None:
    tool = hanging_tool(tmp_path, "npu-smi")
    use = start(tmp_path, npus, timeout_s=2.0)
    wait_until(lambda: bool(processes_of(tool)))

    began = time.monotonic()
    facts = use.stop()

    assert time.monotonic() - began < STOP_S + 0.5
    assert facts.devices[0].peak_gib is None
    wait_until(lambda: all(gone(pid) for pid in processes_of(tool)))


@pytest.mark.usefixtures("eager")
def test_npu_smi_s_own_words_for_a_failure_are_kept(tmp_path: Path, npus: tuple[Device, ...]) -> None:
    failing_tool(tmp_path, "npu-smi", stderr="dcmi module initialize failed. ret is -8005")
    use = start(tmp_path, npus)
    wait_until(lambda: "-8005" in str(use.facts().sampling))

    assert use.stop().devices[0].peak_gib is None


# The series


@given(st.lists(st.floats(0, 100), min_size=1, max_size=2000))
def test_a_series_of_any_length_is_short_and_keeps_its_peak_and_its_end(memory: list[float]) -> None:
    series = UseSeries()
    for number, gib in enumerate(memory):
        series.add(Moment(float(number), gib, 50.0))

    points = series.points()

    assert len(points) <= POINTS_AT_MOST
    assert len(points) >= min(len(memory), POINTS_AT_MOST // 2)
    assert max(point.memory_gib or 0 for point in points) == round(max(memory), 3)
    times = [point.at_ms for point in points]
    assert times == sorted(set(times))
    assert times[-1] == (len(memory) - 1) * 1000
    assert {point.use_percent for point in points} == {50.0}


def test_points_put_together_have_the_average_use_and_skip_what_was_not_told() -> None:
    series = UseSeries()
    for number in range(POINTS_AT_MOST):
        series.add(Moment(float(number), None, 100.0 if number % 2 else 0.0 if number else None))

    points = series.points()

    assert [point.use_percent for point in points] == [100.0] + [50.0] * (POINTS_AT_MOST // 2 - 1)
    assert {point.memory_gib for point in points} == {None}
