"""DIFFormerEncoder: states of instances that depend on each other, with labels or without."""

from typing import Any

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
    encoder : {"auto", "decoupled", "trained"}, default "auto", which is decoupled
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
    decisions_ : list of str
        What was decided by the labels, a sentence each.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, _ = load_iris(return_X_y=True)
    >>> DIFFormerEncoder().fit_transform(X).shape
    (150, 5)
    """

    _task = "feature-extraction"
    _answering = "transform"

    def _target(self, y: Any, rows: int) -> Target:
        if y is None or self.encoder != "trained":
            return Nothing(torch.zeros(rows))
        classes, encoded = encode_labels(y, rows)
        return Classes(torch.from_numpy(encoded), len(classes))

    def _set_results(self) -> None:
        """Nothing but states is asked of it."""
