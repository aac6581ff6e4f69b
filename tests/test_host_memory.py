"""The machine's own memory: what is free, what a run keeps there, and the longest audio that fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import omnirt_cli
from omnirt_cli.checkout import inspect_checkout
from omnirt_cli.host_memory import (
    LONGEST_S,
    HostAvailable,
    HostNeed,
    available,
    frames_of_seconds,
    host_need,
    judge_host,
    longest_audio_s,
    most_processes,
)
from omnirt_cli.media.audio import MAX_DURATION_S
from omnirt_cli.memory_budget import BudgetStatus
from omnirt_cli.models.base import Backend, Geometry, KnobValue
from omnirt_cli.models.card import FigureKind, HostCard
from omnirt_cli.models.registry import adapter

CHECKOUTS = Path(omnirt_cli.__file__).parent / "miniature" / "checkouts"
FLASHTALK = adapter("flashtalk")
GIB = 1 << 30
PUBLISHED_SIZE = Geometry(448, 768, 33, 5, 25)
FRAME = 448 * 768 * 12


def knobs(**values: Any) -> dict[str, KnobValue]:
    return {name: KnobValue(value, "test") for name, value in values.items()}


def whole_chunks(seconds: int) -> int:
    """25 frames a second, in chunks of 28."""
    return -(-seconds * 25 // 28) * 28


def room(gib: float) -> HostAvailable:
    return HostAvailable(int(gib * GIB), "MemAvailable")


def flashtalk_need(frames: int, processes: int = 1, **set_knobs: Any) -> HostNeed:
    return host_need(FLASHTALK, Backend.CUDA, knobs(**set_knobs), PUBLISHED_SIZE, frames=frames, processes=processes)


# --- what is free ---------------------------------------------------------------------------------


class Machine:
    """A `/proc` and a tree of control groups."""

    def __init__(self, root: Path) -> None:
        self.proc, self.cgroup = root / "proc", root / "cgroup"
        self.write(self.proc / "meminfo", "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable:   65536 kB\n")

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def own_group(self, *lines: str) -> None:
        self.write(self.proc / "self" / "cgroup", "".join(f"{line}\n" for line in lines))

    def v2(self, group: str, *, current: int, stat: str = "", **limits: str | int) -> None:
        folder = self.cgroup / group
        self.write(folder / "memory.current", f"{current}\n")
        self.write(folder / "memory.stat", stat)
        for name in ("max", "high"):
            self.write(folder / f"memory.{name}", f"{limits.get(name, 'max')}\n")

    def available(self) -> HostAvailable:
        return available(self.proc, self.cgroup)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_control_groups_the_kernel_says_what_is_free(machine: Machine) -> None:
    assert machine.available() == HostAvailable(64 << 20, "MemAvailable")


def test_a_limit_less_its_use_counts_where_it_is_less(machine: Machine) -> None:
    machine.own_group("0::/job")
    machine.v2("job", max=30 << 20, current=10 << 20)

    assert machine.available() == HostAvailable(20 << 20, "cgroup v2 memory.max of /job")


def test_a_generous_limit_does_not_count(machine: Machine) -> None:
    machine.own_group("0::/job")
    machine.v2("job", max=1 << 40, current=0)

    assert machine.available().limited_by == "MemAvailable"


def test_cached_file_pages_are_given_back(machine: Machine) -> None:
    machine.own_group("0::/job")
    machine.v2("job", max=30 << 20, current=29 << 20, stat=f"anon 5\ninactive_file {9 << 20}\n")

    assert machine.available().bytes == 10 << 20


def test_a_group_over_its_limit_has_nothing_left(machine: Machine) -> None:
    machine.own_group("0::/job")
    machine.v2("job", max=5 << 20, current=6 << 20)

    assert machine.available().bytes == 0


def test_the_tightest_group_up_to_the_root_counts(machine: Machine) -> None:
    machine.own_group("0::/user.slice/session/job")
    machine.v2("user.slice/session/job", current=1 << 20)
    machine.v2("user.slice/session", current=1 << 20, max=60 << 20, high=9 << 20)
    machine.v2("user.slice", current=2 << 20, max=20 << 20)

    assert machine.available() == HostAvailable(8 << 20, "cgroup v2 memory.high of /user.slice/session")


def test_in_a_container_the_mounted_root_is_its_own_group(machine: Machine) -> None:
    machine.own_group("0::/docker/8f3e")
    machine.v2(".", max=7 << 20, current=1 << 20)

    assert machine.available() == HostAvailable(6 << 20, "cgroup v2 memory.max of /")


def test_a_group_outside_the_namespace_is_not_walked(machine: Machine) -> None:
    machine.own_group("0::/../other")
    machine.v2(".", max=7 << 20, current=0)
    machine.write(machine.cgroup.parent / "other" / "memory.max", "1")
    machine.write(machine.cgroup.parent / "other" / "memory.current", "1")

    assert machine.available().bytes == 7 << 20


def test_version_1_is_read_likewise(machine: Machine) -> None:
    machine.own_group("11:cpu,cpuacct:/x", "5:memory:/batch/job", "1:name=systemd:/y")
    folder = machine.cgroup / "memory" / "batch"
    machine.write(folder / "memory.limit_in_bytes", f"{40 << 20}")
    machine.write(folder / "memory.usage_in_bytes", f"{30 << 20}")
    machine.write(folder / "memory.stat", f"total_inactive_file {5 << 20}\n")
    machine.write(folder / "job" / "memory.limit_in_bytes", "9223372036854771712")
    machine.write(folder / "job" / "memory.usage_in_bytes", "1")

    assert machine.available() == HostAvailable(15 << 20, "cgroup v1 memory.limit_in_bytes of /batch")


def test_both_versions_side_by_side_count(machine: Machine) -> None:
    machine.own_group("5:memory:/job", "0::/job")
    machine.write(machine.cgroup / "memory" / "job" / "memory.limit_in_bytes", f"{40 << 20}")
    machine.write(machine.cgroup / "memory" / "job" / "memory.usage_in_bytes", "0")
    machine.v2("unified/job", max=3 << 20, current=0)

    assert machine.available().limited_by == "cgroup v2 memory.max of /job"


def test_a_machine_that_tells_nothing_is_unknown(tmp_path: Path) -> None:
    nothing = available(tmp_path / "proc", tmp_path / "cgroup")

    assert nothing.bytes is None
    assert judge_host(flashtalk_need(100), nothing, frames_of=whole_chunks).status is BudgetStatus.UNKNOWN


def test_this_machine_tells() -> None:
    found = available()

    assert found.bytes is None or 0 <= found.bytes < 1 << 60


# --- what is needed -------------------------------------------------------------------------------


def test_frames_are_kept_as_float32_by_every_process() -> None:
    a_minute = flashtalk_need(1500, processes=8)

    assert a_minute.frames_gib * GIB == 8 * 1500 * 448 * 768 * 3 * 4


def test_copies_count(monkeypatch: pytest.MonkeyPatch) -> None:
    once = flashtalk_need(100)
    twice_kept = FLASHTALK.card.model_copy(update={"host": HostCard(frame_copies=2)})
    monkeypatch.setattr(type(FLASHTALK), "card", twice_kept)

    assert flashtalk_need(100).frames_gib == 2 * once.frames_gib


def test_loading_and_frames_are_not_there_at_the_same_time() -> None:
    need = HostNeed(frames=10, frame_bytes=GIB, processes=2, loading_gib=14, resident_gib=3, kind=FigureKind.ESTIMATED)

    assert (need.all_loading_gib, need.all_running_gib, need.peak_gib) == (28, 26, 28)


def test_offloaded_weights_stay_beside_the_frames() -> None:
    plain, offloaded = flashtalk_need(100, cpu_offload=False), flashtalk_need(100, cpu_offload=True)

    assert offloaded.resident_gib > 45 > plain.resident_gib


# --- the verdict ----------------------------------------------------------------------------------


def test_enough_is_enough() -> None:
    assert judge_host(flashtalk_need(250), room(64), frames_of=whole_chunks).status is BudgetStatus.OK


def test_frames_that_cannot_fit_are_refused_with_the_longest_audio_that_does() -> None:
    need = flashtalk_need(whole_chunks(600), processes=8)

    verdict = judge_host(need, room(200), frames_of=whole_chunks)

    # 176 GiB beside the processes' own 24 are 5721 frames for each, or 204 whole chunks of 1.12 s.
    assert verdict.status is BudgetStatus.REFUSE
    assert f"{need.frames} frames in each of 8 processes" in verdict.message
    assert "200.0 GiB are free (MemAvailable)" in verdict.message
    assert "the longest audio that fits with 8 processes is 3 min 48 s (228 s)" in (verdict.hint or "")
    assert "this audio fits at most 3 processes" in (verdict.hint or "")
    assert verdict.error().exit_status == 69


def test_loading_by_estimate_only_warns() -> None:
    verdict = judge_host(flashtalk_need(250, processes=8), room(64), frames_of=whole_chunks)

    assert verdict.status is BudgetStatus.WARN
    assert "loading takes 14.0 GiB of host memory in each of 8 processes (estimated" in verdict.message
    assert verdict.hint == "this audio fits at most 4 processes (--nproc-per-node)"


def test_loading_that_was_measured_refuses() -> None:
    measured = HostNeed(
        frames=28, frame_bytes=FRAME, processes=8, loading_gib=14, resident_gib=3, kind=FigureKind.MEASURED
    )

    assert judge_host(measured, room(64), frames_of=whole_chunks).status is BudgetStatus.REFUSE


def test_the_driver_is_offered_first_where_it_fits() -> None:
    need = flashtalk_need(whole_chunks(3600), processes=2)
    driven = replace(need, frames=132, flat=True)

    refused = judge_host(need, room(64), frames_of=whole_chunks, driven=driven)
    nothing_fits = judge_host(need, room(1), frames_of=whole_chunks, driven=driven)

    assert refused.status is BudgetStatus.REFUSE
    assert refused.hint is not None
    assert refused.hint.startswith("--executor driver writes the frames as they come and needs 28.0 GiB")
    assert nothing_fits.hint is not None
    assert "--executor driver" not in nothing_fits.hint


def test_what_the_driver_itself_cannot_hold_is_no_fault_of_the_audio() -> None:
    need = HostNeed(frames=132, frame_bytes=GIB // 64, processes=1, kind=FigureKind.MEASURED, flat=True)

    verdict = judge_host(need, room(1), frames_of=whole_chunks)

    assert verdict.status is BudgetStatus.REFUSE
    assert "the driver holds 132 frames, which are 2.1 GiB" in verdict.message
    assert "longest audio" not in (verdict.hint or "")


def test_where_no_audio_fits_one_process_is_offered() -> None:
    verdict = judge_host(flashtalk_need(whole_chunks(3600), processes=8), room(64), frames_of=whole_chunks)

    assert verdict.status is BudgetStatus.REFUSE
    assert "the longest audio that fits with 1 process is" in (verdict.hint or "")


def test_where_nothing_fits_the_hint_still_says_what_to_do() -> None:
    verdict = judge_host(flashtalk_need(10000), room(1), frames_of=whole_chunks)

    assert verdict.status is BudgetStatus.REFUSE
    assert verdict.hint
    assert "longest" not in verdict.hint


def test_no_longer_recording_is_promised_than_omnirt_takes() -> None:
    assert LONGEST_S == MAX_DURATION_S
    assert longest_audio_s(flashtalk_need(1), 1 << 60, whole_chunks) == LONGEST_S


NEEDS = st.builds(
    HostNeed,
    frames=st.just(0),
    frame_bytes=st.sampled_from([FRAME, 416 * 704 * 12, 512 * 512 * 24]),
    processes=st.integers(1, 8),
    loading_gib=st.floats(0, 20),
    resident_gib=st.floats(0, 5),
    kind=st.just(FigureKind.ESTIMATED),
)


@given(need=NEEDS, gib=st.floats(0.1, 600))
def test_the_longest_audio_that_fits_fits_and_one_second_more_does_not(need: HostNeed, gib: float) -> None:
    there = room(gib)
    assert there.bytes is not None

    longest = longest_audio_s(need, there.bytes, whole_chunks)

    def verdict(seconds: int) -> BudgetStatus:
        exact = HostNeed(**{**vars(need), "frames": whole_chunks(seconds)})
        return judge_host(exact, there, frames_of=whole_chunks).status

    if longest:
        assert verdict(longest) is BudgetStatus.OK
    if longest < LONGEST_S:
        # The next second may still be in the last chunk; the longest is then the chunk's last second.
        assert verdict(longest + 1) is not BudgetStatus.OK


@given(need=NEEDS, gib=st.floats(0.1, 600), seconds=st.integers(1, 3600))
def test_the_most_processes_fit_and_one_more_does_not(need: HostNeed, gib: float, seconds: int) -> None:
    whole = HostNeed(**{**vars(need), "frames": whole_chunks(seconds)})
    budget = int(gib * GIB)

    most = most_processes(whole, budget)

    def peak(processes: int) -> float:
        return HostNeed(**{**vars(whole), "processes": processes}).peak_gib * GIB

    assert peak(most) <= budget * (1 + 1e-9)
    if most < whole.processes:
        assert peak(most + 1) > budget * (1 - 1e-9)


@pytest.mark.parametrize("mode", ["stream", "once"])
@pytest.mark.parametrize("checkout", ["flashtalk_old", "flashtalk_new", "flashtalk_ascend", "flashhead", "liveact"])
def test_the_promise_uses_the_arithmetic_of_the_plan(checkout: str, mode: str) -> None:
    model = adapter(checkout.split("_", maxsplit=1)[0])
    facts = inspect_checkout(CHECKOUTS / checkout, model.info.script)
    variant = model.recognise(facts)
    values = {name: KnobValue(value, "test") for name, value in model.defaults(facts, variant, Backend.CUDA).items()}
    geometry = model.geometry(facts, values)
    frames_of = frames_of_seconds(model, variant, geometry, mode=mode)
    need = host_need(model, Backend.CUDA, values, geometry, frames=0, processes=2)
    budget = 120 * GIB

    longest = longest_audio_s(need, budget, frames_of)

    def kept(seconds: int) -> HostNeed:
        return host_need(model, Backend.CUDA, values, geometry, frames=frames_of(seconds), processes=2)

    assert 60 < longest < LONGEST_S
    assert all(frames_of(second) <= frames_of(second + 1) for second in range(1, longest + 2))
    assert kept(longest).peak_gib <= 120 < kept(longest + 1).peak_gib
