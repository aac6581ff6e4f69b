"""Plans every row before anything is started, so that a knob that a checkout lacks is refused at once and by name."""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from omnirt_cli.bench.document import Heat
from omnirt_cli.bench.order import Case, Order
from omnirt_cli.bench.scenarios import SAMPLE_SPEECH
from omnirt_cli.errors import UsageError
from omnirt_cli.files import storage_error
from omnirt_cli.models.rtf_harness import require_harness
from omnirt_cli.plan import Plan
from omnirt_cli.planner import draft_plan

LOOPED_NAME = "speech-looped.wav"


@dataclass(frozen=True)
class Planned:
    """One row as it was planned before anything was started.

    Attributes:
        plan: Of a request of this row; nothing of it is run.
    """

    case: Case
    heat: Heat
    plan: Plan

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"{self.heat}, {self.case.name}" if self.case.name else self.heat


def plan_rows(order: Order, warn: Callable[[str], None]) -> tuple[Order, list[Planned]]:
    """Plan one request of every row.

    Args:
        order: What is wanted.
        warn: Called with what the person should know.

    Returns:
        The order, cold alone where nobody asked for hot and this model or checkout cannot be kept loaded; and its rows,
        all cold ones before the hot ones.

    Raises:
        OmniRTError: A row cannot work; in `generate`'s words.
    """
    order = _with_enough_sound(order, warn)
    rows = [Planned(case, "cold", _plan(order, case, "cold")) for case in order.cases] if "cold" in order.heats else []
    if "hot" not in order.heats:
        return order, rows
    try:
        hot = [Planned(case, "hot", _plan(order, case, "hot")) for case in order.cases]
    except UsageError as error:
        if order.chosen_heats or not rows:
            raise
        warn(f"measured cold alone: {error.message}")
        return order.cold_alone(), rows
    return order, [*rows, *hot]


def _plan(order: Order, case: Case, heat: Heat) -> Plan:
    request = order.request_of(case, heat, order.folder / "planned.mp4")
    plan = draft_plan(request, request_file=order.layer).require()
    if order.harness:
        require_harness(plan.checkout)
    return plan


def _with_enough_sound(order: Order, warn: Callable[[str], None]) -> Order:
    """The order with a recording as long as `--num-chunks` needs: the sample that OmniRT ships is repeated.

    Raises:
        OmniRTError: The first row cannot be planned, or the folder for the results cannot be written.
    """
    if order.chunks is None:
        return order
    plan = _plan(order, order.cases[0], order.heats[0])
    if plan.expected.chunks >= order.chunks:
        return order
    if plan.speech.path != SAMPLE_SPEECH:
        warn(
            f"the recording is long enough for {plan.expected.chunks} chunks; "
            f"{order.warmup_chunks} to warm up and {order.num_chunks} to measure were asked for"
        )
        return order
    times = -(-order.chunks // plan.expected.chunks) + 1
    try:
        looped = _looped(order.folder / LOOPED_NAME, times)
    except OSError as error:
        raise storage_error(error, "the repeated recording cannot be written") from error
    inputs = order.request.inputs.model_copy(update={"audio": str(looped)})
    return order.with_request(order.request.model_copy(update={"inputs": inputs}))


def _looped(place: Path, times: int) -> Path:
    """The shipped sample, several times over."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(SAMPLE_SPEECH), "rb") as source, wave.open(str(place), "wb") as target:
        target.setparams(source.getparams())
        sound = source.readframes(source.getnframes())
        for _ in range(times):
            target.writeframes(sound)
    return place
