"""Known messages about devices: their memory, their drivers, and ranks that lose each other over their links."""

from __future__ import annotations

from omnirt_cli.errors import DevicesUnavailableError, OutOfDeviceMemoryError
from omnirt_cli.run.failure_rule import VISIBLE_HINT, Standing, rule

_MEMORY_HINT = (
    "Choose devices with more free memory (`npu-smi info` or `nvidia-smi` lists it), use more of them, or need less: "
    "`--preset low-vram`, `--cpu-offload` on a single device, a smaller `--size`."
)
_PEER_HINT = "The rank that left first said nothing; look for it in the log, and in `dmesg` for a killed process."
_LINK_HINT = (
    "Check that no rank is stuck and that the devices see each other (`nvidia-smi topo -m`, `npu-smi info`, "
    "`hccn_tool`); `--env NCCL_DEBUG=INFO` or `--env ASCEND_GLOBAL_LOG_LEVEL=1` makes the library say more."
)

MEMORY_RULES = (
    rule(
        # torch >= 2.5 says torch.OutOfMemoryError, older ones torch.cuda.OutOfMemoryError.
        "cuda_out_of_memory",
        "CUDA out of memory",
        r"CUDA out of memory\. Tried to allocate (?P<tried>[\d.]+ \w+)\.? ?\(?"
        r"(?:GPU (?P<device>\d+)(?: has a total capacity of|;) (?P<total>[\d.]+ \w+))?",
        "out of device memory on {where}: could not allocate {tried} of {total}",
        _MEMORY_HINT,
        error=OutOfDeviceMemoryError,
    ),
    rule(
        # torch_npu: a RuntimeError, newer ones torch.OutOfMemoryError.
        "npu_out_of_memory",
        "NPU out of memory",
        r"NPU out of memory\. Tried to allocate (?P<tried>[\d.]+ \w+)"
        r"(?: \(NPU (?P<device>\d+); (?P<total>[\d.]+ \w+) total capacity)?",
        "out of device memory on {where}: could not allocate {tried} of {total}",
        _MEMORY_HINT,
        error=OutOfDeviceMemoryError,
    ),
    rule(
        "cuda_allocation_failed",
        "out of memory",
        r"CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDA driver error: out of memory",
        "out of device memory",
        _MEMORY_HINT,
        error=OutOfDeviceMemoryError,
    ),
    rule(
        "cublas_allocation_failed",
        "CUBLAS_STATUS_ALLOC_FAILED",
        r"CUBLAS_STATUS_ALLOC_FAILED",
        "out of device memory: cuBLAS found none for its workspace",
        _MEMORY_HINT,
        error=OutOfDeviceMemoryError,
    ),
    rule(
        # CANN's runtime: the device memory could not be had (207001 in the 2xxxxx range of resource errors).
        "acl_out_of_memory",
        "EL0004",
        r"EL0004",
        "out of device memory: CANN could not allocate",
        _MEMORY_HINT,
        error=OutOfDeviceMemoryError,
    ),
)

