"""tools/notebooks.py: what it stores is canonical, the same twice, from this interpreter and two threads."""

import os
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

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
    assert tool.problems(path) == []
    first = path.read_bytes()
    tool.store(path)
    assert path.read_bytes() == first
    assert first.endswith(b"}\n")
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata == tool.METADATA
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
        new_output("execute_result", data={"text/plain": "1", tool.WIDGET_VIEW: {}}, execution_count=9),
    ]
    given = new_notebook(cells=[cell, new_code_cell("\n")], metadata={"widgets": {"state": {}}, "authors": []})
    notebook = tool.canonical(given)
    assert notebook.metadata == tool.METADATA
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
    environment = tool.kernel_environment(2, "/nowhere")
    assert environment["PYTHONPATH"] == str(tool.ROOT / "tests" / "offline")
    assert (environment["TQDM_DISABLE"], environment["OMP_NUM_THREADS"]) == ("1", "2")
    assert environment["IPYTHONDIR"] == "/nowhere"
    assert not {"MPLBACKEND", "DIFFUSION_LIB_FRAMES"} & environment.keys()
    monkeypatch.setenv("PYTHONPATH", "given")
    assert tool.kernel_environment(1, "/nowhere")["PYTHONPATH"].endswith("offline" + os.pathsep + "given")
