"""From a request to an order: the body is read, its files become the job's own, and what is too much is refused.

Files are copied, so that a job renders what was looked at, whatever becomes of the original, and after a restart too.
"""

from __future__ import annotations

import asyncio
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from omnirt_cli.errors import InputInvalidError, InputMissingError, UsageError
from omnirt_cli.files import storage_error
from omnirt_cli.models import registry
from omnirt_cli.request import Audio2VideoRequest
from omnirt_cli.server.bodies import GenerateBody, JobBody, Priority, parse_body
from omnirt_cli.server.jobs.folder import JobFolder, StatePlace
from omnirt_cli.server.jobs.job import Order
from omnirt_cli.server.media_root import MediaRoot
from omnirt_cli.server.options import MIB, ServerOptions
from omnirt_cli.server.problems import Problem

MOST_JSON_BYTES = MIB
FILE_PARTS = ("image", "audio")
_TEXT_PARTS = ("model", "backend", "prompt", "preset", "priority", "async_run")
_BLOCK = 1 << 18
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")

_JSON = "application/json"
_FORM = "multipart/form-data"


@dataclass(frozen=True)
class Submission:
    """A request as it came: its body, and the files that came with it."""

    body: JobBody
    files: Mapping[str, UploadFile]

    async def close(self) -> None:
        """Let go of what was spooled."""
        for file in self.files.values():
            await file.close()


async def read_submission(request: Request, kind: type[JobBody]) -> Submission:
    """Read a request's body, JSON or a form.

    Raises:
        Problem: It does not fit the schema, is too large, or of another content type.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == _JSON:
        return Submission(parse_body(kind, await _json(request)), {})
    if media_type == _FORM:
        form = await request.form(max_files=len(FILE_PARTS), max_fields=16, max_part_size=MOST_JSON_BYTES)
        try:
            return _of_form(kind, form)
        except BaseException:
            await form.close()
            raise
    raise Problem(UsageError(f"a render is asked for with {_JSON} or {_FORM}"), 415)


async def _json(request: Request) -> bytes:
    text = bytearray()
    async for part in request.stream():
        text += part
        if len(text) > MOST_JSON_BYTES:
            raise Problem(InputInvalidError(f"the JSON body is larger than {MOST_JSON_BYTES // MIB} MiB"), 413)
    return bytes(text)


def _of_form(kind: type[JobBody], form: FormData) -> Submission:
    """The parts `image` and `audio` are files; `request` is the JSON body, and some of its keys may be parts."""
    files = {name: part for name, part in form.multi_items() if isinstance(part, UploadFile)}
    texts = {name: part for name, part in form.multi_items() if isinstance(part, str)}
    unknown = sorted((set(files) - set(FILE_PARTS)) | (set(texts) - {"request", *_TEXT_PARTS}))
    if unknown:
        parts = ", ".join((*FILE_PARTS, "request", *_TEXT_PARTS))
        raise Problem(UsageError(f"unknown part {unknown[0]!r}", hint=f"the parts are {parts}"), 422)
    return Submission(parse_body(kind, _document(texts)), files)


def _document(texts: Mapping[str, str]) -> bytes:
    """One JSON document of the `request` part and the parts that stand for its keys."""
    import json

    if set(texts) == {"request"}:
        return texts["request"].encode("utf-8", "surrogatepass")
    try:
        document: Any = json.loads(texts.get("request", "{}"))
    except (ValueError, RecursionError):
        raise Problem(UsageError("the part `request` is not JSON"), 422) from None
    if not isinstance(document, dict):
        raise Problem(UsageError("the part `request` is not a JSON object"), 422)
    for section, name in (("inputs", "prompt"), ("config", "preset")):
        if name in texts:
            values = document.get(section) or {}
            document[section] = {**(values if isinstance(values, dict) else {}), name: texts[name]}
    for name in ("model", "backend", "priority", "async_run"):
        if name in texts:
            document[name] = texts[name]
    return json.dumps(document).encode()


class Intake:
    """Makes orders of requests."""

    def __init__(self, place: StatePlace, media_root: MediaRoot, options: ServerOptions) -> None:
        self._place = place
        self._media_root = media_root
        self._options = options

    async def order(self, submission: Submission) -> tuple[Order, JobFolder]:
        """Make an order, and its folder with the inputs in it.

        Raises:
            OmniRTError: An input cannot be used.
        """
        return await asyncio.to_thread(self._order, submission)

    def _order(self, submission: Submission) -> tuple[Order, JobFolder]:
        body = submission.body
        model = registry.adapter(body.model).info.id
        job_id = uuid.uuid4().hex
        folder = self._place.job(job_id)
        try:
            folder.inputs.mkdir(parents=True, mode=0o700)
            images = self._take_in(submission, folder)
        except OSError as error:
            folder.remove()
            raise storage_error(error, "the inputs cannot be stored") from error
        except BaseException:
            folder.remove()
            raise
        return Order(
            id=job_id,
            model=model,
            backend=body.backend or self._options.backend,
            priority=Priority(body.priority).value,
            request=_as_it_came(body, submission.files),
            render=self._render(body, model, images),
            awaited=isinstance(body, GenerateBody) and not body.async_run,
        ), folder

    def _render(self, body: JobBody, model: str, files: Mapping[str, Path]) -> dict[str, Any]:
        """The request as the command line would make it of these files and knobs."""
        config = body.config.model_dump(exclude_none=True)
        limit = self._options.job_timeout_s
        if limit:
            config["timeout"] = min(config.get("timeout") or limit, limit)
        document = {
            "model": model,
            "backend": body.backend or self._options.backend,
            "inputs": {"prompt": body.inputs.prompt, **{name: str(path) for name, path in files.items()}},
            "config": config,
        }
        return Audio2VideoRequest.model_validate(document).model_dump(mode="json", exclude_none=True)

    def _take_in(self, submission: Submission, folder: JobFolder) -> dict[str, Path]:
        left = self._options.max_upload_bytes
        taken: dict[str, Path] = {}
        for name in FILE_PARTS:
            upload, path = submission.files.get(name), getattr(submission.body.inputs, name)
            if (upload is None) == (path is None):
                raise _none_or_two(name, both=path is not None)
            if upload is not None:
                target = folder.inputs / (name + _suffix(upload.filename or ""))
                left -= _copy(upload.file, target, left, name)
            else:
                target = folder.inputs / (name + _suffix(path))
                with self._media_root.open(path, name) as source:
                    left -= _copy(source, target, left, name)
            taken[name] = target
        refuse_large_image(taken["image"], self._options.max_image_pixels)
        return taken


def _as_it_came(body: JobBody, files: Mapping[str, UploadFile]) -> dict[str, Any]:
    document = body.model_dump(mode="json", exclude_none=True, exclude={"async_run", "priority", "adapters"})
    for name, file in files.items():
        document["inputs"][name] = _printable(file.filename or name)
    return document


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:255]


def _none_or_two(name: str, *, both: bool) -> Exception:
    if both:
        return Problem(UsageError(f"{name}: there is a path and an upload", hint="give one of them"), 422)
    return InputMissingError(
        f"the {name} is missing", hint=f"give inputs.{name}, or upload a part called {name} as multipart/form-data"
    )


def _suffix(name: str) -> str:
    """The ending of a file's name, which ffmpeg looks at; nothing where it is anything but letters and digits."""
    suffix = Path(name.replace("\\", "/")).suffix
    return suffix.lower() if _SUFFIX.fullmatch(suffix) else ""


