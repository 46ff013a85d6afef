"""Instances in, never models: the container, readers, splits, neighbours, data sets."""
