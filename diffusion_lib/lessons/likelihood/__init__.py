"""Lesson 04: Likelihood and divergence."""
