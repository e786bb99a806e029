"""The command line of bubblewrap: what a program sees of this machine, and whether that works here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from progrpo_cli.tasks.code.system_calls import compiled

_START = 60.0  # seconds until a sandbox has started, on a loaded machine
_MEGABYTE = 1 << 20


def command_for(packages: tuple[str, ...]) -> tuple[list[str], tuple[int, ...]]:
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
        # Nobody may write to the first process inside: where we are not root it has the program's user.
        *("--proc", "/proc", "--perms", "0555", "--size", "4096", "--tmpfs", "/proc/1", "--remount-ro", "/proc/1"),
        *("--dev", "/dev", "--perms", "1777", "--size", str(32 * _MEGABYTE), "--tmpfs", "/tmp"),
        *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"),
    )


@cache
def what_is_wrong() -> str:
    """Why bubblewrap cannot be used here; empty where it can."""
    if not _tool():
        return "bubblewrap is not installed (apt-get install bubblewrap)"
    command, descriptors = command_for(())
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
