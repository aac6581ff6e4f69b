"""What of the environment the adaptation looks at, and the line that says so at the start."""

import os

STAGE_PROFILE = os.environ.get("LIVEACT_STAGE_PROFILE") == "1"
_TOLD = ("PLATFORM", "ASCEND_RT_VISIBLE_DEVICES", "GPU_NUM")


def announce(device):
    """One line of the variables that choose platform and devices; without an NPU platform the real code wants CUDA."""
    told = " ".join(f"{name}={os.environ.get(name, '(unset)')}" for name in _TOLD)
    print(f"[platform] {told}: {device} is the CPU here", flush=True)
    if os.environ.get("PLATFORM") != "ascend_npu":
        print("[platform] not ascend_npu: the real code would look for CUDA", flush=True)


def print_stages(total_s, **stages_s):
    """The seconds of one video by stage, if LIVEACT_STAGE_PROFILE=1 asks for them."""
    if not STAGE_PROFILE:
        return
    for name, seconds in stages_s.items():
        print(f"[stage-profile] {name} avg={seconds:.4f}s")
    print(f"[stage-profile] total avg={total_s:.4f}s")
