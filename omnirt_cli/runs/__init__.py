"""The runs of this machine: a small index in the user's data directory, with a copy of each report and log."""
