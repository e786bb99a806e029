"""A database that goes away at the worst moments: what was asked is asked again, and nothing is done twice."""

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
    found: sqlalchemy.Engine = optuna_study._study._storage._backend.engine  # type: ignore[attr-defined]
    return found


def alphas(optuna_study: OptunaStudy) -> set[object]:
    return {known.trial.parameters["method.arm.alpha"] for known in optuna_study.trials()}


@pytest.mark.parametrize("study", ["postgresql"], indirect=True)
@pytest.mark.parametrize("table", ["studies", "trials", "trial_params", "trial_values", "trial_user_attributes"])
def test_a_connection_that_breaks_while_trials_are_read(
    study: Study, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Optuna reads them table by table, and has a second way of its own where the first one fails."""
    _, optuna_study = study.open(study.plan())
    before = optuna_study.trials()
    assert before
    assert study.url is not None
    ours = engine_of(optuna_study)
    other = sqlalchemy.create_engine(study.url)
    broken: list[str] = []

    def breaks(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if broken or f"FROM {table} " not in " ".join(statement.split()):
            return
        broken.append(statement)
        with other.connect() as ends:
            ends.execute(
                sqlalchemy.text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": cursor.connection.info.backend_pid}
            )

    sqlalchemy.event.listen(ours, "before_cursor_execute", breaks)
    after = optuna_study.trials()
    assert broken
    assert after == before
    (told,) = [each.message for each in caplog.records if "waiting for the storage" in each.message]
    assert "rollback" not in told
    other.dispose()


@pytest.mark.parametrize("study", ["postgresql"], indirect=True)
def test_a_trial_is_drawn_once_though_nobody_hears_that_it_was_written(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lost answer is made here: what the server did before is real."""
    _, optuna_study = study.open(study.plan(**DRAWN))
    ours = engine_of(optuna_study)
    commit, lost = ours.dialect.do_commit, []

    def unheard(connection: Any) -> None:
        commit(connection)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM trial_user_attributes WHERE key = 'config_hash'")
            (written,) = cursor.fetchone()
        connection.rollback()
        if written and not lost:
            lost.append(connection)
            raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(ours.dialect, "do_commit", unheard)
    while optuna_study.propose():
        pass
    assert lost
    assert len(optuna_study.trials()) == 2
    assert len(alphas(optuna_study)) == 2


@pytest.mark.parametrize("study", ["postgresql"], indirect=True)
def test_two_that_draw_at_once_because_a_restart_let_both_in_draw_two_trials(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, optuna_study = study.open(study.plan(**DRAWN))
    _, other = study.open(study.plan(**DRAWN))
    make_sampler = optuna_trials.make_sampler
    assert study.url is not None
    server = sqlalchemy.create_engine(study.url)
    restarts: list[int] = []
    drawn: list[bool] = []

    def restarted(space: Space, number: int) -> Any:
        if not restarts:
            restarts.append(number)
            with server.connect() as ends:
                ends.execute(
                    sqlalchemy.text(
                        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid != pg_backend_pid()"
                    )
                )
            drawn.append(other.propose())
        return make_sampler(space, number)

    monkeypatch.setattr(optuna_trials, "make_sampler", restarted)
    assert optuna_study.propose()
    assert drawn == [True]
    assert len(optuna_study.trials()) == 2
    assert len(alphas(optuna_study)) == 2
    server.dispose()
