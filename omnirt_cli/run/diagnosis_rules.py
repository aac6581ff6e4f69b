"""What a finished run's report can tell a person who wonders: one function a rule, its first line says when it speaks.

A rule looks at a `Case` and returns its finding, or None. Rules are pure, they know no model by name and no log line;
what a log said comes as `LogFacts`. Failures that the log names by themselves are `failure_rules.py`'s.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable

from omnirt_cli.checks import CheckStatus
from omnirt_cli.finding import Finding, Severity
from omnirt_cli.models.card import MemoryRow, closest
from omnirt_cli.report import DeviceInfo
from omnirt_cli.run.diagnosis_case import Case, duration, flag, info, warning
from omnirt_cli.run.log_facts import Clue

MODEL_RATE = 16000
"""Hz; what the models' audio encoders take."""
LONG_AUDIO_S = 600.0
LONG_VIDEO_S = 40.0
"""Users of the models report a drifting identity from about here on."""
LOAD_SHARE = 0.5
LOAD_MATTERS_MS = 20_000.0
WARM_UP_FACTOR = 3.0
WARM_UP_MS = 3_000.0
HOST_MEMORY_SHARE = 0.9
KILLED_MEMORY_SHARE = 0.7
DEVICE_MEMORY_SHARE = 0.98
LOW_USE_PERCENT = 30.0
USE_POINTS_AT_LEAST = 5
HELD_GIB = 4.5
"""More than an idle 910B keeps for itself (2.9 to 3.4 GiB)."""

_SPEED_KNOBS = ("npu_fusion_attention", "vae_2d_split")

Rule = Callable[[Case], "Finding | None"]


# --- memory ---------------------------------------------------------------------------------------


def modes_that_fit(case: Case) -> Finding | None:
    """A device's memory was exhausted; names the ways of running that need less."""
    # Not by a step before the script, which does not hold the model.
    in_script = "denoise_loop_ms" in case.report.timings
    if case.code != "out_of_device_memory" or case.card is None or not in_script:
        return None
    rows = [row for row in case.card.memory if row.backend == case.report.backend and row.per_device_gib is not None]
    asked = closest(rows, case.report.config_resolved)
    needs = {row.mode: _need_gib(row, case) for row in rows}
    room = _smallest_room_gib(case)
    limits = [limit for limit in (needs[asked.mode] if asked else None, room) if limit is not None]
    less = [row for row in rows if row.selectable and all(needs[row.mode] < limit for limit in limits)]
    what = f"{asked.mode if asked else 'the model'} ran out of memory" + (f" on {room:g} GiB" if room else "")
    why = "what it needs on each device is not published"
    if asked is not None:
        why = f"it needs about {needs[asked.mode]:.3g} GiB on each device ({asked.kind.value}: {asked.source})"
    do = "No known way of running this model needs less: choose devices with more free memory, or a smaller `--size`."
    if less:
        told = "; ".join(f"{row.mode}, {needs[row.mode]:.3g} GiB ({row.kind.value})" for row in less)
        do = f"What needs less: {told}. `--preset low-vram` chooses one that this checkout has."
    return warning("modes_that_fit", what, why, do)


def _need_gib(row: MemoryRow, case: Case) -> float:
    """On each device, for this run's picture."""
    expected, processes = case.report.expected, max(1, len(case.devices))
    need = row.per_device_at(expected.width, expected.height, processes) if expected else row.per_device_gib
    assert need is not None
    return need


def _smallest_room_gib(case: Case) -> float | None:
    """What was free on the fullest device, else its size as the vendor's tool or the failing script says."""
    known = [room for device in case.devices if (room := device.memory_free_before_gib or device.memory_total_gib)]
    told = re.search(r" of ([\d.]+) GiB", case.message)
    return min(known) if known else (float(told[1]) if told else None)


