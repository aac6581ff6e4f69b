"""From a request to what is sent, and to where its results go on this machine. Sends nothing.

What describes the video comes from the request and its request file. The settings files and the environment of this
machine say how models run here, so of them only the output's place counts, and the model where none is named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnirt_cli.draft import Draft
from omnirt_cli.errors import BusyError, UsageError
from omnirt_cli.inputs import InputLooks
from omnirt_cli.media.files import regular_file
from omnirt_cli.models import registry
from omnirt_cli.models.base import ModelAdapter
from omnirt_cli.output_paths import OutputPaths, refuse_unwritable
from omnirt_cli.planner.output import choose_output
from omnirt_cli.planner.planning import Planning
from omnirt_cli.preflight import CheckList
from omnirt_cli.request import Audio2VideoRequest
from omnirt_cli.run.run_log import RunLog
from omnirt_cli.server.knobs import OPERATORS
from omnirt_cli.settings import Layer, Setting, Settings, Surroundings, flag_layer, resolve

OWN = frozenset({"output", "output_dir", "no_clobber"})
"""Settings that say where the results go on this machine; they are not sent."""


@dataclass(frozen=True)
class Order:
    """What is sent.

    Attributes:
        document: The JSON body.
        image: The portrait, as an absolute path.
        audio: The recording.
        timeout_s: Seconds the whole run may take; 0: no limit.
    """

    adapter: ModelAdapter
    document: Mapping[str, Any]
    image: Path
    audio: Path
    timeout_s: float

    @property
    def asked(self) -> dict[str, Any]:
        """The document with the inputs as they are named here, for a report."""
        inputs = {**self.document["inputs"], "image": str(self.image), "audio": str(self.audio)}
        return {**self.document, "inputs": inputs}

    @property
    def body(self) -> bytes:
        """The document as it is sent."""
        return json.dumps(self.document).encode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class Destination:
    """Where the results go on this machine.

    Attributes:
        no_clobber: A video that is there stays.
    """

    outputs: OutputPaths
    no_clobber: bool


def order_of(
    request: Audio2VideoRequest, request_file: Layer | None, around: Surroundings, *, priority: str | None = None
) -> Order:
    """What a request becomes when it is sent.

    Raises:
        UsageError: It says something that only a run on this machine can have, or lacks an input.
        InputMissingError, InputInvalidError: An input cannot be read.
    """
    said = _said(request, request_file, around)
    _refuse_local(said)
    adapter = _adapter(request, around)
    inputs = {"prompt": request.inputs.prompt} if request.inputs.prompt is not None else {}
    document: dict[str, Any] = {
        "task": request.task,
        "model": adapter.info.id,
        "inputs": inputs,
        "config": {key: setting.value for key, setting in said.items() if key not in OWN},
    }
    if request.backend is not None:
        document["backend"] = request.backend
    if priority is not None:
        document["priority"] = priority
    return Order(
        adapter=adapter,
        document=document,
        image=_input(request.inputs.image, "image", around),
        audio=_input(request.inputs.audio, "audio", around),
        timeout_s=float(said["timeout"].value) if "timeout" in said else 0.0,
    )


def destination_of(
    order: Order, request: Audio2VideoRequest, request_file: Layer | None, around: Surroundings
) -> Destination:
    """Where a request's results go; the same place, and the same refusals, as for a run on this machine.

    Raises:
        UsageError, ConfigInvalidError: Something that names the place is wrong.
        OutputUncreatableError: The place cannot be written.
        BusyError: Another run writes there now.
    """
    local = resolve(order.adapter.info.key, request.config.said(), request_file, around).values
    values = {key: setting for key, setting in local.items() if key in OWN}
    if "seed" in order.document["config"]:
        values["seed"] = Setting(order.document["config"]["seed"], "flag")
    draft = Draft(run_id="", checks=CheckList(), settings=Settings(values), adapter=order.adapter)
    choose_output(Planning(request, request_file, around, InputLooks(None, None), draft))
    assert draft.outputs is not None
    return _free(draft.outputs, no_clobber=bool(draft.settings.get("no_clobber")))


def destination_at(video: Path, *, no_clobber: bool) -> Destination:
    """A place that is named by itself.

    Raises:
        UsageError: It is no video's name.
        OutputUncreatableError: It cannot be written.
        BusyError: Another run writes there now.
    """
    if video.suffix != ".mp4":
        raise UsageError(f"{video}: the name must end in .mp4")
    outputs = OutputPaths(video.absolute())
    refuse_unwritable(outputs, no_clobber=no_clobber)
    return _free(outputs, no_clobber=no_clobber)


def _free(outputs: OutputPaths, *, no_clobber: bool) -> Destination:
    if RunLog.is_held(outputs.log):
        raise busy(outputs)
    return Destination(outputs, no_clobber=no_clobber)


def busy(outputs: OutputPaths) -> BusyError:
    """Another run writes there."""
    return BusyError(f"another run is writing {outputs.video}", hint="wait for it, or choose another --output")


def _said(request: Audio2VideoRequest, request_file: Layer | None, around: Surroundings) -> dict[str, Setting]:
    """What the request itself says, flags before its file."""
    flags = flag_layer(request.config.said(), around.cwd)
    return {**(request_file.values if request_file else {}), **flags.values}


def _refuse_local(said: Mapping[str, Setting]) -> None:
    names = [
        f"--{key.replace('_', '-')}" if setting.source == "flag" else f"`{key}` ({setting.source})"
        for key, setting in said.items()
        if key in OPERATORS - OWN
    ]
    if names:
        raise UsageError(
            f"{', '.join(names)}: on a server, this is set by who runs it, not by a request",
            hint="leave it out, or render here, without --server",
        )


def _adapter(request: Audio2VideoRequest, around: Surroundings) -> ModelAdapter:
    model = request.model or resolve(None, {}, None, around).get("model")
    if not isinstance(model, str):
        raise UsageError("--model is required", hint=f"one of: {', '.join(registry.model_ids())}")
    return registry.adapter(model)


def _input(text: str | None, what: str, around: Surroundings) -> Path:
    if text is None:
        raise UsageError(f"--{what} is required for --task audio2video")
    path = around.cwd / text
    regular_file(path, what)
    return path
