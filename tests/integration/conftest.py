"""Assertions in the fault table's helpers tell their values, as those in test modules do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.faults", "tests.fault_causes", "tests.fault_inputs")
