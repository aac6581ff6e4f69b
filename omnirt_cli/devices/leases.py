"""Leases: which run has which devices, so that no two ever share one.

A lease is a plain flock on one file per device, taken for all devices or for none. The kernel alone is the truth: a
lock ends with the last descriptor that carries it, and the guard inherits the descriptors, so that a lease lasts until
the run's last process is gone and no longer, whatever was killed. What a file says about its holder is for people.

A look at a lease takes the lock shared for an instant, and whoever is refused by a shared lock tries again: an
exclusive one is a run's, a shared one is only ever a look. (/proc/locks, which could be read without touching a lock,
hides in a container those of a run whose first process has ended, and has other device numbers than stat(2) on btrfs
and overlayfs.)
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import select
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Protocol

from omnirt_cli.devices.device import Device
from omnirt_cli.devices.lease_place import LeasePlace, file_name
from omnirt_cli.devices.selection import Choice
from omnirt_cli.errors import BusyError

POLL_S = 0.25
_LOST_RACE_S = 1.0
"""How long a run that does not wait goes on choosing while others take what it chose."""
_LOST_RACE_PAUSE_S = 0.005
_LOOK_S = 0.1
"""How long a shared lock is waited for; a look takes microseconds."""
_LOOK_PAUSE_S = 0.001
_RENAMED_TRIES = 10
_NOTE_BYTES = 4096
"""Every note is as long, so that it covers the one before."""
_FIELD_CHARS = 120
_LARGEST_PID = 1 << 22


class WaitCancelledError(Exception):
    """The wait for devices was cancelled through its token; nothing is held."""


class KindHeldError(Exception):
    """Other runs have devices of this kind in a way that rules ours out; the message says who, as far as known."""


@dataclass(frozen=True)
class KindClaim:
    """What every run claims of all devices of a kind, beside its own devices' leases.

    Where a vendor's tool hangs or fails, nobody can tell which devices there are, and one device may go by two names.
    A run in the dark therefore claims the kind for itself; those that know their devices share it.

    Attributes:
        kind: `ascend` or `cuda`.
        exclusive: The run cannot tell its devices apart from others'.
    """

    kind: str
    exclusive: bool

    @property
    def key(self) -> str:
        """The name of its lock."""
        return f"every-{self.kind}"


class Stop(Protocol):
    """What can end a wait: `omnirt_cli.run.cancel.CancelToken` is one."""

    @property
    def asked(self) -> bool:
        """True once anybody asked."""

    def fileno(self) -> int:
        """Readable once anybody asked."""


@dataclass(frozen=True)
class LeaseNote:
    """What a run tells others about itself.

    Attributes:
        run_id: The run.
        what: What it does, e.g. `generate flashtalk`.
    """

    run_id: str
    what: str


@dataclass(frozen=True)
class LeaseHolder:
    """Who has a lease now, by its own account; None where it said nothing (yet).

    Any user can write these words: they are for people, and nothing is decided by them.

    Attributes:
        key: The device's key.
        pid: The OmniRT that took the lease, by its number on its own host or in its own container; its run's processes
            may have outlived it.
        since: When it was taken, UTC, ISO 8601.
    """

    key: str
    run_id: str | None = None
    what: str | None = None
    pid: int | None = None
    user: str | None = None
    host: str | None = None
    since: str | None = None

    @property
    def described(self) -> str:
        """E.g. `run 5f0c (generate flashtalk) of alice, pid 42 on node3, since 2026-11-20T10:12:55Z`."""
        if self.run_id is None:
            return "another OmniRT that has not said which"
        what = f" ({self.what})" if self.what else ""
        user = f" of {self.user}" if self.user else ""
        pid = f", pid {self.pid}" if self.pid is not None else ""
        host = f" on {self.host}" if self.host else ""
        since = f", since {self.since}" if self.since else ""
        return f"run {self.run_id}{what}{user}{pid}{host}{since}"


class Lease:
    """An exclusive claim on devices.

    Attributes:
        keys: The devices' keys, ascending; unknown, and empty, for one that was handed over.
        fds: Descriptors that carry it, all above 2, for the guard to inherit; empty once closed.
    """

    def __init__(self, keys: tuple[str, ...], fds: tuple[int, ...]) -> None:
        self.keys = keys
        self.fds = fds

    @classmethod
    def adopt(cls, fds: Sequence[int], note: LeaseNote) -> Lease:
        """A lease that another process of this user took and handed over.

        Args:
            fds: Its descriptors, all above 2; this lease's own from now on.
            note: What others are told from now on, in place of what the taker said.
        """
        for descriptor in fds:
            _write_note(descriptor, note)
        return cls((), tuple(fds))

    def close(self) -> None:
        """Let go of our descriptors; the devices are free when the guard's are gone too. May be called again."""
        # Not unlocked: that would take the lock from the guard's copies as well.
        fds, self.fds = self.fds, ()
        for descriptor in fds:
            os.close(descriptor)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class LeaseDirectory:
    """The leases of this machine.

    Every method raises ConfigInvalidError or OutputUncreatableError where the directory, or a file in it, cannot
    serve; `lease_place` says when.
    """

    place: LeasePlace

    @classmethod
    def open(cls, environ: Mapping[str, str]) -> LeaseDirectory:
        """The directory that `environ` (`OMNIRT_LOCK_DIR`) or the machine decides on, made and checked.

        Raises:
            ConfigInvalidError: `OMNIRT_LOCK_DIR` names no directory that can serve.
            OutputUncreatableError: The default one cannot.
        """
        return cls(LeasePlace.find(environ))

    @property
    def path(self) -> Path:
        """The directory."""
        return self.place.path

    def try_acquire(self, keys: Iterable[str], note: LeaseNote, claim: KindClaim | None = None) -> Lease | None:
        """Take the leases of all these devices; None, with nothing held, where anybody has one of them.

        Raises:
            KindHeldError: The claim on their kind cannot be had; nothing is held.
        """
        wanted = tuple(sorted(set(keys)))
        with contextlib.ExitStack() as undo, self.place.opened() as folder:
            fds: list[int] = []
            claimed = self._claim(folder, claim, note) if claim is not None else None
            if claimed is not None:
                undo.callback(_unlock, claimed)
            for key in wanted:
                descriptor = self._lock(folder, key)
                if descriptor is None:
                    return None
                fds.append(descriptor)
                undo.callback(_unlock, descriptor)
            for descriptor in fds:
                _write_note(descriptor, note)
            undo.pop_all()
        return Lease(wanted, (*fds, claimed) if claimed is not None else tuple(fds))

    def _claim(self, folder: int, claim: KindClaim, note: LeaseNote) -> int:
        """A descriptor that carries the claim's lock."""
        lock = self._flock_patiently if claim.exclusive else self._flock_shared
        descriptor = self._open_locked(folder, claim.key, lock)
        if descriptor is None:
            raise KindHeldError(self.who_rules_out(claim) or f"the claims on {claim.kind} devices are changing hands")
        if claim.exclusive:
            _write_note(descriptor, note)
        return descriptor

    def who_rules_out(self, claim: KindClaim) -> str | None:
        """Who holds the kind in a way that rules a claim out, in words; None where a shared claim could be had."""
        if claim.exclusive:
            return f"other runs have {claim.kind} devices, and which ones there are cannot be told now"
        holder = self.holder(claim.key)
        return (
            f"every {claim.kind} device is held by {holder.described}, which cannot tell them apart" if holder else None
        )

    def holder(self, key: str) -> LeaseHolder | None:
        """Who has this device's lease now; None where nobody has."""
        with self.place.opened() as folder:
            descriptor = self.place.open_existing(folder, key)
            if descriptor is None:
                return None
            try:
                if not self._flock(descriptor, fcntl.LOCK_SH):
                    return _read_note(descriptor, key)
                # A process that another thread is just forking has a copy, which would keep the lock after the close.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                return None
            finally:
                os.close(descriptor)

    def is_free(self, device: Device) -> bool:
        """Whether nobody has the device's lease now."""
        return self.holder(device.key) is None

    def _lock(self, folder: int, key: str) -> int | None:
        """A descriptor that carries a device's lock; None where somebody has it."""
        descriptor = self._open_locked(folder, key, self._lock_exclusively)
        if descriptor is not None:
            _spoil_note(descriptor)
        return descriptor

    def _open_locked(self, folder: int, key: str, lock: Callable[[int], bool]) -> int | None:
        """A key's file, locked, and still the one of its name; None where the lock cannot be had."""
        name = file_name(key)
        for _ in range(_RENAMED_TRIES):
            descriptor = self.place.open_file(folder, key)
            try:
                locked = lock(descriptor)
                if locked and _is_named(descriptor, folder, name):
                    return descriptor
            except BaseException:  # an interrupt included: leave no lock behind
                os.close(descriptor)
                raise
            os.close(descriptor)
            if not locked:
                return None
        raise self.place.refused_file(name, "is removed again and again")

    def _flock_shared(self, descriptor: int) -> bool:
        return self._flock(descriptor, fcntl.LOCK_SH)

    def _flock_patiently(self, descriptor: int) -> bool:
        """Exclusively, past a look; who shares the claim for longer than that is a run."""
        give_up = time.monotonic() + _LOOK_S
        while not self._flock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= give_up:
                return False
            time.sleep(_LOOK_PAUSE_S)
        return True

    def _lock_exclusively(self, descriptor: int) -> bool:
        give_up = time.monotonic() + _LOOK_S
        while not self._flock(descriptor, fcntl.LOCK_EX):
            if not self._flock(descriptor, fcntl.LOCK_SH):
                return False
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            if time.monotonic() >= give_up:
                return False
            time.sleep(_LOOK_PAUSE_S)
        return True

    def _flock(self, descriptor: int, kind: int) -> bool:
        """Whether the lock could be had at once."""
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise self.place.without_locks(error) from error
        return True


