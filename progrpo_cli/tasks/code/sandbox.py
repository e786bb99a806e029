"""Running programs that a policy wrote: bubblewrap, another user, limits of time, memory, processes and files.

bubblewrap takes away the network, the file system and the sight of other processes, and sets no limits. Those are set
inside, before any code of a policy runs. ``RLIMIT_NPROC`` does not bind root, so that as root the user is really
changed; for anybody else the sandbox is a user namespace with a count of its own. The memory of all processes together
is watched from outside.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.tasks.code import bubblewrap
from progrpo_cli.tasks.code.program import LimitReached, Limits, Program

DRIVER = Path(__file__).with_name("driver.py").read_text(encoding="utf-8")
WAYS = Literal["bubblewrap", "none"]
_USERS = itertools.cycle(range(61184, 65520))  # systemd's range for users that exist only while something runs
_START = 60.0  # seconds until a sandbox has started, on a loaded machine


class Sandbox:
    """Starts programs in the way that a task's configuration says."""

    def __init__(self, way: WAYS, task: str) -> None:
        """Find out whether programs can be run at all.

        Raises:
            RequestError: bubblewrap is missing or does not work here; says what accepts the risk.
        """
        self._way = way
        if way == "bubblewrap" and (problem := bubblewrap.what_is_wrong()):
            raise RequestError(
                f"task {task} runs code that a policy wrote, and {problem}; "
                f"task.sandbox=none runs it unprotected, at your risk"
            )

    def start(
        self, task: Mapping[str, Any], limits: Limits, packages: tuple[str, ...] = (), seconds: float | None = None
    ) -> Program:
        """Start what ``task`` says (see the driver), with the standard library and, if asked for, some packages.

        Raises:
            WorkError: the sandbox itself does not start: no verdict on any program.
        """
        values = {
            "RLIMIT_CPU": math.ceil(seconds or limits.seconds) + 1,
            "RLIMIT_AS": limits.memory,
            "RLIMIT_FSIZE": limits.file_size,
            "RLIMIT_NOFILE": limits.files,
            "RLIMIT_CORE": 0,
        }
        user = 0
        if self._way == "bubblewrap":
            values["RLIMIT_NPROC"] = limits.processes
            user = next(_USERS) if os.geteuid() == 0 else 0
            program = _in_bubblewrap(limits, packages)
        else:
            program = Program(_driven([os.path.realpath(sys.executable)]), limits, tempfile.mkdtemp(prefix="progrpo-"))
        try:
            program.deadline = time.monotonic() + _START
            if self._way == "bubblewrap":
                program.hold_sandbox()
            program.write({**task, "uid": user, "limits": values})
            if (said := program.line()) != b"started":
                reason = f": {said.decode('utf-8', 'replace')}" if said else ""
                raise WorkError(f"the sandbox for code that a policy wrote does not start{reason}")
        except LimitReached as limit:
            program.__exit__()
            out_of = f"the {_START:.0f} s" if limit.what == "time" else f"the {limits.memory >> 20} MiB of memory"
            raise WorkError(f"the sandbox for code that a policy wrote did not start within {out_of} it has") from limit
        except BaseException:
            program.__exit__()
            raise
        program.deadline = time.monotonic() + limits.seconds
        return program


def _driven(command: list[str]) -> list[str]:
    return [*command, "-I", "-S", "-c", DRIVER]


def _in_bubblewrap(limits: Limits, packages: tuple[str, ...]) -> Program:
    command, descriptors = bubblewrap.command_for(packages)
    said, says = os.pipe()
    try:
        at = [command[0], "--json-status-fd", str(says), *command[1:]]
        return Program(_driven(at), limits, None, (*descriptors, says), said)
    except BaseException:
        os.close(said)
        raise
    finally:
        for descriptor in (*descriptors, says):
            os.close(descriptor)