def text_encoder_memory(case: Case) -> Finding | None:
    """A device's memory was exhausted by the text encoder, before the first chunk."""
    in_place = case.knob("disable_text_cache_prepare") is True or case.knob("prepare_text_cache") is False
    if case.code != "out_of_device_memory" or case.report.chunks:
        return None
    if not in_place and Clue.TEXT_ENCODER not in case.log.clues:
        return None
    ways = {
        "text_cache_visible_devices": (
            "Let one device prepare the text context before the others start: leave `--disable-text-cache-prepare` "
            "out; its device is chosen with `--text-cache-visible-devices`."
        ),
        "t5_quant": "On an adapted checkout use the quantized text encoder (`--t5-quant int8`, with `--t5-quant-dir`).",
        "t5_cpu": "Keep the text encoder in host memory (`--t5-cpu`).",
        "cpu_offload": "Keep idle weights in host memory (`--cpu-offload`, one process).",
    }
    return warning(
        "text_encoder_memory",
        "the memory ran out while the text encoder (T5) was loaded",
        "its 11 GB come on top of the model's weights, in every process that loads it",
        next((way for knob, way in ways.items() if case.carries(knob)), "Choose devices with more free memory."),
    )


def devices_held(case: Case) -> Finding | None:
    """Another program held memory of a device before a run that was slow, or failed for want of it."""
    if not (case.slow or case.code in ("out_of_device_memory", "devices_unavailable")):
        return None
    held = {
        device.id: device.memory_total_gib - device.memory_free_before_gib
        for device in case.devices
        if device.memory_total_gib is not None and device.memory_free_before_gib is not None
    }
    named = [f"{gib:.1f} GiB of device {device}" for device, gib in held.items() if gib > HELD_GIB]
    if not named:
        return None
    return warning(
        "devices_held",
        f"another program held {', '.join(named)} before the run started",
        "it shares the device's memory, and its time too where it computes",
        "See who it is with `npu-smi info` or `nvidia-smi`; end it, or choose other devices.",
    )


def host_memory_near_limit(case: Case) -> Finding | None:
    """The run held nearly all of the machine's own memory."""
    share = case.host_share
    if share is None or share < HOST_MEMORY_SHARE or _killed_silently(case):
        return None
    return warning(
        "host_memory_near_limit",
        f"the run held {share:.0%} of the machine's memory at its peak",
        "every process keeps all finished frames in it until the end, and reads the weights through it",
        "A longer recording or more processes will be killed: split the recording, or give the machine (or the "
        "container) more memory.",
    )


def killed_for_host_memory(case: Case) -> Finding | None:
    """A process was killed silently while the run held most of the machine's own memory."""
    share = case.host_share
    if share is None or share < KILLED_MEMORY_SHARE or not _killed_silently(case):
        return None
    return warning(
        "killed_for_host_memory",
        f"a process was killed when the run held {share:.0%} of the machine's memory",
        "the kernel ends the largest process when memory runs out; inside a container its own limit counts",
        "Confirm it with `dmesg | grep -i 'killed process'`; then render fewer frames or processes, or raise the "
        "limit.",
    )


def _killed_silently(case: Case) -> bool:
    return case.report.error is not None and case.report.error.signal == "SIGKILL"


def device_memory_near_limit(case: Case) -> Finding | None:
    """A run went well, and at its peak nearly all memory of a device was held."""
    full = [
        (device.memory_peak_gib / device.memory_total_gib, device)
        for device in case.devices
        if device.memory_peak_gib is not None and device.memory_total_gib
    ]
    share, device = max(full, key=lambda it: it[0], default=(0.0, None))
    if case.failed or device is None or share < DEVICE_MEMORY_SHARE:
        return None
    return info(
        "device_memory_near_limit",
        f"device {device.id} was {share:.1%} full at its peak: {device.memory_peak_gib:.4g} of "
        f"{device.memory_total_gib:.4g} GiB",
        "a larger picture, or another program on the device, can then end a run; torch keeps what it has freed, so "
        "part of it may be to spare",
        "Before you raise `--size` or share the device, choose one with more memory, or `--preset low-vram`.",
    )


# --- devices --------------------------------------------------------------------------------------


