"""Measure how soon the noising slider's image follows a key, in real JupyterLab in a headless Chromium.

    python benchmarks/slider.py [presses]

Two clocks. "drawn": from the key event's own time stamp to the first animation frame in which the image shows another
frame. "presented": the browser's Event Timing, from the key to the next paint, in steps of 8 ms; it
leaves out presses that took less than 16 ms, so its median is too high rather than too low.
"""

import statistics
import sys
import tempfile
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tools")]

import binaries  # noqa: E402
import browsing  # noqa: E402
from canonical import METADATA  # noqa: E402

CELL = """from diffusion_lib.teaching.registry import explorers

next(factory for factory in explorers() if factory.__name__ == "noising")()"""
WATCH = """figure => { window.drawn = []; window.presented = [];
    const image = () => figure.querySelector('.explorer-image img:last-child').style.transform;
    figure.addEventListener('keydown', event => {
        const before = image();
        const look = () => image() === before ? requestAnimationFrame(look)
            : window.drawn.push(performance.now() - event.timeStamp);
        requestAnimationFrame(look);
    }, true);
    const keep = list => list.getEntries().forEach(
        entry => entry.name === 'keydown' && window.presented.push(entry.duration));
    new PerformanceObserver(keep).observe({type: 'event', durationThreshold: 16});
}"""


def measure(chromium: str, presses: int) -> dict[str, list[float]]:
    """Return the milliseconds of every press by clock."""
    with (
        tempfile.TemporaryDirectory() as folder,
        browsing.running_lab(Path(folder)) as lab,
        browsing.running_browser(chromium) as browser,
    ):
        nbformat.write(
            new_notebook(cells=[new_code_cell(CELL, id="slider")], metadata=METADATA), lab.root / "slider.ipynb"
        )
        page = browser.new_context(viewport=browsing.VIEW).new_page()
        browsing.open_notebook(page, lab, "slider.ipynb")
        browsing.run_all(page)
        figure = browsing.show_cell(page, 0).locator("figure.diffusion-explorer")
        browsing.wait_until_drawn(figure)
        figure.evaluate(WATCH)
        figure.get_by_role("slider", name="time t").focus()
        for k in range(presses):
            page.keyboard.press("ArrowRight" if k // 8 % 2 == 0 else "ArrowLeft")
            page.wait_for_function("n => window.drawn.length === n", arg=k + 1)
        page.wait_for_timeout(200)
        return page.evaluate("() => ({drawn: window.drawn, presented: window.presented})")


def main() -> None:
    """The command line."""
    times = measure(binaries.chromium() or sys.exit("no Chromium found"), int([*sys.argv, "40"][1]))
    for clock, values in times.items():
        if values:
            middle, worst = statistics.median(values), sorted(values)[int(0.9 * (len(values) - 1))]
            print(f"{clock}: median {middle:.1f} ms, nine in ten within {worst:.1f} ms, {len(values)} presses")


if __name__ == "__main__":
    main()
