"""`omnirt generate` as people, scripts and Python call it, with the miniature as the model."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from tests.omnirt_cli_runs import (
    ASSETS,
    CHECKOUTS,
    checkout,
    environment,
    finish,
    generate_args,
    log_has,
    omnirt,
    read_report,
    wait_for,
)

QUIET = ("--json", "--progress", "never")


def _speech(path: Path, seconds: float, rate: int = 16000) -> Path:
    """The start of the shipped recording, at another rate."""
    source = ["-i", str(ASSETS / "speech.wav"), "-t", str(seconds)]
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", *source, "-ar", str(rate), str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return path


def test_the_path_of_the_video_is_the_last_line_of_stdout(tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"

    done = omnirt(*generate_args(output, "--max-chunks", "1"))

    assert done.code == 0, done.stderr
    assert done.stdout == f"{output}\n"
    assert "chunk 1/1" in done.stderr


def test_json_on_stdout_is_the_envelope_and_equals_the_report_on_disk(tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"

    done = omnirt(*generate_args(output, *QUIET, "--max-chunks", "1"))

    assert set(done.json) == {"outputs", "metadata"}
    assert done.report == read_report(output)
    assert done.json["outputs"][0]["path"] == str(output)


@pytest.mark.parametrize("mode", ["stream", "once"])
@pytest.mark.parametrize(
    ("model", "variant"),
    [
        ("soulx-flashtalk-14b", "flashtalk_old"),
        ("soulx-flashtalk-14b", "flashtalk_new"),
        ("soulx-flashtalk-14b", "flashtalk_ascend"),
        ("soulx-flashtalk-14b", "flashtalk_quant"),
        ("soulx-flashhead-1.3b", "flashhead"),
        ("soulx-flashhead-1.3b", "flashhead_ascend"),
    ],
)
def test_every_variant_covers_all_of_the_speech(model: str, variant: str, mode: str, tmp_path: Path) -> None:
    audio = _speech(tmp_path / "speech.wav", 3.3, rate=22050)
    output = tmp_path / "video.mp4"

    done = omnirt(
        *generate_args(output, *QUIET, "--audio-encode-mode", mode, *checkout(variant), model=model, audio=audio)
    )

    assert done.code == 0, done.stderr
    report = done.report
    assert report["expected"]["frames"] == 83  # ceil(3.3 s * 25)
    assert report["artifacts"][0]["num_frames"] == 83
    assert report["timings"]["chunk_count"] == report["expected"]["chunks"]
    assert not any("repaired" in warning for warning in report["warnings"])
    assert report["error"] is None


def test_a_knob_really_reaches_the_checkout(tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"

    done = omnirt(*generate_args(output, *QUIET, "--sample-steps", "3", "--seed", "7", *checkout("flashtalk_new")))

    assert done.code == 0, done.stderr
    assert all(len(chunk["denoise_steps_ms"]) == 3 for chunk in done.report["chunks"])
    assert done.report["config_resolved"]["sample_steps"] == 3
    assert done.report["config_carriers"]["sample_steps"] == "infer_params"
    assert done.report["config_sources"]["sample_steps"] == "flag"
    assert "--base_seed=7" in done.report["command"]["argv"]


def test_the_environment_of_an_adapted_checkout_carries_its_knobs(tmp_path: Path) -> None:
    done = omnirt(
        *generate_args(
            tmp_path / "video.mp4",
            *QUIET,
            "--max-chunks",
            "1",
            "--sample-steps",
            "3",
            "--latent-carry",
            *checkout("flashhead_ascend"),
            model="soulx-flashhead-1.3b",
        )
    )

    assert done.code == 0, done.stderr
    env = done.report["command"]["env"]
    assert env["FLASHHEAD_SAMPLE_STEPS"] == "3"
    assert env["FLASHHEAD_LATENT_CARRY"] == "1"
    assert env["FLASHHEAD_DEVICE"] == "cpu"
    assert len(done.report["chunks"][0]["denoise_steps_ms"]) == 3


def test_max_chunks_ends_the_sound_with_the_picture(tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"

    done = omnirt(*generate_args(output, *QUIET, "--max-chunks", "2"))

    assert done.report["artifacts"][0]["num_frames"] == 56
    streams = _streams(output)
    assert abs(float(streams["audio"]["duration"]) - 2.24) < 0.05


def test_the_delivered_sound_is_the_users_own(tmp_path: Path) -> None:
    stereo = tmp_path / "stereo.wav"
    with wave.open(str(stereo), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(b"\x10\x27\xf0\xd8" * 44100 * 2)
    output = tmp_path / "video.mp4"

    omnirt(*generate_args(output, *QUIET, audio=stereo))

    streams = _streams(output)
    assert streams["audio"]["codec_name"] == "aac"
    assert streams["audio"]["sample_rate"] == "44100"
    assert streams["audio"]["channels"] == 2


def test_the_video_says_that_it_is_generated(tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"
    done = omnirt(*generate_args(output, *QUIET, "--max-chunks", "1", "--seed", "5"))

    tags = _probe(output)["format"]["tags"]

    assert "AI-generated" in tags["comment"]
    assert done.report["run_id"] in tags["comment"]
    assert "seed: 5" in tags["comment"]


def test_no_metadata_leaves_the_note_out(tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"
    omnirt(*generate_args(output, *QUIET, "--max-chunks", "1", "--no-metadata"))

    assert "comment" not in _probe(output)["format"].get("tags", {})


def test_relative_paths_are_relative_to_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "p.png").write_bytes((ASSETS / "portrait.png").read_bytes())
    (tmp_path / "in" / "s.wav").write_bytes((ASSETS / "speech.wav").read_bytes())

    done = omnirt(
        *generate_args(Path("out/v.mp4"), *QUIET, "--max-chunks", "1", image=Path("in/p.png"), audio=Path("in/s.wav")),
        cwd=tmp_path,
    )

    assert done.code == 0, done.stderr
    assert (tmp_path / "out" / "v.mp4").exists()


def test_the_default_name_is_model_seed_and_time_in_outputs(tmp_path: Path) -> None:
    args = generate_args(tmp_path / "x.mp4", *QUIET, "--max-chunks", "1")
    del args[args.index("--output") : args.index("--output") + 2]

    done = omnirt(*args, cwd=tmp_path)

    path = Path(done.json["outputs"][0]["path"])
    assert path.parent == tmp_path / "outputs"
    assert path.name.startswith("soulx-flashtalk-14b-9999-")


def test_events_are_json_lines_in_order(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    omnirt(*generate_args(tmp_path / "v.mp4", "--progress", "never", "--max-chunks", "2", "--events", str(events)))

    rows = [json.loads(line) for line in events.read_text().splitlines()]

    assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[0]["event"] == "run_started"
    assert rows[-1]["event"] == "run_finished"
    assert [row["index"] for row in rows if row["event"] == "chunk_finished"] == [0, 1]
    stages = [row["stage"] for row in rows if row["event"] == "stage_started"]
    assert stages == ["prepare", "launch", "load", "generate", "save", "verify"]


def test_events_on_stdout_exclude_json(tmp_path: Path) -> None:
    done = omnirt(*generate_args(tmp_path / "v.mp4", "--json", "--events", "-"))

    assert done.code == 2
    assert done.report["error"]["code"] == "usage"


def test_under_torchrun_two_ranks_render(tmp_path: Path) -> None:
    pytest.importorskip("torch")

    done = omnirt(
        *generate_args(
            tmp_path / "v.mp4", *QUIET, "--max-chunks", "2", "--launcher", "torchrun", "--nproc-per-node", "2"
        ),
        env={"MINIATURE_TORCH": "1"},
    )

    assert done.code == 0, done.stderr
    assert done.report["timings"]["chunk_count"] == 2


def test_under_accelerate_two_ranks_render(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")

    done = omnirt(
        *generate_args(
            tmp_path / "v.mp4", *QUIET, "--max-chunks", "1", "--launcher", "accelerate", "--num-processes", "2"
        ),
        env={"MINIATURE_TORCH": "1"},
    )

    assert done.code == 0, done.stderr
    assert done.report["timings"]["chunk_count"] == 1


def test_a_script_that_runs_in_its_checkout_gets_a_safe_scratch_place(tmp_path: Path) -> None:
    folder = tmp_path / "res_outputs.mp4.d"
    folder.mkdir()
    output = folder / "v.mp4"
    args = generate_args(
        output, *QUIET, "--max-chunks", "1", "--working-directory", "checkout", *checkout("flashtalk_ascend")
    )

    done = omnirt(*args)

    assert done.code == 0, done.stderr
    assert done.report["command"]["cwd"].endswith("flashtalk_ascend")
    assert output.exists()


def test_users_own_environment_comes_last(tmp_path: Path) -> None:
    done = omnirt(
        *generate_args(
            tmp_path / "v.mp4",
            *QUIET,
            "--max-chunks",
            "1",
            "--sample-steps",
            "2",
            "--env",
            "FLASHTALK_SAMPLE_STEPS=3",
            "--env",
            "MY_TOKEN=hidden",
            *checkout("flashtalk_ascend"),
        )
    )

    assert done.code == 0, done.stderr
    assert len(done.report["chunks"][0]["denoise_steps_ms"]) == 3
    assert done.report["command"]["env"]["MY_TOKEN"] == "***"


def test_the_env_script_is_sourced_and_its_words_go_to_the_log(tmp_path: Path) -> None:
    script = tmp_path / "set env.sh"
    script.write_text("echo hello from the script\nexport FLASHTALK_COLOR_CORRECTION_STRENGTH=0.25\n")
    output = tmp_path / "v.mp4"

    done = omnirt(
        *generate_args(output, *QUIET, "--max-chunks", "1", "--env-script", str(script), *checkout("flashtalk_ascend"))
    )

    assert done.code == 0, done.stderr
    assert b"hello from the script" in output.with_name("v.log").read_bytes()
    assert done.report["command"]["env_script"] == str(script)


def test_python_api_renders_and_tells_events(tmp_path: Path) -> None:
    from omnirt import generate
    from omnirt.requests import audio2video

    seen: list[str] = []
    result = generate(
        audio2video(
            model="soulx-flashtalk-14b",
            backend="cpu",
            image=ASSETS / "portrait.png",
            audio=ASSETS / "speech.wav",
            preset="balanced",
            size="128*128",
            max_chunks=1,
            output_dir=tmp_path,
        ),
        on_event=lambda event: seen.append(event.event),
    )

    assert Path(result.outputs[0].path).exists()
    assert result.metadata.timings["chunk_core_ms_avg"] > 0
    assert seen[0] == "run_started"


def test_python_api_errors_carry_code_hint_and_report(tmp_path: Path) -> None:
    from omnirt import OmniRTError, generate
    from omnirt.requests import audio2video

    with pytest.raises(OmniRTError) as caught:
        generate(
            audio2video(
                model="soulx-flashtalk-14b",
                backend="cpu",
                image=ASSETS / "portrait.png",
                audio=tmp_path / "none.wav",
                output_dir=tmp_path,
            )
        )

    assert caught.value.code == "input_missing"
    assert caught.value.exit_status == 66
    assert caught.value.report is not None
    assert caught.value.report.status.value == "failed"


def _probe(path: Path) -> dict:  # type: ignore[type-arg]
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", f"file:{path}"],
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


def _streams(path: Path) -> dict:  # type: ignore[type-arg]
    return {stream["codec_type"]: stream for stream in _probe(path)["streams"]}


def test_a_checkout_that_opens_more_relative_files_gets_them(tmp_path: Path) -> None:
    """The whole miniature is copied, for its checkouts share machinery; then one opens a file of its own."""
    shutil.copytree(CHECKOUTS.parent, tmp_path / "miniature")
    root = tmp_path / "miniature" / "checkouts" / "flashtalk_new"
    (root / "flash_talk" / "configs" / "words.txt").write_text("found")
    inference = root / "flash_talk" / "inference.py"
    inference.write_text(
        inference.read_text()
        + '\nwith open("flash_talk/configs/words.txt") as file:\n    print("words:", file.read())\n'
    )
    output = tmp_path / "v.mp4"

    done = omnirt(
        *generate_args(output, *QUIET, "--max-chunks", "1"),
        "--repo-path",
        str(root),
        "--python-executable",
        sys.executable,
    )

    assert done.code == 0, done.stderr
    assert b"words: found" in output.with_name("v.log").read_bytes()


def test_under_nohup_a_hangup_does_not_cancel(tmp_path: Path) -> None:
    output = tmp_path / "v.mp4"
    process = subprocess.Popen(
        ["nohup", sys.executable, "-m", "omnirt", *generate_args(output, *QUIET, "--max-chunks", "1")],
        env=environment({"MINIATURE_CHUNK_S": "2"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    wait_for(lambda: log_has(output, "Data preparation done"), what="the running script")

    process.send_signal(signal.SIGHUP)

    assert finish(process).code == 0
