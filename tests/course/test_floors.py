"""The house keeps its floors: imports run downward, few rooms touch files, everything stays small and explained."""

import ast
import importlib
import inspect
import statistics
import tokenize
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[2] / "diffusion_lib"
FILES = sorted(LIBRARY.rglob("*.py"))

# room -> the rooms that it may import, besides `arguments`, which every room may
FLOORS = {
    "arguments": set(),
    "gaussians": set(),
    "densities": {"gaussians"},
    "toys": {"densities"},
    "schedules": set(),
    "process": {"schedules"},
    "notation": {"schedules"},
    "denoisers": {"process", "schedules", "densities"},
    "samplers": {"denoisers", "process", "schedules"},
    "losses": {"process", "schedules"},
    "bound": {"losses", "process", "schedules", "gaussians"},
    "data": set(),
    "images": set(),
    "models": {"models"},
    "metrics": set(),
    "training": set(),
    "pretrained": {"models", "process", "schedules", "denoisers"},
    "teaching.checks": set(),
    "teaching.figures": {"teaching.figures"},
    "teaching.widgets": {"teaching.widgets", "teaching.figures", "teaching.checks", "samplers", "denoisers", "process"}
    | {
        "notation",
        "schedules",
        "gaussians",
        "densities",
        "toys",
        "losses",
        "bound",
        "data",
        "images",
        "models",
        "metrics",
    },
}
FILE_ROOMS = {"data", "images", "pretrained", "training", "__main__", "teaching.widgets"}
WIDGET_TOOLS = {"ipywidgets", "anywidget", "traitlets"}
OPENERS = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "urlopen", "urlretrieve", "imread", "memmap"}
OPENERS |= {"fromfile", "loadtxt", "savetxt", "savez", "mkdir", "unlink", "savefig"}
OPENING_MODULES = {"gzip", "tempfile", "shutil", "urllib", "requests", "socket", "zipfile", "tarfile", "sqlite3"}


def room_of(path: Path) -> str:
    """Return the room that a file belongs to: its module's first name, or its first two within `teaching`."""
    parts = path.relative_to(LIBRARY).with_suffix("").parts
    parts = tuple(part for part in parts if part != "__init__")
    return ".".join(parts[:2] if parts[:1] == ("teaching",) else parts[:1])


def imported(tree: ast.AST, package: tuple[str, ...]) -> set[str]:
    """Return the dotted names that a file imports, relative imports resolved against its `package`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def rooms_in(names: set[str]) -> set[str]:
    """Return the library's rooms among dotted names."""
    inside = [name.split(".")[1:] for name in names if name.split(".")[0] == "diffusion_lib"]
    return {".".join(name[:2] if name[0] == "teaching" else name[:1]) for name in inside if name}


def package_of(path: Path) -> tuple[str, ...]:
    """Return the dotted package that a file's relative imports start from."""
    return ("diffusion_lib", *path.relative_to(LIBRARY).parent.parts)


def floor_problems(text: str, room: str, package: tuple[str, ...]) -> list[str]:
    """Return the imports and file accesses of a module's text that its room may not have."""
    tree = ast.parse(text)
    names = imported(tree, package)
    tops = {name.split(".")[0] for name in names}
    found = []
    if room not in ("__main__", ""):
        allowed = FLOORS.get(room, set()) | {"arguments", "__version__"}
        found += [f"imports {other}" for other in sorted(rooms_in(names) - allowed - {room})]
    if room == "teaching.figures":
        found += [f"imports {name}" for name in sorted(names) if name.startswith(("torch", "matplotlib.pyplot"))]
    else:
        found += [f"imports {name}" for name in sorted(names) if name.startswith("matplotlib.pyplot")]
    if room != "teaching.widgets":
        found += [f"imports {name}" for name in sorted(tops & WIDGET_TOOLS)]
    if room not in FILE_ROOMS:
        found += [f"imports {name}" for name in sorted(tops & OPENING_MODULES)]
        found += [f"calls {name}" for name in sorted(called(tree) & OPENERS)]
    return found


def called(tree: ast.AST) -> set[str]:
    """Return the last names of everything that is called: `open` of `open(...)` and of `path.open(...)`."""
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {f.id for f in functions if isinstance(f, ast.Name)}
    names |= {f.attr for f in functions if isinstance(f, ast.Attribute)}
    return names | ({"open"} if {"torch.load", "torch.save"} & {ast.unparse(f) for f in functions} else set())


