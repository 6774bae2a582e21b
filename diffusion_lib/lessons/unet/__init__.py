"""Lesson 12, the U-Net: its figures and sliders, and a tracer of shapes and costs."""
