"""Compares a run with the times that were published for its model and device.

The cards write them for people: `8 x Ascend 910B2`, `416*704, 29/1 frames, 2 steps, stream`. A figure counts only where
every word of it is understood and holds for the run; a row that is not understood is compared with nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from omnirt_cli.finding import Finding, Severity
from omnirt_cli.models.base import MODEL_DEFAULT
from omnirt_cli.models.card import ModelCard, TimingRow
from omnirt_cli.report import RunReport
from omnirt_cli.run.diagnosis_case import duration
from omnirt_cli.runs.entry import speed_knobs

PUBLISHED_FACTOR = 1.5
LENGTH_TOLERANCE = 0.05

Measure = Callable[[RunReport], "float | None"]


def slower_than_published(report: RunReport, card: ModelCard) -> Finding | None:
    """The published figure that a run missed by most; None where it missed none by much, or none is alike."""
    missed = []
    for row in card.timing:
        took = comparable(report, row)
        if took is not None and took > PUBLISHED_FACTOR * row.value_ms:
            missed.append((took / row.value_ms, took, row))
    if not missed:
        return None
    ratio, took, row = max(missed, key=lambda entry: entry[0])
    return Finding(
        code="slower_than_published",
        severity=Severity.WARNING,
        what=f"{row.what}: {duration(took)}, {ratio:.1f} times the published {duration(row.value_ms)}",
        why=f"{row.source} has that figure for {row.hardware} with these settings ({row.settings})",
        do="Render again to see whether it stays; then look at what else uses the devices, the processor and the "
        "disk, and compare the versions of driver, CANN or CUDA, and torch.",
    )


def comparable(report: RunReport, row: TimingRow) -> float | None:
    """The run's time that a published one may be compared with, milliseconds; None where none is alike."""
    if not _same_hardware(report, row.hardware) or not _same_settings(report, row.settings):
        return None
    for pattern, measure in _MEASURES:
        if re.fullmatch(pattern, row.what):
            return measure(report) if _right_length(report, row.what) else None
    return None


def _same_hardware(report: RunReport, hardware: str) -> bool:
    """Whether the run used as many devices as `8 x Ascend 910B2` says, all of that name; without a number it is one.

    A vendor's own name and the memory's size may stand beside it; every other word must agree, for a 910B2C is no
    910B2, and an H100 PCIe no H100.
    """
    found = re.fullmatch(r"(?:(\d+) x )?(.+)", hardware)
    used = report.devices.used if report.devices else []
    if found is None or len(used) != int(found[1] or 1):
        return False
    wanted = [_words(name) for name in found[2].split(" or ")]
    return all(device.name is not None and _words(device.name) in wanted for device in used)


def _words(name: str) -> set[str]:
    # The chip calls itself 910B2, Ascend 910B2 or Ascend910B2.
    words = re.sub(r"\bascend(?=\d)", "", name.casefold()).split()
    return {word for word in words if not re.fullmatch(r"ascend|huawei|nvidia|geforce|\d+gb|hbm\w*", word)}


def _same_settings(report: RunReport, settings: str) -> bool:
    """Whether every part of a row's settings holds, the size among them, and nobody set anything else."""
    parts = [part.strip().split(" or ") for part in settings.split(",")]
    told = [[(setting, found) for text in part for setting, found in _read(text)] for part in parts]
    if not all(any(setting.holds(report, found) for setting, found in readings) for readings in told):
        return False
    covered = {knob for readings in told for setting, _ in readings for knob in setting.knobs}
    return "size" in covered and not _set_beside(report, covered)


def _read(text: str) -> Iterator[tuple[Setting, re.Match[str]]]:
    """What a part of a row's settings means; nothing for words that are not understood."""
    for setting in _SETTINGS:
        found = re.fullmatch(setting.pattern, text)
        if found:
            yield setting, found


def _set_beside(report: RunReport, covered: set[str]) -> list[str]:
    """Knobs that somebody set and that the row does not speak of: they may cost time by intention."""
    return [
        knob
        for knob, value in speed_knobs(report.config_resolved).items()
        if knob not in covered
        and value is not False
        and report.config_sources.get(knob, MODEL_DEFAULT) != MODEL_DEFAULT
    ]


