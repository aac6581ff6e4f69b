"""Fake `npu-smi` and `nvidia-smi` for the tests: real programs in a folder, which answer as the vendors' tools do.

    tools = tmp_path / "tools"
    fake_npu_smi(tools, [Chip(npu=0), Chip(npu=1, used_mib=60_000, processes=(Process(4242, "python", 57_000),))])
    omnirt("doctor", env=machine(tools))

`machine(tools)` is the environment in which a program finds the fakes first and no real NVML. Every maker writes an
executable into the folder (made where it is not there) and returns its path. Making a tool again replaces its answers
in one step, also while a program that calls it runs: a device vanishes, is taken or falls ill that way.

* `fake_npu_smi`, `fake_nvidia_smi`: a healthy tool and the machine that it describes (no devices: an empty list);
  With `later` they tell something else at each further look: memory that grows as a run goes on;
* `answering_tool`: any text for any arguments;
* `failing_tool`: ends with a message and an exit status;
* `hanging_tool`: does not end, and neither does its child (`processes_of` has their ids, `gone` looks for one);
* `calls`: what it was called with, one string a call.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Process:
    """A process that holds memory of a device. `used_mib=None`: the tool does not tell how much."""

    pid: int
    name: str = "python"
    used_mib: int | None = 1000


@dataclass(frozen=True)
class Chip:
    """One Ascend chip.

    Attributes:
        npu: NPU id, as the first column has it.
        chip: Chip id within its NPU.
        logic: Logic id of `npu-smi info -m`; the chip's place in the list by default.
        bus_id: Made from `npu` and `chip` by default.
        used_mib: An idle 910B holds about 3 GB.
        core_percent: Use of its AI cores.
    """

    npu: int
    chip: int = 0
    logic: int | None = None
    name: str = "910B2"
    health: str = "OK"
    bus_id: str | None = None
    total_mib: int = 65536
    used_mib: int = 3400
    core_percent: int = 0
    processes: tuple[Process, ...] = ()

    @property
    def address(self) -> str:
        return self.bus_id or f"0000:{0x10 + self.npu:02X}:{self.chip:02X}.0"


class Layout(Enum):
    """The shapes that npu-smi's table takes."""

    ONE_CHIP = "910B, 24.1 and 25.x: one chip a card"
    TWO_CHIPS = "A3/910C: two chips a card, with a Phy-ID"
    NO_HBM = "310P: a Device column and no HBM column"
    OLD = "23.x on 910: a Device column beside the HBM column"
    WIDE = "26.0.x: widened, with the process id in the container"


