"""A process that takes leases, as another shell, cron or another user would; orders and answers are JSON lines."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from omnirt_cli.devices.device import Device
from omnirt_cli.devices.leases import LeaseDirectory, LeaseNote, acquire
from omnirt_cli.devices.selection import DeviceRequest, choose
from omnirt_cli.errors import BusyError, OmniRTError
from omnirt_cli.models.base import Backend


def say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


def hold(directory: LeaseDirectory, orders: dict[str, Any]) -> None:
    """Take the leases, say so, and keep them until stdin ends."""
    lease = directory.try_acquire(orders["keys"], LeaseNote("run-of-worker", "generate"))
    say(got=lease is not None)
    if lease is not None and orders.get("bequeath"):
        subprocess.Popen(["cat"], pass_fds=lease.fds, stdout=subprocess.DEVNULL)
        os._exit(0)
    sys.stdin.read()


def race(directory: LeaseDirectory, orders: dict[str, Any]) -> None:
    """Take overlapping leases again and again; a marker that is there already is a device held twice."""
    markers = Path(orders["markers"])
    rng = random.Random(orders["seed"])
    got = refused = shared = leaked = 0
    baseline = open_descriptors()
    say(ready=True)
    sys.stdin.readline()
    for _ in range(orders["rounds"]):
        keys = rng.sample(orders["keys"], rng.randint(1, 3))
        lease = directory.try_acquire(keys, LeaseNote("racer", "race"))
        if lease is None:
            refused += 1
            leaked += open_descriptors() != baseline
            continue
        got += 1
        for key in keys:
            try:
                os.close(os.open(markers / key, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                shared += 1
        time.sleep(rng.random() / 1000)
        for key in keys:
            (markers / key).unlink(missing_ok=True)
        lease.close()
    say(got=got, refused=refused, shared=shared, leaked=leaked)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def pick(directory: LeaseDirectory, orders: dict[str, Any]) -> None:
    """Have devices chosen, as `--devices N` does, and keep them until stdin ends."""
    devices = tuple(Device(id=str(number), key=f"npu-{number}") for number in range(orders["of"]))
    request = DeviceRequest(Backend.ASCEND, devices, orders["count"], chosen_by_user=False)
    say(ready=True)
    sys.stdin.readline()
    try:
        lease, chosen = acquire(directory, lambda free: choose(request, free), note=LeaseNote("picker", "pick"))
    except BusyError as error:
        say(busy=error.message)
        return
    say(devices=[device.id for device in chosen])
    sys.stdin.read()
    lease.close()


def look(directory: LeaseDirectory, orders: dict[str, Any]) -> None:
    """Ask who holds the device, again and again, until stdin ends."""
    os.set_blocking(0, False)
    looks = 0
    while sys.stdin.buffer.raw.read(1) != b"":
        directory.holder(orders["keys"][0])
        looks += 1
        if looks == 1:
            say(looking=True)
    say(looks=looks)


def main() -> None:
    orders = json.loads(sys.argv[1])
    if "umask" in orders:
        os.umask(orders["umask"])
    if "uid" in orders:
        os.setgroups([])
        os.setgid(orders["uid"])
        os.setuid(orders["uid"])
    try:
        directory = LeaseDirectory.open({"OMNIRT_LOCK_DIR": orders["folder"]})
        {"hold": hold, "race": race, "pick": pick, "look": look}[orders["do"]](directory, orders)
    except OmniRTError as error:
        say(error=error.code, message=error.message, hint=error.hint)


if __name__ == "__main__":
    main()
