"""Principal components: fewer, uncorrelated features, the same for new rows.

Letters: N rows, F features, P components.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from difformer.data.instances import Features
from difformer.errors import ConfigError, DataError

_EXACT_WIDTH = 2000  # up to here an F x F eigenproblem is cheaper than iterating
_NEGLIGIBLE = 1e-12  # share of the largest variance below which a direction is rounding noise


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map to P components.

    Parameters
    ----------
    mean : float64 ndarray, (F,)
        Subtracted first; zeros for an uncentred map.
    directions : float64 ndarray, (F, P)
        Orthonormal columns, the one of the largest variance first; the entry of largest size in
        each is positive.
    """

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]

    def apply(self, x: Features) -> NDArray[np.floating[Any]]:
        """Project rows (n, F), dense or CSR, to (n, P) in the float type of ``x``. Cost O(n F P).

        Raises
        ------
        DataError
            If ``x`` does not have F columns.
        """
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise DataError(f"x must have shape (n, {len(self.mean)}), found {x.shape}.")
        # The product first: centring a sparse matrix would fill it.
        projected = np.asarray(x @ self.directions) - self.mean @ self.directions
        kind = np.float32 if x.dtype == np.float32 else np.float64
        return np.asarray(projected, dtype=kind)


def pca(x: Features, components: int, centre: bool = True) -> Projection:
    """Find the directions of largest variance.

    Parameters
    ----------
    x : ndarray or scipy CSR, (N, F)
        Rows, finite.
    components : int
        At most so many components P. There are fewer if N or F is smaller, or if the rows span
        fewer directions; at least one is kept.
    centre : bool, default True
        Subtract the mean. False gives the truncated singular value decomposition, the usual
        choice for sparse text.

    Returns
    -------
    Projection

    Raises
    ------
    ConfigError
        If ``components`` is below 1.
    DataError
        If ``x`` has no rows or no columns.

    Notes
    -----
    Up to F = 2,000 the float64 covariance is solved exactly, O(N F^2 + F^3); its mean is taken
    out beforehand for dense rows, so that a large mean costs no digits. Wider data go through
    scikit-learn's randomised solver with a fixed seed (ARPACK for centred sparse rows), O(N F P).
    Both are deterministic.

    Examples
    --------
    >>> import numpy as np
    >>> line = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
    >>> found = pca(line, components=2)
    >>> found.directions.tolist()
    [[1.0], [0.0]]
    >>> found.apply(line).ravel().tolist()
    [-2.0, 0.0, 2.0]
    """
    if components < 1:
        raise ConfigError(f"components must be at least 1, found {components}.")
    if x.ndim != 2 or 0 in x.shape:
        raise DataError(f"x must have rows and columns, found shape {x.shape}.")
    rows, features = x.shape
    count = min(int(components), rows, features)
    mean = np.asarray(x.mean(axis=0, dtype=np.float64)).ravel() if centre else np.zeros(features)
    solve = _from_covariance if features <= _EXACT_WIDTH else _from_iterations
    variances, directions = solve(x, mean, count, centre)
    kept = variances > _NEGLIGIBLE * variances[0]
    kept[0] = True
    return Projection(mean, _signed(directions[:, kept]))


def _from_covariance(x: Features, mean: Any, count: int, centre: bool) -> tuple[Any, Any]:
    if sparse.issparse(x):
        wide = x.astype(np.float64)
        products = (wide.T @ wide).toarray()
        products -= x.shape[0] * np.outer(mean, mean)
    else:
        centred = np.asarray(x, dtype=np.float64) - mean
        products = centred.T @ centred
    values, vectors = np.linalg.eigh(products)
    return values[::-1][:count], vectors[:, ::-1][:, :count]


def _from_iterations(x: Features, mean: Any, count: int, centre: bool) -> tuple[Any, Any]:
    from sklearn.decomposition import PCA, TruncatedSVD

    count = min(count, min(x.shape) - 1) or 1
    if not centre:
        model = TruncatedSVD(count, n_iter=7, random_state=0).fit(x)
        return model.singular_values_**2, model.components_.T.astype(np.float64)
    solver = "arpack" if sparse.issparse(x) else "randomized"
    model = PCA(count, svd_solver=solver, random_state=0).fit(x)
    return model.singular_values_**2, model.components_.T.astype(np.float64)


def _signed(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn each direction so that its entry of largest size is positive."""
    largest = np.abs(directions).argmax(axis=0)
    sign = np.sign(directions[largest, np.arange(directions.shape[1])])
    return directions * np.where(sign == 0, 1.0, sign)
