"""What goes wrong in the fault table: checkouts, tools, disks and surroundings, made so on purpose.

Each cause is a function over a `Scene`, or makes one. They start nothing that outlives their test.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omnirt_cli.devices.inventory import discover
from omnirt_cli.models.base import Backend
from tests.faults import OLD_VIDEO, Scene, ended
from tests.lease_processes import answer, lease_worker
from tests.omnirt_cli_runs import (
    CHECKOUTS,
    Finished,
    environment,
    finish,
    kill_hard,
    marked_processes,
    omnirt,
    wait_for,
)
from tests.vendor_tools import (
    Chip,
    Gpu,
    answering_tool,
    failing_tool,
    fake_npu_smi,
    fake_nvidia_smi,
    gone,
    hanging_tool,
    machine,
    processes_of,
)

Cause = Callable[[Scene], None]


def all_of(*causes: Cause) -> Cause:
    """Several causes, one after another."""

    def cause(scene: Scene) -> None:
        for each in causes:
            each(scene)

    return cause


def flag(**values: str) -> Cause:
    """Flags with these values."""
    return lambda scene: scene.flags.update({f"--{name.replace('_', '-')}": it for name, it in values.items()})


def environ(**values: str) -> Cause:
    """Variables of the shell."""
    return lambda scene: scene.env.update(values)


# --- checkouts ------------------------------------------------------------------------------------

SCRIPT_HEAD = """
import argparse, os, subprocess, sys
parser = argparse.ArgumentParser()
for flag in ("--ckpt_dir", "--wav2vec_dir", "--save_file", "--input_prompt", "--cond_image", "--audio_path"):
    parser.add_argument(flag)
parser.add_argument("--audio_encode_mode")
parser.add_argument("--base_seed", type=int)
args = parser.parse_args()

def render(*options, seconds=4, rate=25, size="64x64"):
    source = ["-f", "lavfi", "-i", f"testsrc=s={size}:r={rate}:d={seconds}"]
    command = ["ffmpeg", "-v", "error", "-nostdin", *source, "-c:v", "libx264", "-bf", "0", *options, args.save_file]
    subprocess.run(command, check=True)

"""


def script(body: str) -> Cause:
    """A checkout whose script is a few lines: it takes FlashTalk's flags, then does this."""

    def cause(scene: Scene) -> None:
        checkout = scene.folder / "checkout"
        (checkout / "models").mkdir(parents=True)
        (checkout / "generate_video.py").write_text(SCRIPT_HEAD + body)
        del scene.flags["--size"]
        in_checkout(scene, checkout)
        scene.flags |= {"--ckpt-dir": "models", "--wav2vec-dir": "models"}
        scene.more += ["--skip-check=checkpoint", "--skip-check=wav2vec"]

    return cause


def variant(name: str) -> Cause:
    """One of the miniature's checkouts, configured as a real one is."""
    return lambda scene: in_checkout(scene, CHECKOUTS / name)


def in_checkout(scene: Scene, place: Path) -> None:
    scene.flags |= {"--repo-path": str(place), "--python-executable": sys.executable}


def two_ranks(scene: Scene) -> None:
    """Real torchrun."""
    pytest.importorskip("torch")
    scene.flags |= {"--launcher": "torchrun", "--nproc-per-node": "2"}
    scene.env["MINIATURE_TORCH"] = "1"


# --- ffmpeg ---------------------------------------------------------------------------------------


def no_tools(scene: Scene) -> None:
    """A PATH with nothing on it."""
    (scene.folder / "empty").mkdir()
    scene.env["PATH"] = str(scene.folder / "empty")


def without_bash(scene: Scene) -> None:
    """ffmpeg and ffprobe are there, the shell that an env script needs is not."""
    tools = scene.folder / "bin"
    tools.mkdir()
    for name in ("ffmpeg", "ffprobe"):
        (tools / name).symlink_to(shutil.which(name) or name)
    scene.env["PATH"] = str(tools)
    scene.flags["--env-script"] = str(written(scene, "set_env.sh", "export A=1\n"))


