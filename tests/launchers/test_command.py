"""Launch command lines: their spelling, and that the real launchers take them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from launchers.command import ACCELERATE_CONFIG, Launcher, build_argv, free_port, require_program
from launchers.errors import ProgramMissingError

AWKWARD_ARGS = ["--flag=line\nbreak", "-1", "--nproc_per_node=7", "--num_processes=7", "-h", "sp ace", "$(x)", "é", ""]

ECHO = """
import json, os, sys
rank, directory = os.environ.get("RANK", "0"), sys.argv[1]
if "RANK" in os.environ:
    import torch.distributed
    torch.distributed.init_process_group("gloo")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
with open(f"{directory}/{rank}.json", "w") as file:
    seen = {name: os.environ.get(name) for name in ("WORLD_SIZE", "CUDA_VISIBLE_DEVICES")}
    json.dump({"args": sys.argv[2:], **seen}, file)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "a script's $name.py"
    path.write_text(ECHO)
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results"
    path.mkdir()
    return path


def child_environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}


def launch(argv: tuple[str, ...], home: Path) -> None:
    done = subprocess.run(
        argv, env=child_environment(home), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def ranks(results: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(results.iterdir())]


def accelerate_executable() -> Path:
    found = shutil.which("accelerate", path=str(Path(sys.executable).parent)) or shutil.which("accelerate")
    if found is None:
        pytest.skip("accelerate is not installed beside this Python")
    return Path(found)


def test_python_is_the_script_and_nothing_else():
    argv = build_argv(Launcher.PYTHON, python=Path("/p/python"), script=Path("/s.py"), args=["--a=b"], processes=1)
    assert argv == ("/p/python", "/s.py", "--a=b")


def test_torchrun_meets_on_the_loopback_address():
    argv = build_argv(Launcher.TORCHRUN, python=Path("/p/python"), script=Path("/s.py"), args=["--a=b"], processes=4)
    assert argv == (
        *("/p/python", "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"),
        *("--nproc_per_node=4", "/s.py", "--a=b"),
    )


def test_accelerate_is_told_everything_that_a_users_configuration_could_say():
    argv = build_argv(
        Launcher.ACCELERATE,
        python=Path("/p/python"),
        script=Path("/s.py"),
        args=["--a=b"],
        processes=2,
        accelerate=Path("/p/accelerate"),
        port=31000,
    )
    assert argv == (
        *("/p/accelerate", "launch", f"--config_file={ACCELERATE_CONFIG}", "--num_processes=2", "--num_machines=1"),
        *("--multi_gpu", "--main_process_port=31000", "/s.py", "--a=b"),
    )
    assert ACCELERATE_CONFIG.is_file()


@pytest.mark.parametrize(
    ("launcher", "options", "said"),
    [
        (Launcher.PYTHON, {"processes": 2}, "one process, not 2"),
        (Launcher.TORCHRUN, {"processes": 0}, "at least one process"),
        (Launcher.ACCELERATE, {"processes": 1}, "needs the accelerate executable"),
        (Launcher.ACCELERATE, {"processes": 2, "accelerate": Path("/a")}, "needs a port"),
    ],
)
def test_parts_that_do_not_fit_are_refused(launcher, options, said):
    with pytest.raises(ValueError, match=said):
        build_argv(launcher, python=Path("/p"), script=Path("/s.py"), args=[], **options)


def test_a_free_port_can_be_bound():
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))


def test_a_program_must_be_an_executable_file(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    require_program(Path(sys.executable), "the model's Python")
    for path, said in [(tmp_path / "none", "not there"), (tmp_path, "not there"), (plain, "may not be executed")]:
        with pytest.raises(ProgramMissingError, match=said):
            require_program(path, "the model's Python")


def test_python_hands_arguments_over_unharmed(script, results, tmp_path):
    args = [str(results), *AWKWARD_ARGS]
    launch(build_argv(Launcher.PYTHON, python=Path(sys.executable), script=script, args=args, processes=1), tmp_path)
    assert [rank["args"] for rank in ranks(results)] == [AWKWARD_ARGS]


def test_torchrun_hands_arguments_over_unharmed_to_two_ranks(script, results, tmp_path):
    pytest.importorskip("torch")
    args = [str(results), *AWKWARD_ARGS]
    launch(build_argv(Launcher.TORCHRUN, python=Path(sys.executable), script=script, args=args, processes=2), tmp_path)
    assert [rank["args"] for rank in ranks(results)] == [AWKWARD_ARGS] * 2
    assert [rank["WORLD_SIZE"] for rank in ranks(results)] == ["2", "2"]


def test_torchrun_starts_where_the_hosts_own_name_does_not_resolve(script, results, tmp_path):
    """In a UTS namespace of its own; without `--local-addr` the same launch hangs."""
    pytest.importorskip("torch")
    unshare = ["unshare", "--user", "--map-root-user", "--uts"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("this user may not make a UTS namespace here")
    argv = build_argv(
        Launcher.TORCHRUN, python=Path(sys.executable), script=script, args=[str(results), "-x"], processes=2
    )
    rename = 'hostname "$1" && shift && exec "$@"'
    launch((*unshare, "sh", "-c", rename, "sh", "no-such-host-omnirt", *argv), tmp_path)
    assert [rank["args"] for rank in ranks(results)] == [["-x"]] * 2


@pytest.mark.parametrize("processes", [1, 2])
def test_accelerate_ignores_the_users_own_configuration(script, results, tmp_path, processes):
    """The user's file asks for four processes on two machines, on one device; none of it may happen."""
    accelerate = accelerate_executable()
    configuration = tmp_path / ".cache/huggingface/accelerate/default_config.yaml"
    configuration.parent.mkdir(parents=True)
    configuration.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\ndebug: false\nuse_cpu: false\n"
        "mixed_precision: bf16\nnum_machines: 2\nnum_processes: 4\ngpu_ids: '7'\n"
    )
    argv = build_argv(
        Launcher.ACCELERATE,
        python=Path(sys.executable),
        script=script,
        args=[str(results), *AWKWARD_ARGS],
        processes=processes,
        accelerate=accelerate,
        port=free_port(),
    )
    launch(argv, tmp_path)
    assert [rank["args"] for rank in ranks(results)] == [AWKWARD_ARGS] * processes
    assert [rank["CUDA_VISIBLE_DEVICES"] for rank in ranks(results)] == [None] * processes
