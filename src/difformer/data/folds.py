"""Splits of what is not drawn row by row: time, folds of graphs, families of molecules.

Letters: N items (snapshots, graphs, rows), in each of three disjoint masks.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from difformer.data.splits import Labels, Mask, Split
from difformer.errors import ConfigError, DataError


def temporal(count: int, train: float, val: float) -> Split:
    """Cut N snapshots in the order of time: first those to learn from, last those to test.

    Parameters
    ----------
    count : int
        Snapshots N, at least 3.
    train, val : float
        Fractions, cut down to whole snapshots; the rest is the test part.

    Returns
    -------
    Split
        Its protocol is "temporal-T-V-R" with the three percentages.

    Raises
    ------
    ConfigError
        If a fraction is not allowed or a part would be empty.

    Examples
    --------
    >>> split = temporal(517, 0.2, 0.2)
    >>> int(split.train.sum()), int(split.val.sum()), int(split.test.sum())
    (103, 103, 311)
    """
    percent = _percent(train, val)
    first, second = int(train * count + 1e-9), int((train + val) * count + 1e-9)
    second = first + min(second - first, int(val * count + 1e-9))
    if not 0 < first < second < count:
        raise ConfigError(
            f"Each part of a split in time needs a snapshot, found {count} snapshots for "
            f"{'-'.join(map(str, percent))} percent."
        )
    place = np.arange(count)
    parts = place < first, (place >= first) & (place < second), place >= second
    return Split(*parts, "temporal-{}-{}-{}".format(*percent))


def k_fold(y: Labels, folds: int, fold: int, seed: int = 0) -> Split:
    """Test on one stratified fold, choose on the next one, learn from the others.

    Parameters
    ----------
    y : int64 ndarray, (N,)
        Classes; -1 is unlabelled and in no part.
    folds : int
        Number of folds, at least 3.
    fold : int
        Which one is tested, from 0.
    seed : int, default 0
        Of the draw, which all folds of one cross-validation share.

    Returns
    -------
    Split
        Its protocol is "k-fold-K".

    Raises
    ------
    ConfigError
        If there are fewer than 3 folds, or no such fold.
    DataError
        If a class has fewer rows than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold

    if folds < 3 or not 0 <= fold < folds:
        raise ConfigError(f"fold must lie in 0 to folds - 1, folds >= 3; found {fold} of {folds}.")
    known = np.flatnonzero(y >= 0)
    fewest = np.bincount(y[known]).min(initial=folds, where=np.bincount(y[known]) > 0)
    if fewest < folds:
        raise DataError(f"Each class needs a row for each of {folds} folds, one has {fewest}.")
    draw = StratifiedKFold(folds, shuffle=True, random_state=seed)
    parts = [known[test] for _, test in draw.split(known, y[known])]
    tested, chosen = (_mask(len(y), parts[(fold + step) % folds]) for step in (0, 1))
    train = (y >= 0) & ~tested & ~chosen
    return Split(train, chosen, tested, f"k-fold-{folds}", seed)


def by_scaffold(groups: Sequence[str], train: float, val: float) -> Split:
    """Keep families together: the largest to learn from, the smallest to test.

    Molecules that share a scaffold never stand in two parts, so the test asks for more than
    interpolation (Wu et al., MoleculeNet, 2018). Families of one size are ordered by name.

    Parameters
    ----------
    groups : sequence of str, (N,)
        Family of each molecule, such as its Bemis-Murcko scaffold.
    train, val : float
        Fractions that the first two parts may reach; the rest is the test part.

    Returns
    -------
    Split
        Its protocol is "scaffold-T-V-R" with the three percentages.

    Examples
    --------
    >>> by_scaffold(list("aaaabbc"), 0.6, 0.3).test.tolist()
    [False, False, False, False, False, False, True]
    """
    percent = _percent(train, val)
    names, member, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    order = sorted(range(len(names)), key=lambda family: (-sizes[family], names[family]))
    room, part = [train * len(groups), val * len(groups)], np.full(len(names), 2)
    for family in order:
        for index in (0, 1):
            if sizes[family] <= room[index] + 1e-9:
                room[index] -= sizes[family]
                part[family] = index
                break
    first, second, third = (part[member] == index for index in range(3))
    return Split(first, second, third, "scaffold-{}-{}-{}".format(*percent))


def _percent(train: float, val: float) -> tuple[int, int, int]:
    if not (train > 0 and val > 0 and train + val < 1):
        raise ConfigError(
            f"train and val must be fractions that leave a test part, found {train} and {val}."
        )
    first, second = round(100 * train), round(100 * val)
    return first, second, 100 - first - second


def _mask(count: int, rows: NDArray[np.int64]) -> Mask:
    mask = np.zeros(count, dtype=bool)
    mask[rows] = True
    return mask
