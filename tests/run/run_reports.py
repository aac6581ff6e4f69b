"""Reports of finished runs as the engine writes them, with figures of the size that real ones have."""

from __future__ import annotations

from typing import Any

from omnirt_cli.checks import Check, CheckStatus
from omnirt_cli.report import (
    CheckoutInfo,
    ChunkInfo,
    CommandInfo,
    DeviceInfo,
    DevicesInfo,
    ErrorInfo,
    ExpectedInfo,
    InputInfo,
    RunReport,
    RunStatus,
)

FLASHHEAD = "soulx-flashhead-1.3b"
FLASHTALK = "soulx-flashtalk-14b"


def report(**changes: Any) -> RunReport:
    """A FlashHead run of 60 s of speech on two NPUs at which there is nothing to remark."""
    facts: dict[str, Any] = {
        "run_id": "733e5eb5-faf3-4c37-9867-5dddca30c6c4",
        "status": RunStatus.SUCCEEDED,
        "model": FLASHHEAD,
        "backend": "ascend",
        "started_at": "2026-11-20T12:16:55.973Z",
        "finished_at": "2026-11-20T12:18:59.820Z",
        "config_resolved": {
            "model_type": "pro",
            "seed": 42,
            "audio_encode_mode": "stream",
            "sample_steps": 2,
            "vae_2d_split": True,
            "latent_carry": False,
            "npu_fusion_attention": True,
            "color_correction_strength": 1.0,
        },
        "config_carriers": {"npu_fusion_attention": "environment", "vae_2d_split": "environment"},
        "command": CommandInfo(argv=["python"], cwd="/out/.omnirt-1", env_script="/usr/local/Ascend/set_env.sh"),
        "checkout": CheckoutInfo(path="/srv/SoulX-FlashHead", variant="ascend"),
        "devices": devices(2),
        "inputs": {"audio": audio()},
        "expected": ExpectedInfo(chunks=54, frames=1500, fps=25, duration_s=60, width=512, height=512),
        "timings": timings(),
        "chunks": [ChunkInfo(index=0, core_ms=2400.0, core_scope="audio_encoding+core", interval_ms=2500.0)],
        "checks": [check("black"), check("drift"), check("av_sync")],
        "memory": {"host_peak_gib": 31.0},
        "host": {"memory_gib": 512.0},
        "versions": {"ffmpeg": "5.1.9"},
    }
    return RunReport.model_validate({**facts, **changes})


def devices(
    count: int, name: str | None = "910B2", *, requested: str | None = None, total: float = 64.0, free: float = 61.0
) -> DevicesInfo:
    used = [
        DeviceInfo(id=str(number), name=name, memory_total_gib=total, memory_free_before_gib=free)
        for number in range(2, 2 + count)
    ]
    return DevicesInfo(kind="ascend", requested=requested or ",".join(device.id for device in used), used=used)


def audio(*, rate: int = 16000, channels: int = 1, length_s: float = 60.0) -> InputInfo:
    return InputInfo(path="s.wav", media={"sample_rate": rate, "channels": channels, "duration_s": length_s})


def timings(**changes: float) -> dict[str, float]:
    return {
        "launch_ms": 5_000.0,
        "model_load_ms": 32_000.0,
        "first_chunk_ms": 2_500.0,
        "steady_chunk_interval_ms_avg": 1_400.0,
        "steady_chunk_core_ms_avg": 1_380.0,
        "chunk_count": 54.0,
        "save_ms": 5_000.0,
        "denoise_loop_ms": 121_000.0,
        "total_ms": 124_000.0,
        **changes,
    }


def check(name: str, status: CheckStatus = CheckStatus.PASSED, detail: str | None = None) -> Check:
    return Check(name=name, status=status, detail=detail)


def failed(code: str, message: str, *, signal: str | None = None) -> dict[str, Any]:
    """What makes a report one of a failed run."""
    error = ErrorInfo(code=code, message=message, exit_code=10, signal=signal)
    return {"status": RunStatus.FAILED, "error": error, "chunks": [], "timings": {}, "checks": []}
