"""A stored notebook as one HTML page that asks nothing of any server; folded inputs are <details>."""

from pathlib import Path

from canonical import FOLDED
from jinja2 import DictLoader
from nbconvert import HTMLExporter

TEMPLATE = (
    "{% extends 'lab/index.html.j2' %}"
    "{% block input_group %}{% if '" + FOLDED + "' in cell.metadata.get('tags', []) %}"
    '<details class="folded-input"><summary style="margin-left: 76px">code</summary>{{ super() }}</details>'
    "{% else %}{{ super() }}{% endif %}{% endblock %}"
)


def page(notebook: Path) -> str:
    """Return the HTML of a stored notebook."""
    exporter = HTMLExporter(
        template_file="page.html.j2",
        extra_loaders=[DictLoader({"page.html.j2": TEMPLATE})],
        require_js_url="",
        mathjax_url="",
        mermaid_js_url="",
        jquery_url="",
    )
    return exporter.from_filename(str(notebook))[0]


def export(notebook: Path, folder: Path) -> Path:
    """Write a stored notebook as a page into a folder and return the page's path."""
    target = folder / f"{notebook.stem}.html"
    target.write_text(page(notebook), encoding="utf-8")
    return target
