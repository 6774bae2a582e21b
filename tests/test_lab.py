"""The explorers in a real browser: in JupyterLab before anything is run and after, and in exported pages offline."""

import io
from pathlib import Path

import explorers_in_browser as browsing
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image, ImageDraw

from diffusion_lib.teaching.frames import rasterise
from notebooks import canonical, run, text_of

pytestmark = pytest.mark.browser
LESSONS = browsing.lessons_with_explorers()
SMALL_SCREEN = 823  # pixels that JupyterLab, its file list open, leaves to a lesson's text in a window 1280 wide
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)

SMALL = """
import torch
from diffusion_lib.data import picture
from diffusion_lib.teaching.explorer import Control, Explorer
from diffusion_lib.teaching.style import new_figure, show_image

def show(t, shift, name, own):
    x = torch.linspace(-1, 1, 8).repeat(8, 1) if own is None else picture(own, 8)[0]
    figure, (axes,) = new_figure(2.4, 2.4)
    show_image(axes, (1 - t) * x + shift, name)
    what = "ramp" if own is None else f"own picture of {len(own)} bytes"
    return figure, f"{name}: t = {t}, shift = {shift}, {what}."

controls = [
    Control("t", "time t", (0.0, 0.5, 0.75), form="t = {:.2f}"),
    Control("shift", "shift", (0, 1, 2), kind="live"),
    Control("name", "name", ("one", "two")),
    Control("own", "your own picture", kind="image"),
]
explorer = Explorer(show, controls)
explorer
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with browsing.running_lab(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="module")
def browser(chromium):
    with browsing.running_browser(chromium) as one:
        yield one


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport=browsing.VIEW)
    page = context.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    context.close()
    assert not problems, problems


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A stored notebook with one explorer that has every kind of control."""
    path = tmp_path_factory.mktemp("small") / "small.ipynb"
    notebook = new_notebook(
        cells=[new_code_cell(SMALL, id="explorer"), new_code_cell("explorer.values()", id="values")]
    )
    run(notebook, path.parent)
    path.write_text(text_of(canonical(notebook)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder of pictures: a good one, one turned by EXIF, and some that must be refused."""
    folder = tmp_path_factory.mktemp("pictures")
    good = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(good).ellipse((80, 20, 220, 180), fill="black")
    good.save(folder / "good.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    good.save(folder / "turned.jpg", exif=turned)
    good.convert("CMYK").save(folder / "cmyk.jpg")
    good.save(folder / "animated.png", save_all=True, append_images=[good.rotate(90)])
    good.save(folder / "other.gif")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:200])
    (folder / "text.png").write_text("no picture")
    Image.new("1", (10_000, 7_000)).save(folder / "bomb.png")
    Image.new("L", (10_000, 7_000)).save(folder / "bomb.jpg", quality=1)
    return folder


@each_lesson
def test_formulas_are_typeset_and_stored_explorers_move_before_anything_is_run(page, lab, lesson, record_count):
    name = browsing.place(lab, lesson)
    browsing.trust(lab, name)
    browsing.open_notebook(page, lab, name)
    count, wrong = browsing.formulas(page, SMALL_SCREEN)
    assert wrong == []
    record_count("formulas typeset in JupyterLab", count)
    for number in browsing.explorer_cells(lesson):
        figure = browsing.show_cell(page, number).locator("figure.diffusion-explorer")
        first = browsing.controls(figure)[0]
        assert browsing.change_after(figure, lambda first=first: browsing.move(first, None)), f"cell {number}"


@each_lesson
def test_every_control_moves_its_picture_after_a_run(page, lab, lesson, files, record_count):
    name = browsing.place(lab, lesson)
    browsing.open_notebook(page, lab, name)
    browsing.run_all(page)
    assert browsing.errors(page) == []
    for number in browsing.explorer_cells(lesson):
        figure = browsing.show_cell(page, number).locator("figure.diffusion-explorer")
        record_count("controls moved in JupyterLab", move_all(figure, files))
    assert browsing.errors(page) == []


@each_lesson
def test_exported_page_needs_no_kernel_and_no_network(browser, lesson, tmp_path, record_count):
    record_count("controls moved in exported pages", moved_in_page(browser, browsing.export(lesson, tmp_path)))


def test_exported_page_greys_the_live_controls(browser, small, tmp_path):
    assert moved_in_page(browser, browsing.export(small, tmp_path)) == 2  # of four


def test_exported_page_shows_the_figure_of_its_values(page, small, tmp_path):
    page.goto(browsing.export(small, tmp_path).as_uri())
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


def test_a_formula_that_fails_is_named(page, lab, tmp_path):
    lines = [r"fine: $x^2$", r"broken: $\frac{1}$", r"unknown: $\nonsense$", "open: 5$ or so", rf"$${'a+' * 80}b$$"]
    notebook = new_notebook(cells=[new_markdown_cell(line, id=f"line-{k}") for k, line in enumerate(lines)])
    (tmp_path / "formulas.ipynb").write_text(text_of(canonical(notebook)), encoding="utf-8")
    browsing.open_notebook(page, lab, browsing.place(lab, tmp_path / "formulas.ipynb"))
    number, wrong = browsing.formulas(page, SMALL_SCREEN)
    assert number == 4
    assert all(word in "\n".join(wrong) for word in ("frac", "nonsense", "5$", "pixels too wide: a")), wrong
    assert len(wrong) == 4


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
    assert move_all(figure, None) == 2
    assert figure.get_by_text("needs a running kernel").count() == 1


def test_live_explorer_of_every_kind(page, lab, small, files):
    name = browsing.place(lab, small)
    browsing.open_notebook(page, lab, name)
    browsing.run_all(page)
    figure = browsing.show_cell(page, 0).locator("figure.diffusion-explorer")
    assert move_all(figure, files) == 4
    assert browsing.alt_text(figure).startswith("two: t = 0.5, shift = 1, own picture")
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


def move_all(figure, files: Path) -> int:
    """Move every control that can be used; return how many; AssertionError where the picture stays."""
    browsing.wait_until_drawn(figure)
    usable = browsing.controls(figure)
    for control in usable:
        label = control.get_attribute("aria-label")
        act = lambda control=control: browsing.move(control, files and files / "good.png")  # noqa: E731
        assert browsing.change_after(figure, act), label
    return len(usable)


def moved_in_page(browser, path: Path) -> int:
    """Move every control of an exported page, opened from the disk without a network; return how many moved."""
    context = browser.new_context(viewport=browsing.VIEW, offline=True)
    page, asked, broken = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: broken.append(request.url))
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(path.as_uri())
    figures = page.locator("figure.diffusion-explorer")
    moved = sum(move_all(figures.nth(k), None) for k in range(figures.count()))
    for figure in figures.all():
        greyed = figure.locator("[data-control]:disabled").count()
        assert figure.get_by_text("needs a running kernel").count() == bool(greyed)
    context.close()
    assert not broken, broken
    assert not [url for url in asked if url.split(":")[0] not in ("file", "data", "blob")], asked
    return moved
