"""Whether a run fits the machine's own memory: its frames, its weights while loading, and what is free for them.

The scripts keep every finished frame until the end, as float32, in every process: a long recording ends in the
kernel's out-of-memory killer, long after its start. What is free is what the kernel calls available, or what the
control groups of this process still allow, whichever is less; swap does not count. How much a run really took is
another module's matter (`run.host_memory`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from omnirt_cli.memory_budget import GIB, BudgetStatus, Verdict
from omnirt_cli.models.base import AudioPlan, Backend, Geometry, KnobValue, ModelAdapter, Variant
from omnirt_cli.models.card import FigureKind

BYTES_PER_PIXEL = 3 * 4
"""Red, green and blue as float32."""

LONGEST_S = 6 * 3600
"""OmniRT takes no longer recording, so none is promised to fit."""

FramesOf = Callable[[int], int]
"""Seconds of audio -> frames that the script keeps."""


@dataclass(frozen=True)
class HostAvailable:
    """What a new run may take of the machine's memory.

    Attributes:
        bytes: None where the system does not tell.
        limited_by: What says so, e.g. `MemAvailable` or `cgroup v2 memory.max of /user.slice`.
    """

    bytes: int | None
    limited_by: str


@dataclass(frozen=True)
class HostNeed:
    """What a run needs of the machine's memory.

    Attributes:
        frames: That each process keeps at the end, or holds at a time where it keeps none.
        frame_bytes: One frame in one process, copies included.
        loading_gib: The most that one process takes while it loads.
        resident_gib: What one process holds beside its frames later.
        kind: How far those two can be trusted; frames are counted, not guessed. None where they are not known.
        source: Of those two.
        flat: The frames do not grow with the audio.
    """

    frames: int
    frame_bytes: int
    processes: int
    loading_gib: float = 0
    resident_gib: float = 0
    kind: FigureKind | None = None
    source: str = ""
    flat: bool = False

    @property
    def frames_gib(self) -> float:
        """All frames of all processes."""
        return self.frames * self.frame_bytes * self.processes / GIB

    @property
    def all_loading_gib(self) -> float:
        """All processes loading at once, as they do."""
        return self.loading_gib * self.processes

    @property
    def all_running_gib(self) -> float:
        """All processes with their last frame."""
        return self.resident_gib * self.processes + self.frames_gib

    @property
    def peak_gib(self) -> float:
        """The most at any time: weights are on the devices before the first frame is there."""
        return max(self.all_loading_gib, self.all_running_gib)

    @property
    def certain_gib(self) -> float:
        """What of it is no guess."""
        known = self if self.kind is FigureKind.MEASURED else replace(self, loading_gib=0, resident_gib=0)
        return known.peak_gib


def host_need(
    adapter: ModelAdapter,
    backend: Backend,
    knobs: Mapping[str, KnobValue],
    geometry: Geometry,
    *,
    frames: int,
    processes: int,
) -> HostNeed:
    """What a run needs of the machine's memory.

    Args:
        adapter: Of the model.
        backend: Of the run.
        knobs: As the script will run them.
        geometry: Of its picture.
        frames: That the script keeps before its own mux (`AudioPlan.generated_frames`).
        processes: That run on this machine.
    """
    row = adapter.host_row(backend, knobs)
    return HostNeed(
        frames=frames,
        frame_bytes=geometry.width * geometry.height * BYTES_PER_PIXEL * adapter.card.host.frame_copies,
        processes=processes,
        loading_gib=row.loading_gib if row else 0,
        resident_gib=row.resident_gib if row else 0,
        kind=row.kind if row else None,
        source=row.source if row else "",
    )


def frames_of_seconds(adapter: ModelAdapter, variant: Variant, geometry: Geometry, *, mode: str) -> FramesOf:
    """How many frames the script keeps for so many seconds of audio, by the plan's own arithmetic."""

    def frames(seconds: int) -> int:
        plan: AudioPlan = adapter.audio_plan(
            variant,
            geometry,
            mode=mode,
            samples=seconds * geometry.sample_rate,
            duration_s=float(seconds),
            max_chunks=None,
        )
        return adapter.held_frames(plan.generated_frames, geometry)

    return frames


# --- the verdict ----------------------------------------------------------------------------------


def judge_host(
    need: HostNeed, available: HostAvailable, *, frames_of: FramesOf, driven: HostNeed | None = None
) -> Verdict:
    """Compare what a run needs with what the machine has.

    Args:
        need: Of the run.
        available: On this machine.
        frames_of: Frames that so many seconds of audio keep in memory.
        driven: What the same run would need if OmniRT's driver ran the chunks; None where it cannot, or does already.

    Returns:
        `refuse` where the frames, and what was measured beside them, cannot fit; `warn` where they cannot by an
        estimate; `unknown` where the machine does not tell what it has. The hint names the driver where that fits, the
        longest audio that fits and the most processes, each with the other left as it is.
    """
    if available.bytes is None:
        return Verdict(BudgetStatus.UNKNOWN, f"how much host memory is free is not known ({available.limited_by})")
    room = available.bytes / GIB
    there = f"{_gib(room)} are free ({available.limited_by})"
    if need.peak_gib <= room:
        return Verdict(BudgetStatus.OK, f"the run needs {_gib(need.peak_gib)} of host memory; {there}")
    status = BudgetStatus.REFUSE if need.certain_gib > room else BudgetStatus.WARN
    return Verdict(status, f"{_needs(need, room)}, but {there}", _advice(need, available.bytes, frames_of, driven))


