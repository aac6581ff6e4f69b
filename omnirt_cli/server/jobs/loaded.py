"""Whether a job's model is kept loaded from job to job."""

from __future__ import annotations

from pathlib import Path

from omnirt_cli.checkout import inspect_checkout
from omnirt_cli.errors import OmniRTError
from omnirt_cli.models import registry
from omnirt_cli.models.base import Backend, ModelAdapter
from omnirt_cli.request import Audio2VideoRequest, WorkingDirectory
from omnirt_cli.settings import Surroundings, resolve


def can_stay_loaded(request: Audio2VideoRequest, around: Surroundings) -> bool:
    """Whether the model can be kept loaded between jobs, and no setting says how to run it.

    Raises:
        OmniRTError: There is no such model, or the settings are no good.
    """
    adapter = registry.adapter(request.model or "")
    settings = resolve(adapter.info.key, request.config.said(), None, around)
    if settings.get("executor") or settings.get("working_directory") == WorkingDirectory.CHECKOUT.value:
        return False
    if type(adapter).resident is ModelAdapter.resident:
        return False
    place = settings.get("repo_path")
    if place is None:
        # Without a checkout only the miniature can run, or the plan says what is missing.
        return request.backend == Backend.CPU.value
    try:
        adapter.resident(inspect_checkout(Path(place), adapter.info.script))
    except OmniRTError:
        return False
    return True