def ffmpeg_of_another_age(scene: Scene) -> None:
    """It works, and names itself an old version."""
    wrapped(scene, "ffmpeg", 'case "$1" in -version) echo "ffmpeg version 3.4.11 Copyright"; exit 0;; esac\n')


def hanging_ffmpeg(*names: str) -> Cause:
    """These never answer."""

    def cause(scene: Scene) -> None:
        for name in names:
            hanging_tool(tools_of(scene), name)

    return cause


FIND_VIDEO = 'for a in "$@"; do case "$a" in file:*.delivered.mp4) video="${a#file:}";; esac; done\n'


def during_verification(commands: str) -> Cause:
    """While the finished video is decoded for its verification, something happens to `$video`."""
    body = f"""
{FIND_VIDEO}
case "$*" in
*.delivered.mp4*rawvideo*)
  REAL "$@"
  status=$?
  {commands}
  exit $status;;
esac
"""
    return lambda scene: wrapped(scene, "ffmpeg", body)


def during_the_mux(commands: str) -> Cause:
    """Instead of joining picture and sound, ffmpeg does this."""
    body = f"""
case "$*" in
*rawvideo*) ;;
*.delivered.mp4*)
  {commands}
esac
"""
    return lambda scene: wrapped(scene, "ffmpeg", body)


def wrapped(scene: Scene, name: str, body: str) -> None:
    """A shell script before the real tool on PATH; REAL stands for the tool."""
    real = shlex.quote(shutil.which(name) or name)
    tool = tools_of(scene) / name
    tool.write_text("#!/bin/sh\n" + body.replace("REAL", real) + f'\nexec {real} "$@"\n')
    tool.chmod(0o755)


def tools_of(scene: Scene) -> Path:
    """A folder that comes first on PATH."""
    place = scene.folder / "tools"
    scene.env |= machine(place)
    return place


def doctor_says(check: str, *parts: str) -> Callable[[Scene, Finished], None]:
    """A check: `omnirt doctor` finds the same."""

    def look(scene: Scene, _done: Finished) -> None:
        seen = omnirt("doctor", "--json", env=scene.env)
        assert seen.code == 1, seen.stderr
        (found,) = [it for section in seen.json["sections"] for it in section["checks"] if it["name"] == check]
        assert found["status"] == "failed"
        assert all(part in found["detail"] for part in parts)

    return look


def tool_is_gone(name: str) -> Callable[[Scene, Finished], None]:
    """A check: no call of a hanging tool is left."""

    def check(scene: Scene, _done: Finished) -> None:
        started = processes_of(scene.folder / "tools" / name)
        assert started
        wait_for(lambda: all(gone(pid) for pid in started), seconds=5, what=f"the end of {name}")

    return check


# --- devices --------------------------------------------------------------------------------------


def npus(count: int = 4) -> Cause:
    """A machine with idle NPUs, and a checkout that runs on them."""

    def cause(scene: Scene) -> None:
        fake_npu_smi(tools_of(scene), [Chip(npu=number) for number in range(count)])
        scene.flags |= {"--model": "soulx-flashhead-1.3b", "--backend": "ascend", "--launcher": "python"}
        variant("flashhead_ascend")(scene)

    return cause


def npu_smi_says(words: str) -> Cause:
    """A tool that fails with these words."""

    def cause(scene: Scene) -> None:
        npus()(scene)
        failing_tool(tools_of(scene), "npu-smi", stdout=words)

    return cause


def npu_smi_hangs(scene: Scene) -> None:
    npus()(scene)
    hanging_tool(tools_of(scene), "npu-smi")


def npu_smi_of_tomorrow(scene: Scene) -> None:
    """A driver that answers in a layout which nobody knows."""
    npus()(scene)
    answering_tool(tools_of(scene), "npu-smi", {"info": "{'npus': [{'id': 0}]}\n", "info -m": "v99\n"})


def no_npu_smi(scene: Scene) -> None:
    npus()(scene)
    for file in (scene.folder / "tools").glob("*npu-smi*"):
        file.unlink()


