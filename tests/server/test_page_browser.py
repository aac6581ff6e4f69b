"""The page at `/` in headless Chromium: what a person does there, and what a browser makes of it.

Needs the `playwright` package and a Chromium of the machine's own (`apt-get install chromium`); left out without them.
The page's policy forbids evaluated scripts, so that tests wait for what can be seen and for nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.omnirt_cli_runs import ASSETS
from tests.server.server_runs import Server, finished, serving

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
expect = playwright.expect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")

KEY = "a-key-of-the-page-0123456789"
CHUNK_S = "0.5"
PHONE = {"viewport": {"width": 375, "height": 800}, "is_mobile": True, "has_touch": True}

WAIT_MS = 30_000


@dataclass
class Tab:
    """A page in the browser, and what its console complained of."""

    page: Any
    complaints: list[str] = field(default_factory=list)

    def fill(self, **knobs: str) -> None:
        """A portrait, a recording, and a tiny render's settings."""
        self.page.set_input_files("#image", ASSETS / "portrait.png")
        self.page.set_input_files("#audio", ASSETS / "speech.wav")
        self.page.get_by_text("All settings").click()
        for name, value in {"size": "128*128", "max_chunks": "3", **knobs}.items():
            self.page.locator(f"#knob-{name}").fill(value)

    def render(self) -> str:
        """Send the form; the job's id."""
        self.page.get_by_role("button", name="Render").click()
        expect(self.page).to_have_url(re.compile("#job/"))
        return str(self.page.url).rpartition("/")[2]

    def listen(self, message: Any) -> None:
        """Answers that are no success are reported too; those the page tells, and the tests look for that."""
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)

    @property
    def state(self) -> Any:
        return self.page.locator("#job-state")

    @property
    def picture(self) -> Any:
        return self.page.frame_locator("#picture")


