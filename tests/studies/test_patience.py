"""A database that goes away at the worst moments: what was asked is asked again."""

from typing import Any

import pytest
import sqlalchemy
from studies.simulated import Study


@pytest.mark.parametrize("study", ["postgresql"], indirect=True)
@pytest.mark.parametrize("table", ["studies", "trials", "trial_params", "trial_values", "trial_user_attributes"])
def test_a_connection_that_breaks_while_trials_are_read(
    study: Study, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Optuna reads them table by table, and has a second way of its own where the first one fails."""
    _, record = study.open(study.plan())
    before = record.trials()
    assert before
    assert study.url is not None
    ours = record._study._storage._backend.engine  # type: ignore[attr-defined]
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
    after = record.trials()
    assert broken
    assert after == before
    (told,) = [each.message for each in caplog.records if "waiting for the storage" in each.message]
    assert "rollback" not in told
    other.dispose()
