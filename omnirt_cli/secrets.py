"""Values that must not be shown: what reports, plans and listings print instead of them."""

from __future__ import annotations

import re
from collections.abc import Mapping

HIDDEN = "***"

_SECRET = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL|AUTH)", re.IGNORECASE)


def without_secrets(env: Mapping[str, str]) -> dict[str, str]:
    """An environment as it may be shown: values whose names sound secret are hidden."""
    return {name: HIDDEN if _SECRET.search(name) else value for name, value in sorted(env.items())}
