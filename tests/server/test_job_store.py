"""The index of jobs: its transitions, its order, and that only the attempt it names can publish."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnirt_cli.errors import IOFailureError
from omnirt_cli.server.jobs.event_file import EventReader, cut_half_line
from omnirt_cli.server.jobs.job import RANKS, Ending, Order
from omnirt_cli.server.jobs.states import TRANSITIONS, IllegalTransitionError, JobState, check_step
from omnirt_cli.server.jobs.store import JobStore, QueueFullError

DONE = Ending(JobState.SUCCEEDED, run_id="a-run")


def order(priority: str = "normal", *, awaited: bool = False) -> Order:
    return Order(uuid.uuid4().hex, "soulx-flashtalk-14b", "cpu", priority, {"a": 1}, {"b": 2}, awaited)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    found = JobStore(tmp_path / "jobs.sqlite3")
    yield found
    found.close()


def test_the_table_has_every_state_and_three_ends() -> None:
    assert set(TRANSITIONS) == set(JobState)
    assert {state for state in JobState if state.final} == {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    for before in JobState:
        for after in JobState:
            if after in TRANSITIONS[before]:
                check_step(before, after)
            else:
                with pytest.raises(IllegalTransitionError):
                    check_step(before, after)


def test_an_order_is_kept_as_it_is(store: JobStore) -> None:
    made = order("high", awaited=True)

    assert store.add(made, 1).order == made
    found = store.get(made.id)
    assert found is not None
    assert (found.order, found.state, found.attempt) == (made, JobState.QUEUED, 0)


@given(st.lists(st.sampled_from(sorted(RANKS)), max_size=12))
@settings(max_examples=25, deadline=None)
def test_jobs_are_claimed_by_priority_and_then_in_turn(priorities: list[str]) -> None:
    store = JobStore(Path(":memory:"))
    made = [order(priority) for priority in priorities]
    for one in made:
        store.add(one, 99)
    positions = {one.id: store.position(job) for one in made if (job := store.get(one.id)) is not None}
    claimed = []
    while (job := store.claim()) is not None:
        claimed.append(job.id)

    assert claimed == [one.id for one in sorted(made, key=lambda one: RANKS[one.priority])]
    assert [positions[job_id] for job_id in claimed] == list(range(len(made)))
    store.close()


def test_a_full_queue_takes_no_more(store: JobStore) -> None:
    store.add(order(), 2)
    store.claim()
    store.add(order(), 2)
    store.add(order(), 2)

    with pytest.raises(QueueFullError):
        store.add(order(), 2)
    assert store.waiting() == 2


def test_a_result_is_taken_from_the_last_attempt_only_and_once(store: JobStore) -> None:
    store.add(order(), 9)
    first = store.claim()
    assert first is not None
    assert store.put_back(first)
    second = store.claim()
    assert second is not None

    assert not store.finish(first, DONE)
    assert not store.put_back(first)
    assert store.finish(second, DONE)
    assert not store.finish(second, Ending(JobState.FAILED))
    found = store.get(first.id)
    assert found is not None
    assert (found.state, found.attempt, found.run_id) == (JobState.SUCCEEDED, 2, "a-run")


def test_a_waiting_job_is_cancelled_and_a_running_one_is_marked(store: JobStore) -> None:
    waiting, running = order(), order("high")
    store.add(waiting, 9)
    store.add(running, 9)
    store.claim()

    cancelled, marked = store.cancel(waiting.id), store.cancel(running.id)

    assert cancelled is not None
    assert (cancelled.state, cancelled.finished_at_ms is not None) == (JobState.CANCELLED, True)
    assert marked is not None
    assert (marked.state, marked.cancel_requested) == (JobState.RUNNING, True)
    assert store.cancel("0" * 32) is None


def test_waiting_jobs_whose_callers_are_gone_are_ended(store: JobStore) -> None:
    awaited, other, running = order(awaited=True), order(), order("high", awaited=True)
    for one in (awaited, other, running):
        store.add(one, 9)
    store.claim()

    assert store.cancel_awaited() == 1
    found = {one.id: job.state for one in (awaited, other, running) if (job := store.get(one.id)) is not None}
    assert found == {awaited.id: JobState.CANCELLED, other.id: JobState.QUEUED, running.id: JobState.RUNNING}


def test_only_finished_jobs_expire_and_the_oldest_go_first(store: JobStore) -> None:
    for _ in range(4):
        store.add(order(), 9)
    ended = [job for job in (store.claim(), store.claim(), store.claim()) if job is not None]
    for job in ended[:2]:
        store.finish(job, DONE)

    assert store.expired(0, most_kept=9) == []
    assert len(store.expired(0, most_kept=1)) == 1
    assert set(store.expired(2**53, most_kept=9)) == {job.id for job in ended[:2]}
    store.remove(ended[2].id)
    assert store.get(ended[2].id) is not None, "a running job is never forgotten"


def test_an_index_of_another_version_is_left_alone(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "jobs.sqlite3"
    JobStore(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()

    with pytest.raises(IOFailureError, match="schema 99"):
        JobStore(path)


# --- events ---------------------------------------------------------------------------------------


@given(st.lists(st.text(alphabet="ab é\r", min_size=1, max_size=5), max_size=20), st.integers(0, 25))
@settings(max_examples=40, deadline=None)
def test_events_are_numbered_by_their_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], after: int
) -> None:
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    reader = EventReader(path, after=after)

    found = reader.more()

    assert [(event.id, event.text) for event in found] == list(enumerate(lines, 1))[after:]
    assert reader.last_id == len(lines)
    with path.open("a", encoding="utf-8") as file:
        file.write("half a li")
    assert reader.more() == []
    with path.open("a", encoding="utf-8") as file:
        file.write("ne\n")
    assert [event.text for event in reader.more()] == ["half a line"][max(0, after - len(lines)) :]


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b""), (b"half", b""), (b"one\nha", b"one\n"), (b"one\n", b"one\n"), (b"a\n" + b"x" * 200_000, b"a\n")],
)
def test_half_a_line_of_a_killed_writer_is_dropped(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(before)

    cut_half_line(path)

    assert path.read_bytes() == after
    cut_half_line(tmp_path / "nothing")
