"""The house keeps its floors: imports run downward, few modules touch files, everything stays small and explained."""

import ast
import importlib
import inspect
import re
import statistics
import tokenize
from collections.abc import Mapping
from pathlib import Path

import lesson_rules as rules
import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "diffusion_lib"
FILES = sorted(LIBRARY.rglob("*.py"))
FOLDERS = ("diffusion_lib", "tests", "tools", "benchmarks", "examples")

# module -> the modules that it may import, besides `arguments`, which every module may. Below them stand the lessons:
# a lesson may import the library, `teaching` and its own folder; what is in a lesson's figures.py, see FIGURES.
FLOORS = {
    "arguments": set(),
    "noise": set(),
    "files": set(),
    "gaussians": set(),
    "densities": {"gaussians"},
    "toys": {"densities"},
    "schedules": set(),
    "process": {"schedules"},
    "notation": {"schedules"},
    "denoisers": {"process", "schedules", "densities"},
    "samplers": {"process", "schedules", "noise"},
    "losses": {"process", "schedules"},
    "bound": {"process", "schedules", "gaussians", "noise"},
    "data": {"files"},
    "images": set(),
    "models": {"models", "losses", "gaussians"},
    "metrics": set(),
    "training": set(),
    "checkpoints": {"files", "models", "training"},
    "pretrained": {"files", "models", "process", "schedules", "denoisers"},
    "recipes": {"noise", "schedules", "process", "denoisers", "samplers", "losses", "data", "images", "models"}
    | {"training", "pretrained"},
    "runs": {"files", "models", "data", "training", "checkpoints", "pretrained", "recipes"},
    "teaching.registry": set(),
    "teaching.checks": {"teaching.registry"},
    "teaching.style": set(),
    "teaching.plots": {"teaching.style"},
    "teaching.frames": set(),
    "teaching.server": set(),
    "teaching.explorer": {"teaching.frames", "teaching.registry"},
}
FIGURES = {"teaching.style", "teaching.plots"}
DRAWING = ("teaching.style", "teaching.plots", "teaching.frames")  # arrays to figures, without torch, as figures.py too
FILE_MODULES = {
    "files",
    "data",
    "images",
    "checkpoints",
    "pretrained",
    "runs",
    "teaching.explorer",
    "teaching.server",
} | {
    "lessons.forward_process.subjects"  # an image that the lesson brings
}
WIDGET_TOOLS = {"ipywidgets", "anywidget", "traitlets"}
OPENERS = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "urlopen", "urlretrieve", "imread", "memmap"}
OPENERS |= {"fromfile", "loadtxt", "savetxt", "savez", "mkdir", "unlink", "savefig"}
OPENING_MODULES = {"gzip", "tempfile", "shutil", "urllib", "requests", "socket", "zipfile", "tarfile", "sqlite3"}


def module_of(path: Path) -> str:
    """Return the module that a file belongs to: samplers, models, teaching.checks, lessons.unet.figures."""
    parts = path.relative_to(LIBRARY).with_suffix("").parts
    parts = tuple(part for part in parts if part != "__init__")
    return ".".join(parts[: {"teaching": 2, "lessons": 3}.get(parts[0], 1)] if parts else ())


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


def modules_in(names: set[str]) -> set[str]:
    """Return the library's modules among dotted names; of a lesson, its folder."""
    inside = [name.split(".")[1:] for name in names if name.split(".")[0] == "diffusion_lib"]
    return {".".join(name[:2] if name[0] in ("teaching", "lessons") else name[:1]) for name in inside if name}


def allowed_in(module: str) -> set[str]:
    """Return the modules that a module may import."""
    if not module.startswith("lessons"):
        return FLOORS.get(module, set()) | {"arguments", "__version__", module}
    own = ".".join(module.split(".")[:2])
    return {own} | (FIGURES if module.endswith(".figures") else {*FLOORS, "arguments"})


def package_of(path: Path) -> tuple[str, ...]:
    """Return the dotted package that a file's relative imports start from."""
    return ("diffusion_lib", *path.relative_to(LIBRARY).parent.parts)


