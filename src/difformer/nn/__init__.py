"""Trainable modules with torch_geometric signatures."""

from difformer.nn.context import FrozenContext
from difformer.nn.conv import DIFFormerConv
from difformer.nn.encoder import DIFFormer
from difformer.nn.graphs import GraphDIFFormer
from difformer.nn.trace import Trace

__all__ = ["DIFFormer", "DIFFormerConv", "FrozenContext", "GraphDIFFormer", "Trace"]
