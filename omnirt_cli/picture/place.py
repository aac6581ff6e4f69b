"""Where a page goes: a file of its own name, a default name in a directory, or stdout; written whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omnirt_cli.errors import UsageError
from omnirt_cli.files import storage_error, write_atomic
from omnirt_cli.runs.entry import RunEntry

STDOUT = "-"

_SUFFIXES = (".html", ".htm")
_REPORT_END = ".report.json"


@dataclass(frozen=True)
class PagePlace:
    """Where a page goes.

    Attributes:
        path: Absolute; None for stdout.
    """

    path: Path | None

    @classmethod
    def of(cls, wanted: str, default_name: str) -> PagePlace:
        """The place that a person named: a file, a directory or `-`.

        Raises:
            UsageError: It is the name of something that is no page, such as the video.
        """
        if wanted == STDOUT:
            return cls(None)
        path = Path(wanted).absolute()
        if wanted.endswith("/") or path.is_dir():
            return cls(path / default_name)
        if path.suffix.lower() not in _SUFFIXES:
            raise UsageError(
                f"{wanted} is neither a directory nor the name of a page",
                hint="give --html a name that ends in .html, a directory (`--html .`), or - for stdout",
            )
        return cls(path)

    @property
    def folder(self) -> Path | None:
        """What the page's relative links start from; None where that is not known."""
        return self.path.parent if self.path else None

    def write(self, document: str) -> Path:
        """Put the page in its place.

        Raises:
            OutputUncreatableError, IOFailureError: The place cannot be written, or the disk is full.
        """
        assert self.path is not None
        try:
            write_atomic(self.path, document.encode("utf-8"))
        except OSError as error:
            # The person knows the page's own name, not that of the temporary file that was to become it.
            found = storage_error(OSError(error.errno, error.strerror, str(self.path)), "the page cannot be written")
            found.hint = "give --html a place that this user may write"
            raise found from error
        return self.path


def run_page_name(entry: RunEntry) -> str:
    """The name of a run's page in a directory: that of its report, else one made from its id."""
    report = Path(entry.report_path).name if entry.report_path else ""
    if report.endswith(_REPORT_END):
        return report.removesuffix(".json") + ".html"
    return f"run-{entry.run_id[:8]}.html"


def comparison_page_name(a: RunEntry, b: RunEntry) -> str:
    """The name of a comparison's page in a directory."""
    return f"compare-{a.run_id[:8]}-{b.run_id[:8]}.html"
