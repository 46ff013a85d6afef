"""The physics: penalties, energies and the exact diffusion paths. Pure functions on torch tensors."""
