"""Lesson 12, the U-Net: its figures, its explorers, and the networks that lack a part."""
