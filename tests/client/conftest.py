"""Servers that several tests talk to: a quick one, and one whose renders take minutes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from omnirt_cli.client.client import Client
from tests.server.server_runs import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(scope="session")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its renders take minutes."""
    with serving(tmp_path_factory.mktemp("slow"), env={"MINIATURE_CHUNK_S": "60"}) as found:
        yield found


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, patience=5) as found:
        yield found
