"""A real PostgreSQL server on loopback, with a password."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

PASSWORD = "pw-3f9c1e-never-written"


def _programs() -> Path | None:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return installed[-1].parent if installed else Path(on_path).parent if on_path else None


class PostgreSQL:
    """A new cluster in a temporary directory; clients need its URL and ``environment``."""

    def __init__(self) -> None:
        programs = _programs()
        if programs is None:
            if os.environ.get("PROGRPO_TEST_POSTGRESQL"):
                pytest.fail("PostgreSQL's programs are not installed")
            pytest.skip("PostgreSQL's programs are not installed (Debian: postgresql)")
        self._programs = programs
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
        self.directory = Path(tempfile.mkdtemp(prefix="progrpo-postgresql-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        password = self.directory / "password"
        password.write_text(PASSWORD)
        if self._as:
            shutil.chown(self.directory, "postgres")
            shutil.chown(password, "postgres")
        self._run("initdb", "-D", self.data, "-U", "sweeper", "-A", "scram-sha-256", f"--pwfile={password}", "-N")
        self.environment = {"PGPASSWORD": PASSWORD}
        self.start()

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def start(self) -> None:
        options = f"-c port={self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._run("pg_ctl", "-D", self.data, "-l", self.directory / "log", "-w", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-m", "fast", "stop")

    def url(self, database: str) -> str:
        """Create a database and return its URL, without the password."""
        environment = {**os.environ, **self.environment}
        connection = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "sweeper"]
        subprocess.run([self._programs / "createdb", *connection, database], env=environment, check=True)
        return f"postgresql+psycopg://sweeper@127.0.0.1:{self.port}/{database}"

    def dump(self) -> str:
        """Return the content of all databases as SQL."""
        environment = {**os.environ, **self.environment}
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "sweeper", "--no-role-passwords"]
        return subprocess.run(
            [self._programs / "pg_dumpall", *options], env=environment, check=True, capture_output=True, text=True
        ).stdout

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def _run(self, program: str, *arguments: object) -> None:
        command = [*self._as, str(self._programs / program), *map(str, arguments)]
        done = subprocess.run(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr
