"""Mistakes in formulas, made from a module's syntax tree: all that there are, and the share that is drawn.

A site is one expression of one function and the mistake made there. It is drawn when the hash of module, function,
text and operator lies below SHARE, so an edit elsewhere changes no draw. What refuses bad arguments is no formula and
is left to the hand-written mutants: `raise`, an `if` that only raises, calls of `require_...`. So are messages.
"""

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SHARE = 0.2  # of all sites, on average, that are drawn
# Modules and functions without a formula: checks of arguments, files, the parser; and what only draws, whose numbers
# the lessons print and whose frames the tests of lessons look at. Everything else on the disk is mutated.
LEFT_OUT = {"__init__", "__main__", "arguments", "files", "pretrained", "recipes", "runs"}
LEFT_OUT |= {"explorer", "explorers", "figures", "plots", "registry", "server", "style"}
LEFT_OUT |= {"data._download", "data._write", "data._default_cache", "data._read", "data._read_or_download"}

ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
BOUNDARIES = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
LOGIC = {ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
PAIRS = "sin cos, log exp, log1p log, expm1 exp, min max, amin amax, argmin argmax, sum mean, cumprod cumsum"
PAIRS += ", floor ceil, signal noise, x0 eps, signal_rate noise_rate, zeros ones, zeros_like ones_like, rand randn"
PARTNER = {a: b for pair in PAIRS.split(", ") for a, b in (pair.split(), pair.split()[::-1])} | {"log": "exp"}
DROPPED = {"sqrt", "square", "abs", "clamp", "log", "exp", "round", "floor", "flip", "logit"}
KEYWORDS = {"alpha", "min", "max", "dim", "keepdim", "prepend", "value"}  # what may be forgotten without an error
SYMMETRIC = {"hypot", "min", "max", "minimum", "maximum", "zip", "getattr", "setattr"}
CHECKS = ("require", "check", "_check", "isinstance")
LETTERS = ("st", "ab", "xy", "NM", "HW", "KD")  # neighbours among names of one letter
SKIPPED = ("annotation", "returns", "decorator_list", "bases", "ctx", "op", "ops")  # fields of a node
QUIET = ("strict", "fused", "set_to_none", "dtype", "device")  # arguments that are no part of a formula
TOLERANCE = 1e-5  # a smaller constant is a tolerance: another one gives the same result


class Site(NamedTuple):
    """One mistake: in this function of this module, `text` becomes `became`."""

    module: str
    function: str  # its qualified name; empty at the top of a module
    text: str
    operator: str
    ordinal: int  # among sites of equal function, text and operator, from 1
    became: str
    start: int  # the bytes of the source that are replaced
    end: int
    patch: str  # what replaces them
    tree: str  # a fingerprint of the module's syntax tree with the mistake in it

    @property
    def digest(self) -> str:
        """The hash that decides on the draw, 16 hexadecimal digits: of all but `became`, the place and the tree."""
        parts = (self.module, self.function, self.text, self.operator, str(self.ordinal))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    @property
    def key(self) -> str:
        """The name of the site in equivalent.toml: readable, and unique by the hash at its end."""
        where = ".".join(filter(None, (self.module, self.function)))
        return f"{where}: {short(self.text)} -> {short(self.became)} [{self.operator}] {self.digest[:8]}"

    @property
    def drawn(self) -> bool:
        """True where the hash lies below SHARE."""
        return int(self.digest, 16) < SHARE * 16**16


def short(text: str, most: int = 70) -> str:
    """Return a text in one line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 4]} ..."


# ---- operators: each yields (name of the operator, the expression in place of the node)


def arithmetic(node: ast.BinOp) -> Iterator[tuple[str, ast.expr]]:
    """Another operator; a term or factor left out. Lists and texts are no numbers."""
    if not all(kind_of(side) for side in (node.left, node.right)):
        return
    kind = type(node.op)
    if kind in LOGIC and any(isinstance(inner, ast.Compare) for inner in ast.walk(node)):
        yield "and or", ast.BinOp(node.left, LOGIC[kind](), node.right)
    if kind in ARITHMETIC:
        yield "arithmetic", ast.BinOp(node.left, ARITHMETIC[kind](), node.right)
    if kind not in LOGIC:
        yield "left operand alone", node.left
    if kind in (ast.Add, ast.Sub, ast.Mult):
        yield "right operand alone", node.right


def comparison(node: ast.Compare) -> Iterator[tuple[str, ast.expr]]:
    """A boundary that moves in or out."""
    for i, op in enumerate(node.ops):
        if type(op) in BOUNDARIES:
            ops = [*node.ops[:i], BOUNDARIES[type(op)](), *node.ops[i + 1 :]]
            yield "boundary", ast.Compare(node.left, ops, node.comparators)


def logic(node: ast.BoolOp) -> Iterator[tuple[str, ast.expr]]:
    """`and` for `or`, `or` for `and`."""
    yield "and or", ast.BoolOp(LOGIC[type(node.op)](), node.values)


def sign(node: ast.UnaryOp) -> Iterator[tuple[str, ast.expr]]:
    """A minus, a `not` or a `~` left out."""
    yield "sign", node.operand


def choice(node: ast.IfExp) -> Iterator[tuple[str, ast.expr]]:
    """One branch taken always."""
    yield from (("first branch always", node.body), ("second branch always", node.orelse))


def constant(node: ast.Constant) -> Iterator[tuple[str, ast.expr]]:
    """n + 1 for a whole number, half of a fraction, twice another number, the other truth value."""
    if isinstance(node.value, bool):
        yield "constant", ast.Constant(not node.value)
    elif isinstance(node.value, int) or node.value == 0:
        yield "constant", ast.Constant(node.value + 1)
    elif isinstance(node.value, float) and node.value > TOLERANCE:
        yield "constant", ast.Constant(node.value / 2 if node.value < 1 else 2 * node.value)


def last_name(node: ast.Call) -> str:
    """Return the name of what is called, without the object or module before it."""
    return ast.unparse(node.func).rpartition(".")[2]


def kind_of(node: ast.expr) -> str:
    """Return "number" or "value" for an argument that may be mistaken for another of its kind; empty for a text etc."""
    if isinstance(node, ast.Constant):
        return "" if isinstance(node.value, str) else "number"
    return "" if isinstance(node, ast.Starred | ast.List | ast.Tuple | ast.JoinedStr | ast.GeneratorExp) else "value"


def call(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """The first two arguments swapped; sqrt(), clamp() ... left out; a keyword forgotten."""
    name, first = last_name(node), node.args[:2]
    if len(first) == 2 and kind_of(first[0]) == kind_of(first[1]) != "" and name not in SYMMETRIC:
        yield "arguments swapped", ast.Call(node.func, [*first[::-1], *node.args[2:]], node.keywords)
    if name in DROPPED and isinstance(node.func, ast.Attribute):
        from_a_module = ast.unparse(node.func.value) in ("math", "torch")
        yield "function left out", node.args[0] if from_a_module else node.func.value
    for keyword in node.keywords:
        if keyword.arg in KEYWORDS:
            rest = [other for other in node.keywords if other is not keyword]
            yield f"keyword left out: {keyword.arg}", ast.Call(node.func, node.args, rest)


def attribute(node: ast.Attribute) -> Iterator[tuple[str, ast.expr]]:
    """sin for cos, sum for mean, noise for signal."""
    if node.attr in PARTNER:
        yield "another function", ast.Attribute(node.value, PARTNER[node.attr])


def index(node: ast.Subscript) -> Iterator[tuple[str, ast.expr]]:
    """x[t - 1] for x[t]."""
    kind = node.value.id if isinstance(node.value, ast.Name) else ""
    of_a_type = kind in ("list", "dict", "tuple", "type") or (len(kind) > 1 and kind[0].isupper())
    if isinstance(node.slice, ast.Name) and not of_a_type:
        yield "index", ast.Subscript(node.value, ast.BinOp(node.slice, ast.Sub(), ast.Constant(1)))


def neighbour(node: ast.Name, names: dict[str, int]) -> Iterator[tuple[str, ast.expr]]:
    """alpha_bar_t for alpha_bar_s: a name bound before that differs in one part, or in its one letter."""
    for other in sorted(names.keys() - {"_"} if node.id in names else ()):
        a, b = node.id.split("_"), other.split("_")
        one_part = len(a) == len(b) > 1 and sum(p != q for p, q in zip(a, b, strict=True)) == 1
        letters = node.id != other and any(set(pair) == {node.id, other} for pair in LETTERS)
        if (one_part or letters) and names[other] < node.lineno:
            yield f"another name: {other}", ast.Name(other)


OPERATORS = {
    ast.BinOp: arithmetic,
    ast.Compare: comparison,
    ast.BoolOp: logic,
    ast.UnaryOp: sign,
    ast.IfExp: choice,
    ast.Constant: constant,
    ast.Call: call,
    ast.Attribute: attribute,
    ast.Subscript: index,
}


# ---- the walk over a module


class Place(NamedTuple):
    """Where a node stands: the qualified name of its function, the names bound there, the expression around it."""

    function: str
    names: dict[str, int]  # name -> line where it is bound
    around: ast.AST


def is_check(node: ast.AST) -> bool:
    """True for what refuses, describes or documents: it holds no formula."""
    if isinstance(node, ast.Call):
        return last_name(node).startswith(CHECKS)
    if isinstance(node, ast.keyword):
        return node.arg in QUIET
    if isinstance(node, ast.If):
        return isinstance(node.body[-1], ast.Raise) and not node.orelse
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    return isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom)


def parts(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the children of a node that can hold a formula; a default comes as the keyword `name=default`."""
    if isinstance(node, ast.arguments):
        positional = node.args[len(node.args) - len(node.defaults) :]
        pairs = [*zip(positional, node.defaults, strict=True), *zip(node.kwonlyargs, node.kw_defaults, strict=True)]
        yield from (ast.keyword(arg.arg, default) for arg, default in pairs if default)
        return
    for field, value in ast.iter_fields(node):
        if field not in SKIPPED:
            yield from (
                child for child in (value if isinstance(value, list) else [value]) if isinstance(child, ast.AST)
            )


def bound_names(function: ast.FunctionDef) -> dict[str, int]:
    """Return the names that a function binds, with the first line at which each is."""
    found: dict[str, int] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.arg) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)):
            name = node.arg if isinstance(node, ast.arg) else node.id
            found[name] = min(found.get(name, node.lineno), node.lineno)
    return found


