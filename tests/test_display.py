"""Progress for people: what each event becomes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from omnirt_cli.display import LiveDisplay, PlainDisplay, choose_display, finding_line
from omnirt_cli.finding import Finding, Severity
from omnirt_cli.run.events import ChunkFinished, RunStarted, Stage, StageFinished, StageStarted, StepFinished, Warned

STARTED = RunStarted(model="m", output="o.mp4", log_path="o.log", chunks=9, frames=250, duration_s=10.0)
CHUNK = ChunkFinished(index=2, total=9, core_ms=890.0, rtf=0.8, eta_s=6.2)


def test_plain_lines_tell_the_phases_and_chunks(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay()
    for event in (
        STARTED,
        StageStarted(stage=Stage.LOAD),
        StageFinished(stage=Stage.LOAD, duration_ms=81000),
        CHUNK,
        Warned(message="careful"),
        StepFinished(chunk=0, step=0, duration_ms=1),
    ):
        display(event)

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "m: 9 chunks, 10 s of video; log o.log",
        "loading the model ...",
        "loading the model: 81.0 s",
        "chunk 3/9  0.89 s  RTF 0.80  6 s left",
        "warning: careful",
    ]


def test_the_live_display_shows_phase_count_rtf_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console", lambda **_: Console(file=screen, force_terminal=True, width=120, color_system=None)
    )
    display = LiveDisplay()
    for event in (STARTED, StageStarted(stage=Stage.GENERATE), CHUNK, StepFinished(chunk=3, step=1, duration_ms=400)):
        display(event)
    display.close()

    shown = screen.getvalue()
    for part in ("generating", "3/9", "0.89 s", "RTF 0.80", "6 s left", "step 2"):
        assert part in shown


def test_without_progress_warnings_are_told_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    display = choose_display("never")
    display(CHUNK)
    display(Warned(message="careful"))

    assert capsys.readouterr().err == "warning: careful\n"


def test_without_a_terminal_lines_are_plain() -> None:
    assert isinstance(choose_display("auto"), PlainDisplay)


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (("It was slow.", "The disk is.", "Use another."), "It was slow. The disk is. Use another."),
        (("it was slow", "the disk is", "use another"), "it was slow. the disk is. use another"),
        (("Was it slow?", "", "Look: "), "Was it slow? Look:"),
    ],
)
def test_a_finding_is_told_in_sentences(finding: tuple[str, str, str], line: str) -> None:
    what, why, do = finding

    told = finding_line(Finding(code="slow", severity=Severity.WARNING, what=what, why=why, do=do))

    assert told == f"warning: {line}"
