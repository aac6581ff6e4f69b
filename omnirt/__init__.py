"""OmniRT's import name: `from omnirt import generate`. Re-exports only.

Names are looked up when they are first used, so that `import omnirt` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from omnirt_cli import __version__

if TYPE_CHECKING:
    from omnirt_cli.client.client import Client
    from omnirt_cli.engine import generate
    from omnirt_cli.errors import OmniRTError
    from omnirt_cli.planner import draft_plan
    from omnirt_cli.report import Artifact, GenerateResult, RunReport
    from omnirt_cli.run.cancel import CancelToken

_HOMES = {
    "Client": "omnirt_cli.client.client",
    "generate": "omnirt_cli.engine",
    "draft_plan": "omnirt_cli.planner",
    "CancelToken": "omnirt_cli.run.cancel",
    "OmniRTError": "omnirt_cli.errors",
    "Artifact": "omnirt_cli.report",
    "GenerateResult": "omnirt_cli.report",
    "RunReport": "omnirt_cli.report",
}

__all__ = [
    "Artifact",
    "CancelToken",
    "Client",
    "GenerateResult",
    "OmniRTError",
    "RunReport",
    "__version__",
    "draft_plan",
    "generate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'omnirt' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
