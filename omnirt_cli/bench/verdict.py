"""How a benchmark ended, as one error or none: what decides the exit code."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from omnirt_cli.bench.document import BenchReport, BenchStatus
from omnirt_cli.bench.gates import missed
from omnirt_cli.errors import CancelledRunError, OmniRTError, PartialError
from omnirt_cli.run.cancel import CancelToken
from omnirt_cli.run.reporting import error_info


def verdict(report: BenchReport, errors: Sequence[OmniRTError], cancel: CancelToken) -> OmniRTError | None:
    """The benchmark's end.

    Args:
        report: With its samples and gates.
        errors: Of the requests that failed, in their order.
        cancel: Whether somebody stopped it.

    Returns:
        A cancel; else, where no request succeeded, the first one's error; else what was missed; None for a good end.
    """
    if cancel.asked:
        number = cancel.signal_number or signal.SIGINT
        return CancelledRunError(
            f"cancelled by {signal.Signals(number).name}; what was measured before is kept",
            signal_number=number,
            hint="nothing of it is left running",
        )
    if errors and not any(sample.succeeded for sample in report.samples):
        return errors[0]
    parts = []
    if errors:
        parts.append(f"{len(errors)} of {len(report.samples)} requests failed")
    gates = missed(report.gates)
    if gates:
        parts.append(f"{len(gates)} of {len(report.gates)} gates missed: {', '.join(gate.name for gate in gates)}")
    return PartialError("; ".join(parts)) if parts else None


def note_end(report: BenchReport, error: OmniRTError | None) -> None:
    """Put the end into the document."""
    report.error = error_info(error) if error else None
    if isinstance(error, CancelledRunError):
        report.status = BenchStatus.CANCELLED
    else:
        report.status = BenchStatus.FAILED if error else BenchStatus.SUCCEEDED
