"""What known messages of scripts, torch, CANN, NCCL and launchers mean, one row each.

A row is data: a literal, a pattern, an error class, what to tell and what to do. Order matters: a line is
read by the first row that fits it, and of several lines that explain equally well the earlier row's speaks.
Nothing here reads a log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from omnirt_cli.errors import (
    DevicesUnavailableError,
    InputMissingError,
    IOFailureError,
    ModelFailedError,
    OmniRTError,
    OutOfDeviceMemoryError,
)


class Standing(IntEnum):
    """How much a message explains."""

    CAUSE = 0
    GENERIC = 1
    """An exception nobody knows."""
    FOLLOW_UP = 2
    """What a rank says when another one is gone."""


@dataclass(frozen=True)
class FailureRule:
    """One known message.

    Attributes:
        needle: A literal that every such line contains.
        pattern: Searched in the line. Its named groups fill the message; `device` is an index inside the run.
        message: A format string over the groups; `{line}` is the line itself, `{where}` the real device.
    """

    name: str
    needle: str
    pattern: re.Pattern[str]
    error: type[OmniRTError]
    message: str
    hint: str
    standing: Standing = Standing.CAUSE


CHECKOUT_HINT = (
    "Read the end of the log for the script's own words; `omnirt validate` with the same flags checks what can be "
    "checked beforehand."
)

KILLED_HINT = (
    "Nothing in the output explains it, so something outside killed it: most often the kernel's "
    "out-of-memory killer. `dmesg | grep -i 'killed process'` tells, and /proc/meminfo's MemAvailable how "
    "much memory a new run has."
)

FALLBACK_HINT = "Correct what the line names, or leave out what it gave up."
QUANTIZING_HINT = (
    "Install what quantizing needs in the model's Python (bitsandbytes, optimum-quanto), or run without it."
)

_SHM_HINT = "Shared memory ran out, most often a container's /dev/shm: give it more (docker `--shm-size=16g`)."

SIGNAL_HINTS = {
    "SIGKILL": KILLED_HINT,
    "SIGSEGV": (
        "A native library crashed: torch, torch_npu, the driver or a compiled extension do not fit together. "
        "Run with `--env PYTHONFAULTHANDLER=1` to see the Python line."
    ),
    "SIGBUS": _SHM_HINT,
    "SIGABRT": "A native library gave up; its last words stand in the log above the launcher's summary.",
    "SIGILL": "A library was built for another processor: reinstall it in the model's environment.",
    "SIGTERM": "Somebody asked it to stop: a batch system's limit, an operator, a container being shut down.",
}

_MEMORY_HINT = (
    "Choose devices with more free memory (`npu-smi info` or `nvidia-smi` lists it), use more of them, or need less: "
    "`--preset low-vram`, `--cpu-offload` on a single device, a smaller `--size`."
)
_ENV_SCRIPT_HINT = (
    "Give CANN's environment with `--env-script /usr/local/Ascend/ascend-toolkit/set_env.sh`; the NPU "
    "driver's libraries must be visible too (in a container, mount /usr/local/Ascend/driver)."
)
_PEER_HINT = "The rank that left first said nothing; look for it in the log, and in `dmesg` for a killed process."
_LINK_HINT = (
    "Check that no rank is stuck and that the devices see each other (`nvidia-smi topo -m`, `npu-smi info`, "
    "`hccn_tool`); `--env NCCL_DEBUG=INFO` or `--env ASCEND_GLOBAL_LOG_LEVEL=1` makes the library say more."
)
_VISIBLE_HINT = (
    "Compare `--visible-devices` and `--nproc-per-node` with what `npu-smi info` or `nvidia-smi` lists; in a "
    "container, see that the devices are passed into it."
)
_FILE_HINT = (
    "Check the path, and that the download was complete: half downloads and git-lfs pointers look right by name."
)

_WEIGHTS = r"pth|pt|ckpt|safetensors|bin|json|model|onnx|yaml|yml|txt"
_MEDIA = r"png|jpe?g|webp|bmp|wav|mp3|m4a|flac|ogg|aac"


def _rule(
    name: str,
    needle: str,
    pattern: str,
    message: str,
    hint: str,
    *,
    error: type[OmniRTError] = ModelFailedError,
    standing: Standing = Standing.CAUSE,
) -> FailureRule:
    return FailureRule(name, needle, re.compile(pattern), error, message, hint, standing)


RULES: tuple[FailureRule, ...] = (
    _rule(
        # torch >= 2.5 says torch.OutOfMemoryError, older ones torch.cuda.OutOfMemoryError.
        "cuda_out_of_memory",
        "CUDA out of memory",
        r"CUDA out of memory\. Tried to allocate (?P<tried>[\d.]+ \w+)\.? ?\(?"
        r"(?:GPU (?P<device>\d+)(?: has a total capacity of|;) (?P<total>[\d.]+ \w+))?",
        "out of device memory on {where}: could not allocate {tried} of {total}",
        _MEMORY_HINT,
        error=OutOfDeviceMemoryError,
    ),
    _rule(
        # torch_npu: a RuntimeError, newer ones torch.OutOfMemoryError.
        "npu_out_of_memory",
        "NPU out of memory",
        r"NPU out of memory\. Tried to allocate (?P<tried>[\d.]+ \w+)"
        r"(?: \(NPU (?P<device>\d+); (?P<total>[\d.]+ \w+) total capacity)?",
        "out of device memory on {where}: could not allocate {tried} of {total}",
        _MEMORY_HINT,
        error=OutOfDeviceMemoryError,
    ),
    _rule(
        "cuda_allocation_failed",
        "out of memory",
        r"CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDA driver error: out of memory",
        "out of device memory",
        _MEMORY_HINT,
        error=OutOfDeviceMemoryError,
    ),
    _rule(
        "cublas_allocation_failed",
        "CUBLAS_STATUS_ALLOC_FAILED",
        r"CUBLAS_STATUS_ALLOC_FAILED",
        "out of device memory: cuBLAS found none for its workspace",
        _MEMORY_HINT,
        error=OutOfDeviceMemoryError,
    ),
    _rule(
        # CANN's runtime: the device memory could not be had (207001 in the 2xxxxx range of resource errors).
        "acl_out_of_memory",
        "EL0004",
        r"EL0004",
        "out of device memory: CANN could not allocate",
        _MEMORY_HINT,
        error=OutOfDeviceMemoryError,
    ),
    _rule(
        "disk_full",
        "No space left on device",
        r"No space left on device(?:: '(?P<path>[^']+)')?",
        "the disk is full: {line}",
        "Make room where the output, the scratch directory and /tmp (or TMPDIR) are, then run again.",
        error=IOFailureError,
    ),
    _rule(
        "host_out_of_memory",
        "allocate memory",
        r"Cannot allocate memory|can't allocate memory: you tried to allocate",
        "the machine's own memory (not a device's) is exhausted: {line}",
        "Stop other programs, or run fewer ranks: each rank loads the weights through the machine's memory first.",
    ),
    _rule(
        "shared_memory",
        "shared memory (shm)",
        r"insufficient shared memory \(shm\)",
        "shared memory ran out",
        _SHM_HINT,
    ),
    _rule(
        "unknown_flag",
        "error: unrecognized arguments",
        r"error: unrecognized arguments: (?P<flag>.+)",
        "the script does not know {flag}",
        "This checkout is another variant than the one the flag belongs to: leave the flag out, or name the "
        "right checkout by `--repo-path`. Without `--no-checkout-checks` OmniRT refuses such a flag before "
        "the launch.",
    ),
    _rule(
        "bad_choice",
        "error: argument ",
        r"error: argument (?P<flag>[^:]+): (?P<why>.+)",
        "the script refuses a value of {flag}: {why}",
        "Give a value that this checkout takes; `omnirt generate --dry-run` shows the command line.",
    ),
    _rule(
        "missing_argument",
        "error: the following arguments are required",
        r"error: the following arguments are required: (?P<flag>.+)",
        "the script wants arguments that it was not given: {flag}",
        "This checkout is not a variant that OmniRT knows; see `omnirt models` for those it does.",
    ),
    _rule(
        "ascend_library",
        "cannot open shared object file",
        r"(?P<library>lib(?:hccl|ascend\w*|acl\w*|atb|runtime|ge_\w+|c_sec|tbe\w*|opapi|nnopbase|msprof\w*)"
        r"\.so[\w.]*): cannot open shared object file",
        "the Ascend library {library} is not found",
        _ENV_SCRIPT_HINT,
    ),
    _rule(
        "shared_library",
        "cannot open shared object file",
        r"(?P<library>\S+\.so[\w.]*): cannot open shared object file",
        "the shared library {library} is not found",
        "Install the package that has it, or give its folder by `--env LD_LIBRARY_PATH=...`.",
    ),
    _rule(
        "quantization_library",
        "No module named",
        r"No module named '(?P<module>bitsandbytes|quanto|optimum(?:\.quanto)?)'",
        "quantizing needs {module}, which the model's Python does not have",
        "Install it there (`<python> -m pip install bitsandbytes optimum-quanto`), or leave `--quantize` out.",
    ),
    _rule(
        "missing_module",
        "No module named",
        r"No module named '?(?P<module>[\w.]+)'?",
        "the model's Python has no module {module}",
        "That interpreter lacks it: name the model's own one by `--python-executable`, or install the "
        "checkout's requirements there.",
    ),
    _rule(
        "import_error",
        "ImportError",
        r"ImportError: (?P<why>.+)",
        "a module could not be imported: {why}",
        "Versions in the model's environment do not fit together: install the checkout's own requirements.",
    ),
    _rule(
        "ffmpeg_missing",
        "'ffmpeg'",
        r"No such file or directory: '(?P<program>ffmpeg|ffprobe)'",
        "the script found no {program}",
        "Install ffmpeg (`apt install ffmpeg`), and see that it is on PATH.",
        error=InputMissingError,
    ),
    _rule(
        "ffmpeg_failed",
        "returned non-zero exit status",
        r"Command .{0,40}?ffmpeg.* returned non-zero exit status (?P<status>\d+)",
        "the script's ffmpeg failed with status {status}",
        "ffmpeg's own words stand above in the log; a full disk and an ffmpeg without libx264 or aac are "
        "the usual causes.",
    ),
    _rule(
        "missing_weights",
        "No such file or directory",
        rf"No such file or directory: '(?P<path>[^']+\.(?:{_WEIGHTS}))'",
        "the script found no {path}",
        _FILE_HINT,
        error=InputMissingError,
    ),
    _rule(
        "missing_media",
        "No such file or directory",
        rf"No such file or directory: '(?P<path>[^']+\.(?i:{_MEDIA}))'",
        "the script found no {path}",
        "The input went away after OmniRT had checked it; run again with files that stay where they are.",
        error=InputMissingError,
    ),
    _rule(
        "missing_file",
        "No such file or directory",
        r"FileNotFoundError: \[Errno 2\] No such file or directory: '(?P<path>[^']+)'",
        "the script found no {path}",
        _FILE_HINT,
    ),
    _rule(
        "missing_pretrained",
        "does not appear to have a file named",
        r"(?P<path>\S+) does not appear to have a file named (?P<file>\S+)",
        "{path} has no {file}",
        _FILE_HINT,
        error=InputMissingError,
    ),
    _rule(
        "damaged_weights",
        "rror",
        r"(?P<why>SafetensorError: .+|PytorchStreamReader failed .+|UnpicklingError: .+|"
        r"Error while deserializing header: .+)",
        "a weights file cannot be read: {why}",
        "It is damaged or cut short: compare its size with the published one and download it again.",
    ),
    _rule(
        "weights_mismatch",
        "loading state_dict",
        r"Error\(s\) in loading state_dict for (?P<what>\w+)",
        "the weights do not fit {what}",
        "`--ckpt-dir` holds another model's weights, or another version's, than this checkout wants.",
    ),
    _rule(
        "no_cuda_gpu",
        "CUDA",
        r"No CUDA GPUs are available|no CUDA-capable device is detected",
        "torch sees no CUDA device",
        _VISIBLE_HINT,
        error=DevicesUnavailableError,
    ),
    _rule(
        "torch_without_cuda",
        "Torch not compiled with CUDA enabled",
        r"Torch not compiled with CUDA enabled",
        "the model's torch was built without CUDA",
        "Install a CUDA build of torch in the model's environment, or choose another `--backend`.",
    ),
    _rule(
        "cuda_driver",
        "driver",
        r"driver on your system is too old|CUDA driver version is insufficient for CUDA runtime version|"
        r"Found no NVIDIA driver on your system",
        "the NVIDIA driver does not fit the model's torch: {line}",
        "Update the driver, or install a torch build for the CUDA version that `nvidia-smi` shows.",
        error=DevicesUnavailableError,
    ),
    _rule(
        "cuda_kernel_image",
        "no kernel image is available",
        r"no kernel image is available for execution",
        "the model's torch has no code for this GPU",
        "Install a torch build that supports the GPU's compute capability.",
    ),
    _rule(
        "cuda_ordinal",
        "invalid device ordinal",
        r"invalid device ordinal",
        "a rank asked for a device that is not visible to the run",
        _VISIBLE_HINT,
        error=DevicesUnavailableError,
    ),
    _rule(
        "cuda_device_fault",
        "CUDA error",
        r"CUDA error: (?P<why>an illegal memory access was encountered|uncorrectable ECC error encountered|"
        r"unspecified launch failure|device-side assert triggered|misaligned address)",
        "a device failed: {why}",
        "Look for Xid lines in `dmesg`; run again on other devices to tell the device from the model.",
    ),
    _rule(
        "npu_permission",
        "davinci",
        r"(?P<path>/dev/davinci\w*).{0,80}[Pp]ermission denied|"
        r"[Pp]ermission denied.{0,80}(?P<other>/dev/davinci\w*)",
        "no permission to open the NPU {path}{other}",
        "Add this user to the group that owns the device (`usermod -aG HwHiAiUser $USER`, then log in "
        "again); in a container, pass /dev/davinci*, /dev/davinci_manager, /dev/devmm_svm and /dev/hisi_hdc.",
        error=DevicesUnavailableError,
    ),
    _rule(
        # CANN's ACL_ERROR_RT_INVALID_DEVICEID.
        "npu_device_id",
        "107001",
        r"(?:[Ee]rror ?[Cc]ode(?: is|=|:)?|ErrCode=|result = |ret = |\[)\s*107001\b|Invalid device ID",
        "an NPU number is not valid in this run (CANN 107001)",
        "NPU numbers are chip logic ids (`npu-smi info -m`) and must be listed in ascending order; inside "
        "the run they "
        "count from 0. " + _VISIBLE_HINT,
        error=DevicesUnavailableError,
    ),
    _rule(
        # CANN: 507899 is the driver's internal error, 507033 a device that did not start.
        "npu_driver",
        "507",
        r"(?:[Ee]rror ?[Cc]ode(?: is|=|:)?|ErrCode=|result = |ret = |failed:? )\s*(?P<code>507899|507033)\b",
        "the NPU driver failed (CANN {code})",
        "See the device's state with `npu-smi info` and dmesg: another process may hold it, the numbers may "
        "not be visible here, or driver, firmware and CANN may not fit each other.",
        error=DevicesUnavailableError,
    ),
    _rule(
        "hccl_busy",
        "EJ0001",
        r"EJ0001",
        "HCCL could not start (EJ0001): an earlier run still holds the NPUs",
        "Wait ten seconds and run again; `npu-smi info` lists the processes that hold the devices.",
    ),
    _rule(
        "port_taken",
        "EADDRINUSE",
        r"(?:port: (?P<port>\d+).*)?EADDRINUSE",
        "the rendezvous port {port} is taken",
        "Another run uses it: leave `MASTER_PORT` and `--master-port` out, so that a free one is chosen, or run again.",
    ),
    _rule(
        "address_taken",
        "Address already in use",
        r"Address already in use",
        "a port that the ranks need is taken",
        "Another run uses it: run again, or give each run its own `HCCL_IF_BASE_PORT`.",
    ),
    _rule(
        "name_resolution",
        "rror",
        r"(?P<why>Name or service not known|Temporary failure in name resolution|"
        r"nodename nor servname provided[^.]*|gai error: \S+)",
        "this machine's name does not resolve: {why}",
        "Add the name that `hostname` prints to /etc/hosts beside 127.0.0.1.",
    ),
    _rule(
        "rendezvous",
        "Rendezvous",
        r"(?P<why>Rendezvous(?:Connection|Timeout|Closed|State|Graceful\w*)?(?:Error|Exception)\b.*)",
        "the ranks could not meet: {why}",
        "The launcher's meeting point on this machine could not be reached: check /etc/hosts, and that no "
        "firewall stands before 127.0.0.1.",
    ),
    _rule(
        "leaked_environment",
        "environment variable",
        r"environment variable (?P<variable>MASTER_ADDR|MASTER_PORT|RANK|WORLD_SIZE) expected, but not set",
        "the script was told of several processes, but not where they meet: {variable} is not set",
        "A variable of another launcher leaked in: take WORLD_SIZE and RANK out of `--env` and the env script.",
    ),
    _rule(
        "assertion",
        "AssertionError",
        r"AssertionError: (?P<why>.+)",
        "the script refuses what it was given: {why}",
        "Compare with what the checkout's README asks for; `omnirt generate --dry-run` shows the command line.",
    ),
    _rule(
        "permission",
        "Permission denied",
        r"PermissionError: \[Errno 13\] Permission denied: '(?P<path>[^']+)'",
        "no permission for {path}",
        "Make it readable (or writable) for this user.",
    ),
    # HCCL and NCCL timeouts name no cause: some other rank was late, stuck or gone. They speak only where
    # nothing else does, and before the plain loss of a connection.
    _rule(
        "hccl_timeout",
        "EI00",
        r"EI000[26]\b",
        "the NPUs lost each other: HCCL waited too long for another rank",
        "Look for a rank that is stuck or gone; a slow start needs `--env HCCL_CONNECT_TIMEOUT=600`. " + _LINK_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    _rule(
        "nccl_timeout",
        "Watchdog caught collective operation timeout",
        r"Watchdog caught collective operation timeout: WorkNCCL\(SeqNum=\d+, OpType=(?P<operation>\w+)",
        "the GPUs lost each other: NCCL's {operation} timed out",
        _LINK_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    _rule(
        "nccl_usage",
        "nccl",
        r"(?P<why>nccl(?:InvalidUsage|InvalidArgument|UnhandledCudaError)\b.{0,200})",
        "NCCL refused to start: {why}",
        "Two ranks on one GPU and a driver that does not fit the model's torch are the usual causes. " + _LINK_HINT,
    ),
    _rule(
        "nccl_failed",
        "nccl",
        r"(?P<why>nccl(?:SystemError|InternalError|RemoteError)\b.{0,200})",
        "NCCL failed between the GPUs: {why}",
        "Without another rank's error above, a full /dev/shm or a missing network interface is the usual "
        "cause. " + _LINK_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    _rule(
        "store_timeout",
        "store->get",
        r"store->get\('[^']*'\) got error: (?P<why>.+)",
        "a rank waited in vain for another one: {why}",
        _PEER_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    _rule(
        "lost_peer",
        "",
        r"(?P<why>Connection (?:closed|reset) by peer|Connection reset|Socket Timeout|Broken pipe)",
        "the connection to another rank broke ({why})",
        _PEER_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    _rule(
        "nccl_error",
        "NCCL",
        r"NCCL error(?: in)?: ?(?P<why>.{0,200})",
        "NCCL failed between the GPUs: {why}",
        _LINK_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    _rule(
        "hccl_failed",
        "",
        r"ERR02200|\bHccl[A-Z]\w+|HCCL (?:function )?error",
        "HCCL failed between the NPUs",
        _LINK_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    _rule(
        "command_failed",
        "CalledProcessError",
        r"CalledProcessError: (?P<why>.+)",
        "a program that the script (or its launcher) started failed: {why}",
        CHECKOUT_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    _rule(
        "exception",
        "",
        r"^(?P<what>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Expired)(?::.*)?)$",
        "the script failed: {what}",
        CHECKOUT_HINT,
        standing=Standing.GENERIC,
    ),
)
"""Every known message, the more telling first."""