def code_lines(text: str) -> set[int]:
    """Return the numbers of the lines that hold code: no docstring, no comment, no blank line."""
    noise = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(iter(text.splitlines(keepends=True)).__next__):
        if token.type not in noise:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return lines - docstring_lines(ast.parse(text))


def docstring_lines(tree: ast.AST) -> set[int]:
    """Return the numbers of the lines of docstrings."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            lines |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    """Return every function and method of a module."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def public_functions(tree: ast.AST) -> list[ast.FunctionDef]:
    """Return the functions and methods without a leading underscore; a function within a function is private."""
    nested = {inner for f in functions(tree) for inner in ast.walk(f) if inner is not f}
    return [f for f in functions(tree) if f not in nested and not f.name.startswith("_")]


def function_lengths(text: str) -> dict[str, int]:
    """Return each function's number of code lines by name and line."""
    lines = code_lines(text)
    span = {f"{f.name}, line {f.lineno}": range(f.lineno, f.end_lineno + 1) for f in functions(ast.parse(text))}
    return {name: len(lines & set(rows)) for name, rows in span.items()}


def size_problems(text: str) -> list[str]:
    """Return what is too long in a module: over 250 lines of code, a function over 30, an __init__ over 40."""
    found = [f"{len(code_lines(text))} lines of code, over 250"] if len(code_lines(text)) > 250 else []
    for name, length in function_lengths(text).items():
        limit = 40 if name.startswith("__init__") else 30
        found += [f"{name}: {length} lines of code, over {limit}"] if length > limit else []
    return found


# `_repr_mimebundle_` is its base class's; the keywords of an Explorer's three methods are its controls' names.
KEYWORDS_OF_CONTROLS = {"_repr_mimebundle_", "choose", "figure", "description"}


