"""Where lease files lie: shared by all users, and refused where another could spoil it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnirt_cli.devices import lease_place
from omnirt_cli.devices.lease_place import file_name, file_system_type
from omnirt_cli.devices.leases import LeaseDirectory, LeaseNote
from omnirt_cli.errors import ConfigInvalidError, OutputUncreatableError
from tests.lease_processes import answer, lease_worker, leave_now

NOBODY = 65534
OTHER = 65533
NOTE = LeaseNote("run-1", "generate flashtalk")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="acts as other users, which only root can")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "leases"


@pytest.fixture
def directory(folder: Path) -> LeaseDirectory:
    return _opened(folder)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A directory that other users can reach; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o1777)
        yield Path(place)


def _opened(folder: Path) -> LeaseDirectory:
    return LeaseDirectory.open({"OMNIRT_LOCK_DIR": str(folder)})


# Names


def test_no_two_keys_share_a_file_and_none_leads_out() -> None:
    keys = ["0000:3b:00.0", "0000_3b_00.0", "MIG-GPU-1/1/0", "MIG-GPU-1%2F1%2F0", "../x", "..", "a b", "ä", "A", "a"]
    names = {file_name(key) for key in keys}

    assert len(names) == len(keys)
    assert all("/" not in name and name.startswith("device-") for name in names)


# Other users


@as_root
def test_users_with_closed_umasks_share_one_directory(open_folder: Path) -> None:
    folder = open_folder / "leases"
    with (
        lease_worker(do="hold", folder=folder, keys=["a"], uid=NOBODY, umask=0o077) as first,
        lease_worker(do="hold", folder=folder, keys=["b"], uid=OTHER, umask=0o027) as second,
    ):
        assert (answer(first), answer(second)) == ({"got": True}, {"got": True})
        with lease_worker(do="hold", folder=folder, keys=["a", "b"], uid=OTHER) as third:
            assert answer(third) == {"got": False}
        leave_now(first)
        with lease_worker(do="hold", folder=folder, keys=["a"], uid=OTHER) as third:
            assert answer(third) == {"got": True}

    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o666}
    assert (folder / "device-a").stat().st_uid == NOBODY


def test_directory_and_files_are_open_to_all_whatever_the_umask(folder: Path) -> None:
    with lease_worker(do="hold", folder=folder, keys=["a"], umask=0o077) as process:
        assert answer(process) == {"got": True}

    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    assert stat.S_IMODE((folder / "device-a").stat().st_mode) == 0o666


@as_root
def test_another_users_private_directory_is_refused_and_its_owner_named(open_folder: Path) -> None:
    folder = open_folder / "leases"
    folder.mkdir(mode=0o755)
    os.chown(folder, NOBODY, NOBODY)

    with pytest.raises(ConfigInvalidError, match=r"belongs to \w+, who shares it with nobody \(mode 0755\)") as caught:
        _opened(folder)
    assert f" or root can share it: chmod 1777 {folder}" in (caught.value.hint or "")
    with lease_worker(do="hold", folder=folder, keys=["a"], uid=NOBODY) as owner:
        assert answer(owner) == {"got": True}


@as_root
def test_a_lock_file_that_its_owner_closed_is_refused_and_named(open_folder: Path) -> None:
    planted = open_folder / "device-a"
    planted.touch(mode=0o600)

    with lease_worker(do="hold", folder=open_folder, keys=["a"], uid=NOBODY) as process:
        said = answer(process)

    assert said["error"] == "config_invalid"
    assert "holds device-a, which cannot be opened: Permission denied" in said["message"]
    assert f"root can remove {planted}" in said["hint"]


@as_root
def test_a_directory_that_takes_no_files_is_refused(open_folder: Path) -> None:
    folder = open_folder / "leases"
    folder.mkdir(mode=0o755)

    with lease_worker(do="hold", folder=folder, keys=["a"], uid=NOBODY) as process:
        said = answer(process)

    assert "takes no new file: Permission denied" in said["message"]
    assert f"chmod 1777 {folder}" in said["hint"]


# What is planted, and what cannot serve


def test_a_link_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o1777)
    (tmp_path / "leases").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigInvalidError, match="is a link or no directory"):
        _opened(tmp_path / "leases")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("plant", ["link", "dangling", "fifo", "folder", "hard link"])
def test_what_is_planted_as_a_lock_file_is_refused_untouched_and_hangs_nobody(
    directory: LeaseDirectory, tmp_path: Path, plant: str
) -> None:
    victim, planted = tmp_path / "victim", directory.path / "device-b"
    victim.write_text("precious")
    victim.chmod(0o600)
    {
        "link": lambda: planted.symlink_to(victim),
        "dangling": lambda: planted.symlink_to(tmp_path / "new"),
        "fifo": lambda: os.mkfifo(planted),
        "folder": planted.mkdir,
        "hard link": lambda: planted.hardlink_to(victim),
    }[plant]()

    for use in (lambda: directory.try_acquire(["a", "b"], NOTE), lambda: directory.holder("b")):
        with pytest.raises(ConfigInvalidError, match="holds device-b, which") as caught:
            use()
        assert f"root can remove {planted}" in (caught.value.hint or "")
    assert victim.read_text() == "precious"
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
    assert not (tmp_path / "new").exists()
    assert directory.holder("a") is None


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_directory_where_others_could_remove_a_living_runs_lock_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "leases"
    folder.mkdir()
    folder.chmod(mode)

    with pytest.raises(ConfigInvalidError, match=f"has mode {mode:04o}") as caught:
        _opened(folder)
    assert f"chmod 1777 {folder}" in (caught.value.hint or "")


def test_a_directory_of_ones_own_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    folder.mkdir(mode=0o700)

    assert _opened(folder).try_acquire(["a"], NOTE) is not None


def test_a_relative_directory_is_refused() -> None:
    with pytest.raises(ConfigInvalidError, match="relative"):
        _opened(Path("leases"))


def test_a_directory_without_a_parent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalidError, match="cannot be used: No such file or directory"):
        _opened(tmp_path / "none" / "leases")


def _mounted_as(kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let /proc say that `folder` lies on a file system of that type."""
    descriptor = os.open(folder, os.O_RDONLY)
    facts = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split()
    os.close(descriptor)
    mount = facts[facts.index("mnt_id:") + 1]
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 0:1 / / rw - ext4 /dev/sda rw\n"
        f"{mount} 1 0:2 /a\\040b /mnt/a\\040b rw,relatime shared:7 master:1 - {kind} host:/x rw\n"
    )
    monkeypatch.setattr(lease_place, "_MOUNTS", mounts)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    _mounted_as(kind, tmp_path, tmp_path, monkeypatch)

    with pytest.raises(ConfigInvalidError, match=rf"network file system \({kind}\)") as caught:
        _opened(tmp_path / "leases")
    assert "local disk" in (caught.value.hint or "")


