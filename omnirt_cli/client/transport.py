"""HTTP, and the one module that knows httpx: what goes wrong on the way becomes OmniRT's errors here.

The API key goes into a header, and nowhere else.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from omnirt_cli import __version__
from omnirt_cli.client.answers import CutOffError, UnreachableError, error_of_answer, not_a_server
from omnirt_cli.errors import UsageError

_ERRORS_FROM = 400
_REDIRECTS_FROM = 300
_MOST_ERROR_BYTES = 1 << 20
_LONGEST_SILENCE_S = 45.0
"""A server tells every fifteen seconds that a stream of events still lives."""
_LONGEST_TAKING_IN_S = 120.0
"""A server copies what was sent before it answers."""


@dataclass(frozen=True)
class Incoming:
    """An answer whose body is still on its way.

    Attributes:
        whole: The body begins with the first byte; False for the rest of a file.
    """

    whole: bool
    blocks: Iterator[bytes]


class Transport:
    """The connection to one server; may be used by several threads.

    Attributes:
        url: The server's address.
    """

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        """Nothing is sent yet.

        Raises:
            UsageError: That is no address of a server, or the key cannot be sent.
        """
        address = _address(url)
        self.url = str(address).rstrip("/")
        self._timeout_s = timeout_s
        headers = {"User-Agent": f"omnirt/{__version__}", "Accept-Encoding": "identity"}
        if api_key is not None:
            if not (api_key.isascii() and api_key.isprintable() and api_key):
                raise UsageError("the API key has characters that cannot be sent", hint="it is printable ASCII")
            headers["Authorization"] = f"Bearer {api_key}"
        # A proxy of the environment has no way to this machine's own loopback.
        self._http = httpx.Client(
            base_url=address, headers=headers, timeout=timeout_s, trust_env=not _is_loopback(address.host)
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        also: frozenset[int] = frozenset(),
        timeout_s: float | None = None,
    ) -> Any:
        """Send a request without a body; its answer is a JSON document.

        Args:
            method: HTTP method.
            path: Under the server's address.
            params: The query.
            also: Statuses of 400 or more whose answer is a document all the same.
            timeout_s: Another than the client's.

        Raises:
            UnreachableError, CutOffError: There was no whole answer.
            OmniRTError: The server refused.
        """
        with self._translated():
            answer = self._http.request(method, path, params=params, timeout=timeout_s or self._timeout_s)
        return self._document(answer, also)

    def send_form(self, path: str, parts: Mapping[str, Any]) -> Any:
        """Send a form; its answer is a JSON document.

        Args:
            path: Under the server's address.
            parts: Name -> (file name or None, content or open file, content type).

        Raises:
            UnreachableError, CutOffError: There was no whole answer.
            OmniRTError: The server refused.
            Exception: Whatever an open file raises when it is read.
        """
        patient = httpx.Timeout(self._timeout_s, read=max(self._timeout_s, _LONGEST_TAKING_IN_S))
        with self._translated():
            answer = self._http.post(path, files=dict(parts), timeout=patient)
        return self._document(answer, frozenset())

    @contextlib.contextmanager
    def stream(self, path: str, headers: Mapping[str, str] | None = None) -> Iterator[Incoming]:
        """Get a body as it comes.

        Raises:
            UnreachableError, CutOffError: It did not come whole, or there was a long silence.
            OmniRTError: The server refused.
        """
        patient = httpx.Timeout(self._timeout_s, read=max(self._timeout_s, _LONGEST_SILENCE_S))
        with self._translated(), self._http.stream("GET", path, headers=headers, timeout=patient) as answer:
            if answer.status_code >= _REDIRECTS_FROM:
                answer.read()
                self._refuse(answer)
            yield Incoming(answer.status_code != httpx.codes.PARTIAL_CONTENT, answer.iter_bytes())

    def _document(self, answer: httpx.Response, also: frozenset[int]) -> Any:
        if answer.status_code not in also:
            self._refuse(answer)
        try:
            return answer.json()
        except ValueError:
            self._refuse(answer)
            raise not_a_server(self.url, "its answer is not JSON") from None

    def _refuse(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if status >= _ERRORS_FROM:
            raise error_of_answer(status, answer.content[:_MOST_ERROR_BYTES], self.url)
        if status >= _REDIRECTS_FROM:
            raise not_a_server(self.url, f"it sends callers on to {answer.headers.get('location', 'nowhere')}")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise UnreachableError(
                f"{self.url} cannot be reached: {error}", hint="is `omnirt serve` running there, at that port?"
            ) from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            what = str(error) or type(error).__name__
            raise CutOffError(f"the connection to {self.url} was lost: {what}", hint="try again") from error


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise _no_address(url) from None
    if address.userinfo:
        raise UsageError("--server: an address has no user or password in it", hint="give the key in --api-key-file")
    if address.scheme not in ("http", "https") or not address.host or address.query or address.fragment:
        raise _no_address(url)
    return address


def _no_address(url: str) -> UsageError:
    return UsageError(f"--server {url}: this is no server's address", hint="write it as http://HOST:PORT")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
