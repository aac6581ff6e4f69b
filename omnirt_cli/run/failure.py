"""Names the cause of a failed run from what the child printed, and from how it ended.

`diagnose` reads once what a `FailureReader` kept. What single messages mean is data, in `failure_rules.py`; here is
only who is to blame: a launcher repeats its ranks' failures in its own words, and ranks that lose a peer complain,
often earlier than the peer does.
"""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from omnirt_cli.errors import ModelFailedError, OmniRTError
from omnirt_cli.run.failure_reader import Row, row_of
from omnirt_cli.run.failure_rule import (
    CHECKOUT_HINT,
    FALLBACK_HINT,
    KILLED_HINT,
    QUANTIZING_HINT,
    SIGNAL_HINTS,
    FailureRule,
    Standing,
)
from omnirt_cli.run.failure_rules import RULES

_SUMMARY_RANK = re.compile(r"\brank\s*: (\d+) \(local_rank")
_SUMMARY_EXIT = re.compile(r"\bexitcode\s*: (-?\d+) \(pid")
_AGENT_FAILED = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")
_COMMAND_FAILED = re.compile(
    r"CalledProcessError: Command .* (?:died with <Signals\.\w+: (\d+)>|returned non-zero exit status (\d+))"
)
_FATAL = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Expired)\b|: error: |^terminate called"
)
_CHAIN = re.compile(r"^(?:During handling of the above exception|The above exception was the direct cause)")


@dataclass(frozen=True)
class Failure:
    """Why a run failed, as far as can be told.

    Attributes:
        rank: Which rank failed first, where that is known.
        child_exit_code: Of that rank (a launcher's own code says nothing), or of the single process.
        signal: Name of the signal that ended it.
        device: The real device's number, where the message names one.
        evidence: The line that tells.
        rule: Name of the rule that knew the message.
    """

    error: type[OmniRTError]
    message: str
    hint: str | None = None
    rank: int | None = None
    child_exit_code: int | None = None
    signal: str | None = None
    device: str | None = None
    evidence: str | None = None
    rule: str | None = None

    def to_error(self) -> OmniRTError:
        """The exception to raise."""
        return self.error(self.message, hint=self.hint)


@dataclass(frozen=True)
class _Ending:
    """How one rank ended, by its launcher's account. `exit_code` is negative for a signal."""

    rank: int | None
    exit_code: int


@dataclass(frozen=True)
class _Match:
    """A rule that fits a line, and how well it explains: the smallest key explains best."""

    rule: FailureRule
    row: Row
    found: re.Match[str]
    key: tuple[int, ...]


def diagnose(
    rows: Iterable[Row],
    *,
    exit_code: int,
    tail: Sequence[str] = (),
    launcher: str = "python",
    devices: Sequence[str] = (),
    fell_back: str | None = None,
) -> Failure | None:
    """Name the cause of a failed run.

    Args:
        rows: What a `FailureReader` kept.
        exit_code: Of the process OmniRT started, negative for a signal as `subprocess` has it.
        tail: The last lines of the output, which may say what no alarm announced.
        launcher: `python`, `torchrun` or `accelerate`.
        devices: The run's real device numbers by their index inside the run ("GPU 1" is `devices[1]`).
        fell_back: The line by which the script said that it goes on without something that was asked for.

    Returns:
        None for a run that did not fail.
    """
    if exit_code == 0:
        return _fallback_failure(fell_back) if fell_back else None
    kept = list(rows)
    endings = _endings([*(row.text for row in kept), *tail], exit_code, launcher)
    root = endings[-1] if endings else None
    seen = {row.text for row in kept}
    rest = [row for row in map(row_of, tail) if row.text not in seen]
    best = min(_matches([*rest, *kept], root), key=lambda match: match.key, default=None)
    if best is not None and _explains(best, root, exit_code):
        return _from_match(best, endings, devices)
    if exit_code < 0 and root is None:
        return _launcher_killed(exit_code, launcher)
    if root is not None and root.exit_code < 0:
        return _from_signal(root)
    return _from_exit_code(root or _Ending(None, exit_code))


def _endings(texts: Sequence[str], exit_code: int, launcher: str) -> list[_Ending]:
    """How each process ended, the root cause last; empty where nobody says.

    A launcher's own exit code says nothing; its summary does, and before that its agent's lines. Ranks that
    torchrun stopped itself (SIGTERM) are in the summary too, but not as the root cause.
    """
    if launcher == "python":
        return [_Ending(None, exit_code)]
    summary: list[_Ending] = []
    remarks: list[_Ending] = []
    rank: int | None = None
    for text in texts:
        if found := _SUMMARY_RANK.search(text):
            rank = int(found[1])
        elif found := _SUMMARY_EXIT.search(text):
            summary.append(_Ending(rank, int(found[1])))
        elif found := _AGENT_FAILED.search(text):
            remarks.append(_Ending(int(found[2]), int(found[1])))
        elif launcher == "accelerate" and (found := _COMMAND_FAILED.search(text)):
            remarks.append(_Ending(None, -int(found[1]) if found[1] else int(found[2])))
    return summary or remarks[-1:]


def _matches(rows: Sequence[Row], root: _Ending | None) -> list[_Match]:
    fatal = _fatal_rows(rows, root)
    matches = []
    for number, row in enumerate(rows):
        for order, rule in enumerate(RULES):
            found = rule.pattern.search(row.text) if rule.needle in row.text else None
            if found and not _is_report(row.text):
                weight = _weight(rule.standing, fatal=number in fatal)
                matches.append(_Match(rule, row, found, (weight, _blame(row, root), order, number)))
                break
    return matches