def acquire(
    directory: LeaseDirectory,
    choose: Callable[[Callable[[Device], bool]], Choice] | None,
    *,
    note: LeaseNote,
    claim: KindClaim | None = None,
    wait_s: float = 0.0,
    cancel: Stop | None = None,
    poll_s: float = POLL_S,
    on_wait: Callable[[str], None] | None = None,
) -> tuple[Lease, tuple[Device, ...]]:
    """Choose devices and take their leases, waiting for them if need be. Who waits longest has no precedence.

    Args:
        directory: Where the leases are.
        choose: Given what tells whether a device is free, what to take; see `selection.choose`. Called at every try.
            None for a run that cannot tell devices apart, and has but its claim.
        note: What others are told.
        claim: On the devices' kind.
        wait_s: Seconds to wait for devices that other runs have.
        cancel: Ends the wait.
        poll_s: Seconds between tries.
        on_wait: Called with who has what, when the wait begins and whenever that changes.

    Returns:
        The lease, and the devices it is for.

    Raises:
        BusyError: Other runs of OmniRT still had the devices when the wait was over.
        WaitCancelledError: `cancel` was asked.
        OmniRTError: What `choose` raised, or a directory that cannot serve.
    """
    began = time.monotonic()
    said: str | None = None
    while True:
        choice = choose(directory.is_free) if choose is not None else Choice(())
        lease, held = _try(directory, choice, note, claim) if choice.devices or choose is None else (None, None)
        if lease is not None:
            return lease, choice.devices
        # Devices that were free a moment ago: another run was faster, and others may still be free.
        lost_race = bool(choice.devices) and held is None
        give_up = began + (max(wait_s, _LOST_RACE_S) if lost_race else wait_s)
        left = give_up - time.monotonic()
        who = held or describe_holders(directory, choice.devices or choice.leased)
        if left <= 0:
            raise busy(who, wait_s)
        if on_wait is not None and not lost_race and who != said:
            on_wait(who)
            said = who
        pause(min(_LOST_RACE_PAUSE_S if lost_race else poll_s, left), cancel)


