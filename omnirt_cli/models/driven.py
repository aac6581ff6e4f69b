"""What a model's adapter says where OmniRT's worker program runs the chunks, in place of the script.

The program (`launchers/model_env/worker.py`) calls the functions of the checkout's `inference` that its script calls,
in the script's own order, so that settings, sizes and frame arithmetic are the script's. What differs: how it is
called, that it encodes the frames as they come, that it hears the sound as a WAV file whatever the script's mux would
need, and that it can set what the script has no flag for.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, ClassVar

import launchers
from omnirt_cli.checkout import CheckoutFacts
from omnirt_cli.errors import UsageError
from omnirt_cli.models import frames
from omnirt_cli.models.base import (
    AudioForm,
    AudioPlan,
    Backend,
    Carrier,
    Geometry,
    LogRule,
    MarkKind,
    ScriptCall,
    ScriptRequest,
    Variant,
)
from omnirt_cli.models.knob_values import knob_value
from omnirt_cli.models.soulx_script import Rows, ScriptVariant, SoulXScriptAdapter

PROGRAM = Path(launchers.__file__).parent / "model_env" / "worker.py"
REQUEST_NAME = "driver.json"
PICTURE_NAME = "frames.mp4"

FUNCTIONS = frozenset({"get_pipeline", "get_base_data", "get_audio_embedding", "run_pipeline"})
"""What the program calls."""

HELD_CHUNKS = 5
"""What the program holds at most, in chunks of float32 frames: one that is computed, one that waits and one that is
copied (those on a device are not in the machine's memory); as 8 bit values, a quarter each, one that was copied, two in
the encoder's queue and one that is being written; and what ffmpeg holds."""

_SECONDS = rb"(?P<seconds>\d+\.\d+)s"
_TIMES = {
    "audio embedding": MarkKind.AUDIO_EMBEDDING,
    "copy": MarkKind.COPY,
    "encode wait": MarkKind.ENCODE_WAIT,
}
LOG_RULES = tuple(
    LogRule(kind, f"[driver] {name}: ".encode(), re.compile(rf"\[driver\] {name}: ".encode() + _SECONDS))
    for name, kind in _TIMES.items()
)
"""Times that the program prints besides the script's own lines."""


class DrivenAdapter(SoulXScriptAdapter):
    """Mixed in before a script's adapter."""

    package: ClassVar[str]
    """The checkout's package that has `inference`."""
    worker_rows: ClassVar[Rows]
    """Knobs that the program can set; they stand before what the script has built in."""

    result_name = PICTURE_NAME
    silent_name = PICTURE_NAME

    @abstractmethod
    def load_arguments(self, request: ScriptRequest) -> dict[str, Any]:
        """Arguments of `get_pipeline` besides the two folders."""

    @abstractmethod
    def base_arguments(self, request: ScriptRequest) -> dict[str, Any]:
        """Arguments of `get_base_data` besides portrait and seed."""

    def driven(self, checkout: CheckoutFacts) -> DrivenAdapter:
        """See base. Refuses a checkout without the functions."""
        missing = FUNCTIONS - checkout.functions.get(self.package, frozenset())
        if missing:
            raise UsageError(
                f"The checkout {checkout.path} cannot be driven: "
                f"{self.package}/inference.py defines no {', '.join(sorted(missing))}.",
                hint=f"Leave out --executor driver, so that its {checkout.script.name} runs the chunks.",
            )
        return self

    # --- knobs ------------------------------------------------------------------------------------

    def carrier(self, knob: str, checkout: CheckoutFacts, variant: Variant) -> Carrier | None:
        """See base. What the script takes as a flag, the program takes in its request."""
        found = super().carrier(knob, checkout, variant)
        return Carrier.WORKER if found is Carrier.FLAG else found

    def defaults(self, checkout: CheckoutFacts, variant: Variant, backend: Backend) -> dict[str, Any]:
        """See base. What only the program can set is by default what the script has built in."""
        values = super().defaults(checkout, variant, backend)
        for knob in self.worker_rows:
            way = self.way(knob, checkout, variant)
            if way is not None and way.carrier is Carrier.WORKER:
                values[knob] = self.built_in(knob, checkout)
        return values

    def _settable(
        self, knobs: Mapping[str, Any], checkout: CheckoutFacts | None, variant: Variant | None
    ) -> dict[str, Any]:
        """A preset sets what it would set for the script: the same request gives the same frames."""
        found = super()._settable(knobs, checkout, variant)
        if checkout is None or variant is None:
            return found
        return {
            knob: value
            for knob, value in found.items()
            if (way := SoulXScriptAdapter.way(self, knob, checkout, variant)) and way.carrier is not Carrier.WORKER
        }

    # --- sound and frames -------------------------------------------------------------------------

    def audio_plan(
        self,
        variant: Variant,
        geometry: Geometry,
        *,
        mode: str,
        samples: int,
        duration_s: float,
        max_chunks: int | None,
    ) -> AudioPlan:
        """See base. The lengths are those for the script; no mux of its own asks for another form than WAV."""
        plan = super().audio_plan(
            variant, geometry, mode=mode, samples=samples, duration_s=duration_s, max_chunks=max_chunks
        )
        return replace(plan, form=AudioForm.WAV)

    def held_frames(self, generated: int, geometry: Geometry) -> int:
        """See base. However long the video, the program holds a few chunks."""
        return min(generated, HELD_CHUNKS * geometry.frame_num)

    def core_scope(self, mode: str) -> str:  # noqa: ARG002
        """See base. The program times the core alone, in both modes."""
        return "core"

    def log_rules(self, variant: Variant) -> tuple[LogRule, ...]:
        """See base."""
        return (*super().log_rules(variant), *LOG_RULES)

    # --- the call ---------------------------------------------------------------------------------

    def script_call(self, request: ScriptRequest) -> ScriptCall:
        """See base. All that the program is told stands in one private file."""
        folder = request.folder or PurePath()
        document = json.dumps(self._document(request, folder), ensure_ascii=False, indent=2)
        return ScriptCall(
            script=PROGRAM,
            args=(f"--request={folder / REQUEST_NAME}",),
            env=self.environment(request),
            files={**self.private_files(request), REQUEST_NAME: document.encode()},
            result_name=self.result_name,
            silent_name=self.silent_name,
        )

    def _document(self, request: ScriptRequest, folder: PurePath) -> dict[str, Any]:
        return {
            "model": self.model_document(
                request,
                params=self._set_by_worker(request, constant=False),
                constants=self._set_by_worker(request, constant=True),
            ),
            "render": self.render_document(request, folder),
            "picture": self.picture_document(request, folder),
        }

    def model_document(
        self, request: ScriptRequest, *, params: Mapping[str, Any], constants: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The program's `ModelRequest`."""
        return {
            "checkout": str(request.checkout.path),
            "package": self.package,
            "load": {
                "ckpt_dir": str(request.ckpt_dir),
                "wav2vec_dir": str(request.wav2vec_dir),
                **self.load_arguments(request),
            },
            "params": dict(params),
            "constants": dict(constants),
        }

    def render_document(self, request: ScriptRequest, folder: PurePath) -> dict[str, Any]:
        """The program's `RenderRequest`."""
        variant = request.variant
        return {
            "base": {
                "image": str(folder / request.names.image),
                "seed": knob_value(request.knobs, "seed"),
                **self.base_arguments(request),
            },
            "audio": str(folder / request.names.audio),
            "mode": knob_value(request.knobs, "audio_encode_mode"),
            "pads": isinstance(variant, ScriptVariant) and variant.loop is frames.Loop.PADDING,
            "chunks": request.audio.chunks if request.audio else 0,
        }

    def picture_document(self, request: ScriptRequest, folder: PurePath) -> dict[str, Any]:
        """The program's `PictureRequest`."""
        geometry = self.geometry(request.checkout, request.knobs)
        return {
            "ffmpeg": request.ffmpeg,
            "path": str(folder / self.result_name),
            "width": geometry.width,
            "height": geometry.height,
            "fps": geometry.fps,
        }

    def _set_by_worker(self, request: ScriptRequest, *, constant: bool) -> dict[str, Any]:
        """What the program sets at the loaded model, where that was asked for."""
        found = {}
        for knob in self.worker_rows:
            way = self.way(knob, request.checkout, request.variant)
            value = knob_value(request.knobs, knob)
            if way is None or way.carrier is not Carrier.WORKER or way.constant is not constant:
                continue
            if value is not None and value != self.built_in(knob, request.checkout):
                found[way.names[0]] = value
        return found
