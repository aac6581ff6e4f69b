"""The fault table's parts: a row, the scene that it plays in, and what holds for every row.

A `Fault` says what is caused and what must come of it. A `Scene` is one render of its own: folders, flags and an
environment that a cause may change, and ways to run it. `assert_promises` looks at what every ended run owes,
whatever ended it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from omnirt_cli.files import is_locked
from omnirt_cli.output_paths import OutputPaths
from omnirt_cli.report import RunReport
from omnirt_cli.runs.history import History
from omnirt_cli.runs.place import DataPlace
from tests.omnirt_cli_runs import (
    ASSETS,
    Finished,
    environment,
    finish,
    marked_processes,
    omnirt,
    scratch_dirs,
    start,
    wait_for,
)

OLD_VIDEO = b"an earlier video that must survive"
SPEECH_S = 2.2
STOP_BOUND_S = 9.0


@dataclass
class Scene:
    """One render, about to go wrong.

    Attributes:
        folder: The test's own.
        flags: Flags with their values; a cause may change or remove them.
        more: Flags without values, and repeated ones.
        env: What is added to the environment.
        cwd: Where the command is called; the test's own by default.
    """

    folder: Path
    flags: dict[str, str] = field(default_factory=dict)
    more: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _mounted: list[Path] = field(default_factory=list)

    @classmethod
    def set(cls, folder: Path) -> Scene:
        """Folders of its own, a short recording, an earlier video where the new one goes."""
        scene = cls(folder)
        for place in (scene.outputs, scene.data, scene.temporary):
            place.mkdir()
        scene.leases.mkdir()
        scene.leases.chmod(0o1777)
        scene.flags = {
            "--model": "soulx-flashtalk-14b",
            "--backend": "cpu",
            "--size": "64*64",
            "--image": str(ASSETS / "portrait.png"),
            "--audio": str(shortened_speech(folder / "speech.wav")),
            "--output": str(scene.outputs / "video.mp4"),
            "--progress": "never",
        }
        scene.output.write_bytes(OLD_VIDEO)
        scene.more = ["--json"]
        scene.env = {
            "OMNIRT_DATA_DIR": str(scene.data),
            "OMNIRT_LOCK_DIR": str(scene.leases),
            "TMPDIR": str(scene.temporary),
        }
        return scene

    @property
    def outputs(self) -> Path:
        return self.folder / "out"

    @property
    def output(self) -> Path:
        return Path(self.flags["--output"])

    @property
    def report(self) -> Path:
        return OutputPaths(self.output).report

    @property
    def log(self) -> Path:
        return OutputPaths(self.output).log

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def leases(self) -> Path:
        return self.folder / "leases"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def args(self, **changed: str) -> list[str]:
        """The command line; `changed` are flags by their names without dashes."""
        flags = {**self.flags, **{f"--{name.replace('_', '-')}": value for name, value in changed.items()}}
        return ["generate", *(f"{flag}={value}" for flag, value in flags.items()), *self.more]

    def run(self, **changed: str) -> Finished:
        return omnirt(*self.args(**changed), env=self.env, cwd=self.cwd)

    def start(self, **changed: str) -> subprocess.Popen[bytes]:
        process = start(*self.args(**changed), env=self.env, cwd=self.cwd)
        self._started.append(process)
        return process

    def mount_tmpfs(self, place: Path, options: str) -> None:
        """A file system in memory, until the scene is struck; the test is skipped where that is not allowed."""
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True)
        if done.returncode:
            pytest.skip("this user may not mount a file system here")
        self._mounted.append(place)

    def strike(self) -> None:
        """Leave nothing, whatever a row that fails had begun."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.communicate(timeout=30)
        for place in self._mounted:
            subprocess.run(["umount", "-l", str(place)], check=True)

    def through_shell(self, script: str, env: dict[str, str] | None = None) -> Finished:
        """A bash script in which `"$@"` is the command line."""
        command = [sys.executable, "-m", "omnirt", *self.args()]
        done = subprocess.run(
            ["bash", "-c", script, "bash", *command],
            capture_output=True,
            env=environment(self.env) if env is None else env,
            cwd=self.cwd or self.folder,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode(), 0.0)

    def has_begun(self, text: str) -> Callable[[], bool]:
        """Whether the script's log has this text."""
        return lambda: self.log.exists() and text.encode() in self.log.read_bytes()

    def started_until(self, text: str = "chunk-0 done") -> subprocess.Popen[bytes]:
        """A render in mid-run."""
        process = self.start()
        wait_for(self.has_begun(text), seconds=60, what=f"{text!r} in the log")
        return process

    def report_on_disk(self) -> dict[str, Any]:
        found = json.loads(self.report.read_bytes())
        assert isinstance(found, dict)
        return found


def shortened_speech(path: Path, seconds: float = SPEECH_S) -> Path:
    """The beginning of the shipped recording."""
    with wave.open(str(ASSETS / "speech.wav"), "rb") as whole, wave.open(str(path), "wb") as part:
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(int(seconds * whole.getframerate())))
    return path


def run_to_its_end(scene: Scene) -> Finished:
    """What most rows do."""
    return scene.run()


def nothing(_scene: Scene) -> None:
    """No cause but the row's own flags and MINIATURE_FAULT."""