def floor_problems(text: str, module: str, package: tuple[str, ...]) -> list[str]:
    """Return the imports and file accesses of a file's text that its module may not have."""
    tree = ast.parse(text)
    names = imported(tree, package)
    tops = {name.split(".")[0] for name in names}
    found = []
    if module not in ("__main__", ""):
        found += [f"imports {other}" for other in sorted(modules_in(names) - allowed_in(module))]
    if module in DRAWING or module.endswith(".figures"):
        found += [f"imports {name}" for name in sorted(names) if name.split(".")[0] == "torch"]
    found += [f"imports {name}" for name in sorted(names) if name.startswith("matplotlib.pyplot")]
    if module != "teaching.explorer":
        found += [f"imports {name}" for name in sorted(tops & WIDGET_TOOLS)]
    if module not in FILE_MODULES:
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
    """Return what is too long in a module: over 250 lines of code, a function over 30."""
    found = [f"{len(code_lines(text))} lines of code, over 250"] if len(code_lines(text)) > 250 else []
    for name, length in function_lengths(text).items():
        found += [f"{name}: {length} lines of code, over 30"] if length > 30 else []
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
            bases -= {"Module", "GroupNorm", "AnyWidget", "Figure", "Protocol", "NamedTuple"}
            found += [f"{node.name} inherits {b}" for b in sorted(bases) if not b.endswith(("Error", "Exception"))]
    return found


def ids(path: Path) -> str:
    return path.relative_to(LIBRARY).as_posix()


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_imports_run_downward_and_few_modules_touch_files(path):
    module = module_of(path)
    known = module in FLOORS or module in ("", "__main__", "teaching") or module.startswith("lessons")
    assert known, f"a new module, {module}, needs its floor in this test"
    assert floor_problems(path.read_text(encoding="utf-8"), module, package_of(path)) == []


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_files_and_functions_stay_small(path):
    assert size_problems(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_everything_public_is_explained(path):
    assert style_problems(path.read_text(encoding="utf-8")) == []


def test_the_library_can_be_read_in_an_afternoon(record_count):
    """`teaching` and `lessons` stand outside: they grow with every lesson, the library does not."""
    counted = [path for path in FILES if not module_of(path).startswith(("teaching", "lessons"))]
    total = sum(len(code_lines(path.read_text(encoding="utf-8"))) for path in counted)
    record_count("lines of library code", total)
    everything = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    record_count(
        "lines of Python code in all", sum(len(code_lines(path.read_text(encoding="utf-8"))) for path in everything)
    )
    assert total <= 3000


def test_the_median_function_has_at_most_six_lines():
    counted = [path for path in FILES if path.name not in ("figures.py", "plots.py")]
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


# What one lesson shows stands in its folder, and what two or more show in teaching/plots.py.


def lesson_of(name: str) -> str:
    """Return the lesson that a file belongs to, or "": notebooks/12_unet.ipynb, diffusion_lib/lessons/unet/trace.py."""
    found = re.search(
        r"notebooks/(?:\d\d|A\d)_(\w+)\.ipynb$|lessons/test_lesson_(\w+)\.py$|lessons/(\w+)/\w+\.py$", name
    )
    return next(filter(None, found.groups())) if found else ""


def stranger_problems(texts: Mapping[str, str]) -> list[str]:
    """Return the files, {name: text}, that import a lesson which is not their own."""
    found = []
    for name, text in texts.items():
        package = tuple(Path(name).parent.parts)
        named = modules_in(imported(ast.parse(text), package))
        lessons = {module.partition(".")[2] for module in named if module.startswith("lessons.")}
        found += [f"{name} imports lessons.{other}" for other in sorted(lessons - {lesson_of(name)})]
    return found


def returning(text: str, kind: str) -> list[str]:
    """Return a module's public functions that make a `kind`, Figure or Explorer: return one and were given none."""
    public = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
    made = [node for node in public if node.returns is not None and ast.unparse(node.returns) == kind]
    given = {node.name: [ast.unparse(a.annotation) for a in node.args.args if a.annotation] for node in made}
    return [node.name for node in made if kind not in given[node.name]]


def misplaced(texts: Mapping[str, str]) -> list[str]:
    """Return the figures among the files {name: text} outside figures.py and plots.py, and explorers outside theirs."""
    found = []
    for name, text in texts.items():
        homes = {"Figure": ("figures.py", "plots.py"), "Explorer": ("explorers.py",)}
        found += [
            f"{name}: {function} returns a {kind}"
            for kind, home in homes.items()
            for function in returning(text, kind)
            if Path(name).name not in home
        ]
    return found


def shown(text: str) -> set[str]:
    """Return everything that a text calls, in full: figures.maps, explorers.time, image_grid."""
    return {ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)}


