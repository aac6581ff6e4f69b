"""One quick server for the tests that only speak to it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.server.server_runs import Server, serving, with_media


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as found:
        yield with_media(found)


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found
