"""The code below an explorer: folded until a reader asks for it, in JupyterLab and in an exported page."""

from pathlib import Path

import browsing
import pages
import pytest
from canonical import canonical, text_of
from kernels import run
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = pytest.mark.browser
SHOW = """from diffusion_lib.teaching import registry
from diffusion_lib.teaching.checks import source

source(registry.explorers()[0])"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """A stored notebook of one cell, which shows the code of an explorer."""
    path = tmp_path_factory.mktemp("folded") / "folded.ipynb"
    notebook = new_notebook(cells=[new_code_cell(SHOW, id="source")])
    run(notebook, path.parent)
    path.write_text(text_of(canonical(notebook)), encoding="utf-8")
    return path


def opens(page) -> None:
    """See one folded block of code that a click on its summary shows."""
    page.locator("details", has_text="The code behind these controls").wait_for(timeout=60 * browsing.SECOND)
    details = page.locator("details", has_text="The code behind these controls")
    code = details.get_by_text("@explorer")
    assert details.count() == 1 and code.count() >= 1 and not code.first.is_visible()
    details.locator("summary").click()
    assert code.first.is_visible()
    assert "def show(" in details.locator("pre").inner_text()
    assert "```" not in details.inner_text()


def test_in_jupyterlab_untrusted(page, lab, stored):
    browsing.open_notebook(page, lab, browsing.place(lab, stored))
    browsing.show_cell(page, 0)
    opens(page)


def test_in_an_exported_page(page, stored, tmp_path):
    page.goto(pages.export(stored, tmp_path).as_uri())
    opens(page)
