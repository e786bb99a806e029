"""Run programs that a policy wrote: bubblewrap, another user, and limits on time, memory, processes and files.

bubblewrap removes access to the network, the file system and other processes, but sets no resource limits. The driver
sets them inside the sandbox before a policy's code runs. ``RLIMIT_NPROC`` does not apply to root, so as root the driver
changes the user; for other users the sandbox is a user namespace that counts its own processes. The memory of all
processes together is checked from outside.
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
Isolation = Literal["bubblewrap", "none"]
_USERS = itertools.cycle(range(61184, 65520))  # systemd's range of user ids for temporary users
_START_TIMEOUT = 60.0  # seconds until a sandbox has started, on a loaded machine


class Sandbox:
    """Starts programs with the isolation that a task's configuration asks for."""

    def __init__(self, isolation: Isolation, task: str) -> None:
        """Check that bubblewrap works, if it is asked for.

        Raises:
            RequestError: bubblewrap is missing or does not work here. The message names the option that accepts the
                risk.
        """
        self._isolation = isolation
        if isolation == "bubblewrap" and (problem := bubblewrap.find_problem()):
            raise RequestError(
                f"task {task} runs code that a policy wrote, and {problem}; "
                f"task.sandbox=none runs it unprotected, at your risk"
            )

    def start(
        self, task: Mapping[str, Any], limits: Limits, packages: tuple[str, ...] = (), seconds: float | None = None
    ) -> Program:
        """Start the driver with a task.

        Args:
            task: see ``driver.py``.
            limits: the limits of the program.
            packages: packages that can be imported besides the standard library.
            seconds: limit on processor time; None: ``limits.seconds``.

        Raises:
            WorkError: the sandbox does not start.
        """
        values = {
            "RLIMIT_CPU": math.ceil(seconds or limits.seconds) + 1,
            "RLIMIT_AS": limits.memory,
            "RLIMIT_FSIZE": limits.file_size,
            "RLIMIT_NOFILE": limits.files,
            "RLIMIT_CORE": 0,
        }
        user = 0
        if self._isolation == "bubblewrap":
            values["RLIMIT_NPROC"] = limits.processes
            user = next(_USERS) if os.geteuid() == 0 else 0
            program = _start_in_bubblewrap(limits, packages)
        else:
            program = Program(
                _add_driver([os.path.realpath(sys.executable)]), limits, tempfile.mkdtemp(prefix="progrpo-")
            )
        try:
            program.deadline = time.monotonic() + _START_TIMEOUT
            if self._isolation == "bubblewrap":
                program.open_init()
            program.write({**task, "uid": user, "limits": values})
            if (line := program.read_line()) != b"started":
                reason = f": {line.decode('utf-8', 'replace')}" if line else ""
                raise WorkError(f"the sandbox for code that a policy wrote does not start{reason}")
        except LimitReached as limit:
            program.__exit__()
            bound = (
                f"its {_START_TIMEOUT:.0f} s" if limit.kind == "time" else f"its {limits.memory >> 20} MiB of memory"
            )
            raise WorkError(f"the sandbox for code that a policy wrote did not start within {bound}") from limit
        except BaseException:
            program.__exit__()
            raise
        program.deadline = time.monotonic() + limits.seconds
        return program


def _add_driver(command: list[str]) -> list[str]:
    return [*command, "-I", "-S", "-c", DRIVER]


def _start_in_bubblewrap(limits: Limits, packages: tuple[str, ...]) -> Program:
    command, descriptors = bubblewrap.sandbox_command(packages)
    status_out, status_in = os.pipe()
    try:
        with_status = [command[0], "--json-status-fd", str(status_in), *command[1:]]
        return Program(_add_driver(with_status), limits, None, (*descriptors, status_in), status_out)
    except BaseException:
        os.close(status_out)
        raise
    finally:
        for descriptor in (*descriptors, status_in):
            os.close(descriptor)
