"""Steps before the script: what they made is used again only while it is whole and this user's alone."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from omnirt_cli.errors import InputInvalidError, ModelFailedError
from omnirt_cli.models.base import EarlierStep
from omnirt_cli.run.earlier import StepRecord, is_done, note_done, write_cache_files


class WaitedError(Exception):
    """Another run had the record."""


def nobody_waits() -> NoReturn:
    raise WaitedError


@pytest.fixture
def step(tmp_path: Path) -> EarlierStep:
    place = tmp_path / "made"
    place.mkdir()
    return EarlierStep(
        "text context", Path("/x.py"), (), {}, makes=(place / "context.pt",), record=tmp_path / "cache" / "x.made"
    )


def finish(step: EarlierStep, content: bytes = b"whole") -> None:
    """The step runs to its end."""
    with StepRecord.of(step, nobody_waits) as record:
        for path in step.makes:
            path.write_bytes(content)
            path.chmod(0o600)
        note_done(step, record)


def done(step: EarlierStep) -> bool:
    with StepRecord.of(step, nobody_waits) as record:
        return is_done(step, record)


def test_what_a_step_finished_is_used_again(step: EarlierStep) -> None:
    assert not done(step)
    finish(step)
    assert done(step)


def test_a_forced_step_is_done_again_over_what_is_there(step: EarlierStep) -> None:
    finish(step)
    forced = EarlierStep(step.name, step.script, (), {}, makes=step.makes, record=step.record, always=True)

    assert not done(forced)
    assert step.makes[0].exists()


@pytest.mark.parametrize("change", ["shortened", "rewritten", "never finished", "unreadable record"])
def test_what_no_step_finished_is_removed_and_made_anew(step: EarlierStep, change: str) -> None:
    finish(step)
    path = step.makes[0]
    assert step.record is not None
    [record] = step.record.parent.iterdir()
    if change == "shortened":
        os.truncate(path, 2)
    elif change == "rewritten":
        path.unlink()
        path.write_bytes(b"WHOLE")
        path.chmod(0o600)
    elif change == "never finished":
        record.unlink()
    else:
        record.write_bytes(b"\xff{")

    assert not done(step)
    assert not path.exists()


def test_a_folder_where_everybody_can_replace_files_is_refused(step: EarlierStep) -> None:
    finish(step)
    folder = step.makes[0].parent

    folder.chmod(0o777)
    with pytest.raises(InputInvalidError, match="every user can replace files"):
        done(step)
    folder.chmod(0o1777)
    assert done(step)


@pytest.mark.parametrize("left", [None, b""], ids=["nothing", "an empty file"])
def test_a_step_that_leaves_nothing_failed(step: EarlierStep, left: bytes | None) -> None:
    if left is not None:
        step.makes[0].write_bytes(left)

    with StepRecord.of(step, nobody_waits) as record, pytest.raises(ModelFailedError, match=r"left no .*context\.pt"):
        note_done(step, record)


def test_one_run_at_a_time_is_at_a_step(step: EarlierStep) -> None:
    with StepRecord.of(step, nobody_waits), pytest.raises(WaitedError), StepRecord.of(step, nobody_waits):
        pytest.fail("two have it")
    assert not done(step)


def test_a_file_system_without_locks_is_gone_without(step: EarlierStep, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> NoReturn:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)

    finish(step)
    assert done(step)


def test_a_step_without_a_record_is_never_done() -> None:
    assert not done(EarlierStep("text context", Path("/x.py"), (), {}))


def test_a_cache_file_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "a.json"
    write_cache_files({path: b"{}"})
    before = path.stat()
    write_cache_files({path: b"{}"})

    assert path.stat().st_ino == before.st_ino
    write_cache_files({path: b"[]"})
    assert path.read_bytes() == b"[]"
