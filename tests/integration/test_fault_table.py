"""The fault table: everything that can go wrong with one render is caused here, and ends as it was promised to.

Every row is one real run of the command line, with the miniature or a few lines in a model's place, and fake vendor
tools in front of the real ones. What holds for all of them (exit code, report, hint, no survivor, no
lost file, free locks, a known end) is asserted in one place; a row adds what is particular to it. The faults are
numbered 1 to 33; a test sees to it that none of those that concern a single render is dropped. 28 and 29 are about
servers; 24 and 25 about manifests, but for what a single run does then.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import fault_causes as causes
from tests import fault_inputs as inputs
from tests.fault_causes import all_of, environ, flag, leased, npus, script
from tests.fault_inputs import bad_audio, bad_image, named
from tests.faults import Fault, Scene, play, signalled
from tests.omnirt_cli_runs import Finished

HANGS = "hang@chunk1"
STUBBORN = "ignore_term,hang@chunk1"

SINGLE_RENDER = {*range(1, 28), 30, 31, 32, 33}


# --- what some rows assert besides ----------------------------------------------------------------


def error_has(**expected: object) -> Callable[[Scene, Finished], None]:
    def check(_scene: Scene, done: Finished) -> None:
        error = done.report["error"]
        assert {name: error[name] for name in expected} == expected

    return check


def sooner_than(seconds: float) -> Callable[[Scene, Finished], None]:
    def check(_scene: Scene, done: Finished) -> None:
        assert done.seconds < seconds

    return check


def check_is(name: str, status: str) -> Callable[[Scene, Finished], None]:
    def check(_scene: Scene, done: Finished) -> None:
        assert {check["name"]: check["status"] for check in done.report["checks"]}[name] == status

    return check


def all_failed(*names: str) -> Callable[[Scene, Finished], None]:
    def check(_scene: Scene, done: Finished) -> None:
        failed = {check["name"] for check in done.report["checks"] if check["status"] == "failed"}
        assert failed >= set(names)

    return check


def every_frame_is_there(_scene: Scene, done: Finished) -> None:
    assert done.report["artifacts"][0]["num_frames"] == done.report["expected"]["frames"]


def times_are_sane(scene: Scene, done: Finished) -> None:
    timings = done.report["timings"]
    assert all(0 <= value < 120_000 for name, value in timings.items() if name.endswith("_ms"))
    assert timings["chunk_count"] == done.report["expected"]["chunks"]
    assert [chunk["index"] for chunk in done.report["chunks"]] == list(range(int(timings["chunk_count"])))


def log_is_whole(scene: Scene, _done: Finished) -> None:
    assert scene.log.read_bytes().startswith(causes.GARBAGE)
    assert b"Generate video chunk-2 done" in scene.log.read_bytes()


def chunks_were_seen(scene: Scene, done: Finished) -> None:
    log_is_whole(scene, done)
    assert done.report["timings"]["chunk_count"] == 3


def seed_is_five(_scene: Scene, done: Finished) -> None:
    assert done.report["config_resolved"]["seed"] == 5


def nothing_was_launched(scene: Scene, _done: Finished) -> None:
    assert not scene.log.exists()


def nobody_else_may_read(scene: Scene, _done: Finished) -> None:
    assert scene.output.stat().st_mode & 0o777 == 0o600


# --- the table ------------------------------------------------------------------------------------

STOPPED = [
    Fault((1,), "SIGINT stops it", 130, "cancelled", "cancelled", says=("SIGINT",), miniature=HANGS,
          drive=signalled(signal.SIGINT), check=error_has(signal="SIGINT")),
    Fault((1, 8), "a second SIGINT does not wait for ranks that ignore the first", 130, "cancelled", "cancelled",
          miniature=STUBBORN, drive=signalled(signal.SIGINT, signal.SIGINT), check=sooner_than(4.5)),
    Fault((2,), "SIGTERM stops it", 143, "cancelled", "cancelled", says=("SIGTERM",), miniature=HANGS,
          drive=signalled(signal.SIGTERM), check=error_has(signal="SIGTERM")),
    Fault((2,), "SIGHUP stops it", 129, "cancelled", "cancelled", says=("SIGHUP",), miniature=HANGS,
          drive=signalled(signal.SIGHUP), check=error_has(signal="SIGHUP")),
    Fault((2, 8), "SIGTERM stops ranks that ignore it", 143, "cancelled", "cancelled", miniature=STUBBORN,
          drive=signalled(signal.SIGTERM)),
    Fault((3,), "SIGKILL of OmniRT", -9, "interrupted", "interrupted", miniature=STUBBORN, drive=causes.omnirt_killed,
          scratch_left=True),
    Fault((3,), "SIGKILL of OmniRT above torchrun", -9, "interrupted", "interrupted", miniature=STUBBORN,
          cause=causes.two_ranks, drive=causes.omnirt_killed, scratch_left=True),
    Fault((3,), "SIGKILL of the guard", 10, "failed", "model_failed", says=("guard",), miniature=STUBBORN,
          drive=causes.guard_killed),
    Fault((4,), "SIGKILL of torchrun", 10, "failed", "model_failed", says=("launcher",), miniature=STUBBORN,
          cause=causes.two_ranks, drive=causes.torchrun_killed),
    Fault((5,), "SIGKILL of one of two ranks", 10, "failed", "model_failed", miniature="kill@chunk1:rank1",
          cause=causes.two_ranks, check=error_has(rank=1, signal="SIGKILL")),
    Fault((5,), "SIGKILL of the script, as the out-of-memory killer does", 10, "failed", "model_failed",
          says=("SIGKILL", "memory"), miniature="kill@chunk1"),
    Fault((5,), "the script crashes", 10, "failed", "model_failed", says=("SIGSEGV",), miniature="segv@chunk1"),
    Fault((5,), "out of CUDA memory", 11, "failed", "out_of_device_memory", says=("memory",),
          miniature="oom_cuda@chunk1"),
    Fault((5,), "out of NPU memory, and ERR99999 after it", 11, "failed", "out_of_device_memory", says=("memory",),
          miniature="oom_npu@chunk0"),
    Fault((6,), "one of two ranks exits with 3", 10, "failed", "model_failed", miniature="exit3@chunk1:rank1",
          cause=causes.two_ranks, check=error_has(rank=1, child_exit_code=3)),
    Fault((6,), "the script exits with 3", 10, "failed", "model_failed", says=("3",), miniature="exit3@chunk1"),
    Fault((6,), "HCCL fails while loading", 10, "failed", "model_failed", says=("HCC",), miniature="hccl@load"),
    Fault((6,), "a module is missing", 10, "failed", "model_failed", says=("xfuser",),
          miniature="missing_module@load"),
    Fault((7,), "the script hangs", 12, "timed_out", "timed_out", says=("--stall-timeout", "py-spy"), miniature=HANGS,
          flags=("--stall-timeout=1.5",)),
    Fault((7,), "one of two ranks hangs", 12, "timed_out", "timed_out", says=("--stall-timeout",),
          miniature="hang@chunk1:rank1", flags=("--stall-timeout=5",), cause=causes.two_ranks),
    Fault((7,), "the whole run takes too long", 12, "timed_out", "timed_out", says=("--timeout",), miniature=HANGS,
          flags=("--timeout=3",)),
    Fault((7, 8), "a hang that ignores SIGTERM", 12, "timed_out", "timed_out", says=("--timeout",),
          miniature="ignore_term,hang@chunk0", flags=("--timeout=3", "--grace=0.5")),
]  # fmt: skip

REPAIRED = [
    Fault((number,), f"{what}, in {variant}", 0, "succeeded", None, says=("repaired",), miniature=miniature,
          cause=causes.variant(variant), check=every_frame_is_there)
    for number, what, miniature in (
        (9, "the save routine loses its result, not its picture", "no_output"),
        (10, "the result has no bytes, but there is its picture", "empty_output"),
        (10, "ffmpeg cannot join picture and sound", "mux_fail"),
    )
    for variant in ("flashtalk_old", "flashtalk_new", "flashtalk_ascend")
]  # fmt: skip

BAD_OUTPUT = [
    Fault((9,), "exit 0 in mid-run, and no video", 13, "failed", "output_invalid", says=("left no video", "ffmpeg"),
          miniature="exit0@chunk1"),
    Fault((9,), "exit 0 at once, and no video", 13, "failed", "output_invalid", says=("left no video", "ffmpeg"),
          cause=script("pass")),
    Fault((10,), "exit 0 and a video of no bytes", 13, "failed", "output_invalid", says=("left no video", "ffmpeg"),
          cause=script("open(args.save_file, 'w')")),
    Fault((11,), "a video without its index", 13, "failed", "output_invalid", says=("left no video",),
          cause=script("render()\nos.truncate(args.save_file, os.path.getsize(args.save_file) // 2)"),
          kept=".failed.mp4"),
    Fault((11,), "a truncated video with a good header", 13, "failed", "output_invalid", miniature="truncate",
          cause=inputs.whole_speech, kept=".failed.mp4"),
    Fault((12,), "a black video", 13, "failed", "output_invalid", says=("black",), miniature="black",
          cause=inputs.whole_speech, check=check_is("black", "failed"), kept=".failed.mp4"),
    Fault((12,), "a black video, allowed", 0, "succeeded", None, says=("black",), miniature="black",
          flags=("--allow-black", "--allow-frozen"), check=check_is("black", "warned")),
    Fault((13,), "a picture frozen to the end", 13, "failed", "output_invalid", says=("frozen",),
          miniature="frozen@chunk2", cause=inputs.whole_speech, check=check_is("frozen", "failed"),
          kept=".failed.mp4"),
    Fault((13,), "a frozen picture, allowed", 0, "succeeded", None, says=("frozen",), miniature="frozen@chunk2",
          flags=("--allow-frozen",), cause=inputs.whole_speech, check=check_is("frozen", "warned")),
    Fault((14,), "too few frames", 13, "failed", "output_invalid", says=("frame_count (expected 55, found 25)",),
          cause=script("render(seconds=1)"), kept=".failed.mp4"),
    Fault((14,), "another frame rate", 13, "failed", "output_invalid", says=("fps (expected 25.0, found 30.0)",),
          cause=script("render(rate=30)"), kept=".failed.mp4"),
    Fault((14,), "another size, and no sound", 13, "failed", "output_invalid",
          says=("size (expected 64x64, found 32x32)",), cause=causes.during_the_mux(causes.SMALL_AND_SILENT),
          check=check_is("audio_stream", "failed"), kept=".failed.mp4"),
    Fault((15,), "the video is removed while it is checked", 13, "failed", "output_invalid",
          says=("removed or replaced",), cause=causes.during_verification('rm "$video"'), kept=".failed.mp4"),
    Fault((15,), "the video is replaced while it is checked", 13, "failed", "output_invalid",
          says=("removed or replaced",),
          cause=causes.during_verification('echo no video > "$video.x"; mv "$video.x" "$video"'), kept=".failed.mp4"),
    Fault((15,), "a directory has the video's name", 73, "failed", "output_uncreatable", says=("is a directory",),
          cause=causes.output_is_a_folder, on_disk=False),
    Fault((15,), "a file is where the output directory should be", 73, "failed", "output_uncreatable",
          says=("not a directory",), cause=causes.outputs_are_a_file, on_disk=False),
    Fault((15,), "video, report and log are links to files elsewhere", 0, "succeeded", None,
          cause=causes.links_elsewhere, check=causes.still_precious),
]  # fmt: skip

DISKS = [
    Fault((16,), "the log's disk is full", 74, "failed", "io_error", says=("log",),
          cause=causes.log_to_a_full_device),
    Fault((16,), "the disk is full from the beginning", 74, "failed", "io_error", says=("report",),
          flags=("--skip-check=disk",), cause=causes.full_disk, on_disk=False),
    Fault((16,), "the disk has too little room, which is told before the launch", 73, "failed", "output_uncreatable",
          says=("MiB free", "--skip-check disk"), cause=causes.small_disk(850), on_disk=False),
    Fault((16,), "the disk fills up in mid-run", 74, "failed", "io_error", says=("space",),
          flags=("--skip-check=disk", "--size=256*256"), cause=all_of(inputs.whole_speech, causes.small_disk(850)),
          kept=".failed.mp4"),
    Fault((16,), "the disk fills up at the very end, and the run's own scratch gives room for its report", 0,
          "succeeded", None, flags=("--skip-check=disk",),
          cause=all_of(causes.small_disk(3000), causes.during_verification(causes.FILL_DISK))),
    Fault((16,), "the report cannot be written at the very end", 73, "failed", "output_uncreatable", says=("report",),
          cause=causes.during_verification(causes.BLOCK_REPORT), on_disk=False, delivered=True),
]  # fmt: skip

FFMPEG = [
    Fault((17,), "there is no ffmpeg", 66, "failed", "input_missing", says=("is not on PATH",), cause=causes.no_tools,
          check=nothing_was_launched),
    Fault((17,), "there is no bash to source an env script", 66, "failed", "input_missing", says=("bash",),
          cause=causes.without_bash),
    Fault((17,), "ffmpeg hangs", 66, "failed", "input_missing", says=("ffmpeg does not run: it did not end in time",),
          cause=causes.hanging_ffmpeg("ffmpeg"), check=causes.tool_is_gone("ffmpeg")),
    Fault((17,), "ffprobe hangs", 66, "failed", "input_missing",
          says=("ffprobe does not run: it did not end in time",), cause=causes.hanging_ffmpeg("ffprobe"),
          check=causes.tool_is_gone("ffprobe")),
    Fault((17,), "ffmpeg is too old", 66, "failed", "input_missing", says=("3.4.11", "too old", "4.2"),
          cause=causes.ffmpeg_of_another_age, check=causes.doctor_says("ffmpeg", "3.4.11", "too old")),
    Fault((17, 2), "ffmpeg hangs over the finished picture, until SIGTERM", 143, "cancelled", "cancelled",
          cause=causes.during_the_mux("touch \"$(dirname \"$0\")/muxing\"; sleep 600"),
          drive=causes.stopped_in_the_mux, kept=".failed.mp4"),
    Fault((17,), "ffprobe fails over the finished video", 13, "failed", "output_invalid",
          cause=causes.ffprobe_fails_over_the_video, kept=".failed.mp4"),
]  # fmt: skip

LEASES = [
    Fault((18,), "a named device is another run's", 75, "failed", "busy", says=("device 2 is leased by run",),
          flags=("--visible-devices=2",), cause=npus(), drive=leased(2)),
    Fault((18,), "one of two named devices is another run's: neither is taken", 75, "failed", "busy",
          says=("device 2 is leased by run",), flags=("--visible-devices=1,2", "--launcher=torchrun"), cause=npus(),
          drive=leased(2)),
    Fault((18,), "another run writes the same output", 75, "failed", "busy", says=("another run is writing",),
          drive=causes.beside_a_living_run, on_disk=False),
    Fault((19,), "the run that held the device was killed", 0, "succeeded", None, flags=("--visible-devices=2",),
          cause=npus(), drive=leased(2, killed=True)),
    Fault((19,), "the leases' directory cannot be made", 78, "failed", "config_invalid",
          says=("OMNIRT_LOCK_DIR=/proc/none",), flags=("--devices=1",),
          cause=all_of(npus(), causes.leases_in("/proc/none"))),
    Fault((19,), "the leases' directory is relative", 78, "failed", "config_invalid", says=("relative",),
          flags=("--devices=1",), cause=all_of(npus(), causes.leases_in("leases"))),
    Fault((19,), "the leases' directory is another user's", 78, "failed", "config_invalid", says=("belongs to",),
          flags=("--devices=1",), cause=all_of(npus(), causes.leases_of_another_user)),
    Fault((19,), "the leases' directory is read-only", 78, "failed", "config_invalid", says=("read-only",),
          flags=("--devices=1",), cause=all_of(npus(), causes.leases_on_a_read_only_disk)),
]  # fmt: skip

SETTINGS = [
    Fault((20,), "a settings file begins with a byte order mark", 0, "succeeded", None,
          cause=causes.project_file("\ufeffseed: 5\n"), check=seed_is_five),
    Fault((20,), "a settings file in UTF-16", 78, "failed", "config_invalid", says=("omnirt.yaml:1", "UTF-8"),
          cause=causes.project_file("seed: 5\n".encode("utf-16")), on_disk=False),
    Fault((20,), "a tab in a settings file", 78, "failed", "config_invalid", says=("omnirt.yaml:2:1",),
          cause=causes.project_file("flashtalk:\n\tseed: 5\n"), on_disk=False),
    Fault((20,), "a key that is set twice", 78, "failed", "config_invalid",
          says=("omnirt.yaml:3:1", "twice", "line 1"), cause=causes.project_file("seed: 5\nfps: 25\nseed: 6\n"),
          on_disk=False),
    Fault((20,), "an unknown key in a settings file", 78, "failed", "config_invalid",
          says=("omnirt.yaml:2", "max_chunks"), cause=causes.project_file("seed: 5\nmax_chunk: 6\n"), on_disk=False),
    Fault((20,), "a value of the wrong type", 78, "failed", "config_invalid", says=("omnirt.yaml:1", "seed"),
          cause=causes.project_file("seed: [5]\n"), on_disk=False),
    Fault((20,), "an unknown key in a request", 78, "failed", "config_invalid", says=("request.yaml:2", "max_chunks"),
          cause=causes.request_file("config:\n  max_chunk: 1\n"), on_disk=False),
    Fault((20,), "a request that was half written", 78, "failed", "config_invalid", says=("request.json:2:1",),
          cause=causes.request_file('{"config": {"seed": 5', "request.json"), on_disk=False),
    Fault((20,), "a damaged index of runs", 0, "succeeded", None, cause=causes.damaged_index),
]  # fmt: skip

NAMES = [
    Fault((21,), f"a name with {what}", 0, "succeeded", None, cause=named(name))
    for what, name in {
        "spaces": "with space",
        "letters beyond ASCII": "ünïcödé 漢字",
        "quotes": "quote'\"s",
        "a line break": "line\nbreak",
        "a leading dash": "-leading",
        "what a save routine cuts out": "res_dir",
        "the video's suffix inside": "x.mp4.d",
        "251 letters": "a" * 251,
        "what a shell would run": "$HOME `id`",
    }.items()
]

LOGS_AND_CLOCKS = [
    Fault((22,), "binary garbage, colours, bars and a line without end", 0, "succeeded", None,
          cause=script(causes.GARBAGE_SCRIPT), check=chunks_were_seen),
    Fault((23,), "a clock that jumps by days", 0, "succeeded", None, flags=("--stall-timeout=60", "--timeout=100"),
          cause=causes.jumping_clock, check=times_are_sane),
]  # fmt: skip

AGAIN = [
    Fault((24,), "the machine goes down, and the same request comes once more", 0, "succeeded", None, miniature=HANGS,
          drive=causes.rendered_again, scratch_left=True),
    Fault((25,), "several things are wrong with one request", 66, "failed", "input_missing", says=("none.png",),
          flags=("--visible-devices=1, 2",),
          cause=all_of(npus(), flag(image="/none.png", audio="/none.wav")),
          check=all_failed("image", "audio", "visibility")),
]  # fmt: skip

AUDIO = [
    Fault((26,), f"the recording is {what}", 65, "failed", "input_invalid", says=("recording.wav",),
          cause=bad_audio(make), check=nothing_was_launched)
    for what, make in {
        "empty": inputs.no_bytes,
        "a header without samples": inputs.header_only,
        "text": inputs.text,
        "random bytes": inputs.random_bytes,
        "24 hours long": inputs.a_day_long,
        "a playlist": inputs.playlist,
        "a list of files": inputs.ffconcat,
        "a directory": inputs.folder,
    }.items()
] + [
    Fault((26,), "there is no recording", 66, "failed", "input_missing", says=("none.wav",),
          cause=flag(audio="/none.wav"), check=nothing_was_launched),
    Fault((26,), "the recording has eight channels", 0, "succeeded", None, cause=bad_audio(inputs.eight_channels)),
    Fault((26,), "the recording is shorter than one chunk", 0, "succeeded", None,
          cause=bad_audio(inputs.a_fifth_of_a_second), check=every_frame_is_there),
]  # fmt: skip

IMAGES = [
    Fault((27,), f"the portrait is {what}", 65, "failed", "input_invalid", says=("picture.png",),
          cause=bad_image(make), check=nothing_was_launched)
    for what, make in {
        "empty": inputs.no_bytes,
        "text": inputs.text,
        "a truncated PNG": inputs.truncated_png,
        "a truncated JPEG": inputs.truncated_jpeg,
        "a decompression bomb": inputs.png_bomb,
        "a directory": inputs.folder,
    }.items()
] + [
    Fault((27,), "there is no portrait", 66, "failed", "input_missing", says=("none.png",),
          cause=flag(image="/none.png"), check=nothing_was_launched),
    Fault((27,), "the portrait lies on its side, and EXIF says so", 0, "succeeded", None, says=("EXIF",),
          cause=bad_image(inputs.turned_by_exif)),
    Fault((27,), "the portrait is transparent", 0, "succeeded", None, says=("transparen",),
          cause=bad_image(inputs.transparent)),
    Fault((27,), "the portrait is animated", 0, "succeeded", None, says=("frame",), cause=bad_image(inputs.animated)),
]  # fmt: skip

DEVICES = [
    Fault((30,), "there is no npu-smi, and no device", 69, "failed", "devices_unavailable",
          says=("no ascend device",), cause=causes.no_npu_smi, check=nothing_was_launched),
    Fault((30,), "npu-smi hangs: a named device is believed", 0, "succeeded", None, says=("did not answer",),
          flags=("--visible-devices=0",), cause=causes.npu_smi_hangs, check=causes.tool_is_gone("npu-smi")),
    *[
        Fault((30,), f"npu-smi fails with {number}: a named device is believed", 0, "succeeded", None, says=(number,),
              flags=("--visible-devices=0",), cause=causes.npu_smi_says(words))
        for number, words in {
            "-8005": "dcmi module initialize failed. ret is -8005\n",
            "-8020": "dcmi model initialized failed, because the device is used. ret is -8020\n",
        }.items()
    ],
    Fault((30,), "npu-smi fails, and a number of devices is asked for", 69, "failed", "devices_unavailable",
          says=("-8005", "--visible-devices"), flags=("--devices=1",),
          cause=causes.npu_smi_says("dcmi module initialize failed. ret is -8005\n"),
          check=nothing_was_launched),
    Fault((30,), "npu-smi answers in a layout that nobody knows", 0, "succeeded", None, says=("npu-smi",),
          flags=("--visible-devices=0",), cause=causes.npu_smi_of_tomorrow),
    Fault((30,), "there is no GPU", 69, "failed", "devices_unavailable", says=("no cuda device",),
          cause=causes.gpus(0), check=nothing_was_launched),
    Fault((30,), "nvidia-smi hangs: a named device is believed", 0, "succeeded", None, says=("did not answer",),
          flags=("--visible-devices=0",), cause=causes.nvidia_smi_hangs, check=causes.tool_is_gone("nvidia-smi")),
    Fault((30,), "nvidia-smi does not fit its driver: a named device is believed", 0, "succeeded", None,
          says=("version mismatch",), flags=("--visible-devices=0",), cause=causes.nvidia_smi_fails),
    Fault((30,), "a device vanishes in mid-run, and the script goes on", 0, "succeeded", None,
          flags=("--visible-devices=2",), cause=all_of(npus(), environ(MINIATURE_CHUNK_S="0.5")),
          drive=causes.npu_that_vanishes),
    Fault((30,), "a device vanishes in mid-run, and the script dies of it", 10, "failed", "model_failed",
          says=("HCC",), miniature="hccl@chunk1", flags=("--visible-devices=2",),
          cause=all_of(npus(), environ(MINIATURE_CHUNK_S="0.5")), drive=causes.npu_that_vanishes),
    *[
        Fault((31,), what, 69, "failed", "devices_unavailable", says=says, flags=flags,
              cause=all_of(npus(), around), check=nothing_was_launched)
        for what, flags, around, says in (
            ("a space in the list of devices", ("--visible-devices=1, 2",), environ(), ("malformed", "1,2")),
            ("devices in descending order", ("--visible-devices=3,2",), environ(), ("malformed", "2,3")),
            ("a device named twice", (), environ(ASCEND_RT_VISIBLE_DEVICES="1,1"), ("malformed", "write 1")),
            ("a device out of range", ("--visible-devices=2,9",), environ(), ("9", "write 2")),
            ("a device that the shell's own variable hides", ("--visible-devices=2",),
             environ(ASCEND_RT_VISIBLE_DEVICES="0,1"), ("hides", "0,1")),
        )
    ],
]  # fmt: skip

SURROUNDINGS = [
    Fault((32,), "the shell is a rank of another job", 0, "succeeded", None, cause=causes.leaked_ranks,
          check=every_frame_is_there),
    Fault((32,), "the shell is a rank of another job, whose port is taken", 0, "succeeded", None,
          cause=all_of(causes.leaked_ranks, causes.two_ranks), drive=causes.with_its_port_taken,
          check=every_frame_is_there),
    Fault((33,), "stdout is closed", 0, "succeeded", None, drive=causes.shell('"$@" >&-')),
    Fault((33,), "the reader of stdout has gone", 0, "succeeded", None,
          drive=causes.shell('set -o pipefail; "$@" | true')),
    Fault((33,), "the reader of stdout has gone, and the script fails", 10, "failed", "model_failed", says=("3",),
          miniature="exit3@chunk0", drive=causes.shell('set -o pipefail; "$@" | true')),
    Fault((33,), "every standard stream is closed", 0, "succeeded", None, drive=causes.shell('"$@" <&- >&- 2>&-')),
    Fault((33,), "there is no HOME", 0, "succeeded", None, drive=causes.shell('unset HOME; exec "$@"')),
    Fault((33,), "HOME cannot be written", 0, "succeeded", None, cause=causes.home_on_proc),
    Fault((33,), "HOME cannot be written, and the script fails", 10, "failed", "model_failed", says=("3",),
          miniature="exit3@chunk0", cause=causes.home_on_proc),
    Fault((33,), "cron: no HOME, no locale, a short PATH, a strict umask, a name that ASCII does not have", 0,
          "succeeded", None, cause=named("über 漢字"), drive=causes.under_cron, check=nobody_else_may_read),
]  # fmt: skip

TABLE = [
    *STOPPED,
    *REPAIRED,
    *BAD_OUTPUT,
    *DISKS,
    *FFMPEG,
    *LEASES,
    *SETTINGS,
    *NAMES,
    *LOGS_AND_CLOCKS,
    *AGAIN,
    *AUDIO,
    *IMAGES,
    *DEVICES,
    *SURROUNDINGS,
]


@pytest.mark.parametrize("fault", TABLE, ids=lambda fault: f"{','.join(map(str, fault.numbers))} {fault.what}")
def test_a_fault_ends_as_it_was_promised_to(fault: Fault, tmp_path: Path) -> None:
    play(fault, tmp_path)


def test_the_table_has_every_fault_of_a_single_render() -> None:
    assert {number for fault in TABLE for number in fault.numbers} == SINGLE_RENDER


def test_no_two_rows_are_called_the_same() -> None:
    names = [fault.what for fault in TABLE]

    assert len(names) == len(set(names))
