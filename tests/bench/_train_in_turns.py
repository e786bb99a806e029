"""The real command line, which trains when it is its turn: ``_train_in_turns.py FD ARGUMENT...``, see `_arm_cost`.

A line on stdin is a turn; a line of JSON to the file descriptor says what it took. After TURN_SECONDS a turn ends when
a layer of the model is reached, forwards or backwards; and it ends when the trainer asks for the next update: what is
done after the optimiser's step (metrics) is the update's.
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
    def __init__(self, told: int) -> None:
        self._told = os.fdopen(told, "w", buffering=1)
        self._began: tuple[float, float] | None = None
        self._in_arm = 0.0

    def watch(self, name: str) -> None:
        """Add up the processor's seconds inside a method of ARM's, which none of the others calls."""
        watched = getattr(ArmStep, name)

        def timed(*args: object, **kwargs: object) -> object:
            began = time.process_time()
            try:
                return watched(*args, **kwargs)
            finally:
                self._in_arm += time.process_time() - began

        setattr(ArmStep, name, timed)

    def on_train_begin(self, *_: object, **__: object) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: loading is not training
        self._say(at_start=mib("VmRSS"))

    def on_layer(self, *_: object) -> None:
        if self._began is not None and time.perf_counter() - self._began[0] >= TURN_SECONDS:
            self._end_of_turn(update_is_over=False)

    def on_step_begin(self, *_: object, **__: object) -> None:
        self._end_of_turn(update_is_over=True)

    def on_train_end(self, *_: object, **__: object) -> None:
        self._end_of_turn(update_is_over=True)  # what comes after training would be done during the other's turn

    def _end_of_turn(self, *, update_is_over: bool) -> None:
        if self._began is not None:
            now = time.perf_counter(), time.process_time()
            wall, cpu = (end - began for end, began in zip(now, self._began, strict=True))
            self._say(wall=wall, cpu=cpu, in_arm=self._in_arm, peak=mib("VmHWM"), over=update_is_over)
        sys.stdin.readline()
        self._in_arm = 0.0
        self._began = time.perf_counter(), time.process_time()

    def _say(self, **values: float) -> None:
        print(json.dumps(values), file=self._told)


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
