"""Paths behind a folder that this user may not search: a home never fails a render, an input is a failed check.

`Path.exists` and its like raise there before Python 3.14, where a missing path gives False.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omnirt_cli import host_memory
from omnirt_cli.doctor.machine import look_at_machine
from omnirt_cli.settings import Surroundings
from tests.omnirt_cli_runs import CHECKOUTS, Finished, environment, generate_args
from tests.vendor_tools import machine

CHECKOUT = CHECKOUTS / "flashtalk_new"
HOMES = ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")

_DROPPED = "-dac_override,-dac_read_search"


def _kept_out() -> tuple[str, ...]:
    """What makes root a user like any other, whom a closed folder stops."""
    if os.geteuid() != 0:
        return ()
    return ("setpriv", f"--bounding-set={_DROPPED}", f"--inh-caps={_DROPPED}")


def as_ordinary_user(*args: str, cwd: Path, env: dict[str, str] | None = None) -> Finished:
    done = subprocess.run(
        [*_kept_out(), sys.executable, "-m", "omnirt", *args],
        capture_output=True,
        text=True,
        env=environment({**machine(cwd / "tools"), **(env or {})}),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert "bug in OmniRT" not in done.stderr
    return Finished(done.returncode, done.stdout, done.stderr, 0.0)


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Path]:
    """A path in a folder that nobody may search."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root is stopped by no folder, and setpriv is not there to make it like others")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    looked = subprocess.run([*_kept_out(), "ls", str(closed)], capture_output=True)
    if b"Permission denied" not in looked.stderr:
        pytest.skip("nothing here keeps this user out of a folder")
    yield closed / "within"
    closed.chmod(0o700)


def checks(done: Finished, section: str) -> dict[str, dict[str, Any]]:
    found = next(part for part in done.json["sections"] if part["title"].startswith(section))
    return {check["name"]: check for check in found["checks"]}


def without_homes(place: Path) -> dict[str, str]:
    """Every place of the user's own there; no variable of the tests may lead elsewhere."""
    return {**dict.fromkeys(HOMES, str(place)), "OMNIRT_DATA_DIR": str(place)}


def test_a_home_that_cannot_be_reached_fails_no_render(behind: Path, tmp_path: Path) -> None:
    video = tmp_path / "out" / "v.mp4"

    done = as_ordinary_user(*generate_args(video), cwd=tmp_path, env=without_homes(behind))

    assert done.code == 0, done.stderr
    assert video.stat().st_size > 0
    assert "`omnirt runs` may not know this run" in done.stderr


def test_doctor_warns_of_a_home_that_cannot_be_reached(behind: Path, tmp_path: Path) -> None:
    env = {**without_homes(behind), "OMNIRT_LOCK_DIR": str(tmp_path / "locks")}

    done = as_ordinary_user("doctor", "--json", cwd=tmp_path, env=env)

    found = checks(done, "machine")
    assert done.code == 0, done.stderr
    assert found["run_store"]["status"] == "warned"
    assert str(behind.parent) in found["run_store"]["detail"]
    assert found["user_cache"]["status"] == "warned"


@pytest.mark.parametrize(
    "flag",
    ["--repo-path", "--env-script", "--python-executable", "--ckpt-dir", "--wav2vec-dir", "--image", "--audio"],
)
def test_what_a_run_needs_and_cannot_reach_is_missing(behind: Path, tmp_path: Path, flag: str) -> None:
    usable = {"--repo-path": str(CHECKOUT), "--python-executable": sys.executable}
    args = [word for pair in {**usable, flag: str(behind)}.items() for word in pair]

    done = as_ordinary_user(*generate_args(tmp_path / "v.mp4", *args), cwd=tmp_path)

    assert done.code == 66, done.stderr
    assert f"{behind} cannot be read by this user" in done.stderr


def test_doctor_fails_the_check_of_a_checkout_that_cannot_be_reached(behind: Path, tmp_path: Path) -> None:
    env = {"OMNIRT_FLASHTALK_REPO_PATH": str(behind), "OMNIRT_FLASHTALK_ENV_SCRIPT": str(behind / "env.sh")}

    done = as_ordinary_user("doctor", "--json", cwd=tmp_path, env=env)

    found = checks(done, "soulx-flashtalk-14b")
    assert done.code == 1, done.stderr
    for name in ("checkout", "env_script"):
        assert found[name]["status"] == "failed"
        assert "cannot be read by this user" in found[name]["detail"]


def test_links_of_a_checkout_into_a_closed_folder_are_passed_over(behind: Path, tmp_path: Path) -> None:
    checkout = shutil.copytree(CHECKOUT, tmp_path / "checkout")
    (checkout / ".git").symlink_to(behind)
    args = ("--repo-path", str(checkout), "--python-executable", sys.executable)

    done = as_ordinary_user(*generate_args(tmp_path / "v.mp4", *args), "--dry-run", cwd=tmp_path)

    assert done.code == 0, done.stderr


@pytest.mark.parametrize("flag", ["--output", "--output-dir"])
def test_an_output_that_cannot_be_reached_cannot_be_written(behind: Path, tmp_path: Path, flag: str) -> None:
    args = generate_args(tmp_path / "v.mp4")
    args[args.index("--output") : args.index("--output") + 2] = [flag, str(behind / "v.mp4")]

    done = as_ordinary_user(*args, cwd=tmp_path)

    assert done.code == 73, done.stderr
    assert str(behind.parent) in done.stderr


def test_doctor_tells_what_the_operating_system_keeps_from_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused() -> host_memory.HostAvailable:
        raise PermissionError(13, "Permission denied", "/proc/meminfo")

    monkeypatch.setattr(host_memory, "available", refused)
    around = Surroundings({"OMNIRT_LOCK_DIR": str(tmp_path / "locks")}, tmp_path, (), None)

    section = look_at_machine(around, tmp_path)

    memory = next(check for check in section.checks if check.name == "host_memory")
    assert memory.status.value == "warned"
    assert "/proc/meminfo" in (memory.detail or "")
