"""A job's events as a run on this machine would tell them: typed, with this machine's paths, and `run_finished` last.

The server's own `run_finished` is held back: the run is over when its files are here.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from omnirt_cli.errors import OmniRTError
from omnirt_cli.output_paths import OutputPaths
from omnirt_cli.report import RunReport
from omnirt_cli.run.events import BaseEvent, Event, Listener, RunFinished, RunStarted

_EVENT: TypeAdapter[Any] = TypeAdapter(Event)


def read_event(text: str) -> BaseEvent | None:
    """An event's document as an event; None for a kind that this version does not know."""
    try:
        event = _EVENT.validate_json(text)
    except ValidationError:
        return None
    assert isinstance(event, BaseEvent)
    return event


class Narration:
    """Tells one run to a listener."""

    def __init__(self, outputs: OutputPaths, listener: Listener | None) -> None:
        self._outputs = outputs
        self._listener = listener
        self._last: BaseEvent = BaseEvent()

    def tell(self, text: str) -> None:
        """An event of the server."""
        event = read_event(text)
        if event is None:
            return
        self._last = event
        if isinstance(event, RunStarted):
            here = {"output": str(self._outputs.video), "log_path": str(self._outputs.log)}
            self._pass_on(event.model_copy(update=here))
        elif not isinstance(event, RunFinished):
            self._pass_on(event)

    def end(self, report: RunReport, error: OmniRTError | None) -> None:
        """The last event, when everything is here that will be.

        Args:
            report: As it is on disk here.
            error: Why the run failed.
        """
        last = self._last
        self._pass_on(
            RunFinished(
                run_id=report.run_id,
                sequence=last.sequence if isinstance(last, RunFinished) else last.sequence + 1,
                at_ms=last.at_ms,
                status=report.status,
                exit_code=error.exit_status if error else 0,
                report_path=str(self._outputs.report),
                output=report.artifacts[0].path if report.artifacts else None,
                error=error.message if error else None,
            )
        )

    def _pass_on(self, event: BaseEvent) -> None:
        if self._listener is not None:
            self._listener(event)
