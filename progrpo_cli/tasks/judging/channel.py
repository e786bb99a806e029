"""Messages between the pool and its workers, and the processor time of a worker."""

from __future__ import annotations

import json
import math
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process in seconds, to 10 ms; infinite if the process has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.inf
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def send(channel: socket.socket, request: Mapping[str, Any]) -> None:
    """Send a request to a worker: its length, then JSON."""
    encoded = json.dumps(request).encode()
    with suppress(OSError):  # the worker died while it was idle: `receive` returns None
        channel.sendall(struct.pack("!I", len(encoded)) + encoded)


def receive(channel: socket.socket) -> str | None:
    """Return the worker's answer, or None if it died. Answers are short and arrive in one packet."""
    try:
        return channel.recv(4096).decode() or None
    except OSError:
        return None
