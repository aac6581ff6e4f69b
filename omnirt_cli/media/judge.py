"""Verdicts on what a decode found: darkness, stillness, silence, lips, drift; the thresholds, with reasons."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from omnirt_cli.checks import Check, failed, passed, skipped, warned
from omnirt_cli.media import motion
from omnirt_cli.media.audio import SAMPLE_RATE, SILENT_PEAK_DBFS, Speech
from omnirt_cli.media.decode import Decoded
from omnirt_cli.media.expectation import Expectation
from omnirt_cli.media.motion import Bools, Floats, PowerMeter, Run

BLACK_RUN_S = 0.5
"""A shorter dark moment (a fade, a blink of the encoder) only warns."""
DARK_PORTRAIT = 30.0
"""A portrait whose mean luma is below this cannot be told from a black picture."""
STILL_RUN_S = 1.0
"""Lips close for less than this between phrases; a shorter rest is not a freeze."""
SPEECH_IN_STILL_S = 0.5
"""Speech that a rest may overlap: the sound's decay, and the model's own reaction time at both ends of a
pause."""
SPEECH_IN_LAST_STILL_S = 0.3
SYNC_LIMIT_S = 0.12
"""About where viewers begin to notice late sound: ITU-R BT.1359-1 has 125 ms."""
SYNC_SPEECH_S = 2.0
SYNC_LENGTH_S = 3.0
DRIFT_LENGTH_S = 8.0
DRIFT_LUMA = 25.0
DRIFT_BACKGROUND = 20.0
DRIFT_COLOUR = 10.0


@dataclass(frozen=True)
class _Heard:
    """Where speech is, frame by frame of the picture, and whether anybody knows."""

    known: bool
    silent: bool
    speech: Bools

    def seconds(self, run: Run, fps: float) -> float:
        """Audible speech under an interval."""
        return float(self.speech[run.first : run.last + 1].sum()) / fps


def content_checks(decoded: Decoded, expected: Expectation) -> Iterator[Check]:
    """The checks named in `verify.IN_THE_DECODE` behind `frame_count`, in that order."""
    heard = _heard(decoded, expected)
    yield _black(decoded, expected)
    yield _frozen(decoded, expected, heard)
    yield _silent_audio(decoded, expected)
    yield _av_sync(decoded, expected, heard)
    yield _drift(decoded, expected)


def _heard(decoded: Decoded, expected: Expectation) -> _Heard:
    """Speech as the user gave it; the video's own sound where that is not known."""
    power = _power_of(expected.speech) if expected.speech is not None else decoded.power
    frames = decoded.picture.count
    if power is None:
        return _Heard(known=False, silent=False, speech=np.zeros(frames, dtype=bool))
    speech = motion.audible(motion.frame_power(power, expected.fps, frames))
    silent = expected.speech.silent if expected.speech is not None else not speech.any()
    return _Heard(known=True, silent=silent, speech=speech & (not silent))


def _power_of(speech: Speech) -> Floats:
    meter = PowerMeter(SAMPLE_RATE)
    for block in speech.pcm.blocks():
        meter.add(block)
    return meter.finish()


def _black(decoded: Decoded, expected: Expectation) -> Check:
    dark = decoded.picture.dark()
    longest = max((len(list(run)) for is_dark, run in itertools.groupby(dark) if is_dark), default=0)
    limit = f"no more than {BLACK_RUN_S} s black"
    if longest == 0:
        return passed("black", expected=limit, actual=0.0)
    actual, detail = round(longest / expected.fps, 3), f"{int(dark.sum())} of {len(dark)} frames are black"
    if expected.portrait_luma is not None and expected.portrait_luma < DARK_PORTRAIT:
        detail += f"; the portrait is dark, too (mean luma {expected.portrait_luma:.0f} of 255)"
        return warned("black", expected=limit, actual=actual, detail=detail)
    if expected.allow_black or longest / expected.fps < BLACK_RUN_S:
        return warned("black", expected=limit, actual=actual, detail=detail)
    return failed("black", expected=limit, actual=actual, detail=detail)


