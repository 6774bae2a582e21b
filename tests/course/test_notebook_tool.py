"""tools/notebooks.py: what it stores is canonical, the same twice, from this interpreter and two threads."""

import base64
import io
import os
import sys

import canonical as form
import kernels
import nbformat
import pages
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

import notebooks as tool

WIDGET = """import ipywidgets
class Slider(ipywidgets.IntSlider):
    def _repr_mimebundle_(self, **kwargs):
        return {**super()._repr_mimebundle_(**kwargs), "text/html": "<b>seven</b>", "text/plain": "<Slider>"}
Slider(7)"""
FIGURE = """%matplotlib inline
from matplotlib.figure import Figure
figure = Figure()
_ = figure.subplots().plot([1, 2])
figure"""
SETTINGS = """import os, sys, torch
print(sys.executable)
print(torch.get_num_threads(), os.environ["TQDM_DISABLE"], os.getcwd())"""
STREAMS = """print("a", flush=True)
print("b")"""


@pytest.fixture
def stored(tmp_path):
    """Store a notebook of the given sources; return its path."""

    def write(*sources: str, metadata: dict | None = None):
        cells = [new_code_cell(source, id=f"given-{i}") for i, source in enumerate(sources)]
        cells.insert(0, new_markdown_cell("# Words", id="words", metadata={"editable": True}))
        path = tmp_path / "given.ipynb"
        nbformat.write(new_notebook(cells=[*cells, new_code_cell(" ", id="blank")], metadata=metadata or {}), path)
        tool.store(path)
        return path

    return write


def test_what_is_stored_is_canonical_and_the_same_twice(stored, tmp_path):
    path = stored(SETTINGS, STREAMS, WIDGET, FIGURE, metadata={"kernelspec": {"name": "ghost", "display_name": "x"}})
    assert form.problems(path) == []
    first = path.read_bytes()
    tool.store(path)
    assert path.read_bytes() == first
    assert first.endswith(b"}\n")
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata == form.METADATA
    assert [cell.id for cell in notebook.cells] == ["words", "given-0", "given-1", "given-2", "given-3"]
    settings, streams, widget, figure = (cell.outputs for cell in notebook.cells[1:])
    assert settings[0].text == f"{sys.executable}\n2 1 {tmp_path}\n"
    assert [output.text for output in streams] == ["a\nb\n"]
    assert [dict(output.data) for output in widget] == [{"text/html": "<b>seven</b>", "text/plain": "<Slider>"}]
    assert [set(output.data) for output in figure] == [{"image/png", "text/plain"}]


@pytest.mark.parametrize(
    ("source", "message"),
    [("import sys; print('careful', file=sys.stderr)", "careful"), ("import warnings; warnings.warn('old')", "old")],
)
def test_a_cell_that_writes_to_stderr_is_not_stored(stored, source, message, tmp_path):
    with pytest.raises(SystemExit, match=f"writes to stderr.*{message}"):
        stored(source)
    assert nbformat.read(tmp_path / "given.ipynb", as_version=4).cells[1].execution_count is None


def test_a_cell_that_raises_is_not_stored(stored, tmp_path):
    with pytest.raises(Exception, match="ZeroDivisionError"):
        stored("1 / 0")
    assert nbformat.read(tmp_path / "given.ipynb", as_version=4).cells[1].execution_count is None


def test_canonical_form_drops_what_a_reader_cannot_see():
    cell = new_code_cell("1", id="one", execution_count=1, metadata={"collapsed": True, "tags": ["keep"]})
    cell.outputs = [
        new_output("stream", text="a"),
        new_output("stream", text="b"),
        new_output("stream", name="stderr", text="c"),
        new_output("execute_result", data={"text/plain": "1", form.WIDGET_VIEW: {}}, execution_count=9),
    ]
    given = new_notebook(cells=[cell, new_code_cell("\n")], metadata={"widgets": {"state": {}}, "authors": []})
    notebook = form.canonical(given)
    assert notebook.metadata == form.METADATA
    assert len(notebook.cells) == 1
    assert notebook.cells[0].metadata == {"tags": ["keep"]}
    assert [output.get("text") for output in notebook.cells[0].outputs] == ["ab", "c", None]
    assert notebook.cells[0].outputs[2].execution_count == 1
    assert notebook.cells[0].outputs[2].data == {"text/plain": "1"}


