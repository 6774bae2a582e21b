"""Explorers where a viewer runs copies of an output's scripts, put at the output's end, as VS Code does."""

from pathlib import Path

import browsing
import nbformat
import pytest
from matplotlib.figure import Figure

from diffusion_lib.teaching.explorer import Control, Explorer

pytestmark = pytest.mark.browser
LESSONS = browsing.lessons_with_explorers()
# All three leave the html in one <div class=output>. In a page, scripts run as they are read; by innerHTML, not at all.
WAYS = {
    "in a page": """html => document.write(`<!DOCTYPE html><div class=output>${html}</div>`)""",
    "copies at the end": """html => {
        const output = document.body.appendChild(document.createElement('div'));
        output.className = 'output';
        output.innerHTML = html;
        for (const old of [...output.querySelectorAll('script')]) {
            const script = document.createElement('script');
            script.text = old.text;
            output.appendChild(script);
        } }""",
    "copies at the end, each taken out again": """html => {
        const output = document.body.appendChild(document.createElement('div'));
        output.className = 'output';
        output.innerHTML = html;
        for (const old of [...output.querySelectorAll('script')]) {
            const script = document.createElement('script');
            script.text = old.text;
            output.appendChild(script).remove();
        } }""",
    "copies in a module, where document.currentScript is null": """async html => {
        const output = document.body.appendChild(document.createElement('div'));
        output.className = 'output';
        output.innerHTML = html;
        for (const old of [...output.querySelectorAll('script')]) await new Promise(done => {
            const script = document.createElement('script');
            script.type = 'module';
            window.ran = done;
            setTimeout(done, 2000); // where the script fails
            script.text = old.text + ';window.ran()';
            output.appendChild(script);
        }) }""",
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def small(name: str) -> str:
    """The html of an explorer with a slider and a list, of four frames."""

    def show(t, size):
        figure = Figure(figsize=(2, 1), dpi=80)
        figure.add_axes((0, 0, 1, 1)).bar([0, 1], [t + 1, size], color=(0.2, 0.4 * size / 2, 0.6))
        return figure, f"{name} at t = {t}, size {size}."

    return Explorer(show, [Control("t", "time t", (0, 1)), Control("size", "size", (1, 2))]).html()


def stored(path: Path) -> list[str]:
    """Return the html of every explorer stored in a notebook."""
    return [
        "".join(output.data["text/html"])
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", [])
        if "data-explorer=" in output.get("data", {}).get("text/html", "")
    ]


def moves(figure) -> bool:
    """Move the first control and tell whether the image and its alt text follow."""
    first = browsing.controls(figure)[0]
    return browsing.change_after(figure, lambda: browsing.move(first, Path()))


@each_way
def test_one_explorer(page, way):
    page.evaluate(way, small("one"))
    figures = page.locator(".output > figure.diffusion-explorer")
    assert figures.count() == 1 and moves(figures.first)
    assert browsing.alt_text(figures.first) == "one at t = 1, size 1."


@each_way
def test_two_explorers_in_one_output_each_with_its_own_frames(page, way):
    page.evaluate(way, small("first") + "<p>Words.</p>" + small("second"))
    figures = page.locator(".output > figure.diffusion-explorer")
    assert figures.count() == 2
    assert moves(figures.nth(1))
    said = [browsing.alt_text(figures.nth(k)) for k in (0, 1)]
    assert said == ["first at t = 0, size 1.", "second at t = 1, size 1."]
    assert moves(figures.nth(0)) and browsing.controls(figures.nth(0))[1].count() == 1


@each_way
def test_two_outputs_and_a_script_that_runs_once_more(page, way):
    """As where a viewer runs a script as it is read and then a copy of it: nothing is drawn twice, nothing raises."""
    page.evaluate(way, small("first"))
    page.evaluate(WAYS["copies at the end"], small("second"))
    page.evaluate("""() => { for (const old of [...document.querySelectorAll('.output script')]) {
        const script = document.createElement('script');
        script.text = old.text;
        old.parentNode.appendChild(script);
    } }""")
    figures = page.locator(".output > figure.diffusion-explorer")
    assert figures.count() == 2 and page.locator(".explorer-controls").count() == 2
    assert moves(figures.nth(0)) and moves(figures.nth(1))


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_every_stored_explorer(page, lesson, record_count):
    for html in stored(lesson):
        page.evaluate(WAYS["copies at the end"], html)
    figures = page.locator(".output > figure.diffusion-explorer")
    assert figures.count() == len(stored(lesson))
    for figure in figures.all():
        assert moves(figure)
    record_count("stored explorers moved where scripts are re-created", figures.count())
