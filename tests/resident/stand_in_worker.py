"""A stand-in for the resident worker program, for the daemon's tests: it computes nothing and misbehaves as it is told.

It speaks the worker's messages. `serve.json` says how it loads, each request's `render` what is done with it:

- load_s, hang_at_load, crash_loads (how many starts end while loading), stubborn (SIGTERM is ignored), deaf_at_exit;
- chunks, chunk_s, bytes (of each chunk's body), crash_at (the chunk), crash_before (it is begun), crash_first (only the
  first start does so), refuse, error, unsound, nonsense, ignore_cancel, talk (bytes of output).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from launchers.model_env.omnirt_worker import wire


def main() -> None:
    orders = json.loads(Path("serve.json").read_text())
    start = count_starts()
    print(f"stand-in worker, start {start}", flush=True)
    if orders.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if orders.get("hang_at_load"):
        time.sleep(600)
    time.sleep(orders.get("load_s", 0.0))
    if start <= orders.get("crash_loads", 0):
        print("RuntimeError: the stand-in cannot load", flush=True)
        os._exit(3)
    server = wire.listen(Path.cwd(), orders["socket"])
    connection, _ = server.accept()
    ready = {"type": "ready", "pid": os.getpid(), "world_size": 1, "params": {"sample_steps": 2}, "device": "cpu"}
    wire.send(connection, ready)
    while (message := wire.receive(connection)) is not None:
        if message.type == "render":
            render(connection, message.header, start)
        elif message.type == "shutdown" and not orders.get("deaf_at_exit"):
            return


def count_starts() -> int:
    counter = Path("starts")
    start = int(counter.read_text()) + 1 if counter.exists() else 1
    counter.write_text(str(start))
    return start


def render(connection: socket.socket, header: Any, start: int) -> None:
    run, asked = header["id"], header["render"]
    if asked.get("crash_before") and not (asked.get("crash_first") and start > 1):
        os._exit(4)
    if asked.get("refuse"):
        wire.send(connection, {"type": "failed", "id": run, "reason": "refused", "error": "ValueError: no picture"})
        return
    if asked.get("nonsense"):
        connection.sendall(b"\xff" * 64)
        return
    print(f"[worker] request {run}", flush=True)
    wire.send(connection, {"type": "started", "id": run})
    wire.send(connection, {"type": "prepared", "id": run, "reused": start > 1, "ms": 1.5})
    ending = chunks(connection, run, asked)
    print("x" * asked.get("talk", 0))
    print(f"[worker] request {run} ended", flush=True)
    wire.send(connection, {"id": run, **ending})
    if asked.get("unsound"):
        sys.exit(1)


def chunks(connection: socket.socket, run: str, asked: Any) -> dict[str, Any]:
    body = b"\1" * asked.get("bytes", 0)
    for index in range(asked.get("chunks", 1)):
        if asked.get("crash_at") == index:
            print("Segmentation fault (stand-in)", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(asked.get("chunk_s", 0.0))
        wire.send(connection, {"type": "chunk", "id": run, "index": index, "frames": 28}, body)
        if not asked.get("ignore_cancel") and cancelled(connection):
            return {"type": "failed", "reason": "cancelled", "error": "cancelled", "sound": True}
    if asked.get("error") or asked.get("unsound"):
        print("ValueError: the stand-in was told to fail", flush=True)
        text = "ValueError: the stand-in was told to fail"
        return {"type": "failed", "reason": "error", "error": text, "rank": 0, "sound": not asked.get("unsound")}
    memory = {"rss_bytes": 1 << 20, "device_peak_bytes": None}
    return {"type": "done", "chunks": asked.get("chunks", 1), "memory": memory}


def cancelled(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        if not connection.recv(1, socket.MSG_PEEK):
            sys.exit(0)
    except BlockingIOError:
        return False
    finally:
        connection.setblocking(True)
    message = wire.receive(connection)
    return message is not None and message.type == "cancel"


if __name__ == "__main__":
    main()