Open = Callable[..., Tab]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield found
        found.close()


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its chunks take long enough to be watched."""
    with serving(tmp_path_factory.mktemp("page"), env={"MINIATURE_CHUNK_S": CHUNK_S}) as found:
        yield found


@pytest.fixture
def tab(browser: Any, slow_server: Server) -> Iterator[Open]:
    """Opens tabs; at the end no console may have complained."""
    opened: list[Tab] = []
    contexts = []

    def opener(server: Server = slow_server, address: str = "/", **options: Any) -> Tab:
        context = browser.new_context(permissions=["microphone"], **options)
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        made = Tab(context.new_page())
        made.page.on("console", made.listen)
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        made.page.goto(server.url + address)
        opened.append(made)
        return made

    expect.set_options(timeout=WAIT_MS)
    yield opener
    complaints = [text for made in opened for text in made.complaints]
    for context in contexts:
        context.close()
    assert complaints == []


def test_a_render_is_asked_for_watched_and_seen(tab: Open, slow_server: Server) -> None:
    found = tab()
    found.fill()

    job_id = found.render()
    expect(found.state).to_have_text("running")
    for number in (1, 2):
        expect(found.page.locator("#progress-figures")).to_contain_text(f"chunk {number} of 3")
    expect(found.page.locator("#queue [aria-current]")).to_contain_text("running")
    expect(found.state).to_have_text("succeeded")

    assert found.page.evaluate("document.querySelector('#progress-bar').value") == 3
    video = found.picture.locator("video")
    expect(video).to_be_visible()
    wait_until(lambda: video.evaluate("one => one.videoWidth") == 128)
    expect(found.picture.get_by_role("heading", name="Phases")).to_be_visible()
    expect(found.picture.locator("svg.columns line.realtime")).to_have_count(1)
    expect(found.picture.locator(".layer.core").first).to_have_css("fill", "rgb(47, 111, 214)")
    with found.page.expect_download() as download:
        found.page.get_by_role("link", name="Download the video").click()
    with slow_server.client() as client:
        assert Path(download.value.path()).read_bytes() == client.get(f"/v1/jobs/{job_id}/video").content


def test_a_running_job_is_cancelled(tab: Open, slow_server: Server) -> None:
    found = tab()
    found.fill(max_chunks="10")
    job_id = found.render()
    expect(found.page.locator("#progress-figures")).to_contain_text("chunk 1 of")

    found.page.get_by_role("button", name="Cancel").click()

    expect(found.state).to_have_text("cancelled")
    expect(found.page.locator("#cancel")).to_be_hidden()
    with slow_server.client() as client:
        assert finished(client, job_id)["state"] == "cancelled"


def test_the_keyboard_is_enough(tab: Open) -> None:
    found = tab()
    expect(found.page.get_by_label("Model", exact=True)).to_have_value("soulx-flashtalk-14b")
    order: list[str] = []
    while "render" not in order:
        found.page.keyboard.press("Tab")
        order.append(found.page.evaluate("document.activeElement.id || document.activeElement.localName"))
        assert len(order) < 30
    assert [name for name in order if name in ("image", "audio", "record", "model", "preset", "prompt")] == [
        "image",
        "audio",
        "record",
        "model",
        "preset",
        "prompt",
    ]

    found.page.keyboard.press("Enter")

    expect(found.page.get_by_role("alert").filter(has_text="The portrait is missing.")).to_be_visible()
    assert found.page.evaluate("document.activeElement.id") == "image"


def test_a_refused_request_is_told_in_the_server_s_words(tab: Open, tmp_path: Path) -> None:
    found = tab()
    no_picture = tmp_path / "portrait.png"
    no_picture.write_bytes(b"no picture at all")
    found.fill()
    found.page.set_input_files("#image", no_picture)

    found.page.get_by_role("button", name="Render").click()

    alert = found.page.locator("#order-problem")
    expect(alert).to_contain_text("the image is not a picture that can be used")
    expect(alert).to_contain_text("What to do: give one of")


def test_a_setting_that_is_no_number_is_refused_by_the_server_and_not_lost(tab: Open) -> None:
    found = tab()
    found.fill(seed="many")

    found.page.get_by_role("button", name="Render").click()

    expect(found.page.locator("#order-problem")).to_contain_text("seed")


def test_a_failed_run_tells_why(tab: Open) -> None:
    found = tab()
    found.fill(size="17*17")

    found.render()

    expect(found.state).to_have_text("failed")
    expect(found.picture.get_by_text("both sides must be multiples of 16").first).to_be_visible()
    expect(found.page.get_by_role("link", name="Log")).to_have_count(0)


def test_quantization_is_offered_where_the_model_has_it(tab: Open, slow_server: Server) -> None:
    with slow_server.client() as client:
        models = {model["id"]: model["knobs"] for model in client.get("/v1/models").json()["data"]}
    found = tab()
    offered = {}
    for name, knobs in models.items():
        found.page.get_by_label("Model", exact=True).select_option(name)
        fields = found.page.locator("#quantization [data-knob]")
        offered[name] = set(fields.evaluate_all("all => all.map(one => one.dataset.knob)"))
        assert offered[name] <= set(knobs)
        assert found.page.get_by_role("group", name="Quantization").is_visible() == bool(offered[name])

    assert offered["soulx-flashtalk-14b"] == {"quantize", "t5_quant", "wan_quant"}
    assert offered["soulx-flashhead-1.3b"] == set()
    found.page.get_by_label("Model", exact=True).select_option("soulx-flashtalk-14b")
    choices = found.page.get_by_label("t5 quant").locator("option").all_text_contents()
    assert choices == ["default", "int8", "fp8"]


def test_speech_is_recorded_and_rendered(tab: Open) -> None:
    found = tab()
    found.fill(max_chunks="1")
    found.page.get_by_role("button", name="Record speech").click()
    expect(found.page.get_by_text("Recording …")).to_be_visible()
    time.sleep(1.5)
    found.page.get_by_role("button", name=re.compile("Stop recording")).click()
    expect(found.page.locator("#audio-name")).to_contain_text("recording.webm")

    found.render()

    # The browser's own test sound: beeps that OmniRT need not like, but must be able to read.
    expect(found.state).to_have_text("succeeded")


def test_files_can_be_dropped(tab: Open) -> None:
    found = tab()
    found.page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["sound"], "dropped.wav"));
            const event = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
            document.querySelector("#audio-drop").dispatchEvent(event);
        }"""
    )

    expect(found.page.locator("#audio-name")).to_contain_text("dropped.wav")


