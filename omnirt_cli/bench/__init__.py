"""Cold and hot measurements through the same `engine.generate` that every other caller uses.

`session.py` sends the requests and keeps what each gave; `figures.py` makes numbers of it; `gates.py`, `baseline.py`
and `growth.py` judge them. No time is measured here that a run's report already has.
"""
