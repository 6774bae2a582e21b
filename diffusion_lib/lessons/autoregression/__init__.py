"""Lesson 01: Autoregression and Markov chains."""