def test_a_key_is_asked_for_and_stays_in_the_tab(tab: Open, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY + "\n")
    with serving(tmp_path / "server", "--api-key-file", str(keys)) as server:
        found = tab(server)
        field_for_key = found.page.get_by_label("API key")
        field_for_key.fill("not-the-key")
        found.page.keyboard.press("Enter")
        expect(found.page.get_by_text("does not take that key")).to_be_visible()
        field_for_key.fill(KEY)
        found.page.keyboard.press("Enter")
        expect(found.page.get_by_role("heading", name="New video")).to_be_visible()
        found.fill(max_chunks="1")
        found.render()
        expect(found.state).to_have_text("succeeded")
        video = found.picture.locator("video")
        expect(video).to_have_attribute("src", re.compile("^blob:"))
        wait_until(lambda: video.evaluate("one => one.videoWidth") == 128)
        with found.page.expect_download() as download:
            found.page.get_by_role("link", name="Report").click()
        assert b'"succeeded"' in Path(download.value.path()).read_bytes()

        kept = found.page.evaluate("[Object.values(sessionStorage), localStorage.length, document.cookie]")
        assert kept == [[KEY], 0, ""]
        assert KEY not in found.page.url
        assert KEY not in server.log()


def test_progress_goes_on_after_the_server_was_killed(tab: Open, tmp_path: Path) -> None:
    with serving(tmp_path, env={"MINIATURE_CHUNK_S": CHUNK_S}) as server:
        found = tab(server)
        found.fill(max_chunks="4")
        found.render()
        expect(found.page.locator("#progress-figures")).to_contain_text("chunk 1 of 4")
        server.flags += ("--port", str(httpx.URL(server.url).port))
        server.kill()
        expect(found.page.locator("#server")).to_have_text("The server does not answer.")

        server.start()

        expect(found.page.locator("#progress-figures")).to_contain_text("chunk 1 of 4")
        expect(found.state).to_have_text("succeeded")


@pytest.mark.parametrize("options", [PHONE, {"viewport": {"width": 1100, "height": 900}}], ids=["phone", "desk"])
def test_everything_fits_and_has_a_name(tab: Open, slow_server: Server, options: dict[str, Any]) -> None:
    found = tab(**options)
    found.fill(max_chunks="1")

    assert unnamed(found.page) == []
    assert overflow(found.page) == 0
    found.render()
    expect(found.state).to_have_text("succeeded")
    expect(found.picture.locator("video")).to_be_visible()

    assert unnamed(found.page) == []
    assert overflow(found.page) == 0
    wait_until(lambda: found.picture.locator("html").evaluate("one => one.scrollHeight <= innerHeight"))


def test_dark_is_dark(tab: Open) -> None:
    found = tab(color_scheme="dark")

    expect(found.page.locator("body")).to_have_css("background-color", "rgb(16, 21, 29)")


def unnamed(page: Any) -> list[str]:
    """Controls that the accessibility tree has no name for."""
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    roles = (
        "button",
        "link",
        "textbox",
        "combobox",
        "progressbar",
        "checkbox",
        "Iframe",
        "DisclosureTriangle",
        "image",
    )
    return [
        node["role"]["value"]
        for node in tree
        if not node["ignored"] and node["role"]["value"] in roles and not node.get("name", {}).get("value")
    ]


def overflow(page: Any) -> int:
    """By how much the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


def wait_until(ready: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.1)