def walk(node: ast.AST, place: Place) -> Iterator[tuple[ast.expr, Place]]:
    """Yield every expression that can be mutated, and where it stands."""
    if is_check(node):
        return
    if isinstance(node, ast.expr):
        yield node, place
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        names = place.names | (bound_names(node) if isinstance(node, ast.FunctionDef) else {})
        place = Place(f"{place.function}.{node.name}".lstrip("."), names, node)
    elif not isinstance(node, ast.Slice | ast.UnaryOp | ast.Tuple | ast.Starred | ast.arguments):
        place = place._replace(around=node)
    for child in parts(node):
        yield from walk(child, place)


def mistakes(node: ast.expr, place: Place) -> Iterator[tuple[str, ast.expr]]:
    """Yield (operator, new expression) for a node; a name or an attribute that is assigned to is none."""
    if isinstance(getattr(node, "ctx", None), ast.Store) or isinstance(getattr(node, "func", None), ast.Lambda):
        return
    if isinstance(node, ast.Name):
        yield from neighbour(node, place.names)
    elif type(node) in OPERATORS:
        yield from OPERATORS[type(node)](node)


def words(node: ast.AST, around: ast.AST) -> str:
    """Return the text of a node; of a constant or a name, what stands around it too, if that is short."""
    own = ast.unparse(node)
    small = isinstance(node, ast.Constant | ast.Name | ast.Attribute)
    whole = isinstance(around, ast.stmt) and hasattr(around, "body")
    return f"{own} in {ast.unparse(around).strip()}" if small and not whole else own


