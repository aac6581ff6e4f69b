"""What verifying a video costs over decoding it once with ffmpeg.

Renders a minute with the miniature (512 x 512), then verifies it and decodes it in interleaved pairs. The verification
runs in a process that has its imports done, as it does at the end of a render.

With `--ahead` something else is measured, in pairs too: the time from the last frame to the verdict, delivery included,
where the picture was decoded and the sound encoded while the picture was made, over the same with nothing done before.

    python scripts/benchmarks/verification.py --pairs 9
    python scripts/benchmarks/verification.py --pairs 9 --ahead
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from omnirt_cli.media.audio import inspect_audio
from omnirt_cli.media.deliver import deliver, encode_sound
from omnirt_cli.media.follow import Follower
from omnirt_cli.media.streams import count_packets, read_streams, start_probe
from omnirt_cli.media.verify import Expectation, Verification, verify_video

ASSETS = Path(__file__).resolve().parents[2] / "omnirt_cli" / "miniature" / "assets"
TARGET = 1.15
PIECES_PER_S = 10
"""How fast a picture is made here: ten seconds of it in one."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=6, help="how often the ten seconds of speech are repeated")
    parser.add_argument("--ahead", action="store_true", help="measure what is saved by decoding while frames are made")
    args = parser.parse_args()
    if args.ahead:
        return measure_ahead(args.pairs, args.repeats)
    with tempfile.TemporaryDirectory() as folder:
        audio, video = render(Path(folder), args.repeats)
        expected = expectation(video, audio)
        ratios = []
        for _ in range(args.pairs + 1):
            decode = seconds_of(["ffmpeg", "-v", "error", "-i", str(video), "-f", "null", "-"])
            began = time.monotonic()
            verification = verify_video(video, expected)
            ratios.append((time.monotonic() - began) / decode)
            refuse_bad(verification)
    median = statistics.median(ratios[1:])
    worst = sorted(ratios[1:])[max(0, round(0.9 * args.pairs) - 1)]
    verdict = "ok" if median <= TARGET else "MISSED"
    print(f"verification / one ffmpeg null decode: median {median:.2f}x, p90 {worst:.2f}x (target {TARGET}x) {verdict}")
    return 0 if median <= TARGET else 1


def measure_ahead(pairs: int, repeats: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        audio, video = render(Path(folder), repeats)
        ending = Ending(Path(folder), audio, video, expectation(video, audio))
        times = [(ending.ahead(), ending.afterwards()) for _ in range(pairs + 1)][1:]
    ratio = statistics.median(ahead / after for ahead, after in times)
    ahead_s, after_s = (statistics.median(each) for each in zip(*times, strict=True))
    print(f"from the last frame to the verdict: ahead {ahead_s:.2f} s, afterwards {after_s:.2f} s, ratio {ratio:.2f}x")
    return 0


class Ending:
    """The end of a driven run, over and over: its picture is complete, and a verdict is wanted."""

    def __init__(self, folder: Path, audio: Path, video: Path, expected: Expectation) -> None:
        self.expected = expected
        self.picture, self.delivered = folder / "p.mp4", folder / "d.mp4"
        fragmented = ["-c", "copy", "-movflags", "+empty_moov+default_base_moof", "-frag_duration", "1000000"]
        pieces = folder / "pieces.mp4"
        subprocess.run(["ffmpeg", "-v", "error", "-i", str(video), "-an", *fragmented, str(pieces)], check=True)
        self.content = pieces.read_bytes()
        assert expected.speech is not None
        self.encode = partial(
            encode_sound,
            audio,
            frames=expected.frames,
            fps=expected.fps,
            duration_s=expected.duration_s,
            cut=True,
            speech=expected.speech,
            destination=folder / "s.m4a",
        )
        self.deliver = partial(
            deliver,
            self.picture,
            audio,
            frames=expected.frames,
            fps=expected.fps,
            duration_s=expected.duration_s,
            cut=True,
            speech=expected.speech,
            metadata={},
            destination=self.delivered,
        )

    def ahead(self) -> float:
        """Seconds, where everything was done that can be while the picture grows."""
        self.picture.write_bytes(b"")
        follower = Follower(self.picture, fps=self.expected.fps, frames=self.expected.frames)
        ready = self.encode()
        self.grow()
        began = time.monotonic()
        seen = follower.result()
        self.deliver(ready=ready)
        verdict = verify_video(self.delivered, self.expected, seen=seen)
        took = time.monotonic() - began
        refuse_bad(verdict)
        if seen is None or not any(check.detail == "decoded while it was made" for check in verdict.checks):
            sys.exit("the picture was not decoded while it was made")
        return took

    def afterwards(self) -> float:
        """Seconds, where nothing was."""
        began = time.monotonic()
        with start_probe(self.picture) as probe:
            read_streams(probe)
        count_packets(self.picture)
        self.deliver()
        refuse_bad(verify_video(self.delivered, self.expected))
        return time.monotonic() - began

    def grow(self) -> None:
        step = max(1, len(self.content) // int(self.expected.duration_s))
        with self.picture.open("wb") as file:
            for at in range(0, len(self.content), step):
                file.write(self.content[at : at + step])
                file.flush()
                time.sleep(1 / PIECES_PER_S)


def refuse_bad(verification: Verification) -> None:
    if not verification.ok:
        sys.exit(f"the rendered video does not verify: {verification.failures}")


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