@dataclass(frozen=True)
class MigInstance:
    """A slice of a GPU in MIG mode."""

    uuid: str
    profile: str = "1g.10gb"


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU.

    Attributes:
        uuid, bus_id: Made from the index by default.
        used_mib, total_mib: None: the tool answers `[N/A]`.
        use_percent: None: the tool answers `[N/A]`.
        mig: Its MIG instances; an empty tuple is MIG mode without one, None no MIG mode.
    """

    index: int
    uuid: str | None = None
    name: str = "NVIDIA H100 80GB HBM3"
    total_mib: int | None = 81559
    used_mib: int | None = 4
    use_percent: int | None = 0
    bus_id: str | None = None
    processes: tuple[Process, ...] = ()
    mig: tuple[MigInstance, ...] | None = None

    @property
    def identity(self) -> str:
        return self.uuid or f"GPU-{self.index:08x}-0000-4000-8000-{self.index:012x}"

    @property
    def address(self) -> str:
        return self.bus_id or f"00000000:{0x10 + self.index:02X}:00.0"


def machine(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What to add to the environment of a program that shall see this folder's tools, and no real NVML."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pynvml.py").write_text(_NO_NVML)
    pythons = (str(folder), str(ROOT), os.environ.get("PYTHONPATH", ""))
    return {
        "PATH": os.pathsep.join((str(folder), os.environ.get("PATH", os.defpath))),
        "PYTHONPATH": os.pathsep.join(part for part in pythons if part),
        **(extra or {}),
    }


def fake_npu_smi(
    folder: Path,
    chips: Sequence[Chip],
    *,
    layout: Layout = Layout.ONE_CHIP,
    mapping: bool = True,
    later: Sequence[Sequence[Chip]] = (),
) -> Path:
    """An `npu-smi` that answers `info` and, unless `mapping` is off, `info -m`."""
    turns = []
    for now in (chips, *later):
        answers = {"info": npu_table(now, layout)}
        if mapping:
            answers["info -m"] = npu_mapping(now, layout)
        turns.append({"answers": answers, "stdout": "Error parameter of -m\n", "code": 1})
    return _write_tool(folder, "npu-smi", {"turns": turns})


def fake_nvidia_smi(folder: Path, gpus: Sequence[Gpu], *, later: Sequence[Sequence[Gpu]] = ()) -> Path:
    """An `nvidia-smi` that answers `--query-gpu`, `--query-compute-apps` (csv,noheader,nounits) and `-L`."""
    turns = [
        {
            "answers": {"-L": _gpu_list(now), "--list-gpus": _gpu_list(now)},
            "gpus": [_gpu_fields(gpu) for gpu in now],
            "apps": [_app_fields(gpu, process) for gpu in now for process in gpu.processes],
        }
        for now in (gpus, *later)
    ]
    return _write_tool(folder, "nvidia-smi", {"turns": turns})


def answering_tool(folder: Path, name: str, answers: Mapping[str, str], *, otherwise: str | None = None) -> Path:
    """A tool that prints the text given for its arguments (joined by spaces), else `otherwise` and exit status 1."""
    return _write_tool(folder, name, {"answers": dict(answers), "stdout": otherwise or "", "code": 1})


def failing_tool(folder: Path, name: str, *, stdout: str = "", stderr: str = "", code: int = 1) -> Path:
    """A tool that says this and ends with that status, whatever it is asked."""
    return _write_tool(folder, name, {"stdout": stdout, "stderr": stderr, "code": code})


def hanging_tool(folder: Path, name: str, *, stdout: str = "") -> Path:
    """A tool that says this, starts a child that holds its pipes, ignores SIGTERM, and stays for ten minutes."""
    return _write_tool(folder, name, {"stdout": stdout, "hang": True})


def calls(tool: Path) -> list[str]:
    """The arguments of each call of a fake tool so far."""
    return _lines(_beside(tool, "calls"))


def processes_of(tool: Path) -> list[int]:
    """Process ids of every hanging call and of its child."""
    return [int(line) for line in _lines(_beside(tool, "pids"))]


def gone(pid: int) -> bool:
    """That process has ended, whether or not somebody has reaped it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def npu_table(chips: Sequence[Chip], layout: Layout = Layout.ONE_CHIP) -> str:
    """What `npu-smi info` prints."""
    shape = _SHAPES[layout]
    rule = "+" + "+".join("-" * (width + 2) for width in shape.widths) + "+"
    thick = rule.replace("-", "=")
    first_of_process = tuple(
        cell.ljust(width) for cell, width in zip(shape.process_head, shape.process_widths, strict=True)
    )
    version = f"npu-smi {shape.version}".ljust(33) + f"Version: {shape.version}"
    lines = [
        rule.replace("-+-", "---"),
        "| " + version.ljust(sum(shape.widths) + 6) + " |",
        rule,
        _row(("NPU   Name", "Health", "Power(W)    Temp(C)           Hugepages-Usage(page)"), shape.widths),
        _row((shape.chip_head, "Bus-Id", shape.usage_head), shape.widths),
        thick,
    ]
    for place, chip in enumerate(chips):
        lines += [_row(_npu_row(chip, layout), shape.widths), _row(_chip_row(chip, place, layout), shape.widths)]
        lines.append(rule if layout is Layout.TWO_CHIPS and chip.chip == 0 else thick)
    lines += ["| " + " | ".join(first_of_process) + " |", thick]
    for npu in dict.fromkeys(chip.npu for chip in chips):
        lines += _process_rows([chip for chip in chips if chip.npu == npu], shape, layout)
        lines.append(thick)
    return "\n".join(lines) + "\n"