def test_a_local_file_system_is_told_apart_and_one_that_proc_hides_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _mounted_as("tmpfs", tmp_path, tmp_path, monkeypatch)
    assert _opened(tmp_path / "leases").path.is_dir()

    monkeypatch.setattr(lease_place, "_MOUNTS", tmp_path / "hidden")
    assert file_system_type(0) is None
    assert _opened(tmp_path / "leases").path.is_dir()


def test_the_type_of_a_real_mount_is_read() -> None:
    descriptor = os.open("/proc", os.O_RDONLY)
    try:
        assert file_system_type(descriptor) == "proc"
    finally:
        os.close(descriptor)


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS])
def test_a_file_system_without_flock_is_refused(
    folder: Path, directory: LeaseDirectory, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def without(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", without)

    with pytest.raises(ConfigInvalidError, match="without flock"):
        _opened(folder)
    before = _open_descriptors()
    with pytest.raises(ConfigInvalidError, match="without flock"):
        directory.try_acquire(["a"], NOTE)
    assert _open_descriptors() == before


def test_a_read_only_file_system_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _opened(folder)
    real = os.statvfs(folder)
    read_only = os.statvfs_result((*real[:8], real.f_flag | os.ST_RDONLY, real.f_namemax))
    monkeypatch.setattr(os, "fstatvfs", lambda _: read_only)

    with pytest.raises(ConfigInvalidError, match="read-only file system"):
        _opened(folder)


# Where the directory is


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose `/run/lock` and `/tmp` are empty and open to all."""
    for name in ("lock", "tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o1777)
    monkeypatch.setattr(lease_place, "SHARED", tmp_path / "lock" / "omnirt")
    monkeypatch.setattr(lease_place, "FALLBACK", tmp_path / "tmp" / "omnirt-leases")
    return tmp_path


def test_the_run_lock_directory_is_used_where_anybody_may_make_it(machine: Path) -> None:
    assert LeaseDirectory.open({}).path == machine / "lock" / "omnirt"
    assert LeaseDirectory.open({"OMNIRT_LOCK_DIR": ""}).path == machine / "lock" / "omnirt"
    assert stat.S_IMODE((machine / "lock" / "omnirt").stat().st_mode) == 0o1777


def test_where_only_root_may_make_it_root_too_uses_the_other_one(machine: Path) -> None:
    (machine / "lock").chmod(0o755)

    assert LeaseDirectory.open({}).path == machine / "tmp" / "omnirt-leases"


def test_one_that_the_administrator_made_is_used(machine: Path) -> None:
    (machine / "lock" / "omnirt").mkdir()
    (machine / "lock" / "omnirt").chmod(0o1777)
    (machine / "lock").chmod(0o755)

    assert LeaseDirectory.open({}).path == machine / "lock" / "omnirt"


def test_without_a_run_lock_directory_the_one_in_tmp_is_used(machine: Path) -> None:
    (machine / "lock").rmdir()

    assert LeaseDirectory.open({"TMPDIR": "/elsewhere"}).path == machine / "tmp" / "omnirt-leases"


def test_a_default_place_that_cannot_serve_is_refused_and_not_passed_over(machine: Path) -> None:
    (machine / "lock" / "omnirt").symlink_to(machine)

    with pytest.raises(OutputUncreatableError, match="the directory of the device leases") as caught:
        LeaseDirectory.open({})
    assert "set OMNIRT_LOCK_DIR" in (caught.value.hint or "")
    assert list((machine / "tmp").iterdir()) == []


# What a look tells before a run


@as_root
def test_a_directory_where_this_user_can_make_no_file_is_refused_by_the_first_look(open_folder: Path) -> None:
    folder = open_folder / "leases"
    folder.mkdir(mode=0o755)
    (folder / "device-a").touch()
    (folder / "device-a").chmod(0o666)

    with lease_worker(do="look", folder=folder, keys=["b"], uid=NOBODY) as process:
        said = answer(process)

    assert "takes no new file: Permission denied" in said["message"]
    assert f"chmod 1777 {folder}" in said["hint"]
    assert _opened(folder).holder("a") is None


@pytest.mark.parametrize(("place", "kind"), [("/proc", "proc"), ("/sys", "sysfs")])
def test_the_kernels_own_directories_are_refused_even_to_root(place: str, kind: str) -> None:
    if not os.path.ismount(place):
        pytest.skip(f"{place} is not mounted here")

    with pytest.raises(ConfigInvalidError) as caught:
        _opened(Path(place))
    assert f"lies on {kind}, which takes no files" in caught.value.message


@as_root
def test_a_lock_file_that_can_be_read_and_not_taken_is_told_by_the_look(open_folder: Path) -> None:
    planted = open_folder / "device-a"
    planted.touch(mode=0o644)

    with lease_worker(do="look", folder=open_folder, keys=["a"], uid=NOBODY) as process:
        said = answer(process)

    assert "holds device-a, which cannot be opened: Permission denied" in said["message"]
