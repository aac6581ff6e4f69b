"""What a model's adapter says where a worker keeps the model loaded and renders one request after the other.

The program is the driver's (`launchers/model_env/worker.py`), so that settings, sizes and frames are the driver's and
the script's. What differs: a knob that the checkout's functions read anew for each render travels with the request;
all others belong to the worker, and asking for another value means another worker.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any, ClassVar

from omnirt_cli.checkout import CheckoutFacts
from omnirt_cli.errors import UsageError
from omnirt_cli.models.base import Carrier, KnobValue, ScriptCall, ScriptRequest, Variant, WorkerCall
from omnirt_cli.models.driven import PROGRAM, DrivenAdapter
from omnirt_cli.models.knob_values import knob_value
from omnirt_cli.models.soulx_script import Way

SERVE_NAME = "serve.json"
SOCKET_NAME = "worker.sock"
RANKS_SOCKET_NAME = "ranks.sock"


class ResidentAdapter(DrivenAdapter):
    """Mixed in before a driven script's adapter."""

    per_request: ClassVar[Mapping[str, Way]]
    """Knobs that a loaded model takes anew for each render, where its checkout can be told them at all."""
    stay: ClassVar[frozenset[Carrier]] = frozenset({Carrier.FIXED, Carrier.OMNIRT})
    """Who travels by these goes on doing so."""

    def resident(self, checkout: CheckoutFacts) -> ResidentAdapter:
        """See base. Refuses a checkout without the functions."""
        try:
            self.driven(checkout)
        except UsageError as error:
            raise UsageError(
                error.message.replace("cannot be driven", "cannot be kept loaded"),
                hint=f"Leave out --resident, so that its {checkout.script.name} loads the model for each render.",
            ) from error
        return self

    def quantization(self, request: ScriptRequest) -> str | None:  # noqa: ARG002
        """How this request has the weights quantized; None for as they are."""
        return None

    def model_type(self, request: ScriptRequest) -> str | None:  # noqa: ARG002
        """Which of the checkout's models is loaded, where it has several."""
        return None

    def way(self, knob: str, checkout: CheckoutFacts, variant: Variant) -> Way | None:
        """See base. An unknown adaptation may read a value once only: there each knob keeps its way."""
        way = super().way(knob, checkout, variant)
        if way is None or way.carrier in self.stay or not variant.recognised:
            return way
        return self.per_request.get(knob, way)

    def private_files(self, request: ScriptRequest) -> dict[str, bytes]:
        """See base. What travels with each request is not the worker's."""
        own: dict[str, KnobValue] = {
            name: knob for name, knob in request.knobs.items() if not self._travels(name, request)
        }
        return super().private_files(replace(request, knobs=own))

    def _travels(self, knob: str, request: ScriptRequest) -> bool:
        """Whether a knob is said anew with each request."""
        way = self.way(knob, request.checkout, request.variant)
        return way is not None and way is self.per_request.get(knob)

    # --- the call ---------------------------------------------------------------------------------

    def script_call(self, request: ScriptRequest) -> ScriptCall:
        """See base. The worker runs in a directory of its own; the request names its files in full."""
        serve = {
            "model": self.model_document(request, params={}, constants={}),
            "socket": SOCKET_NAME,
            "ranks_socket": RANKS_SOCKET_NAME,
        }
        return ScriptCall(
            script=PROGRAM,
            args=(f"--serve={SERVE_NAME}",),
            env=self.environment(request),
            files={**self.private_files(request), SERVE_NAME: json.dumps(serve, ensure_ascii=False).encode()},
            result_name=self.result_name,
            silent_name=self.silent_name,
            worker=WorkerCall(
                request=self._request(request),
                package=self.package,
                quantization=self.quantization(request),
                cpu_offload=bool(knob_value(request.knobs, "cpu_offload")),
                model_type=self.model_type(request),
            ),
        )

    def _request(self, request: ScriptRequest) -> dict[str, Any]:
        folder = request.folder or PurePath()
        own = {
            "params": self._said(request, lambda way: not way.constant and not way.of_inference),
            "constants": self._said(request, lambda way: way.constant),
            "inference_constants": self._said(request, lambda way: way.of_inference),
            "reuse": request.variant.recognised,
        }
        return {
            "render": {**self.render_document(request, folder), **own},
            "picture": self.picture_document(request, folder),
            "frames": "none",
        }

    def _said(self, request: ScriptRequest, carried: Callable[[Way], bool]) -> dict[str, Any]:
        """Every value that travels with the request in one way, whether or not it is the checkout's own."""
        return {
            way.names[0]: knob.value
            for name, knob in request.knobs.items()
            if knob.value is not None and self._travels(name, request) and carried(way := self.per_request[name])
        }
