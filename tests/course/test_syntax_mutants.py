"""Mistakes made from the syntax tree: which sites there are, which are drawn, what is left alone."""

import ast
import re

import pytest
from mutants import LIBRARY, Mutant, source_of, twins
from syntax_mutants import SHARE, all_sites, is_check, modules, mutated, same_tree, short

POSTERIOR = '''
def weights(alpha_bar_s, alpha_bar_t):
    """The weights of x_t and x_0."""
    noise_between = (alpha_bar_s - alpha_bar_t) / alpha_bar_s
    return (1 - alpha_bar_s) * noise_between.sqrt()
'''


def became(source: str, operator: str = "") -> set[str]:
    """What the lines of a source become under the operators of that name."""
    sites = [site for site in all_sites("given", source) if site.operator.startswith(operator)]
    lines = set(source.splitlines())
    return {line.strip() for site in sites for line in mutated(site, source).splitlines() if line not in lines}


@pytest.mark.parametrize(
    ("line", "operator", "expected"),
    [
        ("a + b", "arithmetic", {"(a - b)"}),
        ("a / b", "arithmetic", {"(a * b)"}),
        ("x ** 2", "arithmetic", {"(x * 2)"}),
        ("1 - a", "left operand", {"(1)"}),
        ("1 - a", "right operand", {"(a)"}),
        ("n // 2", "left operand", {"(n)"}),
        ("low < x <= high", "boundary", {"(low <= x <= high)", "(low < x < high)"}),
        ("a and b", "and or", {"(a or b)"}),
        ("(a > 0) & (b > 0)", "and or", {"((a > 0) | (b > 0))"}),
        ("-a", "sign", {"(a)"}),
        ("~dark", "sign", {"(dark)"}),
        ("a if c else b", "first", {"(a)"}),
        ("a if c else b", "second", {"(b)"}),
        ("f(2)", "constant", {"f((3))"}),
        ("f(0.5)", "constant", {"f((0.25))"}),
        ("f(1.5)", "constant", {"f((3.0))"}),
        ("f(0.0)", "constant", {"f((1.0))"}),
        ("f(keep=True)", "constant", {"f(keep=(False))"}),
        ("f(a, b, c)", "arguments", {"(f(b, a, c))"}),
        ("x.sqrt()", "function", {"(x)"}),
        ("math.sqrt(x)", "function", {"(x)"}),
        ("x.sin()", "another function", {"(x.cos)()"}),
        ("x.sum(1)", "another function", {"(x.mean)(1)"}),
        ("a.add(b, alpha=c)", "keyword", {"(a.add(b))"}),
        ("table[t]", "index", {"(table[t - 1])"}),
    ],
)
def test_each_operator(line, operator, expected):
    assert became(f"def f():\n    return {line}\n", operator) == {f"return {new}" for new in expected}


def test_a_name_becomes_one_that_differs_in_one_part():
    assert "noise_between = ((alpha_bar_t) - alpha_bar_t) / alpha_bar_s" in became(POSTERIOR, "another name")
    letters = "def f(s, t, u):\n    return g(t)\n"
    assert became(letters, "another name") == {"return g((s))"}
    assert became("def f(a_s):\n    y = g(a_s)\n    a_t = 1\n    return a_t\n", "another name") == {"return (a_s)"}, (
        "a_t is not bound yet where g is called"
    )


@pytest.mark.parametrize(
    "text",
    [
        '"""1 + 1"""\n',
        "import a\nfrom b import c\n",
        "def f(x: Table[2] = None) -> Table[3]: pass\n",
        "class C:\n    x: Table[2]\n",
        "@cached(2)\ndef f(): pass\n",
        "def f(n):\n    if n < 2:\n        raise ValueError(f'expected {n + 1}')\n",
        "def f(n):\n    if n < 2:\n        words = n + 1\n        raise ValueError(words)\n",
        "def f(n):\n    raise ValueError(n + 1)\n",
        "def f(n):\n    require_count('n', n, 1, 3)\n",
        "def f(n):\n    self._check(n, 2)\n",
        "def f(n):\n    return isinstance(n, int | float)\n",
        "def f(n):\n    print(f'{n + 1} of {n * 2}')\n",
        "def f(a):\n    zip(a, strict=True)\n",
        "def f(x):\n    x.clip(1e-12)\n",
        "Draw = Callable[[Generator], Sequence[Tensor]]\n",
        "def f(a):\n    return [a] + (a,)\n",
        "def f(a):\n    return a / 'mnist'\n",
    ],
)
def test_what_holds_no_formula_is_left_alone(text):
    found = [site for site in all_sites("given", text) if site.operator not in ("left operand alone",)]
    assert [site.key for site in found] == []


