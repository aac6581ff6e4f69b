"""What an answer of the server means: its error body becomes the same error that a run on this machine would raise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from omnirt_cli.errors import ERRORS, CancelledRunError, InputMissingError, IOFailureError, OmniRTError
from omnirt_cli.report import ErrorInfo

_BY_CODE = {kind.code: kind for kind in ERRORS}
_UNAUTHORISED = 401
_OF_A_GATEWAY = frozenset({502, 503, 504})
_SIGNAL_BASE = 128


class UnreachableError(InputMissingError):
    """No connection to the server; nothing was sent."""


class CutOffError(IOFailureError):
    """The connection was lost before the whole answer was there."""


class ForeignError(InputMissingError):
    """What answers is no OmniRT server."""


CUTS = (UnreachableError, CutOffError)
"""What may be gone when it is tried again."""


def error_of_info(info: ErrorInfo) -> OmniRTError:
    """The error that an error's document stands for; an unknown code of a newer server is a failed input or output."""
    kind = _BY_CODE.get(info.code, IOFailureError)
    if kind is CancelledRunError:
        return CancelledRunError(info.message, hint=info.hint, signal_number=info.exit_code - _SIGNAL_BASE)
    return kind(info.message, hint=info.hint)


def error_of_answer(status: int, body: bytes, url: str) -> OmniRTError:
    """The error of an answer of 400 or more.

    Args:
        status: HTTP status.
        body: The answer's body, the server's error body where it comes from an OmniRT server.
        url: The server, for messages.
    """
    detail = _detail(body)
    if detail is None:
        return _foreign(status, url)
    if status == _UNAUTHORISED:
        # The server's hint is about HTTP; whoever reads this has a flag or an argument.
        detail["hint"] = "give --api-key-file FILE, or in Python Client(URL, api_key=KEY)"
    return error_of_info(
        ErrorInfo(
            code=str(detail.get("code")),
            message=str(detail.get("message")),
            hint=detail.get("hint"),
            exit_code=int(detail.get("exit_code") or IOFailureError.exit_code),
        )
    )


def not_a_server(url: str, what: str) -> ForeignError:
    """Something else answers at that address."""
    return ForeignError(f"{url} is not an OmniRT server: {what}", hint="check the address")


def _detail(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    found = document.get("error") if isinstance(document, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else None


def _foreign(status: int, url: str) -> OmniRTError:
    if status in _OF_A_GATEWAY:
        return CutOffError(f"{url} answers {status}: the server or what stands before it is overloaded or not there")
    return not_a_server(url, f"it answers {status}")