def devices_shared(case: Case) -> Finding | None:
    """Two ranks computed on the same device."""
    numbered = [device for device in case.log.devices.values() if ":" in device]
    distinct = sorted(set(numbered))
    if len(numbered) <= len(distinct):
        return None
    why = "some rank took another's device"
    if case.on_ascend:
        why += "; CANN drops ids that it cannot use without a word: behind a space, descending, or of an absent chip"
    return warning(
        "devices_shared",
        f"{len(numbered)} ranks computed on {len(distinct)} devices ({', '.join(distinct)})",
        why,
        "Compare `devices` in the report with what `npu-smi info -m` or `nvidia-smi` lists, and name devices that are "
        "there, in ascending order.",
    )


def devices_waited(case: Case) -> Finding | None:
    """The devices computed little of the time between the first chunk and the last, and not for offloaded weights."""
    ends = [chunk.at_ms for chunk in case.report.chunks if chunk.at_ms is not None]
    use = [
        statistics.fmean(told)
        for device in case.devices
        if ends and len(told := _use_between(device, ends[0], ends[-1])) >= USE_POINTS_AT_LEAST
    ]
    if not use or max(use) >= LOW_USE_PERCENT or case.knob("cpu_offload") is True:
        return None
    return warning(
        "devices_waited",
        f"while chunks were generated the devices computed {max(use):.0f}% of the time or less",
        "they waited for the processor: encoding of the sound, copies, saving, or Python itself on a busy machine",
        "See with `top` what else runs, and whether a control group or OMP_NUM_THREADS leaves the script too few "
        "processors.",
    )


def _use_between(device: DeviceInfo, begin_ms: float, end_ms: float) -> list[float]:
    return [
        point.use_percent
        for point in device.use_series
        if point.use_percent is not None and begin_ms < point.at_ms <= end_ms
    ]


def devices_left(case: Case) -> Finding | None:
    """More devices were named than ranks computed."""
    requested = (case.report.devices.requested if case.report.devices else None) or ""
    named = requested.split(",") if re.fullmatch(r"[\w:,-]+", requested) else []
    ranks = len(case.log.devices)
    if not ranks or len(named) <= ranks:
        return None
    return info(
        "devices_left",
        f"{len(named)} devices were named ({requested}), and {ranks} were used",
        "one process computes on one device, and there were fewer processes",
        f"Give `--nproc-per-node {len(named)}` where the sizes allow it, or leave the others to other runs.",
    )


def checkout_not_adapted(case: Case) -> Finding | None:
    """A public checkout ran, or failed, on Ascend."""
    variant = case.report.checkout.variant if case.report.checkout else None
    if not case.on_ascend or not variant or not variant.startswith("public"):
        return None
    return warning(
        "checkout_not_adapted",
        f"the checkout is a public one ({variant})",
        "the public code is written for CUDA; what it does on an NPU it does without the adaptation's operators",
        "Use a checkout with the NPU adaptation: `checkout.variant` is then `ascend`.",
    )


def speed_knobs_off(case: Case) -> Finding | None:
    """An Ascend run had fused attention, or on several devices the split VAE, switched off."""
    off = [knob for knob in _SPEED_KNOBS if case.on_ascend and case.knob(knob) is False]
    if case.processes == 1:
        off = [knob for knob in off if knob != "vae_2d_split"]
    if not off:
        return None
    return warning(
        "speed_knobs_off",
        f"{' and '.join(map(flag, off))} {'was' if len(off) == 1 else 'were'} off",
        "the published times on Ascend were taken with them on",
        "Switch them on, unless a picture shows that this checkout computes wrongly with them.",
    )


def speed_knobs_missing(case: Case) -> Finding | None:
    """An Ascend run was slow, and its checkout reads no switch for fused attention or the split VAE."""
    missing = [knob for knob in _SPEED_KNOBS if case.knows(knob) and not case.carries(knob)]
    if not (case.on_ascend and case.slow and missing):
        return None
    return warning(
        "speed_knobs_missing",
        f"this checkout cannot be told {' or '.join(map(flag, missing))}",
        "it reads no variable for them, so it may compute attention operator by operator",
        "Use a checkout with the NPU adaptation.",
    )


