"""One small explorer of every kind in JupyterLab: before anything is run and after, with files good and bad."""

import browsing
import pytest

pytestmark = pytest.mark.browser


def test_untrusted_notebook_shows_a_picture_and_a_trusted_one_moves(page, lab, small):
    name = browsing.place(lab, small)
    browsing.open_notebook(page, lab, name)
    cell = browsing.show_cell(page, 0)
    image = cell.locator("figure img")
    image.wait_for()
    assert image.get_attribute("alt") == "one: t = 0.0, shift = 0, ramp."
    assert image.evaluate("image => image.complete && image.naturalWidth") == 192
    assert cell.locator("[data-control]").count() == 0
    browsing.trust(lab, name)
    browsing.open_notebook(page, lab, name)
    figure = browsing.show_cell(page, 0).locator("figure.diffusion-explorer")
    assert browsing.move_all(figure, None) == 2
    assert figure.get_by_text("needs a running kernel").count() == 1


def test_live_explorer_of_every_kind(page, lab, small, files):
    name = browsing.place(lab, small)
    browsing.open_notebook(page, lab, name)
    browsing.run_all(page)
    figure = browsing.show_cell(page, 0).locator("figure.diffusion-explorer")
    assert browsing.move_all(figure, files) == 4
    assert browsing.alt_text(figure).startswith("two: t = 0.5, shift = 1, own image")
    slider = figure.get_by_role("slider", name="time t")
    assert slider.get_attribute("aria-valuetext") == "t = 0.50"
    assert browsing.in_kernel(page, "print(explorer.values())").startswith(
        "{'t': 0.5, 'shift': 1, 'name': 'two', 'own': b'\\x89PNG"
    )
    assert browsing.change_after(figure, figure.get_by_role("button", name="take it away").click)
    assert browsing.alt_text(figure) == "two: t = 0.5, shift = 1, ramp."
    assert browsing.errors(page) == []


def test_upload_takes_odd_pictures_and_refuses_bad_ones(page, lab, small, files):
    name = browsing.place(lab, small)
    browsing.open_notebook(page, lab, name)
    browsing.run_all(page)
    figure = browsing.show_cell(page, 0).locator("figure.diffusion-explorer")
    browsing.wait_until_drawn(figure)
    control, status = figure.locator("input[type=file]"), figure.get_by_role("status")
    words = {"animated.png": "animation", "other.gif": "neither", "cut.png": "readable", "text.png": "neither"}
    words |= {"bomb.png": "60 megapixels", "bomb.jpg": "60 megapixels"}
    for file, word in words.items():
        control.set_input_files(files / file)
        status.filter(has_text=word).wait_for(timeout=10 * browsing.SECOND)
    sent = "import io; from PIL import Image; print(Image.open(io.BytesIO(explorer.value('own'))).size)"
    for file, size in (("good.png", "(256, 171)"), ("turned.jpg", "(171, 256)"), ("cmyk.jpg", "(256, 171)")):
        assert browsing.change_after(figure, lambda file=file: control.set_input_files(files / file)), file
        assert status.text_content() == ""
        assert browsing.in_kernel(page, sent) == size
