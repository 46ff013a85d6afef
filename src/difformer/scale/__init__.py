"""Many machines, or little memory, on an unchanged encoder. Empty for now."""
