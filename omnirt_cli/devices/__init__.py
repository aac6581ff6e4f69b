"""Accelerators: what this machine has, and which of them a run may see."""
