"""The cause of a failed run: the recorded failures, every known message, and who is to blame."""

from __future__ import annotations

import tracemalloc

import pytest
from recordings import recording

from omnirt_cli.errors import (
    DevicesUnavailableError,
    InputMissingError,
    IOFailureError,
    ModelFailedError,
    OmniRTError,
    OutOfDeviceMemoryError,
)
from omnirt_cli.run.failure import Failure, diagnose
from omnirt_cli.run.failure_reader import FIRST_LINES, LAST_LINES, FailureReader
from omnirt_cli.run.failure_rules import RULES
from omnirt_cli.run.log_scanner import LogScanner

DEVICES = ("2", "3")

PLAIN_TRACEBACK = """Traceback (most recent call last):
  File "/srv/generate_video.py", line 185, in <module>
    generate(args)
{message}
"""


def summary(rank: int, exit_code: int, signal: str = "") -> str:
    """torchrun's last words about two ranks, the other one ended by itself."""
    return f"""\
E1120 10:16:43.378000 23519 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: {exit_code}) \
local_rank: {rank} (pid: 23525) of binary: /srv/venv/bin/python
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
generate_video.py FAILED
------------------------------------------------------------
Failures:
[1]:
  rank      : {1 - rank} (local_rank: {1 - rank})
  exitcode  : -15 (pid: 23524)  (SIGTERM)
  traceback : Signal 15 (SIGTERM) received by PID 23524
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  rank      : {rank} (local_rank: {rank})
  exitcode  : {exit_code} (pid: 23525) {signal}
============================================================
"""


def read(text: str, *, exit_code: int = 1, launcher: str = "python", fell_back: str | None = None) -> Failure:
    """Diagnose an output through the scanner, as the engine does."""
    reader = FailureReader()
    scanner = LogScanner((), watch=reader.read)
    scanner.feed(text.encode(), 1.0)
    scanner.finish(1.0)
    failure = diagnose(
        reader.rows(),
        exit_code=exit_code,
        tail=scanner.tail(),
        launcher=launcher,
        devices=DEVICES,
        fell_back=fell_back,
    )
    assert failure is not None
    return failure


def read_recording(name: str) -> Failure:
    taken = recording(name)
    return read(taken.output.decode(), exit_code=taken.exit_code, launcher="torchrun" if taken.torchrun else "python")


RECORDED = [
    ("flashhead.oom1.2p", OutOfDeviceMemoryError, "rank 1: out of device memory on device 3", 1, 1, None),
    ("flashtalk_old.npuoom1.2p", OutOfDeviceMemoryError, "rank 1: out of device memory on device 3", 1, 1, None),
    ("flashtalk_old.hccl0.2p", ModelFailedError, "rank 0: HCCL could not start (EJ0001)", 0, 1, None),
    ("flashtalk_old.kill1.2p", ModelFailedError, "rank 1 was ended by SIGKILL", 1, None, "SIGKILL"),
    ("flashtalk_old.segv1.2p", ModelFailedError, "rank 1 was ended by SIGSEGV", 1, None, "SIGSEGV"),
    ("flashtalk_old.missing_ckpt.2p", InputMissingError, "models_t5_umt5-xxl-enc-bf16.pth", 0, 1, None),
    ("flashhead.missing_image.2p", InputMissingError, "/srv/soulx/assets/nope.png", 0, 1, None),
    ("flashhead.bad_flag.2p", ModelFailedError, "does not know --no_such_flag", 0, 2, None),
    ("flashhead.exit0_1.2p", ModelFailedError, "connection to another rank broke", 0, 1, None),
    ("flashhead.leaked_world_size.1p", ModelFailedError, "MASTER_ADDR is not set", None, 1, None),
    ("flashtalk_quant.badquant.1p", ModelFailedError, "--quantize: invalid choice: 'int4'", None, 2, None),
    ("liveact.oom1.2p", OutOfDeviceMemoryError, "rank 1: out of device memory on device 3", 1, 1, None),
    ("flashtalk_new.nores.1p", ModelFailedError, "script's ffmpeg failed with status 1", None, 1, None),
]


