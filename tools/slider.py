"""Take README's image, docs/slider.png: lesson 09 in JupyterLab, at its first slider."""

import sys
import tempfile
from pathlib import Path

import course
from kernels import ROOT

SCREEN = {"width": 1180, "height": 760}
TARGET = ROOT / "docs" / "slider.png"


def photograph(folder: Path) -> None:
    """Open the stored lesson in JupyterLab, go to its first slider, and write the window as an image."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import binaries  # both are for a Chromium, which the rest of these tools does not need
    import browsing

    path = course.NOTEBOOKS / course.find("09").notebook
    number = browsing.explorer_cells(path)[0]
    with browsing.running_browser(binaries.chromium()) as browser, browsing.running_lab(folder) as lab:
        page = browser.new_page(viewport=SCREEN)
        name = browsing.place(lab, path)
        browsing.trust(lab, name)
        browsing.open_notebook(page, lab, name)
        figure = browsing.show_cell(page, number).locator("figure.diffusion-explorer")
        browsing.wait_until_drawn(figure)
        page.screenshot(path=TARGET)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        photograph(Path(folder))
    print(f"look at {TARGET.relative_to(ROOT)}")
