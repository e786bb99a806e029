"""A program that runs in a sandbox, seen from outside: lines in and out, within limits, and nothing left at the end.

The memory of all its processes together is watched: what is resident, and what may lie in the buffers of its sockets,
which count for no process.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from progrpo_cli.errors import WorkError

_WATCH = 0.05  # seconds between looks at the memory
_GONE = 30.0  # seconds until the last process of a sandbox is gone, on a loaded machine
_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    seconds: float = 6.0
    """Wall-clock and processor time: of each call, each run of a program, and of a benchmark's own test code."""
    seconds_in_all: float = 120.0
    """Wall-clock time of all tests of one program."""
    memory: int = 512 * _MEGABYTE
    """Bytes, of each process (address space) and of all together (resident, and in the buffers of sockets)."""
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
    """A started program with lines in and out; every way out of the ``with`` ends it and all that it started.

    Leaving raises WorkError where a process of a sandbox cannot be ended: better no verdict than a leak at each.
    """

    def __init__(
        self,
        command: list[str],
        limits: Limits,
        directory: str | None,
        descriptors: tuple[int, ...] = (),
        said_by_sandbox: int | None = None,
    ) -> None:
        """Start the command.

        Args:
            command: program and arguments.
            limits: what it may use.
            directory: where it runs, taken away at the end; None: the root.
            descriptors: what it inherits besides its standard streams.
            said_by_sandbox: where bubblewrap says which process is the first inside; closed at the end.
        """
        self._limits, self._directory = limits, directory
        self._said_by_sandbox = said_by_sandbox
        self._init: int | None = None
        self._init_pid: int | None = None
        self.deadline = time.monotonic() + limits.seconds
        self.beside: Program | None = None
        """Another one that is watched while this one is waited for."""
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
        try:
            self._end_sandbox()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                assert stream is not None
                with suppress(OSError):
                    stream.close()
            if self._directory:
                shutil.rmtree(self._directory, ignore_errors=True)

    def hold_sandbox(self) -> None:
        """Get hold of the sandbox's first process: with it all others end, whatever they have done.

        To be called before a policy's code runs. The kernel ends the other processes of a process namespace with its
        first one, and lets that one go only when they are gone.

        Raises:
            LimitReached: it does not start in time.
            WorkError: what bubblewrap says of it cannot be.
        """
        assert self._said_by_sandbox is not None
        said = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._said_by_sandbox, selectors.EVENT_READ)
            while b"\n" not in said:
                self._wait(selector)
                part = os.read(self._said_by_sandbox, 4096)
                if not part:  # it failed; there is no line from the driver either
                    return
                said += part
        pid = int(json.loads(said.splitlines()[0])["child-pid"])
        try:
            init = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        if _parent(pid) != self._process.pid:  # it has ended and its number is somebody else's by now
            os.close(init)
            raise WorkError("the sandbox for code that a policy wrote ended while it started")
        self._init, self._init_pid = init, pid

    def _end_sandbox(self) -> None:
        if self._said_by_sandbox is not None:
            os.close(self._said_by_sandbox)
            self._said_by_sandbox = None
        if self._init is None:
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._init, signal.SIGKILL)
        with selectors.DefaultSelector() as selector:
            selector.register(self._init, selectors.EVENT_READ)
            is_gone = selector.select(_GONE)
        os.close(self._init)
        self._init = None
        if not is_gone:
            raise WorkError(f"a process of the sandbox for code that a policy wrote is left after {_GONE:.0f} s")

    def write(self, message: Mapping[str, Any] | list[Any]) -> None:
        """Send a line of JSON. A program that has ended does not get it.

        Raises:
            LimitReached: it does not read in time.
        """
        self.forward(json.dumps(message).encode())

    def forward(self, line: bytes) -> None:
        """Send a line as it is. A program that has ended does not get it.

        Raises:
            LimitReached: it does not read in time.
        """
        rest = memoryview(line + b"\n")
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
            if sum(_resident(self._process.pid)) + self._in_sockets() > self._limits.memory:
                raise LimitReached("memory")
        if self.beside is not None:
            self.beside._look()
        return self.deadline - now

    def _in_sockets(self) -> int:
        """Bytes that may lie in the sandbox's sockets, those on their way from one process to another included."""
        if self._init_pid is None:
            return 0
        with suppress(OSError):
            listed = Path(f"/proc/{self._init_pid}/net/unix").read_bytes().count(b"\n")
            return (listed - 1) * _socket_buffer()
        return 0


@cache
def _socket_buffer() -> int:
    """Bytes that one socket may hold: the kernel lets a sender go beyond its buffer by one packet."""
    return 3 * int(Path("/proc/sys/net/core/wmem_default").read_text()) // 2


def _parent(pid: int) -> int | None:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def _resident(root: int) -> Iterator[int]:
    """Bytes resident in each process below ``root``, itself included; those that end meanwhile are left out."""
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        with suppress(OSError, ValueError, IndexError):
            yield int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
