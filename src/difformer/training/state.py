"""All that changes during a training, and its way to a checkpoint and back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from difformer.errors import RunError
from difformer.runs import RunDirectory
from difformer.runs.checkpoint import (
    Checkpoint,
    discard_checkpoints,
    latest_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from difformer.runs.records import Record, sync_records, truncate_records
from difformer.training.config import TrainingConfig
from difformer.training.randomness import capture_random_state, restore_random_state
from difformer.training.rows import Rows
from difformer.training.selection import Selection, copy_weights

OPTIMIZERS: Mapping[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


@dataclass
class TrainingState:
    """Model, optimizer, best weights and history after ``epoch`` epochs.

    The random stream belongs to it too, but lives in torch's generators.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    selection: Selection
    epoch: int = 0
    history: list[Record] = field(default_factory=list)

    @classmethod
    def initial(cls, model: nn.Module, config: TrainingConfig) -> "TrainingState":
        """The state before the first epoch."""
        make: Any = OPTIMIZERS[config.optimizer]
        optimizer = make(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        selection = Selection(config.monitor == "val_accuracy", config.patience)
        return cls(model, optimizer, selection)

    def save(self, run: RunDirectory, origin: dict[str, object]) -> None:
        """Write a checkpoint; the metrics up to it are on the disk before it is.

        Raises:
            RunError: It cannot be written.
        """
        sync_records(run.metrics)
        checkpoint = Checkpoint(
            epoch=self.epoch,
            model=copy_weights(self.model),
            optimizer=self.optimizer.state_dict(),
            random_state=capture_random_state(self.model),
            best_weights=self.selection.weights,
            best_metric=self.selection.metric,
            best_epoch=self.selection.epoch,
            misses=self.selection.misses,
            origin=origin,
        )
        save_checkpoint(run.checkpoints, checkpoint)

    def resume(self, run: RunDirectory, origin: dict[str, object]) -> None:
        """Go on from the newest usable checkpoint of ``run``; without one, from the beginning.

        Metrics and damaged checkpoints of later epochs are removed: they will come again.

        Raises:
            RunError: All checkpoints are damaged, or the newest is from another training.
        """
        checkpoint = latest_checkpoint(run.checkpoints)
        if checkpoint is None:
            truncate_records(run.metrics, 0)
            return
        _check_same(checkpoint.origin, origin, run)
        self.history = truncate_records(run.metrics, checkpoint.epoch)
        discard_checkpoints(run.checkpoints, after=checkpoint.epoch)
        prune_checkpoints(run.checkpoints, checkpoint.best_epoch)  # saving may have been cut off
        self._restore(checkpoint, run)

    def _restore(self, checkpoint: Checkpoint, run: RunDirectory) -> None:
        try:
            self.model.load_state_dict(checkpoint.model)
            self.optimizer.load_state_dict(checkpoint.optimizer)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise RunError(f"The model does not fit the run in {run.path}: {reason}") from error
        restore_random_state(checkpoint.random_state)
        self.epoch = checkpoint.epoch
        self.selection.weights = checkpoint.best_weights
        self.selection.metric = checkpoint.best_metric
        self.selection.epoch = checkpoint.best_epoch
        self.selection.misses = checkpoint.misses


def start_afresh(run: RunDirectory) -> None:
    """Remove the checkpoints and metrics of an unfinished run.

    Raises:
        RunError: The run is finished.
    """
    if run.is_finished:
        raise RunError(f"{run.path} holds a finished run; train into another folder.")
    discard_checkpoints(run.checkpoints, after=0)
    truncate_records(run.metrics, 0)


def describe_origin(config: TrainingConfig, rows: Rows, model: nn.Module) -> dict[str, object]:
    """What must be the same for a training to go on: settings, labels and masks, device."""
    devices = sorted({str(parameter.device) for parameter in model.parameters()})
    return {
        **config.model_dump(),
        "labels and masks": rows.fingerprint(),
        "devices": ", ".join(devices),
    }


def _check_same(old: dict[str, object], new: dict[str, object], run: RunDirectory) -> None:
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            raise RunError(
                f"The training in {run.path} was started with other {key}: "
                f"expected {old.get(key)!r}, found {new.get(key)!r}."
            )