def npu_mapping(chips: Sequence[Chip], layout: Layout = Layout.ONE_CHIP) -> str:
    """What `npu-smi info -m` prints: every chip with its logic id, and each card's Mcu without one."""
    phy = layout is Layout.TWO_CHIPS
    heads = ["NPU ID", "Chip ID", "Chip Logic ID", *(["Chip Phy-ID"] if phy else []), "Chip Name"]
    lines = [heads]
    cards = list(dict.fromkeys(chip.npu for chip in chips))
    for card in cards:
        own = [(place, chip) for place, chip in enumerate(chips) if chip.npu == card]
        for place, chip in own:
            logic = str(place if chip.logic is None else chip.logic)
            lines.append([str(card), str(chip.chip), logic, *([logic] if phy else []), f"Ascend {chip.name}"])
        lines.append([str(card), str(max(chip.chip for _, chip in own) + 1), "-", *(["-"] if phy else []), "Mcu"])
    return "\n".join("".join(cell.ljust(31) for cell in line).rstrip() for line in lines) + "\n"


@dataclass(frozen=True)
class _Shape:
    version: str
    widths: tuple[int, int, int]
    chip_head: str
    usage_head: str
    process_head: tuple[str, ...] = ("NPU     Chip", "Process id", "Process name", "Process memory(MB)")
    process_widths: tuple[int, ...] = (23, 13, 24, 23)


_WITH_HBM = "AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)"
_SHAPES = {
    Layout.ONE_CHIP: _Shape("25.3.1", (25, 13, 50), "Chip", _WITH_HBM),
    Layout.TWO_CHIPS: _Shape("25.5.0", (25, 13, 50), "Chip  Phy-ID", _WITH_HBM),
    Layout.NO_HBM: _Shape("24.1.1", (23, 15, 52), "Chip    Device", "AICore(%)    Memory-Usage(MB)"),
    Layout.OLD: _Shape("23.0.2", (25, 15, 50), "Chip  Device", _WITH_HBM),
    Layout.WIDE: _Shape(
        "26.0.1",
        (31, 17, 62),
        "Chip",
        _WITH_HBM.replace("   ", "       "),
        ("NPU     Chip", "Process id", "Process id in container", "Process name", "Process memory(MB)"),
        (19, 14, 24, 24, 21),
    ),
}


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def _npu_row(chip: Chip, layout: Layout) -> tuple[str, str, str]:
    power = "-" if layout is Layout.TWO_CHIPS and chip.chip else "NA" if layout is Layout.NO_HBM else "96.4"
    return f"{chip.npu:<6}{chip.name}", chip.health, f"{power:<12}{'47':<18}0    / 0"


def _chip_row(chip: Chip, place: int, layout: Layout) -> tuple[str, str, str]:
    first = str(chip.chip) if layout in (Layout.ONE_CHIP, Layout.WIDE) else f"{chip.chip:<6}{place}"
    memory = f"{chip.used_mib:<5}/ {chip.total_mib}"
    cores = str(chip.core_percent)
    usage = f"{cores:<13}{memory}" if layout is Layout.NO_HBM else f"{cores:<12}{'0    / 0':<14}{memory}"
    return first, chip.address, usage


def _process_rows(chips: Sequence[Chip], shape: _Shape, layout: Layout) -> list[str]:
    held = [(chip, process) for chip in chips for process in chip.processes]
    if not held:
        nobody = f"No running processes found in NPU {chips[0].npu}"
        return ["| " + nobody.ljust(sum(shape.process_widths) + 3 * len(shape.process_widths) - 3) + " |"]
    inside = ("17",) if layout is Layout.WIDE else ()
    return [
        _row((f"{chip.npu:<8}{chip.chip}", str(it.pid), *inside, it.name, str(it.used_mib or "")), shape.process_widths)
        for chip, it in held
    ]


