"""The labels of a training and the rows that train and validate, checked once."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from difformer.errors import ConfigError
from difformer.training.objectives import check_mask


@dataclass(frozen=True)
class Rows:
    """Labels and masks that fit together.

    Attributes:
        y: Class numbers (N,), int64, -1 where unlabelled; or targets (N,) or (N, ...), floating,
            NaN where unlabelled; a row with one known entry is labelled.
        train: The rows to learn from (N,), bool.
        val: The rows that choose the best weights (N,), bool, or None.

    Raises:
        ConfigError: A shape or type is wrong, a mask is empty, a row in a mask has no label, or
            the two masks share rows.
    """

    y: Tensor
    train: Tensor
    val: Tensor | None = None

    def __post_init__(self) -> None:
        if self.y.dtype != torch.int64 and not self.y.is_floating_point():
            raise ConfigError(f"y must be torch.int64 or floating, found {self.y.dtype}.")
        _check_rows("train_mask", self.train, self.y)
        if self.val is None:
            return
        _check_rows("val_mask", self.val, self.y)
        shared = int((self.train & self.val).sum())
        if shared:
            raise ConfigError(f"train_mask and val_mask must be disjoint, found {shared} in both.")

    @property
    def has_classes(self) -> bool:
        """Whether ``y`` holds class numbers, so that accuracy is defined."""
        return not self.y.is_floating_point()

    def fingerprint(self) -> str:
        """SHA-256 of labels and masks, to notice on resuming that they have changed."""
        digest = hashlib.sha256()
        for tensor in (self.y, self.train, self.val):
            if tensor is not None:
                digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                content = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
                digest.update(content.numpy().tobytes())
        return digest.hexdigest()


def _check_rows(name: str, mask: Tensor, y: Tensor) -> None:
    check_mask(name, mask, y.shape[:1])
    chosen = y[mask]
    bad = ~chosen.isfinite() if chosen.is_floating_point() else chosen < 0
    bad = bad.flatten(1).all(1) if bad.dim() > 1 else bad
    if bad.any():
        count = int(bad.sum())
        raise ConfigError(f"{name} must select labelled rows only, found {count} without label.")
