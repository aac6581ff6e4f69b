"""The documentation is what the program does: generated pages are fresh, links lead somewhere, examples run.

A block under `<!-- tried ... -->` is run. The blocks of one page run one after another in one folder that has
`portrait.png` and `speech.wav`, with `omnirt` on PATH:

- `tried`: a bash or Python block that must end well;
- `tried, exit N`: one that must end with that code;
- `tried as a plan`: run with `--dry-run`, stand-ins taking the place of what lies under `/opt` and `/usr/local`;
- `tried as NAME`: a YAML block that is written to that file and loaded as what the name says.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from pydantic import TypeAdapter

from omnirt_cli.app import COMMANDS
from omnirt_cli.checks import Check
from omnirt_cli.errors import ERRORS
from omnirt_cli.finding import Finding
from omnirt_cli.models import registry
from omnirt_cli.preflight import CheckName
from omnirt_cli.report import (
    ChunkInfo,
    CompileCacheInfo,
    DeviceInfo,
    ErrorInfo,
    ReadAheadInfo,
    RunReport,
    SamplingInfo,
    UsePoint,
)
from omnirt_cli.run import events
from omnirt_cli.settings import file_layer, read_request
from tests.omnirt_cli_runs import ASSETS, CHECKOUTS, ROOT, environment, generate_args, omnirt
from tests.vendor_tools import Chip, fake_npu_smi, machine

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
EXAMPLE = ROOT / "configs" / "omnirt.example.yaml"

BLOCK = re.compile(r"<!-- (?P<mark>[^\n]*) -->\n```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A marked block of a page."""

    mark: str
    language: str
    text: str

    @property
    def tried(self) -> bool:
        return self.mark.startswith("tried")

    @property
    def exit_code(self) -> int:
        found = re.search(r"exit (\d+)", self.mark)
        return int(found[1]) if found else 0

    @property
    def is_plan(self) -> bool:
        return self.mark == "tried as a plan"