def _copy(source: BinaryIO, target: Path, limit: int, what: str) -> int:
    """Copy a file's bytes; returns how many.

    Raises:
        Problem: There are more than the limit.
        OSError: They cannot be stored.
    """
    copied = 0
    with target.open("xb") as file:
        while block := source.read(_BLOCK):
            copied += len(block)
            if copied > limit:
                raise Problem(
                    InputInvalidError(f"the {what} is too large", hint="the server's limit is --max-upload-mib"), 413
                )
            file.write(block)
        # A job that is accepted outlives a power cut, and so must what it is made of.
        file.flush()
        os.fsync(file.fileno())
    target.chmod(0o600)
    return copied


def refuse_large_image(path: Path, most_pixels: int) -> None:
    """Look at a portrait's head, and at no pixel of it.

    Raises:
        InputInvalidError: It is no picture of a known format, or has too many pixels.
    """
    from PIL import Image

    from omnirt_cli.media.image import FORMATS

    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise InputInvalidError("the image has too many pixels", hint="scale it down") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises for damaged files
        raise InputInvalidError(
            "the image is not a picture that can be used", hint=f"give one of {', '.join(FORMATS)}"
        ) from error
    if width * height > most_pixels:
        raise InputInvalidError(
            f"the image has {width}x{height} pixels, more than {most_pixels / 1e6:g} million", hint="scale it down"
        )