def _try(
    directory: LeaseDirectory, choice: Choice, note: LeaseNote, claim: KindClaim | None
) -> tuple[Lease | None, str | None]:
    """The lease, or who holds the whole kind."""
    try:
        return directory.try_acquire([device.key for device in choice.devices], note, claim), None
    except KindHeldError as error:
        return None, str(error)


def describe_holders(directory: LeaseDirectory, devices: Sequence[Device]) -> str:
    """Who has these devices, in words."""
    holders = [(device, directory.holder(device.key)) for device in devices]
    known = [f"device {device.id} is leased by {holder.described}" for device, holder in holders if holder is not None]
    return "; ".join(known) or f"devices {', '.join(device.id for device in devices)} changed hands meanwhile"


def busy(who: str, wait_s: float = 0.0) -> BusyError:
    """The error of a run that cannot have its devices now."""
    if wait_s > 0:
        return BusyError(f"{who}; waited {wait_s:g} s", hint="wait longer with --wait SECONDS, or choose other devices")
    return BusyError(who, hint="wait for them with --wait SECONDS, or choose other devices")


def pause(seconds: float, cancel: Stop | None) -> None:
    """Wait.

    Raises:
        WaitCancelledError: `cancel` was asked.
    """
    if cancel is None:
        time.sleep(seconds)
        return
    poller = select.poll()
    poller.register(cancel.fileno(), select.POLLIN)
    poller.poll(seconds * 1000)
    if cancel.asked:
        raise WaitCancelledError


