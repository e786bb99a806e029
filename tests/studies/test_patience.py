"""A database that becomes unavailable at critical moments: statements are repeated, and nothing is done twice."""

from typing import Any

import psycopg
import pytest
import sqlalchemy
from studies.simulated import Study

from progrpo_cli.studies import optuna_trials
from progrpo_cli.studies.optuna_trials import OptunaStudy
from progrpo_cli.studies.space import Space

DRAWN: dict[str, Any] = {
    "parameters": {"method.arm.alpha": {"type": "float", "low": 0.0, "high": 1.0}},
    "sampler": "random",
    "budget": {"trials": 2},
}


def engine_of(optuna_study: OptunaStudy) -> sqlalchemy.Engine:
    engine: sqlalchemy.Engine = optuna_study._study._storage._backend.engine  # type: ignore[attr-defined]
    return engine


def alphas(optuna_study: OptunaStudy) -> set[object]:
    return {known.trial.parameters["method.arm.alpha"] for known in optuna_study.trials()}


@pytest.mark.parametrize("study", ["postgresql"], indirect=True)
@pytest.mark.parametrize("table", ["studies", "trials", "trial_params", "trial_values", "trial_user_attributes"])
def test_a_connection_that_breaks_while_trials_are_read(
    study: Study, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Optuna reads them table by table, and tries again by itself if that fails."""
    _, optuna_study = study.open(study.plan())
    before = optuna_study.trials()
    assert before
    assert study.url is not None
    engine = engine_of(optuna_study)
    other_engine = sqlalchemy.create_engine(study.url)
    broken: list[str] = []

    def break_connection(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if broken or f"FROM {table} " not in " ".join(statement.split()):
            return
        broken.append(statement)
        with other_engine.connect() as other_connection:
            other_connection.execute(
                sqlalchemy.text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": cursor.connection.info.backend_pid}
            )

    sqlalchemy.event.listen(engine, "before_cursor_execute", break_connection)
    after = optuna_study.trials()
    assert broken
    assert after == before
    (warning,) = [record.message for record in caplog.records if "waiting for the storage" in record.message]
    assert "rollback" not in warning
    other_engine.dispose()


@pytest.mark.parametrize("study", ["postgresql"], indirect=True)
def test_a_trial_is_drawn_once_even_if_the_answer_to_the_commit_is_lost(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lost answer is simulated; the commit before it is real."""
    _, optuna_study = study.open(study.plan(**DRAWN))
    engine = engine_of(optuna_study)
    commit, lost = engine.dialect.do_commit, []

    def commit_without_answer(connection: Any) -> None:
        commit(connection)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM trial_user_attributes WHERE key = 'config_hash'")
            (written,) = cursor.fetchone()
        connection.rollback()
        if written and not lost:
            lost.append(connection)
            raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(engine.dialect, "do_commit", commit_without_answer)
    while optuna_study.propose():
        pass
    assert lost
    assert len(optuna_study.trials()) == 2
    assert len(alphas(optuna_study)) == 2


@pytest.mark.parametrize("study", ["postgresql"], indirect=True)
def test_two_workers_that_draw_at_once_after_a_restart_draw_two_trials(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, optuna_study = study.open(study.plan(**DRAWN))
    _, other = study.open(study.plan(**DRAWN))
    make_sampler = optuna_trials.make_sampler
    assert study.url is not None
    server = sqlalchemy.create_engine(study.url)
    restarts: list[int] = []
    drawn: list[bool] = []

    def restart_first(space: Space, number: int) -> Any:
        if not restarts:
            restarts.append(number)
            with server.connect() as connection:
                connection.execute(
                    sqlalchemy.text(
                        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid != pg_backend_pid()"
                    )
                )
            drawn.append(other.propose())
        return make_sampler(space, number)

    monkeypatch.setattr(optuna_trials, "make_sampler", restart_first)
    assert optuna_study.propose()
    assert drawn == [True]
    assert len(optuna_study.trials()) == 2
    assert len(alphas(optuna_study)) == 2
    server.dispose()