@pytest.mark.parametrize(("name", "error", "says", "rank", "exit_code", "signal"), RECORDED)
def test_recorded_failures_are_named(
    name: str, error: type[OmniRTError], says: str, rank: int | None, exit_code: int | None, signal: str | None
) -> None:
    failure = read_recording(name)
    assert says in failure.message
    assert (failure.error, failure.rank, failure.child_exit_code, failure.signal) == (error, rank, exit_code, signal)
    assert failure.hint


NPU_OOM = (
    "NPU out of memory. Tried to allocate 5.03 GiB (NPU 1; 60.96 GiB total capacity; 49.47 GiB already allocated; "
    "1.32 GiB free) If reserved memory is >> allocated memory try setting max_split_size_mb to avoid fragmentation."
)
OLD_CUDA_OOM = (
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 23.69 GiB total capacity; "
    "22.01 GiB already allocated)"
)
ERR99999 = "[ERROR] 2025-06-09-23:13:26 (PID:9, Device:0, RankID:-1) ERR99999 UNKNOWN applicaiton exception"

MESSAGES = [
    ("cuda_out_of_memory", OLD_CUDA_OOM, OutOfDeviceMemoryError, "device 2: could not allocate 20.00 MiB of 23.69 GiB"),
    ("npu_out_of_memory", f"RuntimeError: {NPU_OOM}", OutOfDeviceMemoryError, "device 3: could not allocate 5.03 GiB"),
    ("npu_out_of_memory", f"torch.OutOfMemoryError: {NPU_OOM}", OutOfDeviceMemoryError, "of 60.96 GiB"),
    ("cuda_allocation_failed", "RuntimeError: CUDA error: out of memory", OutOfDeviceMemoryError, "device memory"),
    (
        "cublas_allocation_failed",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        OutOfDeviceMemoryError,
        "cuBLAS",
    ),
    (
        "acl_out_of_memory",
        "RuntimeError: NPU function error: aclrtMalloc, error code is 207001\nEL0004: Failed to allocate memory.",
        OutOfDeviceMemoryError,
        "CANN could not allocate",
    ),
    ("disk_full", "OSError: [Errno 28] No space left on device: 'a.mp4'", IOFailureError, "disk is full"),
    ("host_out_of_memory", "OSError: [Errno 12] Cannot allocate memory", ModelFailedError, "not a device's"),
    (
        "shared_memory",
        "RuntimeError: It is possible that a worker is out of insufficient shared memory (shm).",
        ModelFailedError,
        "shared memory",
    ),
    ("unknown_flag", "x.py: error: unrecognized arguments: --max_chunks 0", ModelFailedError, "--max_chunks 0"),
    (
        "missing_argument",
        "x.py: error: the following arguments are required: --ckpt_dir",
        ModelFailedError,
        "not given: --ckpt_dir",
    ),
    (
        "ascend_library",
        "ImportError: libascend_hal.so: cannot open shared object file: No such file or directory",
        ModelFailedError,
        "Ascend library libascend_hal.so",
    ),
    ("ascend_library", "ImportError: libhccl.so: cannot open shared object file", ModelFailedError, "libhccl.so"),
    ("ascend_library", "OSError: libascendcl.so.1: cannot open shared object file", ModelFailedError, "libascendcl"),
    (
        "shared_library",
        "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
        ModelFailedError,
        "libGL.so.1",
    ),
    (
        "quantization_library",
        "ModuleNotFoundError: No module named 'bitsandbytes'",
        ModelFailedError,
        "quantizing needs bitsandbytes",
    ),
    ("missing_module", "ModuleNotFoundError: No module named 'xfuser'", ModelFailedError, "no module xfuser"),
    (
        "import_error",
        "ImportError: cannot import name 'cached_download' from 'huggingface_hub'",
        ModelFailedError,
        "cached_download",
    ),
    (
        "ffmpeg_missing",
        "FileNotFoundError: [Errno 2] No such file or directory: 'ffmpeg'",
        InputMissingError,
        "no ffmpeg",
    ),
    (
        "missing_file",
        "FileNotFoundError: [Errno 2] No such file or directory: '/srv/out/res_a'",
        ModelFailedError,
        "/srv/out/res_a",
    ),
    (
        "missing_pretrained",
        "OSError: models/wav2vec does not appear to have a file named config.json. Checkout your page",
        InputMissingError,
        "models/wav2vec has no config.json",
    ),
    (
        "damaged_weights",
        "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
        ModelFailedError,
        "MetadataIncompleteBuffer",
    ),
    (
        "weights_mismatch",
        "RuntimeError: Error(s) in loading state_dict for WanModel:",
        ModelFailedError,
        "do not fit WanModel",
    ),
    ("no_cuda_gpu", "RuntimeError: No CUDA GPUs are available", DevicesUnavailableError, "sees no CUDA device"),
    (
        "torch_without_cuda",
        "AssertionError: Torch not compiled with CUDA enabled",
        ModelFailedError,
        "built without CUDA",
    ),
    (
        "cuda_driver",
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).",
        DevicesUnavailableError,
        "driver does not fit",
    ),
    (
        "cuda_kernel_image",
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        ModelFailedError,
        "no code for this GPU",
    ),
    ("cuda_ordinal", "RuntimeError: CUDA error: invalid device ordinal", DevicesUnavailableError, "not visible"),
    (
        "cuda_device_fault",
        "torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
        ModelFailedError,
        "illegal memory access",
    ),
    (
        "npu_permission",
        "RuntimeError: open /dev/davinci0 failed: Permission denied",
        DevicesUnavailableError,
        "no permission to open the NPU /dev/davinci0",
    ),
    (
        "npu_device_id",
        "RuntimeError: NPU function error: c10_npu::SetDevice(device_id_), error code is 107001",
        DevicesUnavailableError,
        "107001",
    ),
    (
        "npu_driver",
        "RuntimeError: NPU function error: c10_npu::SetDevice(device_id_), error code is 507899",
        DevicesUnavailableError,
        "507899",
    ),
    (
        "port_taken",
        (
            "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. "
            "port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"
        ),
        ModelFailedError,
        "port 29500 is taken",
    ),
    (
        "address_taken",
        "OSError: [Errno 98] Address already in use",
        ModelFailedError,
        "port that the ranks need",
    ),
    (
        "name_resolution",
        "socket.gaierror: [Errno -2] Name or service not known",
        ModelFailedError,
        "name does not resolve",
    ),
    (
        "rendezvous",
        "torch.distributed.elastic.rendezvous.api.RendezvousConnectionError: The connection to the store has failed.",
        ModelFailedError,
        "could not meet",
    ),
    ("assertion", "AssertionError: Please specify the checkpoint directory.", ModelFailedError, "Please specify"),
    ("permission", "PermissionError: [Errno 13] Permission denied: '/w/a.pth'", ModelFailedError, "/w/a.pth"),
    (
        "hccl_timeout",
        (
            "RuntimeError: OPS function error: HcclAllreduce, error code is 6\n"
            "[ERROR] 2025-04-08-18:07:20 (PID:9, Device:1, RankID:1) ERR01100 OPS call acl api failed.\n"
            "EI0006: [PID: 9] 2025-04-08-18:07:20.444.436 Getting socket times out. Reason: Remote Rank did not send"
        ),
        ModelFailedError,
        "HCCL waited too long",
    ),
    (
        "nccl_timeout",
        (
            "[rank5]:[E226 11:16:37.121617583 ProcessGroupNCCL.cpp:616] [Rank 5] Watchdog caught collective operation "
            "timeout: WorkNCCL(SeqNum=5653, OpType=ALLREDUCE, Timeout(ms)=600000) ran for 600028 milliseconds"
        ),
        ModelFailedError,
        "NCCL's ALLREDUCE timed out",
    ),
    (
        "nccl_usage",
        (
            "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1970, invalid usage\n"
            "ncclInvalidUsage: This usually reflects invalid usage of NCCL library.\nLast error: Duplicate GPU detected"
        ),
        ModelFailedError,
        "NCCL refused to start",
    ),
    (
        "nccl_failed",
        (
            "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled system error\n"
            "ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error."
        ),
        ModelFailedError,
        "NCCL failed between the GPUs: ncclSystemError",
    ),
    (
        "nccl_error",
        "torch.distributed.DistBackendError: NCCL error: remote process exited or there was a network error",
        ModelFailedError,
        "NCCL failed between the GPUs: remote process exited",
    ),
    (
        "store_timeout",
        (
            "torch.distributed.DistBackendError: [4] is setting up NCCL and retrieving ncclUniqueId from [0] via "
            "c10d key-value store by key '0', but store->get('0') got error: Socket Timeout"
        ),
        ModelFailedError,
        "waited in vain",
    ),
    (
        "hccl_failed",
        "[ERROR] 2026-11-20-10:17:18 (PID:9, Device:0, RankID:0) ERR02200 DIST call hccl api failed.",
        ModelFailedError,
        "HCCL failed between the NPUs",
    ),
    (
        "shared_memory_full",
        "RuntimeError: unable to open shared memory object </torch_41_7> in read-write mode: No space left on device",
        ModelFailedError,
        "shared memory ran out",
    ),
    (
        "shared_memory_full",
        (
            "torch.distributed.DistBackendError: NCCL error in: NCCLUtils.cpp:94, unhandled system error\n"
            "ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error.\n"
            "Last error:\nError while creating shared memory segment /dev/shm/nccl-b2Vd1w (size 9637888)"
        ),
        ModelFailedError,
        "shared memory ran out",
    ),
    ("disk_full", "av.error.OSError: [Errno 28] No space left on device", IOFailureError, "disk is full"),
    ("disk_quota", "OSError: [Errno 122] Disk quota exceeded: 'result.mp4'", IOFailureError, "quota is used up"),
    (
        "host_array_memory",
        (
            "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 23.1 GiB for an array with shape "
            "(6000, 768, 448, 3) and data type float32"
        ),
        ModelFailedError,
        "not a device's) is exhausted: Unable to allocate 23.1 GiB",
    ),
    (
        "bus_error",
        (
            "RuntimeError: DataLoader worker (pid 4711) is killed by signal: Bus error. It is possible that "
            "dataloader's workers are out of shared memory."
        ),
        ModelFailedError,
        "shared memory ran out",
    ),
    ("open_files", "OSError: [Errno 24] Too many open files: '/srv/a.json'", ModelFailedError, "open files"),
    (
        "cann_python_package",
        (
            "RuntimeError: SetPrecisionMode:build/CMakeFiles/torch_npu.dir/compiler_depend.ts:156 NPU function error: "
            "at_npu::native::AclSetCompileopt(aclCompileOpt::ACL_PRECISION_MODE, precision_mode), error code is "
            "500001\n[ERROR] 2026-04-16-13:15:44 (PID:96, Device:0, RankID:-1) ERR00100 PTA call acl api failed\n"
            "[Error]: The internal ACL of the system is incorrect.\nEC0010: 2026-04-16-13:15:44.018.468 Failed to "
            "import Python module [ModuleNotFoundError: No module named 'attr'.]."
        ),
        ModelFailedError,
        "cannot import a Python module: ModuleNotFoundError: No module named 'attr'",
    ),
    (
        "cann_compiler",
        (
            "RuntimeError: Initialize:build/CMakeFiles/torch_npu.dir/compiler_depend.ts:155 NPU function error: "
            "at_npu::native::AclSetCompileopt(aclCompileOpt::ACL_PRECISION_MODE, precision_mode), error code is 500001"
        ),
        ModelFailedError,
        "could not start (500001)",
    ),
    (
        "cuda_driver_library",
        "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory",
        ModelFailedError,
        "driver's library libcuda.so.1",
    ),
    (
        "cuda_library",
        "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory",
        ModelFailedError,
        "CUDA library libcudart.so.12",
    ),
    ("cuda_library", "OSError: libcudnn.so.9: cannot open shared object file", ModelFailedError, "libcudnn.so.9"),
    (
        "audio_effects",
        "AttributeError: module 'torchaudio' has no attribute 'sox_effects'",
        ModelFailedError,
        "no sox effects",
    ),
    (
        "audio_effects",
        "ModuleNotFoundError: No module named 'torchaudio.sox_effects'",
        ModelFailedError,
        "no sox effects",
    ),
    (
        "audio_codec",
        "ImportError: TorchCodec is required for load_with_torchcodec. Please install torchcodec to use this.",
        ModelFailedError,
        "without torchcodec",
    ),
    (
        "audio_backend",
        "RuntimeError: Couldn't find appropriate backend to handle uri speech.wav and format None.",
        ModelFailedError,
        "nothing to read the recording with",
    ),
    (
        # librosa's warning before it tries its other backend is no failure; what that one says is.
        "audio_backend",
        "UserWarning: PySoundFile failed. Trying audioread instead.\naudioread.exceptions.NoBackendError",
        ModelFailedError,
        "nothing to read the recording with",
    ),
    ("audio_library", "OSError: sndfile library not found using ctypes.util", ModelFailedError, "libsndfile"),
    (
        "audio_library",
        "soundfile.LibsndfileError: Error opening 'speech.m4a': Format not recognised.",
        ModelFailedError,
        "Format not recognised",
    ),
    ("attention_library", "ModuleNotFoundError: No module named 'flash_attn'", ModelFailedError, "flash_attn"),
    ("attention_library", "ModuleNotFoundError: No module named 'xformers.ops'", ModelFailedError, "xformers"),
    ("attention_library", "ModuleNotFoundError: No module named 'sageattention'", ModelFailedError, "sageattention"),
    (
        "attention_build",
        (
            "ImportError: /srv/venv/lib/python3.10/site-packages/flash_attn_2_cuda.cpython-310-x86_64-linux-gnu.so: "
            "undefined symbol: _ZN3c105ErrorC2ENS_14SourceLocationESs"
        ),
        ModelFailedError,
        "flash_attn_2_cuda.cpython-310-x86_64-linux-gnu.so were built for another torch",
    ),
    (
        "attention_hardware",
        "RuntimeError: FlashAttention only supports Ampere GPUs or newer.",
        ModelFailedError,
        "no code for this GPU",
    ),
    (
        "attention_hardware",
        "AssertionError: SM90 kernel is not available. Make sure you GPUs with compute capability 9.0.",
        ModelFailedError,
        "SM90 kernel is not available",
    ),
    (
        "extension_build",
        "ImportError: /srv/venv/lib/torchvision/_C.so: undefined symbol: _ZN3c106detail14torchCheckFailE",
        ModelFailedError,
        "/srv/venv/lib/torchvision/_C.so",
    ),
    (
        "system_library",
        "ImportError: /lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by a.so)",
        ModelFailedError,
        "GLIBCXX_3.4.30 is not found",
    ),
    (
        "compiler_missing",
        (
            "torch._inductor.exc.InductorError: RuntimeError: Failed to find C compiler. Please specify via CC "
            "environment variable."
        ),
        ModelFailedError,
        "found no C compiler",
    ),
    (
        "compile_failed",
        "torch._dynamo.exc.TorchRuntimeError: Dynamo failed to run FX node with fake tensors: call_function add",
        ModelFailedError,
        "torch.compile failed: TorchRuntimeError",
    ),
    (
        "cuda_driver",
        "RuntimeError: CUDA driver version is insufficient for CUDA runtime version",
        DevicesUnavailableError,
        "driver does not fit",
    ),
    (
        "cuda_busy",
        "RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        DevicesUnavailableError,
        "lets no other process in",
    ),
    (
        "cuda_unavailable",
        "RuntimeError: CUDA device unavailable",
        DevicesUnavailableError,
        "there is none",
    ),
    (
        "npu_permission",
        "PermissionError: [Errno 13] Permission denied: '/dev/davinci3'",
        DevicesUnavailableError,
        "no permission to open the NPU /dev/davinci3",
    ),
    (
        "npu_device_id",
        "[Error]: The device ID is incorrect. NPU function error: rtSetDevice, error code is 107001",
        DevicesUnavailableError,
        "107001",
    ),
    (
        "npu_fault",
        "RuntimeError: ACL stream synchronize failed, error code:507018",
        ModelFailedError,
        "failed while computing (CANN 507018)",
    ),
    (
        "npu_taken",
        "RuntimeError: dcmi model initialized failed, because the device is used. ret is -8020",
        DevicesUnavailableError,
        "(-8020)",
    ),
    (
        "nccl_aborted",
        "torch.distributed.DistBackendError: NCCL communicator was aborted on rank 1.",
        ModelFailedError,
        "NCCL communicator was aborted",
    ),
    (
        "exception",
        f"RuntimeError: the shapes 3 and 4 do not match\n{ERR99999}",
        ModelFailedError,
        "the script failed: RuntimeError: the shapes 3 and 4 do not match",
    ),
]


@pytest.mark.parametrize(("name", "message", "error", "says"), MESSAGES, ids=[row[0] for row in MESSAGES])
def test_a_known_message_is_explained(name: str, message: str, error: type[OmniRTError], says: str) -> None:
    failure = read(PLAIN_TRACEBACK.format(message=message))
    assert says in failure.message
    assert failure.error is error
    assert failure.child_exit_code == 1
    assert failure.hint in [rule.hint for rule in RULES if rule.name == name]


def test_every_rule_is_tested_above() -> None:
    recorded = {
        "hccl_busy",
        "bad_choice",
        "ffmpeg_failed",
        "missing_weights",
        "missing_media",
        "leaked_environment",
        "lost_peer",
        "command_failed",  # with accelerate, below
    }
    assert {rule.name for rule in RULES} == recorded | {row[0] for row in MESSAGES}
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_hints_are_sentences_and_no_templates() -> None:
    assert [rule.name for rule in RULES if "{" in rule.hint] == []


def test_a_follow_up_before_the_root_cause_does_not_win() -> None:
    follow_up = "[rank0]: RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:9106.\n"
    cause = "[rank1]: ValueError: the latent has 17 channels\n"
    failure = read(follow_up + cause + summary(1, 1), launcher="torchrun")
    assert failure.message == "rank 1: the script failed: ValueError: the latent has 17 channels"


