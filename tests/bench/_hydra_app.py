"""A Hydra user's program for the study of ``sweep.py``: each job trains and evaluates in the launcher's process."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from progrpo_cli.config import paths


@hydra.main(version_base="1.3", config_path=str(paths.EXPERIMENTS), config_name="config")
def main(composed: DictConfig) -> float:
    from progrpo_cli.config.compose import validate
    from progrpo_cli.evaluation.request import Request
    from progrpo_cli.evaluation.targets import evaluate_run
    from progrpo_cli.records.rundir import RunDirectory
    from progrpo_cli.tracking.wandb_run import tracker
    from progrpo_cli.training.launch import train_locked

    config = validate(OmegaConf.to_container(composed, resolve=True))
    run = RunDirectory(Path(HydraConfig.get().runtime.output_dir) / "run")
    with run.lock():
        train_locked(run, config)
        with tracker(run, config) as tracked:
            scores = evaluate_run(run, Request(ks=[1, 32], split="validation"), tracked)
    return scores[0].metrics()["pass@32"].value


if __name__ == "__main__":
    main()