def unused_problems(texts: Mapping[str, str]) -> list[str]:
    """Return what no page shows among the files {name: text}: figures and explorers of a lesson, and shared figures.

    An explorer is called by its lesson's notebook, a figure by that or by its folder, a shared figure by two notebooks.
    """
    pages = {lesson_of(name): shown(text) for name, text in texts.items() if name.endswith(".ipynb")}
    found = []
    for name, text in texts.items():
        page, file = pages.get(lesson_of(name), set()), Path(name).name
        if file == "explorers.py":
            found += [f"{name}: {f}" for f in returning(text, "Explorer") if f"explorers.{f}" not in page]
        if file == "figures.py":
            folder = [shown(other) for path, other in texts.items() if Path(path).parent == Path(name).parent]
            found += [f"{name}: {f}" for f in returning(text, "Figure") if f"figures.{f}" not in page.union(*folder)]
        if file == "plots.py":
            users = {f: sum(f in page for page in pages.values()) for f in returning(text, "Figure")}
            found += [f"{name}: {f}, for {n} lesson" for f, n in users.items() if n < 2]
    return found


def course_texts() -> dict[str, str]:
    """Return {name: code} of all Python files, and of the notebooks with their folded answers."""
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    found = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = rules.read(path)
        code = [*map(rules.python_of, rules.code_cells(notebook)), *rules.answers(notebook)]
        found[path.relative_to(ROOT).as_posix()] = "\n".join(code)
    return found


def test_a_lessons_init_imports_nothing():
    for path in (LIBRARY / "lessons").rglob("__init__.py"):
        assert not imported(ast.parse(path.read_text(encoding="utf-8")), package_of(path)), path


@pytest.mark.parametrize(
    ("name", "lesson"),
    [
        ("notebooks/12_unet.ipynb", "unet"),
        ("notebooks/A1_letters.ipynb", "letters"),
        ("diffusion_lib/lessons/unet/trace.py", "unet"),
        ("tests/lessons/test_lesson_unet.py", "unet"),
        ("tests/test_unet.py", ""),
    ],
)
def test_a_file_knows_its_lesson(name, lesson):
    assert lesson_of(name) == lesson


def test_what_one_lesson_shows_is_its_own():
    texts = course_texts()
    library = {name: text for name, text in texts.items() if name.startswith("diffusion_lib/")}
    pages = {name: text for name, text in texts.items() if not name.startswith("tests/")}
    assert stranger_problems(texts) + misplaced(library) + unused_problems(pages) == []


# The tests of the tests: each rule is seen to fail on a few lines that break it.


@pytest.mark.parametrize(
    ("text", "module", "problem"),
    [
        ("from diffusion_lib.samplers import ddpm", "process", "imports samplers"),
        ("from diffusion_lib import samplers", "process", "imports samplers"),
        ("import diffusion_lib.samplers", "process", "imports samplers"),
        ("from .samplers import ddpm", "process", "imports samplers"),
        ("from . import samplers", "schedules", "imports samplers"),
        ("def f():\n    from .denoisers import Clipped", "schedules", "imports denoisers"),
        ("from .schedules import linear", "gaussians", "imports schedules"),
        ("from ..process import q_sample", "teaching.plots", "imports process"),
        ("from diffusion_lib.lessons.unet import figures", "teaching.plots", "imports lessons.unet"),
        ("import diffusion_lib.lessons", "teaching.registry", "imports lessons"),
        ("from diffusion_lib.lessons.unet.trace import trace", "models", "imports lessons.unet"),
        ("from diffusion_lib.teaching import checks", "training", "imports teaching.checks"),
        ("from diffusion_lib.lessons.ddim import explorers", "lessons.ddpm.explorers", "imports lessons.ddim"),
        ("from ..ddim import figures", "lessons.ddpm.explorers", "imports lessons.ddim"),
        ("from diffusion_lib.process import q_sample", "lessons.ddpm.figures", "imports process"),
        ("import torch", "lessons.ddpm.figures", "imports torch"),
        ("import torch", "teaching.frames", "imports torch"),
        ("from torch import Tensor", "teaching.plots", "imports torch.Tensor"),
        ("import matplotlib.pyplot as plt", "lessons.unet.figures", "imports matplotlib.pyplot"),
        ("from matplotlib import pyplot", "lessons.unet.explorers", "imports matplotlib.pyplot"),
        ("import anywidget", "lessons.unet.explorers", "imports anywidget"),
        ("import ipywidgets as W", "data", "imports ipywidgets"),
        ("from ..training import train", "teaching.explorer", "imports training"),
        ("open('x')", "lessons.unet.explorers", "calls open"),
        ("open('x')", "process", "calls open"),
        ("from pathlib import Path\nPath('x').read_text()", "samplers", "calls read_text"),
        ("import torch\ntorch.load('x')", "denoisers", "calls open"),
        ("import gzip", "models", "imports gzip"),
    ],
)
def test_a_broken_floor_is_seen(text, module, problem):
    assert problem in floor_problems(text, module, ("diffusion_lib", *module.split(".")[:-1]))


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("from .schedules import linear\nfrom .arguments import require_time", "process"),
        ("from . import frames\nimport anywidget", "teaching.explorer"),
        (
            "from diffusion_lib.pretrained import pretrained\nfrom . import figures\nimport torch",
            "lessons.unet.explorers",
        ),
        ("from diffusion_lib.arguments import require_data", "lessons.unet.trace"),
        ("from diffusion_lib.teaching.style import DATA\nfrom .formulas import FORMULAS", "lessons.unet.figures"),
        ("import gzip\nopen('x')", "data"),
        ("from diffusion_lib.samplers import ddpm\nimport diffusion_lib.training", "__main__"),
    ],
)
def test_a_kept_floor_passes(text, module):
    assert floor_problems(text, module, ("diffusion_lib", *module.split(".")[:-1])) == []