def _frozen(decoded: Decoded, expected: Expectation, heard: _Heard) -> Check:
    runs = decoded.picture.still_runs(round(STILL_RUN_S * expected.fps))
    limit = f"movement while there is speech, no rest over {STILL_RUN_S} s"
    for run in runs:
        to_the_end = run.last == decoded.picture.count - 1
        spoken = heard.seconds(run, expected.fps)
        if spoken >= (SPEECH_IN_LAST_STILL_S if to_the_end else SPEECH_IN_STILL_S):
            where = _span(run, expected.fps) + (" (to the end)" if to_the_end else "")
            detail = f"the picture rests at {where}, {spoken:.2f} s of it speech"
            verdict = warned if expected.allow_frozen else failed
            return verdict("frozen", expected=limit, actual=round(run.frames / expected.fps, 3), detail=detail)
    if runs and not heard.known:
        detail = f"the picture rests at {_span(runs[0], expected.fps)}; there is no sound to judge it by"
        return warned("frozen", expected=limit, detail=detail)
    return passed("frozen", expected=limit, detail=f"{len(runs)} rests, none in speech" if runs else None)


def _span(run: Run, fps: float) -> str:
    return f"{run.first / fps:.2f}-{(run.last + 1) / fps:.2f} s"


def _silent_audio(decoded: Decoded, expected: Expectation) -> Check:
    if decoded.power is None:
        return skipped("silent_audio", "the video has no sound")
    peak = round(20 * float(np.log10(max(decoded.peak, 1e-6))), 1)
    limit = f"over {SILENT_PEAK_DBFS:g} dBFS"
    if peak >= SILENT_PEAK_DBFS:
        return passed("silent_audio", expected=limit, actual=peak)
    if expected.speech is None:
        return warned("silent_audio", expected=limit, actual=peak, detail="the input is not known")
    if expected.speech.silent:
        return passed("silent_audio", expected=limit, actual=peak, detail="the input is silent, too")
    return failed("silent_audio", expected=limit, actual=peak, detail="the input is not silent")


def _av_sync(decoded: Decoded, expected: Expectation, heard: _Heard) -> Check:
    limit = f"lips within {SYNC_LIMIT_S * 1000:.0f} ms of the sound"
    fps = expected.fps
    if decoded.power is None or heard.silent:
        return skipped("av_sync", "there is no speech to compare with", expected=limit)
    power = motion.frame_power(decoded.power, fps, decoded.picture.count)
    speech_s = float(motion.audible(power).sum()) / fps
    if speech_s < SYNC_SPEECH_S or decoded.picture.count < SYNC_LENGTH_S * fps:
        return skipped("av_sync", f"{speech_s:.1f} s of speech are too little to tell", expected=limit)
    sync = motion.lip_sync(decoded.picture.blocks(), power, fps)
    if sync is None:
        return warned("av_sync", expected=limit, actual=None, detail="nothing in the picture follows the speech")
    lag_ms = round(sync.lag_s * 1000)
    place = f"correlation {sync.strength:.2f} at {sync.across:.0%} across, {sync.down:.0%} down"
    if abs(sync.lag_s) <= SYNC_LIMIT_S:
        return passed("av_sync", expected=limit, actual=lag_ms, detail=place)
    order = "after" if sync.lag_s > 0 else "before"
    return warned("av_sync", expected=limit, actual=lag_ms, detail=f"the sound comes {order} the lips; {place}")


def _drift(decoded: Decoded, expected: Expectation) -> Check:
    picture = decoded.picture
    if picture.count < DRIFT_LENGTH_S * expected.fps:
        return skipped("drift", f"the video is shorter than {DRIFT_LENGTH_S:g} s")
    before, after = picture.first_look(), picture.last_look()
    reference = before.luma if expected.portrait_luma is None else expected.portrait_luma
    changes = {
        "brightness": (abs(after.luma - reference), DRIFT_LUMA),
        "background": (motion.background_change(before, after), DRIFT_BACKGROUND),
        "colour": (motion.colour_change(before, after), DRIFT_COLOUR),
    }
    limits = {name: limit for name, (_, limit) in changes.items()}
    actual = {name: round(change, 1) for name, (change, _) in changes.items()}
    drifted = [name for name, (change, limit) in changes.items() if change > limit]
    if not drifted:
        return passed("drift", expected=limits, actual=actual)
    detail = f"the last 5 s differ from the portrait in {', '.join(drifted)}"
    return warned("drift", expected=limits, actual=actual, detail=detail)
