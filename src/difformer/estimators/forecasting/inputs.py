"""What users give a forecaster, checked and brought into one form.

Letters: S steps, N nodes, F channels, K covariates, H horizon, E edges.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from difformer.data import signals
from difformer.data.windows import Floats, checked_series, filled
from difformer.diffusion import Diffusivity, Neighbourhood
from difformer.diffusion.graph import check_edges
from difformer.diffusion.penalty import resolve
from difformer.errors import ConfigError, DataError
from difformer.estimators.arrays import checked_edges
from difformer.estimators.forecasting.states import Edges

NEAR, FAR = 15, 10  # like nodes, and the one whose distance is the scale of their rates


def read_series(series: Any, edge_index: Any, edge_weight: Any) -> tuple[Floats, tuple[Edges, ...]]:
    """Values (S, N, F), and no graph, one, or one a step."""
    if signals.is_signal(series):
        values = signals.series_of(series)
        if edge_index is None:
            lags = signals.lags_of(series)
            edge_index, edge_weight = signals.graphs_of(series, lags, len(values))
    else:
        values = checked_series(series)
    return values, checked_graphs(edge_index, edge_weight, *values.shape[:2])


def carried(values: Floats) -> Floats:
    """Missing values as the last ones before them; NaN where there is none."""
    return filled(values, np.full(values.shape[1:], np.nan))


def scale_of(covariates: Floats) -> tuple[Floats, Floats]:
    """Mean and spread of each covariate, (K,)."""
    spread = covariates.std(axis=(0, 1))
    return covariates.mean(axis=(0, 1)), np.where(spread > 0, spread, 1.0)


def is_flat(series: Any) -> bool:
    """Whether it came without channels."""
    return signals.is_signal(series) or np.ndim(series) < 3


def names_of(series: Any, nodes: int) -> list[Any]:
    """Columns of a DataFrame, else numbers."""
    columns = getattr(series, "columns", None)
    return list(columns) if columns is not None and len(columns) == nodes else list(range(nodes))


def terms_of(diffusivity: Any, nodes: int, graph: bool) -> tuple[Diffusivity, ...]:
    """What windows listen to; with ``identity``, or alone, a node listens to nobody else.

    Raises:
        ConfigError: If a name is unknown, or the graph is wanted and there is none.
    """
    if diffusivity is None:
        names: list[Any] = ["graph"] if graph else []
        names += ["local", "simple"] if nodes > 1 else []
    else:
        names = list(diffusivity) if isinstance(diffusivity, (list, tuple)) else [diffusivity]
    terms = [_like_pasts(nodes) if name == "local" else resolve(name) for name in names]
    for term in terms:
        if term.support == "edges" and not graph:
            raise ConfigError(f"diffusivity {term.name!r} needs edge_index, found none.")
    return tuple(term for term in terms if term.name != "identity")


def _like_pasts(nodes: int) -> Diffusivity:
    """Nodes whose past runs alike."""
    near, far = min(NEAR, max(nodes - 1, 1)), min(FAR, max(nodes - 1, 1))
    rule = Neighbourhood(k=near, weights="self-tuned", bandwidth=far, self_loops=False)
    return resolve(rule)


def of_states(diffusivity: Any) -> Any:
    """For a network: ``local`` are states of a moment that are near each other."""
    near = Neighbourhood(k=NEAR, space="state")
    several = list(diffusivity) if isinstance(diffusivity, (list, tuple)) else [diffusivity]
    found = [near if name == "local" else name for name in several]
    return found if len(found) > 1 else found[0]


def checked_graphs(edge_index: Any, edge_weight: Any, steps: int, nodes: int) -> tuple[Edges, ...]:
    """None, one graph, or one a step."""
    if edge_index is None:
        checked_edges(None, edge_weight)
        return ()
    listed = isinstance(edge_index, (list, tuple)) and len(edge_index) > 0
    several = listed and np.ndim(edge_index[0]) == 2
    indices = list(edge_index) if several else [edge_index]
    weights = list(edge_weight) if several and edge_weight is not None else [edge_weight]
    if several and len(weights) == 1:
        weights *= len(indices)
    if len(indices) not in (1, steps) or len(weights) != len(indices):
        raise DataError(
            f"edge_index must be one graph or one for each of {steps} steps, with as many "
            f"edge_weight, found {len(indices)} and {len(weights)}."
        )
    found = []
    for pair in zip(indices, weights, strict=True):
        index, weight = checked_edges(*pair)
        check_edges(index, weight, nodes, nodes)
        assert index is not None
        found.append((index, None if weight is None else weight.double()))
    return tuple(found)


def checked_covariates(given: Any, shape: Sequence[int], horizon: int) -> Floats | None:
    """Checked covariates (S + H, N, K); what comes after the series is not known: zeros."""
    if given is None:
        return None
    steps, nodes = shape[:2]
    try:
        found = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"covariates must hold numbers, found something else ({error}).") from None
    if found.ndim == 2:
        found = np.repeat(found[:, None], nodes, axis=1)
    if found.ndim != 3 or found.shape[:2] != (steps, nodes) or not np.isfinite(found).all():
        raise DataError(
            f"covariates must be finite, of shape ({steps}, K) or ({steps}, {nodes}, K), found "
            f"{np.shape(given)}."
        )
    return np.concatenate([found, np.zeros((horizon, *found.shape[1:]))])