def _gpu_fields(gpu: Gpu) -> dict[str, str]:
    """Every field that `--query-gpu` may ask for, as csv,noheader,nounits prints it."""
    free = None if gpu.total_mib is None or gpu.used_mib is None else gpu.total_mib - gpu.used_mib
    return {
        "index": str(gpu.index),
        "uuid": gpu.identity,
        "gpu_uuid": gpu.identity,
        "name": gpu.name,
        "gpu_name": gpu.name,
        "pci.bus_id": gpu.address,
        "memory.total": _known(gpu.total_mib),
        "memory.used": _known(gpu.used_mib),
        "memory.free": _known(free),
        "utilization.gpu": _known(gpu.use_percent),
        "driver_version": "570.86.15",
        "mig.mode.current": "[N/A]" if gpu.mig is None else "Enabled",
    }


def _app_fields(gpu: Gpu, process: Process) -> dict[str, str]:
    return {
        "gpu_uuid": gpu.identity,
        "pid": str(process.pid),
        "process_name": process.name,
        "name": process.name,
        "used_memory": _known(process.used_mib),
        "used_gpu_memory": _known(process.used_mib),
    }


def _known(value: int | None) -> str:
    return "[N/A]" if value is None else str(value)


def _gpu_list(gpus: Sequence[Gpu]) -> str:
    lines = []
    for gpu in gpus:
        lines.append(f"GPU {gpu.index}: {gpu.name} (UUID: {gpu.identity})")
        for place, instance in enumerate(gpu.mig or ()):
            lines.append(f"  MIG {instance.profile:<12} Device {place:>2}: (UUID: {instance.uuid})")
    return "\n".join(lines) + "\n" if lines else "No devices found.\n"


def _write_tool(folder: Path, name: str, state: Mapping[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tool = folder / name
    _replace(_beside(tool, "json"), json.dumps(state))
    program = _beside(tool, "py")
    _replace(program, _PROGRAM)
    # Through sh: a shebang is cut off after 127 characters on older kernels, and test folders are deep.
    _replace(tool, f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -SE {shlex.quote(str(program))} "$@"\n')
    tool.chmod(0o755)
    return tool


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o755)
    fresh.replace(path)


def _beside(tool: Path, ending: str) -> Path:
    return tool.with_name(f".{tool.name}.{ending}")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


_NO_NVML = '''\
"""Stands before nvidia-ml-py on PYTHONPATH: this machine has no NVML."""


class NVMLError(Exception):
    pass


class NVMLError_LibraryNotFound(NVMLError):
    pass


def nvmlInit():
    raise NVMLError_LibraryNotFound("NVML Shared Library Not Found")
'''

_PROGRAM = """\
import json, os, signal, sys, time

HERE = os.path.splitext(os.path.abspath(__file__))[0]


def note(ending, text):
    with open(HERE + "." + ending, "a", encoding="utf-8") as file:
        file.write(text + "\\n")


def hang():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.fork()
    note("pids", str(os.getpid()))
    time.sleep(600)  # so that a test that fails leaves nothing for ever


def asked(arguments, option):
    return next((it.partition("=")[2].split(",") for it in arguments if it.startswith(option + "=")), None)


def query(state, arguments):
    for option, rows in (("--query-gpu", state.get("gpus")), ("--query-compute-apps", state.get("apps"))):
        fields = asked(arguments, option)
        if fields is None or rows is None:
            continue
        if not state["gpus"]:
            return "No devices were found\\n", 6
        for field in fields:
            if any(field not in row for row in rows):
                return 'Field "%s" is not a valid field to query.\\n' % field, 2
        return "".join(", ".join(row[field] for field in fields) + "\\n" for row in rows), 0
    return None


arguments = sys.argv[1:]
note("calls", " ".join(arguments))
with open(HERE + ".json", encoding="utf-8") as file:
    state = json.load(file)
if "turns" in state:
    with open(HERE + ".calls", encoding="utf-8") as file:
        asked_before = file.read().splitlines().count(" ".join(arguments)) - 1
    state = state["turns"][min(asked_before, len(state["turns"]) - 1)]
answer = state.get("answers", {}).get(" ".join(arguments))
if answer is not None:
    text, code = answer, 0
else:
    text, code = query(state, arguments) or (state.get("stdout", ""), state.get("code", 0))
sys.stdout.write(text)
sys.stdout.flush()
sys.stderr.write(state.get("stderr", ""))
sys.stderr.flush()
if state.get("hang"):
    hang()
sys.exit(code)
"""