def _unlock(descriptor: int) -> None:
    """Give a lock back at once, even where a process that another thread is just forking has a copy."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _is_named(descriptor: int, folder: int, name: str) -> bool:
    """Whether the locked file is still the one of that name: a cleaner of old files may have taken it away."""
    try:
        named = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(descriptor))


def _spoil_note(descriptor: int) -> None:
    """Make the last holder's note unreadable; truncating the file would cost milliseconds on ext4."""
    with contextlib.suppress(OSError):
        os.pwrite(descriptor, b"-", 0)


def _write_note(descriptor: int, note: LeaseNote) -> None:
    fields = {
        "run_id": note.run_id[:_FIELD_CHARS],
        "what": note.what[:_FIELD_CHARS],
        "pid": os.getpid(),
        "user": _user(),
        "host": os.uname().nodename,
        "since": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    line = json.dumps(fields, ensure_ascii=False).encode(errors="replace")
    # The lease holds without it: a full disk costs others only the holder's name.
    with contextlib.suppress(OSError):
        os.pwrite(descriptor, line.ljust(_NOTE_BYTES - 1) + b"\n", 0)


def _read_note(descriptor: int, key: str) -> LeaseHolder:
    """What the holder says of itself; any user may have written it."""
    try:
        fields = json.loads(os.pread(descriptor, _NOTE_BYTES, 0))
    except (OSError, ValueError, RecursionError):
        return LeaseHolder(key)
    if not isinstance(fields, dict):
        return LeaseHolder(key)
    pid = fields.get("pid")
    return LeaseHolder(
        key,
        run_id=_printable(fields.get("run_id")),
        what=_printable(fields.get("what")),
        pid=pid if type(pid) is int and 0 < pid <= _LARGEST_PID else None,
        user=_printable(fields.get("user")),
        host=_printable(fields.get("host")),
        since=_printable(fields.get("since")),
    )


def _printable(value: object) -> str | None:
    """Text that does nothing to a terminal."""
    if not isinstance(value, str):
        return None
    return "".join(char if char.isprintable() else "?" for char in value[:_FIELD_CHARS])


def _user() -> str:
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
