"""Bad input gets its exit code and a message from the table before a model is loaded."""

from __future__ import annotations

import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.omnirt_cli_runs import ASSETS, checkout, generate_args, omnirt


def _text(path: Path) -> None:
    path.write_text("this is no sound\n" * 100)


def _empty(path: Path) -> None:
    path.touch()


def _no_samples(path: Path) -> None:
    header = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + b"data" + struct.pack("<I", 0)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(header)) + header)


def _playlist(path: Path) -> None:
    path.write_text(f"#EXTM3U\n#EXTINF:10,\n{ASSETS / 'speech.wav'}\n#EXT-X-ENDLIST\n")


def _ffconcat(path: Path) -> None:
    path.write_text(f"ffconcat version 1.0\nfile '{ASSETS / 'speech.wav'}'\n")


def _folder(path: Path) -> None:
    path.mkdir()


def _truncated_png(path: Path) -> None:
    path.write_bytes((ASSETS / "portrait.png").read_bytes()[:20000])


def _bomb(path: Path) -> None:
    """A PNG of 30 000 x 30 000 pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(90001)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("make", "code"),
    [(_text, 65), (_empty, 65), (_no_samples, 65), (_playlist, 65), (_ffconcat, 65), (_folder, 65), (None, 66)],
    ids=lambda value: getattr(value, "__name__", str(value)).strip("_"),
)
def test_bad_audio_is_refused(make: Callable[[Path], None] | None, code: int, tmp_path: Path) -> None:
    audio = tmp_path / "speech.wav"
    if make:
        make(audio)

    done = omnirt(*generate_args(tmp_path / "v.mp4", "--json", audio=audio))

    _assert_refused(done, code, "speech.wav", tmp_path)


@pytest.mark.parametrize(
    ("make", "code"),
    [(_text, 65), (_empty, 65), (_truncated_png, 65), (_bomb, 65), (_folder, 65), (None, 66)],
    ids=lambda value: getattr(value, "__name__", str(value)).strip("_"),
)
def test_bad_portraits_are_refused(make: Callable[[Path], None] | None, code: int, tmp_path: Path) -> None:
    image = tmp_path / "portrait.png"
    if make:
        make(image)

    done = omnirt(*generate_args(tmp_path / "v.mp4", "--json", image=image))

    _assert_refused(done, code, "portrait.png", tmp_path)


def _assert_refused(done, code: int, name: str, folder: Path) -> None:  # type: ignore[no-untyped-def]
    assert done.code == code, done.stderr
    assert name in done.report["error"]["message"]
    assert done.report["status"] == "failed"
    assert "Traceback" not in done.stderr
    assert not (folder / "v.mp4").exists()
    assert not (folder / "v.log").exists(), "nothing was launched"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("--python-executable", "/no/python"), 66, "/no/python"),
        (("--python-executable", __file__), 66, "not executable"),
        (("--repo-path", "/no/checkout", "--python-executable", sys.executable), 66, "/no/checkout"),
        (("--repo-path", "/no/checkout"), 2, "--python-executable"),
        (("--ckpt-dir", "no/weights", *checkout("flashtalk_new")), 66, "no/weights"),
        (("--env-script", "/no/set_env.sh"), 66, "/no/set_env.sh"),
        (("--model", "soulx-flashtalk"), 2, "soulx-flashtalk"),
        (("--size", "704x416"), 2, "WIDTH*HEIGHT"),
        (("--seed", "-1"), 2, "--seed"),
        (("--seed", "many"), 2, "--seed"),
        (("--launcher", "mpi"), 2, "--launcher"),
        (("--env", "NOEQUALS"), 2, "KEY=VALUE"),
        (("--skip-check", "audoi"), 2, "audoi"),
        (("--latent-carry",), 2, "--latent-carry"),
        (("--quantize", "quanto-int4", *checkout("flashtalk_new")), 2, "--quantize"),
        (("--nproc-per-node", "2"), 2, "--nproc-per-node"),
        (("--no-such-flag",), 2, "--no-such-flag"),
        (("--output", "/proc/none/v.mp4"), 73, "/proc"),
        (("--output", "v.avi"), 2, ".mp4"),
        (("--config", "/no/request.yaml"), 66, "/no/request.yaml"),
    ],
)
def test_a_bad_flag_is_refused_with_its_code(args: tuple[str, ...], code: int, message: str, tmp_path: Path) -> None:
    done = omnirt(*generate_args(tmp_path / "v.mp4", "--json"), *args, cwd=tmp_path)

    assert done.code == code, done.stderr
    error = done.report["error"]
    assert message in f"{error['message']} {error['hint']}"
    assert error["exit_code"] == code
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_key_of_a_request_file_names_file_line_and_the_nearest_key(tmp_path: Path) -> None:
    request = tmp_path / "request.yaml"
    request.write_text("model: soulx-flashtalk-14b\nconfig:\n  max_chunk: 1\n")

    done = omnirt("generate", "--config", str(request), "--json")

    assert done.code == 78
    assert f"{request}:3" in done.report["error"]["message"]
    assert "max_chunks" in done.report["error"]["hint"]


def test_a_request_file_renders_and_a_flag_beside_it_wins(tmp_path: Path) -> None:
    request = tmp_path / "request.yaml"
    request.write_text(
        f"""
        model: soulx-flashtalk-14b
        backend: cpu
        inputs: {{image: {ASSETS / "portrait.png"}, audio: {ASSETS / "speech.wav"}}}
        config: {{max_chunks: 3, size: 128*128, output: {tmp_path / "v.mp4"}}}
        """
    )

    done = omnirt("generate", "--config", str(request), "--max-chunks", "1", "--json")

    assert done.code == 0, done.stderr
    assert done.report["expected"]["chunks"] == 1
    assert done.report["config_sources"]["max_chunks"] == "flag"
    assert done.report["config_sources"]["size"].startswith(f"request file {request}:")


def test_an_env_script_that_exits_is_refused_and_its_words_are_in_the_log(tmp_path: Path) -> None:
    script = tmp_path / "set_env.sh"
    script.write_text("echo CANN is not installed\nexit 1\n")

    done = omnirt(*generate_args(tmp_path / "v.mp4", "--json", "--env-script", str(script)))

    assert done.code == 78
    assert b"CANN is not installed" in (tmp_path / "v.log").read_bytes()


def test_a_file_where_the_output_directory_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")

    done = omnirt(*generate_args(tmp_path / "out" / "v.mp4", "--json"))

    assert done.code == 73


def test_no_clobber_keeps_an_existing_video(tmp_path: Path) -> None:
    output = tmp_path / "v.mp4"
    output.write_bytes(b"mine")

    done = omnirt(*generate_args(output, "--json", "--no-clobber"))

    assert done.code == 73
    assert output.read_bytes() == b"mine"


def test_a_full_disk_is_an_io_error_and_keeps_the_old_video(tmp_path: Path) -> None:
    """The log goes to /dev/full; the run is stopped and says why."""
    output = tmp_path / "v.mp4"
    output.write_bytes(b"mine")
    (tmp_path / "v.log").symlink_to("/dev/full")

    done = omnirt(*generate_args(output, "--json"))

    assert done.code == 74, done.stderr
    assert done.report["error"]["code"] == "io_error"
    assert output.read_bytes() == b"mine"


def test_missing_ffmpeg_is_told_before_anything_starts(tmp_path: Path) -> None:
    done = omnirt(*generate_args(tmp_path / "v.mp4", "--json"), env={"PATH": str(tmp_path)})

    assert done.code == 66
    assert "ffmpeg" in done.report["error"]["message"]


def test_an_env_script_without_a_bash_to_source_it_is_refused(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("ffmpeg", "ffprobe"):
        (tools / name).symlink_to(shutil.which(name) or name)
    script = tmp_path / "set_env.sh"
    script.write_text("export A=1\n")

    done = omnirt(*generate_args(tmp_path / "v.mp4", "--json", "--env-script", str(script)), env={"PATH": str(tools)})

    assert done.code == 66, done.stderr
    assert "bash" in done.report["error"]["message"]