def test_code_is_counted_without_docstrings_comments_and_blank_lines():
    text = '"""Module."""\n\n# comment\ndef f():\n    """Doc\n    string."""\n'
    text += "    x = (1,\n         2)\n\n    return x  # why\n"
    assert code_lines(text) == {4, 7, 8, 10}
    assert function_lengths(text) == {"f, line 4": 4}
    long = "def f():\n" + "    x = 1\n" * 30
    assert size_problems(long) == ["f, line 1: 31 lines of code, over 30"]
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


GOOD_COURSE = {
    "notebooks/12_unet.ipynb": "from diffusion_lib.lessons.unet import explorers, figures\nexplorers.time()\n"
    "from diffusion_lib.lessons.unet.trace import trace\nfigures.maps(x)\nimage_grid(x)",
    "notebooks/14_ddim.ipynb": "import diffusion_lib.lessons.ddim\nimage_grid(y)",
    "diffusion_lib/lessons/unet/explorers.py": "from . import figures\ndef time() -> Explorer:\n    figures.waves()",
    "diffusion_lib/lessons/unet/figures.py": "def maps() -> Figure: pass\n"
    "def waves() -> Figure: pass\ndef _own() -> Figure: pass",
    "diffusion_lib/teaching/plots.py": "def image_grid() -> Figure: pass",
    "tests/lessons/test_lesson_unet.py": "from diffusion_lib.lessons.unet import explorers",
    "tests/test_explorer.py": "from diffusion_lib.teaching import registry",
}


def course_problems(texts: Mapping[str, str]) -> list[str]:
    return stranger_problems(texts) + misplaced(texts) + unused_problems(texts)


def test_a_good_course_passes():
    assert course_problems(GOOD_COURSE) == []


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (
            "tests/test_explorer.py",
            "from diffusion_lib.lessons.unet import x",
            "tests/test_explorer.py imports lessons.unet",
        ),
        (
            "tests/lessons/test_lesson_ddim.py",
            "import diffusion_lib.lessons.unet",
            "test_lesson_ddim.py imports lessons.unet",
        ),
        (
            "notebooks/13_ddpm.ipynb",
            "from diffusion_lib.lessons.unet.trace import trace",
            "13_ddpm.ipynb imports lessons.unet",
        ),
        ("diffusion_lib/lessons/ddim/trace.py", "from ..unet import figures", "ddim/trace.py imports lessons.unet"),
        ("diffusion_lib/models/unet.py", "def image() -> Figure: pass", "unet.py: image returns a Figure"),
        ("diffusion_lib/lessons/unet/trace.py", "def more() -> Explorer: pass", "trace.py: more returns a Explorer"),
        ("diffusion_lib/lessons/unet/figures.py", "def other() -> Figure: pass", "unet/figures.py: other"),
        ("diffusion_lib/lessons/unet/explorers.py", "def other() -> Explorer: pass", "unet/explorers.py: other"),
        ("notebooks/12_unet.ipynb", "explorers.time", "unet/explorers.py: time"),
        ("notebooks/14_ddim.ipynb", "", "teaching/plots.py: image_grid, for 1 lesson"),
    ],
)
def test_what_stands_outside_its_lesson_is_seen(name, text, problem):
    assert any(problem in found for found in course_problems(GOOD_COURSE | {name: text}))
