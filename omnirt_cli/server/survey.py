"""What this server could render right now, looked at in a process of its own: `/readyz` and the lists of models.

A look plans a render of OmniRT's sample inputs for every model, as `omnirt validate` does, and launches nothing.

    python -m omnirt_cli.server.survey FOLDER [BACKEND]
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 60.0
BOUND_S = 120.0

logger = logging.getLogger("omnirt.server")


@dataclass(frozen=True)
class ModelState:
    """Whether a model can be rendered.

    Attributes:
        reason: Why not; None where it can be.
        hint: What to do about it.
    """

    ok: bool
    reason: str | None = None
    hint: str | None = None


class Survey:
    """The last look, and how it is repeated.

    Attributes:
        states: Model id -> state; None before the first look has ended.
        problem: Why the last look failed.
    """

    def __init__(self, folder: Path, backend: str | None) -> None:
        self._arguments = [str(folder), *([backend] if backend else [])]
        self.states: Mapping[str, ModelState] | None = None
        self.problem: str | None = None

    @property
    def any_ok(self) -> bool:
        """Whether some model can be rendered."""
        return self.states is not None and any(state.ok for state in self.states.values())

    async def keep_looking(self) -> None:
        """Look now and then, for as long as the server lives."""
        while True:
            try:
                await self._look()
            except (OSError, ValueError, asyncio.TimeoutError) as error:
                self.problem = f"the look at the models failed: {type(error).__name__}: {error}"
                logger.warning(self.problem)
            await asyncio.sleep(EVERY_S)

    async def _look(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "omnirt_cli.server.survey",
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            told, _ = await asyncio.wait_for(process.communicate(), BOUND_S)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        self.states = {model: ModelState(**state) for model, state in json.loads(told).items()}
        self.problem = None


def look(folder: str, backend: str | None) -> dict[str, dict[str, object]]:
    """Model id -> whether it can be rendered here, and why not."""
    from omnirt_cli.models import registry

    return {model_id: _look_at(model_id, folder, backend) for model_id in registry.model_ids()}


def _look_at(model_id: str, folder: str, backend: str | None) -> dict[str, object]:
    from omnirt_cli.errors import OmniRTError
    from omnirt_cli.inputs import sample_inputs
    from omnirt_cli.planner import draft_plan
    from omnirt_cli.request import Audio2VideoRequest

    document = {
        "model": model_id,
        "backend": backend,
        "inputs": sample_inputs().model_dump(),
        "config": {"output_dir": folder},
    }
    try:
        draft_plan(Audio2VideoRequest.model_validate(document)).require()
    except OmniRTError as error:
        return {"ok": False, "reason": error.message, "hint": error.hint}
    return {"ok": True}


def main() -> None:
    """Look once and print what was found."""
    folder, backend = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    found = look(folder, backend)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