def env_script_missing(case: Case) -> Finding | None:
    """An Ascend run was slow, or failed for want of something of CANN's, and no env script was given."""
    command = case.report.command
    suspect = case.slow or (case.failed and re.search(r"Ascend|CANN|HCCL|NPU", case.message))
    if not case.on_ascend or command is None or command.env_script or not suspect:
        return None
    return warning(
        "env_script_missing",
        "no env script was given",
        "CANN's environment was then whatever this shell had; an older CANN's, or half of one, still runs",
        "Give it with `--env-script /usr/local/Ascend/ascend-toolkit/set_env.sh`.",
    )


def cuda_asked_on_ascend(case: Case) -> Finding | None:
    """An Ascend run failed because the script asked for CUDA."""
    if not (case.failed and case.on_ascend and re.search(r"\bCUDA\b", case.message)):
        return None
    platform = case.report.command.env.get("PLATFORM") if case.report.command else None
    told = f"PLATFORM was {platform}" if platform else "OmniRT set no PLATFORM for it"
    return warning(
        "cuda_asked_on_ascend",
        "the script asked for CUDA on an Ascend run",
        f"the checkout is not adapted, or it chooses its platform by a variable ({told})",
        "Use an adapted checkout. One that reads PLATFORM needs ascend_npu: see that neither `--env` nor the env "
        "script replaces it.",
    )


def crashed_on_several(case: Case) -> Finding | None:
    """Several GPUs, and the run failed by an illegal access or in torch.compile."""
    several = case.failed and case.processes > 1
    if not several or not re.search(r"illegal memory access|torch\.compile failed", case.message):
        return None
    return warning(
        "crashed_on_several",
        f"the run crashed on {case.processes} devices",
        "cards without direct access to each other, and sequence-parallel attention under torch.compile, are known "
        "to fail so",
        "Render on one device (`--nproc-per-node 1`) to tell. If that works, try several with "
        "`--env NCCL_P2P_DISABLE=1`, then with `--env TORCHDYNAMO_DISABLE=1`.",
    )


def computed_on_cpu(case: Case) -> Finding | None:
    """The log says that an NPU operator was computed on the CPU."""
    line = case.log.clues.get(Clue.CPU_FALLBACK)
    if line is None:
        return None
    return warning(
        "computed_on_cpu",
        f"part of the model was computed on the CPU: {line}",
        "this torch_npu has no code for it on the NPU, so data went back and forth",
        "Use a newer torch_npu, or a checkout whose adaptation avoids the operator.",
    )


def slow_attention(case: Case) -> Finding | None:
    """The log says that no flash attention was found."""
    if Clue.SLOW_ATTENTION not in case.log.clues:
        return None
    return warning(
        "slow_attention",
        "attention was computed without flash attention",
        "the model's Python has no flash_attn that fits, so torch's own was taken",
        "Install the flash-attn build for this torch, CUDA and Python in the model's environment.",
    )


def recompiled(case: Case) -> Finding | None:
    """The log says that torch.compile gave up on changing shapes."""
    if Clue.RECOMPILES not in case.log.clues:
        return None
    return warning(
        "recompiled",
        "torch.compile compiled again and again, and gave up",
        "shapes or values that it takes for constants changed from chunk to chunk",
        "Compare with `--env TORCHDYNAMO_DISABLE=1`; use the torch version that the checkout's requirements name.",
    )


# --- the picture ----------------------------------------------------------------------------------


def black_on_several(case: Case) -> Finding | None:
    """The video is black, and several devices made it."""
    if case.check("black", CheckStatus.FAILED) is None or case.processes == 1:
        return None
    counts = case.card.processes.counts if case.card else {}
    shown = "; ".join(f"{size}: {', '.join(map(str, numbers))}" for size, numbers in counts.items())
    return warning(
        "black_on_several",
        f"{case.processes} processes made a black video",
        "a picture that does not divide between the processes is put together wrongly, and nobody says so",
        "Render one chunk on one device (`--nproc-per-node 1 --max-chunks 1`). If that is right, the count or the size "
        "is to blame" + (f"; known to work: {shown}." if shown else "."),
    )


