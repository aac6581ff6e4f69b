"""What is to be said about a finished run, beside its error: the rules' findings, and whether it was slow.

Reads a report and what its log left; touches neither files nor devices, so that it can be told of an old run too.
"""

from __future__ import annotations

from collections.abc import Sequence

from omnirt_cli.finding import Finding, Severity
from omnirt_cli.models.card import ModelCard
from omnirt_cli.report import RunReport
from omnirt_cli.run.diagnosis_case import Case
from omnirt_cli.run.diagnosis_rules import RULES
from omnirt_cli.run.log_facts import LogFacts
from omnirt_cli.run.slowness import slow_findings
from omnirt_cli.runs.past import PastRun


def diagnose_run(
    report: RunReport, log: LogFacts, past: Sequence[PastRun] = (), card: ModelCard | None = None
) -> list[Finding]:
    """Everything to be told about a finished run, warnings first.

    Args:
        report: Complete, as it is saved.
        log: What was kept of the log; empty where it was not read.
        past: Earlier runs of this machine that are alike (`slow_findings` says in what).
        card: The model's card; None where the model is not known.
    """
    slow = slow_findings(report, past, card)
    case = Case(report, log, card, slow=bool(slow))
    told = [finding for rule in RULES if (finding := rule(case))]
    return sorted([*slow, *told], key=lambda finding: finding.severity is not Severity.WARNING)
