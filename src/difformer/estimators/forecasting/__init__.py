"""Forecasting: states, readouts, networks, intervals and reference points."""
