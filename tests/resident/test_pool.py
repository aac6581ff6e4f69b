"""The pool's rules, without a process: what it asks its hands for, by a clock that the test moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from launchers.process import ExitStatus
from omnirt_cli.errors import BusyError, InputMissingError
from omnirt_cli.resident.pool import Pool, Worker
from omnirt_cli.resident.spec import TRANSITIONS, FailureReason, WorkerState
from omnirt_cli.resident.ticket import Outcome, Ticket
from tests.resident.resident_runs import spec


@dataclass
class Recorder:
    """Hands that do nothing but remember what they were asked for."""

    did: list[str] = field(default_factory=list)
    endings: dict[str, Outcome] = field(default_factory=dict)

    def launch(self, worker: Worker) -> None:
        self.did.append("launch")

    def wait_for_load(self, worker: Worker, ticket: Ticket) -> None:
        self.did.append(f"wait {ticket.id}")

    def render(self, worker: Worker, ticket: Ticket) -> None:
        self.did.append(f"render {ticket.id}")

    def cancel(self, worker: Worker, ticket: Ticket) -> None:
        self.did.append(f"cancel {ticket.id}")

    def shut_down(self, worker: Worker) -> None:
        self.did.append("shut down")

    def terminate(self, worker: Worker) -> None:
        self.did.append("terminate")

    def release(self, worker: Worker) -> None:
        self.did.append("release")

    def ended(self, ticket: Ticket, outcome: Outcome) -> None:
        assert ticket.id not in self.endings, "a request ends once"
        self.endings[ticket.id] = outcome

    def alarm(self) -> None:
        return


class Scene:
    """A pool with one worker, and the time."""

    def __init__(self, **orders: Any) -> None:
        self.now = 1000.0
        self.hands = Recorder()
        self.pool = Pool(self.hands, lambda: self.now)
        self.orders = {"grace_s": 5.0, "leave_s": 20.0, **orders}
        self.worker = self.pool.add("w1", spec(**self.orders))

    @property
    def state(self) -> WorkerState:
        return self.worker.state

    def ready(self) -> Scene:
        self.pool.ready(self.worker)
        return self

    def submit(self, name: str) -> Ticket:
        ticket = Ticket(name, {}, submitted_at=self.now)
        self.pool.submit(self.worker.id, ticket)
        return ticket

    def begin(self, name: str) -> Ticket:
        ticket = self.submit(name)
        self.pool.started(self.worker, name)
        return ticket

    def done(self, name: str) -> None:
        self.pool.finished(self.worker, name, Outcome(), sound=True)

    def crash(self, why: str = "it crashed") -> None:
        self.pool.gone(self.worker, why, ExitStatus(1, None))

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.pool.tick()

    def reason(self, name: str) -> FailureReason | None:
        return self.hands.endings[name].reason

    def said(self) -> list[str]:
        did, self.hands.did = self.hands.did, []
        return did


def test_requests_are_served_in_the_order_of_their_coming() -> None:
    scene = Scene()
    for name in ("a", "b", "c"):
        scene.submit(name)
    scene.ready()
    scene.done("a")
    scene.done("b")
    scene.done("c")

    assert scene.said() == ["launch", "wait a", "wait b", "wait c", "render a", "render b", "render c"]
    assert scene.state is WorkerState.READY
    assert scene.worker.requests_done == 3


def test_no_deadline_falls_on_a_request_that_takes_long() -> None:
    scene = Scene(idle_timeout_s=60.0).ready()
    scene.begin("a")
    scene.said()

    scene.later(7 * 24 * 3600.0)

    assert scene.said() == []
    assert scene.pool.next_due is None


def test_an_idle_worker_is_stopped_after_its_time_and_a_request_puts_that_off() -> None:
    scene = Scene(idle_timeout_s=60.0).ready()
    scene.later(59.0)
    scene.begin("a")
    scene.later(100.0)
    scene.done("a")
    scene.later(59.0)
    assert "shut down" not in scene.said()

    scene.later(1.0)

    assert scene.state is WorkerState.STOPPING
    assert scene.said()[-1] == "shut down"
    scene.crash()
    assert scene.said() == ["release"]
    assert scene.pool.empty


def test_a_stop_goes_from_a_word_to_force() -> None:
    scene = Scene().ready()
    scene.said()

    scene.pool.stop(["w1"])
    assert scene.said() == ["shut down"]
    scene.later(4.9)
    assert scene.said() == []
    scene.later(0.1)
    assert scene.said() == ["terminate"]


def test_a_stopped_workers_requests_fail_each_with_its_reason() -> None:
    scene = Scene().ready()
    scene.begin("a")
    scene.submit("b")

    scene.pool.stop(["w1"])
    scene.crash()

    assert scene.reason("a") is scene.reason("b") is FailureReason.NO_WORKER
    assert scene.hands.endings["a"].failure == "the worker was stopped"


def test_a_stopped_worker_that_leaves_its_request_by_itself_says_why() -> None:
    scene = Scene().ready()
    scene.begin("a")
    scene.pool.stop(["w1"])
    scene.pool.finished(scene.worker, "a", Outcome(FailureReason.CANCELLED, "the request was cancelled"), sound=True)

    assert scene.hands.endings["a"].failure == "the worker was stopped"


def test_a_loading_worker_is_stopped_by_force_at_once_and_a_waiting_one_is_just_forgotten() -> None:
    loading, waiting = Scene(), Scene().ready()
    loading.said()
    loading.pool.stop(["w1"])
    assert loading.said() == ["terminate"]

    waiting.crash()
    waiting.said()
    assert waiting.pool.stop(["w1"]) == []
    assert waiting.said() == ["release"]


def test_backoff_doubles_and_the_third_crash_within_ten_minutes_is_the_last() -> None:
    scene = Scene().ready()
    scene.said()
    for wait in (1.0, 2.0):
        scene.crash()
        assert scene.state is WorkerState.LOADING
        scene.later(wait - 0.01)
        assert scene.said() == []
        scene.later(0.01)
        assert scene.said() == ["launch"]
        scene.ready()

    scene.crash("the last straw")

    assert scene.state is WorkerState.FAILED
    assert scene.said() == ["release"]
    with pytest.raises(BusyError, match="the last straw"):
        scene.pool.add("w2", spec(**scene.orders))
    scene.later(60.0)
    assert scene.pool.find("w1") is None
    assert scene.pool.add("w2", spec(**scene.orders)).state is WorkerState.LOADING


def test_crashes_that_are_long_past_count_no_more() -> None:
    scene = Scene().ready()
    for _ in range(5):
        scene.crash()
        assert scene.state is WorkerState.LOADING
        scene.later(1.0)
        scene.ready()
        scene.later(600.0)


def test_stopping_a_failed_worker_by_hand_is_a_new_beginning() -> None:
    scene = Scene()
    for number in range(3):
        scene.pool.gone(scene.pool.get(f"w{number + 1}"), "it crashed", None)
        if number < 2:
            scene.pool.add(f"w{number + 2}", spec(**scene.orders))

    scene.pool.stop(["w3"])

    assert scene.pool.add("w4", spec(**scene.orders)).state is WorkerState.LOADING


def test_the_cause_of_a_crash_is_not_repeated_and_those_behind_it_are_not_charged() -> None:
    scene = Scene().ready()
    cause, behind = scene.begin("a"), scene.submit("b")

    scene.crash()

    assert scene.reason("a") is FailureReason.CRASHED
    assert scene.hands.endings["a"].exit == ExitStatus(1, None)
    assert not behind.retried
    assert not cause.retried
    scene.later(1.0)
    scene.ready()
    assert scene.said()[-1] == "render b"


def test_a_request_that_was_given_but_not_begun_comes_first_again() -> None:
    scene = Scene().ready()
    given = scene.submit("a")
    scene.submit("b")

    scene.crash()
    scene.later(1.0)
    scene.ready()

    assert given.retried
    assert scene.said()[-1] == "render a"
    assert scene.hands.endings == {}


def test_who_waited_for_two_loads_waits_no_more_and_nothing_is_loaded_for_nobody() -> None:
    scene = Scene()
    scene.submit("a")
    scene.crash()
    assert scene.hands.endings == {}
    scene.later(1.0)

    scene.crash("no such checkpoint")

    assert scene.reason("a") is FailureReason.NO_WORKER
    assert scene.hands.endings["a"].failure == "no such checkpoint"
    assert scene.state is WorkerState.FAILED


def test_a_load_has_its_limit_and_the_time_in_use_does_not_count_for_it() -> None:
    scene = Scene(start_timeout_s=100.0)
    scene.later(99.0)
    scene.ready()
    scene.later(1000.0)
    assert "terminate" not in scene.said()

    other = Scene(start_timeout_s=100.0)
    other.later(100.0)
    assert other.said() == ["launch", "terminate"]
    other.crash()
    assert other.worker.last_error == "it was not ready within 100 s"


def test_a_dropped_request_has_its_answer_at_once_and_the_worker_the_time_to_leave_it() -> None:
    scene = Scene().ready()
    ticket = scene.begin("a")
    scene.submit("b")
    scene.said()

    scene.pool.drop(ticket)
    assert scene.reason("a") is FailureReason.CANCELLED
    assert scene.said() == ["cancel a"]
    scene.pool.drop(ticket)
    scene.done("a")
    assert scene.said() == ["render b"]
    scene.later(10.0)
    assert scene.said() == []


def test_a_worker_that_does_not_leave_a_dropped_request_is_restarted_without_blame() -> None:
    scene = Scene().ready()
    for _ in range(4):
        scene.pool.drop(scene.begin(f"a{len(scene.hands.endings)}"))
        scene.said()
        scene.later(19.0)
        assert scene.said() == [], "a chunk may take long"
        scene.later(1.0)
        assert scene.said() == ["terminate"]
        scene.crash()
        scene.later(0.0)
        assert scene.said() == ["launch"]
        scene.ready()


def test_a_model_that_is_not_what_was_asked_for_serves_nobody_and_is_not_loaded_again() -> None:
    scene = Scene()
    scene.submit("a")
    scene.said()

    scene.pool.unfit(scene.worker, "Running without quantization.")
    scene.crash()

    assert scene.reason("a") is FailureReason.NO_WORKER
    assert scene.hands.endings["a"].failure == "Running without quantization."
    assert scene.said() == ["terminate", "release"]
    assert scene.state is WorkerState.FAILED
    assert scene.worker.last_error == "Running without quantization."


def test_a_request_that_comes_while_the_worker_dies_is_kept_for_the_next_start() -> None:
    scene = Scene().ready()
    scene.pool.unreachable(scene.worker)
    ticket = scene.submit("a")
    assert "render a" not in scene.said()

    scene.crash()
    scene.later(1.0)
    scene.ready()

    assert scene.said()[-1] == "render a"
    assert not ticket.retried


def test_a_worker_that_is_silent_is_ended() -> None:
    scene = Scene().ready()
    scene.said()
    scene.pool.unreachable(scene.worker)
    scene.later(5.0)

    assert scene.said() == ["terminate"]


def test_only_idle_workers_are_evicted_all_or_none() -> None:
    scene = Scene().ready()
    other = scene.pool.add("w2", spec("b", grace_s=5.0))
    scene.pool.ready(other)
    scene.begin("a")
    scene.said()

    with pytest.raises(BusyError):
        scene.pool.evict(["w2", "w1"])
    assert other.state is WorkerState.READY
    assert scene.said() == []
    scene.done("a")
    assert scene.pool.evict(["w2", "w1"]) == [other, scene.worker]


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(InputMissingError, match="nowhere"):
        Scene().pool.stop(["nowhere"])


def test_facts_tell_waiting_for_others_from_waiting_for_the_load() -> None:
    scene = Scene()
    first, second = scene.submit("a"), scene.submit("b")
    scene.now += 80.0
    scene.ready()
    scene.now += 30.0
    scene.done("a")

    facts = second.facts(Outcome(), scene.now)
    assert (facts.was_loading, facts.load_ms, facts.queue_wait_ms) == (True, 80_000.0, 30_000.0)
    facts = first.facts(Outcome(), scene.now)
    assert (facts.load_ms, facts.queue_wait_ms) == (80_000.0, 0.0)


def test_a_state_is_entered_only_from_where_the_table_says() -> None:
    worker = Scene().worker
    assert WorkerState.BUSY not in TRANSITIONS[worker.state]

    with pytest.raises(ValueError, match="cannot go from loading to busy"):
        worker.move(WorkerState.BUSY)