def not_a_number(case: Case) -> Finding | None:
    """The log says that pixels were no numbers, or one device alone made a black video."""
    black = case.check("black", CheckStatus.FAILED) is not None and case.processes == 1
    if Clue.NOT_A_NUMBER not in case.log.clues and not black:
        return None
    return warning(
        "not_a_number",
        "frames held values that are no numbers (NaN)" if Clue.NOT_A_NUMBER in case.log.clues else "the video is black",
        "numbers overflowed: half precision on a card without bf16, a quantized model, or damaged weights",
        "Compare the weights with the published sizes; render without quantizing, and on a card that has bf16.",
    )


def style_drift(case: Case) -> Finding | None:
    """The check `drift` warned; says which knob is known for it."""
    if case.check("drift", CheckStatus.WARNED) is None:
        return None
    strength = case.knob("color_correction_strength")
    length = case.report.expected.duration_s if case.report.expected else 0.0
    if case.knob("latent_carry") is True:
        why, do = (
            "latents were carried over from chunk to chunk, which is faster and drifts",
            "Leave `--latent-carry` off.",
        )
    elif isinstance(strength, (int, float)) and strength < 1:
        why = f"the colours were pulled towards the portrait by {strength:g} only"
        do = "Raise `--color-correction-strength`, up to 1."
    elif length > LONG_VIDEO_S:
        why = f"each chunk starts from the one before, and over {length:.0f} s small errors add up"
        do = "Split the recording at a pause, render the parts, and join them."
    else:
        why = "each chunk starts from the one before, so a bad first frame stays"
        do = "Try another `--seed`, or a portrait with an even background."
    return warning("style_drift", "colour or background drifted away from the beginning", why, do)


def portrait_advice(case: Case) -> Finding | None:
    """Something was said about the portrait before the run."""
    warned = [
        check.detail or check.name
        for check in case.report.checks
        if check.name.startswith("portrait") and check.status is CheckStatus.WARNED
    ]
    said = warned or [warning for warning in case.report.warnings if warning.startswith("portrait")]
    if not said:
        return None
    complaints = {
        check.name for check in case.report.checks if check.status in (CheckStatus.WARNED, CheckStatus.FAILED)
    }
    spoilt = not complaints.isdisjoint({"av_sync", "frozen", "drift"})
    return Finding(
        code="portrait_advice",
        severity=Severity.WARNING if spoilt else Severity.INFO,
        what=f"the portrait is not what the models do best with: {said[0].removeprefix('portrait: ')}",
        why="they animate a frontal face, upper body in the picture, both eyes visible",
        do="Give such a portrait, in about the shape of the video.",
    )


def sample_rate(case: Case) -> Finding | None:
    """The recording has a lower rate than the model takes, or is long and of another form than 16 kHz mono."""
    rate, channels, length = (case.media("audio", key) for key in ("sample_rate", "channels", "duration_s"))
    if not isinstance(rate, (int, float)) or not rate:
        return None
    form = f"{rate / 1000:g} kHz, {channels} channel{'s' if channels != 1 else ''}"
    if rate < MODEL_RATE:
        return info(
            "sample_rate",
            f"the recording has {form}; the models take 16 kHz",
            "what lies above half its rate is not in it: consonants, that lips are read from",
            "Record with 16 kHz or more; converting what is there adds nothing.",
        )
    if (rate, channels) == (MODEL_RATE, 1) or not isinstance(length, (int, float)) or length < LONG_AUDIO_S:
        return None
    return info(
        "sample_rate",
        f"the recording has {form}, and is {length / 60:.0f} minutes long",
        "it is resampled once; a clock that is a little off adds up over so long a time",
        "If lips and sound part towards the end, convert it to 16 kHz mono first, and split it.",
    )


