"""Lesson 10, the reverse process: its figures and sliders."""
