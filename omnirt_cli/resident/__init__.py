"""The resident daemon: one process of a user's that keeps loaded models, and how others ask it for renders."""
