"""Figures: pure functions from arrays to ``matplotlib.figure.Figure``, one file per topic."""
