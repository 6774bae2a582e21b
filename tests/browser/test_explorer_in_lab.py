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


def test_a_notebook_that_was_run_and_saved_opens_again_with_its_explorers(page, lab, small):
    """The next day its kernel is gone: stored sliders move, and nothing says "model not found"."""
    name = browsing.place(lab, small)
    browsing.open_notebook(page, lab, name)
    browsing.run_all(page)
    figure = browsing.show_cell(page, 0).locator("figure.diffusion-explorer")
    browsing.wait_until_drawn(figure)
    browsing.save_and_shut_down(page)
    assert figure.locator("[data-control]:enabled").count() == 4  # the page that is open keeps its explorer
    figure.get_by_role("slider", name="shift").press("ArrowRight")
    figure.get_by_role("status").filter(has_text="run this cell again").wait_for(timeout=10 * browsing.SECOND)
    stored = (lab.root / name).read_text(encoding="utf-8")
    assert "data-explorer=" in stored and "widget-view" not in stored
    browsing.open_notebook(page, lab, name)
    figure = browsing.show_cell(page, 0).locator("figure.diffusion-explorer")
    assert browsing.move_all(figure, None) == 2
    assert figure.get_by_text("needs a running kernel").is_visible()
    assert "model not found" not in page.content()


def test_a_restarted_kernel_greys_the_live_controls_until_the_cell_is_run_again(page, lab, small):
    name = browsing.place(lab, small)
    browsing.open_notebook(page, lab, name)
    browsing.run_all(page)
    figure = browsing.show_cell(page, 0).locator("figure.diffusion-explorer")
    slider, shift = (figure.get_by_role("slider", name=label) for label in ("time t", "shift"))
    note = figure.get_by_text("needs a running kernel")
    assert browsing.change_after(figure, lambda: shift.press("ArrowRight"))
    assert browsing.change_after(figure, lambda: slider.press("ArrowRight"))  # its whole sheet has come
    assert note.is_hidden() and shift.is_enabled()
    browsing.restart(page)
    note.wait_for()
    assert shift.is_disabled() and figure.locator("input[type=file]").is_disabled()
    assert browsing.change_after(figure, lambda: slider.press("ArrowRight"))  # what has come stays and moves
    assert browsing.alt_text(figure) == "one: t = 0.75, shift = 1, ramp."
    figure.get_by_role("combobox", name="name").press("ArrowDown")  # this was never drawn at shift = 1
    browsing.wait_until_drawn(figure)
    assert browsing.alt_text(figure) == "two: t = 0.75, shift = 0, ramp."
    browsing.run_cells(page, [0])
    figure = browsing.show_cell(page, 0).locator("figure.diffusion-explorer")
    assert browsing.change_after(figure, lambda: figure.get_by_role("slider", name="shift").press("ArrowRight"))


def test_a_file_of_the_same_name_is_taken_again(page, lab, small, files, tmp_path):
    """Draw, save, upload; correct, save, upload."""
    name = browsing.place(lab, small)
    browsing.open_notebook(page, lab, name)
    browsing.run_all(page)
    figure = browsing.show_cell(page, 0).locator("figure.diffusion-explorer")
    browsing.wait_until_drawn(figure)
    for drawing in ("good.png", "turned.jpg"):
        (tmp_path / "drawing.png").write_bytes((files / drawing).read_bytes())
        with page.expect_file_chooser() as chooser:
            figure.locator("input[type=file]").click()
        assert browsing.change_after(figure, lambda c=chooser: c.value.set_files(tmp_path / "drawing.png")), drawing


def test_upload_takes_odd_pictures_and_refuses_bad_ones(page, lab, small, files):
    name = browsing.place(lab, small)
    browsing.open_notebook(page, lab, name)
    browsing.run_all(page)
    figure = browsing.show_cell(page, 0).locator("figure.diffusion-explorer")
    browsing.wait_until_drawn(figure)
    control, status = figure.locator("input[type=file]"), figure.get_by_role("status")
    words = dict.fromkeys(("cut.png", "text.png"), "your browser can read")
    words |= {"bomb.png": "60 megapixels", "bomb.jpg": "60 megapixels"}
    for file, word in words.items():
        control.set_input_files(files / file)
        status.filter(has_text=word).wait_for(timeout=10 * browsing.SECOND)
    sent = "import io; from PIL import Image; print(Image.open(io.BytesIO(explorer.value('own'))).size)"
    others = [(file, "(256, 171)") for file in ("other.gif", "other.webp", "other.bmp", "animated.png")]
    for file, size in (("good.png", "(256, 171)"), ("turned.jpg", "(171, 256)"), ("cmyk.jpg", "(256, 171)"), *others):
        assert browsing.change_after(figure, lambda file=file: control.set_input_files(files / file)), file
        assert status.text_content() == ""
        assert browsing.in_kernel(page, sent) == size
