"""The settings of one training."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ByteSize, Field, TypeAdapter

from difformer.training.settings import Settings, load_settings


def _bytes(value: Any) -> Any:
    """A size in bytes from text such as ``3GiB``; anything else is left to be checked."""
    return int(TypeAdapter(ByteSize).validate_python(value)) if isinstance(value, str) else value


class TrainingConfig(Settings):
    """How to train; frozen, and checked on creation.

    Attributes:
        epochs: Optimiser steps at most; one full-batch step an epoch.
        learning_rate: Step size of the optimiser.
        weight_decay: Added to the gradient by ``adam``, applied apart from it by ``adamw``.
        optimizer: ``adam`` or ``adamw``.
        clip_norm: Largest norm of the whole gradient; None does not clip.
        monitor: What chooses the best weights, if there are validation rows: ``val_accuracy``
            (higher is better) or ``val_loss`` (lower is better).
        patience: Stop after so many consecutive evaluations that were not strictly better than
            the best; None never stops early. Counted in evaluations, not in epochs.
        views: Random forward passes (dropout) an epoch that are to agree with each other on every
            row; 1 trains on the labels alone.
        consistency: Weight of that agreement.
        eval_every: Epochs between evaluations; the last epoch is always evaluated.
        checkpoint_every: Epochs between checkpoints; 0 writes one at the end only.
        batch_size: Rows of a step. Each epoch divides all rows anew; in a batch instances see each
            other alone, and the edges among them. Evaluations and predictions see everything.
            None: all rows.
        batches: How rows are divided: ``random``, or by ``clusters`` of the observed graph (METIS,
            extra ``clusters``), some of which make a batch.
        memory: Bytes that the process may use at its peak, as a number or like ``"3GiB"``. Where it
            is short, more is recomputed in the backward; the results are the same to the last bit.
            None: no limit is set.
        time_limit: Seconds of epochs after which training stops; how far it gets then depends on
            the machine. None: no limit.
        seed: Of the random stream during training, dropout for instance. The weights are
            initialised before, by whoever makes the model.

    Raises:
        ConfigError: A value is not allowed or a key is unknown.

    Example:
        >>> TrainingConfig(epochs=10).epochs
        10
        >>> TrainingConfig(optimizer="adan")
        Traceback (most recent call last):
        difformer.errors.ConfigError: optimizer must be 'adam' or 'adamw', found 'adan'.
    """

    epochs: int = Field(default=300, ge=1)
    learning_rate: float = Field(default=0.01, gt=0)
    weight_decay: float = Field(default=5e-4, ge=0)
    optimizer: Literal["adam", "adamw"] = "adam"
    clip_norm: float | None = Field(default=None, gt=0)
    monitor: Literal["val_accuracy", "val_loss"] = "val_accuracy"
    patience: int | None = Field(default=None, ge=1)
    views: int = Field(default=1, ge=1, le=16)
    consistency: float = Field(default=1.0, ge=0)
    eval_every: int = Field(default=1, ge=1)
    checkpoint_every: int = Field(default=50, ge=0)
    batch_size: int | None = Field(default=None, ge=1)
    batches: Literal["random", "clusters"] = "random"
    memory: Annotated[int | None, BeforeValidator(_bytes)] = Field(default=None, ge=1)
    time_limit: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**63)


def load_config(path: str | Path | None = None, overrides: Iterable[str] = ()) -> TrainingConfig:
    """Read a ``TrainingConfig`` from a TOML file and ``key=value`` overrides.

    Arguments and errors as ``settings.load_settings``.

    Example:
        >>> load_config(overrides=["epochs=10", "optimizer=adamw", "patience=none"]).optimizer
        'adamw'
    """
    return load_settings(TrainingConfig, path, overrides)
