"""A run directory: manifest, checkpoint format, metrics, environment."""

from difformer.runs.directory import RunDirectory

__all__ = ["RunDirectory"]
