"""Baselines, comparison, recipes and the results page."""
