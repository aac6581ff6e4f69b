"""What every step of planning works on: the request, its settings, and the draft that grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omnirt_cli.draft import Draft
from omnirt_cli.inputs import InputLooks
from omnirt_cli.models.base import Backend, ModelAdapter, Variant
from omnirt_cli.request import Audio2VideoRequest
from omnirt_cli.settings import Layer, Surroundings

if TYPE_CHECKING:
    from omnirt_cli.checkout import CheckoutFacts


@dataclass(frozen=True)
class Planning:
    """One request on its way to a plan."""

    request: Audio2VideoRequest
    request_file: Layer | None
    around: Surroundings
    looks: InputLooks
    draft: Draft

    @property
    def adapter(self) -> ModelAdapter:
        """The model's adapter; for steps that run only where the model is known."""
        assert self.draft.adapter is not None
        return self.draft.adapter

    def facts(self) -> tuple[CheckoutFacts, Variant, Backend]:
        """Checkout, variant and backend; for steps that run only where all three are known."""
        draft = self.draft
        assert draft.checkout is not None
        assert draft.variant is not None
        assert draft.backend is not None
        return draft.checkout, draft.variant, draft.backend

    def get(self, key: str) -> Any:
        """A setting's value, None where nobody set it."""
        return self.draft.settings.get(key)

    def source(self, key: str) -> str | None:
        """Where a setting came from."""
        return self.draft.settings.source(key)

    def source_name(self, key: str) -> str:
        """A setting as a message names it: the flag, or the key with its place."""
        source = self.source(key)
        return f"--{key.replace('_', '-')}" if source in (None, "flag") else f"{key} ({source})"

    @property
    def runs_in_checkout(self) -> bool:
        """Whether the script insists on its checkout as working directory."""
        return bool(self.get("working_directory") == "checkout")