def gpus(count: int = 2) -> Cause:
    """A machine with idle GPUs, and a checkout that runs on them."""

    def cause(scene: Scene) -> None:
        fake_nvidia_smi(tools_of(scene), [Gpu(index=number) for number in range(count)])
        scene.flags |= {"--backend": "cuda", "--launcher": "python"}
        variant("flashtalk_new")(scene)

    return cause


def nvidia_smi_hangs(scene: Scene) -> None:
    gpus()(scene)
    hanging_tool(tools_of(scene), "nvidia-smi")


def nvidia_smi_fails(scene: Scene) -> None:
    gpus()(scene)
    failing_tool(tools_of(scene), "nvidia-smi", stdout="Failed to initialize NVML: Driver/library version mismatch\n")


def npu_that_vanishes(scene: Scene) -> Finished:
    """In mid-run the tool knows the chip no more, then fails altogether."""
    process = scene.started_until("Data preparation done")
    fake_npu_smi(scene.folder / "tools", [Chip(npu=number) for number in (0, 1, 3)])
    time.sleep(0.3)
    failing_tool(scene.folder / "tools", "npu-smi", stdout="dcmi module initialize failed. ret is -8005\n")
    return finish(process, 60)


def leased(*keys_of: int, killed: bool = False) -> Callable[[Scene], Finished]:
    """A drive: another OmniRT holds these devices (or was killed while it did)."""

    def drive(scene: Scene) -> Finished:
        keys = [key_of(scene, number) for number in keys_of]
        with lease_worker(folder=scene.leases, do="hold", keys=keys) as worker:
            assert answer(worker) == {"got": True}
            if killed:
                worker.kill()
                worker.wait(10)
            done = scene.run()
            worker.kill()
            worker.wait(10)
        return done

    return drive


def key_of(scene: Scene, number: int) -> str:
    """The key of a device of the scene's machine."""
    devices = discover(Backend.ASCEND, environ={**os.environ, **scene.env}).devices
    assert devices
    return devices[number].key


def leases_in(place: str) -> Cause:
    """The leases' directory is one that cannot serve."""
    return lambda scene: scene.env.update({"OMNIRT_LOCK_DIR": place})


def leases_of_another_user(scene: Scene) -> None:
    place = scene.folder / "theirs"
    place.mkdir(mode=0o755)
    try:
        os.chown(place, 12345, 12345)
    except PermissionError:
        pytest.skip("this user cannot make another user's directory")
    scene.env["OMNIRT_LOCK_DIR"] = str(place)


def leases_on_a_read_only_disk(scene: Scene) -> None:
    place = scene.folder / "read-only"
    place.mkdir()
    scene.mount_tmpfs(place, "ro,mode=1777")
    scene.env["OMNIRT_LOCK_DIR"] = str(place)


# --- disks ----------------------------------------------------------------------------------------


def small_disk(kilobytes: int) -> Cause:
    """The outputs lie on a file system with little room."""

    def cause(scene: Scene) -> None:
        scene.mount_tmpfs(scene.outputs, f"size={kilobytes}k")
        scene.output.write_bytes(OLD_VIDEO)

    return cause


