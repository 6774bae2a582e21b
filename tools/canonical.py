"""The form in which notebooks are stored: what a reader sees and nothing else, the same text for the same page."""

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
from nbformat import NotebookNode
from PIL import Image

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
FOLDED = "hide-input"  # the tag of a code cell whose input is folded: in JupyterLab, in exported pages, in the book
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
EMBEDDED = re.compile(r"(?<=data:image/)(png|webp);base64,([A-Za-z0-9+/=]+)")


def merged_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring pieces of one stream: how a stream is cut into messages is chance."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def canonical_output(output: NotebookNode) -> NotebookNode:
    """Drop the widget view, which is dead without its kernel; text/html and text/plain stay."""
    output = NotebookNode(output)
    if "data" in output:
        output.data = NotebookNode({kind: value for kind, value in output.data.items() if kind != WIDGET_VIEW})
        output.metadata = NotebookNode({kind: value for kind, value in output.metadata.items() if value})
    return output


def canonical_metadata(cell: NotebookNode) -> NotebookNode:
    """Return a cell's tags, and for the tag `hide-input` the field by which JupyterLab folds the input."""
    tags = cell.metadata.get("tags")
    folded = cell.cell_type == "code" and FOLDED in (tags or [])
    return NotebookNode(({"tags": tags} if tags else {}) | ({"jupyter": {"source_hidden": True}} if folded else {}))


def canonical_cell(cell: NotebookNode, number: int) -> NotebookNode:
    """Return a copy of a cell with its id and its tags and nothing else that its reader cannot see."""
    cell = NotebookNode(cell)
    cell.metadata = canonical_metadata(cell)
    cell.id = cell.get("id") or f"cell-{number}"
    if cell.cell_type == "code":
        cell.outputs = merged_streams([canonical_output(output) for output in cell.outputs])
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
    return cell


def canonical(notebook: NotebookNode) -> NotebookNode:
    """Return a copy in canonical form: minimal metadata, no widget state, no blank cells, no thread of chance."""
    cells = [canonical_cell(cell, i) for i, cell in enumerate(notebook.cells) if cell.source.strip()]
    return nbformat.from_dict({"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5})


def text_of(notebook: NotebookNode) -> str:
    """Return the file's text: sorted keys, one space of indent, a newline at the end."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


# ---- images: equal pixels keep their old bytes, which depend on the versions of matplotlib, Pillow and zlib


def pixels(encoded: str) -> np.ndarray:
    """Return the pixels of an image in base64, (H, W, 4)."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA"))


def same_image(left: str, right: str) -> bool:
    """Return whether two images in base64 have the same pixels."""
    return left == right or np.array_equal(pixels(left), pixels(right))


def kept(data: NotebookNode, old: NotebookNode) -> NotebookNode:
    """Return an output's data with each image that has the pixels of the old one in its place as it was stored."""
    data = NotebookNode(data)
    if {"image/png"} <= set(data) & set(old) and same_image(data["image/png"].strip(), old["image/png"].strip()):
        data["image/png"] = old["image/png"]
    before = EMBEDDED.findall(old.get("text/html", ""))
    if "text/html" in data and len(before) == len(EMBEDDED.findall(data["text/html"])):
        stored = iter(before)

        def choose(match: re.Match) -> str:
            form, encoded = next(stored)
            return f"{form};base64,{encoded}" if same_image(match[2], encoded) else match[0]

        data["text/html"] = EMBEDDED.sub(choose, data["text/html"])
    return data


def keep_images(notebook: NotebookNode, before: NotebookNode) -> None:
    """Put back, in place, the stored bytes of every image whose pixels have not changed since `before`."""
    stored = {cell.id: cell.outputs for cell in before.cells if cell.cell_type == "code"}
    for cell in notebook.cells:
        pairs = zip(cell.get("outputs", []), stored.get(cell.id, []), strict=False)
        for new, old in pairs:
            if "data" in new and "data" in old:
                new.data = kept(new.data, old.data)


# ---- what keeps a stored notebook from being canonical


def run_problems(notebook: NotebookNode) -> Iterator[str]:
    """Yield what shows that a notebook was not run cleanly from top to bottom."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        yield f"was not run top to bottom: execution counts are {counts}"
    for cell in code:
        kinds = {output.get("name", output.output_type) for output in cell.outputs}
        if "stderr" in kinds:
            text = "".join(output.text for output in cell.outputs if output.get("name") == "stderr")
            yield f"cell {cell.get('id')} writes to stderr: {text.strip()[:300]}"
        if "error" in kinds and "raises-exception" not in cell.metadata.get("tags", []):
            yield f"cell {cell.get('id')} holds an error"


def problems(path: Path) -> list[str]:
    """Return what keeps a stored notebook from being canonical; an empty list if nothing does."""
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    found = list(run_problems(notebook))
    if text_of(canonical(notebook)) != text:
        found.append("is not in canonical form: run `make notebooks`")
    return found