def style_problems(text: str) -> list[str]:
    """Return public functions and classes without a docstring, `**kwargs`, inheritance beyond what is agreed."""
    tree = ast.parse(text)
    found = [] if ast.get_docstring(tree) else ["the module has no docstring"]
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    public = public_functions(tree) + [node for node in classes if not node.name.startswith("_")]
    found += [f"{node.name} has no docstring" for node in public if not ast.get_docstring(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.args.kwarg and node.name not in KEYWORDS_OF_CONTROLS:
            found.append(f"{node.name} takes **{node.args.kwarg.arg}")
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
            bases -= {"Module", "GroupNorm", "AnyWidget", "Protocol", "NamedTuple"}
            found += [f"{node.name} inherits {b}" for b in sorted(bases) if not b.endswith(("Error", "Exception"))]
    return found


def ids(path: Path) -> str:
    return path.relative_to(LIBRARY).as_posix()


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_imports_run_downward_and_few_rooms_touch_files(path):
    room = room_of(path)
    assert room in FLOORS or room in ("", "__main__", "teaching"), f"a new room, {room}, needs its floor in this test"
    assert floor_problems(path.read_text(encoding="utf-8"), room, package_of(path)) == []


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_files_and_functions_stay_small(path):
    assert size_problems(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_everything_public_is_explained(path):
    assert style_problems(path.read_text(encoding="utf-8")) == []


def test_the_library_can_be_read_in_an_afternoon(record_count):
    """`teaching/`, figures and sliders by topic, stands outside: it grows with every lesson, the library does not."""
    counted = [path for path in FILES if not room_of(path).startswith("teaching")]
    total = sum(len(code_lines(path.read_text(encoding="utf-8"))) for path in counted)
    record_count("lines of library code", total)
    assert total <= 2000


def test_the_median_function_has_at_most_six_lines():
    counted = [path for path in FILES if room_of(path) != "teaching.figures"]
    lengths = [n for path in counted for n in function_lengths(path.read_text(encoding="utf-8")).values()]
    assert statistics.median(lengths) <= 6


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_docstrings_of_public_functions_name_what_they_raise(path):
    """A public function that raises by itself says so: the words ValueError, TypeError ... stand in its docstring."""
    for node in public_functions(ast.parse(path.read_text(encoding="utf-8"))):
        raised = {r.exc.func.id for r in ast.walk(node) if isinstance(r, ast.Raise) and is_plain_call(r.exc)}
        missing = [error for error in sorted(raised) if error not in (ast.get_docstring(node) or "")]
        assert not missing, f"{node.name} raises {missing} and does not say so"


def is_plain_call(node: ast.AST | None) -> bool:
    """True for `SomeError(...)`."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_every_module_imports(path):
    module = ".".join(("diffusion_lib", *path.relative_to(LIBRARY).with_suffix("").parts)).removesuffix(".__init__")
    if not module.endswith("__main__"):
        assert inspect.ismodule(importlib.import_module(module))


# The tests of the tests: each rule is seen to fail on a few lines that break it.


@pytest.mark.parametrize(
    ("text", "room", "problem"),
    [
        ("from diffusion_lib.samplers import ddpm", "process", "imports samplers"),
        ("from diffusion_lib import samplers", "process", "imports samplers"),
        ("import diffusion_lib.samplers", "process", "imports samplers"),
        ("from .samplers import ddpm", "process", "imports samplers"),
        ("from . import samplers", "schedules", "imports samplers"),
        ("def f():\n    from .denoisers import Clipped", "schedules", "imports denoisers"),
        ("from .schedules import linear", "gaussians", "imports schedules"),
        ("from ..process import q_sample", "teaching.figures", "imports process"),
        ("import torch", "teaching.figures", "imports torch"),
        ("from torch import Tensor", "teaching.figures", "imports torch.Tensor"),
        ("import matplotlib.pyplot as plt", "teaching.figures", "imports matplotlib.pyplot"),
        ("from matplotlib import pyplot", "teaching.widgets", "imports matplotlib.pyplot"),
        ("import anywidget", "teaching.figures", "imports anywidget"),
        ("import ipywidgets as W", "data", "imports ipywidgets"),
        ("from ..training import train", "teaching.widgets", "imports training"),
        ("open('x')", "process", "calls open"),
        ("from pathlib import Path\nPath('x').read_text()", "samplers", "calls read_text"),
        ("import torch\ntorch.load('x')", "denoisers", "calls open"),
        ("import gzip", "models", "imports gzip"),
    ],
)
def test_a_broken_floor_is_seen(text, room, problem):
    package = ("diffusion_lib", *room.split(".")[:-1], *(["figures"] if room == "teaching.figures" else []))
    package = ("diffusion_lib", "teaching") if room.startswith("teaching") else package
    assert problem in floor_problems(text, room, package)


@pytest.mark.parametrize(
    ("text", "room"),
    [
        ("from .schedules import linear\nfrom .arguments import require_time", "process"),
        ("from ..process import q_sample\nimport anywidget", "teaching.widgets"),
        ("import gzip\nopen('x')", "data"),
        ("from diffusion_lib.samplers import ddpm\nimport diffusion_lib.training", "__main__"),
    ],
)
def test_a_kept_floor_passes(text, room):
    package = ("diffusion_lib", "teaching") if room.startswith("teaching") else ("diffusion_lib",)
    assert floor_problems(text, room, package) == []


def test_code_is_counted_without_docstrings_comments_and_blank_lines():
    text = '"""Module."""\n\n# comment\ndef f():\n    """Doc\n    string."""\n'
    text += "    x = (1,\n         2)\n\n    return x  # why\n"
    assert code_lines(text) == {4, 7, 8, 10}
    assert function_lengths(text) == {"f, line 4": 4}
    long = "def f():\n" + "    x = 1\n" * 30
    assert size_problems(long) == ["f, line 1: 31 lines of code, over 30"]
    assert size_problems(long.replace("def f", "def __init__")) == []
    assert size_problems("x = 1\n" * 251) == ["251 lines of code, over 250"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = 1", "the module has no docstring"),
        ('"""M."""\ndef f(): pass', "f has no docstring"),
        ('"""M."""\nclass C:\n    """C."""\n    def m(self): pass', "m has no docstring"),
        ('"""M."""\ndef f(**kwargs):\n    """F."""', "f takes **kwargs"),
        ('"""M."""\nclass C(Base):\n    """C."""', "C inherits Base"),
    ],
)
def test_broken_style_is_seen(text, problem):
    assert style_problems(text) == [problem]
