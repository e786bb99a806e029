"""What goes between the pool and its workers, and what a worker has used."""

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
    """Seconds of processor time that a process has used, to 10 ms; infinite when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.inf
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def send(channel: socket.socket, request: Mapping[str, Any]) -> None:
    """Hand a request to a worker, with its length before it."""
    encoded = json.dumps(request).encode()
    with suppress(OSError):  # a worker that died while it was idle: reading finds the end of file
        channel.sendall(struct.pack("!I", len(encoded)) + encoded)


def receive(channel: socket.socket) -> str | None:
    """The answer, or None from a worker that died. Answers are short: one packet."""
    try:
        return channel.recv(4096).decode() or None
    except OSError:
        return None
