"""Code cells as syntax trees: their statements, and the names that they need, make and import."""

import ast
import re
from dataclasses import dataclass

from canonical import FOLDED
from nbformat import NotebookNode

MAGIC = re.compile(r"^\s*[%!]")
LIBRARY = re.compile(r"diffusion_lib(?!\.(?:teaching|lessons))")


def python_of(cell: NotebookNode) -> str:
    """Return a code cell's text without its magics."""
    return "\n".join("pass" if MAGIC.match(line) else line for line in cell.source.splitlines())


def is_folded(cell: NotebookNode) -> bool:
    """Return whether a cell's input is folded."""
    return FOLDED in cell.metadata.get("tags", [])


def statements(cell: NotebookNode) -> int:
    """Return the number of statements of a code cell's syntax tree, nested ones too; magics do not count."""
    lines = [line for line in cell.source.splitlines() if not MAGIC.match(line)]
    return sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse("\n".join(lines))))


@dataclass(frozen=True)
class Names:
    """The names that a code cell needs from cells before it, reads at all, makes, and imports of the library."""

    needs: set[str]
    inside: set[str]
    makes: set[str]
    imports: dict[str, str]  # name -> where it comes from, for the library's own


def names_of(cell: NotebookNode) -> Names:
    """Return the names of a code cell, statement by statement; what functions and comprehensions bind stays inside."""
    found = Names(set(), set(), set(), {})
    for statement in ast.parse(python_of(cell)).body:
        nodes = list(ast.walk(statement))
        loads, local = names_in(nodes, ast.Load), bound(nodes)
        loads |= {
            node.target.id for node in nodes if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
        }
        found.needs.update(loads - local - found.makes)
        found.inside.update(loads)
        found.makes.update(names_in(nodes, ast.Store) - local)
        found.makes.update(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef))
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                named = {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names}
                found.makes.update(named)
                if isinstance(node, ast.ImportFrom) and LIBRARY.match(node.module or ""):
                    found.imports.update({name: f"{node.module}.{target}" for name, target in named.items()})
    return found


def names_in(nodes: list[ast.AST], context: type[ast.expr_context]) -> set[str]:
    """Return the names that are loaded or stored among the nodes of a tree."""
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, context)}


def bound(nodes: list[ast.AST]) -> set[str]:
    """Return the names that functions and comprehensions among the nodes bind for themselves."""
    found = {node.arg for node in nodes if isinstance(node, ast.arg)}
    for node in nodes:
        if isinstance(node, ast.FunctionDef):
            found |= names_in([inner for line in node.body for inner in ast.walk(line)], ast.Store)
        elif isinstance(node, ast.comprehension):
            found |= names_in(list(ast.walk(node.target)), ast.Store)
    return found


def dotted(cell: NotebookNode, library: dict[str, str]) -> set[str]:
    """Return the library's functions that a cell reaches through a module's name, as in process.q_sample."""
    nodes = [node for node in ast.walk(ast.parse(python_of(cell))) if isinstance(node, ast.Attribute)]
    nodes = [node for node in nodes if isinstance(node.value, ast.Name) and node.value.id in library]
    return {f"{library[node.value.id]}.{node.attr}" for node in nodes}
