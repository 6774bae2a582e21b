"""Lesson 02: A network by hand."""
