"""A seccomp filter for the sandbox: memory that belongs to no process, and doors into the kernel that no program needs.

Shared memory segments and memory files count for no process's limits, and programs could fill the machine with them.
The format is the kernel's (``linux/filter.h``, ``linux/seccomp.h``): classic BPF over ``struct seccomp_data``.
"""

from __future__ import annotations

import errno
import platform
import struct

# Numbers of (x86_64, aarch64): arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h
_REFUSED = {
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "ptrace": (101, 117),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mount": (165, 40),
    "unshare": (272, 97),
    "setns": (308, 268),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
}
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
_X32 = 0x40000000  # the third calling convention of x86_64 has other numbers


def compiled() -> bytes | None:
    """The filter as the kernel takes it: the calls above fail with EPERM; None where their numbers are not known."""
    if platform.machine() not in _MACHINES:
        return None
    column, architecture = _MACHINES[platform.machine()]
    numbers = sorted(both[column] for both in _REFUSED.values())
    program = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    program += [(_AT_LEAST, len(numbers) + 1, 0, _X32)]
    program += [(_EQUAL, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERROR)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)
