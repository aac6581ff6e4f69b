"""What OmniRT must know of a model to run its script: the interface that every adapter fills.

Everything private to one model (a flag's spelling, an environment variable, a log line, its frame arithmetic, how its
save routine loses files) lives in that model's adapter. Nothing here names a model.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnirt_cli.errors import UsageError

if TYPE_CHECKING:
    from omnirt_cli.checkout import CheckoutFacts
    from omnirt_cli.models.card import CheckpointFile, HostRow, MemoryRow, ModelCard


MODEL_DEFAULT = "model default"
"""The source of a value that nobody chose."""


class Backend(str, Enum):
    """What the model computes on."""

    ASCEND = "ascend"
    CUDA = "cuda"
    CPU = "cpu"


class Carrier(str, Enum):
    """How a knob travels to the script."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    INFER_PARAMS = "infer_params"
    WORKER = "worker"
    """The worker program sets it at the loaded model; only where that program runs the chunks."""
    OMNIRT = "omnirt"
    FIXED = "fixed"
    """The checkout has this one value built in; asking for another is refused."""


@dataclass(frozen=True)
class Variant:
    """One adaptation of a model's repository, told by what its files support.

    Attributes:
        name: As the report says it, e.g. `public-new`.
        recognised: False for a checkout that fits no known variant; then nothing is refused for its sake.
    """

    name: str
    recognised: bool = True


@dataclass(frozen=True)
class Geometry:
    """The frame arithmetic's inputs.

    Attributes:
        frame_num: Frames that one generation step computes.
        motion_frames_num: How many of them repeat the step before.
        fps: Frames per second of the result.
        sample_rate: Of the driving audio, Hz.
    """

    width: int
    height: int
    frame_num: int
    motion_frames_num: int
    fps: int
    sample_rate: int = 16000

    @property
    def slice_frames(self) -> int:
        """New frames per chunk."""
        return self.frame_num - self.motion_frames_num

    @property
    def slice_samples(self) -> int:
        """Audio samples per chunk."""
        return self.slice_frames * self.sample_rate // self.fps

    @property
    def first_samples(self) -> int:
        """Audio samples under the first `frame_num` frames."""
        return self.frame_num * self.sample_rate // self.fps


class AudioForm(str, Enum):
    """The container of the prepared audio; chosen so that the script's own mux survives it."""

    WAV = "wav"
    M4A = "m4a"


@dataclass(frozen=True)
class AudioPlan:
    """How the driving audio is prepared, and what the script makes of it.

    Attributes:
        form: Container and codec of the prepared file (16 kHz mono in any case).
        lead_samples: Silence put before the speech, where the script's picture runs ahead of the sound.
        total_samples: Length of the prepared audio, lead and trailing silence included.
        chunks: Generation steps the script will run.
        generated_frames: Frames the script will have before its own mux.
        frames: Frames of the delivered video.
        speech_samples: Samples of the user's (resampled) audio that the delivered video covers.
        cut: True where `max_chunks` ends the video before the speech does.
    """

    form: AudioForm
    lead_samples: int
    total_samples: int
    chunks: int
    generated_frames: int
    frames: int
    speech_samples: int
    cut: bool = False


@dataclass(frozen=True)
class ScratchNames:
    """Bare names of the inputs in the private working directory."""

    image: str
    audio: str


@dataclass(frozen=True)
class EarlierStep:
    """A launch of one process on one device that must end well before the script itself starts.

    Attributes:
        name: What it makes, as events and the log say it, e.g. `text context`.
        script: Absolute path.
        args: As in `ScriptCall`.
        env: Likewise; on top of the run's own environment.
        device: The id of the device it runs on; None for the first of the run's.
        makes: Absolute paths that it leaves. Where all are there and can be trusted, it is not run again.
        always: Run it all the same.
        record: Absolute path in the user's cache; OmniRT notes in files of this name, one a machine, that what the step
            made is whole. None where nothing is kept.
        memory_hint: What to do where its device has too little memory.
    """

    name: str
    script: Path
    args: tuple[str, ...]
    env: Mapping[str, str]
    device: str | None = None
    makes: tuple[Path, ...] = ()
    always: bool = False
    record: Path | None = None
    memory_hint: str | None = None


@dataclass(frozen=True)
class WorkerCall:
    """One run's request to a resident worker, and what tells that worker from another.

    Attributes:
        request: The worker program's `render` message without its id; paths in it are absolute.
        package: The checkout's package that is loaded.
        quantization: How the weights are quantized, None for as they are.
        cpu_offload: Weights are kept in host memory between uses.
        model_type: Which of a checkout's models is loaded, where it has several.
    """

    request: Mapping[str, Any]
    package: str
    quantization: str | None = None
    cpu_offload: bool = False
    model_type: str | None = None


