"""Lesson 11, the training objective: its figures and sliders."""
