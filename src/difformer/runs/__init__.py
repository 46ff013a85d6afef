"""A run directory: manifest, checkpoint format, metrics, environment."""