def no_more(_scene: Scene, _done: Finished) -> None:
    """Nothing beyond what every row asserts."""


@dataclass(frozen=True)
class Fault:
    """A row of the table.

    Attributes:
        numbers: The faults of the list that it causes.
        what: What happens, in words; the test's name.
        code: Exit code.
        status: The report's status.
        error: The error's code; None where the run succeeds all the same.
        says: Parts of the error's message and hint, or of the warnings where the run succeeds.
        miniature: What goes wrong inside the script (MINIATURE_FAULT).
        flags: Flags of this row.
        cause: Changes the scene before the run.
        drive: Runs it.
        check: What this row asserts besides.
        kept: Suffix of the video that must have been kept.
        on_disk: Whether the report lies beside the output; a mistyped command leaves none.
        delivered: The video is in its place although the run failed.
        scratch_left: SIGKILL of OmniRT leaves the private directory to the next run, 24 hours long.
    """

    numbers: tuple[int, ...]
    what: str
    code: int
    status: str
    error: str | None
    says: tuple[str, ...] = ()
    miniature: str = ""
    flags: tuple[str, ...] = ()
    cause: Callable[[Scene], None] = nothing
    drive: Callable[[Scene], Finished] = run_to_its_end
    check: Callable[[Scene, Finished], None] = no_more
    kept: str | None = None
    on_disk: bool = True
    delivered: bool = False
    scratch_left: bool = False


def play(fault: Fault, folder: Path) -> None:
    """Cause the fault, and assert what must come of it."""
    scene = Scene.set(folder)
    if fault.miniature:
        scene.env["MINIATURE_FAULT"] = fault.miniature
    scene.more += fault.flags
    try:
        fault.cause(scene)
        done = fault.drive(scene)
        assert_promises(fault, scene, done)
        fault.check(scene, done)
    finally:
        scene.strike()


def assert_promises(fault: Fault, scene: Scene, done: Finished) -> None:
    """What every ended run owes."""
    assert done.code == fault.code, f"{done.json['metadata']['error'] if done.stdout else ''}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    report = the_report(fault, scene, done)
    assert_told(fault, report)
    assert_nothing_survives(scene, report["run_id"])
    assert_no_file_is_lost(fault, scene, report)
    assert_run_is_known(scene, report)


def the_report(fault: Fault, scene: Scene, done: Finished) -> dict[str, Any]:
    """The one report, complete, wherever the row says that it is."""
    document = done.report if done.stdout else scene.report_on_disk()
    RunReport.model_validate(document)
    if fault.on_disk:
        assert scene.report_on_disk() == document
    else:
        assert not scene.report.is_file() or scene.report_on_disk()["run_id"] != document["run_id"]
    assert document["finished_at"]
    return document


def assert_told(fault: Fault, report: dict[str, Any]) -> None:
    """Status, code, what happened and what to do next."""
    assert report["status"] == fault.status
    error = report["error"]
    if fault.error is None:
        assert error is None
        told = " ".join(report["warnings"])
    else:
        assert error["code"] == fault.error
        assert error["exit_code"] == (128 - fault.code if fault.code < 0 else fault.code)
        assert error["hint"], "what to do next"
        told = f"{error['message']} {error['hint']}"
    for part in fault.says:
        assert part in told


def assert_nothing_survives(scene: Scene, run_id: str) -> None:
    """No process of the run, no lock, no lease."""
    assert marked_processes(run_id) == []
    assert not is_locked(scene.log), "the next run to this output would be refused"
    assert [lease.name for lease in scene.leases.glob("device-*") if is_locked(lease)] == []


def assert_no_file_is_lost(fault: Fault, scene: Scene, report: dict[str, Any]) -> None:
    """The earlier video is there unless a verified one replaced it; what was made is kept; nothing else is left."""
    if not scene.output.is_dir():
        video = scene.output.read_bytes() if scene.output.exists() else None
        assert (video not in (OLD_VIDEO, None)) == (fault.delivered or fault.status == "succeeded")
    assert bool(scratch_dirs(scene.output.parent)) == fault.scratch_left
    if not fault.scratch_left:
        assert list(scene.temporary.iterdir()) == []
    kept = [str(scene.output.with_suffix(fault.kept))] if fault.kept else []
    assert report["kept"] == kept
    assert all(Path(path).stat().st_size > 0 for path in kept)


def assert_run_is_known(scene: Scene, report: dict[str, Any]) -> None:
    """A run that got as far as a plan is in the list of runs, with its end."""
    if report["command"] is None or not scene.data.is_dir():
        return
    known = {entry.run_id: entry.status.value for entry in History(DataPlace(scene.data)).entries()}
    assert known[report["run_id"]] == report["status"]


def ended(process: subprocess.Popen[bytes], timeout: float = 40) -> Finished:
    """Wait for a render that was started."""
    done = finish(process, timeout)
    assert done.seconds < STOP_BOUND_S, "stopping is bounded"
    return done


def signalled(*numbers: signal.Signals, until: str = "chunk-0 done") -> Callable[[Scene], Finished]:
    """A drive: start, wait for mid-run, send these signals one after another."""

    def drive(scene: Scene) -> Finished:
        process = scene.started_until(until)
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.3)
        return ended(process)

    return drive
