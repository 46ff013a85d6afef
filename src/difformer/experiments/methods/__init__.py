"""Every method that a comparison may name: one table.

Each baseline is scikit-learn's, torch_geometric's or graphlearning's own class; networks go through
our trainer with the same rules for everybody. Adding one is an entry in the table of its file.
"""

from difformer.errors import one_of
from difformer.experiments.methods.classic import CLASSIC
from difformer.experiments.methods.graph_learning import GRAPH_LEARNING
from difformer.experiments.methods.method import Method
from difformer.experiments.methods.networks import NETWORKS
from difformer.experiments.methods.ours import OURS

METHODS: dict[str, Method] = {**OURS, **CLASSIC, **NETWORKS, **GRAPH_LEARNING}


def method(name: str) -> Method:
    """The row called ``name``; any other name is a ``ConfigError`` that lists all."""
    return METHODS[one_of(name, METHODS, "method")]


__all__ = ["METHODS", "Method", "method"]