def test_a_follower_that_died_first_does_not_hide_the_cause() -> None:
    text = "[rank0]: RuntimeError: Connection reset by peer\n[rank1]: ValueError: 17 channels\n"
    failure = read(text + summary(0, 1), launcher="torchrun")
    assert (failure.rank, "17 channels" in failure.message) == (1, True)


def test_an_error_that_was_survived_does_not_explain_a_kill() -> None:
    warning = "WARNING xformers is not here\nModuleNotFoundError: No module named 'xformers'\nGoing on without it.\n"
    failure = read(warning + summary(1, -9, "(SIGKILL)"), launcher="torchrun")
    assert (failure.rank, failure.signal) == (1, "SIGKILL")
    assert "dmesg" in (failure.hint or "")


def test_an_error_that_was_survived_does_not_hide_the_one_that_was_not() -> None:
    text = "ModuleNotFoundError: No module named 'xformers'\nGoing on without it.\n" + PLAIN_TRACEBACK.format(
        message="KeyError: 'frames'"
    )
    assert read(text).message == "the script failed: KeyError: 'frames'"


def test_the_error_behind_a_chained_one_is_told() -> None:
    text = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1 GiB. GPU 0 has a total capacity of 8 GiB\n\n"
        "During handling of the above exception, another exception occurred:\n\n"
    ) + PLAIN_TRACEBACK.format(message="RuntimeError: generation failed")
    assert read(text).error is OutOfDeviceMemoryError


