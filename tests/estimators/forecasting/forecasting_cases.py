"""Series and graphs for the tests of forecasting."""

import numpy as np
import torch

from difformer.estimators.forecasting.states import Past


def waves(steps=80, nodes=5, seed=0, noise=0.1):
    """Waves that travel from node to node, (S, N)."""
    t = np.arange(steps)[:, None] - 2 * np.arange(nodes)
    return np.sin(t / 4) + noise * np.random.default_rng(seed).normal(size=(steps, nodes))


def ring(nodes=5):
    """Each node hears the one before it, (2, N)."""
    return np.stack([np.arange(nodes), (np.arange(nodes) + 1) % nodes])


def past_of(steps=12, nodes=4, channels=2, seed=0, graphs=()):
    """A past in the forecaster's unit."""
    values = np.random.default_rng(seed).normal(size=(steps, nodes, channels))
    return Past(values, graphs=graphs)


def random_graph(nodes, edges, seed):
    """Directed, weighted, without self-loops."""
    draw = np.random.default_rng(seed)
    pairs = np.stack([draw.integers(0, nodes, edges), draw.integers(1, nodes, edges)])
    pairs[1] = (pairs[0] + pairs[1]) % nodes
    return torch.from_numpy(pairs), torch.from_numpy(draw.uniform(0.5, 2, edges))
