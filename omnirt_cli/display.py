"""Progress for people: a live display on a terminal, plain lines elsewhere. Both listen to the event stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omnirt_cli import console
from omnirt_cli.finding import Finding
from omnirt_cli.run.events import (
    BaseEvent,
    ChunkFinished,
    Diagnosed,
    LogLine,
    RunFinished,
    RunStarted,
    Stage,
    StageFinished,
    StageStarted,
    StepFinished,
    Warned,
)

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

STAGE_WORDS = {
    Stage.WAIT: "waiting for devices",
    Stage.PREPARE: "preparing",
    Stage.EARLIER: "before the script",
    Stage.LAUNCH: "launching",
    Stage.LOAD: "loading the model",
    Stage.GENERATE: "generating",
    Stage.SAVE: "saving",
    Stage.VERIFY: "checking the video",
}


_SENTENCE_ENDS = (".", "!", "?", ":", ";")


class PlainDisplay:
    """One line an event that matters, for logs, CI and cron."""

    def __call__(self, event: BaseEvent) -> None:
        """Print the event's line."""
        line = self._line(event)
        if line:
            console.tell(line)

    def _line(self, event: BaseEvent) -> str | None:
        if isinstance(event, RunStarted):
            return f"{event.model}: {event.chunks} chunks, {event.duration_s:g} s of video; log {event.log_path}"
        if isinstance(event, StageStarted):
            return f"{stage_words(event)} ..."
        if isinstance(event, StageFinished) and event.stage in (Stage.LOAD, Stage.GENERATE):
            return f"{STAGE_WORDS[event.stage]}: {event.duration_ms / 1000:.1f} s"
        if isinstance(event, ChunkFinished):
            return chunk_line(event)
        return notice(event)

    def close(self) -> None:
        """Nothing to put away."""


def stage_words(event: StageStarted) -> str:
    """A phase in words, with what it is about."""
    words = STAGE_WORDS[event.stage]
    return f"{words}: {event.detail}" if event.detail else words


def notice(event: BaseEvent) -> str | None:
    """What a person should see whatever the display: OmniRT's warnings and the script's."""
    if isinstance(event, Warned):
        return f"warning: {event.message}"
    if isinstance(event, LogLine):
        return f"script: {event.text}"
    if isinstance(event, Diagnosed):
        return finding_line(event.finding)
    return None


def finding_line(finding: Finding) -> str:
    """A finding in one line: what happened, why, and what to do."""
    return f"{finding.severity.value}: {_sentences(finding.what, finding.why, finding.do)}"


def _sentences(*parts: str) -> str:
    """The parts as one text, a full stop between two where the first has none."""
    told = [part.strip() for part in parts if part.strip()]
    return " ".join([*(part if part.endswith(_SENTENCE_ENDS) else f"{part}." for part in told[:-1]), *told[-1:]])


def chunk_line(event: ChunkFinished) -> str:
    """A chunk in words, e.g. `chunk 3/9  0.89 s  RTF 0.80  6 s left`."""
    name = f"chunk {event.index + 1}/{event.total}" if event.total else f"chunk {event.index + 1}"
    return "  ".join([name, *chunk_facts(event)])


def chunk_facts(event: ChunkFinished) -> list[str]:
    """What is known at a chunk's end: its time, the real-time factor, the time left."""
    parts = []
    if event.core_ms is not None:
        parts.append(f"{event.core_ms / 1000:.2f} s")
    if event.rtf is not None:
        parts.append(f"RTF {event.rtf:.2f}")
    if event.eta_s is not None:
        parts.append(f"{event.eta_s:.0f} s left")
    return parts


class LiveDisplay:
    """A terminal's view: the phase, chunk i of N, time left, the current chunk's time, the real-time factor."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True)
        self._progress: Progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TextColumn("[dim]{task.fields[step]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=False,
        )
        self._task: TaskID | None = None

    def __call__(self, event: BaseEvent) -> None:
        """Update the display."""
        if isinstance(event, RunStarted):
            self._start(event)
        elif (text := notice(event)) is not None:
            self._progress.console.print(text, style="yellow", markup=False, highlight=False)
        elif isinstance(event, RunFinished):
            self.close()
        elif self._task is not None:
            self._update(self._task, event)

    def _start(self, event: RunStarted) -> None:
        self._progress.start()
        self._task = self._progress.add_task("starting", total=event.chunks, facts="", step="")

    def _update(self, task: TaskID, event: BaseEvent) -> None:
        if isinstance(event, StageStarted):
            self._progress.update(task, description=stage_words(event), step="")
        elif isinstance(event, StepFinished):
            self._progress.update(task, step=f"step {event.step + 1}")
        elif isinstance(event, ChunkFinished):
            self._progress.update(task, completed=event.index + 1, facts="  ".join(chunk_facts(event)), step="")

    def close(self) -> None:
        """Give the terminal back."""
        self._progress.stop()


class WarningsOnly:
    """No progress; what a person should know is told all the same."""

    def __call__(self, event: BaseEvent) -> None:
        """Print a warning's line."""
        text = notice(event)
        if text is not None:
            console.tell(text)

    def close(self) -> None:
        """Nothing to put away."""


def choose_display(mode: str) -> PlainDisplay | LiveDisplay | WarningsOnly:
    """The display for `--progress`: live on a terminal, plain lines elsewhere, warnings alone for `never`."""
    if mode == "never":
        return WarningsOnly()
    return LiveDisplay() if console.stderr_is_terminal() else PlainDisplay()
