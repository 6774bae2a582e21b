"""Lesson 09, the forward process: its figures and sliders."""
