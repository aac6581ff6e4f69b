"""What is made ready beside a run for its end: the picture's measures, and the encoded sound."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnirt_cli.plan import Plan
from omnirt_cli.planner import draft_plan
from omnirt_cli.request import Audio2VideoRequest
from omnirt_cli.run import publish, reporting
from omnirt_cli.run.beside import Beside
from omnirt_cli.run.cancel import CancelToken
from omnirt_cli.run.recorder import Recorder
from omnirt_cli.run.scratch import Scratch
from omnirt_cli.settings import Surroundings
from tests.omnirt_cli_runs import ASSETS

AHEAD = "decoded while it was made"
FRAMES = 50


def plan_of(folder: Path, **config: object) -> Plan:
    """Two seconds of speech, at a tiny size."""
    sound = folder / "two seconds.wav"
    subprocess.run(["ffmpeg", "-v", "error", "-t", "2", "-i", str(ASSETS / "speech.wav"), str(sound)], check=True)
    asked = {
        "model": "soulx-flashtalk-14b",
        "backend": "cpu",
        "inputs": {"image": str(ASSETS / "portrait.png"), "audio": str(sound)},
        "config": {"output_dir": str(folder), "executor": "driver", "size": "128*128", **config},
    }
    around = Surroundings(environ={}, cwd=folder, user_files=(), home=None)
    return draft_plan(Audio2VideoRequest.model_validate(asked), surroundings=around).require()


class Run:
    """A run as far as `Beside` meets one; the test is its model."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.scratch = Scratch.create(plan.scratch, plan.outputs.report)
        self.scratch.hold_inputs(plan.portrait.path, plan.speech.path, plan.speech.stamp)
        self.scratch.keep_picture_of(plan.call.silent_name or "frames.mp4")
        self.cancel = CancelToken()
        self.recorder = Recorder(reporting.new_report(plan, []), plan.outputs, ())
        self.beside = Beside(plan, self.recorder, self.scratch, self.cancel, noted=True)

    def draw(self, frames: int) -> None:
        """Write the picture as the worker's encoder does."""
        source = ["-f", "lavfi", "-i", "testsrc2=s=128x128:r=25", "-frames:v", str(frames), "-bf", "0"]
        pieces = ["-pix_fmt", "yuv420p", "-movflags", "+empty_moov+default_base_moof", "-frag_duration", "1000000"]
        target = str(self.scratch.path / self.plan.call.result_name)
        subprocess.run(["ffmpeg", "-v", "error", *source, *pieces, "-y", target], check=True)

    def compute(self, frames: int) -> None:
        """Begin, compute, and end."""
        self.beside.start()
        self.beside.model_loaded()
        self.draw(frames)
        self.beside.stop()

    def deliver_and_verify(self) -> tuple[publish.Picture, dict[str, str | None]]:
        """The picture that was found, and what the checks of the delivered file say in detail."""
        picture = publish.find_picture(self.plan, self.scratch)
        assert picture is not None
        publish.deliver_picture(self.plan, self.scratch, picture, None)
        checks, _ = publish.verify(self.plan, self.scratch.delivered, picture.seen)
        return picture, {check.name: check.detail for check in checks}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    found = Run(plan_of(tmp_path))
    yield found
    found.scratch.close(remove=True)


def test_a_driven_runs_picture_is_decoded_while_it_is_made(run: Run) -> None:
    run.compute(FRAMES + 6)

    picture, told = run.deliver_and_verify()

    assert (picture.frames, picture.repaired) == (FRAMES, False)
    assert told["decode"] == AHEAD


def test_a_picture_that_is_written_anew_meanwhile_is_decoded_afterwards(run: Run) -> None:
    """A worker's second try begins with an empty file."""
    run.beside.start()
    run.beside.model_loaded()
    run.draw(30)
    time.sleep(0.5)
    run.draw(FRAMES)
    run.beside.stop()

    picture, told = run.deliver_and_verify()

    assert (picture.frames, picture.seen) == (FRAMES, None)
    assert told["decode"] is None


def test_a_picture_that_is_too_short_is_counted_as_ever(run: Run) -> None:
    run.compute(30)

    picture = publish.find_picture(run.plan, run.scratch)

    assert picture is not None
    assert (picture.frames, picture.seen) == (30, None)


def test_a_run_without_a_picture_has_none(run: Run) -> None:
    run.beside.start()
    run.beside.model_loaded()
    run.beside.stop()

    assert publish.find_picture(run.plan, run.scratch) is None


@pytest.mark.parametrize("config", [{"verify": "fast"}, {"verify": "off"}, {"executor": "script"}])
def test_nothing_is_decoded_ahead_where_nobody_asks_for_it(tmp_path: Path, config: dict[str, object]) -> None:
    run = Run(plan_of(tmp_path, **config))

    run.beside.model_loaded()

    assert run.scratch.follower is None
    run.scratch.close(remove=True)


def test_a_cancelled_run_does_not_wait_for_its_picture(run: Run) -> None:
    run.beside.start()
    run.beside.model_loaded()
    run.draw(FRAMES)
    run.cancel.cancel()
    run.beside.stop()

    assert run.scratch.follower is not None
    assert run.scratch.follower._stopped.is_set()


def test_the_directory_goes_after_who_reads_in_it(tmp_path: Path) -> None:
    run = Run(plan_of(tmp_path))
    run.beside.model_loaded()

    run.scratch.close(remove=True)

    assert run.scratch.follower is not None
    assert not run.scratch.follower._thread.is_alive()


def test_the_sound_is_encoded_before_there_is_a_picture(run: Run) -> None:
    run.beside.start()
    run.beside.stop()

    assert run.scratch.sound is not None
    assert (run.scratch.sound.path.stat().st_size > 0, run.scratch.sound.frames) == (True, FRAMES)
    run.scratch.close(remove=True)


def test_a_script_keeps_the_room_that_the_encoded_sound_would_take(tmp_path: Path) -> None:
    run = Run(plan_of(tmp_path, executor="script"))

    run.beside.start()
    run.beside.stop()

    assert run.scratch.sound is None
    run.scratch.close(remove=True)


def test_a_sound_that_changed_is_not_encoded(run: Run) -> None:
    run.plan.speech.path.write_bytes(run.plan.speech.path.read_bytes() + b"more")

    run.beside.start()
    run.beside.stop()

    assert run.scratch.sound is None