def test_check_says_what_is_wrong_and_fails(tmp_path, capsys):
    path = tmp_path / "wrong.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1", id="one")]), path)
    assert tool.main(["check", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "was not run top to bottom: execution counts are [None]" in printed
    assert "is not in canonical form" in printed


def test_a_kernel_starts_with_two_threads_no_bars_no_network_and_no_settings_of_the_user(monkeypatch):
    for name in ("TQDM_DISABLE", "PYTHONPATH", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("DIFFUSION_LIB_FRAMES", "skip")
    environment = kernels.kernel_environment(2, "/nowhere")
    assert environment["PYTHONPATH"] == str(kernels.ROOT / "tests" / "support" / "offline")
    assert (environment["TQDM_DISABLE"], environment["OMP_NUM_THREADS"]) == ("1", "2")
    assert environment["IPYTHONDIR"] == "/nowhere"
    assert not {"MPLBACKEND", "DIFFUSION_LIB_FRAMES"} & environment.keys()
    monkeypatch.setenv("PYTHONPATH", "given")
    assert kernels.kernel_environment(1, "/nowhere")["PYTHONPATH"].endswith("offline" + os.pathsep + "given")


# ---- folding


def test_the_tag_folds_a_cells_input_and_nothing_else_does():
    folded = new_code_cell("1", id="one", metadata={"tags": [form.FOLDED], "jupyter": {"outputs_hidden": True}})
    plain = new_code_cell("1", id="two", metadata={"jupyter": {"source_hidden": True}})
    words = new_markdown_cell("x", id="three", metadata={"tags": [form.FOLDED]})
    metadata = [cell.metadata for cell in form.canonical(new_notebook(cells=[folded, plain, words])).cells]
    assert metadata == [
        {"tags": [form.FOLDED], "jupyter": {"source_hidden": True}},
        {},
        {"tags": [form.FOLDED]},
    ]


def test_an_exported_page_folds_the_same_cells(tmp_path):
    cells = [
        new_code_cell("folded = 1", id="one", metadata={"tags": [form.FOLDED]}),
        new_code_cell("open = 2", id="two"),
    ]
    path = tmp_path / "page.ipynb"
    nbformat.write(form.canonical(new_notebook(cells=cells)), path)
    page = pages.export(path, tmp_path).read_text()
    before, _, rest = page.partition('<details class="folded-input"><summary style="margin-left: 76px">code</summary>')
    inside, _, after = rest.partition("</details>")
    assert "<details" not in after
    assert "folded" in inside
    assert "open" not in inside
    assert "open" in after
    assert "folded</span>" not in before


# ---- images keep their bytes


def png(colour: str, optimize: bool) -> str:
    buffer = io.BytesIO()
    image = Image.new("RGB", (40, 30), "white")
    image.paste(colour, (5, 5, 20, 20))
    image.save(buffer, "PNG", optimize=optimize, compress_level=9 if optimize else 1)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(("colour", "stays"), [("red", True), ("blue", False)])
def test_equal_pixels_keep_their_stored_bytes(colour, stays):
    old, new = png("red", True), png(colour, False)
    assert old != new
    before, after = (
        new_notebook(
            cells=[
                new_code_cell(
                    "x",
                    id="x",
                    outputs=[
                        new_output("display_data", data={"image/png": data + "\n", "text/plain": "figure"}),
                        new_output("display_data", data={"text/html": f"<img src='data:image/png;base64,{data}'>{k}"}),
                    ],
                )
            ]
        )
        for k, data in enumerate((old, new))
    )
    form.keep_images(after, before)
    image, html = after.cells[0].outputs
    assert image.data["image/png"] == (old if stays else new) + "\n"
    assert html.data["text/html"] == f"<img src='data:image/png;base64,{old if stays else new}'>1"


def test_a_new_cell_and_another_number_of_images_are_left_alone():
    old, new = png("red", True), png("red", False)
    html = f"data:image/png;base64,{new} data:image/png;base64,{new}"
    before = new_notebook(
        cells=[new_code_cell("x", id="x", outputs=[new_output("display_data", data={"text/html": old})])]
    )
    after = new_notebook(
        cells=[
            new_code_cell("x", id="x", outputs=[new_output("display_data", data={"text/html": html})]),
            new_code_cell("y", id="y", outputs=[new_output("display_data", data={"image/png": new})]),
        ]
    )
    form.keep_images(after, before)
    assert after.cells[0].outputs[0].data["text/html"] == html
    assert after.cells[1].outputs[0].data["image/png"] == new


# ---- seconds, bytes, seeds


def test_what_is_stored_is_told_in_seconds_and_bytes(tmp_path):
    (tmp_path / "one.ipynb").write_bytes(b"x" * 1500)
    line = tool.stored_line(tmp_path / "one.ipynb", {"setup": 1.25, "quick": 0.01})
    assert line == "stored one.ipynb in 1.3 s, 2 kB, 998,500 bytes left; seconds a cell: setup 1.2"


def test_a_lesson_under_another_seed_lists_each_claim_that_fails(tmp_path):
    lines = [
        "import os\nseed = int(os.environ.get('COURSE_SEED', 0))",
        "assert seed < 2, f'claim is false: {seed} < 2'",
        "seed",
    ]
    path = tmp_path / "one.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(line, id=f"c{k}") for k, line in enumerate(lines)]), path)
    assert tool.failed_claims(path, 1) == []
    assert tool.failed_claims(path, 2) == ["cell c1: AssertionError: claim is false: 2 < 2"]
