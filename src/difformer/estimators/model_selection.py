"""Cross-validation where most rows have no label."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.utils.multiclass import type_of_target

from difformer.errors import ConfigError, DataError, whole_number
from difformer.estimators.labels import labelled_rows


class LabelledKFold:
    """K folds of the labelled rows; rows without a label always stand on the training side.

    A plain splitter would put unlabelled rows into the test part, where nothing can be judged, and
    take them away from the diffusion.

    Parameters
    ----------
    n_splits : int, default 5
        Number of folds, at least 2.
    shuffle : bool, default True
        Draw the folds; otherwise they follow the order of the rows.
    random_state : int, default 0
        Seed of the draw.

    Notes
    -----
    Classes are spread evenly over the folds, and each needs a labelled row for each fold. Targets
    that are numbers with decimals are not classes: there only NaN counts as unlabelled, while in
    classes -1, None, NaN and "" do. Cost O(N).

    Examples
    --------
    >>> y = np.array([0, 0, 1, 1, -1])
    >>> for train, test in LabelledKFold(2, shuffle=False).split(None, y):
    ...     print(train.tolist(), test.tolist())
    [1, 3, 4] [0, 2]
    [0, 2, 4] [1, 3]
    """

    def __init__(self, n_splits: int = 5, *, shuffle: bool = True, random_state: int = 0) -> None:
        self.n_splits = whole_number(n_splits, 2, "n_splits")
        self.shuffle, self.random_state = shuffle, random_state

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Row numbers to train on and to test on, fold by fold. X and groups are not read.

        Raises
        ------
        ConfigError
            If ``y`` is missing.
        DataError
            If there are fewer labelled rows, in all or of a class, than folds.
        """
        if y is None:
            raise ConfigError("LabelledKFold needs y to see which rows are labelled, found None.")
        given = np.asarray(y)
        known, continuous = labelled_rows(given), _is_continuous(given)
        if continuous:
            known = ~np.isnan(given.astype(float))
        rows, others = np.flatnonzero(known), np.flatnonzero(~known)
        values = given[rows]
        counts = [len(rows)] if continuous else np.unique(values.astype(str), return_counts=True)[1]
        if min(counts, default=0) < self.n_splits:
            what = "labelled rows" if continuous else "labelled rows of each class"
            raise DataError(
                f"{self.n_splits} folds need at least as many {what}, found "
                f"{min(counts, default=0)}."
            )
        kind = KFold if continuous else StratifiedKFold
        seed = self.random_state if self.shuffle else None
        folds = kind(self.n_splits, shuffle=self.shuffle, random_state=seed)
        texts = values if continuous else values.astype(str)
        for train, test in folds.split(rows, texts):
            yield np.sort(np.concatenate([rows[train], others])), rows[test]

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of folds."""
        return self.n_splits

    def __repr__(self) -> str:
        """As it was made."""
        return (
            f"LabelledKFold(n_splits={self.n_splits}, shuffle={self.shuffle}, "
            f"random_state={self.random_state})"
        )


def _is_continuous(given: NDArray[Any]) -> bool:
    """Whether y holds numbers with decimals."""
    if given.dtype.kind != "f" or given.ndim != 1:
        return False
    return str(type_of_target(given[~np.isnan(given)])) == "continuous"
