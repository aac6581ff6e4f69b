"""Where lease files lie: one directory for all users of a machine, and what is refused as such.

`OMNIRT_LOCK_DIR` where it is set; else `/run/lock/omnirt` where it exists or anybody may make it; else
`/tmp/omnirt-leases`. The choice depends on nothing that differs between users, because a user who looks elsewhere finds
every device free. `TMPDIR` is not asked for that reason, and a place that exists but cannot be used is refused rather
than passed over. (Fedora's `/run/lock` is root's alone, Debian's is anybody's.)

A lease is an agreement among OmniRTs and keeps nobody off a card by force. What another user can do, and what follows:

- plant a link, FIFO, directory or hard link where a lease file belongs: nothing is opened through a link, nothing
  blocks, and only a regular file with one name is ever written;
- plant a link where the directory belongs: refused; every file is reached through the checked directory's descriptor;
- remove a lease file that is in use, so that two runs lock two files of one name: the sticky bit leaves that to the
  file's owner, the directory's owner and root; a file that lost its name is not taken for the lease (leases.py);
- hold a lock for ever, or own the directory and spoil it: that can be seen, and is named; it harms nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from omnirt_cli.errors import ConfigInvalidError, OmniRTError, OutputUncreatableError

VARIABLE = "OMNIRT_LOCK_DIR"
SHARED = Path("/run/lock/omnirt")
FALLBACK = Path("/tmp/omnirt-leases")  # noqa: S108 - shared on purpose; this module is about what that takes

NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"}
    | {"ocfs2", "smb3", "smbfs", "fuse.ceph-fuse", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs", "fuse.rclone"}
    | {"fuse.s3fs", "fuse.sshfs"}
)
"""Types in /proc/self/mountinfo on which a lock counts on one host, on all, or not at all, as they were mounted."""

KERNEL_FILE_SYSTEMS = frozenset(
    {"bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "efivarfs", "proc", "pstore", "securityfs", "sysfs"}
    | {"tracefs"}
)
"""Types that take no file of a user's, though root may seem to have the right to make one."""

_FOLDER_MODE = 0o1777
_FILE_MODE = 0o666
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_SETTLE_S = 0.2
"""How long another process may take from making a file or directory to opening it to all."""
_SETTLE_PAUSE_S = 0.01
_LAST_STANDARD_FD = 2
_ELSEWHERE = f"set {VARIABLE} to a directory on a local disk, the same for all users"
_MOUNTS = Path("/proc/self/mountinfo")
_DESCRIPTORS = Path("/proc/self/fdinfo")

Result = TypeVar("Result")


def file_name(key: str) -> str:
    """The lease file's name: no two devices share one, and none leads out of the directory."""
    return "device-" + quote(key, safe="")


