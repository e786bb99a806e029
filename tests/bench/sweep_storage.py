"""Trials per second with simulated objectives of 10 ms, by storage and number of processes; one seed, random sampler.

The start-up of the processes is not counted: the time is from the start of the first run to the end of the last.
"""

import os
import sys
import tempfile
from datetime import datetime
from pathlib import Path

TRIALS = 300
PROCESSES = (1, 2, 4, 8)


def trials_per_second(url: str | None, processes: int, directory: Path) -> float:
    from studies.simulated import Study

    study = Study(directory / "runs" / "simulated", url, processes)
    plan = study.plan(
        overrides=["method=progrpo"],
        parameters={"method.arm.alpha": {"type": "float", "low": 0.0, "high": 1.0}},
        seeds=[0],
        sampler="random",
        budget={"trials": TRIALS},
    )
    workers = [study.start(0.01) for _ in range(processes)]
    assert [worker.wait() for worker in workers] == [0] * processes, (study.directory / "workers.log").read_text()
    store, record = study.open(plan)
    names = [run.name for known in record.trials() for run in plan.runs_of(known.trial)]
    results = [entry.result for entry in store.ledger.entries(names).values()]
    times = [datetime.fromisoformat(result[key]) for result in results if result for key in ("began", "ended")]
    assert len(times) == 2 * TRIALS
    return TRIALS / (max(times) - min(times)).total_seconds()


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from studies.postgresql import PostgreSQL

    server = PostgreSQL()
    os.environ.update(server.environment)
    print(f"| storage | {' | '.join(f'{n} processes' for n in PROCESSES)} |\n|---|{'---|' * len(PROCESSES)}")
    try:
        for storage in ("journal", "PostgreSQL"):
            rates = []
            for processes in PROCESSES:
                with tempfile.TemporaryDirectory() as directory:
                    url = server.url(f"bench{processes}") if storage == "PostgreSQL" else None
                    rates.append(trials_per_second(url, processes, Path(directory)))
            print(f"| {storage} | {' | '.join(f'{rate:.1f}' for rate in rates)} |", flush=True)
    finally:
        server.close()
    print(f"\ntrials/s; {TRIALS} trials each, objectives of 10 ms, on {os.cpu_count()} cores")
