"""Notebooks as HTML pages that ask nothing of any server: sliders move, formulas are typeset, folded inputs open.

python tools/pages.py [notebook ...]           export stored notebooks, by default the whole course
python tools/pages.py --run notebook ...       run each from top to bottom first; the notebook itself stays as it is
python tools/pages.py --out FOLDER ...         where the pages go; by default build/pages
"""

import argparse
import html
import re
from pathlib import Path
from typing import Any

import nbformat
from canonical import FOLDED, canonical
from jinja2 import DictLoader, pass_context
from jinja2.runtime import Context
from kernels import ROOT, run
from latex2mathml.converter import convert
from nbconvert import HTMLExporter

STYLE = """<style>
math[display=block] { margin: 1em 0; }
mtd[columnalign=left] { text-align: left; }
mtd[columnalign=right] { text-align: right; }
.equation { position: relative; padding-right: 5em; overflow-x: auto; overflow-y: hidden; }
.equation > span { position: absolute; right: 0; top: 50%; transform: translateY(-50%); }
</style>"""
TEMPLATE = (
    "{% extends 'lab/index.html.j2' %}"
    "{% block html_head_css %}{{ super() }}" + STYLE + "{% endblock %}"
    "{% block input_group %}{% if '" + FOLDED + "' in cell.metadata.get('tags', []) %}"
    '<details class="folded-input"><summary style="margin-left: 76px">code</summary>{{ super() }}</details>'
    "{% else %}{{ super() }}{% endif %}{% endblock %}"
)
CODE = re.compile(r"(<pre.*?</pre>|<code.*?</code>)", re.DOTALL)
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$]+?)\$", re.DOTALL)
TAG = re.compile(r"\\tag\{([^}]*)\}")
# What latex2mathml does not know, delimiters behind \bigl and its like, and what it knows in its place
OTHERS = {r"\lVert": "‖", r"\rVert": "‖", r"\Vert": "‖", r"\lfloor": "⌊", r"\rfloor": "⌋"}
OTHERS |= {rf"\{end}{{aligned}}": rf"\{end}{{align*}}" for end in ("begin", "end")}
OTHER = re.compile("|".join(re.escape(name) + r"(?![a-zA-Z])" * name[-1].isalpha() for name in OTHERS))


def mathml(formula: str, display: bool) -> str:
    """Return a formula of LaTeX as MathML; a tag becomes the number at the right of a displayed one."""
    tags = TAG.findall(formula)
    plain = OTHER.sub(lambda match: OTHERS[match[0]], TAG.sub("", formula)).strip()
    found = convert(plain, display="block" if display else "inline")
    if not display:
        return found
    return f'<div class="equation">{found}{"".join(f"<span>({tag})</span>" for tag in tags)}</div>'


def typeset(page: str) -> str:
    """Return HTML with every formula between dollars, outside code, as MathML."""

    def one(match: re.Match) -> str:
        return mathml(html.unescape(match[1] or match[2]), display=bool(match[1]))

    return "".join(part if CODE.fullmatch(part) else FORMULA.sub(one, part) for part in CODE.split(page))


class Exporter(HTMLExporter):
    """nbconvert's, with formulas as MathML, which browsers typeset by themselves."""

    @pass_context
    def markdown2html(self, context: Context, source: str) -> str:
        """Return a Markdown cell as HTML."""
        return typeset(super().markdown2html(context, source))


def page(notebook: Any, title: str) -> str:
    """Return the HTML of a notebook that has been run."""
    exporter = Exporter(
        template_file="page.html.j2",
        extra_loaders=[DictLoader({"page.html.j2": TEMPLATE})],
        require_js_url="",
        mathjax_url="",
        mermaid_js_url="",
        jquery_url="",
    )
    return exporter.from_notebook_node(canonical(notebook), {"metadata": {"name": title}})[0]


def export(notebook: Path, folder: Path, *, first_run: bool = False) -> Path:
    """Write a notebook as a page into a folder, run first if asked to, and return the page's path."""
    found = nbformat.read(notebook, as_version=4)
    if first_run:
        run(found, notebook.parent)
    target = folder / f"{notebook.stem}.html"
    target.write_text(page(found, notebook.stem), encoding="utf-8")
    return target


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted((ROOT / "notebooks").glob("*.ipynb")))
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "pages")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    for notebook in options.notebooks:
        print(export(notebook.resolve(), options.out, first_run=options.run), flush=True)


if __name__ == "__main__":
    main()