def fingerprint(position: int, statement: ast.stmt) -> str:
    """Return a hash of one statement at the top of a module, and of its position."""
    return hashlib.sha256(f"{position}:{ast.dump(statement)}".encode()).hexdigest()


def all_sites(module: str, source: str) -> list[Site]:
    """Return every site of a module, in order; of sites that give the same tree, the one with the lowest hash."""
    text, lines = source.encode(), [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line.encode()))
    found: dict[str, Site] = {}
    counts: Counter = Counter()
    for position, statement in enumerate(ast.parse(source).body):
        top = min(node.lineno for node in ast.walk(statement) if hasattr(node, "lineno")) - 1  # a decorator's, or its
        original = fingerprint(position, statement)
        for node, place in walk(statement, Place("", {}, statement)):
            start, end = lines[node.lineno - 1] + node.col_offset, lines[node.end_lineno - 1] + node.end_col_offset
            for operator, new in mistakes(node, place):
                became = ast.unparse(new)
                before = (place.function, words(node, place.around), operator)
                counts[before] += 1
                broken = text[lines[top] : start] + f"({became})".encode() + text[end : lines[statement.end_lineno]]
                tree = fingerprint(position, ast.parse(broken).body[0])
                site = Site(module, *before, counts[before], became, start, end, f"({became})", tree)
                if tree != original and (tree not in found or site.digest < found[tree].digest):
                    found[tree] = site
    return sorted((s for s in found.values() if not left_out(s.module, s.function)), key=lambda site: site.start)


def left_out(module: str, function: str = "") -> bool:
    """True for a module or a function that LEFT_OUT names."""
    name = module.rpartition("/")[2]
    return name in LEFT_OUT or f"{name}.{function}" in LEFT_OUT


def mutated(site: Site, source: str) -> str:
    """Return the source of a site's module with the mistake in it."""
    text = source.encode()
    return (text[: site.start] + site.patch.encode() + text[site.end :]).decode()


def modules(library: Path) -> list[str]:
    """Return the modules with formulas in a library on the disk: "process", "lessons/unet/trace" ..."""
    files = sorted(library.rglob("*.py"))
    names = [path.relative_to(library).with_suffix("").as_posix() for path in files]
    return [name for name in names if not left_out(name)]


def same_tree(source: str, patched: str) -> str | None:
    """Return the `tree` of the one statement at the top of a module that a patch changes; None for any other patch."""
    before, after = ast.parse(source).body, ast.parse(patched).body
    changed = [i for i, (a, b) in enumerate(zip(before, after, strict=False)) if ast.dump(a) != ast.dump(b)]
    return fingerprint(changed[0], after[changed[0]]) if len(changed) == 1 and len(before) == len(after) else None
