"""Configuration, objectives, metrics and the trainer."""
