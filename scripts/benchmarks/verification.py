"""What verifying a video costs over decoding it once with ffmpeg.

Renders a minute with the miniature (512 x 512), then verifies it and decodes it in interleaved pairs. The verification
runs in a process that has its imports done, as it does at the end of a render.

    python scripts/benchmarks/verification.py --pairs 9
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from omnirt_cli.media.audio import inspect_audio
from omnirt_cli.media.streams import read_streams, start_probe
from omnirt_cli.media.verify import Expectation, verify_video

ASSETS = Path(__file__).resolve().parents[2] / "omnirt_cli" / "miniature" / "assets"
TARGET = 1.15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=6, help="how often the ten seconds of speech are repeated")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        audio, video = render(Path(folder), args.repeats)
        expected = expectation(video, audio)
        ratios = []
        for _ in range(args.pairs + 1):
            decode = seconds_of(["ffmpeg", "-v", "error", "-i", str(video), "-f", "null", "-"])
            began = time.monotonic()
            verification = verify_video(video, expected)
            ratios.append((time.monotonic() - began) / decode)
            if not verification.ok:
                sys.exit(f"the rendered video does not verify: {verification.failures}")
    median = statistics.median(ratios[1:])
    worst = sorted(ratios[1:])[max(0, round(0.9 * args.pairs) - 1)]
    verdict = "ok" if median <= TARGET else "MISSED"
    print(f"verification / one ffmpeg null decode: median {median:.2f}x, p90 {worst:.2f}x (target {TARGET}x) {verdict}")
    return 0 if median <= TARGET else 1


def render(folder: Path, repeats: int) -> tuple[Path, Path]:
    audio, video = folder / "speech.wav", folder / "video.mp4"
    looped = ["-stream_loop", str(repeats - 1), "-i", str(ASSETS / "speech.wav")]
    subprocess.run(["ffmpeg", "-v", "error", *looped, str(audio)], check=True, stdin=subprocess.DEVNULL)
    inputs = ["--image", str(ASSETS / "portrait.png"), "--audio", str(audio), "--output", str(video)]
    subprocess.run(
        [sys.executable, "-m", "omnirt", "generate", "--model", "soulx-flashhead-1.3b", "--backend", "cpu", *inputs],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    return audio, video


def expectation(video: Path, audio: Path) -> Expectation:
    with start_probe(video) as probe:
        picture = read_streams(probe).picture
    assert picture is not None
    assert picture.frames is not None
    return Expectation(
        frames=picture.frames,
        fps=picture.fps,
        width=picture.width,
        height=picture.height,
        duration_s=picture.frames / picture.fps,
        speech=inspect_audio(audio),
    )


def seconds_of(argv: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
