"""Lesson 14, DDIM: its figures and sliders."""
