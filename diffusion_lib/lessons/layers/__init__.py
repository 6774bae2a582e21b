"""Lesson 03: Convolution, normalisation, resampling."""
