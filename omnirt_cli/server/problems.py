"""The one error body of the server, and which HTTP status each of OmniRT's errors has.

`{"error": {"code", "message", "hint", "exit_code", "request_id", "job_id"}}`; codes and exit codes are those of the
command line. No traceback leaves the server.
"""

from __future__ import annotations

import errno
import json
import logging
import sqlite3
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from omnirt_cli.errors import (
    BusyError,
    InputInvalidError,
    InputMissingError,
    InternalError,
    IOFailureError,
    NotAuthorisedError,
    OmniRTError,
    RunTimeoutError,
    UsageError,
)
from omnirt_cli.files import storage_error
from omnirt_cli.report import ErrorInfo

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being answered; also in its log lines and its `X-Request-ID`."""

STATUS = {
    "usage": 400,
    "not_authorised": 403,
    "cancelled": 409,
    "input_missing": 422,
    "input_invalid": 422,
    "partial": 500,
    "internal": 500,
    "model_failed": 502,
    "output_invalid": 502,
    "out_of_device_memory": 503,
    "devices_unavailable": 503,
    "busy": 503,
    "config_invalid": 503,
    "timed_out": 504,
    "output_uncreatable": 507,
    "io_error": 507,
}
"""An error's code -> the status of a request that ends with it. Only a bug is a 500; a model that fails is a 502."""

_BY_STATUS: dict[int, type[OmniRTError]] = {
    401: NotAuthorisedError,
    403: NotAuthorisedError,
    404: InputMissingError,
    408: RunTimeoutError,
    413: InputInvalidError,
    416: InputInvalidError,
    429: BusyError,
    503: BusyError,
}
GONE = 499
"""The status, in the log only, of a request whose client went away before it was answered."""

_SHUT_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}

logger = logging.getLogger("omnirt.server")


class ErrorDetail(BaseModel):
    """What went wrong and what to do.

    Attributes:
        code: One of `omnirt`'s error codes.
        exit_code: What the command line would have ended with.
        request_id: To be found in the server's log.
        job_id: The job that failed, where there is one; its report and log tell more.
    """

    code: str
    message: str
    hint: str | None = None
    exit_code: int
    request_id: str = ""
    job_id: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer whose status is 400 or more."""

    error: ErrorDetail


class Problem(Exception):  # noqa: N818 - it is an answer
    """Ends a request with an error body.

    Attributes:
        status: HTTP status.
        error: What the body says.
        headers: Further headers, such as Retry-After.
    """

    def __init__(
        self,
        error: OmniRTError,
        status: int | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        job_id: str | None = None,
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.status = STATUS[error.code] if status is None else status
        self.headers = dict(headers or {})
        self.job_id = job_id

    def response(self) -> Response:
        """The answer."""
        error = self.error
        detail = ErrorDetail(
            code=error.code,
            message=error.message,
            hint=error.hint,
            exit_code=error.exit_status,
            request_id=REQUEST_ID.get(),
            job_id=self.job_id,
        )
        return error_response(detail, self.status, self.headers)


class RunProblem(Exception):  # noqa: N818 - it is an answer
    """A synchronous request's job ended badly; its own error is the answer."""

    def __init__(self, info: ErrorInfo, job_id: str) -> None:
        super().__init__(info.message)
        self.info = info
        self.job_id = job_id

    def response(self) -> Response:
        """The answer."""
        info = self.info
        detail = ErrorDetail(
            code=info.code,
            message=info.message,
            hint=info.hint,
            exit_code=info.exit_code,
            request_id=REQUEST_ID.get(),
            job_id=self.job_id,
        )
        return error_response(detail, STATUS.get(info.code, 500), {})


def error_response(detail: ErrorDetail, status: int, headers: Mapping[str, str]) -> Response:
    """An error body. Everything but ASCII is escaped: a caller may have sent half a surrogate pair."""
    body = json.dumps(ErrorBody(error=detail).model_dump(), ensure_ascii=True).encode("ascii")
    return Response(body, status_code=status, media_type="application/json", headers=dict(headers))


def not_found(what: str) -> Problem:
    """There is no such job, file or route."""
    return Problem(InputMissingError(what), 404)


def install(app: FastAPI) -> None:
    """Have every exception become an error body."""

    async def own(_request: Request, error: Exception) -> Response:
        assert isinstance(error, (Problem, RunProblem))
        return error.response()

    async def known(_request: Request, error: Exception) -> Response:
        assert isinstance(error, OmniRTError)
        return Problem(error).response()

    async def http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return of_status(error.status_code, str(error.detail), error.headers).response()

    async def schema(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return Problem(UsageError(_first(error.errors()), hint="see /docs"), 422).response()

    async def storage(_request: Request, error: Exception) -> Response:
        assert isinstance(error, OSError)
        if error.errno not in _SHUT_DISKS:
            raise error
        return Problem(storage_error(error, "the server could not store this request")).response()

    async def index(_request: Request, error: Exception) -> Response:
        logger.warning("the index of jobs fails", extra={"facts": {"error": str(error)}})
        hint = "is the disk full? the server's log says more"
        return Problem(IOFailureError("the index of jobs cannot be used now", hint=hint)).response()

    async def gone(_request: Request, _error: Exception) -> Response:
        return Response(status_code=GONE)

    async def bug(_request: Request, error: Exception) -> Response:
        return internal(error).response()

    app.add_exception_handler(Problem, own)
    app.add_exception_handler(RunProblem, own)
    app.add_exception_handler(OmniRTError, known)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, schema)
    app.add_exception_handler(sqlite3.Error, index)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(OSError, storage)
    app.add_exception_handler(Exception, bug)


def of_status(status: int, message: str, headers: Mapping[str, str] | None = None) -> Problem:
    """A fault that only HTTP knows."""
    return Problem(_BY_STATUS.get(status, UsageError)(message), status, headers=headers)


def internal(error: BaseException) -> Problem:
    """A bug; what it was is in the log, and nowhere else."""
    return Problem(InternalError(f"a bug in OmniRT: {type(error).__name__}", hint="the server's log has the traceback"))


def refuse_values(error: ValidationError) -> Problem:
    """A body that does not fit its schema; the values themselves are not repeated."""
    return Problem(UsageError(_first(error.errors()), hint="see /docs"), 422)


def _first(errors: Any) -> str:
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
