"""Lesson 02's explorers against routes of their own."""

import pytest

from diffusion_lib.lessons.networks.explorers import scaled


def test_the_factor_scales_the_standard_deviation():
    one, two = (float(scaled().description(a=a).split()[-1].rstrip(".")) for a in (1.0, 2.0))
    assert two == pytest.approx(2 * one, rel=0.01)