@dataclass(frozen=True)
class LeasePlace:
    """The directory of the lease files.

    Attributes:
        path: Absolute.
        named: Whether `OMNIRT_LOCK_DIR` names it, which makes its faults those of the configuration.
    """

    path: Path
    named: bool

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> LeasePlace:
        """Choose the directory, make it where it is missing, and see that it can serve.

        Raises:
            ConfigInvalidError: `OMNIRT_LOCK_DIR` names no directory that can serve.
            OutputUncreatableError: The default one cannot.
        """
        named = environ.get(VARIABLE)
        place = cls(Path(named), named=True) if named else cls(_default_path(), named=False)
        if not place.path.is_absolute():
            raise place.refused("is a relative path, which means another place in another directory")
        with place.opened() as folder:
            place.check_file_system(folder)
            place.check_writable(folder)
        return place

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """The directory's descriptor. It is made again if a cleaner took it away.

        Raises:
            ConfigInvalidError, OutputUncreatableError: It cannot be made, or cannot be trusted.
        """
        folder = _settled(self._open)
        try:
            yield folder
        finally:
            os.close(folder)

    def check_file_system(self, folder: int) -> None:
        """See that locks in the directory count.

        Raises:
            ConfigInvalidError, OutputUncreatableError: A network or read-only file system, or one without flock.
        """
        kind = file_system_type(folder)
        if kind in NETWORK_FILE_SYSTEMS:
            raise self.refused(f"lies on a network file system ({kind}), where locks are not to be relied on")
        if kind in KERNEL_FILE_SYSTEMS:
            raise self.refused(f"lies on {kind}, which takes no files")
        if os.fstatvfs(folder).f_flag & os.ST_RDONLY:
            raise self.refused("lies on a read-only file system")
        try:
            # Shared, and let go at once: it asks only whether there are locks here.
            fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError as error:
            raise self.without_locks(error) from error
        fcntl.flock(folder, fcntl.LOCK_UN)

    def check_writable(self, folder: int) -> None:
        """See that this user could make the lease file of a device that nobody had yet.

        Raises:
            ConfigInvalidError, OutputUncreatableError: Not so; every render would be refused later, and unseen before.
        """
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True):
            raise self.refused(f"takes no new file: {os.strerror(errno.EACCES)}", _sharing_hint(self.path))

    def open_file(self, folder: int, key: str) -> int:
        """A descriptor of the key's lease file, above the standard ones; the file is made where it is missing.

        Opened without O_CREAT first: in a sticky directory Linux refuses O_CREAT on another user's file
        (fs.protected_regular).

        Raises:
            ConfigInvalidError, OutputUncreatableError: Something else has its name, or it cannot be made or opened.
        """
        return _settled(lambda: self._open_file(folder, file_name(key)))

    def open_existing(self, folder: int, key: str) -> int | None:
        """A descriptor for looking at the key's lease file; None where nobody ever made it.

        Opened for writing as a run would, so that a look finds what would refuse the run.

        Raises:
            ConfigInvalidError, OutputUncreatableError: Something else has its name, or it cannot be opened.
        """
        return _settled(lambda: self._open_existing(folder, file_name(key)))

    def refused(self, problem: str, remedy: str | None = None) -> OmniRTError:
        """This place cannot serve."""
        hint = f"{remedy}; or {_ELSEWHERE}" if remedy else _ELSEWHERE
        if self.named:
            return ConfigInvalidError(f"{VARIABLE}={self.path} {problem}", hint=hint)
        return OutputUncreatableError(f"the directory of the device leases, {self.path}, {problem}", hint=hint)

    def refused_file(self, name: str, problem: str) -> OmniRTError:
        """What has the name of a lease file cannot serve as one."""
        owner = _owner_or_root(self.path / name)
        remedy = f"{owner} can remove {self.path / name}" if owner else None
        return self.refused(f"holds {name}, which {problem}", remedy)

    def without_locks(self, error: OSError) -> OmniRTError:
        """The file system refused a lock for another reason than that somebody has it."""
        return self.refused(f"lies on a file system without flock ({error.strerror})")

    def _open(self) -> int:
        try:
            folder = self._open_or_make()
        except NotADirectoryError as error:
            raise self.refused("is a link or no directory", "remove it, or find out who made it") from error
        except OSError as error:
            raise self.refused(f"cannot be used: {error.strerror}", _sharing_hint(self.path)) from error
        problem = _distrust(os.fstat(folder))
        if problem is not None:
            os.close(folder)
            raise self.refused(problem, _sharing_hint(self.path))
        return folder

    def _open_or_make(self) -> int:
        try:
            return os.open(self.path, _FOLDER_FLAGS)
        except FileNotFoundError:
            # Another OmniRT may be faster.
            with contextlib.suppress(FileExistsError):
                return _make_folder(self.path)
            return os.open(self.path, _FOLDER_FLAGS)

    def _open_file(self, folder: int, name: str) -> int:
        try:
            descriptor = _open_or_create(folder, name)
        except OSError as error:
            if not os.path.lexists(self.path / name):
                raise self.refused(f"takes no new file: {error.strerror}", _sharing_hint(self.path)) from error
            raise self.refused_file(name, f"cannot be opened: {error.strerror}") from error
        return self._regular(_above_standard(descriptor), name)

    def _open_existing(self, folder: int, name: str) -> int | None:
        try:
            descriptor = os.open(name, os.O_RDWR | _FILE_FLAGS, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.refused_file(name, f"cannot be opened: {error.strerror}") from error
        return self._regular(descriptor, name)

    def _regular(self, descriptor: int, name: str) -> int:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
            return descriptor
        os.close(descriptor)
        raise self.refused_file(name, "is no plain file of its own: somebody put it there")


def file_system_type(descriptor: int) -> str | None:
    """The type of the mount that an open file lies on, as /proc/self/mountinfo has it; None where /proc is silent."""
    try:
        facts = (_DESCRIPTORS / str(descriptor)).read_text(encoding="utf-8", errors="replace").split()
        mount = facts[facts.index("mnt_id:") + 1]
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, ValueError, IndexError):
        return None
    # proc(5): number, parent, device, root, mount point, options, optional fields, "-", type, source, more options.
    fields = next((line.split() for line in lines if line.split(" ", 1)[0] == mount), [])
    return fields[fields.index("-") + 1] if "-" in fields[:-1] else None