def test_ranks_that_the_launcher_stopped_are_not_the_cause() -> None:
    failure = read(summary(0, 3), launcher="torchrun")
    assert failure.message == "rank 0: the script ended with exit code 3 and did not say why"
    assert (failure.rank, failure.child_exit_code) == (0, 3)


def test_the_agents_line_tells_where_the_summary_is_missing() -> None:
    text = "E1120 10:16:43 1 api.py:1002] failed (exitcode: -11) local_rank: 1 (pid: 2) of binary: /python\n"
    failure = read(text, launcher="torchrun")
    assert (failure.rank, failure.signal) == (1, "SIGSEGV")


def test_an_abort_is_explained_by_its_last_words() -> None:
    text = (
        "terminate called after throwing an instance of 'c10::Error'\n  what():  CUDA error: invalid device ordinal\n"
    )
    failure = read(text + summary(1, -6, "(SIGABRT)"), launcher="torchrun")
    assert (failure.error, failure.signal) == (DevicesUnavailableError, "SIGABRT")


def test_a_killed_launcher_is_told_from_a_failed_rank() -> None:
    failure = read("2026 | INFO | Creating WanModel\n", exit_code=-9, launcher="torchrun")
    assert failure.message == "the launcher (torchrun) was ended by SIGKILL, not by a failing rank"
    assert (failure.signal, failure.rank) == ("SIGKILL", None)


