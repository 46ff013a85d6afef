"""Where instances stand in a graph, as features: whom each of them hears.

Shapes: N rows, F features, E edges, L known rows.
"""

from typing import Any

import numpy as np
from scipy import sparse

from difformer.data.instances import Features


def beside_neighbours(
    x: Features, edge_index: Any, edge_weight: Any, known: int
) -> sparse.csr_matrix:
    """Features (N, F) and, beside them, the weight with which each row hears each known one.

    In graphs where neighbours are often of another class, who they are says more than what they
    say (Lim et al., NeurIPS 2021).

    Args:
        x: Features, dense or CSR.
        edge_index: (2, E): known rows that send, rows of ``x`` that receive. Repeated edges add up.
        edge_weight: (E,), or None: 1 each.
        known: L.

    Returns:
        (N, F + L), float32, CSR. Cost O(N F + E).

    Example:
        >>> beside_neighbours(np.ones((2, 1)), np.array([[1], [0]]), None, 2).toarray().tolist()
        [[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    source, target = np.asarray(edge_index)
    weight = np.ones(len(source)) if edge_weight is None else np.asarray(edge_weight)
    shape = (x.shape[0], known)
    heard = sparse.csr_matrix((weight.astype(np.float32), (target, source)), shape=shape)
    return sparse.hstack([sparse.csr_matrix(x), heard], format="csr", dtype=np.float32)
