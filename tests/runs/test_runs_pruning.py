"""Old runs are forgotten once a day, and nothing outside the data directory is touched."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from kept_runs import Beside, Runs, living, make_report, make_running

from omnirt_cli.runs import pruning
from omnirt_cli.runs.ending import utc
from omnirt_cli.runs.history import History
from omnirt_cli.runs.notes import note_finished
from omnirt_cli.runs.place import DataPlace
from omnirt_cli.runs.pruning import prune

DAY_S = 86_400.0


def days_ago(days: float) -> str:
    return utc(time.time() - days * DAY_S)


def known() -> set[str]:
    return {entry.run_id for entry in History.current().entries()}


def test_old_runs_go_with_their_folders_and_the_outputs_stay(runs: Runs, place: DataPlace) -> None:
    old, young = runs.noted(started_at=days_ago(91), keep_days=0), runs.noted(started_at=days_ago(89))
    outputs = sorted(runs.folder.iterdir())

    assert prune(place, 90, time.time()) == 1

    assert known() == {young.run_id}
    assert not place.folder(old.run_id).exists()
    assert sorted(runs.folder.iterdir()) == outputs


def test_zero_days_keep_runs_for_ever(runs: Runs, place: DataPlace) -> None:
    old = runs.noted(started_at="1999-01-01T00:00:00.000Z", keep_days=0)

    assert prune(place, 0, time.time()) == 0
    assert known() == {old.run_id}


def test_the_end_of_a_run_prunes_at_most_once_a_day(runs: Runs) -> None:
    first = runs.noted(started_at=days_ago(1))
    old = runs.noted(started_at=days_ago(100))
    last = runs.noted(started_at=days_ago(0))

    assert known() == {first.run_id, old.run_id, last.run_id}


def test_the_first_run_of_a_day_prunes_by_the_setting(runs: Runs, place: DataPlace) -> None:
    report, beside = make_report(runs.folder, started_at=days_ago(3)), Beside(runs.folder)
    beside.save(report)

    assert note_finished(report, beside.report, beside.log, keep_days=2) is None

    assert known() == set()
    assert place.run_ids() == []


def test_a_run_that_lives_is_never_forgotten(runs: Runs, place: DataPlace) -> None:
    report = make_running(runs.folder, started_at=days_ago(100))
    with living(Beside(runs.folder), report):
        assert prune(place, 1, time.time()) == 0
        assert known() == {report.run_id}

    assert prune(place, 1, time.time()) == 1


def test_a_link_in_the_place_of_a_folder_is_not_followed(runs: Runs, place: DataPlace, tmp_path: Path) -> None:
    report = runs.noted(started_at=days_ago(100), keep_days=0)
    outside = tmp_path / "outside"
    place.folder(report.run_id).rename(outside)
    place.folder(report.run_id).symlink_to(outside)

    prune(place, 90, time.time())

    assert (outside / "report.json").is_file()


def test_one_call_does_a_bounded_amount_of_work(runs: Runs, place: DataPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "MOST_AT_ONCE", 5)
    for _ in range(7):
        report = make_report(runs.folder, started_at=days_ago(100))
        assert note_finished(report, None, None, keep_days=0) is None

    assert prune(place, 90, time.time()) == 5
    assert prune(place, 90, time.time()) == 2
