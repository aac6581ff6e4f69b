"""The private `infer_params.yaml` of a run: the checkout's own, with this run's values laid over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml


def private_params(own: Mapping[str, Any], values: Mapping[str, Any]) -> bytes:
    """The file's content; keys that OmniRT does not know stay as they are.

    Args:
        own: What the checkout's file says.
        values: This run's values, by the file's keys.
    """
    return yaml.safe_dump({**own, **values}, sort_keys=False, allow_unicode=True).encode()
