"""How a server is set up: every option with its default, and what does not go together.

Reads nothing of any request.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from omnirt_cli.errors import UsageError

MIB = 1 << 20
LOCALHOST = "localhost"


@dataclass(frozen=True)
class ServerOptions:
    """One server's settings.

    Attributes:
        state_dir: Where jobs, their files and their index are kept; one server at a time has it.
        media_root: Paths in requests must lie under it; None where requests may name no paths.
        api_keys: The keys that are taken; none where everybody who reaches the port may call.
        allowed_hosts: Names in `Host` besides the bound ones.
        backend: For requests that name none.
        resident: Keep models loaded between jobs, where the model can be kept and nothing else says how to run it.
        max_concurrency: Renders at a time.
        pipeline_cache_size: Resident workers that this server keeps at most when they have nothing to do.
        max_queue: Jobs that may wait.
        job_ttl_s: Seconds that a finished job and its files are kept.
        max_finished: Finished jobs that are kept at most, the newest ones.
        job_timeout_s: Seconds that a render may take at most; 0: as the request and the settings say.
        device_wait_s: Seconds that a job waits for devices that other programs hold.
        max_upload_bytes: The files of one request together.
        max_image_pixels: Of a portrait.
        drain_s: Seconds that running jobs get to finish when the server is asked to end.
    """

    host: str
    port: int
    state_dir: Path
    media_root: Path | None
    api_keys: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    backend: str | None = None
    resident: bool = True
    max_concurrency: int = 1
    pipeline_cache_size: int = 4
    max_queue: int = 64
    job_ttl_s: float = 7 * 86_400.0
    max_finished: int = 1000
    job_timeout_s: float = 0.0
    device_wait_s: float = 60.0
    max_upload_bytes: int = 512 * MIB
    max_image_pixels: int = 50_000_000
    drain_s: float = 30.0


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name counts where all its addresses do.

    Raises:
        UsageError: The name has no address.
    """
    if host == LOCALHOST:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = {str(facts[4][0]) for facts in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise UsageError(f"--host {host}: {error.strerror or error}", hint="give an address of this machine") from error
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def refuse_open_door(host: str, api_keys: tuple[str, ...], *, insecure: bool) -> None:
    """Other machines may reach a server only with a key, unless somebody says that this is wanted.

    Raises:
        UsageError: They could without.
    """
    if api_keys or insecure or is_loopback(host):
        return
    raise UsageError(
        f"--host {host} can be reached from other machines, and there are no API keys",
        hint="give --api-key-file, or keep to --host 127.0.0.1; --insecure lets everybody in",
    )


def default_media_root(host: str, cwd: Path) -> Path | None:
    """The working directory for callers on this machine, who could read it anyway; nothing for others."""
    return cwd if is_loopback(host) else None
