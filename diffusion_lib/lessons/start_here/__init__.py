"""Lesson 00, start here: the formulas of six papers, a figure of them, and its slider."""
