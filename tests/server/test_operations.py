"""What an operator installs: systemd's unit and protocol, the container, the scrape and the dashboard."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from omnirt_cli.app import build_app
from omnirt_cli.server import notify
from omnirt_cli.server.metrics import Metrics
from tests.omnirt_cli_runs import ROOT
from tests.server.server_runs import serving

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "omnirt.service"

FLAG = re.compile(r"--[a-z-]+")
METRIC = re.compile(r"\bomnirt_[a-z_]+")


# --- systemd's protocol ---------------------------------------------------------------------------


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """systemd's end: a datagram socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        yield listener


def test_a_server_tells_when_it_answers_when_it_ends_and_that_it_lives(manager: socket.socket, tmp_path: Path) -> None:
    env = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "500000"}
    told: list[str] = []

    with serving(tmp_path / "server", env=env) as server:
        while told.count("WATCHDOG=1") < 3 or "READY=1" not in told:
            told += manager.recv(4096).decode().splitlines()
        assert f"STATUS=listening on {server.url}" in told
        assert "STOPPING=1" not in told
        server.stop()
        while "STOPPING=1" not in told:
            told += manager.recv(4096).decode().splitlines()

    assert told.count("READY=1") == 1


def test_a_server_that_systemd_did_not_start_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)

    notify.ready("listening")
    notify.stopping()
    asyncio.run(asyncio.wait_for(notify.keep_alive(), 1))


@pytest.mark.parametrize("name", ["nowhere", "/nobody/listens/here", "@omnirt-nobody-listens"])
def test_a_manager_that_is_gone_stops_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name)

    notify.ready("listening")


def test_abstract_sockets_are_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"omnirt-{tmp_path.name}-{tmp_path.stat().st_ino}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)

        notify.ready("listening")

        assert listener.recv(4096) == b"READY=1\nSTATUS=listening"


# --- what is installed ----------------------------------------------------------------------------


def serve_flags() -> set[str]:
    program: Any = build_app(["serve"])
    return {flag for parameter in program.commands["serve"].params for flag in parameter.opts}


def unit_command() -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    return shlex.split(line)


def container_command() -> list[str]:
    text = (DEPLOY / "Containerfile").read_text()
    parts = [json.loads(found) for found in re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", text, re.MULTILINE)]
    return [word for part in parts for word in part]


@pytest.mark.parametrize("command", [unit_command(), container_command()], ids=["unit", "container"])
def test_the_server_is_started_with_flags_that_it_has(command: list[str]) -> None:
    assert Path(command[0]).name == "omnirt"
    assert command[1] == "serve"
    assert {word for word in command if FLAG.fullmatch(word)} <= serve_flags()


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    systemd = shutil.which("systemd-analyze")
    if systemd is None:
        pytest.skip("no systemd-analyze here")
    there = tmp_path / UNIT.name
    there.write_text(UNIT.read_text().replace(unit_command()[0], sys.executable))

    verdict = subprocess.run([systemd, "verify", "--man=no", str(there)], capture_output=True, text=True, check=False)

    # It also speaks of the machine's own units.
    about_ours = [line for line in verdict.stderr.splitlines() if "omnirt" in line]
    assert (verdict.returncode, about_ours) == (0, [])


def test_systemd_waits_longer_than_the_server_drains() -> None:
    (limit,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    command = unit_command()

    assert int(limit) > int(command[command.index("--drain") + 1])


def test_the_container_gets_what_the_package_is_built_from() -> None:
    text = (DEPLOY / "Containerfile").read_text()

    sources = [word for line in re.findall(r"^COPY (?!--)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert {"pyproject.toml", "README.md", "omnirt", "omnirt_cli", "launchers", "configs"} <= set(sources)
    assert [name for name in sources if not (ROOT / name).exists()] == []


def test_the_scrape_asks_where_the_metrics_are() -> None:
    (scrape,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]

    assert scrape["metrics_path"] == "/metrics"
    assert scrape["static_configs"] == [{"targets": ["localhost:8000"]}]


# --- the dashboard --------------------------------------------------------------------------------


def dashboard() -> dict[str, Any]:
    found = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    assert isinstance(found, dict)
    return found


def queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def labels_by_series() -> dict[str, set[str]]:
    """Each series that Prometheus would have, by its name, with the labels that it can be asked by."""
    found: dict[str, set[str]] = {}
    figures = Metrics()
    for metric in (figure for figure in vars(figures).values() if hasattr(figure, "_labelnames")):
        (family,) = list(metric.describe()) or list(metric.collect())
        endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}[family.type]
        for ending in endings:
            extra = {"le"} if ending == "_bucket" else set()
            found[family.name + ending] = {"job", *metric._labelnames, *extra}
    return found


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    series = labels_by_series()
    asked = {name for query in queries() for name in METRIC.findall(query)}

    assert len(series) > 12
    assert asked <= set(series)
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in series}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} == families


def test_the_names_are_those_that_the_server_exposes() -> None:
    exposed = set(re.findall(r"^# TYPE (\S+) ", Metrics().text().decode(), re.MULTILINE))

    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in labels_by_series()} == exposed


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_by_labels_that_its_metrics_have(query: str) -> None:
    series = labels_by_series()
    common = set.intersection(*(series[name] for name in METRIC.findall(query)))
    asked = {word for group in re.findall(r"by \(([^)]*)\)", query) for word in re.split(r"[\s,]+", group)}
    asked |= set(re.findall(r"(\w+)=\"", query))

    assert asked <= common


def test_the_dashboard_s_panels_stand_beside_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
