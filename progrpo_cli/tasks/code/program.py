"""A program that runs in a sandbox: exchange lines with it, enforce its limits, and end all its processes.

The memory limit is on all processes of the program together: their resident memory and the buffers of their sockets,
which belong to no process.
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

_INTERVAL = 0.05  # seconds between checks of the memory
_END_TIMEOUT = 30.0  # seconds until the last process of a sandbox has ended, on a loaded machine
_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """The limits of one program."""

    seconds: float = 6.0
    """Wall-clock and processor time for each call, each run of a program, and the whole of a benchmark's test code."""
    seconds_in_all: float = 120.0
    """Wall-clock time for all tests of one program."""
    memory: int = 512 * _MEGABYTE
    """Bytes, for the address space of each process, and for the resident memory and socket buffers of all together."""
    processes: int = 24
    files: int = 64
    """Open files per process."""
    file_size: int = 4 * _MEGABYTE
    """Bytes of one file. The whole temporary directory holds 32 MB."""
    output: int = 8 * _MEGABYTE
    """Bytes of output."""


class LimitReached(Exception):
    """A program reached its limit on time, memory or output."""

    def __init__(self, kind: Literal["time", "memory", "output"]) -> None:
        super().__init__(kind)
        self.kind = kind


class Program:
    """A started program. As a context manager, it ends the program and all its processes on exit.

    Exit raises WorkError if a process of the sandbox cannot be ended, so that no verdict leaves a process behind.
    """

    def __init__(
        self,
        command: list[str],
        limits: Limits,
        directory: str | None,
        descriptors: tuple[int, ...] = (),
        status_descriptor: int | None = None,
    ) -> None:
        """Start the command.

        Args:
            command: program and arguments.
            limits: the limits of the program.
            directory: the working directory, removed at the end; None: ``/``.
            descriptors: file descriptors that it inherits besides its standard streams.
            status_descriptor: where bubblewrap reports the first process inside; closed at the end.
        """
        self._limits, self._directory = limits, directory
        self._status_descriptor = status_descriptor
        self._init: int | None = None
        self._init_pid: int | None = None
        self.deadline = time.monotonic() + limits.seconds
        self.companion: Program | None = None
        """Another program whose limits are checked while waiting for this one."""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},  # the program can read the environment of the sandbox's first process
            cwd=directory or "/",
            start_new_session=True,
            pass_fds=descriptors,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._buffer = bytearray()
        self._bytes_read = 0
        self._next_check = 0.0

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

    def open_init(self) -> None:
        """Open a handle on the sandbox's first process, which can end all its other processes.

        Call this before a policy's code runs. When the first process of a process namespace ends, the kernel ends all
        others, and the handle becomes readable only when they have ended.

        Raises:
            LimitReached: the sandbox does not start in time.
            WorkError: the sandbox ended while it started.
        """
        assert self._status_descriptor is not None
        status = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._status_descriptor, selectors.EVENT_READ)
            while b"\n" not in status:
                self._wait(selector)
                part = os.read(self._status_descriptor, 4096)
                if not part:  # bubblewrap failed, and the driver will not send a line either
                    return
                status += part
        pid = int(json.loads(status.splitlines()[0])["child-pid"])
        try:
            init = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        if _parent(pid) != self._process.pid:  # it has ended, and another process has its number now
            os.close(init)
            raise WorkError("the sandbox for code that a policy wrote ended while it started")
        self._init, self._init_pid = init, pid

    def _end_sandbox(self) -> None:
        if self._status_descriptor is not None:
            os.close(self._status_descriptor)
            self._status_descriptor = None
        if self._init is None:
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._init, signal.SIGKILL)
        with selectors.DefaultSelector() as selector:
            selector.register(self._init, selectors.EVENT_READ)
            has_ended = selector.select(_END_TIMEOUT)
        os.close(self._init)
        self._init = None
        if not has_ended:
            raise WorkError(f"a sandbox for code that a policy wrote is still running after {_END_TIMEOUT:.0f} s")

    def write(self, message: Mapping[str, Any]) -> None:
        """Send a message as a line of JSON. It is lost if the program has ended.

        Raises:
            LimitReached: the program does not read it in time, or reaches another limit.
        """
        self.write_line(json.dumps(message).encode())

    def write_line(self, line: bytes) -> None:
        """Send a line. It is lost if the program has ended.

        Raises:
            LimitReached: the program does not read it in time, or reaches another limit.
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

    def read_line(self) -> bytes | None:
        """Return the next line, or None if the program closed its output.

        Raises:
            LimitReached: the program reached a limit.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            if not self._fill():
                return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def read_all(self) -> bytes:
        """Return all output, when the program has closed it.

        Raises:
            LimitReached: the program reached a limit.
        """
        while self._fill():
            pass
        return bytes(self._buffer)

    def wait(self) -> int:
        """Wait for the program to end, after :meth:`read_all`, and return its exit status; not 0 after a signal.

        Raises:
            LimitReached: the program closed its output, continued, and reached a limit.
        """
        while (status := self._process.poll()) is None:
            self._check_limits()
            time.sleep(0.002)
        return status

    def _fill(self) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            self._wait(selector)
        chunk = os.read(self._out, 1 << 16)
        self._bytes_read += len(chunk)
        if self._bytes_read > self._limits.output:
            raise LimitReached("output")
        self._buffer += chunk
        return bool(chunk)

    def _wait(self, selector: selectors.BaseSelector) -> None:
        """Wait until a pipe is ready, and check the limits meanwhile."""
        while not selector.select(min(_INTERVAL, self._check_limits())):
            pass

    def _check_limits(self) -> float:
        """Return the seconds until the deadline.

        Raises:
            LimitReached: this program or its companion reached a limit.
        """
        now = time.monotonic()
        if now >= self.deadline:
            raise LimitReached("time")
        if now >= self._next_check:
            self._next_check = now + _INTERVAL
            if sum(_resident(self._process.pid)) + self._socket_bytes() > self._limits.memory:
                raise LimitReached("memory")
        if self.companion is not None:
            self.companion._check_limits()
        return self.deadline - now

    def _socket_bytes(self) -> int:
        """Return an upper bound on the bytes in the sandbox's sockets, including those in transit between processes."""
        if self._init_pid is None:
            return 0
        with suppress(OSError):
            lines = Path(f"/proc/{self._init_pid}/net/unix").read_bytes().count(b"\n")
            return (lines - 1) * _socket_buffer()
        return 0


@cache
def _socket_buffer() -> int:
    """Return the bytes that one socket can hold. The kernel lets a sender exceed its buffer by one packet."""
    return 3 * int(Path("/proc/sys/net/core/wmem_default").read_text()) // 2


def _parent(pid: int) -> int | None:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def _resident(root: int) -> Iterator[int]:
    """Yield the resident bytes of ``root`` and each process below it. Processes that end meanwhile are skipped."""
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        with suppress(OSError, ValueError, IndexError):
            yield int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
