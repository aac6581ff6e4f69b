"""Where this user's runs are kept: one directory that nobody else may read, and the names in it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

DATA_DIR_VARIABLE = "OMNIRT_DATA_DIR"

RUN_ID = r"^[0-9A-Za-z][0-9A-Za-z_-]{0,63}$"
"""What a run's id looks like: it names the run's folder, and so must never lead out of the data directory."""


def is_run_id(text: str) -> bool:
    """Whether a text can be a run's id, and so the name of its folder."""
    return re.fullmatch(RUN_ID, text) is not None


@dataclass(frozen=True)
class DataPlace:
    """The data directory.

    Attributes:
        root: Absolute; may not be there yet.
    """

    root: Path

    @classmethod
    def current(cls) -> DataPlace:
        """This user's: `OMNIRT_DATA_DIR`, else the platform's directory for user data.

        Raises:
            OSError: The user has no home.
        """
        named = os.environ.get(DATA_DIR_VARIABLE)
        if named:
            return cls(Path(named).absolute())
        import platformdirs

        root = Path(platformdirs.user_data_dir("omnirt"))
        if not root.is_absolute():
            raise FileNotFoundError(f"this user has no home directory; set {DATA_DIR_VARIABLE}")
        return cls(root)

    @property
    def index(self) -> Path:
        """The SQLite index."""
        return self.root / "runs.sqlite3"

    @property
    def index_lock(self) -> Path:
        """Locked, shared, by everyone who has the index open, and alone by who replaces it."""
        return self.root / "runs.lock"

    @property
    def runs(self) -> Path:
        """The folder that holds one folder a run."""
        return self.root / "runs"

    def make(self) -> None:
        """Make the directory, where it is missing.

        Raises:
            OSError: It cannot be made.
        """
        self.root.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.root, self.runs):
            folder.mkdir(mode=0o700, exist_ok=True)

    def folder(self, run_id: str) -> Path:
        """One run's folder.

        Raises:
            ValueError: The id could name something outside the data directory.
        """
        if not is_run_id(run_id):
            raise ValueError(f"{run_id!r} is not a run's id")
        return self.runs / run_id

    def run_ids(self) -> list[str]:
        """The runs that have a folder; none where the directory is not there or may not be read."""
        try:
            with os.scandir(self.runs) as entries:
                return [
                    entry.name for entry in entries if is_run_id(entry.name) and entry.is_dir(follow_symlinks=False)
                ]
        except OSError:
            return []