def blocks(page: Path) -> list[Block]:
    return [Block(**found.groupdict()) for found in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def page_id(page: Path) -> str:
    return page.stem


# --- what is generated ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def make_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_made_from_the_code_are_fresh(make_docs: ModuleType) -> None:
    pages = [page for page in PAGES if make_docs.MARKED.search(page.read_text(encoding="utf-8"))]
    assert len(pages) >= 9

    stale = {
        page.name: make_docs.difference(page, make_docs.with_tables(page.read_text(encoding="utf-8"))) for page in pages
    }
    stale["exit-codes.md"] = make_docs.difference(DOCS / "exit-codes.md", make_docs.exit_codes_page())

    assert not any(stale.values()), "run scripts/make_docs.py:\n" + "\n".join(stale.values())


def test_the_command_reference_is_fresh(make_docs: ModuleType) -> None:
    if make_docs.recorded_typer() != typer.__version__:
        pytest.skip(f"cli.md was made with typer {make_docs.recorded_typer()}; {typer.__version__} is installed")

    assert not make_docs.difference(make_docs.CLI_PAGE, make_docs.cli_page()), "run scripts/make_docs.py"


def test_a_stale_table_is_noticed(make_docs: ModuleType) -> None:
    text = "<!-- generated: skippable -->\nold\n<!-- end generated -->\n"

    assert "`devices`" in make_docs.with_tables(text)
    assert make_docs.difference(DOCS / "exit-codes.md", "something else\n")


def test_check_ends_with_1_where_a_page_is_stale(tmp_path: Path) -> None:
    for name in ("docs", "scripts", "omnirt", "omnirt_cli", "launchers", "configs"):
        if name == "docs":
            shutil.copytree(ROOT / name, tmp_path / name)
        elif name == "scripts":
            (tmp_path / name).mkdir()
            shutil.copy(ROOT / name / "make_docs.py", tmp_path / name)
        else:
            (tmp_path / name).symlink_to(ROOT / name)
    page = tmp_path / "docs" / "exit-codes.md"
    page.write_text(page.read_text(encoding="utf-8").replace("rendered, verified, in place", "all is well"))

    done = subprocess.run(
        [sys.executable, str(tmp_path / "scripts" / "make_docs.py"), "--check"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        text=True,
    )

    assert done.returncode == 1, done.stderr
    assert "-| 0 | `ok` | all is well |" in done.stdout


# --- commands -------------------------------------------------------------------------------------


def test_every_command_has_a_help_with_an_example_and_is_explained(make_docs: ModuleType) -> None:
    told = {page: page.read_text(encoding="utf-8") for page in PAGES if page != make_docs.CLI_PAGE}
    for words in make_docs.commands():
        spelled = " ".join(("omnirt", *words))
        assert f"## {spelled}\n" in make_docs.CLI_PAGE.read_text(encoding="utf-8")
        assert any(spelled in text for text in told.values()), f"no page but cli.md speaks of `{spelled}`"
        if words[0] in make_docs.SUBCOMMANDS and len(words) == 1:
            continue
        assert f"Example:\n\n    {spelled}" in make_docs.help_text(*words)


def test_subcommands_are_known_to_the_reference(make_docs: ModuleType) -> None:
    for name in COMMANDS:
        listed = re.findall(r"^  (\w+)  ", make_docs.help_text(name).partition("\nCommands:\n")[2], re.MULTILINE)
        assert tuple(listed) == make_docs.SUBCOMMANDS.get(name, ())


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_pages_speak_of_commands_that_exist(page: Path) -> None:
    spoken = set(re.findall(r"(?<![\w./-])(?<!from )omnirt ([a-z][\w-]*)", page.read_text(encoding="utf-8")))

    assert spoken <= set(COMMANDS)


def test_every_error_is_in_the_table_of_exit_codes() -> None:
    table = (DOCS / "exit-codes.md").read_text(encoding="utf-8")

    for kind in ERRORS:
        assert re.search(rf"\| [\d /]*\b{int(kind.exit_code)}\b[\d /]* \| `{kind.code}` \|", table)


# --- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=page_id)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for found in LINK.finditer(text):
        target, _, anchor = found["target"].partition("#")
        if "://" in target:
            continue
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), f"{page.name}: {found['target']}"
        if anchor:
            assert anchor in anchors(place), f"{page.name}: {found['target']}"


def anchors(page: Path) -> set[str]:
    """The headings' ids, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_reached_from_the_index() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")

    assert {page.name for page in DOCS.glob("*.md")} - {"index.md"} <= {
        found["target"] for found in LINK.finditer(index)
    }


# --- examples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.tried for b in blocks(page))], ids=page_id)
def test_examples_run(page: Path, tmp_path: Path) -> None:
    bench = Bench.prepare(tmp_path)
    for block in blocks(page):
        if not block.tried:
            continue
        if block.language == "yaml":
            bench.load(block)
            continue
        done = bench.run(block)
        assert done.returncode == block.exit_code, f"{block.text}\n{done.stdout}\n{done.stderr}"
        if block.is_plan:
            assert "writes " in done.stdout or '"argv"' in done.stdout


@dataclass(frozen=True)
class Bench:
    """A folder in which a page's examples are run."""

    folder: Path
    tools: Path

    @classmethod
    def prepare(cls, tmp_path: Path) -> Bench:
        bench = cls(tmp_path / "page", tmp_path / "tools")
        bench.folder.mkdir()
        bench.tools.mkdir()
        for name in ("portrait.png", "speech.wav"):
            shutil.copy(ASSETS / name, bench.folder)
        (bench.tools / "set_env.sh").write_text("export ASCEND_HOME_PATH=/nowhere\n")
        bench._program("omnirt", f'exec "{sys.executable}" -m omnirt "$@" $DOCS_PLAN')
        bench._program("python3", f'exec "{sys.executable}" "$@"')
        return bench

    def _program(self, name: str, line: str) -> None:
        path = self.tools / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def run(self, block: Block) -> subprocess.CompletedProcess[str]:
        text = block.text
        if block.is_plan:
            for place, stand_in in self._stand_ins():
                text = text.replace(place, stand_in)
        argv = {
            "bash": ["bash", "-euo", "pipefail", "-c", text],
            "python": [sys.executable, "-c", text],
        }[block.language]
        env = environment(
            {
                "PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}",
                "OMNIRT_LOCK_DIR": str(self.tools.parent / "locks"),
                "DOCS_PLAN": "--dry-run --skip-check devices" if block.is_plan else "",
            }
        )
        return subprocess.run(argv, capture_output=True, cwd=self.folder, env=env, text=True, timeout=120)

    def _stand_ins(self) -> Iterator[tuple[str, str]]:
        yield "/opt/flashhead-venv/bin/python", sys.executable
        yield "/opt/flashtalk-venv/bin/python", sys.executable
        yield "/opt/SoulX-FlashHead", str(CHECKOUTS / "flashhead_ascend")
        yield "/opt/SoulX-FlashTalk", str(CHECKOUTS / "flashtalk_new")
        yield "/opt/liveact-venv/bin/python", sys.executable
        yield "/opt/SoulX-LiveAct", str(CHECKOUTS / "liveact_ascend")
        yield "/usr/local/Ascend/ascend-toolkit/set_env.sh", str(self.tools / "set_env.sh")

    def load(self, block: Block) -> None:
        path = self.folder / block.mark.removeprefix("tried as ")
        path.write_text(block.text, encoding="utf-8")
        if path.name == "omnirt.yaml":
            assert_settings_load(path)
        else:
            assert path.name == "request.yaml"
            assert read_request(path)[0].model in registry.model_ids()


def test_a_block_that_is_not_run_does_not_call_itself_tried() -> None:
    """A mark that stands on no block, or that nobody reads, would promise what is not done."""
    for page in PAGES:
        marks = re.findall(r"<!-- (tried[^\n]*) -->", page.read_text(encoding="utf-8"))
        assert marks == [block.mark for block in blocks(page) if block.tried], page.name
        for mark in marks:
            assert re.fullmatch(r"tried(, exit \d+| as a plan| as (omnirt|request)\.yaml)?", mark), mark


# --- settings -------------------------------------------------------------------------------------


def test_the_example_settings_load_for_every_model() -> None:
    assert_settings_load(EXAMPLE)


def assert_settings_load(path: Path) -> None:
    # As the user's own file: whether a project file is trusted depends on the machine that the test runs on.
    for key in registry.model_keys():
        layer, warnings = file_layer(path, "user config", key)
        assert {"repo_path", "python_executable"} <= set(layer.values)
        assert warnings == []


# --- report and events ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("docs-report") / "talk.mp4"
    done = omnirt(*generate_args(output, "--max-chunks", "2", "--json", "--progress", "never"))
    assert done.code == 0, done.stderr
    return done.report


def test_every_key_of_the_report_is_explained(real_report: dict[str, Any]) -> None:
    text = (DOCS / "report.md").read_text(encoding="utf-8")
    parts = (
        *(RunReport, Check, ErrorInfo, ChunkInfo, DeviceInfo, UsePoint, SamplingInfo),
        *(CompileCacheInfo, ReadAheadInfo, Finding),
    )
    keys = {key for part in parts for key in part.model_fields} | set(real_report["timings"])
    names = [check["name"] for check in real_report["checks"]]
    keys |= set(names[names.index("file") :])
    keys |= {*real_report["memory"], *real_report["host"], *real_report["versions"], *real_report["artifacts"][0]}

    assert {key for key in keys if f"`{key}`" not in text} == set()


def test_every_check_before_the_launch_is_named(real_report: dict[str, Any]) -> None:
    text = (DOCS / "generate.md").read_text(encoding="utf-8")
    names = [check["name"] for check in real_report["checks"]]

    assert [name for name in names[: names.index("file")] if f"`{name}`" not in text] == []


def test_the_checks_that_wait_for_a_plan_are_named_too() -> None:
    text = (DOCS / "generate.md").read_text(encoding="utf-8")

    assert [name.value for name in CheckName if f"`{name.value}`" not in text] == []


def test_every_check_of_doctor_is_explained(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    fake_npu_smi(tools, [Chip(npu=0)])
    script = tmp_path / "set_env.sh"
    script.write_text("true\n")
    settings = {
        "ASCEND_RT_VISIBLE_DEVICES": "0",
        "OMNIRT_LOCK_DIR": str(tmp_path / "locks"),
        "OMNIRT_FLASHHEAD_REPO_PATH": str(CHECKOUTS / "flashhead_ascend"),
        "OMNIRT_FLASHHEAD_PYTHON": sys.executable,
        "OMNIRT_FLASHHEAD_ENV_SCRIPT": str(script),
    }
    done = omnirt("doctor", "--json", "--deep", "--model", "flashhead", "--backend", "ascend",
                  env=machine(tools, settings), cwd=tmp_path)  # fmt: skip

    text = (DOCS / "doctor.md").read_text(encoding="utf-8")
    names = [check["name"] for section in done.json["sections"] for check in section["checks"]]
    assert {"env_script_sourced", "device_memory", "packages", "torch"} <= set(names), done.stdout
    assert [name for name in names if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "report.md"], ids=page_id)
def test_sample_reports_fit_the_schema(page: Path) -> None:
    samples = [block for block in blocks(page) if block.mark == "a report"]

    assert len(samples) == 1
    RunReport.model_validate_json(samples[0].text, strict=False)


def test_sample_events_fit_the_schema_and_every_event_is_explained() -> None:
    page = DOCS / "events.md"
    text = page.read_text(encoding="utf-8")
    (sample,) = (block for block in blocks(page) if block.mark == "events")
    adapter: TypeAdapter[Any] = TypeAdapter(events.Event)
    for line in sample.text.splitlines():
        adapter.validate_json(line)

    assert [stage for stage in events.Stage if f"| `{stage.value}` |" not in text] == []
    for kind in events.BaseEvent.__subclasses__():
        row = re.search(rf"^\| `{kind.model_fields['event'].default}` \|.*$", text, re.MULTILINE)
        assert row is not None, kind
        keys = set(kind.model_fields) - set(events.BaseEvent.model_fields) - {"event"}
        assert {key for key in keys if f"`{key}`" not in row[0]} == set()


def test_the_readme_s_report_names_the_timings_of_a_real_one(real_report: dict[str, Any]) -> None:
    (sample,) = (block for block in blocks(ROOT / "README.md") if block.mark == "a report")

    assert set(json.loads(sample.text)["timings"]) <= set(real_report["timings"])
