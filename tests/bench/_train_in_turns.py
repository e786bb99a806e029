"""The real command line, training only during its turns: ``_train_in_turns.py FD ARGUMENT...``, see `_arm_cost`.

A line on stdin starts a turn, and a line of JSON on the file descriptor reports it. After TURN_SECONDS a turn ends at
the next layer of the model, forwards or backwards. It also ends when the next update begins, so that the work after the
optimiser's step (metrics) belongs to the update.
"""

import json
import os
import sys
import time
from pathlib import Path

from transformers import TrainerCallback

from progrpo_cli import main
from progrpo_cli.training.arm_step import ArmStep
from progrpo_cli.training.trainer import LabTrainer

MEMORY = Path("/proc/self/status")
MIB = 1024  # the kernel's figures are in KiB
TURN_SECONDS = 0.2


def mib(field: str) -> float:
    (line,) = [line for line in MEMORY.read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) / MIB


class InTurns(TrainerCallback):
    def __init__(self, report_fd: int) -> None:
        self._reports = os.fdopen(report_fd, "w", buffering=1)
        self._turn_start: tuple[float, float] | None = None
        self._in_arm = 0.0

    def watch(self, name: str) -> None:
        """Add up the processor seconds inside a method of ArmStep. The watched methods do not call each other."""
        watched = getattr(ArmStep, name)

        def timed(*args: object, **kwargs: object) -> object:
            began = time.process_time()
            try:
                return watched(*args, **kwargs)
            finally:
                self._in_arm += time.process_time() - began

        setattr(ArmStep, name, timed)

    def on_train_begin(self, *_: object, **__: object) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak, to leave out the loading
        self._report(at_start=mib("VmRSS"))

    def on_layer(self, *_: object) -> None:
        if self._turn_start is not None and time.perf_counter() - self._turn_start[0] >= TURN_SECONDS:
            self._end_of_turn(update_is_over=False)

    def on_step_begin(self, *_: object, **__: object) -> None:
        self._end_of_turn(update_is_over=True)

    def on_train_end(self, *_: object, **__: object) -> None:
        self._end_of_turn(update_is_over=True)  # so that work after training is not done in the other's turn

    def _end_of_turn(self, *, update_is_over: bool) -> None:
        if self._turn_start is not None:
            now = time.perf_counter(), time.process_time()
            wall, cpu = (end - began for end, began in zip(now, self._turn_start, strict=True))
            self._report(wall=wall, cpu=cpu, in_arm=self._in_arm, peak=mib("VmHWM"), over=update_is_over)
        sys.stdin.readline()
        self._in_arm = 0.0
        self._turn_start = time.perf_counter(), time.process_time()

    def _report(self, **values: float) -> None:
        print(json.dumps(values), file=self._reports)


if __name__ == "__main__":
    in_turns = InTurns(int(sys.argv[1]))
    sys.argv[1:2] = []
    for name in ("__init__", "apply", "finish"):
        in_turns.watch(name)
    train = LabTrainer.train

    def train_in_turns(self: LabTrainer, *args: object, **kwargs: object) -> object:
        self.add_callback(in_turns)
        for layer in self.model.get_decoder().layers:
            layer.register_forward_pre_hook(in_turns.on_layer)
            layer.register_full_backward_pre_hook(in_turns.on_layer)
        return train(self, *args, **kwargs)

    LabTrainer.train = train_in_turns
    main.run()