def test_a_silent_kill_points_at_the_kernel_and_at_the_container_s_limit() -> None:
    hint = read("Loading checkpoint shards\n" + summary(1, -9, "(SIGKILL)"), launcher="torchrun").hint or ""
    assert "dmesg" in hint
    assert "/sys/fs/cgroup/memory.events" in hint


def test_a_compiled_call_that_ran_out_of_memory_is_out_of_memory() -> None:
    text = PLAIN_TRACEBACK.format(
        message=f"{OLD_CUDA_OOM}\n\nThe above exception was the direct cause of the following exception:\n"
        "torch._dynamo.exc.BackendCompilerFailed: backend='inductor' raised:"
    )
    assert read(text).error is OutOfDeviceMemoryError


def test_a_killed_script_without_a_launcher_is_told_by_its_signal() -> None:
    failure = read("loading\n", exit_code=-9)
    assert (failure.message, failure.signal) == ("the script was ended by SIGKILL", "SIGKILL")


def test_accelerates_own_error_is_not_the_cause() -> None:
    report = (
        "subprocess.CalledProcessError: Command '['python', 'generate_video.py']' returned non-zero exit status 1.\n"
    )
    failure = read(PLAIN_TRACEBACK.format(message="KeyError: 'x'") + report, launcher="accelerate")
    assert failure.message == "the script failed: KeyError: 'x'"


