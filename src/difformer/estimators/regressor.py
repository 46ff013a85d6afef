"""DIFFormerRegressor: numbers, one or several a row, from few known ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import Tags

from difformer.errors import DataError
from difformer.estimators.base import DIFFormerEstimator
from difformer.estimators.labels import encode_numbers
from difformer.estimators.targets import Numbers, Target


class DIFFormerRegressor(RegressorMixin, DIFFormerEstimator):  # type: ignore[misc]
    """Predict numbers of instances that depend on each other, from few known ones.

    Every row takes part in the diffusion; the rows whose number is known teach. Pass all rows to
    ``fit``, with NaN where it is not, and read ``transduction_``.

    Parameters
    ----------
    encoder : {"auto", "decoupled", "trained"}, default "auto"
        ``decoupled``: fixed local diffusion, a small readout, then diffusion of the labels; best
        with few labels. ``trained``: an encoder trained end to end. ``auto``: decoupled; but with
        edges, 500 known rows or more and nothing else set, that and up to four trained encoders
        are compared on a fifth of the known rows, and the best one is taken.
    diffusivity : str, Neighbourhood, Penalty or sequence of them, optional
        Default: neighbours in two spaces if decoupled, else ``"simple"`` (DIFFormer-s).
    options : dict, optional
        Further arguments of ``DecoupledDIFFormer`` or ``DIFFormer``, such as ``num_layers``. How
        strongly instances diffuse if decoupled (``source``, ``label_steps``, and whether edges are
        trusted) is chosen by cross-validation among the labelled rows, unless one of these is given
        here, there is a ``time_limit``, or there are more than 200,000 rows.
    training : dict, optional
        Settings of ``TrainingConfig``, such as ``epochs``.
    random_state : int, RandomState or None, default 0
        Seed of initial weights and training. Equal seeds give equal bits on equal thread counts;
        None draws one from numpy's global generator.
    time_limit : float, optional
        Seconds after which training stops with what it has. Then equal seeds no longer give equal
        bits, for how far it gets depends on the machine.
    verbose : bool, default False
        Show a progress bar on a terminal, and before it what training through the diffusion will
        need of memory.

    Attributes
    ----------
    transduction_ : ndarray (N,), or (N, T) if y was
        The predicted number of every fitted row; what is known stays as it is.
    embedding_ : ndarray (N, P)
        Last states of the fitted rows.
    n_features_in_, n_iter_ : int
    n_edges_left_out_ : int
        Edges that named an absent row (``node_id``).
    feature_names_in_ : ndarray (F,)
        Columns of X, if it was a DataFrame.
    history_ : list of dict
        One record an epoch.
    decisions_ : list of str
        What was decided by the labels, a sentence each.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> partly = np.where(np.arange(len(y)) % 5 == 0, y, np.nan)
    >>> model = DIFFormerRegressor().fit(X, partly)
    >>> model.predict(X[:2]).shape
    (2,)
    """

    _task = "tabular-regression"

    def _target(self, y: Any, rows: int) -> Target:
        if y is None:
            raise DataError(
                "DIFFormerRegressor requires y to be passed, but the target y is None: give a "
                "number for each row, NaN where it is unknown."
            )
        numbers = encode_numbers(y, rows)
        self._one_target = numbers.ndim == 1
        return Numbers.of(torch.from_numpy(numbers.reshape(rows, -1)))

    def _set_results(self) -> None:
        self.transduction_ = self._shaped(self._answers)

    def _shaped(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        return numbers[:, 0] if self._one_target else numbers

    def predict(
        self, X: Any, edge_index: Any = None, edge_weight: Any = None, node_id: Any = None
    ) -> NDArray[np.float64]:
        """Numbers of rows, (O,) or (O, T), each from the fitted rows alone.

        ``edge_index`` leads from fitted rows (row 0) to those of X (row 1); where ``fit`` was given
        names, it names both. A row that was fitted, with the same features and the same edges, is
        known: its answer is that of ``transduction_``, the mean where several are equal.
        """
        return self._shaped(self._of_rows("predict", X, edge_index, edge_weight, node_id))

    def _own_state(self) -> dict[str, Any]:
        return {"one_target": self._one_target}

    def _restore_own(self, saved: Mapping[str, Any]) -> None:
        self._one_target = bool(saved["one_target"])

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
