"""Running programs that a policy wrote: bubblewrap, another user, limits of time, memory, processes and files.

bubblewrap takes away the network, the file system and the sight of other processes, and sets no limits. Those are set
inside, before any code of a policy runs. ``RLIMIT_NPROC`` does not bind root, so that as root the user is really
changed; for anybody else the sandbox is a user namespace with a count of its own. The memory of all processes together
is watched from outside.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.tasks.code.system_calls import compiled

DRIVER = Path(__file__).with_name("driver.py").read_text(encoding="utf-8")
WAYS = Literal["bubblewrap", "none"]
_USERS = itertools.cycle(range(61184, 65520))  # systemd's range for users that exist only while something runs
_WATCH = 0.05  # seconds between looks at the memory
_START = 60.0  # seconds until a sandbox has started, on a loaded machine
_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    seconds: float = 6.0
    """Wall-clock and processor time: of each call, each run of a program, and of a benchmark's own test code."""
    seconds_in_all: float = 120.0
    """Wall-clock time of all tests of one program."""
    memory: int = 512 * _MEGABYTE
    """Bytes, of each process (address space) and of all together (resident)."""
    processes: int = 24
    files: int = 64
    """Open at once, in each process."""
    file_size: int = 4 * _MEGABYTE
    """Bytes of one file; the whole temporary directory holds 32 MB."""
    output: int = 8 * _MEGABYTE
    """Bytes that are read of what it writes."""


class LimitReached(Exception):
    """A program ran out of time or memory, or wrote too much, and was ended."""

    def __init__(self, what: Literal["time", "memory", "output"]) -> None:
        super().__init__(what)
        self.what = what


