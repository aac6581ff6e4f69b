"""One render on a server, from the order to the files here: the counterpart of `run.render`."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from omnirt_cli.client.answers import CUTS, CutOffError, error_of_info
from omnirt_cli.client.courier import Accepted, Courier, Ended, Happened, StoppedError
from omnirt_cli.client.delivery import Delivery
from omnirt_cli.client.documents import Job
from omnirt_cli.client.following import job_path
from omnirt_cli.client.narration import Narration
from omnirt_cli.client.order import Destination, Order, busy
from omnirt_cli.client.transport import Transport
from omnirt_cli.errors import CancelledRunError, InternalError, IOFailureError, OmniRTError, RunTimeoutError
from omnirt_cli.files import storage_error
from omnirt_cli.report import GenerateResult, RunReport, RunStatus
from omnirt_cli.run.cancel import CancelToken, Interrupted
from omnirt_cli.run.events import Listener
from omnirt_cli.run.reporting import set_error
from omnirt_cli.run.run_log import RunLog
from omnirt_cli.run.stamps import utc_now
from omnirt_cli.server.jobs.states import JobState

_LOOK_S = 0.1
_WORD_S = 10.0
"""How long the server may take to hear that a job shall end, before it is left to itself."""
_AT_ONCE_S = 5.0
"""How long a job may take to stop after a second ask."""
_PERHAPS_TAKEN = "the server may have taken the job all the same: look at its jobs before you try again"


@dataclass(frozen=True)
class Caller:
    """Who wants the render.

    Attributes:
        on_event: Gets the run's events.
        on_note: Gets words about the connection: which job it is, that the server is away.
        cancel: By which the caller may stop it.
        patience_s: Seconds that the server may be away.
    """

    on_event: Listener | None
    on_note: Callable[[str], None] | None
    cancel: CancelToken
    patience_s: float


@dataclass
class _Stopping:
    """A run that shall end.

    Attributes:
        error: Why.
        give_up_at: When nobody waits for the server any longer; None while it is at it.
        told: The server knows.
        asks: How often the caller had asked when it was told.
    """

    error: OmniRTError
    give_up_at: float | None
    told: bool = False
    asks: int = 0


class RemoteRun:
    """One render on a server."""

    def __init__(self, transport: Transport, order: Order, destination: Destination, caller: Caller) -> None:
        self._transport = transport
        self._order = order
        self._outputs = destination.outputs
        self._caller = caller
        self._narration = Narration(destination.outputs, caller.on_event)
        self._courier = Courier(transport, order, caller.patience_s, caller.on_note)
        self._delivery = Delivery(
            transport,
            destination,
            patience_s=caller.patience_s,
            on_note=caller.on_note,
            order=order,
            heed=self._refuse_if_over,
        )
        self._deadline = time.monotonic() + order.timeout_s if order.timeout_s else None
        self._job_id: str | None = None
        self._report: RunReport | None = None
        self._stopping: _Stopping | None = None

    def run(self) -> GenerateResult:
        """Render, and bring the files.

        Raises:
            OmniRTError: The run failed there, or its files could not be brought; it carries the report, if any.
        """
        with contextlib.ExitStack() as held:
            try:
                self._courier.start()
                report = self._bring(self._until_over(held))
            except OmniRTError as error:
                self._close(error)
                raise
            except BaseException:
                # A listener's own error, or a Ctrl-C that nobody handles: nobody wants this video any longer.
                self._stop_job()
                raise
            finally:
                self._courier.stop()
        self._narration.end(report, None)
        return GenerateResult(outputs=report.artifacts, metadata=report)

    def _close(self, error: OmniRTError) -> None:
        """Leave a report that says how the run ended, where it got as far as to have one."""
        report = error.report = self._report
        if report is None:
            return
        told = report.error
        if told is None or (told.code, told.exit_code) != (error.code, error.exit_status):
            report.error, report.artifacts = None, []
            set_error(report, error)
        report.finished_at = report.finished_at or utc_now()
        with contextlib.suppress(OmniRTError):  # a full disk is told by the error itself
            self._delivery.save(report)
        self._narration.end(report, error)

    # While it runs

    def _until_over(self, held: contextlib.ExitStack) -> Job:
        while True:
            self._heed_caller()
            item = self._courier.next(_LOOK_S)
            if isinstance(item, Ended):
                return item.job
            if isinstance(item, Happened):
                self._narration.tell(item.document)
            elif isinstance(item, Accepted):
                self._begin(item.job, held)
            elif isinstance(item, StoppedError):
                assert self._stopping is not None
                raise self._stopping.error
            elif item is not None:
                raise self._lost(item)

    def _begin(self, job: Job, held: contextlib.ExitStack) -> None:
        """The server has the job: take its place here, with a report by which it is found again.

        Raises:
            OmniRTError: The place is taken, or cannot be written; nobody renders for it.
        """
        self._job_id = job.id
        if self._caller.on_note is not None:
            waits = f"; jobs before it: {job.position}" if job.position else ""
            self._caller.on_note(f"job {job.id} on {self._transport.url}{waits}")
        report = self._new_report(job)
        try:
            self._hold_place(held)
            self._delivery.save(report)
        except OmniRTError:
            self._stop_job()
            raise
        self._report = report

    def _hold_place(self, held: contextlib.ExitStack) -> None:
        """Hold the log, as a run on this machine does, so that no two runs mix their files."""
        try:
            self._outputs.folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(RunLog.open(self._outputs.log))
        except BlockingIOError as error:
            raise busy(self._outputs) from error
        except OSError as error:
            raise storage_error(error, "the log cannot be made") from error

    def _new_report(self, job: Job) -> RunReport:
        """What is known of the run until the server's own report is here."""
        return RunReport(
            run_id=job.id,
            status=RunStatus.RUNNING,
            model=job.model,
            backend=job.backend,
            started_at=utc_now(),
            request=self._order.asked,
            log_path=str(self._outputs.log),
            job_id=job.id,
        )

    def _lost(self, error: BaseException) -> BaseException:
        """What the caller is told when an order or a stream came to nothing."""
        if not isinstance(error, OmniRTError):
            return error
        if self._stopping is not None:
            return self._reason()
        if self._job_id is not None and isinstance(error, CUTS):
            return IOFailureError(
                f"the server was lost: {error.message}",
                hint=f"job {self._job_id} may go on there; in Python, Client(URL).collect(ID, FILE) fetches its files",
            )
        if isinstance(error, CutOffError):
            error.hint = _PERHAPS_TAKEN
        return error

    # When it shall stop

    def _heed_caller(self) -> None:
        """Stop the job where the caller wants that, or the time is over.

        Raises:
            OmniRTError: It has been asked for, and the server does not answer.
        """
        asks = self._caller.cancel.asks
        if self._stopping is None:
            if not asks and not self._out_of_time:
                return
            self._stopping = _Stopping(self._why(), give_up_at=time.monotonic() + _WORD_S)
        stopping = self._stopping
        if self._job_id is None:
            self._courier.stop_sending()
            stopping.give_up_at = time.monotonic() if asks > 1 else stopping.give_up_at
        elif not stopping.told or asks > stopping.asks:
            stopping.told = self._stop_job()
            if stopping.told:
                stopping.give_up_at = time.monotonic() + _AT_ONCE_S if asks > 1 else None
        stopping.asks = asks
        if stopping.give_up_at is not None and time.monotonic() > stopping.give_up_at:
            raise self._reason()

    @property
    def _out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

    def _why(self) -> OmniRTError:
        if self._caller.cancel.asked:
            number = self._caller.cancel.signal_number or signal.SIGINT
            return CancelledRunError(f"cancelled by {signal.Signals(number).name}", signal_number=number)
        return RunTimeoutError(
            "the run took longer than --timeout; it was stopped", hint="raise --timeout, or shorten it"
        )

    def _reason(self) -> OmniRTError:
        """Why it was stopped, where the server did not tell the job's end."""
        assert self._stopping is not None
        error = self._stopping.error
        error.hint = _PERHAPS_TAKEN
        if self._job_id is not None:
            error.hint = f"job {self._job_id} may still run on {self._transport.url}: the server did not tell its end"
        return error

    def _stop_job(self) -> bool:
        """Have the server end the job; False where it did not hear of it."""
        if self._job_id is None:
            return False
        try:
            self._transport.ask("DELETE", job_path(self._job_id), timeout_s=_AT_ONCE_S)
        except OmniRTError:
            return False
        return True

    def _refuse_if_over(self) -> None:
        """While files come: the asks of those who have no signals, and the time."""
        if self._stopping is None and (self._caller.cancel.asked or self._out_of_time):
            raise self._why()

    # When it is over

    def _bring(self, job: Job) -> RunReport:
        """Bring the job's files.

        Raises:
            OmniRTError: The job failed, or a file cannot be brought.
        """
        cancel = self._caller.cancel
        try:
            with cancel.interruptible_again() if self._stopping else cancel.interruptible():
                found = self._delivery.report(job.id)
                self._report = found or self._report
                error = self._ending(job, found)
                if error is None:
                    assert found is not None
                    self._delivery.everything(job.id, found)
                    return found
                self._delivery.log(job.id)
        except Interrupted:
            error = self._why()
        raise error

    def _ending(self, job: Job, report: RunReport | None) -> OmniRTError | None:
        """How the job ended: None where its video can be had."""
        if self._stopping is not None:
            return self._stopping.error
        if job.state is JobState.SUCCEEDED:
            return None if report is not None else InternalError(f"job {job.id} succeeded and left no report")
        return error_of_job(job)


def error_of_job(job: Job) -> OmniRTError:
    """Why a job has no video."""
    return error_of_info(job.error) if job.error else CancelledRunError("the job was cancelled on the server")
