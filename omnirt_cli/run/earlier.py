"""Steps that a model wants before its script: run once, on one device, and not again while what they made is there.

What they make lies at a place of the script's choosing, which may be open to every user of the machine. The script
loads it without asking, so only a file that is this user's own and that nobody else can write is let through, and only
while it is the one that a step finished: a step that was stopped leaves half a file under the whole one's name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from omnirt_cli.devices.visibility import VARIABLES
from omnirt_cli.errors import InputInvalidError, ModelFailedError
from omnirt_cli.files import write_atomic
from omnirt_cli.models.base import EarlierStep
from omnirt_cli.plan import Plan
from omnirt_cli.run.cold import ColdLaunch
from omnirt_cli.run.events import Stage
from omnirt_cli.run.watch import Watch

PRIVATE_UMASK = 0o077
"""Of a step: a file that others could have written while it was made is not to be trusted afterwards."""

_RECORD_BYTES = 1 << 16
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def write_cache_files(files: Mapping[Path, bytes]) -> None:
    """Put content-addressed files into the user's cache; one that is there with this content stays as it is.

    Raises:
        OSError: The cache cannot be written.
    """
    for path, content in files.items():
        if path.is_file() and path.read_bytes() == content:
            continue
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, content)


class StepRecord:
    """Which files a step finished, by size, number and time of change; one run at a time has it."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    @classmethod
    @contextlib.contextmanager
    def of(cls, step: EarlierStep, wait: Callable[[], None]) -> Iterator[StepRecord]:
        """A step's record, locked; a step without one remembers nothing.

        Args:
            step: The step.
            wait: Called again and again while another run has the record; ends the wait by raising.

        Raises:
            OSError: The user's cache cannot be written.
        """
        if step.record is None:
            yield cls(None)
            return
        step.record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A cache may be shared by machines that do not share the files.
        own = step.record.with_name(f"{step.record.name}.{os.uname().nodename}")
        descriptor = os.open(own, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            while not _locked(descriptor):
                wait()
            yield cls(descriptor)
        finally:
            os.close(descriptor)

    def agrees(self, step: EarlierStep) -> bool:
        """Whether what the step makes is what it made when it was last finished."""
        if self._descriptor is None:
            return False
        try:
            noted = json.loads(os.pread(self._descriptor, _RECORD_BYTES, 0))
        except ValueError:
            return False
        return bool(noted == _fingerprints(step))

    def note(self, step: EarlierStep) -> None:
        """Remember that the step was finished."""
        if self._descriptor is not None:
            text = json.dumps(_fingerprints(step)).encode()
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text, 0)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # On a file system without locks, runs may do the same step at once; each checks what it finds afterwards.
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _fingerprints(step: EarlierStep) -> dict[str, list[int]]:
    facts = {str(path): path.lstat() for path in step.makes}
    return {name: [it.st_dev, it.st_ino, it.st_size, it.st_mtime_ns] for name, it in facts.items()}


def is_done(step: EarlierStep, record: StepRecord) -> bool:
    """Whether everything that a step makes is there and whole. What is not whole is removed: the script would keep it.

    Raises:
        InputInvalidError: Something is there that the script would load and that cannot be trusted.
    """
    # Each of them is judged, also where one is missing.
    there = [path for path in step.makes if _is_there(path)]
    if step.makes and len(there) == len(step.makes) and record.agrees(step):
        return not step.always
    for path in there:
        path.unlink()
    return False


def _is_there(path: Path) -> bool:
    """Whether a file is there that the script may load.

    Raises:
        InputInvalidError: Another user made it, or can change it.
    """
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return False
    own = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & _OTHERS_WRITE
    if not own:
        raise InputInvalidError(
            f"{path} is not this user's own file, or others can write it; the script would load it as it is",
            hint=f"look at who made it, remove it, and run again (ls -l {path})",
        )
    _refuse_open_folder(path.parent)
    return True


def _refuse_open_folder(folder: Path) -> None:
    """In a folder that others write and that is not sticky, anybody can put a file of theirs under the name."""
    mode = folder.stat().st_mode
    if mode & _OTHERS_WRITE and not mode & stat.S_ISVTX:
        raise InputInvalidError(
            f"every user can replace files in {folder}, and the script would load what they put there",
            hint=f"make it sticky (chmod +t {folder})",
        )


def launch_of(step: EarlierStep, plan: Plan, env: Mapping[str, str]) -> ColdLaunch:
    """One process on one device, in the run's own directory."""
    variable = VARIABLES.get(plan.backend)
    device = step.device or (plan.visibility.ids[0] if plan.visibility.ids else None)
    placed = {variable: device} if variable and device else {}
    return ColdLaunch(
        argv=(str(plan.launch.python), str(step.script), *step.args),
        cwd=plan.cwd,
        env={**env, **placed, **step.env, **plan.user_env},
        watch=Watch(devices=(device,) if device else (), stage=Stage.EARLIER, detail=step.name),
        umask=PRIVATE_UMASK,
    )


def note_done(step: EarlierStep, record: StepRecord) -> None:
    """See that a step that ended well made what it should, and remember it.

    Raises:
        ModelFailedError: It did not.
        InputInvalidError: What is there now cannot be trusted.
    """
    missing = [path for path in step.makes if not _is_there(path) or path.lstat().st_size == 0]
    if missing:
        raise ModelFailedError(
            f"the {step.name} step ended well, but left no {missing[0]}",
            hint="this checkout keeps it elsewhere; leave the step out where the script can do without it",
        )
    record.note(step)
