"""Waits that a signal ends: at the first ask, or, for what is still worth doing after it, at a further one."""

from __future__ import annotations

import signal

import pytest

from omnirt_cli.run.cancel import CancelToken, Interrupted


def test_what_is_worth_doing_after_a_first_ask_is_ended_by_a_second() -> None:
    token = CancelToken()
    token.cancel(signal.SIGINT)
    reached = []

    def work() -> None:
        with token.interruptible_again():
            reached.append("began")
            token.interrupt(signal.SIGINT)
            reached.append("went on")

    with pytest.raises(Interrupted):
        work()
    assert reached == ["began"]
    token.close()


def test_it_is_not_begun_after_two() -> None:
    token = CancelToken()
    token.cancel()
    token.cancel()

    with pytest.raises(Interrupted), token.interruptible_again():
        pytest.fail("began all the same")
    token.close()


def test_nobody_is_interrupted_outside() -> None:
    token = CancelToken()
    with token.interruptible_again():
        pass

    token.interrupt(signal.SIGTERM)

    assert token.signal_number == signal.SIGTERM
    token.close()
