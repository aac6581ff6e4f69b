"""Where a page goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pictured import report

from omnirt_cli.errors import OutputUncreatableError, UsageError
from omnirt_cli.picture.place import PagePlace, comparison_page_name, run_page_name
from omnirt_cli.runs.entry import Origin, RunEntry


def test_a_file_a_directory_or_stdout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert PagePlace.of("talk.html", "x.html").path == tmp_path / "talk.html"
    assert PagePlace.of("TALK.HTM", "x.html").path == tmp_path / "TALK.HTM"
    assert PagePlace.of(".", "x.html").path == tmp_path / "x.html"
    assert PagePlace.of("new/", "x.html").path == tmp_path / "new" / "x.html"
    assert PagePlace.of("-", "x.html") == PagePlace(None)
    assert PagePlace(None).folder is None


@pytest.mark.parametrize("name", ["talk.mp4", "talk.report.json", "page", "new.html.gz"])
def test_a_page_never_takes_the_name_of_something_else(name: str) -> None:
    with pytest.raises(UsageError, match="neither a directory nor the name of a page"):
        PagePlace.of(name, "x.html")


def test_a_run_s_page_has_its_report_s_name() -> None:
    def entry(path: str | None) -> RunEntry:
        return RunEntry.of(report(), Origin(report_path=path))

    assert run_page_name(entry("/out/talk.report.json")) == "talk.report.html"
    assert run_page_name(entry("/out/other.json")) == "run-0a1b2c3d.html"
    assert run_page_name(entry(None)) == "run-0a1b2c3d.html"
    assert comparison_page_name(entry(None), entry(None)) == "compare-0a1b2c3d-0a1b2c3d.html"


def test_a_page_replaces_an_older_one_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    place = PagePlace(tmp_path / "talk.html")
    place.write("old")

    assert place.write("neu: ü") == tmp_path / "talk.html"

    assert (tmp_path / "talk.html").read_text(encoding="utf-8") == "neu: ü"
    assert list(tmp_path.iterdir()) == [tmp_path / "talk.html"]


def test_a_place_that_cannot_be_written_is_named_as_the_person_named_it(tmp_path: Path) -> None:
    place = PagePlace(tmp_path / "missing" / "talk.html")

    with pytest.raises(OutputUncreatableError) as caught:
        place.write("page")

    assert str(place.path) in caught.value.message
    assert "--html" in (caught.value.hint or "")
