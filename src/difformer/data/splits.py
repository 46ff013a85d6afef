"""Which rows train, which choose, which are tested.

A split is three disjoint masks over N rows. Unlabelled rows (y == -1) belong to none of them.
All draws come from a numpy Generator made from the seed, never from global state. Which splits a
figure speaks of is told by a protocol's name (`difformer.data.protocols`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from difformer.errors import ConfigError, DataError

Mask = NDArray[np.bool_]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint masks over the same N rows, and how they were drawn.

    Parameters
    ----------
    train, val, test : bool ndarray, (N,)
        Rows to learn from, to choose settings with, and to report on.
    protocol : str, default ""
        Name of the protocol; stands beside every reported figure.
    seed : int, optional
        Seed of the draw, or the number of the given split; None if there is only one.

    Raises
    ------
    DataError
        If the masks differ in shape or share rows.
    """

    train: Mask
    val: Mask
    test: Mask
    protocol: str = ""
    seed: int | None = None

    def __post_init__(self) -> None:
        for mask in (self.train, self.val, self.test):
            if mask.dtype != np.bool_ or mask.ndim != 1 or mask.shape != self.train.shape:
                raise DataError(
                    "A split needs three boolean masks of one length, found "
                    f"{self.train.shape}, {self.val.shape} and {self.test.shape}."
                )
        if np.stack([self.train, self.val, self.test]).sum(axis=0).max(initial=0) > 1:
            raise DataError("The parts of a split must not share rows, at least one row is in two.")


def per_class(
    y: Labels,
    n: int,
    seed: int,
    val: int = 0,
    test: int | None = None,
    protocol: str = "per-class",
) -> Split:
    """Draw ``n`` training rows a class, then ``val`` rows, then ``test`` rows from the rest.

    Parameters
    ----------
    y : int64 ndarray, (N,)
        Labels; -1 is unlabelled and never drawn.
    n : int
        Training rows of each class, at least 1.
    seed : int
        Seed of the draw.
    val : int, default 0
        Number of validation rows in all.
    test : int, optional
        Number of test rows in all; None takes everything that is left.
    protocol : str, default "per-class"
        Name that the split carries.

    Returns
    -------
    Split

    Raises
    ------
    ConfigError
        If a count is negative or ``n`` is 0.
    DataError
        If a class has fewer than ``n`` rows, or too few rows remain. Cost O(N).

    Examples
    --------
    >>> import numpy as np
    >>> split = per_class(np.array([0, 0, 0, 1, 1, -1]), n=1, seed=0, val=1)
    >>> int(split.train.sum()), int(split.val.sum()), int(split.test.sum())
    (2, 1, 2)
    """
    _check_counts(n, val, test)
    order = _shuffled(y, seed)
    train = np.zeros(len(y), dtype=bool)
    for label in _classes(y):
        rows = order[y[order] == label]
        if len(rows) < n:
            raise DataError(
                f"Each class must have at least {n} labelled rows, class {label} has {len(rows)}."
            )
        train[rows[:n]] = True
    rest = order[~train[order]]
    wanted = val + (test or 0)
    if len(rest) < wanted:
        raise DataError(
            f"{wanted} validation and test rows were asked for, {len(rest)} labelled rows remain."
        )
    end = len(rest) if test is None else wanted
    return Split(
        train, _mask(len(y), rest[:val]), _mask(len(y), rest[val:end]), protocol, int(seed)
    )


def class_balanced_fresh(
    y: Labels, seed: int, n: int = 20, val: int = 500, test: int | None = 1000
) -> Split:
    """Draw 20 rows a class, 500 and 1,000 anew for each seed (protocol `class-balanced-fresh`).

    Arguments and errors are those of `per_class`.
    """
    return per_class(y, n, seed, val, test, protocol="class-balanced-fresh")


