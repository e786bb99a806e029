"""Writes many runs for timings. The files have the form that our commands write; the numbers are made up."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import yaml
from reporting.made_up_runs import make_scores, write_run
from wandb_log import finished_run

from progrpo_cli.config.hashing import digest
from progrpo_cli.methods.base import ArmConfig
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.tracking import wandb_offline

SEEDS = 5
METRICS = (
    "reward",
    "entropy",
    "completion_length",
    "clip_fraction",
    "grad_norm",
    "step_seconds",
    "pass@1",
    "pass@16",
    *(f"arm/{name}" for name in ArmConfig.logged),
)


def run_directories(root: Path, runs: int, steps: int) -> None:
    """Write ``runs`` run directories, five seeds per configuration, with ``steps`` lines of all contract metrics."""
    first = write_run(root / "first", scores=[make_scores(seed=0, rate=0.5)], wandb="disabled", steps=1)
    config, manifest = yaml.safe_load(first.config_path.read_text()), first.manifest()
    random = np.random.default_rng(0)
    histories = []
    for _ in range(4):
        values = random.random((steps, len(METRICS)))
        lines = [{"step": step + 1, **dict(zip(METRICS, row, strict=True))} for step, row in enumerate(values.tolist())]
        histories.append("".join(json.dumps(line) + "\n" for line in lines))
    for number in range(runs):
        alpha, seed = 0.01 * (number // SEEDS), number % SEEDS
        config["method"]["arm"]["alpha"], config["seed"] = alpha, seed
        run = RunDirectory(root / f"run-{number}")
        run.path.mkdir()
        run.config_path.write_text(yaml.safe_dump(config))
        changed = {"seed": seed, "config_hash": digest(alpha), "wandb_run_id": f"id{number}"}
        run.manifest_path.write_text(json.dumps({**manifest, **changed}))
        run.metrics_path.write_text(histories[number % len(histories)])
        scores = run.path / "eval" / "countdown-0" / "scores.json"
        scores.parent.mkdir(parents=True)
        scores.write_text(json.dumps(make_scores(seed=number, rate=0.3 + alpha / 10, problems=100)))
    (first.path / "manifest.json").unlink()


def wandb_files(root: Path, runs: int, steps: int, metrics: int) -> None:
    """Write ``runs`` copies of a log of the real wandb, each with its own id and seed."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    directory = write_run(root / "first", scores=[make_scores(seed=0, rate=0.5)], wandb="disabled", steps=0)
    config = yaml.safe_load(directory.config_path.read_text())
    random = np.random.default_rng(0)
    settings = wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True)
    wandb_run = wandb.init(
        project="lab",
        dir=root,
        mode="offline",
        id="original",
        settings=settings,
        config={**config, "progrpo": directory.identity()},
    )
    names = [*METRICS, *(f"more/{number}" for number in range(metrics - len(METRICS)))]
    for step in range(1, steps + 1):
        wandb_run.log({"step": step, **dict(zip(names, random.random(metrics).tolist(), strict=True))})
    wandb_run.summary.update({"scores/countdown-0": json.dumps(make_scores(seed=0, rate=0.5, problems=100))})
    wandb_run.finish()
    original = Path(wandb_run.settings.sync_file)
    finished_run(root / "wandb")
    payloads = list(wandb_offline._payloads(original.read_bytes()))
    for number in range(runs):
        copy = root / "wandb-copies" / f"offline-run-20260101_000000-id{number}" / f"run-id{number}.wandb"
        copy.parent.mkdir(parents=True)
        copy.write_bytes(_frame([_rename(wandb_internal_pb2, payload, number) for payload in payloads]))


def _rename(pb, payload, number):
    record = pb.Record()
    record.ParseFromString(payload)
    if record.WhichOneof("record_type") != "run":
        return payload
    record.run.run_id = record.run.display_name = f"id{number}"
    for item in record.run.config.update:
        if item.key == "progrpo":
            identity = {**json.loads(item.value_json), "seed": number % SEEDS, "config_hash": digest(number // SEEDS)}
            item.value_json = json.dumps(identity)
    return record.SerializeToString()


def _frame(payloads):
    """Encode the payloads in W&B's log format, see wandb_offline.py."""
    data = bytearray(wandb_offline.FILE_HEADER)
    for payload in payloads:
        started = False
        while payload or not started:
            room = wandb_offline.BLOCK - len(data) % wandb_offline.BLOCK
            if room < 7:
                data += bytes(room)
                continue
            piece, payload = payload[: room - 7], payload[room - 7 :]
            kind = (3 if payload else 4) if started else (2 if payload else 1)
            data += struct.pack("<IHB", zlib.crc32(bytes([kind]) + piece), len(piece), kind) + piece
            started = True
    return bytes(data)
