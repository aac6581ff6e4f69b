"""What a model's Python has: the packages that the checkout's script imports, and their versions.

Asked of that Python itself, by a small program that it runs; bounded in time and output.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from omnirt_cli import bounded

_PROGRAM = Path(__file__).resolve().parents[2] / "launchers" / "model_env" / "survey.py"
LOOK_TIMEOUT_S = 20.0
IMPORT_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Survey:
    """What a Python said of itself.

    Attributes:
        python: Its version.
        versions: Package -> version, None where it has none.
        problems: Package -> why it cannot be imported.
    """

    python: str
    versions: Mapping[str, str | None]
    problems: Mapping[str, str]


@dataclass(frozen=True)
class SurveyFailure:
    """Why a Python could not be asked."""

    why: str


def survey(
    python: Path, names: Iterable[str], *, env: Mapping[str, str], really: bool = False
) -> Survey | SurveyFailure:
    """Ask a Python for packages.

    Args:
        python: The interpreter.
        names: Packages or distributions.
        env: Its whole environment.
        really: Import each, as the script would; else only look for it.
    """
    argv = [str(python), str(_PROGRAM), *(["--import"] if really else []), *names]
    limit = IMPORT_TIMEOUT_S if really else LOOK_TIMEOUT_S
    try:
        done = bounded.run(argv, timeout_s=limit, env={**env, "PYTHONDONTWRITEBYTECODE": "1"})
    except OSError as error:
        return SurveyFailure(f"{python} cannot be started: {error.strerror}")
    return _read(python, done)


def _read(python: Path, done: bounded.Outcome) -> Survey | SurveyFailure:
    try:
        # Packages may print while they are imported; the document is the last line.
        document = json.loads(done.stdout.splitlines()[-1])
        packages = document["packages"]
        return Survey(
            python=str(document["python"]),
            versions={name: facts["version"] for name, facts in packages.items()},
            problems={name: facts["problem"] for name, facts in packages.items() if facts["problem"]},
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return SurveyFailure(f"{python} could not be asked for its packages: {done.last_words()}")
