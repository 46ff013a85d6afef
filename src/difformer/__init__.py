"""Energy-constrained diffusion over sets and graphs."""

__version__ = "0.1.0"
