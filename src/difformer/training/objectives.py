"""What training minimises: ``objective(outputs, y, mask) -> scalar``, a mean over the rows in mask.

Letters: N rows, C classes, M members of an ensemble. Shapes must fit exactly, for a broadcast in a
loss is a mistake that trains.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from difformer.errors import ConfigError

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
Predict = Callable[[Tensor], Tensor]


def cross_entropy(
    outputs: Tensor,
    y: Tensor,
    mask: Tensor,
    *,
    class_weight: Tensor | None = None,
    sample_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean cross-entropy of the rows in ``mask``, weighted if asked.

    Fix the keywords with ``functools.partial`` to get an objective.

    Args:
        outputs: Logits.
        y: Class numbers, int64.
        mask: Which rows count, bool.
        class_weight: Weight of each class. Default: equal.
        sample_weight: Weight of each row. Default: equal.
        label_smoothing: Share of the target that is spread over all classes. Default: 0.

    Shapes:
        outputs (N, C); y, mask and sample_weight (N,); class_weight (C,); the result ().

    Returns:
        sum_i w_i loss_i / sum_i w_i, with w_i the product of both weights.

    Raises:
        ConfigError: A shape does not fit, no row is in ``mask``, or a label is not in 0 to C - 1.
    """
    _check_classification(outputs, y, mask)
    labels = y[mask]
    _check_labels(labels, outputs.shape[-1])
    losses = functional.cross_entropy(
        outputs[mask], labels, reduction="none", label_smoothing=label_smoothing
    )
    weights = _weights(labels, mask, outputs, class_weight, sample_weight)
    return losses.mean() if weights is None else (weights * losses).sum() / weights.sum()


def ensemble_cross_entropy(
    outputs: Tensor, y: Tensor, mask: Tensor, *, class_weight: Tensor | None = None
) -> Tensor:
    """Mean over the members of their cross-entropies, so that each learns on its own.

    Shapes:
        outputs (M, N, C); y and mask (N,); class_weight (C,); the result ().

    Raises:
        ConfigError: As ``cross_entropy``.
    """
    if outputs.dim() != 3:
        raise ConfigError(f"outputs must have shape (M, N, C), found {_shape(outputs)}.")
    losses = [cross_entropy(member, y, mask, class_weight=class_weight) for member in outputs]
    return torch.stack(losses).mean()


def consistency_cross_entropy(
    outputs: Tensor,
    y: Tensor,
    mask: Tensor,
    *,
    weight: float = 1.0,
    temperature: float = 0.5,
    class_weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of random views of one model, and agreement of the views on every row.

    The views' mean probabilities, sharpened by ``temperature`` and held fixed, are what each view
    is drawn to by squared error on labelled and unlabelled rows alike (Feng et al., NeurIPS 2020,
    eqs. 4 to 6). One view, as in evaluation, has nothing to agree with.

    Shapes:
        outputs (V, N, C), one entry a view; y and mask (N,); class_weight (C,); the result ().
    """
    loss = ensemble_cross_entropy(outputs, y, mask, class_weight=class_weight)
    if len(outputs) < 2 or weight == 0:
        return loss
    views = outputs.softmax(dim=-1)
    sharp = views.mean(dim=0).detach() ** (1 / temperature)
    target = sharp / sharp.sum(dim=-1, keepdim=True)
    return loss + weight * (views - target).square().sum(dim=-1).mean()


def mean_squared_error(outputs: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of all known entries of the rows in ``mask``; NaN is unknown.

    Shapes:
        outputs and y equal, (N,) or (N, ...); mask (N,); the result ().

    Raises:
        ConfigError: The shapes differ, or no row is in ``mask``.
    """
    check_equal_shapes(outputs=outputs, y=y)
    check_mask("mask", mask, y.shape[:1])
    known = y[mask].isfinite()
    return functional.mse_loss(outputs[mask][known], y[mask][known].to(outputs.dtype))


def softmax_probabilities(outputs: Tensor) -> Tensor:
    """Class probabilities of logits (N, C) -> (N, C)."""
    return outputs.softmax(dim=-1)


def ensemble_probabilities(outputs: Tensor) -> Tensor:
    """Mean class probabilities of an ensemble's logits (M, N, C) -> (N, C)."""
    return outputs.softmax(dim=-1).mean(dim=0)


def balanced_class_weight(y: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Weights in inverse proportion to the classes' counts, of mean 1 over the rows in ``mask``.

    Args:
        y: Class numbers, int64.
        mask: The rows to count, bool.
        classes: The number of classes C; one without rows gets weight 0.

    Shapes:
        y and mask (N,); the result (C,), float32.
    """
    counts = torch.bincount(y[mask], minlength=classes).to(torch.float32)
    present = counts > 0
    ideal = counts.sum() / present.sum()
    return torch.where(present, ideal / counts.clamp(min=1), torch.zeros_like(counts))


def check_equal_shapes(**tensors: Tensor) -> None:
    """Refuse any broadcast.

    Raises:
        ConfigError: The shapes are not all equal.
    """
    if len({tuple(tensor.shape) for tensor in tensors.values()}) > 1:
        found = ", ".join(f"{name} {_shape(tensor)}" for name, tensor in tensors.items())
        raise ConfigError(f"Shapes must be equal, found {found}.")


def check_mask(name: str, mask: Tensor, shape: torch.Size) -> None:
    """Refuse a mask of another type or shape, or an empty one.

    Raises:
        ConfigError: In each of these cases.
    """
    if mask.dtype != torch.bool or mask.shape != shape:
        found = f"{mask.dtype} of shape {_shape(mask)}"
        raise ConfigError(f"{name} must be torch.bool of shape {tuple(shape)}, found {found}.")
    if not mask.any():
        raise ConfigError(f"{name} must select at least one row, found none.")


def _check_classification(outputs: Tensor, y: Tensor, mask: Tensor) -> None:
    if outputs.dim() != 2:
        raise ConfigError(f"outputs must have shape (N, C), found {_shape(outputs)}.")
    if y.shape != outputs.shape[:1]:
        raise ConfigError(f"y must have shape ({len(outputs)},), found {_shape(y)}.")
    check_mask("mask", mask, y.shape)


def _check_labels(labels: Tensor, classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        found = low if low < 0 else high
        raise ConfigError(f"Labels of these rows must be in 0 to {classes - 1}, found {found}.")


def _weights(
    labels: Tensor,
    mask: Tensor,
    outputs: Tensor,
    class_weight: Tensor | None,
    sample_weight: Tensor | None,
) -> Tensor | None:
    weights = None
    if class_weight is not None:
        check_equal_shapes(class_weight=class_weight, one_output=outputs[0])
        weights = class_weight.to(outputs)[labels]
    if sample_weight is not None:
        check_equal_shapes(sample_weight=sample_weight, mask=mask)
        rows = sample_weight.to(outputs)[mask]
        weights = rows if weights is None else weights * rows
    return weights


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