def longest_audio_s(need: HostNeed, room: int, frames_of: FramesOf) -> int:
    """The longest audio, in whole seconds, whose frames fit so many bytes; 0 where not even one second does."""
    if need.all_loading_gib * GIB > room:
        return 0
    low, high = 0, LONGEST_S
    while low < high:
        middle = (low + high + 1) // 2
        if replace(need, frames=frames_of(middle)).peak_gib * GIB <= room:
            low = middle
        else:
            high = middle - 1
    return low


def most_processes(need: HostNeed, room: int) -> int:
    """The most processes, up to those there are, that fit so many bytes; 0 where not even one does."""
    each = replace(need, processes=1).peak_gib * GIB
    return min(need.processes, int(room // each)) if each else need.processes


def _needs(need: HostNeed, room: float) -> str:
    across = f" in each of {need.processes} processes" if need.processes > 1 else ""
    if need.all_running_gib <= room:
        guess = f"{need.kind.value}: {need.source}" if need.kind else "unknown"
        return f"loading takes {_gib(need.loading_gib)} of host memory{across} ({guess})"
    if need.flat:
        kept = f"the driver holds {need.frames} frames{across}, which are"
    else:
        kept = f"the script keeps every frame in memory until the end: {need.frames} frames{across} are"
    beside = f" beside {_gib(need.resident_gib * need.processes)} for the processes" if need.resident_gib else ""
    return f"{kept} {_gib(need.frames_gib)}{beside}"


def _advice(need: HostNeed, room: int, frames_of: FramesOf, driven: HostNeed | None) -> str:
    advice = [_drive(driven, room), _shorter(need, room, frames_of), _fewer(need, room)]
    told = "; or ".join(piece for piece in advice if piece)
    return told or "free some memory, raise the limit of this process, or use a larger machine"


def _drive(driven: HostNeed | None, room: int) -> str | None:
    if driven is None or driven.peak_gib * GIB > room:
        return None
    return f"--executor driver writes the frames as they come and needs {_gib(driven.peak_gib)}, however long the audio"


def _shorter(need: HostNeed, room: int, frames_of: FramesOf) -> str | None:
    """The longest audio that fits as many processes, else one; None where its length is not what is wrong."""
    if need.flat or need.all_running_gib * GIB <= room:
        return None
    for processes in dict.fromkeys((need.processes, 1)):
        seconds = longest_audio_s(replace(need, processes=processes), room, frames_of)
        if seconds:
            count = f" with {processes} process{'es' * (processes > 1)}" if need.processes > 1 else ""
            return f"the longest audio that fits{count} is {_clock(seconds)}"
    return None


def _fewer(need: HostNeed, room: int) -> str | None:
    processes = most_processes(need, room)
    fewer = 0 < processes < need.processes
    return f"this audio fits at most {processes} process{'es' * (processes > 1)} (--nproc-per-node)" if fewer else None


def _gib(value: float) -> str:
    return f"{value:.1f} GiB"


def _clock(seconds: int) -> str:
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else "", f"{rest} s" if rest else ""]
    return f"{' '.join(part for part in parts if part)} ({seconds} s)" if seconds >= 60 else f"{seconds} s"


# --- what is free ---------------------------------------------------------------------------------


def available(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> HostAvailable:
    """What a new process may take: the kernel's own figure, or the tightest control group above this process.

    Args:
        proc: The process file system; tests give their own.
        cgroup: Where control groups are mounted; likewise.
    """
    told = _mem_available(proc)
    limits = [HostAvailable(told, "MemAvailable")] if told is not None else []
    limits += _cgroup_limits(proc, cgroup)
    least = min(limits, key=lambda limit: limit.bytes or 0, default=None)
    return least or HostAvailable(None, "neither /proc/meminfo nor a control group tells")


def _mem_available(proc: Path) -> int | None:
    for line in _text(proc / "meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


@dataclass(frozen=True)
class _Files:
    """How one version of control groups names its files."""

    version: str
    limits: tuple[str, ...]
    usage: str
    reclaimable: str


_V2 = _Files("v2", ("memory.max", "memory.high"), "memory.current", "inactive_file")
_V1 = _Files("v1", ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")


def _cgroup_limits(proc: Path, mount: Path) -> Iterator[HostAvailable]:
    """What each control group from this process's own up to the root still allows."""
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            # A machine in transition mounts v2 beside the controllers of v1.
            for root in (mount, mount / "unified"):
                yield from _limits_of(root, path, _V2)
        elif "memory" in controllers.split(","):
            yield from _limits_of(mount / "memory", path, _V1)


def _limits_of(root: Path, path: str, files: _Files) -> Iterator[HostAvailable]:
    """In a container the path may be the host's, and then only the mounted root is there to look at."""
    own = PurePosixPath("/" + path.strip("/"))
    for group in (own, *own.parents):
        if ".." in group.parts:
            continue
        folder = root / group.relative_to("/")
        for name in files.limits:
            room = _room(folder, name, files)
            if room is not None:
                yield HostAvailable(room, f"cgroup {files.version} {name} of {group}")


def _room(folder: Path, limit: str, files: _Files) -> int | None:
    """Limit less use; cached file pages that nobody needs are given back before a limit is reached."""
    most, used = _number(folder / limit), _number(folder / files.usage)
    if most is None or used is None:
        return None
    return max(0, most - max(0, used - _statistic(folder, files.reclaimable)))


def _statistic(folder: Path, name: str) -> int:
    lines = (line.split() for line in _text(folder / "memory.stat").splitlines())
    return next((int(words[1]) for words in lines if len(words) == 2 and words[0] == name), 0)


def _number(path: Path) -> int | None:
    """A file's one number; None where it is missing or says `max`."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
