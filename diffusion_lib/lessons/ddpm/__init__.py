"""Lesson 13, DDPM: its figures and its slider."""