def mux_repaired(case: Case) -> Finding | None:
    """The script's own join of picture and sound failed, and OmniRT did it."""
    if not any("own mux failed" in warning for warning in case.report.warnings):
        return None
    version = case.report.versions.get("ffmpeg")
    return info(
        "mux_repaired",
        "the script could not join picture and sound; OmniRT did, and nothing is lost",
        "older checkouts copy the sound unchanged, and ffmpeg before 6 puts no PCM into MP4"
        + (f" (here is ffmpeg {version})" if version else ""),
        "Nothing has to be done. A newer ffmpeg, or a newer checkout, ends it.",
    )


def quantizing_fell_back(case: Case) -> Finding | None:
    """The script gave up quantizing and went on with the full model."""
    if "gave up what was asked for" not in case.message or "quantiz" not in case.message.lower():
        return None
    return warning(
        "quantizing_fell_back",
        "quantizing failed, and the script went on with the full weights",
        "what came out is neither the memory nor the speed that was asked for",
        "Install what the message names in the model's Python, or leave the quantizing out.",
    )


# --- time -----------------------------------------------------------------------------------------


def load_dominates(case: Case) -> Finding | None:
    """A cold run spent at least half of its time on loading."""
    load, total = case.ms("launch_ms") + case.ms("model_load_ms"), case.ms("total_ms")
    if not case.cold or case.failed or total < LOAD_MATTERS_MS or load < LOAD_SHARE * total:
        return None
    several = (
        " More devices do not shorten it: in OmniRT's FlashHead benchmark of 2026-04-28 a 10 s video took 83 s on two "
        "910B2 and 84 s on four."
        if case.processes > 1
        else ""
    )
    return info(
        "load_dominates",
        f"loading took {duration(load)} of {duration(total)} ({load / total:.0%})",
        "a cold run starts the processes and loads the model for one video." + several,
        "Judge the speed by the steady chunks. Several short clips are cheaper as one recording, or with a worker that "
        "keeps the model loaded.",
    )


def first_chunk(case: Case) -> Finding | None:
    """The first chunk took at least three times as long as the later ones."""
    first, steady = case.ms("first_chunk_ms"), case.ms("steady_chunk_interval_ms_avg")
    if not steady or first < WARM_UP_FACTOR * steady or first - steady < WARM_UP_MS:
        return None
    what = f"the first chunk took {duration(first)}, later ones {duration(steady)} each"
    if case.cold:
        return info(
            "first_chunk",
            what,
            "it holds torch.compile's work, the search for kernels and other warm-up, once in each process",
            "Judge the speed by the later chunks; the first one tells nothing about a long video.",
        )
    return warning(
        "first_chunk",
        what + ", though the model was loaded already",
        "something was compiled or warmed up anew: another size or another mode than before",
        "Send a warm-up request of the same size and mode first.",
    )


def offload_is_slow(case: Case) -> Finding | None:
    """Idle weights were kept in host memory, and the run was slower than real time."""
    rtf = case.report.timings.get("steady_rtf", case.report.timings.get("rtf", 0.0))
    if case.knob("cpu_offload") is not True or rtf <= 1:
        return None
    return info(
        "offload_is_slow",
        f"with `--cpu-offload` a second of video took {rtf:.1f} s",
        "weights travel between host and device for every chunk",
        "It is the price of the smaller device: leave it out where the weights fit, or use fewer `--sample-steps`.",
    )


RULES: tuple[Rule, ...] = (
    modes_that_fit,
    text_encoder_memory,
    quantizing_fell_back,
    killed_for_host_memory,
    cuda_asked_on_ascend,
    crashed_on_several,
    black_on_several,
    not_a_number,
    devices_shared,
    checkout_not_adapted,
    speed_knobs_off,
    speed_knobs_missing,
    env_script_missing,
    devices_held,
    computed_on_cpu,
    slow_attention,
    recompiled,
    style_drift,
    portrait_advice,
    host_memory_near_limit,
    device_memory_near_limit,
    devices_waited,
    first_chunk,
    load_dominates,
    offload_is_slow,
    devices_left,
    sample_rate,
    mux_repaired,
)
"""In the order in which their findings are told, warnings before the rest."""
