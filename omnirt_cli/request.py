"""What is wanted: the request for one render, in OmniRT's own words, the same from flags, YAML, JSON and Python.

`Config` declares every setting once. The command line's flags, the environment's names, the keys of settings files and
the JSON Schema are all derived from its fields.
"""

from __future__ import annotations

import json
import re
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from launchers.command import Launcher

SIZE = re.compile(r"[1-9][0-9]{0,4}\*[1-9][0-9]{0,4}")


class Panel(str, Enum):
    """Headings under which `--help` groups the flags."""

    MODEL = "Where the model is"
    LAUNCH = "How it starts"
    GENERATION = "Generation"
    FLASHTALK = "FlashTalk"
    FLASHHEAD = "FlashHead"
    LIVEACT = "LiveAct"
    RUN = "Running"
    OUTPUT = "Output"


class BackendChoice(str, Enum):
    """What to compute on."""

    AUTO = "auto"
    ASCEND = "ascend"
    CUDA = "cuda"
    CPU = "cpu"


class PresetChoice(str, Enum):
    """Named sets of knobs; `omnirt presets` prints what each sets."""

    FAST = "fast"
    BALANCED = "balanced"
    QUALITY = "quality"
    LOW_VRAM = "low-vram"


class VerifyMode(str, Enum):
    """How closely the finished video is looked at."""

    FULL = "full"
    FAST = "fast"
    OFF = "off"


class EncodeMode(str, Enum):
    """Whether the script encodes speech chunk by chunk or all at once."""

    STREAM = "stream"
    ONCE = "once"


class Quantization(str, Enum):
    """Weight quantization of the quantizing FlashTalk fork."""

    QUANTO_INT4 = "quanto-int4"
    QUANTO_INT8 = "quanto-int8"
    BITSANDBYTES_NF4 = "bitsandbytes-nf4"


class WeightQuantization(str, Enum):
    """Weight formats of the Ascend-adapted FlashTalk."""

    INT8 = "int8"
    FP8 = "fp8"


class ModelType(str, Enum):
    """FlashHead's two models."""

    PRO = "pro"
    LITE = "lite"


class ScriptDevice(str, Enum):
    """What an Ascend-adapted script is told to compute on."""

    NPU = "npu"
    CUDA = "cuda"
    CPU = "cpu"


class X264Preset(str, Enum):
    """How long the Ascend-adapted LiveAct's fast export may search; slower makes smaller files."""

    ULTRAFAST = "ultrafast"
    SUPERFAST = "superfast"
    VERYFAST = "veryfast"
    FASTER = "faster"
    FAST = "fast"
    MEDIUM = "medium"
    SLOW = "slow"
    SLOWER = "slower"
    VERYSLOW = "veryslow"


class ExecutorChoice(str, Enum):
    """Who runs the chunks."""

    SCRIPT = "script"
    DRIVER = "driver"
    RESIDENT = "resident"


class WorkingDirectory(str, Enum):
    """Where the script runs."""

    PRIVATE = "private"
    CHECKOUT = "checkout"


def _one_line(value: object) -> object:
    """Environment names and paths are single lines without NUL; a prompt is not one of them."""
    if isinstance(value, str) and "\0" in value:
        raise ValueError("must not contain a NUL character")
    return value


def _size(value: object) -> object:
    if not isinstance(value, str) or not SIZE.fullmatch(value):
        raise ValueError("write it as WIDTH*HEIGHT, e.g. 416*704")
    return value


def _device_count(value: object) -> object:
    if value == "auto" or (isinstance(value, (int, str)) and re.fullmatch(r"[1-9][0-9]?", str(value))):
        return str(value)
    raise ValueError("write a number of devices, or auto")


def _words(value: object) -> object:
    """A list, or one string with commas (as environment variables and flags have it)."""
    if isinstance(value, str):
        return tuple(word for word in value.split(",") if word)
    return value


