"""Features as the encoders want them: one scale, and not too wide.

Letters: N instances, F features, P kept directions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.preprocessing import normalize
from torch import Tensor

from difformer.data.instances import Features
from difformer.data.projection import Projection, pca
from difformer.errors import DataError
from difformer.nn.decoupled import ROW_NORM

WIDEST = 256  # more features than this are reduced to so many directions
NARROWEST = 16  # fewer dense features than this get a constant beside them


@dataclass(frozen=True)
class FeatureMap:
    """Scale rows to one length; reduce wide features first by an uncentred SVD.

    Few dense features get a constant column of their typical length first. The row then keeps, as
    an angle, the length that scaling would take away: two points on one ray stay apart.

    Attributes:
        width: F.
        constant: Value of the constant column, or None.
        projection: The directions, or None.
    """

    width: int
    constant: float | None
    projection: Projection | None

    @classmethod
    def fit(cls, x: Features) -> "FeatureMap":
        """Look at x (N, F), dense or CSR. Cost O(N F^2) for wide features, else O(N F)."""
        width = x.shape[1]
        if width > WIDEST:
            return cls(width, None, pca(normalize(x), WIDEST, centre=False))
        constant = None
        if width < NARROWEST and not sparse.issparse(x):
            constant = (
                float(np.sqrt(np.mean(np.sum(np.square(x, dtype=np.float64), axis=1)))) or 1.0
            )
        return cls(width, constant, None)

    def apply(self, x: Features) -> Tensor:
        """Rows of norm 4, float32, (N, P).

        Raises:
            DataError: If x does not have F columns.
        """
        if x.shape[1] != self.width:
            raise DataError(f"X must have {self.width} features as in fit, found {x.shape[1]}.")
        if self.projection is not None:
            rows = self.projection.apply(normalize(x))
        else:
            rows = x.toarray() if sparse.issparse(x) else np.asarray(x)
        if self.constant is not None:
            rows = np.column_stack([rows, np.full(len(rows), self.constant)])
        scaled = ROW_NORM * normalize(np.asarray(rows, dtype=np.float64))
        return torch.from_numpy(scaled.astype(np.float32))

    def tensors(self) -> dict[str, Tensor]:
        """Everything as tensors, for a file."""
        saved: dict[str, NDArray[np.float64]] = {"width": np.array([float(self.width)])}
        if self.constant is not None:
            saved["constant"] = np.array([self.constant])
        if self.projection is not None:
            saved["mean"] = self.projection.mean
            saved["directions"] = self.projection.directions
        return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in saved.items()}

    @classmethod
    def from_tensors(cls, saved: dict[str, Tensor]) -> "FeatureMap":
        """The reverse of :meth:`tensors`."""
        projection = None
        if "directions" in saved:
            projection = Projection(saved["mean"].numpy(), saved["directions"].numpy())
        constant = float(saved["constant"]) if "constant" in saved else None
        return cls(int(saved["width"]), constant, projection)