class Program:
    """A started program with lines in and out; every way out of the ``with`` ends it and all that it started."""

    def __init__(
        self, command: list[str], limits: Limits, directory: str | None, descriptors: tuple[int, ...] = ()
    ) -> None:
        self._limits, self._directory = limits, directory
        self.deadline = time.monotonic() + limits.seconds
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},  # the environment of the sandbox's first process can be read inside
            cwd=directory or "/",
            start_new_session=True,
            pass_fds=descriptors,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._buffer = bytearray()
        self._read = 0
        self._next_look = 0.0

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)

    def write(self, message: Mapping[str, Any] | list[Any]) -> None:
        """Send a line of JSON. A program that has ended does not get it.

        Raises:
            LimitReached: it does not read in time.
        """
        rest = memoryview(json.dumps(message).encode() + b"\n")
        with selectors.DefaultSelector() as selector:
            selector.register(self._in, selectors.EVENT_WRITE)
            while rest:
                self._wait(selector)
                try:
                    rest = rest[os.write(self._in, rest) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    return

    def line(self) -> bytes | None:
        """The next line, or None when the program closed its output.

        Raises:
            LimitReached: see there.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            if not self._fill():
                return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def everything(self) -> bytes:
        """All output until it is closed.

        Raises:
            LimitReached: see there.
        """
        while self._fill():
            pass
        return bytes(self._buffer)

    def status(self) -> int:
        """The exit status, not 0 where a signal ended it; after :meth:`everything`.

        Raises:
            LimitReached: it closed its output and goes on for too long, or with too much.
        """
        while (status := self._process.poll()) is None:
            self._look()
            time.sleep(0.002)
        return status

    def _fill(self) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            self._wait(selector)
        chunk = os.read(self._out, 1 << 16)
        self._read += len(chunk)
        if self._read > self._limits.output:
            raise LimitReached("output")
        self._buffer += chunk
        return bool(chunk)

    def _wait(self, selector: selectors.BaseSelector) -> None:
        """Wait until a pipe is ready, within the limits."""
        while not selector.select(min(_WATCH, self._look())):
            pass

    def _look(self) -> float:
        """Whether the limits are kept; seconds that are left."""
        now = time.monotonic()
        if now >= self.deadline:
            raise LimitReached("time")
        if now >= self._next_look:
            self._next_look = now + _WATCH
            if sum(_resident(self._process.pid)) > self._limits.memory:
                raise LimitReached("memory")
        return self.deadline - now


def _resident(root: int) -> Iterator[int]:
    """Bytes resident in each process below ``root``, itself included; those that end meanwhile are left out."""
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        with suppress(OSError, ValueError, IndexError):
            yield int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())


class Sandbox:
    """Starts programs in the way that a task's configuration says."""

    def __init__(self, way: WAYS, task: str) -> None:
        """Find out whether programs can be run at all.

        Raises:
            RequestError: bubblewrap is missing or does not work here; says what accepts the risk.
        """
        self._way = way
        if way == "bubblewrap" and (problem := _what_is_wrong()):
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
        user, directory = 0, None
        descriptors: tuple[int, ...] = ()
        if self._way == "bubblewrap":
            values["RLIMIT_NPROC"] = limits.processes
            user = next(_USERS) if os.geteuid() == 0 else 0
            command, descriptors = _in_bubblewrap(packages)
        else:
            directory = tempfile.mkdtemp(prefix="progrpo-")
            command = [os.path.realpath(sys.executable)]
        try:
            program = Program([*command, "-I", "-S", "-c", DRIVER], limits, directory, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        try:
            program.deadline = time.monotonic() + _START
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


def _in_bubblewrap(packages: tuple[str, ...]) -> tuple[list[str], tuple[int, ...]]:
    """The command up to Python's arguments, and the descriptors that it needs, to be closed after the start."""
    command = list(_bubblewrap(packages))
    filtered = compiled()
    descriptors: tuple[int, ...] = ()
    if filtered is not None:
        descriptors = (os.memfd_create("seccomp"),)
        os.write(descriptors[0], filtered)
        os.lseek(descriptors[0], 0, os.SEEK_SET)
        command += ["--seccomp", str(descriptors[0])]
    return [*command, _python()[1]], descriptors


def _python() -> tuple[list[str], str]:
    """Mounts that show Python's standard library, and its executable inside."""
    base, executable = Path(sys.base_prefix).resolve(), Path(sys.executable).resolve()
    if base.is_relative_to("/usr") or not executable.is_relative_to(base):
        return [], str(executable)
    mounts = ["--ro-bind", str(base), "/python", "--setenv", "LD_LIBRARY_PATH", "/python/lib"]
    for installed in base.glob("lib/python3*/site-packages"):
        inside = f"/python/{installed.relative_to(base)}"
        mounts += ["--tmpfs", inside, "--remount-ro", inside]
    return mounts, f"/python/{executable.relative_to(base)}"


@cache
def _bubblewrap(packages: tuple[str, ...]) -> tuple[str, ...]:
    """The command up to the program. Installed packages are hidden: benchmarks with their solutions are among them."""
    namespaces = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:
        namespaces += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]  # to change the user, then gone
    else:
        namespaces += ["--unshare-user", "--uid", "61184", "--gid", "61184"]
    mounts = ["--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for name in ("bin", "lib", "lib32", "lib64", "sbin"):
        if Path(f"/{name}").is_symlink():
            mounts += ["--symlink", f"usr/{name}", f"/{name}"]
        elif Path(f"/{name}").is_dir():
            mounts += ["--ro-bind", f"/{name}", f"/{name}"]
    usr = Path("/usr")
    for pattern in ("lib/python3*/*-packages", "local/lib/python3*/*-packages"):
        for installed in usr.glob(pattern):
            mounts += ["--tmpfs", str(installed), "--remount-ro", str(installed)]
    mounts += _python()[0]
    if packages:
        mounts += ["--perms", "0755", "--dir", "/packages"]
    for package in packages:
        found = find_spec(package)
        if found is not None and found.submodule_search_locations:
            place = Path(next(iter(found.submodule_search_locations)))
            mounts += ["--ro-bind", str(place), f"/packages/{package}"]
            mounts += ["--ro-bind-try", f"{place}.libs", f"/packages/{package}.libs"]
    return (
        *(_tool(), "--die-with-parent", "--new-session", *namespaces, *mounts),
        *("--setenv", "OPENBLAS_NUM_THREADS", "1", "--setenv", "OMP_NUM_THREADS", "1"),
        *("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--size", str(32 * _MEGABYTE), "--tmpfs", "/tmp"),
        *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"),
    )


@cache
def _what_is_wrong() -> str:
    """Why bubblewrap cannot be used here; empty where it can."""
    if not _tool():
        return "bubblewrap is not installed (apt-get install bubblewrap)"
    command, descriptors = _in_bubblewrap(())
    try:
        done = subprocess.run(
            [*command, "-I", "-S", "-c", "print('works')"],
            env={},
            cwd="/",
            pass_fds=descriptors,
            capture_output=True,
            text=True,
            timeout=_START,
        )
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    if done.stdout == "works\n":
        return ""
    return f"bubblewrap does not work here ({' '.join(done.stderr.split())[:160]}; version 0.8 or newer is needed)"


def _tool() -> str:
    """Where bubblewrap is; programs are started with an empty environment, without a PATH."""
    return shutil.which("bwrap") or ""
