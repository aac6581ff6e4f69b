"""`omnirt serve`: the same renders over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from omnirt_cli import console
from omnirt_cli.errors import InputMissingError, OutputUncreatableError, UsageError
from omnirt_cli.request import BackendChoice

if TYPE_CHECKING:
    from omnirt_cli.server.options import ServerOptions

HELP = """Serve renders over HTTP: jobs, progress, videos. Needs `pip install 'omnirt[server]'`.

Example:

\b
  omnirt serve
"""

API_KEY_FILE_VARIABLE = "OMNIRT_API_KEY_FILE"
INSECURE_VARIABLE = "OMNIRT_INSECURE"

_NEEDED = ("fastapi", "uvicorn", "sse_starlette", "prometheus_client", "python_multipart")
_WEEK_S = 7 * 86_400.0


def _access(flags: str, help_text: str, **more: Any) -> Any:
    return typer.Option(*flags.split(), help=help_text, rich_help_panel="Who may call", **more)


def _jobs(flags: str, help_text: str, **more: Any) -> Any:
    return typer.Option(*flags.split(), help=help_text, rich_help_panel="Jobs", **more)


# Typer reads these at run time, on Python 3.10 too: hence no `X | None` in them.
Host = Annotated[str, _access("--host", "Address to listen on.")]
Port = Annotated[int, _access("--port", "Port; 0: any.", min=0, max=65535)]
KeyFile = Annotated[Optional[Path], _access("--api-key-file", "API keys, one a line.")]  # noqa: UP045
Insecure = Annotated[bool, _access("--insecure", "Let other machines in without a key.")]
AllowHost = Annotated[Optional[list[str]], _access("--allow-host", "A further name in Host, repeatable.")]  # noqa: UP045
MediaRoot = Annotated[
    Optional[Path],  # noqa: UP045
    _access("--media-root", "Paths in requests lie under it. Default: here, when on loopback; else none are taken."),
]
Backend = Annotated[Optional[BackendChoice], _jobs("--backend", "For requests that name none.")]  # noqa: UP045
Resident = Annotated[bool, _jobs("--resident/--no-resident", "Keep models loaded where they can be.")]
MaxConcurrency = Annotated[int, _jobs("--max-concurrency", "Renders at a time.", min=1, max=64)]
CacheSize = Annotated[int, _jobs("--pipeline-cache-size", "Idle resident workers kept at most.", min=0)]
MaxQueue = Annotated[int, _jobs("--max-queue", "Jobs that may wait.", min=1)]
JobTtl = Annotated[float, _jobs("--job-ttl", "Seconds that finished jobs and their files are kept.", min=1)]
MaxFinished = Annotated[int, _jobs("--max-finished", "Finished jobs kept at most.", min=1)]
JobTimeout = Annotated[float, _jobs("--job-timeout", "Seconds a render may take; 0: no limit.", min=0)]
DeviceWait = Annotated[float, _jobs("--device-wait", "Seconds a job waits for devices.", min=0)]
MaxUpload = Annotated[int, _jobs("--max-upload-mib", "The files of one request.", min=1)]
MaxPixels = Annotated[float, _jobs("--max-image-megapixels", "Of a portrait.", min=0.1)]
Drain = Annotated[float, _jobs("--drain", "Seconds that running jobs get when the server is to end.", min=0)]
StateDir = Annotated[
    Optional[Path],  # noqa: UP045
    _jobs("--state-dir", "Jobs and their files. Default: in OmniRT's data directory."),
]
LogFormat = Annotated[str, typer.Option("--log-format", help="auto, json or text.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document once it listens.")]


def register(app: typer.Typer) -> None:
    """Put the command on the app."""
    app.command("serve", help=HELP)(serve)


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    api_key_file: KeyFile = None,
    insecure: Insecure = False,
    allow_host: AllowHost = None,
    media_root: MediaRoot = None,
    backend: Backend = None,
    resident: Resident = True,
    max_concurrency: MaxConcurrency = 1,
    pipeline_cache_size: CacheSize = 4,
    max_queue: MaxQueue = 64,
    job_ttl: JobTtl = _WEEK_S,
    max_finished: MaxFinished = 1000,
    job_timeout: JobTimeout = 0.0,
    device_wait: DeviceWait = 60.0,
    max_upload_mib: MaxUpload = 512,
    max_image_megapixels: MaxPixels = 50.0,
    drain: Drain = 30.0,
    state_dir: StateDir = None,
    log_format: LogFormat = "auto",
    json: Json = False,
) -> None:
    _need_the_extra()
    from omnirt_cli.server import logs
    from omnirt_cli.server.options import MIB, ServerOptions
    from omnirt_cli.server.serving import serve as run_server

    if log_format not in {form.value for form in logs.LogFormat}:
        raise UsageError(f"--log-format {log_format}: write auto, json or text")
    options = ServerOptions(
        host=host,
        port=port,
        state_dir=state_dir.absolute() if state_dir else _default_state_dir(),
        media_root=_media_root(media_root, host),
        api_keys=_keys(api_key_file, host, insecure=insecure),
        allowed_hosts=tuple(allow_host or ()),
        backend=backend.value if backend else None,
        resident=resident,
        max_concurrency=max_concurrency,
        pipeline_cache_size=pipeline_cache_size,
        max_queue=max_queue,
        job_ttl_s=job_ttl,
        max_finished=max_finished,
        job_timeout_s=job_timeout,
        device_wait_s=device_wait,
        max_upload_bytes=max_upload_mib * MIB,
        max_image_pixels=round(max_image_megapixels * 1e6),
        drain_s=drain,
    )
    with logs.logging_as(logs.LogFormat(log_format)):
        run_server(options, lambda url: _announce(url, options, json=json))


def _need_the_extra() -> None:
    from importlib.util import find_spec

    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise InputMissingError(
            f"`omnirt serve` needs {', '.join(missing)}", hint="install them with `pip install 'omnirt[server]'`"
        )


def _keys(named: Path | None, host: str, *, insecure: bool) -> tuple[str, ...]:
    from omnirt_cli.server.api_keys import read_api_keys
    from omnirt_cli.server.options import refuse_open_door

    said = os.environ.get(API_KEY_FILE_VARIABLE)
    path = named or (Path(said) if said else None)
    keys = read_api_keys(path) if path else ()
    refuse_open_door(host, keys, insecure=insecure or os.environ.get(INSECURE_VARIABLE) == "1")
    return keys


def _media_root(named: Path | None, host: str) -> Path | None:
    from omnirt_cli.server.options import default_media_root

    if named is None:
        return default_media_root(host, Path.cwd())
    if not named.is_dir():
        raise UsageError(f"--media-root {named} is not a directory", hint="make it, or name another")
    return named.absolute()


def _default_state_dir() -> Path:
    from omnirt_cli.runs.place import DataPlace

    try:
        return DataPlace.current().root / "server"
    except OSError as error:
        raise OutputUncreatableError(f"the server's jobs have no place: {error}", hint="give --state-dir") from error


def _announce(url: str, options: ServerOptions, *, json: bool) -> None:
    if json:
        console.say_json({"url": url, "pid": os.getpid(), "state_dir": str(options.state_dir)})
    else:
        console.say(url)