def _prompts(value: object) -> object:
    """A mapping from block ranges to prompts; as flags have it RANGE=PROMPT, as a variable has it JSON."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError('write it as JSON, e.g. {"[0, 4]": "She nods."}') from None
    if not isinstance(value, (list, tuple)):
        return value
    pairs = [str(text).partition("=") for text in value]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("write it as RANGE=PROMPT, e.g. '[0, 4]=She nods.'")
    return {blocks: prompt for blocks, _, prompt in pairs}


def _joined(value: object) -> object:
    """A list of device numbers, as YAML may have it, becomes the comma-separated form."""
    if isinstance(value, (list, tuple)):
        return ",".join(str(part) for part in value)
    return value


Text = Annotated[str, BeforeValidator(_one_line)]
DeviceList = Annotated[str, BeforeValidator(_joined)]
DeviceCount = Annotated[str, BeforeValidator(_device_count)]
PathText = Annotated[str, BeforeValidator(_one_line), Field(min_length=1)]
Size = Annotated[str, BeforeValidator(_size)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Prompts = Annotated[dict[str, Text], BeforeValidator(_prompts)]


def _option(
    help_text: str,
    panel: Panel,
    *,
    flags: tuple[str, ...] = (),
    trusted: bool = False,
    path: str | None = None,
    **kw: Any,
) -> Any:
    """A field of `Config`.

    Args:
        help_text: The line in `--help`, the schema and the documentation.
        panel: Heading in `--help`.
        flags: Flags besides the one made from the name.
        trusted: Read from a project file only if that file is this user's own.
        path: What a relative path is relative to: `here` (the place that names it) or `checkout`.
        kw: Further arguments of Pydantic's `Field`.
    """
    extra: JsonDict = {"panel": panel.value, "flags": list(flags), "trusted": trusted, "path": path}
    return Field(default=None, description=help_text, json_schema_extra={"omnirt": extra}, **kw)


class Config(BaseModel):
    """Every knob and setting of a render; None means that nobody said."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_enum_values=True, protected_namespaces=(), coerce_numbers_to_str=True
    )

    preset: PresetChoice | None = _option("Named set of knobs; explicit values win.", Panel.GENERATION)

    repo_path: PathText | None = _option("The external checkout.", Panel.MODEL, path="here")
    ckpt_dir: PathText | None = _option(
        "Model checkpoint directory, absolute or relative to the checkout.", Panel.MODEL, path="checkout"
    )
    wav2vec_dir: PathText | None = _option(
        "wav2vec checkpoint directory, absolute or relative to the checkout.", Panel.MODEL, path="checkout"
    )
    python_executable: PathText | None = _option(
        "The Python that has the model's packages.", Panel.MODEL, trusted=True, path="program"
    )
    env_script: PathText | None = _option(
        "Script sourced before the launch (CANN's set_env.sh).",
        Panel.MODEL,
        flags=("--ascend-env-script",),
        trusted=True,
        path="here",
    )

    launcher: Launcher | None = _option("What starts the processes.", Panel.LAUNCH)
    nproc_per_node: int | None = _option("Processes under torchrun.", Panel.LAUNCH, ge=1, le=64)
    num_processes: int | None = _option("Processes under accelerate.", Panel.LAUNCH, ge=1, le=64)
    accelerate_executable: PathText | None = _option(
        "The accelerate program; default: beside the model's Python.", Panel.LAUNCH, trusted=True, path="program"
    )
    visible_devices: DeviceList | None = _option("Devices that the run may use, e.g. 2,3.", Panel.LAUNCH)
    devices: DeviceCount | None = _option(
        "Choose so many free devices among the visible ones; auto: as many as fit.", Panel.LAUNCH
    )
    wait: float | None = _option("Seconds to wait for busy devices.", Panel.LAUNCH, ge=0)
    executor: ExecutorChoice | None = _option(
        "Who runs the chunks: the checkout's own script, OmniRT's driver, which keeps no frames in memory, "
        "or a resident worker, which keeps the model loaded.",
        Panel.LAUNCH,
    )
    idle_timeout: float | None = _option(
        "Seconds after which an idle resident worker is stopped; 0: never. Default: 900.", Panel.LAUNCH, ge=0
    )
    working_directory: WorkingDirectory | None = _option(
        "Run in a private directory, or in the checkout where a script insists on it.", Panel.LAUNCH
    )

    seed: int | None = _option("Random seed.", Panel.GENERATION, ge=0, le=2**32 - 1)
    audio_encode_mode: EncodeMode | None = _option("Encode speech chunk by chunk, or at once.", Panel.GENERATION)
    sample_steps: int | None = _option("Denoising steps a chunk.", Panel.GENERATION, ge=1, le=1000)
    max_chunks: int | None = _option(
        "Stop after so many chunks; the sound ends with the picture.", Panel.GENERATION, ge=1
    )
    fps: int | None = _option("Frames per second.", Panel.GENERATION, ge=1, le=120)
    size: Size | None = _option("WIDTH*HEIGHT of the video, e.g. 416*704.", Panel.GENERATION)
    frame_num: int | None = _option("Frames that one chunk computes.", Panel.GENERATION, ge=1, le=1000)
    motion_frames_num: int | None = _option(
        "Frames a chunk repeats of the one before.", Panel.GENERATION, ge=1, le=1000
    )
    sample_shift: float | None = _option("Timestep shift of the sampler.", Panel.GENERATION, gt=0)
    color_correction_strength: float | None = _option(
        "How far colours are pulled back to the portrait's, 0 to 1.", Panel.GENERATION, ge=0, le=1
    )
    audio_loudness_norm: bool | None = _option("Normalise the speech's loudness.", Panel.GENERATION)
    debug_timing: bool | None = _option("Print the time of each sub-stage.", Panel.GENERATION)
    cpu_offload: bool | None = _option("Keep weights in host memory between uses (one process).", Panel.GENERATION)
    quantize: Quantization | None = _option("Quantize the weights while loading.", Panel.GENERATION)

    t5_quant: WeightQuantization | None = _option("Quantized T5 text encoder.", Panel.FLASHTALK)
    t5_quant_dir: PathText | None = _option(
        "Directory of the quantized T5, absolute or relative to the checkout.", Panel.FLASHTALK, path="checkout"
    )
    wan_quant: WeightQuantization | None = _option("Quantized diffusion model.", Panel.FLASHTALK)
    wan_quant_include: Text | None = _option("Modules to quantize, comma separated patterns.", Panel.FLASHTALK)
    wan_quant_exclude: Text | None = _option("Modules to leave, comma separated patterns.", Panel.FLASHTALK)

    model_type: ModelType | None = _option("Which FlashHead model.", Panel.FLASHHEAD)
    device: ScriptDevice | None = _option("What the adapted checkout computes on; follows --backend.", Panel.FLASHHEAD)
    vae_2d_split: bool | None = _option("Split the VAE over the devices (Ascend).", Panel.FLASHHEAD)
    latent_carry: bool | None = _option("Carry latents between chunks: faster, may drift in style.", Panel.FLASHHEAD)
    npu_fusion_attention: bool | None = _option("Fused attention (Ascend).", Panel.FLASHHEAD)
    profile: bool | None = _option("Let the checkout print its own profile.", Panel.FLASHHEAD)
    face_crop: bool | None = _option("Let the checkout find and crop the face.", Panel.FLASHHEAD)

    audio_cfg: float | None = _option(
        "Weight of the sound; above 1 the model runs twice a step.", Panel.LIVEACT, ge=0, le=100
    )
    steam_audio: bool | None = _option("Encode speech block by block.", Panel.LIVEACT)
    mean_memory: bool | None = _option("Average the memory of earlier blocks: faster.", Panel.LIVEACT)
    edit_prompt: Prompts | None = _option(
        "RANGE=PROMPT, repeatable: another prompt for a range of blocks, e.g. '[0, 4]=She nods.'", Panel.LIVEACT
    )
    t5_cpu: bool | None = _option("Keep the T5 text encoder in host memory.", Panel.LIVEACT)
    rank0_t5_only: bool | None = _option("Load the T5 text encoder in one process only.", Panel.LIVEACT)
    stop_after_text_context: bool | None = _option("Make no video; refused for a render.", Panel.LIVEACT)
    offload_cache: bool | None = _option("Keep the key/value cache in host memory.", Panel.LIVEACT)
    fp8_kv_cache: bool | None = _option("Store the key/value cache in FP8: half its memory.", Panel.LIVEACT)
    fp8_gemm: bool | None = _option("Multiply in FP8 (CUDA, needs vLLM).", Panel.LIVEACT)
    fp4_gemm: bool | None = _option("Multiply in FP4 (CUDA, Blackwell devices).", Panel.LIVEACT)
    block_offload: bool | None = _option("Keep idle transformer blocks in host memory.", Panel.LIVEACT)
    use_lightvae: bool | None = _option("Decode with LightVAE.", Panel.LIVEACT)
    use_cache_vae: bool | None = _option("Let the VAE keep what it computed for the portrait.", Panel.LIVEACT)
    vae_path: PathText | None = _option(
        "The VAE's weights, absolute or relative to the checkout.", Panel.LIVEACT, path="checkout"
    )
    condition_cache_dir: PathText | None = _option(
        "Where the portrait's conditions are kept, absolute or relative to the checkout.",
        Panel.LIVEACT,
        path="checkout",
    )
    disable_condition_cache: bool | None = _option("Keep no conditions.", Panel.LIVEACT)
    prepare_text_cache: bool | None = _option("Encode the prompt in a step of its own first.", Panel.LIVEACT)
    text_cache_device: ScriptDevice | None = _option("What that step computes on; follows --backend.", Panel.LIVEACT)
    text_cache_visible_devices: DeviceList | None = _option(
        "The one device of that step; default: the run's first.", Panel.LIVEACT
    )
    force_text_cache: bool | None = _option("Encode the prompt again.", Panel.LIVEACT)
    disable_text_cache_prepare: bool | None = _option("Leave that step out.", Panel.LIVEACT)
    fast_export: bool | None = _option("Write the video with the checkout's fast export.", Panel.LIVEACT)
    disable_fast_export: bool | None = _option("Write it without.", Panel.LIVEACT)
    fast_export_preset: X264Preset | None = _option("x264 preset of the fast export.", Panel.LIVEACT)
    fast_export_crf: int | None = _option(
        "x264 quality of the fast export; lower is better.", Panel.LIVEACT, ge=0, le=51
    )
    sequence_parallel_degree: int | None = _option("Processes that share a sequence.", Panel.LIVEACT, ge=1, le=64)
    ulysses_degree: int | None = _option("Parts that attention heads are split into.", Panel.LIVEACT, ge=1, le=64)
    ring_degree: int | None = _option("Parts that pass keys and values around.", Panel.LIVEACT, ge=1, le=64)
    dura_print: bool | None = _option("Print the time of each block: without it there is no progress.", Panel.LIVEACT)
    stage_profile: bool | None = _option("Let the checkout print its own profile.", Panel.LIVEACT)
    platform: Text | None = _option("LightX2V's platform; follows --backend.", Panel.LIVEACT)

    output_dir: PathText | None = _option(
        "Directory of the results, or a file ending in .mp4.", Panel.OUTPUT, path="here"
    )
    output: PathText | None = _option("The video's own path, ending in .mp4.", Panel.OUTPUT, path="here")
    no_clobber: bool | None = _option("Refuse to replace an existing video.", Panel.OUTPUT)
    no_metadata: bool | None = _option("Write no AI-generated note into the video.", Panel.OUTPUT)
    keep_scratch: bool | None = _option("Keep the private working directory.", Panel.OUTPUT)

    timeout: float | None = _option("Seconds the whole run may take; 0: no limit.", Panel.RUN, ge=0)
    stall_timeout: float | None = _option("Seconds without a byte of output; 0: no limit.", Panel.RUN, ge=0)
    grace: float | None = _option("Seconds between TERM and KILL when stopping.", Panel.RUN, ge=0, le=600)
    env: dict[str, str] | None = _option(
        "KEY=VALUE for the script, repeatable; wins over the rest.", Panel.RUN, trusted=True
    )
    verify: VerifyMode | None = _option("How closely to check the video.", Panel.RUN)
    allow_black: bool | None = _option("Only warn about a black video.", Panel.RUN)
    allow_frozen: bool | None = _option("Only warn about a frozen video.", Panel.RUN)
    skip_check: Words | None = _option("Leave out a named check, repeatable.", Panel.RUN)
    compile_cache: bool | None = _option("Keep compiled kernels from run to run.", Panel.RUN)
    read_ahead: bool | None = _option("Read checkpoint files into memory while the interpreter starts.", Panel.RUN)
    keep_runs_days: float | None = _option("Days that `omnirt runs` remembers a run; 0: for ever.", Panel.RUN, ge=0)
    no_checkout_checks: bool | None = _option("Pass knobs as asked, whatever the checkout looks like.", Panel.RUN)

    def said(self) -> dict[str, Any]:
        """The keys that were set, with their values."""
        return {key: value for key, value in self.model_dump().items() if value is not None}


class Inputs(BaseModel):
    """What the video is made of: file paths, and words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: PathText | None = Field(default=None, description="The face portrait.")
    audio: PathText | None = Field(default=None, description="The speech; any format that ffmpeg decodes.")
    prompt: Text | None = Field(
        default=None, description="A hint at expression and emotion, where the model takes one."
    )


class Audio2VideoRequest(BaseModel):
    """One render: a portrait and a recording become a talking-head video."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_enum_values=True, protected_namespaces=())

    task: Literal["audio2video"] = "audio2video"
    model: str | None = Field(default=None, description="Model id, e.g. soulx-flashtalk-14b.")
    backend: BackendChoice | None = Field(default=None, description="auto, ascend, cuda or cpu.")
    inputs: Inputs = Field(default_factory=Inputs)
    config: Config = Field(default_factory=Config)


def option_facts(field: FieldInfo) -> dict[str, Any]:
    """What `_option` noted beside a field's type: panel, flags, trusted, path."""
    extra = field.json_schema_extra
    facts = extra.get("omnirt") if isinstance(extra, dict) else None
    return dict(facts) if isinstance(facts, dict) else {}


def plain(message: str) -> str:
    """A validator's message without its prefix."""
    return message.removeprefix("Value error, ")
