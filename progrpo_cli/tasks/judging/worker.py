"""The parent process of the workers, and the workers. Started by :mod:`progrpo_cli.tasks.judging.pool`.

    python -m progrpo_cli.tasks.judging.worker MODULE CONTROL_DESCRIPTOR BYTES_OF_MEMORY

Third-party graders evaluate parts of answers as Python expressions. Resource limits and an audit hook, which cannot be
removed, keep a worker from writing files, starting processes and using the network.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

_PR_SET_PDEATHSIG = 1
_FORBIDDEN = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "pty.", "signal.", "fcntl.", "sqlite3.", "urllib.")
_ALLOWED = ("os.listdir", "os.scandir")  # imports need them
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def main(module: str, control: socket.socket, memory: int) -> None:
    """Fork and kill workers on command until the control socket is closed."""
    judge = importlib.import_module(module).judge
    gc.collect()
    gc.freeze()  # so that collections in the workers do not copy shared memory
    control.send(b"ready")
    while True:
        message, descriptors, *_ = socket.recv_fds(control, 64, 1)
        if not message:
            os._exit(0)  # the kernel then ends the workers
        if message == b"fork":
            pid = os.fork()
            if pid == 0:
                control.close()
                try:
                    _serve(judge, socket.socket(fileno=descriptors[0]), memory)
                finally:
                    os._exit(1)
            os.close(descriptors[0])
            control.send(b"%d" % pid)
        else:
            pid = int(message.split()[1])
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            control.send(b"killed")


def _serve(judge: Callable[[Mapping[str, Any]], str], channel: socket.socket, memory: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        return
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(limit, (value, value))
    receive, send = channel.recv, channel.sendall
    sys.addaudithook(_forbid)
    while header := receive(4, socket.MSG_WAITALL):
        (length,) = struct.unpack("!I", header)
        request = json.loads(receive(length, socket.MSG_WAITALL))
        try:
            verdict = judge(request)
        except MemoryError:
            request = None
            send(b"memory")
            return  # the pool starts a new worker
        except Exception:  # graders raise many types of errors on odd answers
            verdict = "unparseable"
        send(verdict.encode())


def _forbid(event: str, arguments: tuple[Any, ...]) -> None:
    writes = event == "open" and arguments[2] & _WRITING
    if writes or (event.startswith(_FORBIDDEN) and event not in _ALLOWED):
        raise PermissionError(f"not while judging: {event}")


if __name__ == "__main__":
    main(sys.argv[1], socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3]))
