"""What the browser tests share: a JupyterLab and a browser for each file, a page for each test."""

from pathlib import Path

import binaries
import browsing
import pytest
from canonical import canonical, text_of
from kernels import run
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image, ImageDraw
from small_explorer import SMALL


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the browser's binary."""
    return binaries.chromium() or pytest.skip("no Chromium found: install it or set CHROMIUM to its path")


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A running JupyterLab."""
    with browsing.running_lab(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="session")
def browser(chromium):
    """A running browser."""
    with browsing.running_browser(chromium) as one:
        yield one


@pytest.fixture
def page(browser):
    """A page of its own, in which no script may fail."""
    context = browser.new_context(viewport=browsing.VIEW)
    page = context.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    context.close()
    assert not problems, problems


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """A stored notebook with one explorer that has every kind of control."""
    path = tmp_path_factory.mktemp("small") / "small.ipynb"
    notebook = new_notebook(
        cells=[new_code_cell(SMALL, id="explorer"), new_code_cell("explorer.values()", id="values")]
    )
    run(notebook, path.parent)
    path.write_text(text_of(canonical(notebook)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """A folder of images: a good one, one turned by EXIF, and some that must be refused."""
    folder = tmp_path_factory.mktemp("images")
    good = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(good).ellipse((80, 20, 220, 180), fill="black")
    good.save(folder / "good.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    good.save(folder / "turned.jpg", exif=turned)
    good.convert("CMYK").save(folder / "cmyk.jpg")
    good.save(folder / "animated.png", save_all=True, append_images=[good.rotate(90)])
    for k, form in enumerate(("gif", "webp", "bmp")):  # each another image: a change must be seen
        good.transpose(Image.Transpose(k)).convert("RGB" if form != "gif" else "L").resize(good.size).save(
            folder / f"other.{form}"
        )
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:200])
    (folder / "text.png").write_text("no image")
    Image.new("1", (10_000, 7_000)).save(folder / "bomb.png")
    Image.new("L", (10_000, 7_000)).save(folder / "bomb.jpg", quality=1)
    return folder
