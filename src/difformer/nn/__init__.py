"""Trainable modules with torch_geometric signatures."""