def _weight(standing: Standing, *, fatal: bool) -> int:
    """What a rank died of explains more than what it told before, known or not; follow-ups explain least."""
    if standing is Standing.FOLLOW_UP:
        return 4 if fatal else 5
    return int(standing) if fatal else int(standing) + 2


def _blame(row: Row, root: _Ending | None) -> int:
    """0 for the root cause's rank, 1 for a line without a rank, 2 for another rank."""
    if row.rank is None:
        return 1
    return 0 if root is None or row.rank == root.rank else 2


def _fatal_rows(rows: Sequence[Row], root: _Ending | None) -> set[int]:
    """The rows of each rank's last exception (with those it was raised from): what the rank died of.

    Where the failed rank signs its lines, an exception that nobody signed was survived.
    """
    starts: dict[int | None, int] = {}
    chained: set[int | None] = set()
    for number, row in enumerate(rows):
        if _CHAIN.match(row.text):
            chained.add(row.rank)
        elif _FATAL.search(row.text) and not _is_report(row.text):
            if row.rank not in chained:
                starts[row.rank] = number
            chained.discard(row.rank)
    if root is not None and root.rank is not None and root.rank in starts:
        starts.pop(None, None)
    return {number for number, row in enumerate(rows) if number >= starts.get(row.rank, len(rows))}


def _is_report(text: str) -> bool:
    """Whether a launcher repeats here, as an exception of its own, that a rank failed."""
    return "ChildFailedError" in text


def _explains(best: _Match, root: _Ending | None, exit_code: int) -> bool:
    """Whether a message says more than the way the process ended does.

    Only an abort has last words of its own. A rank that was killed has none: what others say then is a
    follow-up, and what nobody signed may be a warning from long before.
    """
    ending = root.exit_code if root is not None else exit_code
    if ending >= 0:
        return not _is_others_follow_up(best, root)
    if best.rule.standing is Standing.FOLLOW_UP:
        return False
    if ending == -signals.SIGABRT:
        return True
    signed = best.row.rank is not None
    own_words = signed and root is not None and best.row.rank == root.rank
    return own_words or (signed and best.rule.standing is Standing.CAUSE)


def _is_others_follow_up(best: _Match, root: _Ending | None) -> bool:
    """Whether all that was said is another rank's complaint about the one that ended without a word."""
    if root is None or root.rank is None or best.rule.standing is not Standing.FOLLOW_UP:
        return False
    return best.row.rank is not None and best.row.rank != root.rank


def _from_match(match: _Match, endings: Sequence[_Ending], devices: Sequence[str]) -> Failure:
    root = endings[-1] if endings else None
    rank = match.row.rank if match.row.rank is not None else (root.rank if root else None)
    ending = next((ending for ending in reversed(endings) if ending.rank == rank), root)
    groups = {name: value or "" for name, value in match.found.groupdict().items()}
    device = _real_device(groups.get("device"), devices)
    message = match.rule.message.format_map(
        {**groups, "line": match.row.text.strip(), "where": f"device {device}" if device else "a device"}
    )
    return Failure(
        error=match.rule.error,
        message=_said_by(rank, message),
        hint=match.rule.hint,
        rank=rank,
        child_exit_code=_code(ending),
        signal=_signal_name(ending),
        device=device,
        evidence=match.row.text.strip(),
        rule=match.rule.name,
    )


def _real_device(index: str | None, devices: Sequence[str]) -> str | None:
    """The device's number outside the run; the printed one where the run's devices are not known."""
    if not index:
        return None
    return devices[int(index)] if int(index) < len(devices) else index


def _from_signal(root: _Ending) -> Failure:
    name = _signal_name(root)
    subject = "the script" if root.rank is None else f"rank {root.rank}"
    return Failure(
        error=ModelFailedError,
        message=f"{subject} was ended by {name}",
        hint=SIGNAL_HINTS.get(name or "", CHECKOUT_HINT),
        rank=root.rank,
        signal=name,
    )


def _launcher_killed(exit_code: int, launcher: str) -> Failure:
    name = _signal_name(_Ending(None, exit_code))
    return Failure(
        error=ModelFailedError,
        message=f"the launcher ({launcher}) was ended by {name}, not by a failing rank",
        hint=KILLED_HINT if name == "SIGKILL" else SIGNAL_HINTS.get(name or "", CHECKOUT_HINT),
        signal=name,
    )


def _from_exit_code(root: _Ending) -> Failure:
    return Failure(
        error=ModelFailedError,
        message=_said_by(root.rank, f"the script ended with exit code {root.exit_code} and did not say why"),
        hint=CHECKOUT_HINT,
        rank=root.rank,
        child_exit_code=root.exit_code,
    )


def _fallback_failure(line: str) -> Failure:
    return Failure(
        error=ModelFailedError,
        message=f"the script gave up what was asked for and went on without it: {line}",
        hint=QUANTIZING_HINT if "quantiz" in line else FALLBACK_HINT,
        child_exit_code=0,
        evidence=line,
    )


def _said_by(rank: int | None, message: str) -> str:
    return message if rank is None else f"rank {rank}: {message}"


def _code(ending: _Ending | None) -> int | None:
    return ending.exit_code if ending is not None and ending.exit_code >= 0 else None


def _signal_name(ending: _Ending | None) -> str | None:
    if ending is None or ending.exit_code >= 0:
        return None
    try:
        return signals.Signals(-ending.exit_code).name
    except ValueError:
        return f"signal {-ending.exit_code}"