def full_disk(scene: Scene) -> None:
    """The outputs lie on a file system without any."""
    small_disk(64)(scene)
    with contextlib.suppress(OSError), (scene.outputs / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


def stopped_in_the_mux(scene: Scene) -> Finished:
    """SIGTERM while ffmpeg joins picture and sound."""
    process = scene.start()
    wait_for(lambda: (scene.folder / "tools" / "muxing").exists(), seconds=60, what="the mux")
    process.send_signal(signal.SIGTERM)
    return ended(process)


def ffprobe_fails_over_the_video(scene: Scene) -> None:
    wrapped(scene, "ffprobe", 'case "$*" in *.delivered.mp4*) echo broken >&2; exit 1;; esac\n')


SMALL_AND_SILENT = """
  for a in "$@"; do case "$a" in file:*.delivered.mp4) video="${a#file:}";; esac; done
  REAL -v error -nostdin -y -f lavfi -i testsrc=s=32x32:r=25:d=2.2 -c:v libx264 -bf 0 "$video"
  exit $?
"""

FILL_DISK = 'dd if=/dev/zero of="$(dirname "$(dirname "$video")")/filler" bs=4k 2>/dev/null'

BLOCK_REPORT = """
  report="$(dirname "$(dirname "$video")")/video.report.json"
  rm "$report"
  mkdir "$report"
"""


def log_to_a_full_device(scene: Scene) -> None:
    scene.log.symlink_to("/dev/full")


# --- files ----------------------------------------------------------------------------------------


def written(scene: Scene, name: str, content: str | bytes) -> Path:
    path = scene.folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def request_file(content: str | bytes, name: str = "request.yaml") -> Cause:
    """A `--config` beside the flags."""
    return lambda scene: scene.flags.update({"--config": str(written(scene, name, content))})


def project_file(content: str | bytes) -> Cause:
    """An omnirt.yaml in the working directory."""

    def cause(scene: Scene) -> None:
        scene.cwd = scene.folder
        written(scene, "omnirt.yaml", content)

    return cause


def output_is_a_folder(scene: Scene) -> None:
    scene.output.unlink()
    scene.output.mkdir()


def outputs_are_a_file(scene: Scene) -> None:
    scene.flags["--output"] = str(written(scene, "file", "a file") / "video.mp4")


def links_elsewhere(scene: Scene) -> None:
    """Video, report and log are links to a person's files elsewhere."""
    scene.output.unlink()
    for path in (scene.output, scene.report, scene.log):
        path.symlink_to(written(scene, "precious-" + path.name, "precious"))


def still_precious(scene: Scene, _done: Finished) -> None:
    for path in (scene.output, scene.report, scene.log):
        assert (scene.folder / ("precious-" + path.name)).read_text() == "precious"
        assert not path.is_symlink()


def damaged_index(scene: Scene) -> None:
    (scene.data / "runs.sqlite3").write_bytes(b"SQLite format 3\0" + b"damaged" * 500)


# --- surroundings ---------------------------------------------------------------------------------


def leaked_ranks(scene: Scene) -> None:
    """The shell belongs to a rank of somebody else's job."""
    scene.env |= {
        "RANK": "3",
        "LOCAL_RANK": "3",
        "WORLD_SIZE": "8",
        "LOCAL_WORLD_SIZE": "8",
        "MASTER_ADDR": "10.255.255.1",
        "TORCHELASTIC_RUN_ID": "other",
        "PET_NPROC_PER_NODE": "8",
    }


def with_its_port_taken(scene: Scene) -> Finished:
    """The shell names a rendezvous port on which another program listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        scene.env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(taken.getsockname()[1])}
        return scene.run()


JUMPING_CLOCK = """
import datetime, itertools, time

DAY = 86400
jumps = itertools.cycle((0, DAY, -DAY, 0, 3600, -3600))
real_time, real_datetime = time.time, datetime.datetime


class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)


time.time = lambda: real_time() + next(jumps)
time.time_ns = lambda: int(time.time() * 1e9)
datetime.datetime = Jumping
"""


def jumping_clock(scene: Scene) -> None:
    """Whoever looks at the clock, OmniRT or the script, finds it a day or an hour off, each time another way."""
    place = scene.folder / "clock"
    place.mkdir()
    (place / "sitecustomize.py").write_text(JUMPING_CLOCK)
    scene.env["PYTHONPATH"] = os.pathsep.join((str(place), environment(None)["PYTHONPATH"]))


GARBAGE = b"\x00\x1b[31m\xfe\xff\r 50%|#####     |\r[rank1]: " + b"x" * 3_000_000 + b"\xff\x00\n"

GARBAGE_SCRIPT = """
import sys
out = sys.stderr.buffer
out.write(b"\\x00\\x1b[31m\\xfe\\xff\\r 50%|#####     |\\r[rank1]: " + b"x" * 3_000_000 + b"\\xff\\x00\\n")
out.write(b"INFO | x - Data preparation done. Start to generate video...\\n")
for chunk in range(3):
    out.write(b"\\r%d%%|###| 1/3\\r2026-11-20 10:12:5%d.948 | INFO     | x:y:1 - " % (chunk, chunk))
    out.write(b"Generate video chunk-%d done, cost time: 0.90s\\n" % chunk)
