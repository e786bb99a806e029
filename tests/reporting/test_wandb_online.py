"""The real `wandb.Api` against a stub of the server on loopback (wandb_stub.py)."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from wandb_stub import ENTITY, PROJECT, WandbStub

from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.reporting.build import build_report
from progrpo_cli.reporting.reading import wandb_online
from progrpo_cli.reporting.reading.sources import read
from progrpo_cli.tracking import wandb_server
from progrpo_cli.tracking.wandb_offline import merge

SOURCE = f"wandb:{ENTITY}/{PROJECT}"


@pytest.fixture
def stub(lab, tmp_path, monkeypatch):
    served = WandbStub(merge(sorted(lab.rglob("*.wandb"))))
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield served
    served.close()


@pytest.mark.usefixtures("no_figures")
def test_the_same_runs_give_the_same_tables_from_a_server(stub, lab, tmp_path):
    texts = []
    for number, source in enumerate((SOURCE, f"wandb-offline:{lab}", str(lab))):
        build_report([source], out=tmp_path / str(number), formats=["csv"])
        names = ("main.csv", "ablation-method.arm.alpha.csv")
        texts.append([(tmp_path / str(number) / name).read_text() for name in names])
    assert texts[0] == texts[1] == texts[2]
    assert "pass@8_diff_p_holm" in texts[0][0]
    assert f"{SOURCE} (W&B)" in (tmp_path / "0" / "provenance.csv").read_text()
    curves = [{run.id: _curves(run) for run in read([source]).runs} for source in (SOURCE, f"wandb-offline:{lab}")]
    assert curves[0] == curves[1]


def _curves(run):
    return run.curves.steps.tolist(), {name: repr(values.tolist()) for name, values in run.curves.values.items()}


def test_runs_are_fetched_in_pages_and_histories_once(stub, monkeypatch):
    monkeypatch.setattr(wandb_server, "PAGE", 3)
    assert len(read([SOURCE]).runs) == 7
    assert len(stub.operations("Runs")) == 3
    assert stub.operations("Run") == []
    first = len(stub.operations("HistoryPage"))
    assert first == 6  # the base has none
    assert len(read([SOURCE]).runs) == 7
    assert len(stub.operations("HistoryPage")) == first  # unchanged since then


def test_offline_reads_the_cache(stub):
    with pytest.raises(RequestError, match="was never fetched with these filters: leave out --offline once"):
        read([SOURCE], offline=True)
    fetched = read([SOURCE])
    requests = len(stub.requests)
    again = read([SOURCE], offline=True)
    assert len(stub.requests) == requests
    assert [run.id for run in again.runs] == [run.id for run in fetched.runs]
    assert list(map(_curves, again.runs)) == list(map(_curves, fetched.runs))
    assert set(again.origin.values()) == {f"{SOURCE} (W&B, from the cache)"}
    with pytest.raises(RequestError, match="never fetched"):
        read([f"{SOURCE}?tag=progrpo"], offline=True)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ("group=study", {"a0.3-s0", "a0.3-s1", "a1.0-s0", "a1.0-s1"}),
        ("tag=grpo", {"grpo-s0", "grpo-s1"}),
        ("tag=progrpo&config.method.arm.alpha=0.3&config.seed=1", {"a0.3-s1"}),
    ],
)
def test_filters(stub, filters, names):
    assert {run.name for run in read([f"{SOURCE}?{filters}"]).runs} == names


def test_server_errors_are_retry(stub):
    stub.failures = [500, 429]
    assert len(read([SOURCE]).runs) == 7
    assert stub.failures == []


def test_an_outage_longer_than_the_clients_retries_is_waited_out(monkeypatch, caplog):
    from wandb.proto.wandb_api_pb2 import ApiErrorResponse
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    pauses = []
    monkeypatch.setattr(wandb_server.time, "sleep", pauses.append)

    def failing(*statuses):
        remaining = [
            WandbApiFailedError("no", ApiErrorResponse(message="no", http_status=status)) for status in statuses
        ]

        def action():
            if remaining:
                raise remaining.pop(0)
            return "answer"

        return action

    assert wandb_server._retry(failing(503, 500, 429)) == "answer"
    assert pauses == [1, 2, 4]
    with pytest.raises(WorkError, match="--offline reads what was fetched before"):
        wandb_server._retry(failing(500, 500, 500, 500))
    with pytest.raises(RequestError, match="W&B: no"):
        wandb_server._retry(failing(403))


def test_a_page_that_fails_beyond_the_clients_retries_loses_no_run(stub, monkeypatch):
    from wandb.apis.public import Runs
    from wandb.proto.wandb_api_pb2 import ApiErrorResponse
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    load, failures = Runs._update_response, [503, 503]

    def stumbling(pages):
        if pages.last_response is not None and failures:
            raise WandbApiFailedError("no", ApiErrorResponse(message="no", http_status=failures.pop()))
        load(pages)

    monkeypatch.setattr(Runs, "_update_response", stumbling)
    monkeypatch.setattr(wandb_server, "PAGE", 3)
    monkeypatch.setattr(wandb_server, "FIRST_PAUSE", 0)
    records = read([SOURCE]).runs
    assert failures == []
    assert [run.id for run in records] == [run.id for run in stub.runs]


def test_offline_refuses_an_incomplete_cache(stub, tmp_path):
    seed_source = f"{SOURCE}?config.seed=1"
    read([seed_source])
    assert {run.name for run in read([seed_source], offline=True).runs} == {"grpo-s1", "a0.3-s1", "a1.0-s1"}
    for other in (SOURCE, f"{SOURCE}?config.seed=0"):
        with pytest.raises(RequestError, match="never fetched with these filters"):
            read([other], offline=True)
    read([SOURCE])
    _cached_runs(tmp_path)[0].unlink()
    with pytest.raises(RequestError, match="1 of 7 runs are not in the cache: leave out --offline once"):
        read([SOURCE], offline=True)


def _cached_runs(tmp_path):
    return sorted((tmp_path / "cache").rglob("run-*.json"))


def test_a_cache_that_another_version_wrote_is_fetched_again(stub, tmp_path):
    read([SOURCE])
    histories = len(stub.operations("HistoryPage"))
    for path, text in zip(
        _cached_runs(tmp_path), ['{"stamp": [], "run": {"id": "x", "tags": []}}', "[]", "{"] * 3, strict=False
    ):
        path.write_text(text)
    with pytest.raises(RequestError, match="7 of 7 runs are not in the cache"):
        read([SOURCE], offline=True)
    assert len(read([SOURCE]).runs) == 7
    assert len(stub.operations("HistoryPage")) == 2 * histories
    assert len(read([SOURCE], offline=True).runs) == 7


def test_changes_without_new_history_are_cached(stub):
    read([SOURCE])
    histories = len(stub.operations("HistoryPage"))
    stub.runs[0] = replace(stub.runs[0], summary={"scores/later": "{}"})
    assert read([SOURCE]).runs[0].scores == {"later": "{}"}
    assert read([SOURCE], offline=True).runs[0].scores == {"later": "{}"}
    assert len(stub.operations("HistoryPage")) == histories


def test_a_plus_in_a_filter_is_a_plus():
    query = wandb_online.parse("a/b?tag=dr_grpo+arm&group=x%26y%20z")
    assert query.filters == {"$and": [{"tags": {"$in": ["dr_grpo+arm"]}}, {"group": "x&y z"}]}


def test_a_missing_project_is_refused(stub):
    with pytest.raises(RequestError, match="Could not find project nothing"):
        read([f"wandb:{ENTITY}/nothing"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("lab", "expected wandb:ENTITY/PROJECT"),
        ("a/b/c", "expected wandb:ENTITY/PROJECT"),
        ("a/b?tga=x", "unknown filter 'tga'.*did you mean 'tag'"),
    ],
)
def test_invalid_sources_are_refused_without_a_request(source, message):
    with pytest.raises(RequestError, match=message):
        wandb_online.parse(source)


@pytest.mark.skipif("WANDB_API_KEY" not in os.environ, reason="no WANDB_API_KEY")
def test_wandb_itself(tmp_path: Path, monkeypatch):
    """Send a run to the real service and read it back; needs an account."""
    import wandb
    from made_up_runs import make_scores, write_run

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = write_run(tmp_path / "runs" / "live", "method=grpo", scores=[make_scores(seed=1, rate=0.5)], wandb="online")
    entity = wandb.Api().default_entity
    source = f"wandb:{entity}/progrpo?config.progrpo.directory=live"
    ids = [run.id for run in read([source]).runs]
    assert run.manifest()["wandb_run_id"] in ids
