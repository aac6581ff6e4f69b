"""The list of checks: what it makes of an operating system's refusal that a check did not foresee."""

from __future__ import annotations

import errno
import os

import pytest

from omnirt_cli.errors import InputMissingError, IOFailureError, OmniRTError, OutputUncreatableError
from omnirt_cli.preflight import CheckList, CheckName


@pytest.mark.parametrize(
    ("name", "number", "kind"),
    [
        *(
            (CheckName.CHECKPOINT, number, InputMissingError)
            for number in (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
        ),
        (CheckName.CHECKPOINT, errno.EIO, IOFailureError),
        (CheckName.CHECKPOINT, errno.ESTALE, IOFailureError),
        (CheckName.OUTPUT, errno.EACCES, OutputUncreatableError),
        (CheckName.DISK, errno.ENOSPC, IOFailureError),
    ],
)
def test_a_refusal_that_no_check_foresaw_is_a_failed_check(
    name: CheckName, number: int, kind: type[OmniRTError]
) -> None:
    def refused() -> None:
        raise OSError(number, os.strerror(number), "/weights/model.bin")

    checks = CheckList()

    assert checks.run(name, refused) is None
    assert checks.checks[0].status.value == "failed"
    assert type(checks.error()) is kind
    assert "/weights/model.bin" in str(checks.errors[0].message)
