"""What goes on beside a run breaks or hangs: the video, the report and the way out of the run do not suffer by it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.omnirt_cli_runs import ROOT, finish, generate_args, log_has, omnirt, read_report, start, wait_for

HUNG_CHECKSUM = """
import sys
if "generate" in sys.orig_argv:
    import time
    import omnirt_cli.media.files
    omnirt_cli.media.files.sha256_of = lambda path: time.sleep(600)
"""

IMPATIENT = """
import sys
if "generate" in sys.orig_argv:
    import time
    import omnirt_cli.media.files, omnirt_cli.run.beside
    real = omnirt_cli.media.files.sha256_of
    omnirt_cli.media.files.sha256_of = lambda path: time.sleep(600) if "recording" in path.name else real(path)
    omnirt_cli.run.beside.PATIENCE_S = 0.5
"""

BROKEN_CHECKSUM = """
import sys
if "generate" in sys.orig_argv:
    import omnirt_cli.media.files, omnirt_cli.run.publish
    def broken(path):
        raise KeyError("sum")
    omnirt_cli.media.files.sha256_of = broken
"""

BROKEN_DIAGNOSIS = """
import sys
if "generate" in sys.orig_argv:
    import omnirt_cli.run.diagnosis
    def broken(*args):
        raise ZeroDivisionError("no chunks")
    omnirt_cli.run.diagnosis.diagnose_run = broken
"""

BROKEN_OPENCV = """
class error(Exception):
    pass
class data:
    haarcascades = ""
class CascadeClassifier:
    def __init__(self, path):
        pass
    def empty(self):
        return False
    def detectMultiScale(self, *args, **options):
        raise error("(-215:Assertion failed) !empty()")
"""


def with_module(folder: Path, name: str, source: str) -> dict[str, str]:
    """The environment of a program that finds this module before any other of its name."""
    place = folder / "modules"
    place.mkdir()
    (place / f"{name}.py").write_text(source)
    return {"PYTHONPATH": os.pathsep.join((str(place), str(ROOT), os.environ.get("PYTHONPATH", "")))}


def test_ctrl_c_does_not_wait_for_a_checksum_that_hangs(tmp_path: Path) -> None:
    output = tmp_path / "v.mp4"
    env = {**with_module(tmp_path, "sitecustomize", HUNG_CHECKSUM), "MINIATURE_FAULT": "hang@load"}
    process = start(*generate_args(output, "--progress", "never"), env=env)
    wait_for(lambda: log_has(output, "Creating WanModel"), what="the running script")

    process.send_signal(signal.SIGINT)
    done = finish(process)

    assert done.code == 130, done.stderr
    assert done.seconds < 10, "it would wait 30 s for the checksum of a run that ended by itself"
    report = read_report(output)
    assert report["status"] == "cancelled"
    assert report["inputs"]["audio"]["sha256"] is None
    assert "left out, for it took too long: the inputs' checksums" in report["warnings"]


def test_a_finished_run_waits_for_a_checksum_only_so_long(tmp_path: Path) -> None:
    env = with_module(tmp_path, "sitecustomize", IMPATIENT)

    done = omnirt(*generate_args(tmp_path / "v.mp4", "--json", "--max-chunks", "1"), env=env)

    assert done.code == 0, done.stderr
    assert done.report["inputs"]["image"]["sha256"]
    assert done.report["inputs"]["audio"]["sha256"] is None
    assert "left out, for it took too long: the inputs' checksums" in done.report["warnings"]


def test_a_bug_beside_the_run_is_a_warning_and_the_rest_is_still_done(tmp_path: Path) -> None:
    env = with_module(tmp_path, "sitecustomize", BROKEN_CHECKSUM)

    done = omnirt(*generate_args(tmp_path / "v.mp4", "--json", "--max-chunks", "1"), env=env)

    assert done.code == 0, done.stderr
    assert "left out: the inputs' checksums (KeyError: 'sum')" in done.report["warnings"]
    assert "Traceback" not in done.stderr
    assert done.report["versions"]["ffmpeg"]
    assert "portrait" in {check["name"] for check in done.report["checks"]}


def test_a_bug_in_the_diagnosis_costs_no_video(tmp_path: Path) -> None:
    env = with_module(tmp_path, "sitecustomize", BROKEN_DIAGNOSIS)

    done = omnirt(*generate_args(tmp_path / "v.mp4", "--json", "--max-chunks", "1"), env=env)

    assert done.code == 0, done.stderr
    assert read_report(tmp_path / "v.mp4")["status"] == "succeeded"
    assert any("ZeroDivisionError: no chunks" in warning for warning in done.report["warnings"])
    assert "Traceback" not in done.stderr
    assert log_has(tmp_path / "v.mp4", "ZeroDivisionError")


def test_an_error_of_opencv_is_a_check_left_out(tmp_path: Path) -> None:
    env = with_module(tmp_path, "cv2", BROKEN_OPENCV)

    done = omnirt(*generate_args(tmp_path / "v.mp4", "--json", "--max-chunks", "1"), env=env)

    assert done.code == 0, done.stderr
    portrait = next(check for check in done.report["checks"] if check["name"] == "portrait")
    assert portrait["status"] == "skipped"
    assert "Assertion failed" in portrait["detail"]
    assert "Traceback" not in done.stderr