def test_an_if_that_does_more_than_refuse_is_mutated():
    assert not is_check(ast.parse("if n < 2:\n    x = 1").body[0])
    assert not is_check(ast.parse("if n < 2:\n    raise E\nelse:\n    x = 1").body[0])


def test_every_mutant_is_another_tree_and_no_tree_comes_twice():
    source = POSTERIOR + "def g(x):\n    return x ** 2 + h(x, x)\n"  # h(x, x) swapped is h(x, x)
    trees = [ast.dump(ast.parse(mutated(site, source))) for site in all_sites("given", source)]
    assert len(set(trees) | {ast.dump(ast.parse(source))}) == len(trees) + 1
    assert all(site.tree == same_tree(source, mutated(site, source)) for site in all_sites("given", source))


@pytest.mark.parametrize("name", ["x", "y", "z", "noise"])
def test_of_two_sites_that_give_one_tree_the_lower_hash_counts(name):
    """x + x: either operand alone is x."""
    found = all_sites("given", f"def f({name}):\n    return {name} + {name}\n")
    [kept] = [site for site in found if site.operator.endswith("alone")]
    both = [kept._replace(operator=f"{side} operand alone") for side in ("left", "right")]
    assert kept.digest == min(site.digest for site in both)


def test_an_edit_elsewhere_changes_no_draw():
    before = {site.key: site.drawn for site in all_sites("given", POSTERIOR)}
    edited = "LEVELS = 1 - 2 * 3\n\n" + POSTERIOR.replace("    noise_b", "    extra = 1 + 1  # new\n    noise_b")
    after = {site.key: site.drawn for site in all_sites("given", edited + "\ndef g(x):\n    return 1 - x\n")}
    assert before.items() <= after.items()
    assert len(after) > len(before)


def test_equal_sites_of_one_function_are_told_apart_and_only_they():
    source = "def f(x):\n    return g(1 - x) * h(1 - x)\n\ndef k(x):\n    return 1 - x\n"
    sites = [site for site in all_sites("given", source) if site.text == "1 - x" and site.operator == "arithmetic"]
    assert [(site.function, site.ordinal) for site in sites] == [("f", 1), ("f", 2), ("k", 1)]
    assert len({site.digest for site in sites}) == 3


def test_a_key_says_where_what_and_which():
    site = next(site for site in all_sites("given", POSTERIOR) if site.operator == "function left out")
    expected = "given.weights: noise_between.sqrt() -> noise_between [function left out] "
    assert re.fullmatch(re.escape(expected) + "[0-9a-f]{8}", site.key)
    assert short("a " * 100, 9) == "a a a ..."


def test_letters_of_more_than_one_byte_are_kept():
    source = "def f(x):\n    π = 'β̄'; return x + 1  # ᾱ\n"
    assert became(source, "arithmetic") == {"π = 'β̄'; return (x - 1)  # ᾱ"}


def test_the_library_is_drawn_from_every_module_with_formulas(record_count):
    sites = [site for module in modules(LIBRARY) for site in all_sites(module, source_of(module))]
    drawn = [site for site in sites if site.drawn]
    record_count("syntax mutants drawn", len(drawn))
    assert len(drawn) >= 250
    assert abs(len(drawn) / len(sites) - SHARE) < 0.04
    assert len({site.key for site in sites}) == len(sites)
    large = {module for module in modules(LIBRARY) if sum(site.module == module for site in sites) >= 30}
    assert large <= {site.module for site in drawn}


def test_a_patch_by_hand_has_a_twin_where_the_trees_are_equal():
    line = "return vectors * values.clamp(min=0).sqrt() @ vectors.T"
    assert line in source_of("metrics"), "take another formula for this test"
    same = Mutant("metrics", line, line.replace(".sqrt()", ""), "eigenvalues, not their roots")
    other = Mutant("metrics", line, line.replace(".sqrt()", "+ 7"), "no operator does that")
    assert [(mutant, site.operator) for mutant, site in twins([same, other])] == [(same, "function left out")]
    assert same_tree("x = 1\ny = 2\n", "x = 2\ny = 3\n") is None
