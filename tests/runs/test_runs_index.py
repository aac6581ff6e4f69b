"""The index can be lost or damaged in any way: the runs' reports make it anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from kept_runs import Beside, Runs, make_report

from omnirt_cli.runs.history import History
from omnirt_cli.runs.notes import note_finished
from omnirt_cli.runs.place import DataPlace
from tests.omnirt_cli_runs import omnirt


def sql(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def overwrite_pages(path: Path) -> None:
    """The header is whole, what follows is not."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(b"this is no database " * 500),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "pages overwritten": overwrite_pages,
    "another schema": lambda path: sql(path, "PRAGMA user_version = 99"),
    "other columns": lambda path: sql(path, "ALTER TABLE runs DROP COLUMN rtf"),
    "no table": lambda path: sql(path, "DROP TABLE runs"),
    "a row without sense": lambda path: sql(path, "UPDATE runs SET status = 'flying'"),
    "an id that leads elsewhere": lambda path: sql(path, "UPDATE runs SET run_id = '../../' || run_id"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_moved_aside_and_made_anew(runs: Runs, place: DataPlace, damage: str) -> None:
    kept = {runs.noted().run_id for _ in range(3)}
    DAMAGES[damage](place.index)

    done = omnirt("runs", "list", "--json")

    assert {run["run_id"] for run in done.json["runs"]} == kept
    assert done.stderr.count("the index of runs was damaged") == 1
    assert f"{place.index}.damaged-1" in done.stderr
    assert omnirt("runs", "list").stderr == ""


def test_a_run_that_ends_on_a_damaged_index_is_noted_and_warns(runs: Runs, place: DataPlace) -> None:
    before = runs.noted()
    place.index.write_bytes(b"garbage " * 1000)
    report, beside = make_report(runs.folder), Beside(runs.folder)
    beside.save(report)

    warning = note_finished(report, beside.report, beside.log)

    assert warning is not None
    assert "was damaged" in warning
    assert {entry.run_id for entry in History.current().entries()} == {before.run_id, report.run_id}


def test_damaged_files_do_not_pile_up(runs: Runs, place: DataPlace) -> None:
    runs.noted()
    for _ in range(12):
        place.index.write_bytes(b"garbage " * 1000)
        History.current().entries()

    assert len(list(place.root.glob("*.damaged-*"))) == 9
    assert len(History.current().entries()) == 1


def test_a_deleted_index_is_made_anew_without_a_word(runs: Runs, place: DataPlace) -> None:
    report = runs.noted()
    place.index.unlink()

    done = omnirt("runs", "list", "--json")

    assert [run["run_id"] for run in done.json["runs"]] == [report.run_id]
    assert done.stderr == ""


def test_readers_work_where_nothing_can_be_written(runs: Runs, place: DataPlace) -> None:
    report = runs.noted()
    # A directory in the lock's place stops root too, whom no permission does.
    place.index_lock.unlink()
    place.index_lock.mkdir()

    shown = omnirt("runs", "show", report.run_id[:8])

    assert shown.code == 0
    assert "the reports were read instead" in shown.stderr
    assert f"run      {report.run_id}" in shown.stdout


def test_a_report_that_cannot_be_read_hides_no_other(runs: Runs, place: DataPlace) -> None:
    good, bad = runs.noted(), runs.noted()
    (place.folder(bad.run_id) / "report.json").write_text("{ half a rep")
    Beside(runs.folder, "talk1").report.unlink()

    done = omnirt("runs", "rebuild", "--json")

    assert done.json == {"runs": 1}
    assert [entry.run_id for entry in History.current().entries()] == [good.run_id]
    assert omnirt("runs", "rebuild").stdout == "1 run\n"


def test_a_rebuilt_index_has_every_column_as_it_was(runs: Runs) -> None:
    runs.noted()
    before = omnirt("runs", "list", "--json").json

    assert omnirt("runs", "rebuild").code == 0

    assert omnirt("runs", "list", "--json").json == before


def test_the_index_is_in_wal_mode(runs: Runs, place: DataPlace) -> None:
    runs.noted()

    with closing(sqlite3.connect(place.index)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
