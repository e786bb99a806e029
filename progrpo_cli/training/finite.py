"""Stops a run when a loss, a gradient or a weight is not finite, before it reaches the policy or a checkpoint."""

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


class FiniteGuardMixin(Trainer):  # type: ignore[misc]  # transformers is not typed
    """Checks each update between the backward pass and the optimiser's step, and the weights before they are saved.

    All processes check at the same point and stop together.
    """

    failures = Path("failed")
    """Directory for the batch of a failed update, as safetensors and JSON; nothing is pickled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._losses: list[torch.Tensor] = []

    def extra_parameters(self) -> Iterable[torch.nn.Parameter]:
        """Parameters that are trained in addition to the policy's."""
        return ()

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self._losses.append(loss.detach())
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        """Check the update. The Trainer calls this once its gradients are complete, before the optimiser's step."""
        norm = super()._clip_grad_norm(model)
        extra = [parameter.grad for parameter in self.extra_parameters() if parameter.grad is not None]
        values = {
            "loss": torch.stack(self._losses).sum().item(),
            "gradient norm": float(norm),
            "gradient norm of the method's head": torch.nn.utils.get_total_norm(extra).item() if extra else 0.0,
        }
        self._losses.clear()
        if not self._true_everywhere(all(math.isfinite(value) for value in values.values())):
            self._stop(values)
        return norm

    def require_finite_weights(self) -> None:
        """Raise WorkError if a weight of the policy or an extra parameter is not finite."""
        weights = [*self.model.parameters(), *self.extra_parameters()]
        if not self._true_everywhere(all(bool(weight.isfinite().all()) for weight in weights)):
            raise WorkError(
                f"update {self.state.global_step} made weights that are not finite; they are not saved, and the last "
                "checkpoint is from before"
            )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.require_finite_weights()
        super()._save_checkpoint(model, trial)

    def _true_everywhere(self, condition: bool) -> bool:
        return bool(self.accelerator.gather(torch.tensor([condition], device=self.accelerator.device)).all())

    def _stop(self, values: dict[str, float]) -> NoReturn:
        update = self.state.global_step + 1
        not_finite = ", ".join(f"{name} {value}" for name, value in values.items() if not math.isfinite(value))
        directory = self.failures / f"update-{update:06d}"
        self._save_batch(directory, {"update": update, **{name: str(value) for name, value in values.items()}})
        raise WorkError(
            f"update {update}: {not_finite or 'not finite on another process'}: the update is not made and its batch "
            f"is in {directory}; the last checkpoint is from before"
        )

    def _save_batch(self, directory: Path, description: dict[str, Any]) -> None:
        """Save this process's part of the rollout: its tensors, and its texts with ``description`` as JSON."""
        micro_batches = self._buffered_inputs
        batch = {
            name: torch.cat([micro_batch[name] for micro_batch in micro_batches]) if value.ndim else value
            for name, value in micro_batches[0].items()
            if isinstance(value, torch.Tensor)
        }
        rank = self.accelerator.process_index
        directory.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(
            {name: value.detach().cpu().contiguous() for name, value in batch.items()},
            directory / f"batch-{rank}.safetensors",
        )
        decode = self.processing_class.batch_decode
        description["prompts"] = decode(_without_padding(batch["prompt_ids"], batch["prompt_mask"]))
        description["completions"] = decode(_without_padding(batch["completion_ids"], batch["completion_mask"]))
        files.write_json(directory / f"step-{rank}.json", description)


def _without_padding(ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    return [row[row_mask.bool()] for row, row_mask in zip(ids, mask, strict=True)]