def test_accelerate_without_a_cause_still_tells_the_childs_code_or_signal() -> None:
    report = "subprocess.CalledProcessError: Command '['python', 'x.py']' "
    coded = read(report + "returned non-zero exit status 3.\n", launcher="accelerate")
    assert (coded.child_exit_code, "exit status 3" in coded.message) == (3, True)
    killed = read(report + "died with <Signals.SIGKILL: 9>.\n", launcher="accelerate")
    assert killed.signal == "SIGKILL"


def test_a_run_that_did_not_fail_has_no_failure() -> None:
    assert diagnose([], exit_code=0) is None


def test_quantizing_that_fell_back_is_a_failure_though_the_script_says_zero() -> None:
    line = "quanto INT4 quantization failed: No module named 'quanto'. Running without quantization."
    failure = read("", exit_code=0, fell_back=line)
    assert (failure.error, failure.evidence) == (ModelFailedError, line)
    assert "optimum-quanto" in (failure.hint or "")


def test_a_device_that_the_run_does_not_know_is_named_as_printed() -> None:
    failure = read(PLAIN_TRACEBACK.format(message=OLD_CUDA_OOM.replace("GPU 0", "GPU 7")))
    assert failure.device == "7"


def test_an_unknown_signal_number_is_still_told() -> None:
    assert read("", exit_code=-63).signal in {"signal 63", "SIGRTMAX"}


def test_the_failure_makes_the_exception_to_raise() -> None:
    error = read_recording("flashhead.oom1.2p").to_error()
    assert isinstance(error, OutOfDeviceMemoryError)
    assert error.hint


def test_braces_in_the_output_are_no_templates() -> None:
    assert "{0} {line}" in read(PLAIN_TRACEBACK.format(message="ValueError: {0} {line}")).message


def test_a_cause_early_in_a_long_log_is_remembered() -> None:
    scanner_text = (
        "[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB.\n" + "noise\n" * 200_000
    )
    assert read(scanner_text + summary(1, 1), launcher="torchrun").error is OutOfDeviceMemoryError


def test_memory_is_bounded_when_every_line_is_an_error() -> None:
    reader = FailureReader()
    block = b"".join(b"RuntimeError: number %d " % number + b"z" * 4000 + b"\n" for number in range(250))
    tracemalloc.start()
    try:
        for _ in range(30):
            reader.read(block)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(reader.rows()) == FIRST_LINES + LAST_LINES
    assert peak < 16 * (1 << 20)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_blocks_cut_anywhere_give_the_same_diagnosis(size: int) -> None:
    taken = recording("flashhead.oom1.2p")
    reader = FailureReader()
    scanner = LogScanner((), watch=reader.read)
    for start in range(0, len(taken.output), size):
        scanner.feed(taken.output[start : start + size], 1.0)
    failure = diagnose(reader.rows(), exit_code=1, tail=scanner.tail(), launcher="torchrun", devices=DEVICES)
    assert failure == read_recording("flashhead.oom1.2p")