out.flush()
render()
"""


def home_on_proc(scene: Scene) -> None:
    """HOME is a place where nobody can write; the list of runs is looked for there."""
    scene.env |= {"HOME": "/proc/none", "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": "", "XDG_CACHE_HOME": ""}
    del scene.env["OMNIRT_DATA_DIR"]
    scene.data.rmdir()


def shell(script_text: str) -> Callable[[Scene], Finished]:
    """A drive: through a shell."""
    return lambda scene: scene.through_shell(script_text)


def under_cron(scene: Scene) -> Finished:
    """No HOME, no locale, a short PATH, a strict umask."""
    kept = {name: scene.env[name] for name in ("OMNIRT_LOCK_DIR", "TMPDIR")}
    bare = {
        "PATH": os.defpath,
        "LC_ALL": "C",
        "PYTHONPATH": environment(None)["PYTHONPATH"],
        "MINIATURE_TORCH": "0",
        **kept,
    }
    shutil.rmtree(scene.data)
    scene.cwd = Path("/")
    return scene.through_shell('umask 077; exec "$@"', env=bare)


# --- killing --------------------------------------------------------------------------------------


def omnirt_killed(scene: Scene) -> Finished:
    """SIGKILL in mid-run; then another run into the same folder completes the report."""
    process = scene.started_until()
    run_id = scene.report_on_disk()["run_id"]
    kill_hard(process)
    wait_for(lambda: not marked_processes(run_id), seconds=9, what="the end of every process")
    assert scene.report_on_disk()["status"] == "running"
    another(scene, scene.outputs / "next.mp4")
    return Finished(-signal.SIGKILL, "", "", 0.0)


def another(scene: Scene, output: Path) -> Finished:
    """A render like it, with nothing wrong, in one process."""
    for name in ("--launcher", "--nproc-per-node"):
        scene.flags.pop(name, None)
    healthy = {name: value for name, value in scene.env.items() if not name.startswith("MINIATURE_")}
    done = omnirt(*scene.args(output=str(output)), env=healthy, cwd=scene.cwd)
    assert done.code == 0, done.stderr
    return done


def rendered_again(scene: Scene) -> Finished:
    """SIGKILL in mid-run, and the same request once more: it renders, and both runs are known."""
    process = scene.started_until()
    kill_hard(process)
    again = another(scene, scene.output)
    listed = omnirt("runs", "list", "--json", env=scene.env)
    assert sorted(run["status"] for run in listed.json["runs"]) == ["interrupted", "succeeded"]
    return again


def guard_killed(scene: Scene) -> Finished:
    process = scene.started_until()
    os.kill(_the_one(_children(process.pid), b"guard.py"), signal.SIGKILL)
    return ended(process)


def torchrun_killed(scene: Scene) -> Finished:
    process = scene.started_until()
    run_id = scene.report_on_disk()["run_id"]
    assert len(marked_processes(run_id)) == 3
    os.kill(_the_one(marked_processes(run_id), b"torch.distributed.run"), signal.SIGKILL)
    return ended(process)


def _children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sorted({int(child) for thread in threads for child in (thread / "children").read_text().split()})


def _the_one(pids: list[int], mark: bytes) -> int:
    found = [pid for pid in pids if mark in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(found) == 1
    return found[0]


@contextlib.contextmanager
def living(scene: Scene) -> Iterator[subprocess.Popen[bytes]]:
    """A run to the same output that hangs in mid-run; it is stopped at the end."""
    scene.env["MINIATURE_FAULT"] = "hang@chunk1"
    process = scene.started_until()
    del scene.env["MINIATURE_FAULT"]
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def beside_a_living_run(scene: Scene) -> Finished:
    """Another run writes the same output now."""
    with living(scene):
        return scene.run()