@dataclass(frozen=True)
class ScriptCall:
    """The script, as one run calls it.

    Attributes:
        script: Absolute path.
        args: Values travel as `--flag=value`.
        env: What the script reads from its environment, besides visibility.
        files: Relative path in the working directory -> content (the private `infer_params.yaml`).
        result_name: Where the script leaves its result, a bare name.
        silent_name: The temporary silent video's bare name; OmniRT keeps a second link to it, so that the picture
            outlives any failed mux. None where the script has none.
        cache_files: Absolute path in the user's cache -> content; written where it is not there yet.
        earlier: Steps before the script, in order.
        worker: Where the call starts a resident worker: what this one run asks of it.
    """

    script: Path
    args: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[str, bytes]
    result_name: str
    silent_name: str | None
    cache_files: Mapping[Path, bytes] = field(default_factory=dict)
    earlier: tuple[EarlierStep, ...] = ()
    worker: WorkerCall | None = None


class MarkKind(str, Enum):
    """What a line of a script's log tells."""

    DEVICE = "device"
    LOADING = "loading"
    READY = "ready"
    CHUNK = "chunk"
    DENOISE_STEP = "denoise_step"
    VAE_DECODE = "vae_decode"
    COLOR_CORRECTION = "color_correction"
    MOTION_ENCODE = "motion_encode"
    AUDIO_EMBEDDING = "audio_embedding"
    COPY = "copy"
    ENCODE_WAIT = "encode_wait"
    SAVED = "saved"
    FINISHED = "finished"
    NOTE = "note"
    """A warning or an error of the script's own logger."""
    FELL_BACK = "fell_back"
    """The checkout gave up something that was asked for and goes on (quantizing that failed)."""
    CLUE = "clue"
    """A library's remark in passing that may explain a slow run or a bad picture."""


@dataclass(frozen=True)
class LogRule:
    """One recognisable line.

    Attributes:
        needle: A literal that every such line contains; the scanner looks for it before it tries the pattern.
        pattern: Searched anywhere in the line (a progress bar may stand before it). Groups `index`, `seconds` and
            `ms` (milliseconds) are read where they exist.
    """

    kind: MarkKind
    needle: bytes
    pattern: re.Pattern[bytes]


@dataclass(frozen=True)
class ModelInfo:
    """What is fixed about a model.

    Attributes:
        id: Public id, e.g. `soulx-flashtalk-14b`.
        key: Short name: settings section, environment infix, `runtime install` name.
        published_processes: The largest process count that its authors use.
        ckpt_dir: Where the repository's own instructions put the weights, relative to the checkout.
        wav2vec_dir: Likewise for the audio encoder.
        miniature: The miniature checkout that `--backend cpu` uses when none is configured.
    """

    id: str
    key: str
    title: str
    script: str
    inputs: tuple[str, ...]
    optional_inputs: tuple[str, ...]
    published_processes: int
    default_seed: int
    backends: tuple[Backend, ...]
    ckpt_dir: str = ""
    wav2vec_dir: str = ""
    miniature: str = ""


@dataclass(frozen=True)
class KnobValue:
    """A resolved knob as the script will really run it."""

    value: Any
    source: str
    carrier: Carrier | None = None


@dataclass(frozen=True)
class ScriptRequest:
    """Everything an adapter needs to write a `ScriptCall`.

    Attributes:
        folder: Where inputs and result lie for a script that does not run beside them; None where it does.
        cache: The user's cache folder of OmniRT, absolute; None where there is none.
        audio: The prepared sound; None while it is not planned.
        ffmpeg: Path of the program, for who encodes while the model computes.
    """

    checkout: CheckoutFacts
    variant: Variant
    backend: Backend
    knobs: Mapping[str, KnobValue]
    names: ScratchNames
    ckpt_dir: Path
    wav2vec_dir: Path
    processes: int
    prompt: str | None = None
    folder: Path | None = None
    cache: Path | None = None
    audio: AudioPlan | None = None
    ffmpeg: str = "ffmpeg"


@dataclass(frozen=True)
class Preset:
    """A named set of knob values."""

    name: str
    summary: str
    knobs: Mapping[str, Any] = field(default_factory=dict)


