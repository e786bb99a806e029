"""A loss, gradient or weight that is not finite ends the run before it reaches the policy or a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import safetensors.torch
import torch
from transformers import Trainer

from progrpo_cli.errors import WorkError
from progrpo_cli.records import files


class StopsWhereNotFinite(Trainer):  # type: ignore[misc]  # transformers is not typed
    """Looks at each update between the backward pass and the optimiser's step, and at the weights before they are kept.

    All processes look at the same moment and stop together.
    """

    failures = Path("failed")
    """Where the batch of such an update goes, as safetensors and JSON: nothing is pickled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._losses: list[torch.Tensor] = []

    def other_parameters(self) -> Iterable[torch.nn.Parameter]:
        """Parameters that are trained beside the model's."""
        return ()

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self._losses.append(loss.detach())
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        """The Trainer calls it when the gradients of an update are complete, before the optimiser's step."""
        norm = super()._clip_grad_norm(model)
        others = [parameter.grad for parameter in self.other_parameters() if parameter.grad is not None]
        found = {
            "loss": torch.stack(self._losses).sum(),
            "gradient norm": torch.as_tensor(norm, device=self._losses[0].device),
            "gradient norm of the method's head": torch.nn.utils.get_total_norm(others) if others else torch.zeros(()),
        }
        self._losses.clear()
        values = {name: value.item() for name, value in found.items()}
        if not self._everywhere(all(math.isfinite(value) for value in values.values())):
            self._stop(values)
        return norm

    def require_finite_weights(self) -> None:
        """Raise WorkError if a weight of the policy, or of what is trained beside it, is not finite."""
        weights = [*self.model.parameters(), *self.other_parameters()]
        if not self._everywhere(all(bool(weight.isfinite().all()) for weight in weights)):
            raise WorkError(
                f"update {self.state.global_step} made weights that are not finite: they are not kept; the last "
                "checkpoint is of before"
            )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.require_finite_weights()
        super()._save_checkpoint(model, trial)

    def _everywhere(self, here: bool) -> bool:
        return bool(self.accelerator.gather(torch.tensor([here], device=self.accelerator.device)).all())

    def _stop(self, values: dict[str, float]) -> NoReturn:
        update = self.state.global_step + 1
        wrong = ", ".join(f"{name} {value}" for name, value in values.items() if not math.isfinite(value))
        directory = self.failures / f"update-{update:06d}"
        self._keep(directory, {"update": update, **{name: str(value) for name, value in values.items()}})
        raise WorkError(
            f"update {update}: {wrong or 'not finite on another process'}: the update is not made, its batch is in "
            f"{directory}; the last checkpoint is of before"
        )

    def _keep(self, directory: Path, described: dict[str, Any]) -> None:
        """The rollout of this process: its tensors, and its texts for a reader."""
        parts = self._buffered_inputs
        whole = {
            name: torch.cat([part[name] for part in parts]) if value.ndim else value
            for name, value in parts[0].items()
            if isinstance(value, torch.Tensor)
        }
        rank = self.accelerator.process_index
        directory.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(
            {name: value.detach().cpu().contiguous() for name, value in whole.items()},
            directory / f"batch-{rank}.safetensors",
        )
        decode = self.processing_class.batch_decode
        described["prompts"] = decode(_cut(whole["prompt_ids"], whole["prompt_mask"]))
        described["completions"] = decode(_cut(whole["completion_ids"], whole["completion_mask"]))
        files.write_json(directory / f"step-{rank}.json", described)


def _cut(ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    return [row[kept.bool()] for row, kept in zip(ids, mask, strict=True)]