def _default_path() -> Path:
    return SHARED if os.path.lexists(SHARED) or _anyone_may_make_in(SHARED.parent) else FALLBACK


def _anyone_may_make_in(folder: Path) -> bool:
    try:
        shared = stat.S_IMODE(folder.stat().st_mode) & _FOLDER_MODE == _FOLDER_MODE
        return shared and not os.statvfs(folder).f_flag & os.ST_RDONLY
    except OSError:
        return False


def _make_folder(path: Path) -> int:
    path.mkdir(mode=0o700)
    return _opened_to_all(os.open(path, _FOLDER_FLAGS), _FOLDER_MODE)


def _distrust(found: os.stat_result) -> str | None:
    """Why a directory's owner and mode do not do; None where they do."""
    mode = stat.S_IMODE(found.st_mode)
    sticky = mode & stat.S_ISVTX
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
        return f"has mode {mode:04o}: whoever may write there can remove the lock of a run that lives"
    if mode & stat.S_IWOTH or found.st_uid in (0, os.geteuid()):
        return None
    return f"belongs to {_user_name(found.st_uid)}, who shares it with nobody (mode {mode:04o})"


def _sharing_hint(path: Path) -> str:
    owner = _owner_or_root(path)
    return f"{owner} can share it: chmod 1777 {path}" if owner else "see that its parent exists and is writable"


def _open_or_create(folder: int, name: str) -> int:
    try:
        return os.open(name, os.O_RDWR | _FILE_FLAGS, dir_fd=folder)
    except FileNotFoundError:
        # Another OmniRT may be faster.
        with contextlib.suppress(FileExistsError):
            return _create(folder, name)
        return os.open(name, os.O_RDWR | _FILE_FLAGS, dir_fd=folder)


def _create(folder: int, name: str) -> int:
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE_FLAGS, _FILE_MODE, dir_fd=folder)
    return _opened_to_all(descriptor, _FILE_MODE)


def _opened_to_all(descriptor: int, mode: int) -> int:
    """Undo what the umask took; it belongs to the whole process, so it is not touched."""
    try:
        os.fchmod(descriptor, mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _above_standard(descriptor: int) -> int:
    """The guard cannot inherit 0, 1 or 2, which open returns to a program that was started with them closed."""
    if descriptor > _LAST_STANDARD_FD:
        return descriptor
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LAST_STANDARD_FD + 1)
    os.close(descriptor)
    return moved


def _settled(attempt: Callable[[], Result]) -> Result:
    """What is refused may be half made by another user's OmniRT: it gets a moment to finish."""
    give_up = time.monotonic() + _SETTLE_S
    while True:
        try:
            return attempt()
        except OmniRTError:
            if time.monotonic() >= give_up:
                raise
        time.sleep(_SETTLE_PAUSE_S)


def _owner_or_root(path: Path) -> str | None:
    """Who may put right what is at `path`; None where nothing is."""
    try:
        owner = path.lstat().st_uid
    except OSError:
        return None
    return f"{_user_name(owner)} or root" if owner else "root"


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
