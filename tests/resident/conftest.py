"""A runtime directory of the test's own, whose daemon and workers are gone at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from omnirt_cli.resident.client import Connection
from tests.resident.resident_runs import end_daemon, environ_of, wait_for, worker_processes


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "runtime"
    yield folder
    end_daemon(folder)
    ids = [log.stem for log in (folder / "workers").glob("*.log")]
    for worker_id in ids:
        wait_for(lambda worker_id=worker_id: not worker_processes(worker_id), what="the worker's end")


@pytest.fixture
def environ(runtime: Path) -> Mapping[str, str]:
    return environ_of(runtime)


@pytest.fixture
def daemon(environ: Mapping[str, str]) -> Iterator[Connection]:
    with Connection.open(environ) as connection:
        yield connection
