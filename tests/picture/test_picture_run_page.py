"""The page of one run: it holds what the report holds, and nothing that a report carries becomes markup."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictured import Page, chunks, full_of, report, two_devices

from omnirt_cli.checks import failed, passed
from omnirt_cli.picture.document import run_document
from omnirt_cli.picture.run_view import run_view
from omnirt_cli.picture.video import VideoLink, video_beside
from omnirt_cli.report import Artifact, ErrorInfo, InputInfo, RunReport, RunStatus

NO_VIDEO = VideoLink(words="This run left no video.")

HOSTILE = [
    "</script><script>alert(1)</script>",
    "</style><style>*{display:none}</style>",
    "\"' onmouseover='alert(1)' x=\"",
    "<img src=x onerror=alert(1)>",
    "--><!-- ]]> <![CDATA[",
    "{{ 7 * 7 }}{% include 'style.css' %}",
    "javascript:alert(1)",
    "\x00\x1b[31m\x7f\ud800",
    "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe",
    "&lt;b&gt; &amp; &#60;",
    "你好 🙂 Ünïcödé",
]


def document_of(of: RunReport, video: VideoLink = NO_VIDEO) -> str:
    return run_document(run_view(of, video))


def page_of(of: RunReport, video: VideoLink = NO_VIDEO) -> Page:
    return Page(document_of(of, video))


# --- what is in it -------------------------------------------------------------------------------------


def test_a_succeeded_run_is_told_in_full() -> None:
    page = page_of(
        report(
            devices=two_devices(),
            checks=[passed("ffmpeg"), failed("frozen", detail="it rests", hint="look")],
            inputs={"audio": InputInfo(path="/in/speech.wav", sha256="ab" * 32, media={"codec": "pcm"})},
            artifacts=[Artifact(path="/out/talk.mp4", num_frames=252, size_bytes=200_580)],
            memory={"host_peak_gib": 3.5},
            warnings=["a knob does nothing"],
        )
    )

    for words in (
        "Run 0a1b2c3d: soulx-flashtalk-14b, succeeded",
        "soulx-flashtalk-14b (public-new)",
        "0, 1 (910B2)",
        "cold: a process of its own",
        "252 frames in 9 chunks, 10.08 s at 25 fps, 416x704",
        "whole run 72.6 s",
        "real-time factor 0.992 faster than real time",
        "check and publish",
        "real time 1.12 s",
        "sample_steps 4 flag infer_params",
        "frozen failed it rests look",
        "/in/speech.wav codec pcm SHA-256 abababababababab…",
        "/out/talk.mp4 252 frames, 195.9 KiB",
        "688982e with local changes",
        "host peak 3.5 GiB",
        "a knob does nothing",
        "memory: at most 29.5 of 61 GiB",
        "60 looks by npu-smi, one every 1.20 s. one look took too long",
    ):
        assert words in page.text, words


def test_a_failed_run_says_why_what_to_do_and_how_its_log_ended() -> None:
    error = ErrorInfo(
        code="model_failed",
        message="rank 3 ended",
        hint="see the log",
        exit_code=10,
        rank=3,
        child_exit_code=1,
        log_tail=["Traceback", "RuntimeError: oops"],
    )

    page = page_of(report(status=RunStatus.FAILED, error=error, chunks=[], timings={"total_ms": 5_000.0}))

    (alert,) = page.all("section", "failure")
    assert alert.text == (
        "model_failed (rank 3, the process ended with 1, exit code 10) rank 3 ended What to do: see the log "
        "The end of the log Traceback RuntimeError: oops"
    )
    assert "No chunk was timed." in page.text


@pytest.mark.parametrize("status", list(RunStatus))
def test_a_run_of_any_status_with_nothing_but_its_name_has_a_page(status: RunStatus) -> None:
    bare = RunReport(run_id="x-1", status=status, started_at="2026-11-20T10:00:00.000Z")

    page = page_of(bare, video_beside(bare, Path()))

    assert page.all("span", "badge")[0].text == status.value
    assert "The report has no phases" in page.text


def test_a_report_that_was_written_while_its_run_went_on_has_a_page() -> None:
    running = report(status=RunStatus.RUNNING, timings={}, finished_at=None, chunks=chunks(2))

    page = page_of(running, video_beside(running, Path()))

    assert "The run was going on when this was made." in page.text
    assert "chunk 2: the script's own time 900 ms" in page.text


def test_nothing_at_the_model_s_default_stands_in_the_way_of_what_was_chosen() -> None:
    page = page_of(report())

    chosen = page.all("tr", "chosen")
    assert [row.text for row in chosen] == ["sample_steps 4 flag infer_params"]
    assert "2 at the model's defaults" in page.text


# --- how it is made ------------------------------------------------------------------------------------


def test_the_page_needs_no_script_and_no_network() -> None:
    page = page_of(report(devices=two_devices()), VideoLink(href="./talk.mp4", path="/out/talk.mp4"))

    assert page.all("script") == page.all("link") == page.all("img") == page.all("iframe") == []
    addresses = {
        value for element in page.elements for name, value in element.attributes.items() if name in {"src", "href"}
    }
    assert addresses == {"./talk.mp4#t=0.1", "./talk.mp4"}
    (policy,) = (meta for meta in page.all("meta") if "http-equiv" in meta.attributes)
    assert "default-src 'none'" in (policy.attributes["content"] or "")
    (style,) = page.all("style")
    assert "url(" not in style.text.replace("url(#hatch)", "")
    assert "@import" not in style.text


def test_styles_stand_in_one_place_so_that_a_server_s_policy_can_name_it() -> None:
    page = page_of(report(devices=two_devices()))

    assert page.where(lambda it: "style" in it.attributes) == []
    assert page.where(lambda it: any(name.startswith("on") for name in it.attributes)) == []


def test_dark_print_and_phones_are_thought_of() -> None:
    (style,) = page_of(report()).all("style")

    assert "prefers-color-scheme: dark" in style.text
    assert "@media print" in style.text
    assert page_of(report()).where(lambda it: it.attributes.get("name") == "viewport")


def test_every_chart_has_a_name_and_a_table() -> None:
    page = page_of(report(devices=two_devices()))

    charts = page.where(lambda it: it.tag == "svg" and it.attributes.get("role") == "img")
    assert len(charts) == 7 + 1 + 3, "a bar a row, the chunks, and three lines of two devices"
    assert all(chart.text for chart in charts)
    assert len([note for note in page.all("summary") if note.text == "The same as a table"]) == 1 + 1 + 2
    assert all("scope" in cell.attributes for cell in page.all("th"))


def test_what_scrolls_or_tells_more_is_reached_by_keyboard() -> None:
    page = page_of(report(devices=two_devices()))

    regions = page.where(lambda it: it.attributes.get("role") == "region")
    assert regions
    assert all(region.attributes.get("tabindex") == "0" and region.attributes.get("aria-label") for region in regions)


def test_names_of_elements_are_given_once_and_those_referred_to_exist() -> None:
    page = page_of(report(devices=two_devices()))

    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    wanted = {
        element.attributes["aria-labelledby"] for element in page.where(lambda it: "aria-labelledby" in it.attributes)
    }
    assert len(ids) == len(set(ids))
    assert wanted <= set(ids)


def test_coordinates_are_percentages_inside_the_charts() -> None:
    page = page_of(report(chunks=chunks(first_ms=60_000.0), devices=two_devices()))

    shapes = page.where(lambda it: it.tag in {"rect", "line", "circle"})
    places = [value for shape in shapes for value in shape.attributes.values() if value and value.endswith("%")]
    assert len(places) > 50
    assert all(0 <= float(place[:-1]) <= 100 for place in places)


# --- hostile and huge ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(text: str) -> None:
    link = VideoLink(href="./talk.mp4", path=text, words=text)

    page = page_of(full_of(text), link)

    harmless = page_of(full_of("word"), VideoLink(href="./talk.mp4", path="word", words="word"))
    assert page.shape == harmless.shape
    assert page.comments == harmless.comments == []


@functools.cache
def harmless_shape() -> list[tuple[str, tuple[str, ...]]]:
    return page_of(full_of("word")).shape


@settings(max_examples=40, deadline=None)
@given(text=st.text(st.characters(), min_size=1, max_size=40).filter(str.strip))
def test_no_text_at_all_changes_what_a_page_is_made_of(text: str) -> None:
    document = document_of(full_of(text))

    document.encode("utf-8")
    assert Page(document).shape == harmless_shape()


def test_hostile_text_is_shown_as_it_is() -> None:
    page = page_of(full_of("</script><b>'\"&amp;"))

    assert page.text.count("</script><b>'\"&amp;") > 20


def test_ten_thousand_chunks_make_a_page_of_bounded_size() -> None:
    small, large = (len(document_of(report(chunks=chunks(count)))) for count in (2_000, 10_000))

    assert large < 150_000
    assert abs(large - small) < 10_000
    assert "10000 chunks: after the first, each column is the average of up to 85" in document_of(
        report(chunks=chunks(10_000))
    )


def test_endless_texts_and_lists_make_a_page_of_bounded_size() -> None:
    endless = full_of("x" * 1_000_000).model_copy(
        update={
            "warnings": ["w"] * 5_000,
            "checks": [failed(f"check {number}", detail="d") for number in range(5_000)],
            "config_resolved": {f"knob {number}": number for number in range(5_000)},
            "timings": {f"figure_{number}": float(number) for number in range(5_000)},
        }
    )

    document = document_of(endless)

    assert len(document) < 400_000
    for words in ("4900 more warnings", "4900 more checks", "4900 more knobs", "4900 more figures", "more characters)"):
        assert words in document


# --- the video -------------------------------------------------------------------------------------------


def test_a_video_beside_the_page_is_linked_by_its_name_alone(tmp_path: Path) -> None:
    video = tmp_path / "a b#1?%.mp4"
    video.write_bytes(b"12345")

    link = video_beside(report(artifacts=[Artifact(path=str(video), size_bytes=5)]), tmp_path)

    assert link == VideoLink(href="./a%20b%231%3F%25.mp4", path=str(video))
    (shown,) = page_of(report(), link).all("video")
    assert shown.attributes["src"] == "./a%20b%231%3F%25.mp4#t=0.1"
    assert re.search(r"base64|data:", document_of(report(), link)) is None


def test_a_name_like_an_address_stays_a_name(tmp_path: Path) -> None:
    video = tmp_path / "javascript:alert(1).mp4"
    video.write_bytes(b"")

    assert (
        video_beside(report(artifacts=[Artifact(path=str(video))]), tmp_path).href == "./javascript%3Aalert%281%29.mp4"
    )


def test_a_name_that_is_no_text_is_linked_by_its_bytes(tmp_path: Path) -> None:
    video = tmp_path / "t\udcff.mp4"
    video.write_bytes(b"")

    link = video_beside(report().model_copy(update={"kept": [str(video)]}), tmp_path)

    assert link.href == "./t%FF.mp4"
    document_of(report(), link).encode("utf-8")


def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    video = tmp_path / "talk.mp4"
    delivered = report(artifacts=[Artifact(path=str(video), size_bytes=5)])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def words(folder: Path | None) -> str | None:
        link = video_beside(delivered, folder)
        assert link.href is None
        return link.words

    assert words(tmp_path) == "The video is not there any more."
    video.write_bytes(b"another")
    assert words(tmp_path) == "The file of that name is another one now."
    video.write_bytes(b"12345")
    assert words(elsewhere) == words(None) == "The video does not lie beside this page, so it is not shown here."
    assert video_beside(report(), tmp_path).words == "This run left no video."


def test_a_video_that_was_kept_after_a_failure_is_shown_as_that(tmp_path: Path) -> None:
    kept = tmp_path / "talk.failed.mp4"
    kept.write_bytes(b"")

    link = video_beside(report(status=RunStatus.FAILED, kept=[str(kept)]), tmp_path)

    assert link == VideoLink("./talk.failed.mp4", str(kept), "Kept for a look, not delivered.")
