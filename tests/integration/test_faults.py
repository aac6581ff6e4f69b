"""What a checkout does wrong without failing: it is noticed all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.omnirt_cli_runs import checkout, generate_args, omnirt


def test_quantizing_that_fell_back_is_a_failed_run(tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"

    done = omnirt(
        *generate_args(output, "--json", "--quantize", "quanto-int4", "--max-chunks", "1", *checkout("flashtalk_quant"))
    )

    assert done.code == 10
    assert "quantiz" in done.report["error"]["message"]
    assert "script: " in done.stderr, "the script's own warning is shown while it runs"
    assert not output.exists()


@pytest.mark.parametrize(
    ("fault", "lag"), [("dead_mouth", None), ("shift=0.3", 0.3)], ids=["dead mouth", "lips 0.3 s late"]
)
def test_lips_that_do_not_follow_the_speech_are_warned_about(fault: str, lag: float | None, tmp_path: Path) -> None:
    done = omnirt(
        *generate_args(tmp_path / "video.mp4", "--json", "--progress", "never"), env={"MINIATURE_FAULT": fault}
    )

    assert done.code == 0, done.stderr
    sync = next(check for check in done.report["checks"] if check["name"] == "av_sync")
    assert sync["status"] == "warned"
    if lag is None:
        assert sync["actual"] is None
    else:
        assert abs(abs(sync["actual"]) - lag * 1000) <= 80
