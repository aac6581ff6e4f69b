"""What the devices hold and do while a run goes on: sampled in a thread of its own, told as peaks and a short series.

    use = SampledUse(Backend.CUDA, devices, began=time.monotonic(), environ=os.environ)
    use.start()
    ...                                   # the run
    use.stop().put_into(report.devices)

It may cost the run nothing. A look that takes long makes the next ones rarer; one that hangs is left behind, and so is
its tool. `stop` does not wait for either. What was not seen is absent from the facts, never zero.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from omnirt_cli.devices.device import Device, DeviceUse, Holder
from omnirt_cli.devices.usage import UseSource, open_source
from omnirt_cli.devices.vendor_tool import VendorToolError, VendorToolHangsError
from omnirt_cli.models.base import Backend
from omnirt_cli.report import DevicesInfo, SamplingInfo, UsePoint
from omnirt_cli.run.use_series import Moment, UseSeries

SHARE = 0.05
"""Of the time that may be spent in looks."""

FAILURES_AT_MOST = 3
"""One after the other; then the looks end."""

STOP_S = 0.25
"""How long the end waits for a look that is under way."""

SILENT_S = 3.0
"""A look that has taken longer when the run ends is worth a word."""

FIRST_S = 0.5
"""Until then the child's start comes first, and its devices hold nothing yet."""

_GIB = 1 << 30
_NICENESS = 10

Opener = Callable[[Backend, Sequence[Device], Mapping[str, str]], UseSource]


@dataclass(frozen=True)
class DeviceFacts:
    """What was seen of one device; None where nobody told.

    Attributes:
        peak_gib: The most that it held, whoever held it.
        peak_source: Who told that: `nvml`, `nvidia-smi`, `npu-smi` or `torch`.
        growth_gib: The peak less what it held before.
        own_peak_gib: The most that the run's own processes held, or that torch in one of them says it held.
        use_percent_avg: How much it computed, over all looks.
        series: How memory and use went.
    """

    id: str
    peak_gib: float | None = None
    peak_source: str | None = None
    growth_gib: float | None = None
    own_peak_gib: float | None = None
    use_percent_avg: float | None = None
    series: tuple[UsePoint, ...] = ()


@dataclass(frozen=True)
class UseFacts:
    """What was seen of the devices.

    Attributes:
        sampling: How; None where there was nothing to look at.
    """

    devices: tuple[DeviceFacts, ...] = ()
    sampling: SamplingInfo | None = None

    def put_into(self, devices: DevicesInfo | None) -> None:
        """Write it into the report's `devices`."""
        if devices is None:
            return
        seen = {it.id: it for it in self.devices}
        for info in devices.used:
            if info.id not in seen:
                continue
            found = seen[info.id]
            info.memory_peak_gib = found.peak_gib
            info.memory_peak_source = found.peak_source
            info.memory_growth_gib = found.growth_gib
            info.memory_own_peak_gib = found.own_peak_gib
            info.use_percent_avg = found.use_percent_avg
            info.use_series = list(found.series)
        devices.sampling = self.sampling