class ModelAdapter(ABC):
    """One model's private knowledge.

    Every method is pure: it reads the checkout's facts and the knobs, and touches neither disk nor devices.
    """

    info: ModelInfo

    # --- what the card says -----------------------------------------------------------------------

    @property
    def card(self) -> ModelCard:
        """The model's facts for people, presets and budgets."""
        from omnirt_cli.models.card import model_card

        return model_card(self.info.id)

    def memory_row(self, backend: Backend, knobs: Mapping[str, KnobValue]) -> MemoryRow | None:
        """What these settings need of the devices; None where nothing is known."""
        from omnirt_cli.models.card import closest

        return closest((row for row in self.card.memory if row.backend == backend.value), values_of(knobs))

    def host_row(self, backend: Backend, knobs: Mapping[str, KnobValue]) -> HostRow | None:
        """What one process needs of the machine's own memory, frames not counted; None where nothing is known."""
        from omnirt_cli.models.card import closest

        fitting = (row for row in self.card.host.rows if row.backend in (None, backend.value))
        return closest(fitting, values_of(knobs))

    def checkpoint_files(self, knobs: Mapping[str, KnobValue]) -> tuple[CheckpointFile, ...]:
        """The files that the script opens with these settings, in the order of loading."""
        values = values_of(knobs)
        return tuple(row for row in self.card.checkpoint if row.holds(values))

    def can_set(self, knob: str, checkout: CheckoutFacts, variant: Variant) -> bool:
        """Whether a run can choose this knob's value here."""
        return self.carrier(knob, checkout, variant) not in (None, Carrier.FIXED)

    def driven(self, checkout: CheckoutFacts) -> ModelAdapter:
        """The same model, its chunks run by OmniRT's worker program through the checkout's own functions.

        Raises:
            UsageError: There are no functions to call.
        """
        raise UsageError(
            f"{self.info.title} cannot be driven: its {self.info.script} has the loop inside and no functions for it.",
            hint=f"Leave out --executor driver; {checkout.script.name} runs its own chunks.",
        )

    def resident(self, checkout: CheckoutFacts) -> ModelAdapter:
        """The same model, kept loaded by OmniRT's worker program and asked for one render after the other.

        Raises:
            UsageError: There are no functions to call.
        """
        raise UsageError(
            f"{self.info.title} cannot be kept loaded: its {self.info.script} has the loop inside and no functions "
            "for it.",
            hint=f"Leave out --resident; {checkout.script.name} loads its model for each render.",
        )

    def held_frames(self, generated: int, geometry: Geometry) -> int:  # noqa: ARG002
        """How many of the generated frames a process holds in host memory at once: the scripts hold them all."""
        return generated

    def device_warnings(
        self,
        variant: Variant,  # noqa: ARG002
        backend: Backend,  # noqa: ARG002
        names: Sequence[str],  # noqa: ARG002
    ) -> list[str]:
        """What may go wrong on the devices of a run, told by the names that the vendor's tool has for them."""
        return []

    # --- what an adapter states -------------------------------------------------------------------

    @abstractmethod
    def knobs(self) -> tuple[str, ...]:
        """The generation knobs this model knows, by config name."""

    @abstractmethod
    def presets(self, checkout: CheckoutFacts | None, variant: Variant | None) -> tuple[Preset, ...]:
        """What each preset sets, for this checkout where one is given."""

    @abstractmethod
    def recognise(self, checkout: CheckoutFacts) -> Variant:
        """Which variant a checkout is."""

    @abstractmethod
    def defaults(self, checkout: CheckoutFacts, variant: Variant, backend: Backend) -> dict[str, Any]:
        """Value of every knob that nobody set, as this checkout will run it."""

    @abstractmethod
    def carrier(self, knob: str, checkout: CheckoutFacts, variant: Variant) -> Carrier | None:
        """How a knob reaches this checkout's script; None where it cannot."""

    @abstractmethod
    def check(self, request: ScriptRequest) -> list[str]:
        """Refuse knobs that cannot work together, and return warnings.

        Raises:
            UsageError: A knob has no carrier here, or values do not fit each other (sizes, process counts).
        """

    @abstractmethod
    def largest_process_count(self, limit: int, request: ScriptRequest) -> int:
        """The largest number of processes up to `limit` that these settings allow; 1 always does.

        `request.processes` is not looked at.
        """

    @abstractmethod
    def geometry(self, checkout: CheckoutFacts, knobs: Mapping[str, KnobValue]) -> Geometry:
        """Sizes and frame counts that the script will use."""

    @abstractmethod
    def audio_plan(
        self,
        variant: Variant,
        geometry: Geometry,
        *,
        mode: str,
        samples: int,
        duration_s: float,
        max_chunks: int | None,
    ) -> AudioPlan:
        """How to prepare speech of `samples` 16 kHz samples so that none is left without frames.

        Raises:
            InputInvalidError: No preparation makes this audio renderable.
        """

    @abstractmethod
    def script_call(self, request: ScriptRequest) -> ScriptCall:
        """The script's arguments, environment and private files."""

    @abstractmethod
    def log_rules(self, variant: Variant) -> tuple[LogRule, ...]:
        """The lines of this script's log that tell something."""

    @abstractmethod
    def core_scope(self, mode: str) -> str:
        """What the printed chunk time covers: `core`, `audio_encoding+core` or `whole block`."""


def values_of(knobs: Mapping[str, KnobValue]) -> dict[str, Any]:
    """The plain values of resolved knobs."""
    return {name: knob.value for name, knob in knobs.items()}
