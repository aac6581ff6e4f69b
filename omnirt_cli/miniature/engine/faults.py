"""Faults on demand, for tests: ``MINIATURE_FAULT`` names what goes wrong, where and on which rank.

``kind[=value][@stage][:rankN]``, several separated by commas. Stages are ``load``, ``text`` (LiveAct's encoding of
the prompt), ``prep``, ``chunkN`` and ``save``; without a rank every rank is struck. What is printed is what the real
thing prints.

========================  =========  ==================================================================
kind                      stage      what happens
========================  =========  ==================================================================
``oom_cuda``              load       torch.OutOfMemoryError with CUDA's text
``oom_npu``               load       RuntimeError with torch_npu's text, and its ERR99999 line
``hccl``                  load       RuntimeError with HCCL's text (ERR02200, EJ0001)
``missing_module``        load       ModuleNotFoundError for xfuser
``exitN``                 chunk0     the process leaves with code N (exit0 too)
``kill``                  chunk0     SIGKILL to itself
``segv``                  chunk0     SIGSEGV to itself
``hang``                  chunk0     sleeps for an hour
``ignore_term``           load       SIGTERM and SIGINT are ignored from here on
``black``                 chunk0     black frames from here to the end
``frozen``                chunk0     the picture stands still from here to the end
``dead_mouth``            chunk0     the mouth stays shut; head and lids move on
``shift=S``               chunk0     the lips move S seconds late
``no_output``             save       the finished file is removed
``empty_output``          save       the finished file has no bytes
``truncate``              save       the finished file ends after 60 %, its index being in front
``mux_fail``              save       ffmpeg fails when it joins picture and sound
========================  =========  ==================================================================
"""

import functools
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from engine import arrays, ranks

_AT_LOAD = ("oom_cuda", "oom_npu", "hccl", "missing_module", "ignore_term")
_AT_SAVE = ("no_output", "empty_output", "truncate", "mux_fail")
_PICTURE = ("black", "frozen", "dead_mouth", "shift")
_SPEC = re.compile(
    r"(?P<kind>[a-z_]+?\d*)(=(?P<value>[\d.]+))?(@(?P<stage>load|text|prep|save|chunk\d+))?(:rank(?P<rank>\d+))?"
)


@dataclass(frozen=True)
class Fault:
    kind: str
    value: float
    stage: str
    rank: int | None

    @property
    def chunk(self) -> int:
        """The first chunk it concerns."""
        return int(self.stage.removeprefix("chunk")) if self.stage.startswith("chunk") else 0


def parse(spec: str) -> list[Fault]:
    """The faults that ``spec`` names.

    Raises:
        ValueError: a part that is no fault.
    """
    return [_parse_one(part.strip()) for part in spec.split(",") if part.strip()]


def _parse_one(part: str) -> Fault:
    match = _SPEC.fullmatch(part)
    if match is None or not _known(match["kind"]):
        raise ValueError(f"MINIATURE_FAULT: {part!r} is no fault")
    kind = match["kind"]
    stage = match["stage"] or ("load" if kind in _AT_LOAD else "save" if kind in _AT_SAVE else "chunk0")
    return Fault(kind, float(match["value"] or 0), stage, None if match["rank"] is None else int(match["rank"]))


def _known(kind: str) -> bool:
    return (
        kind in _AT_LOAD + _AT_SAVE + _PICTURE + ("kill", "segv", "hang") or re.fullmatch(r"exit\d+", kind) is not None
    )


@functools.cache
def _mine() -> tuple[Fault, ...]:
    return tuple(f for f in parse(os.environ.get("MINIATURE_FAULT", "")) if f.rank in (None, ranks.rank()))


def strike(stage: str) -> None:
    """Let happen what was asked for at this stage of this rank."""
    for fault in _mine():
        if fault.stage == stage and fault.kind not in _PICTURE + _AT_SAVE:
            _happen(fault.kind)


def picture(kind: str, chunk: int) -> Fault | None:
    """The picture fault of this kind that has begun by ``chunk``, if any."""
    return next((f for f in _mine() if f.kind == kind and f.chunk <= chunk), None)


