"""Puts away the workers that a benchmark had to start: they would hold their devices until they are idle for long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from omnirt_cli.bench.document import Sample
from omnirt_cli.bench.runner import LOADED
from omnirt_cli.errors import OmniRTError
from omnirt_cli.resident.client import Connection

STOP_BOUND_S = 60.0


def stop_own_workers(samples: Iterable[Sample], environ: Mapping[str, str], warn: Callable[[str], None]) -> None:
    """Stop the workers whose loading these samples show, unless somebody else uses them by now.

    Args:
        samples: The benchmark's.
        environ: Where the daemon's place is told.
        warn: Called with why one could not be stopped.
    """
    started = {sample.worker_id for sample in samples if sample.worker_id and sample.left_out == LOADED}
    if not started:
        return
    try:
        connection = Connection.running(environ)
        if connection is None:
            return
        with connection:
            left = [worker.id for worker in connection.idle_workers() if worker.id in started]
            if left:
                connection.evict(left, STOP_BOUND_S)
    except OmniRTError as error:
        warn(f"a worker that this benchmark started may still run: {error.message}")
