"""The page on benchmarks names everything that there is to name."""

from __future__ import annotations

import pytest

from omnirt_cli.bench.figures import OWN_FIGURES, REPORT_MEANS, SPREAD, SPREADS
from omnirt_cli.bench.gates import profiles
from omnirt_cli.bench.scenarios import scenarios
from tests.omnirt_cli_runs import ROOT

TEXT = (ROOT / "docs" / "bench.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*SPREADS, *REPORT_MEANS, *OWN_FIGURES, *(f"_{part}" for part in SPREAD)])
def test_every_figure_is_explained(name: str) -> None:
    assert f"`{name}`" in TEXT


def test_every_scenario_is_named() -> None:
    assert [name for name in scenarios() if f"`{name}`" not in TEXT] == []


@pytest.mark.parametrize("name", list(profiles()))
def test_every_profile_is_told_with_what_it_requires(name: str) -> None:
    line = next(line for line in TEXT.splitlines() if line.startswith(f"| `{name}`"))

    assert [text for text in profiles()[name].require if f"`{text}`" not in line] == []
