"""Exported pages, opened from the disk without a network: their explorers move, and live controls are greyed."""

import io

import browsing
import numpy as np
import pages
import pytest
from PIL import Image
from small_explorer import SMALL

from diffusion_lib.teaching.frames import rasterise

pytestmark = pytest.mark.browser
each_lesson = pytest.mark.parametrize("lesson", browsing.lessons_with_explorers(), ids=lambda path: path.stem)


@each_lesson
def test_exported_page_needs_no_kernel_and_no_network(browser, lesson, tmp_path, record_count):
    record_count("controls moved in exported pages", browsing.moved_in_page(browser, pages.export(lesson, tmp_path)))


def test_exported_page_greys_the_live_controls(browser, small, tmp_path):
    assert browsing.moved_in_page(browser, pages.export(small, tmp_path)) == 2  # of four


def test_exported_page_shows_the_figure_of_its_values(page, small, tmp_path):
    page.goto(pages.export(small, tmp_path).as_uri())
    figure = page.locator("figure.diffusion-explorer")
    figure.get_by_role("slider", name="time t").press("ArrowRight")
    figure.get_by_role("combobox", name="name").press("ArrowDown")
    pixels, alt = browsing.shown(figure)
    scope = {}
    exec(SMALL, scope)
    assert alt == scope["explorer"].description(t=0.5, name="two")
    expected = rasterise(scope["explorer"].figure(t=0.5, name="two")).astype(int)
    found = np.asarray(Image.open(io.BytesIO(pixels)).convert("RGB"))[
        :192
    ]  # one line more where it lies between pixels
    inside = slice(6, -6)  # the corners are rounded
    assert np.abs(found - expected)[inside, inside].max() <= 2
    assert np.abs(found - rasterise(scope["explorer"].figure()))[inside, inside].max() > 50