def proportional(y: Labels, train: float, val: float, seed: int, stratify: bool = True) -> Split:
    """Draw fractions ``train`` and ``val`` of the labelled rows; all others are the test part.

    Parameters
    ----------
    y : int64 ndarray, (N,)
        Labels; -1 is unlabelled and never drawn.
    train, val : float
        Fractions between 0 and 1, together at most 1.
    seed : int
        Seed of the draw.
    stratify : bool, default True
        Take the fractions class by class (rounded), with at least one training row a class.

    Returns
    -------
    Split
        Its protocol is "random-T-V-R" with the three percentages. Cost O(N).

    Raises
    ------
    ConfigError
        If the fractions are not allowed.
    """
    if not (0 < train <= 1 and val >= 0 and train + val <= 1 + 1e-9):
        raise ConfigError(
            f"train and val must be fractions with 0 < train and train + val <= 1, "
            f"found {train} and {val}."
        )
    order = _shuffled(y, seed)
    groups = [order[y[order] == label] for label in _classes(y)] if stratify else [order]
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for rows in groups:
        first = min(len(rows), max(1, round(train * len(rows))))
        second = min(len(rows), max(first, round((train + val) * len(rows))))
        for part, chosen in zip(parts, np.split(rows, [first, second]), strict=True):
            part.extend(chosen)
    percent = (round(100 * train), round(100 * val), round(100 * (1 - train - val)))
    first_mask, second_mask, third_mask = (
        _mask(len(y), np.array(part, dtype=np.int64)) for part in parts
    )
    protocol = "random-{}-{}-{}".format(*percent)
    return Split(first_mask, second_mask, third_mask, protocol, int(seed))


def given(
    masks: Mapping[str, Mask], index: int | None = None, prefix: str = "", protocol: str = "given"
) -> Split:
    """Take a split that the data set ships.

    Parameters
    ----------
    masks : mapping of str to bool ndarray
        `Instances.masks`: ``prefix + "train"`` and ``"test"``, and ``"val"`` if there is one.
        Without a "val" mask the validation part is empty.
    index : int, optional
        Which of S splits, where masks have shape (S, N). Not used for masks of shape (N,).
    prefix : str, default ""
        Which family of splits, for example "geom_".
    protocol : str, default "given"
        Name that the split carries.

    Returns
    -------
    Split

    Raises
    ------
    DataError
        If there are no such masks.
    ConfigError
        If ``index`` is needed and missing, or out of range.
    """
    for part in ("train", "test"):
        if prefix + part not in masks:
            have = ", ".join(sorted(masks)) or "none"
            raise DataError(
                f"Protocol {protocol!r} needs given masks named {prefix}train and {prefix}test, "
                f"found {have}."
            )
    train, test = (_row(masks[prefix + part], index) for part in ("train", "test"))
    val = _row(masks[prefix + "val"], index) if prefix + "val" in masks else np.zeros_like(train)
    several = masks[prefix + "train"].ndim == 2
    return Split(train, val, test, protocol, index if several else None)


def hold_out(y: Labels, fraction: float = 0.2, seed: int = 0) -> Mask:
    """Mark a stratified share of the labelled rows as held out.

    Parameters
    ----------
    y : int64 ndarray, (N,)
        Labels; -1 is unlabelled and never held out.
    fraction : float, default 0.2
        Share of each class, rounded, between 0 and 1 (both excluded). At least one row of each
        class stays in; if rounding leaves nothing, one row of the largest class is held out.
    seed : int, default 0
        Seed of the draw.

    Returns
    -------
    bool ndarray, (N,)
        True for held-out rows; all False only if no class has two rows. Cost O(N).

    Examples
    --------
    >>> import numpy as np
    >>> int(hold_out(np.array([0] * 10 + [1] * 5 + [2])).sum())
    3
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"fraction must lie between 0 and 1, found {fraction}.")
    order = _shuffled(y, seed)
    groups = [order[y[order] == label] for label in _classes(y)]
    sizes = [min(round(fraction * len(rows)), len(rows) - 1) for rows in groups]
    if groups and not any(sizes):
        largest = max(range(len(groups)), key=lambda g: len(groups[g]))
        sizes[largest] = min(1, len(groups[largest]) - 1)
    held = np.zeros(len(y), dtype=bool)
    for rows, size in zip(groups, sizes, strict=True):
        held[rows[:size]] = True
    return held


def _classes(y: Labels) -> list[int]:
    return [int(label) for label in np.unique(y) if label >= 0]


def _shuffled(y: Labels, seed: int) -> NDArray[np.int64]:
    """Labelled rows in a random order that only the seed and y decide."""
    return np.random.default_rng(seed).permutation(np.flatnonzero(y >= 0))


def _mask(count: int, rows: NDArray[np.int64]) -> Mask:
    mask = np.zeros(count, dtype=bool)
    mask[rows] = True
    return mask


def _row(mask: Mask, index: int | None) -> Mask:
    if mask.ndim == 1:
        return mask
    if index is None or not 0 <= index < len(mask):
        raise ConfigError(
            f"index must choose one of the {len(mask)} given splits (from 0), found {index}."
        )
    return np.asarray(mask[index])


def _check_counts(n: int, val: int, test: int | None) -> None:
    if n < 1 or val < 0 or (test is not None and test < 0):
        raise ConfigError(
            f"n must be at least 1, val and test not negative, found {n}, {val} and {test}."
        )
