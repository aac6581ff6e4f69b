"""Known messages about software: libraries that are missing, or were built for something else."""

from __future__ import annotations

from omnirt_cli.run.failure_rule import ENV_SCRIPT_HINT, rule

_CANN_PACKAGES = "attrs cython decorator sympy cffi pyyaml psutil protobuf scipy requests absl-py"

SOFTWARE_RULES = (
    rule(
        "cann_python_package",
        "EC0010",
        r"EC0010:.*Failed to import Python module \[(?P<why>.*?)\.{0,2}\]",
        "CANN's compiler cannot import a Python module: {why}",
        f"Its compiler runs in the model's Python and wants packages there: `<python> -m pip install {_CANN_PACKAGES}` "
        "and 'numpy<2'; the Python must be the one that CANN's environment was made for.",
    ),
    rule(
        "cann_compiler",
        "500001",
        r"(?:AclSetCompileopt|SetPrecisionMode|error code is 500001)",
        "CANN's compiler could not start (500001)",
        "Most often a Python package that it needs is missing in the model's Python, attrs before all: "
        f"`<python> -m pip install {_CANN_PACKAGES}` and 'numpy<2'. Else CANN, its kernels and the chip do not fit. "
        + ENV_SCRIPT_HINT,
    ),
    rule(
        "ascend_library",
        "cannot open shared object file",
        r"(?P<library>lib(?:hccl|ascend\w*|acl\w*|atb|runtime|ge_\w+|c_sec|tbe\w*|opapi|nnopbase|msprof\w*)"
        r"\.so[\w.]*): cannot open shared object file",
        "the Ascend library {library} is not found",
        ENV_SCRIPT_HINT,
    ),
    rule(
        "cuda_driver_library",
        "cannot open shared object file",
        r"(?P<library>lib(?:cuda|nvidia-\w+)\.so[\w.]*): cannot open shared object file",
        "the NVIDIA driver's library {library} is not found",
        "It comes with the driver, not with CUDA: start the container with the NVIDIA runtime (docker `--gpus all`), "
        "or install the driver.",
    ),
    rule(
        "cuda_library",
        "cannot open shared object file",
        r"(?P<library>lib(?:cudart|cublas\w*|cudnn\w*|cufft\w*|curand|cusolver|cusparse\w*|nccl|nvrtc|nvJitLink)"
        r"\.so[\w.]*): cannot open shared object file",
        "the CUDA library {library} is not found",
        "The number at its end is the CUDA version that the asking package was built for: install the build that fits "
        "the model's torch (`<python> -c 'import torch; print(torch.version.cuda)'`).",
    ),
    rule(
        "shared_library",
        "cannot open shared object file",
        r"(?P<library>\S+\.so[\w.]*): cannot open shared object file",
        "the shared library {library} is not found",
        "Install the package that has it, or give its folder by `--env LD_LIBRARY_PATH=...`.",
    ),
    rule(
        # LiveAct loads its audio by these.
        "audio_effects",
        "sox",
        r"(?P<why>module 'torchaudio' has no attribute 'sox_effects'|No module named 'torchaudio\.sox_effects'|"
        r"sox_effects\S* requires sox)",
        "torchaudio has no sox effects: {why}",
        "They are gone in torchaudio 2.9: install 2.8 with the torch that belongs to it, and sox "
        "(`apt install sox libsox-dev`).",
    ),
    rule(
        "audio_codec",
        "torchcodec",
        r"TorchCodec is required|No module named 'torchcodec'|Could not load libtorchcodec",
        "torchaudio cannot read audio without torchcodec",
        "Since 2.9 torchaudio reads through it: install the torchcodec that fits the model's torch, and ffmpeg's "
        "shared libraries; or install torchaudio 2.8.",
    ),
    rule(
        "audio_backend",
        "",
        r"Couldn't find appropriate backend to handle uri (?P<path>.+?) and format|(?P<none>NoBackendError)\b",
        "the script's audio library has nothing to read the recording with",
        "Install soundfile in the model's Python (`<python> -m pip install soundfile`), and ffmpeg on the machine.",
    ),
    rule(
        "audio_library",
        "sndfile",
        r"(?P<why>sndfile library not found.*|cannot load library '?\S*libsndfile.*|LibsndfileError: .+)",
        "libsndfile cannot be used: {why}",
        "Install it (`apt install libsndfile1`), or a newer soundfile in the model's Python, which brings its own.",
    ),
    rule(
        "quantization_library",
        "No module named",
        r"No module named '(?P<module>bitsandbytes|quanto|optimum(?:\.quanto)?)'",
        "quantizing needs {module}, which the model's Python does not have",
        "Install it there (`<python> -m pip install bitsandbytes optimum-quanto`), or leave `--quantize` out.",
    ),
    rule(
        "attention_library",
        "No module named",
        r"No module named '(?P<module>flash_attn\w*|xformers|sageattention\w*)(?:\.[\w.]+)?'",
        "the model's Python has no attention kernels: {module} is missing",
        "Install the build of it that fits torch, CUDA and the Python version (a ready-made wheel saves the "
        "compiling). These kernels are for NVIDIA; on Ascend use an adapted checkout.",
    ),
    rule(
        "attention_build",
        "undefined symbol",
        r"(?P<library>[\w.-]*(?:flash_?attn|flashattention|xformers|sageattention|_qattn)[\w.-]*\.so): undefined",
        "the attention kernels {library} were built for another torch",
        "Install the build that names this torch, this CUDA and this Python in its file name; after torch is changed, "
        "install it anew.",
    ),
    rule(
        "attention_hardware",
        "",
        r"(?P<why>FlashAttention only supports .+|SM\d+ kernel is not available.*|"
        r"No operator found for `memory_efficient_attention_forward`.*)",
        "the attention kernels have no code for this GPU: {why}",
        "They are made for newer GPUs (LiveAct's two-GPU path for Hopper): choose another GPU, or a build for this "
        "one.",
    ),
    rule(
        "extension_build",
        "undefined symbol",
        r"(?P<library>[^\s:]+\.so[\w.]*): undefined symbol",
        "a compiled extension does not fit what it was loaded into: {library}",
        "It was built against another version, of torch most often: install it anew in the model's environment.",
    ),
    rule(
        "system_library",
        "not found",
        r"version `(?P<version>(?:GLIBC|GLIBCXX|CXXABI)_[\d.]+)' not found",
        "the system's C library is too old: {version} is not found",
        "A package was built on a newer system: install a build for this one, or put the environment's own libstdc++ "
        "first by `--env LD_LIBRARY_PATH=...`.",
    ),
    rule(
        "compiler_missing",
        "compiler",
        r"Failed to find C compiler|No working C\+\+ compiler",
        "torch.compile found no C compiler",
        "Install one (`apt install build-essential`) and Python's headers, or switch compiling off by "
        "`--env TORCHDYNAMO_DISABLE=1`.",
    ),
    rule(
        "missing_module",
        "No module named",
        r"No module named '?(?P<module>[\w.]+)'?",
        "the model's Python has no module {module}",
        "That interpreter lacks it: name the model's own one by `--python-executable`, or install the "
        "checkout's requirements there.",
    ),
    rule(
        "import_error",
        "ImportError",
        r"ImportError: (?P<why>.+)",
        "a module could not be imported: {why}",
        "Versions in the model's environment do not fit together: install the checkout's own requirements.",
    ),
)