def mux_command(command: list[str]) -> list[str]:
    """The ffmpeg command, spoiled if ``mux_fail`` was asked for."""
    if not any(f.kind == "mux_fail" for f in _mine()):
        return command
    return [*command[:-2], "-c:a", "no_such_codec", *command[-2:]]


def spoils_output() -> bool:
    """Whether the finished file is to be spoiled; asked on every rank alike."""
    faults = parse(os.environ.get("MINIATURE_FAULT", ""))
    return any(f.kind in _AT_SAVE and f.kind != "mux_fail" for f in faults)


def after_save(path: str) -> None:
    """Spoil the finished file if that was asked for."""
    for fault in _mine():
        if fault.kind in _AT_SAVE and Path(path).exists():
            _spoil(fault.kind, Path(path))


def _spoil(kind: str, path: Path) -> None:
    if kind == "no_output":
        path.unlink()
    elif kind == "empty_output":
        path.write_bytes(b"")
    elif kind == "truncate":
        _index_first(path)
        os.truncate(path, path.stat().st_size * 6 // 10)


def _index_first(path: Path) -> None:
    """Move the MP4 index to the front, so that the truncated file still opens and states its full length."""
    moved = path.with_name("moov_first_" + path.name)
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(path), "-c", "copy", "-movflags", "+faststart"]
    subprocess.run([*command, str(moved)], check=True)
    moved.replace(path)


def _happen(kind: str) -> None:
    if kind.startswith("exit"):
        sys.stdout.flush()
        os._exit(int(kind.removeprefix("exit")))
    _HAPPENINGS[kind]()


def _oom_cuda() -> None:
    error = arrays.torch.OutOfMemoryError if arrays.torch is not None else RuntimeError
    raise error(
        f"CUDA out of memory. Tried to allocate 1.32 GiB. GPU {ranks.rank()} has a total capacity of 23.64 GiB of "
        "which 843.81 MiB is free. Including non-PyTorch memory, this process has 22.81 GiB memory in use."
    )


def _oom_npu() -> None:
    _err99999_at_exit()
    raise RuntimeError(
        f"NPU out of memory. Tried to allocate 268.00 MiB (NPU {ranks.rank()}; 60.97 GiB total capacity; "
        "59.24 GiB already allocated; 59.24 GiB current active; 187.52 MiB free; 60.10 GiB reserved in total by "
        "PyTorch) If reserved memory is >> allocated memory try setting max_split_size_mb to avoid fragmentation."
    )


def _hccl() -> None:
    raise RuntimeError(
        "[ERROR] HCCL error in: torch_npu/csrc/distributed/ProcessGroupHCCL.cpp:64\n"
        f"[ERROR] {_npu_stamp()} ERR02200 DIST call hccl api failed.\n"
        "EJ0001: Failed to initialize the HCCP process. Reason: Maybe the last training process is running.\n"
        "        Solution: Wait for 10s after killing the last training process and try again."
    )


def _npu_stamp() -> str:
    now = datetime.now().strftime("%Y-%m-%d-%H:%M:%S")
    return f"{now} (PID:{os.getpid()}, Device:{ranks.rank()}, RankID:{ranks.rank()})"


def _err99999_at_exit() -> None:
    """torch_npu adds this line to every uncaught error, after the traceback."""
    usual = sys.excepthook

    def hook(kind, value, trace) -> None:
        usual(kind, value, trace)
        sys.stderr.write(f"[ERROR] {_npu_stamp()} ERR99999 UNKNOWN applicaiton exception\n")

    sys.excepthook = hook


def _missing_module() -> None:
    raise ModuleNotFoundError("No module named 'xfuser'", name="xfuser")


def _ignore_term() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


_HAPPENINGS = {
    "oom_cuda": _oom_cuda,
    "oom_npu": _oom_npu,
    "hccl": _hccl,
    "missing_module": _missing_module,
    "ignore_term": _ignore_term,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segv": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "hang": lambda: time.sleep(3600),
}
