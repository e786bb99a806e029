"""The command line of bubblewrap, which decides what a program sees of this machine, and a check that it works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from progrpo_cli.tasks.code.seccomp import compile_filter

_START_TIMEOUT = 60.0  # seconds until a sandbox has started, on a loaded machine
_MEGABYTE = 1 << 20


def sandbox_command(packages: tuple[str, ...]) -> tuple[list[str], tuple[int, ...]]:
    """Return the command up to Python's arguments, and the file descriptors that it inherits.

    The caller closes the descriptors after the start.
    """
    command = list(_bwrap_arguments(packages))
    seccomp_filter = compile_filter()
    descriptors: tuple[int, ...] = ()
    if seccomp_filter is not None:
        descriptors = (os.memfd_create("seccomp"),)
        os.write(descriptors[0], seccomp_filter)
        os.lseek(descriptors[0], 0, os.SEEK_SET)
        command += ["--seccomp", str(descriptors[0])]
    return [*command, _python()[1]], descriptors


def _python() -> tuple[list[str], str]:
    """Return the mounts for Python's standard library, and the path of its executable in the sandbox."""
    base, executable = Path(sys.base_prefix).resolve(), Path(sys.executable).resolve()
    if base.is_relative_to("/usr") or not executable.is_relative_to(base):
        return [], str(executable)
    mounts = ["--ro-bind", str(base), "/python", "--setenv", "LD_LIBRARY_PATH", "/python/lib"]
    for site_packages in base.glob("lib/python3*/site-packages"):
        inside = f"/python/{site_packages.relative_to(base)}"
        mounts += ["--tmpfs", inside, "--remount-ro", inside]
    return mounts, f"/python/{executable.relative_to(base)}"


@cache
def _bwrap_arguments(packages: tuple[str, ...]) -> tuple[str, ...]:
    """Return bubblewrap's command. It hides installed packages, which include benchmarks with their solutions."""
    namespaces = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:
        namespaces += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]  # lost when the driver changes the user
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
        for site_packages in usr.glob(pattern):
            mounts += ["--tmpfs", str(site_packages), "--remount-ro", str(site_packages)]
    mounts += _python()[0]
    if packages:
        mounts += ["--perms", "0755", "--dir", "/packages"]
    for package in packages:
        spec = find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            directory = Path(next(iter(spec.submodule_search_locations)))
            mounts += ["--ro-bind", str(directory), f"/packages/{package}"]
            mounts += ["--ro-bind-try", f"{directory}.libs", f"/packages/{package}.libs"]
    return (
        *(_executable(), "--die-with-parent", "--new-session", *namespaces, *mounts),
        *("--setenv", "OPENBLAS_NUM_THREADS", "1", "--setenv", "OMP_NUM_THREADS", "1"),
        # Hide the first process inside. If we are not root, it has the program's user, which could write to its memory.
        *("--proc", "/proc", "--perms", "0555", "--size", "4096", "--tmpfs", "/proc/1", "--remount-ro", "/proc/1"),
        *("--dev", "/dev", "--perms", "1777", "--size", str(32 * _MEGABYTE), "--tmpfs", "/tmp"),
        *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"),
    )


@cache
def find_problem() -> str:
    """Return the reason why bubblewrap cannot be used here; empty if it works."""
    if not _executable():
        return "bubblewrap is not installed (apt-get install bubblewrap)"
    command, descriptors = sandbox_command(())
    try:
        result = subprocess.run(
            [*command, "-I", "-S", "-c", "print('works')"],
            env={},
            cwd="/",
            pass_fds=descriptors,
            capture_output=True,
            text=True,
            timeout=_START_TIMEOUT,
        )
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    if result.stdout == "works\n":
        return ""
    return f"bubblewrap does not work here ({' '.join(result.stderr.split())[:160]}; version 0.8 or newer is needed)"


def _executable() -> str:
    """Return the path of bubblewrap, which is started without a PATH; empty if it is not installed."""
    return shutil.which("bwrap") or ""
