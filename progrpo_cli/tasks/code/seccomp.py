"""A seccomp filter for the sandbox. It refuses memory that belongs to no process, and system calls no program needs.

Shared memory segments, memory files and data in sockets do not count towards the limits of a process, so programs could
fill the machine's memory with them. Of sockets, only Unix streams are allowed, which asyncio and multiprocessing need:
the size of their buffers is fixed, and the kernel lists each of them, so they can be counted. Datagrams are refused:
they outlive their sender, which the kernel then no longer lists.

The format is the kernel's (``linux/filter.h``, ``linux/seccomp.h``): classic BPF over ``struct seccomp_data``.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass

# Numbers of (x86_64, aarch64): arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h
_REFUSED = {
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "ptrace": (101, 117),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mount": (165, 40),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "pidfd_getfd": (438, 438),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
}
_CLONE3 = (435, 435)
"""Its flags are in memory, which a filter cannot read. Callers that see ENOSYS fall back to ``clone``."""
_NAMESPACES = 0x7E020000  # CLONE_NEW*: in a new namespace a program could mount a tmpfs, whose memory is not counted


@dataclass(frozen=True)
class _Refusal:
    """A system call that fails for some values of an argument."""

    call: tuple[int, int]
    argument: int
    value: int
    mask: int = 0xFFFFFFFF
    unless: bool = False
    """Whether the call fails for all values except this one."""


_SOCKET, _SOCKETPAIR, _SETSOCKOPT, _CLONE, _FCNTL = (41, 198), (53, 199), (54, 208), (56, 220), (72, 25)
_BUFFER_SIZES = (7, 8, 32, 33)  # SO_SNDBUF, SO_RCVBUF and their FORCE forms
_REFUSED_BY_ARGUMENT = [
    *(_Refusal(call, 0, 1, unless=True) for call in (_SOCKET, _SOCKETPAIR)),  # AF_UNIX
    *(_Refusal(call, 1, 1, 0xF, unless=True) for call in (_SOCKET, _SOCKETPAIR)),  # SOCK_STREAM
    *(_Refusal(_SETSOCKOPT, 2, size) for size in _BUFFER_SIZES),
    _Refusal(_FCNTL, 1, 1031),  # F_SETPIPE_SZ
    _Refusal(_CLONE, 0, 0, _NAMESPACES, unless=True),
]
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_ERROR, _MISSING = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000  # the x32 calling convention of x86_64 has other numbers


def compile_filter() -> bytes | None:
    """Return the filter in the kernel's format, or None for an unknown architecture. Refused calls fail with EPERM."""
    if platform.machine() not in _MACHINES:
        return None
    column, architecture = _MACHINES[platform.machine()]
    numbers = sorted(both[column] for both in _REFUSED.values())
    program = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)]
    program += [(_LOAD, 0, 0, _NUMBER), (_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _MISSING)]
    program += [(_AT_LEAST, len(numbers), 0, _X32)]
    last = len(numbers) - 1
    program += [(_EQUAL, last - i, int(i == last), number) for i, number in enumerate(numbers)]
    program += [(_RETURN, 0, 0, _ERROR)]
    for refusal in _REFUSED_BY_ARGUMENT:
        program += _instructions(refusal, column)
    program += [(_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def _instructions(refusal: _Refusal, column: int) -> list[tuple[int, int, int, int]]:
    if_equal, if_not = (1, 0) if refusal.unless else (0, 1)  # instructions to skip; the next one refuses the call
    return [
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 0, 4, refusal.call[column]),
        (_LOAD, 0, 0, _ARGUMENTS + 8 * refusal.argument),  # the lower half: both machines are little-endian
        (_AND, 0, 0, refusal.mask),
        (_EQUAL, if_equal, if_not, refusal.value),
        (_RETURN, 0, 0, _ERROR),
    ]
