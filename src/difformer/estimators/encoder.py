"""DIFFormerEncoder: states of instances that depend on each other, with labels or without."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch

from difformer.estimators.base import DIFFormerEstimator
from difformer.estimators.labels import encode_labels
from difformer.estimators.targets import Classes, Nothing, Target


class DIFFormerEncoder(DIFFormerEstimator):
    """Embed instances that depend on each other.

    Without labels, features diffuse over neighbours and the observed graph (``decoupled``, nothing
    is learnt). With labels an encoder is trained, and its last states are the embedding
    (``trained``).

    Parameters
    ----------
    encoder : {"decoupled", "trained"}, default "decoupled"
        ``decoupled``: fixed local diffusion; labels change nothing. ``trained``: an encoder trained
        end to end, which needs labels.
    diffusivity : str, Neighbourhood, Penalty or sequence of them, optional
        Default: neighbours in two spaces if decoupled, else ``"simple"`` (DIFFormer-s).
    options : dict, optional
        Further arguments of ``DecoupledDIFFormer`` or ``DIFFormer``, such as ``num_layers``.
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
    embedding_ : ndarray (N, P)
        Last states of the fitted rows.
    n_features_in_, n_iter_ : int
    n_edges_left_out_ : int
        Edges that named an absent row (``node_id``).
    feature_names_in_ : ndarray (F,)
        Columns of X, if it was a DataFrame.
    history_ : list of dict
        One record an epoch.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, _ = load_iris(return_X_y=True)
    >>> DIFFormerEncoder().fit_transform(X).shape
    (150, 5)
    """

    def __init__(
        self,
        encoder: str = "decoupled",
        diffusivity: Any = None,
        *,
        options: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        time_limit: float | None = None,
        verbose: bool = False,
    ) -> None:
        self.encoder = encoder
        self.diffusivity = diffusivity
        self.options = options
        self.training = training
        self.random_state = random_state
        self.time_limit = time_limit
        self.verbose = verbose

    def fit(
        self,
        X: Any,
        y: Any = None,
        edge_index: Any = None,
        edge_weight: Any = None,
        node_id: Any = None,
    ) -> Self:
        """Fit on all rows.

        Parameters
        ----------
        X : array or CSR matrix, (N, F)
        y : array (N,), optional
        edge_index : int array (2, E), optional
            Row 0 sends, row 1 receives; give an undirected edge in both directions.
        edge_weight : array (E,), optional
            Not negative.
        node_id : array (N,), optional
            A name for each row, whole numbers or texts. Edges then name rows instead of counting
            them, and those that name an absent row are left out: so cross-validation may slice.

        Raises
        ------
        DataError
            If X, y or edges cannot be used.
        ConfigError
            If a parameter is not allowed.
        """
        return self._fit(X, y, edge_index, edge_weight, node_id)

    def _target(self, y: Any, rows: int) -> Target:
        if y is None or self.encoder == "decoupled":
            return Nothing(torch.zeros(rows))
        classes, encoded = encode_labels(y, rows)
        return Classes(torch.from_numpy(encoded), len(classes))

    def _set_results(self) -> None:
        """Nothing but states is asked of it."""