class SampledUse:
    """The looks at some devices, from `start` to `stop`. All methods may be called from any thread.

    Args:
        kind: Of the devices; on the CPU there is nothing to look at.
        devices: As the inventory named them before the run; empty where they cannot be told apart.
        began: Monotonic seconds that the series counts from.
        environ: Where tools are found, and what they run in.
        opener: Finds who tells.
    """

    def __init__(
        self,
        kind: Backend,
        devices: Sequence[Device],
        *,
        began: float,
        environ: Mapping[str, str],
        opener: Opener = open_source,
    ) -> None:
        self._kind = kind
        self._seen = {device.key: _Seen(device) for device in devices}
        self._began = began
        self._environ = environ
        self._opener = opener
        self._own = _OwnProcesses(os.getpid())
        self._torch: dict[str, int] = {}
        self._source: str | None = None
        self._problem: str | None = None
        self._looks = 0
        self._first_look = 0.0
        self._last_look = 0.0
        self._look_began: float | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self, root_pid: int | None = None) -> None:
        """Begin to look, in the background.

        Args:
            root_pid: The process whose descendants are the run's own, as a worker of the daemon's; this one by default.
        """
        if root_pid is not None:
            self._own = _OwnProcesses(root_pid)
        if self._kind is Backend.CPU or not self._seen:
            return
        self._thread = threading.Thread(target=self._work, name="device-use", daemon=True)
        self._thread.start()

    def note_peak(self, device_id: str, peak_bytes: int) -> None:
        """Take a peak that the model's own process knows, as torch's `max_memory_reserved`.

        It counts where the vendor's tool told less, or nothing: a look can miss a peak, and the process cannot see
        what others hold. It may come after `stop`; `facts` then has it.

        Args:
            device_id: `Device.id`, also of a device that cannot be looked at.
            peak_bytes: The most that the process held of it.
        """
        with self._lock:
            self._torch[device_id] = max(peak_bytes, self._torch.get(device_id, 0))

    def stop(self) -> UseFacts:
        """End the looks, waiting no longer than `STOP_S`, and tell what was seen."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_S)
        with self._lock:
            if not self._closed:
                self._closed = True
                self._note_silence()
        return self.facts()

    def facts(self) -> UseFacts:
        """What was seen so far."""
        with self._lock:
            named = {seen.device.id: seen for seen in self._seen.values()}
            ids = dict.fromkeys((*named, *self._torch))
            devices = tuple(self._facts_of(device_id, named.get(device_id)) for device_id in ids)
            return UseFacts(devices, self._how() if self._thread is not None else None)

    # The thread

    def _work(self) -> None:
        # The run comes first; Linux has a priority for each thread, and the tool inherits it.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        try:
            self._watch()
        except VendorToolError as problem:
            self._say(str(problem))
        except Exception as problem:  # noqa: BLE001 - the thread's edge: a figure is not worth a run
            self._say(f"a bug in OmniRT: {type(problem).__name__}: {problem}")
        finally:
            self._look_began = None

    def _watch(self) -> None:
        """Look until the end.

        Raises:
            VendorToolError: There is nobody to ask, it hangs, or it fails again and again.
        """
        if self._stopping.wait(FIRST_S):
            return
        self._look_began = time.monotonic()
        source = self._opener(self._kind, [seen.device for seen in self._seen.values()], self._environ)
        self._look_began = None
        with contextlib.closing(source):
            wait_s, failures = source.every_s, 0
            while not self._stopping.wait(wait_s):
                began = self._look_began = time.monotonic()
                failures = 0 if self._look(source, failures) else failures + 1
                self._look_began = None
                wait_s = max(source.every_s, (time.monotonic() - began) * (1 / SHARE - 1))

    def _look(self, source: UseSource, failures: int) -> bool:
        """Look once; False where it failed, and may be tried again."""
        try:
            use = source.look()
        except VendorToolHangsError:
            raise
        except VendorToolError as problem:
            if failures + 1 >= FAILURES_AT_MOST:
                raise
            self._say(str(problem))
            return False
        self._note(source.name, use, time.monotonic())
        return True

    def _note(self, name: str, use: Mapping[str, DeviceUse], now: float) -> None:
        own = {key: self._own.held_gib(it.holders) for key, it in use.items() if key in self._seen}
        with self._lock:
            if self._closed:
                return
            self._source = name
            self._first_look = self._first_look if self._looks else now
            self._last_look = now
            self._looks += 1
            for key, seen in self._seen.items():
                if key in use:
                    seen.note(use[key], own[key], now - self._began)
                else:
                    self._problem = f"{name} did not always tell of device {seen.device.id}"

    def _say(self, problem: str) -> None:
        with self._lock:
            if not self._closed:
                self._problem = problem

    # The facts

    def _facts_of(self, device_id: str, seen: _Seen | None) -> DeviceFacts:
        facts = seen.facts(self._source) if seen else DeviceFacts(device_id)
        if device_id not in self._torch:
            return facts
        torch_gib = round(self._torch[device_id] / _GIB, 3)
        facts = replace(facts, own_peak_gib=max(torch_gib, facts.own_peak_gib or 0.0))
        if facts.peak_gib is not None and facts.peak_gib >= torch_gib:
            return facts
        return replace(facts, peak_gib=torch_gib, peak_source="torch", growth_gib=None)

    def _how(self) -> SamplingInfo:
        interval = (self._last_look - self._first_look) / (self._looks - 1) if self._looks > 1 else None
        return SamplingInfo(
            source=self._source,
            looks=self._looks,
            interval_ms=None if interval is None else round(interval * 1000, 3),
            problem=self._problem,
        )

    def _note_silence(self) -> None:
        """A look that hangs never says so itself."""
        began = self._look_began
        silent_s = 0.0 if began is None else time.monotonic() - began
        if silent_s > SILENT_S:
            self._problem = f"{self._source or 'the driver'} had not answered for {silent_s:.1f} s when the run ended"


class _Seen:
    """What was seen of one device."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._series = UseSeries()
        self._memory: float | None = None
        self._own: float | None = None
        self._use_sum = 0.0
        self._use_looks = 0

    def note(self, use: DeviceUse, own_gib: float | None, at_s: float) -> None:
        self._series.add(Moment(at_s, use.used_gib, use.use_percent))
        self._memory = _higher(self._memory, use.used_gib)
        self._own = _higher(self._own, own_gib)
        if use.use_percent is not None:
            self._use_sum += use.use_percent
            self._use_looks += 1

    def facts(self, source: str | None) -> DeviceFacts:
        total, free = self.device.total_gib, self.device.free_gib
        before = None if total is None or free is None else total - free
        peak = self._memory
        return DeviceFacts(
            self.device.id,
            peak_gib=_rounded(peak),
            peak_source=None if peak is None else source,
            growth_gib=None if peak is None or before is None else _rounded(peak - before),
            own_peak_gib=_rounded(self._own),
            use_percent_avg=round(self._use_sum / self._use_looks, 1) if self._use_looks else None,
            series=self._series.points(),
        )


def _higher(one: float | None, other: float | None) -> float | None:
    return max((it for it in (one, other) if it is not None), default=None)


def _rounded(gib: float | None) -> float | None:
    return None if gib is None else round(gib, 3)


class _OwnProcesses:
    """Which holders of a device's memory descend from a process; in most containers their ids cannot be matched."""

    def __init__(self, root_pid: int) -> None:
        self._root_pid = root_pid
        self._known: dict[int, bool] = {}

    def held_gib(self, holders: Sequence[Holder]) -> float | None:
        """What the own ones hold together; None where there is none, or nobody tells how much."""
        own = [it.memory_gib for it in holders if it.memory_gib is not None and self._is_own(it.pid)]
        return sum(own) if own else None

    def _is_own(self, pid: int) -> bool:
        if pid not in self._known:
            self._known[pid] = _descends(pid, self._root_pid)
        return self._known[pid]


def _descends(pid: int, root_pid: int) -> bool:
    import psutil

    try:
        return pid == root_pid or root_pid in (parent.pid for parent in psutil.Process(pid).parents())
    except psutil.Error:
        return False
