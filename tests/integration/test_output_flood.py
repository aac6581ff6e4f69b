"""Whatever a script prints: the log is byte for byte, memory stays bounded, the chunks are still counted."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.omnirt_cli_runs import environment, generate_args, read_report

SCRIPT = """
import argparse, hashlib, os, subprocess, sys
parser = argparse.ArgumentParser()
for flag in ("--ckpt_dir", "--wav2vec_dir", "--save_file", "--input_prompt", "--cond_image", "--audio_path"):
    parser.add_argument(flag)
parser.add_argument("--audio_encode_mode")
parser.add_argument("--base_seed", type=int)
args = parser.parse_args()
digest = hashlib.sha256()

def put(data):
    digest.update(data)
    while data:
        data = data[os.write(2, data):]

put(b"INFO | x - Data preparation done. Start to generate video...\\n")
for number in range(100):
    put((b"x" * 1023 + b"\\xff") * 1024)
put(b"\\r 50%|...\\x00\\x1b[31m\\xfe\\r")
for chunk in range(3):
    put(b"\\r%d%%|###| 1/3" % chunk)
    put(b"2026-11-20 10:12:5%d.948 | INFO     | x:y:1 - Generate video chunk-%d done, " % (chunk, chunk))
    put(b"cost time: 0.90s\\n")
open(os.environ["DIGEST"], "w").write(digest.hexdigest())
source = ["-f", "lavfi", "-i", "testsrc=s=128x128:r=25:d=12"]
subprocess.run(["ffmpeg", "-v", "quiet", *source, "-c:v", "libx264", "-bf", "0", args.save_file], check=True)
"""


# Linux counts what a process held before its exec, and a fork of the test runner begins as large as that. The program
# is therefore started, and its largest size asked for, by a small process.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def test_a_line_of_100_mb_and_binary_garbage(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "models").mkdir(parents=True)
    (checkout / "generate_video.py").write_text(SCRIPT)
    output, digest = tmp_path / "v.mp4", tmp_path / "digest"
    where = ["--repo-path", str(checkout), "--python-executable", sys.executable]
    # OpenCV, which looks for the portrait's face, takes 100 MB by itself.
    models = ["--ckpt-dir", "models", "--wav2vec-dir", "models", "--skip-check", "portrait"]

    args = generate_args(output, "--progress", "never", *where, *models)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, sys.executable, "-m", "omnirt", *args],
        env=environment({"DIGEST": str(digest)}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(output.with_name("v.log").read_bytes()).hexdigest() == digest.read_text()
    assert read_report(output)["timings"]["chunk_count"] == 3
    largest_kb = int(done.stdout.splitlines()[-1])
    assert largest_kb < 300 * 1024, "numpy and the verification are in it"
