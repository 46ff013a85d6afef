"""The state of a training between two epochs, on disk.

    checkpoints/epoch-000120/
      model.safetensors    optimizer.safetensors    random.safetensors    best.safetensors
      state.json           manifest.json

A checkpoint is filled in a temporary folder, flushed, and renamed. One that carries its name is
therefore whole unless the disk damaged it later, which its manifest reveals.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from difformer.errors import RunError
from difformer.runs.atomic import atomic_folder, clean_leftovers, read_json, remove, write_json
from difformer.runs.manifest import verify_manifest, write_manifest
from difformer.runs.optimizer_state import flatten_optimizer, restore_optimizer
from difformer.runs.tensors import load_tensors, save_tensors

VERSION = 1
_NAME = re.compile(r"epoch-(\d{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the rest of a training depends on.

    Attributes:
        epoch: Epochs done; the first is 1.
        model: The model's ``state_dict``.
        optimizer: The optimizer's ``state_dict``.
        random_state: Generator states by device name, uint8.
        best_weights: The model's ``state_dict`` at the best evaluation so far, if there was one.
        best_metric: The monitored value there.
        best_epoch: The epoch of it.
        misses: Consecutive evaluations since then that were not better.
        origin: What the training was started with, as JSON holds it, to compare on resuming.
    """

    epoch: int
    model: dict[str, Tensor]
    optimizer: dict[str, object]
    random_state: dict[str, Tensor]
    best_weights: dict[str, Tensor] | None = None
    best_metric: float | None = None
    best_epoch: int | None = None
    misses: int = 0
    origin: dict[str, object] = field(default_factory=dict)


def save_checkpoint(folder: str | Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write ``checkpoint`` below ``folder`` and remove what is no longer needed.

    Args:
        folder: The folder of all checkpoints of the run; made if missing.
        checkpoint: The state.
        keep: How many of the latest to keep, besides that of the best epoch. Default: 2.

    Returns:
        The checkpoint's own folder.

    Raises:
        RunError: It cannot be written.

    Cost:
        Two to four times the size of the model, on disk and for a moment in memory.
    """
    target = Path(folder) / _name(checkpoint.epoch)
    with atomic_folder(target, replace=True) as draft:
        _fill(draft, checkpoint)
    prune_checkpoints(folder, checkpoint.best_epoch, keep)
    return target


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read one checkpoint; its tensors are in the memory of the CPU.

    Raises:
        RunError: The folder is missing, incomplete or damaged.
    """
    folder = Path(path)
    verify_manifest(folder)
    state = read_json(folder / "state.json")
    if state.get("version") != VERSION:
        found = state.get("version")
        raise RunError(f"{folder} has version {found!r}, and only {VERSION} can be read.")
    try:
        return _assemble(folder, state)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{folder / 'state.json'} is incomplete: {error!r}.") from error


def latest_checkpoint(folder: str | Path) -> Checkpoint | None:
    """Read the newest checkpoint that is whole; leftovers of interrupted writes are removed.

    Args:
        folder: The folder of all checkpoints of the run.

    Returns:
        The checkpoint, or None if there is none at all.

    Raises:
        RunError: There are checkpoints, and all are damaged.
    """
    clean_leftovers(folder)
    damages = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return load_checkpoint(path)
        except RunError as error:
            damages.append(str(error))
    if damages:
        raise RunError(
            f"Expected a usable checkpoint in {folder}, found {len(damages)} damaged: {damages[0]}"
        )
    return None


def list_checkpoints(folder: str | Path) -> list[Path]:
    """List the folders of all checkpoints, oldest first, whole or not."""
    if not Path(folder).is_dir():
        return []
    found = [path for path in Path(folder).iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=_epoch)


def discard_checkpoints(folder: str | Path, after: int) -> None:
    """Remove the checkpoints of epochs later than ``after``: damaged ones, or all with 0."""
    for path in list_checkpoints(folder):
        if _epoch(path) > after:
            remove(path)


def prune_checkpoints(folder: str | Path, best_epoch: int | None, keep: int = 2) -> None:
    """Remove all checkpoints but the latest ``keep`` and that of ``best_epoch``."""
    for path in list_checkpoints(folder)[: -max(keep, 1)]:
        if _epoch(path) != best_epoch:
            remove(path)


def _fill(draft: Path, checkpoint: Checkpoint) -> None:
    tensors, scalars = flatten_optimizer(checkpoint.optimizer)
    save_tensors(draft / "model.safetensors", checkpoint.model)
    save_tensors(draft / "optimizer.safetensors", tensors)
    save_tensors(draft / "random.safetensors", checkpoint.random_state)
    if checkpoint.best_weights is not None:
        save_tensors(draft / "best.safetensors", checkpoint.best_weights)
    state = {
        "version": VERSION,
        "epoch": checkpoint.epoch,
        "best_metric": checkpoint.best_metric,
        "best_epoch": checkpoint.best_epoch,
        "misses": checkpoint.misses,
        "has_best_weights": checkpoint.best_weights is not None,
        "origin": checkpoint.origin,
        "optimizer": scalars,
    }
    write_json(draft / "state.json", state)
    write_manifest(draft)


def _assemble(folder: Path, state: dict[str, object]) -> Checkpoint:
    best = load_tensors(folder / "best.safetensors") if state["has_best_weights"] else None
    tensors = load_tensors(folder / "optimizer.safetensors")
    return Checkpoint(
        epoch=_integer(state["epoch"]),
        model=load_tensors(folder / "model.safetensors"),
        optimizer=restore_optimizer(tensors, _mapping(state["optimizer"])),
        random_state=load_tensors(folder / "random.safetensors"),
        best_weights=best,
        best_metric=_number(state["best_metric"]),
        best_epoch=None if state["best_epoch"] is None else _integer(state["best_epoch"]),
        misses=_integer(state["misses"]),
        origin=_mapping(state["origin"]),
    )


def _name(epoch: int) -> str:
    return f"epoch-{epoch:06d}"


def _epoch(path: Path) -> int:
    return int(path.name.removeprefix("epoch-"))


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected an integer, found {value!r}")
    return value


def _number(value: object) -> float | None:
    if value is not None and not isinstance(value, (int, float)):
        raise TypeError(f"expected a number, found {value!r}")
    return value


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, found {value!r}")
    return value
