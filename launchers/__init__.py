"""How a script becomes processes, and how all of them end again.

This package imports nothing of `omnirt_cli` and knows no model: it is given an interpreter, a script,
arguments and an environment. The modules that run in other processes keep further rules:

- `guard` and `proctable` are the program between OmniRT and a launcher. It runs with OmniRT's own
  interpreter, isolated (`-I -S`), single-threaded, and with few imports, because every run waits for its
  start.
- `model_env` holds programs for the model's own Python, where OmniRT is not installed.

No value that a user gives ever becomes shell text.
"""
