"""`omnirt.Client`: a server's renders from Python, as `omnirt.generate` has this machine's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from omnirt_cli.client.documents import Health, Job, JobPage, Model, ModelPage, read
from omnirt_cli.client.following import ENDS, Patience, follow, job_path
from omnirt_cli.errors import BusyError, InputMissingError, InternalError
from omnirt_cli.report import GenerateResult
from omnirt_cli.request import Audio2VideoRequest
from omnirt_cli.run.cancel import CancelToken
from omnirt_cli.run.events import BaseEvent
from omnirt_cli.settings import Layer, Surroundings

if TYPE_CHECKING:
    from os import PathLike

    from omnirt_cli.client.transport import Transport

TIMEOUT_S = 30.0
PATIENCE_S = 120.0
_PAGE = 100
_NOT_READY = frozenset({503})


class Client:
    """One server. May be used by several threads; close it, or use it in a `with`."""

    def __init__(
        self, base_url: str, api_key: str | None = None, timeout: float = TIMEOUT_S, *, patience: float = PATIENCE_S
    ) -> None:
        """Nothing is sent yet.

        Args:
            base_url: The server's address, e.g. `http://render-1:8000`.
            api_key: One of its keys, where it wants one.
            timeout: Seconds that a connection, or the next part of an answer, may take.
            patience: Seconds that the server may be away while a job is followed or its files are fetched.

        Raises:
            UsageError: That is no address of a server.
            InputMissingError: The extra `client` is not installed.
        """
        self._transport = _transport(base_url, api_key, timeout)
        self._patience_s = patience

    @property
    def url(self) -> str:
        """The server's address."""
        return self._transport.url

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._transport.close()

    # Renders

    def generate(
        self,
        request: Audio2VideoRequest,
        *,
        on_event: Callable[..., None] | None = None,
        cancel: CancelToken | None = None,
        output: str | PathLike[str] | None = None,
        on_note: Callable[[str], None] | None = None,
        request_file: Layer | None = None,
        surroundings: Surroundings | None = None,
    ) -> GenerateResult:
        """Render one request there, and bring video, report and log here.

        Args:
            request: What is wanted. `output`, `output_dir` and `no_clobber` say where the files go on this machine.
            on_event: Called with every event, in order, in this thread.
            cancel: A token by which another thread or a signal handler stops the run, and with it the job.
            output: The video's path, ending in .mp4, in place of the request's.
            on_note: Called with words about the connection: which job it is, that the server is away.
            request_file: The `--config` file's layer, where there is one.
            surroundings: Environment, working directory and user files; this process's by default.

        Returns:
            As `omnirt.generate`: its paths are this machine's.

        Raises:
            OmniRTError: The run failed, as it would have here, or the server refused or was lost; the error carries
                the report where there is one.
        """
        from omnirt_cli.client.order import destination_of, order_of
        from omnirt_cli.client.remote_run import Caller, RemoteRun

        around = surroundings or Surroundings.current()
        if output is not None:
            request = _with_output(request, output)
        order = order_of(request, request_file, around)
        destination = destination_of(order, request, request_file, around)
        token = cancel or CancelToken()
        try:
            caller = Caller(on_event, on_note, token, self._patience_s)
            return RemoteRun(self._transport, order, destination, caller).run()
        finally:
            if cancel is None:
                token.close()

    def submit(self, request: Audio2VideoRequest, *, priority: str = "normal") -> Job:
        """Have a request rendered in the background. Where its files go is said to `collect`.

        Args:
            request: What is wanted.
            priority: high, normal or low.

        Raises:
            BusyError: Too many jobs wait.
            OmniRTError: The request is refused, here or there.
        """
        from omnirt_cli.client.courier import submit
        from omnirt_cli.client.order import order_of

        return submit(self._transport, order_of(request, None, Surroundings.current(), priority=priority))

    def collect(self, job_id: str, output: str | PathLike[str], *, no_clobber: bool = False) -> GenerateResult:
        """Bring the files of a job that succeeded.

        Args:
            job_id: Which job.
            output: The video's path, ending in .mp4; report and log go beside it.
            no_clobber: Refuse to replace a video.

        Raises:
            BusyError: The job is not over.
            OmniRTError: The job failed, as its error says, or its files cannot be brought.
        """
        from omnirt_cli.client.delivery import Delivery
        from omnirt_cli.client.order import destination_at
        from omnirt_cli.client.remote_run import error_of_job
        from omnirt_cli.server.jobs.states import JobState

        destination = destination_at(Path(output), no_clobber=no_clobber)
        job = self.job(job_id)
        if not job.state.final:
            raise BusyError(f"job {job_id} is {job.state.value}", hint="its events tell when it is done")
        if job.state is not JobState.SUCCEEDED:
            raise error_of_job(job)
        delivery = Delivery(self._transport, destination, patience_s=self._patience_s)
        report = delivery.report(job_id)
        if report is None:
            raise InternalError(f"job {job_id} succeeded and left no report")
        delivery.everything(job_id, report)
        return GenerateResult(outputs=report.artifacts, metadata=report)

    # Jobs

    def job(self, job_id: str) -> Job:
        """A job as it is now.

        Raises:
            InputMissingError: There is none of that id.
        """
        return read(Job, self._transport.ask("GET", job_path(job_id)), self.url)

    def jobs(self, *, state: str | None = None, model: str | None = None) -> Iterator[Job]:
        """The server's jobs, newest first; they are asked for page by page.

        Args:
            state: Only those in this state.
            model: Only those of this model, by its id.
        """
        asked: dict[str, str | int] = {"limit": _PAGE}
        asked |= {key: value for key, value in (("state", state), ("model", model)) if value is not None}
        while True:
            page = read(JobPage, self._transport.ask("GET", "/v1/jobs", params=asked), self.url)
            yield from page.data
            if page.next is None:
                return
            asked["cursor"] = page.next

    def cancel(self, job_id: str) -> Job:
        """End a job: one that waits at once, one that runs as soon as it has stopped. One that is over stays.

        Raises:
            InputMissingError: There is none of that id.
        """
        return read(Job, self._transport.ask("DELETE", job_path(job_id)), self.url)

    def events(self, job_id: str) -> Iterator[BaseEvent]:
        """A job's events from the first one on, as they happen, until it is over; cut connections are made again.

        Their paths are the server's.

        Raises:
            OmniRTError: There is no such job, or the server was away for longer than `patience`.
        """
        from omnirt_cli.client.narration import read_event

        for sent in follow(self._transport, job_id, Patience(self._patience_s)):
            event = None if sent.name in ENDS else read_event(sent.data)
            if event is not None:
                yield event

    # The server

    def models(self) -> list[Model]:
        """The models, with their presets and knobs, and whether they can be rendered right now."""
        return read(ModelPage, self._transport.ask("GET", "/v1/models"), self.url).data

    def health(self) -> Health:
        """Whether the server can render, and which models."""
        return read(Health, self._transport.ask("GET", "/readyz", also=_NOT_READY), self.url)


def _transport(base_url: str, api_key: str | None, timeout: float) -> Transport:
    try:
        from omnirt_cli.client.transport import Transport
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise InputMissingError(
            "talking to a server needs httpx", hint="install it with `pip install 'omnirt[client]'`"
        ) from error
    return Transport(base_url, api_key, timeout)


def _with_output(request: Audio2VideoRequest, output: str | PathLike[str]) -> Audio2VideoRequest:
    config = request.config.model_copy(update={"output": str(Path(output)), "output_dir": None})
    return request.model_copy(update={"config": config})