@dataclass(frozen=True)
class Setting:
    """How the cards write a setting, and what it means for a report.

    Attributes:
        knobs: What it speaks of.
    """

    pattern: str
    holds: Callable[[RunReport, re.Match[str]], bool]
    knobs: tuple[str, ...] = ()


def _value(pattern: str, knob: str) -> Setting:
    """A knob's value."""
    return Setting(pattern, lambda report, found: str(report.config_resolved.get(knob)) == found[1], (knob,))


def _on(words: str, knob: str) -> Setting:
    """A knob that is switched on."""
    return Setting(words, lambda report, _: report.config_resolved.get(knob) is True, (knob,))


def _mode(words: str, mode: str) -> Setting:
    """How the run was executed."""
    return Setting(words, lambda report, _: report.execution_mode == mode)


def _size_is(report: RunReport, found: re.Match[str]) -> bool:
    expected = report.expected
    return expected is not None and (expected.width, expected.height) == (int(found[1]), int(found[2]))


def _rate_is(report: RunReport, found: re.Match[str]) -> bool:
    return report.expected is not None and report.expected.fps == int(found[1])


def _frames_are(report: RunReport, found: re.Match[str]) -> bool:
    config = report.config_resolved
    return (config.get("frame_num"), config.get("motion_frames_num")) == (int(found[1]), int(found[2]))


_SETTINGS = (
    Setting(r"(\d+)\*(\d+)", _size_is, ("size",)),
    Setting(r"(\d+) frames a second", _rate_is, ("fps",)),
    Setting(r"(\d+)/(\d+) frames", _frames_are, ("frame_num", "motion_frames_num")),
    _value(r"(\d+) steps?", "sample_steps"),
    _value(r"(stream|once)", "audio_encode_mode"),
    _value(r"(pro|lite)", "model_type"),
    _on("VAE split", "vae_2d_split"),
    _on("fused attention", "npu_fusion_attention"),
    _on("FP8 cache", "fp8_kv_cache"),
    _on("blocks in host memory", "block_offload"),
    _on("LightVAE", "use_lightvae"),
    _mode("resident", "persistent_worker"),
    _mode("cold script", "subprocess"),
)


def _right_length(report: RunReport, what: str) -> bool:
    """Whether the video is as long as a figure for a whole video says."""
    found = re.match(r"(\d+) s video\b", what)
    if found is None:
        return True
    length = report.expected.duration_s if report.expected else 0.0
    return abs(length - int(found[1])) <= LENGTH_TOLERANCE * int(found[1])


def _cold(name: str) -> Measure:
    return lambda report: report.timings.get(name) if report.execution_mode == "subprocess" else None


def _steady(scope: str) -> Measure:
    return lambda report: report.timings.get("steady_chunk_core_ms_avg") if _scope(report) == scope else None


def _first_core(report: RunReport) -> float | None:
    """Of a cold run: a hot one's first chunk holds no warm-up."""
    return report.chunks[0].core_ms if _scope(report) == "core" and "model_load_ms" in report.timings else None


def _one_cold_request(report: RunReport) -> float | None:
    single = report.timings.get("chunk_count") == 1 and "model_load_ms" in report.timings
    return report.timings.get("total_ms") if single else None


def _scope(report: RunReport) -> str | None:
    return report.chunks[0].core_scope if report.chunks else None


_MEASURES: tuple[tuple[str, Measure], ...] = (
    (r"steady chunk, core", _steady("core")),
    (r"steady chunk, whole block", _steady("whole block")),
    (r"steady chunk, total", lambda report: report.timings.get("steady_chunk_total_ms_avg")),
    (r"first chunk, core", _first_core),
    (r"\d+ s video, cold, whole", _cold("total_ms")),
    (r"\d+ s video, cold, child process", _cold("denoise_loop_ms")),
    (r"cold request of one chunk, whole", _one_cold_request),
)
"""How the cards write what was measured, and the same of a report."""
