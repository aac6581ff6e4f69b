"""A job's files, brought to this machine: each is whole under its name, or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from omnirt_cli.client.answers import CUTS, ForeignError
from omnirt_cli.client.documents import read
from omnirt_cli.client.following import Patience, job_path
from omnirt_cli.client.order import Destination, Order
from omnirt_cli.client.transport import Transport
from omnirt_cli.errors import InputMissingError, IOFailureError, OmniRTError
from omnirt_cli.files import current_umask, storage_error, write_atomic
from omnirt_cli.report import RunReport
from omnirt_cli.run.publish import put_in_place


class Delivery:
    """Brings jobs' files to one place."""

    def __init__(
        self,
        transport: Transport,
        destination: Destination,
        *,
        patience_s: float,
        on_note: Callable[[str], None] | None = None,
        order: Order | None = None,
        heed: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is asked for yet.

        Args:
            transport: From where.
            destination: To where.
            patience_s: Seconds without a sign of life after which it is given up.
            on_note: Told in words of a server that is away.
            order: What was sent, where this client sent it.
            heed: Called again and again while files come; may raise to break off.
        """
        self._transport = transport
        self._to = destination
        self._order = order
        self._heed = heed
        self._patience = Patience(patience_s, on_note=on_note)

    def report(self, job_id: str) -> RunReport | None:
        """The run's report, with this machine's paths; None where the render did not begin.

        Raises:
            OmniRTError: It cannot be had.
        """
        try:
            document = self._asked(job_path(job_id, "report"))
        except (*CUTS, ForeignError):
            raise
        except InputMissingError:
            return None
        return self._localised(read(RunReport, document, self._transport.url))

    def everything(self, job_id: str, report: RunReport) -> None:
        """Put video, report and log in their places, once all of them are here.

        The log is the last one: a run holds the one that was there before, and with it the place.

        Raises:
            OmniRTError: One of them cannot be had, is damaged, or cannot be stored.
        """
        outputs = self._to.outputs
        with contextlib.ExitStack() as held:
            log = self._fetched_log(job_id, held)
            video, digest = held.enter_context(self._fetched(job_id, "video"))
            if report.artifacts and digest != report.artifacts[0].sha256:
                raise IOFailureError(
                    "the video arrived damaged: its SHA-256 is not the report's",
                    hint=f"something on the way changes files; the job is {job_id} on {self._transport.url}",
                )
            put_in_place(video, outputs.video, no_clobber=self._to.no_clobber)
            self.save(report)
            if log is not None:
                log.replace(outputs.log)

    def log(self, job_id: str) -> None:
        """Put the log in its place, where there is one.

        Raises:
            OmniRTError: It cannot be had, or cannot be stored.
        """
        with contextlib.ExitStack() as held:
            log = self._fetched_log(job_id, held)
            if log is not None:
                log.replace(self._to.outputs.log)

    def _fetched_log(self, job_id: str, held: contextlib.ExitStack) -> Path | None:
        try:
            return held.enter_context(self._fetched(job_id, "log"))[0]
        except (*CUTS, ForeignError):
            raise
        except InputMissingError:
            return None  # the render did not begin

    def save(self, report: RunReport) -> None:
        """Put the report in its place.

        Raises:
            OmniRTError: It cannot be stored.
        """
        try:
            write_atomic(self._to.outputs.report, (report.model_dump_json(indent=2) + "\n").encode())
        except OSError as error:
            raise storage_error(error, "the report cannot be stored") from error

    def _asked(self, path: str) -> object:
        while True:
            try:
                return self._transport.ask("GET", path)
            except CUTS as cut:  # noqa: PERF203 - each try may fail by itself
                self._patience.bear(cut)

    def _localised(self, report: RunReport) -> RunReport:
        """The report with the paths that its files have here; what ran, and where, stays as the server tells it."""
        outputs = self._to.outputs
        for artifact in report.artifacts:
            if artifact.kind == "video":
                artifact.path = str(outputs.video)
        report.log_path = str(outputs.log)
        if self._order is not None:
            inputs = {"image": str(self._order.image), "audio": str(self._order.audio)}
            for name, info in report.inputs.items():
                info.path = inputs.get(name, info.path)
            if isinstance(report.request.get("inputs"), dict):
                report.request["inputs"].update(inputs)
        if isinstance(report.request.get("config"), dict):
            report.request["config"]["output"] = str(outputs.video)
        return report

    @contextlib.contextmanager
    def _fetched(self, job_id: str, part: str) -> Iterator[tuple[Path, str]]:
        """A file under a name that nobody knows, and its SHA-256; gone afterwards, where it was not given another.

        Raises:
            OmniRTError: It cannot be had, or cannot be stored.
        """
        temporary: Path | None = None
        try:
            self._to.outputs.folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._to.outputs.folder, prefix=".omnirt-", suffix=".tmp")
            temporary = Path(name)
            with os.fdopen(descriptor, "w+b") as file:
                os.fchmod(descriptor, 0o666 & ~current_umask())
                self._fetch(job_path(job_id, part), file)
                file.flush()
                file.seek(0)
                digest = _digest(file)
            yield temporary, digest
        except OSError as error:
            raise self._unstored(error, job_id, part) from error
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)

    def _fetch(self, path: str, file: BinaryIO) -> None:
        """Get a file's bytes; after a cut go on where it stopped."""
        while True:
            got = file.tell()
            try:
                with self._transport.stream(path, {"Range": f"bytes={got}-"} if got else None) as incoming:
                    if incoming.whole and got:
                        file.seek(0)
                        file.truncate()
                    for block in incoming.blocks:
                        file.write(block)
                        self._patience.heard()
                        self._heed()
                return
            except CUTS as cut:
                self._patience.bear(cut)

    def _unstored(self, error: OSError, job_id: str, part: str) -> OmniRTError:
        stored = storage_error(error, f"the {part} cannot be stored")
        there = f"the job's files stay on {self._transport.url} for a while: job {job_id}"
        stored.hint = f"{stored.hint}; {there}" if stored.hint else there
        return stored


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
