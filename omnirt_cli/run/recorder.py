"""The report in the making, and the event stream: whatever happens in a run is told here, once.

The report is on disk with status `running` before anything is started, and is rewritten at the end. Listeners (display,
`--events`, servers) get events in order.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from omnirt_cli.errors import OmniRTError
from omnirt_cli.files import write_atomic
from omnirt_cli.output_paths import OutputPaths
from omnirt_cli.report import RunReport
from omnirt_cli.run.events import BaseEvent, Listener, LogLine, RunFinished, Stage, StageFinished, StageStarted, Warned


class Recorder:
    """One run's report and events.

    Attributes:
        report: The document, filled as the run goes.
        began: Monotonic seconds at the run's beginning.
    """

    def __init__(
        self,
        report: RunReport,
        outputs: OutputPaths,
        listeners: Iterable[Listener],
        *,
        began: float | None = None,
    ) -> None:
        self.report = report
        self.began = time.monotonic() if began is None else began
        self._outputs = outputs
        self._listeners = tuple(listeners)
        self._sequence = 0
        self._stage: Stage | None = None
        self._stage_began = self.began

    def emit(self, event: BaseEvent) -> None:
        """Tell every listener; run id, sequence and time are filled in here."""
        self._sequence += 1
        stamped = event.model_copy(
            update={
                "run_id": self.report.run_id,
                "sequence": self._sequence,
                "at_ms": round((time.monotonic() - self.began) * 1000, 3),
            }
        )
        for listener in self._listeners:
            listener(stamped)

    def enter(self, stage: Stage, detail: str | None = None) -> None:
        """A phase begins; the one before it ends."""
        if stage is self._stage:
            return
        self.leave()
        self._stage, self._stage_began = stage, time.monotonic()
        self.emit(StageStarted(stage=stage, detail=detail))

    def leave(self) -> None:
        """The current phase ends."""
        if self._stage is None:
            return
        duration = round((time.monotonic() - self._stage_began) * 1000, 3)
        self.emit(StageFinished(stage=self._stage, duration_ms=duration))
        self._stage = None

    def warn(self, message: str) -> None:
        """Note something that a person should know; said once."""
        if message in self.report.warnings:
            return
        self.report.warnings.append(message)
        self.emit(Warned(message=message))

    def pass_on(self, text: str, rank: int | None) -> None:
        """Note a warning that the script itself logged."""
        self.report.warnings.append(f"script: {text}")
        self.emit(LogLine(text=text, rank=rank))

    def save(self) -> None:
        """Put the report on disk.

        Raises:
            OSError: The place cannot be written, or the disk is full.
        """
        document = self.report.model_dump_json(indent=2) + "\n"
        write_atomic(self._outputs.report, document.encode())

    def finish(self, error: OmniRTError | None) -> None:
        """Tell the end."""
        self.leave()
        self.emit(
            RunFinished(
                status=self.report.status,
                exit_code=error.exit_status if error else 0,
                report_path=str(self._outputs.report),
                output=self.report.artifacts[0].path if self.report.artifacts else None,
                error=error.message if error else None,
            )
        )