DEVICE_RULES = (
    rule(
        "no_cuda_gpu",
        "CUDA",
        r"No CUDA GPUs are available|no CUDA-capable device is detected",
        "torch sees no CUDA device",
        VISIBLE_HINT,
        error=DevicesUnavailableError,
    ),
    rule(
        "cuda_busy",
        "busy or unavailable",
        r"CUDA-capable device\(s\) is/are busy or unavailable|all CUDA-capable devices are busy or unavailable",
        "the GPU lets no other process in",
        "Another process holds it, or it is in exclusive mode: `nvidia-smi -q -d COMPUTE` shows the mode, "
        "`nvidia-smi` who is there.",
        error=DevicesUnavailableError,
    ),
    rule(
        # A checkout that picks its platform by a variable takes CUDA where nobody set it.
        "cuda_unavailable",
        "CUDA",
        r"CUDA device (?:is )?(?:unavailable|not available)|CUDA is not available",
        "the script asked for a CUDA device, and there is none",
        "On Ascend it must be told so: LiveAct reads PLATFORM=ascend_npu, which `--backend ascend` sets and `--env` or "
        "an env script may have replaced. " + VISIBLE_HINT,
        error=DevicesUnavailableError,
    ),
    rule(
        "torch_without_cuda",
        "Torch not compiled with CUDA enabled",
        r"Torch not compiled with CUDA enabled",
        "the model's torch was built without CUDA",
        "Install a CUDA build of torch in the model's environment, or choose another `--backend`.",
    ),
    rule(
        "cuda_driver",
        "driver",
        r"driver on your system is too old|CUDA driver version is insufficient for CUDA runtime version|"
        r"Found no NVIDIA driver on your system",
        "the NVIDIA driver does not fit the model's torch: {line}",
        "Update the driver, or install a torch build for the CUDA version that `nvidia-smi` shows.",
        error=DevicesUnavailableError,
    ),
    rule(
        "cuda_kernel_image",
        "no kernel image is available",
        r"no kernel image is available for execution",
        "the model's torch has no code for this GPU",
        "Install a torch build that supports the GPU's compute capability.",
    ),
    rule(
        "cuda_ordinal",
        "invalid device ordinal",
        r"invalid device ordinal",
        "a rank asked for a device that is not visible to the run",
        VISIBLE_HINT,
        error=DevicesUnavailableError,
    ),
    rule(
        "cuda_device_fault",
        "CUDA error",
        r"CUDA error: (?P<why>an illegal memory access was encountered|uncorrectable ECC error encountered|"
        r"unspecified launch failure|device-side assert triggered|misaligned address)",
        "a device failed: {why}",
        "Look for Xid lines in `dmesg`; run again on other devices to tell the device from the model.",
    ),
    rule(
        "npu_permission",
        "davinci",
        r"(?P<path>/dev/davinci\w*).{0,80}[Pp]ermission denied|"
        r"[Pp]ermission denied.{0,80}(?P<other>/dev/davinci\w*)",
        "no permission to open the NPU {path}{other}",
        "Add this user to the group that owns the device (`usermod -aG HwHiAiUser $USER`, then log in "
        "again); in a container, pass /dev/davinci*, /dev/davinci_manager, /dev/devmm_svm and /dev/hisi_hdc.",
        error=DevicesUnavailableError,
    ),
    rule(
        # CANN's ACL_ERROR_RT_INVALID_DEVICEID.
        "npu_device_id",
        "107001",
        r"(?:[Ee]rror ?[Cc]ode(?: is|=|:)?|ErrCode=|result = |ret = |\[)\s*107001\b|Invalid device ID",
        "an NPU number is not valid in this run (CANN 107001)",
        "NPU numbers are chip logic ids (`npu-smi info -m`) and must be listed in ascending order. CANN drops "
        "those that it cannot use without a word, so that fewer are left than ranks; inside the run they count "
        "from 0. " + VISIBLE_HINT,
        error=DevicesUnavailableError,
    ),
    rule(
        # CANN: 507899 is the driver's internal error, 507033 a device that did not start.
        "npu_driver",
        "507",
        r"(?:[Ee]rror ?[Cc]ode(?: is|=|:)?|ErrCode=|result = |ret = |failed:? )\s*(?P<code>507899|507033)\b",
        "the NPU driver failed (CANN {code})",
        "See the device's state with `npu-smi info` and dmesg: another process may hold it, the numbers may "
        "not be visible here, or driver, firmware and CANN may not fit each other.",
        error=DevicesUnavailableError,
    ),
    rule(
        # CANN: 507011 a stream's task, 507014/507015 an AI core, 507018 an AI CPU, 507034/507035 a vector core.
        "npu_fault",
        "507",
        r"(?:[Ee]rror ?[Cc]ode(?: is|=|:)?|ErrCode=|result = |ret = |failed:? )\s*"
        r"(?P<code>507011|507014|507015|507018|507034|507035)\b",
        "an NPU failed while computing (CANN {code})",
        "Run again on other devices to tell the device from the model; `npu-smi info` shows its health, "
        "`--env ASCEND_LAUNCH_BLOCKING=1` makes the traceback name the operator.",
    ),
    rule(
        "npu_taken",
        "dcmi",
        r"dcmi \w+ initiali[sz]ed? failed.{0,80}?(?P<code>-80(?:05|20))",
        "the NPU driver gives no access ({code})",
        "Most often another container holds the devices: each can be passed into one container at a time.",
        error=DevicesUnavailableError,
    ),
    rule(
        "hccl_busy",
        "EJ0001",
        r"EJ0001",
        "HCCL could not start (EJ0001): an earlier run still holds the NPUs",
        "Wait ten seconds and run again; `npu-smi info` lists the processes that hold the devices.",
    ),
)

# HCCL and NCCL timeouts name no cause: some other rank was late, stuck or gone. They speak only where
# nothing else does, and before the plain loss of a connection.
PEER_RULES = (
    rule(
        "hccl_timeout",
        "EI00",
        r"EI000[26]\b",
        "the NPUs lost each other: HCCL waited too long for another rank",
        "Look for a rank that is stuck or gone; a slow start needs `--env HCCL_CONNECT_TIMEOUT=600`. " + _LINK_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    rule(
        "nccl_timeout",
        "Watchdog caught collective operation timeout",
        r"Watchdog caught collective operation timeout: WorkNCCL\(SeqNum=\d+, OpType=(?P<operation>\w+)",
        "the GPUs lost each other: NCCL's {operation} timed out",
        _LINK_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    rule(
        "nccl_aborted",
        "NCCL",
        r"(?P<why>NCCL communicator (?:was|is) aborted|Some NCCL operations have failed or timed out|"
        r"Timeout at NCCL work)",
        "the GPUs lost each other ({why})",
        _PEER_HINT + " " + _LINK_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    rule(
        "nccl_usage",
        "nccl",
        r"(?P<why>nccl(?:InvalidUsage|InvalidArgument|UnhandledCudaError)\b.{0,200})",
        "NCCL refused to start: {why}",
        "Two ranks on one GPU and a driver that does not fit the model's torch are the usual causes. " + _LINK_HINT,
    ),
    rule(
        "nccl_failed",
        "nccl",
        r"(?P<why>nccl(?:SystemError|InternalError|RemoteError)\b.{0,200})",
        "NCCL failed between the GPUs: {why}",
        "Without another rank's error above, a full /dev/shm or a missing network interface is the usual "
        "cause. " + _LINK_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    rule(
        "store_timeout",
        "store->get",
        r"store->get\('[^']*'\) got error: (?P<why>.+)",
        "a rank waited in vain for another one: {why}",
        _PEER_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    rule(
        "lost_peer",
        "",
        r"(?P<why>Connection (?:closed|reset) by peer|Connection reset|Socket Timeout|Broken pipe)",
        "the connection to another rank broke ({why})",
        _PEER_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    rule(
        "nccl_error",
        "NCCL",
        r"NCCL error(?: in)?: ?(?P<why>.{0,200})",
        "NCCL failed between the GPUs: {why}",
        _LINK_HINT,
        standing=Standing.FOLLOW_UP,
    ),
    rule(
        "hccl_failed",
        "",
        r"ERR02200|\bHccl[A-Z]\w+|HCCL (?:function )?error",
        "HCCL failed between the NPUs",
        _LINK_HINT,
        standing=Standing.FOLLOW_UP,
    ),
)
