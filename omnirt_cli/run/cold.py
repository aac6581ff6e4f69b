"""The cold executor: what is launched for one run alone, under a guard, and gone with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launchers.process import GuardedProcess, ProcessSpec
from omnirt_cli.plan import Plan
from omnirt_cli.run.watch import Watch


@dataclass(frozen=True)
class ColdLaunch:
    """What is started, and how its output is read.

    Attributes:
        env: The child's whole environment.
        umask: Permissions that no file of the child gets; None leaves this process's own.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    watch: Watch = field(default_factory=Watch)
    umask: int | None = None

    def start(self, plan: Plan, lock_fds: tuple[int, ...]) -> GuardedProcess:
        """Start it.

        Args:
            plan: Whose run it is for.
            lock_fds: Descriptors that the guard holds until the last process is gone.

        Raises:
            launchers.errors.LaunchError: The launcher could not be started.
        """
        spec = ProcessSpec(argv=self.argv, cwd=self.cwd, env=dict(self.env), run_id=plan.run_id, umask=self.umask)
        return GuardedProcess.start(spec, grace_s=plan.limits.grace_s, pass_fds=lock_fds)
