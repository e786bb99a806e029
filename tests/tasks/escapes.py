"""Programs that try to outlive their sandbox, or to use memory that no limit counts, run as the current user.

    python escapes.py DIRECTORY_OF_THE_PACKAGE

prints a JSON object with the result of each. Needs only the standard library and the package's sandbox.
"""

import json
import os
import sys
import time
from pathlib import Path

OVERWRITE_INIT = r"""
import os
def add(a, b):
    # Overwrite all executable pages of the first process with an endless loop (jmp to itself).
    for line in open('/proc/1/maps'):
        where, rights = line.split()[:2]
        if 'x' in rights:
            start, end = (int(part, 16) for part in where.split('-'))
            memory = os.open('/proc/1/mem', os.O_RDWR)
            os.pwrite(memory, b'\xeb\xfe' * ((end - start) // 2), start)
            return 42
"""

STAYS = r"""
import os, subprocess, sys
def add(a, b):
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execv('/usr/bin/sleep', ['sleep', '{marker}'])
            os._exit(0)
    return a + b
"""

FULL_PAIRS = r"""
import os, socket, time
def fill():
    held = []
    while True:
        try: held += socket.socketpair()
        except OSError: break
        for end in held[-2:]:
            end.setblocking(False)
            try:
                while True: end.send(b'x' * (1 << 16))
            except OSError: pass
    time.sleep(1000)
def add(a, b):
    for _ in range(30):
        try:
            if os.fork() == 0: fill()
        except OSError: pass
    time.sleep(1000)
"""

FULL_BACKLOG = r"""
import socket, time
def add(a, b):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind('/tmp/socket')
    listener.listen(4096)
    while True:
        sender = socket.socket(socket.AF_UNIX)
        sender.setblocking(False)
        try:
            sender.connect('/tmp/socket')
            while True: sender.send(b'x' * (1 << 16))
        except OSError: pass
        sender.close()
"""

REFUSED = r"""
import ctypes, fcntl, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def tries(*calls):
    for name, call in calls:
        try:
            if call() != -1: return name
        except OSError: pass
def namespaces(number):
    return lambda: libc.syscall(number, 0x10000000 | 17, 0, 0, 0, 0)
def larger(option):
    pair = socket.socketpair()
    return pair[0].setsockopt(socket.SOL_SOCKET, option, 1 << 22)
def add(a, b):
    import platform
    clone = 56 if platform.machine() == 'x86_64' else 220
    worked = tries(
        ('internet', lambda: socket.socket()),
        ('netlink', lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
        ('datagrams', lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)),
        ('packets', lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)),
        ('SO_SNDBUF', lambda: larger(socket.SO_SNDBUF)),
        ('SO_RCVBUF', lambda: larger(socket.SO_RCVBUF)),
        ('pipe', lambda: fcntl.fcntl(os.pipe()[0], 1031, 1 << 20)),
        ('clone', namespaces(clone)),
        ('clone3', namespaces(435)),
        ('fsopen', lambda: libc.syscall(430, b'tmpfs', 0)),
        ('write to init', lambda: open('/proc/1/mem', 'r+b') and 0),
        ('files in /proc/1', lambda: open('/proc/1/x', 'w') and 0),
    )
    return worked or a + b
"""

ASYNCIO = r"""
import asyncio
async def later(a, b):
    process = await asyncio.create_subprocess_exec('/usr/bin/echo', '1', stdout=-1)
    await process.communicate()
    return a + b
def add(a, b):
    return asyncio.run(later(a, b))
"""

MULTIPROCESSING = r"""
import multiprocessing
def tell(end, shared, a, b):
    shared['sum'] = a + b
    end.send(a + b)
def add(a, b):
    context = multiprocessing.get_context('fork')
    with context.Manager() as manager:
        shared, (ours, theirs) = manager.dict(), context.Pipe()
        process = context.Process(target=tell, args=(theirs, shared, a, b))
        process.start()
        received = ours.recv()
        process.join()
        return received if received == shared['sum'] else None
"""


def find_processes(marker: str) -> list[int]:
    """Return the ids of this machine's processes that have the marker among their arguments."""
    pids = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and marker.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                pids.append(int(entry.name))
        except OSError:
            continue
    return pids


def main() -> None:
    from progrpo_cli.tasks.code import bubblewrap
    from progrpo_cli.tasks.code.checking import CheckCode, judge
    from progrpo_cli.tasks.code.program import Limits
    from progrpo_cli.tasks.code.sandbox import Sandbox

    tests = CheckCode("", "def check(candidate):\n    assert candidate(20, 22) == 42\n", "add")
    sandbox = Sandbox("bubblewrap", "test")
    limits = Limits(seconds=30.0, memory=128 << 20)

    def verdict(source: str) -> str:
        return judge(sandbox, source, tests, limits)

    result: dict[str, object] = {"user": os.geteuid()}
    for name in ("OVERWRITE_INIT", "FULL_PAIRS", "FULL_BACKLOG", "REFUSED", "ASYNCIO", "MULTIPROCESSING"):
        result[name] = verdict(globals()[name])
    # The second time without --die-with-parent: an init that has been overwritten would not obey it either.
    original = bubblewrap._bwrap_arguments
    for name, omitted in (("stays", ()), ("stays, and the init too", ("--die-with-parent",))):
        bubblewrap._bwrap_arguments = lambda packages, out=omitted: tuple(a for a in original(packages) if a not in out)
        marker = f"{100000 + os.getpid()}.{time.monotonic_ns()}"
        result[name] = verdict(STAYS.replace("{marker}", marker))
        result[f"{name}: still running"] = len(find_processes(marker))
    print(json.dumps(result))


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    main()
