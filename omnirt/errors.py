"""The errors that OmniRT raises, under its import name."""

from omnirt_cli.errors import *  # noqa: F403
