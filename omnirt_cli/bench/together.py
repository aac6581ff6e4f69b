"""Several requests at a time, each in a thread with a cancel token of its own; asking one to stop asks them all."""

from __future__ import annotations

import select
import signal
import threading
from collections.abc import Callable

from omnirt_cli.run.cancel import CancelToken

Work = Callable[[CancelToken], bool]
"""Carries out one request; False where there is no more to do."""

_LOOK_EVERY_S = 0.2


def repeat(work: Work, cancel: CancelToken) -> None:
    """One request after another, in this thread, where a signal can end every wait."""
    while not cancel.asked and work(cancel):
        continue


def repeat_together(work: Work, count: int, cancel: CancelToken) -> None:
    """The same in `count` threads.

    Args:
        work: Called in every thread until it says that there is no more.
        count: How many requests are under way at a time.
        cancel: Asks every request to stop, as often as it is asked itself.

    Raises:
        BaseException: The first that `work` raised; the other threads are stopped.
    """
    tokens = [CancelToken() for _ in range(count)]
    problems: list[BaseException] = []

    def run(token: CancelToken) -> None:
        try:
            repeat(work, token)
        except BaseException as problem:  # noqa: BLE001 - raised again in the thread that waits
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(token,), daemon=True) for token in tokens]
    for thread in threads:
        thread.start()
    passed_on = 0
    while any(thread.is_alive() for thread in threads):
        select.select([cancel], [], [], _LOOK_EVERY_S)
        cancel.drain()
        asks = cancel.asks if not problems else max(cancel.asks, 1)
        for _ in range(asks - passed_on):
            for token in tokens:
                token.cancel(cancel.signal_number or signal.SIGINT)
        passed_on = max(passed_on, asks)
    for token in tokens:
        token.close()
    if problems:
        raise problems[0]
