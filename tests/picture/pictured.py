"""Reports made by hand for the pages, and a page read back as a browser would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from omnirt_cli.checks import failed, passed, skipped, warned
from omnirt_cli.finding import Finding, Severity
from omnirt_cli.report import (
    Artifact,
    CheckoutInfo,
    ChunkInfo,
    DeviceInfo,
    DevicesInfo,
    ErrorInfo,
    ExpectedInfo,
    InputInfo,
    RunReport,
    RunStatus,
    SamplingInfo,
    UsePoint,
)

RUN_ID = "0a1b2c3d-0000-4000-8000-000000000000"
VOID = {"meta", "link", "br", "img", "input", "hr", "source"}

COLD = {
    "prepare_conditions_ms": 1_000.0,
    "launch_ms": 2_000.0,
    "model_load_ms": 57_000.0,
    "denoise_loop_ms": 71_000.0,
    "generation_ms": 10_000.0,
    "save_ms": 1_000.0,
    "export_ms": 500.0,
    "total_ms": 72_600.0,
    "chunk_count": 9.0,
    "first_chunk_ms": 2_000.0,
    "steady_chunk_interval_ms_avg": 1_000.0,
    "steady_chunk_core_ms_avg": 900.0,
    "rtf": 0.992,
    "steady_rtf": 0.893,
    "frames_per_second": 25.2,
}
"""A run whose model is ready at 60 s; its process ends a second after the save, at 72 s."""

HOT = {
    "prepare_conditions_ms": 300.0,
    "denoise_loop_ms": 10_000.0,
    "generation_ms": 10_000.0,
    "save_ms": 700.0,
    "export_ms": 500.0,
    "total_ms": 13_500.0,
    "chunk_count": 9.0,
}


def chunks(count: int = 9, *, ready_ms: float = 60_000.0, first_ms: float = 2_000.0) -> list[ChunkInfo]:
    """A first chunk, and steady ones of a second each."""
    return [
        ChunkInfo(
            index=index,
            core_ms=(first_ms if index == 0 else 1_000.0) - 100.0,
            core_scope="core",
            interval_ms=first_ms if index == 0 else 1_000.0,
            at_ms=ready_ms + first_ms + 1_000.0 * index,
        )
        for index in range(count)
    ]


def report(**changed: Any) -> RunReport:
    """A cold run that succeeded; fields of the report by name change it."""
    fields: dict[str, Any] = {
        "run_id": RUN_ID,
        "status": RunStatus.SUCCEEDED,
        "model": "soulx-flashtalk-14b",
        "backend": "ascend",
        "started_at": "2026-11-20T10:00:00.000Z",
        "finished_at": "2026-11-20T10:01:12.600Z",
        "config_resolved": {"sample_steps": 4, "size": "416*704", "quantize": None},
        "config_sources": {"sample_steps": "flag", "size": "model default", "quantize": "model default"},
        "config_carriers": {"sample_steps": "infer_params", "size": "fixed"},
        "checkout": CheckoutInfo(path="/opt/checkout", revision="688982e", variant="public-new", dirty=True),
        "expected": ExpectedInfo(chunks=9, frames=252, fps=25, duration_s=10.08, width=416, height=704),
        "timings": COLD,
        "chunks": chunks(),
        "versions": {"omnirt": "0.1.0"},
        "host": {"name": "node-7", "cpus": 192},
    }
    return RunReport(**{**fields, **changed})


def two_devices() -> DevicesInfo:
    """Two devices that were looked at, one of them with a hole."""
    series = [UsePoint(at_ms=at * 1_000, memory_gib=at / 2, use_percent=float(at % 100)) for at in range(60)]
    holes = [UsePoint(at_ms=at * 1_000, memory_gib=None if at % 2 else 3.0) for at in range(10)]
    first = DeviceInfo(id="0", name="910B2", memory_total_gib=61.0, memory_peak_gib=29.5, use_series=series)
    second = DeviceInfo(id="1", name="910B2", memory_peak_gib=3.0, use_series=holes)
    sampling = SamplingInfo(source="npu-smi", looks=60, interval_ms=1_200.0, problem="one look took too long")
    return DevicesInfo(kind="ascend", used=[first, second], sampling=sampling)


def full_of(text: str) -> RunReport:
    """A failed run with a text in every place that takes one from outside."""
    return report(
        status=RunStatus.FAILED,
        model=text,
        backend=text,
        host={"name": text},
        versions={"omnirt": text},
        config_resolved={"edit_prompt": text, "size": text},
        config_sources={"edit_prompt": text, "size": "model default"},
        config_carriers={"edit_prompt": text},
        checkout=CheckoutInfo(path=text, revision=text, variant=text),
        devices=DevicesInfo(
            kind="cpu",
            used=[DeviceInfo(id=text, name=text, memory_peak_gib=1.0, memory_peak_source=text)],
            sampling=SamplingInfo(source=text, problem=text),
        ),
        inputs={"image": InputInfo(path=text, sha256=text, media={"format": text})},
        chunks=[chunk.model_copy(update={"core_scope": text}) for chunk in chunks()],
        checks=[failed("file", detail=text, hint=text), warned("b", expected=text), passed("c"), skipped("d", text)],
        warnings=[text],
        artifacts=[Artifact(path=text)],
        kept=[text],
        log_path=text,
        scratch_dir=text,
        error=ErrorInfo(code="model_failed", message=text, hint=text, exit_code=10, log_tail=[text, text]),
        findings=[Finding(code="slow", severity=Severity.WARNING, what=text, why=text, do=text)],
    )


@dataclass
class Element:
    """One element with its own and its children's text."""

    tag: str
    attributes: dict[str, str | None]
    words: list[str] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


class Page(HTMLParser):
    """A document, refused where its tags do not match."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.comments: list[str] = []
        self._open: list[Element] = []
        self.feed(document)
        self.close()
        assert self._open == [], "tags are left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        self._separate()
        element = Element(tag, dict(attrs))
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        self._separate()
        assert self._open.pop().tag == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.words.append(data)

    def _separate(self) -> None:
        """What stands in two elements stands apart."""
        for element in self._open:
            element.words.append(" ")

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def all(self, tag: str, name: str | None = None) -> list[Element]:
        return self.where(lambda it: it.tag == tag and (name is None or name in it.classes))

    def where(self, holds: Callable[[Element], bool]) -> list[Element]:
        return [element for element in self.elements if holds(element)]

    @property
    def text(self) -> str:
        return next(element.text for element in self.elements if element.tag == "body")

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """Every element and the names of its attributes, in order."""
        return [(element.tag, tuple(element.attributes)) for element in self.elements]
