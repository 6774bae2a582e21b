"""teaching/checks: a check that passes prints one fixed line; one that fails, or could not fail, raises."""

import inspect
import re
import textwrap

import numpy as np
import pytest
import sympy
import torch
from IPython.display import Markdown
from nbconvert.filters.markdown import markdown2html_mistune

from diffusion_lib.teaching import checks, registry
from diffusion_lib.teaching.checks import claim, refute, source, verify


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (0.5, 0.5 + 1e-12),
        (torch.tensor([1.0, 1e-9], dtype=torch.float64), [1.0, 1e-9 + 1e-21]),  # relative in every element
        (np.float32(3.0), torch.tensor(3)),
        (sympy.Rational(1, 3), 1 / 3),
        (1e8, 1e8 + 1e-3),
        (torch.ones(2, requires_grad=True), np.ones(2)),
    ],
)
def test_verify_prints_its_line(left, right, capsys):
    verify("9.4", left, right, route="Bayes on a grid")
    assert capsys.readouterr().out == "ok  (9.4)  by Bayes on a grid, to 1e-10\n"


def test_verify_says_its_tolerance(capsys):
    verify("9.4", 0.5, 0.5004, route="quadrature", tol=1e-3)
    verify("9.5", 0.5, 0.5004, route="Monte Carlo", standard_error=0.0002, bite=0.05)
    verify("9.6", 7, 7, route="counting", tol=0)
    verify("9.7", [1.0, 0.0], [1.0, 1e-12], route="regression", floor=1)
    assert capsys.readouterr().out.splitlines() == [
        "ok  (9.4)  by quadrature, to 0.001",
        "ok  (9.5)  by Monte Carlo, within 4 standard errors, bite 0.05",
        "ok  (9.6)  by counting, exactly",
        "ok  (9.7)  by regression, to 1e-10, floor 1",
    ]


@pytest.mark.parametrize(
    ("left", "right", "options"),
    [
        (0.5, 0.5 + 1e-9, {}),
        (0.5, 0.502, {"tol": 1e-3}),
        (1e8, 1e8 + 1.0, {}),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.1], {}),
        (0.5, 0.5009, {"standard_error": 0.0002}),
        ([0.5, 1.0], [0.5, 1.001], {"standard_error": [1e-3, 1e-4]}),
        ([1.0, 1e-9], [1.0, 1e-9 + 1e-18], {}),  # nothing of 1 is lent to a small element
        ([1.0, 1e-12], [1.0, 3e-11], {}),
        ([1.0, 0.0], [1.0, 1e-9], {"floor": 1}),
    ],
)
def test_verify_fails_where_the_sides_disagree(left, right, options, capsys):
    with pytest.raises(AssertionError, match=r"\(9\.4\) left .* is not right .* by quadrature"):
        verify("9.4", left, right, route="quadrature", **options)
    assert capsys.readouterr().out == ""


def test_verify_names_the_worst_element():
    with pytest.raises(AssertionError, match=r"left 3 is not right 3\.1 at \(2,\).*1 of 3 elements"):
        verify("9.4", [1.0, 2.0, 3.0], [1.0, 2.0, 3.1], route="quadrature")


ONE, HALF = torch.ones(3), 0.5


@pytest.mark.parametrize(
    ("left", "right", "options", "error", "message"),
    [
        (ONE, ONE, {}, ValueError, "same object"),
        (ONE, ONE.view(3), {}, ValueError, "same object"),
        (ONE, ONE.numpy(), {}, ValueError, "same object"),
        (ONE, np.ones(2), {}, ValueError, r"expected the shape of left, \(3,\), got \(2,\)"),
        (ONE, 1.0, {}, ValueError, "expected the shape of left"),
        (float("nan"), 1.0, {}, ValueError, "left: expected finite"),
        (1.0, float("inf"), {}, ValueError, "right: expected finite"),
        ([], [], {}, ValueError, "at least one number"),
        (True, np.bool_(True), {}, TypeError, "left: expected real numbers, got bool"),
        (1.0, 1j, {}, TypeError, "right: expected real numbers, got complex"),
        ("1", "1.0", {}, TypeError, "expected real numbers"),
        (1.0, sympy.Symbol("x"), {}, TypeError, "right: expected real numbers"),
        (1.0, 1.0 + 1e-9, {"tol": 0.5}, ValueError, r"accept left 1 if it were 1% off"),
        ([5.0, 1.0], [5.0 + 1e-12, 1.0], {"tol": 0.02}, ValueError, "too loose"),
        ([5.0, 0.0], [5.0 + 1e-12, 0.0], {}, ValueError, r"accept left 0 at \(1,\)"),  # one element suffices
        ([5.0, 1.0], [5.0, 1.0], {"standard_error": [1e-4, 0.0026]}, ValueError, r"accept left 1 at \(1,\)"),
        (1.0, 1.0 + 1e-12, {"tol": 1e-3, "bite": 1e-3}, ValueError, "0.1% off"),
        ([1.0, 0.0], [1.0, 0.0], {"standard_error": 0.0026, "floor": 1}, ValueError, "too loose"),
        (1.0, 1.0 + 1e-12, {"floor": -1}, ValueError, "floor: expected"),
        (1.0, 1.0 + 1e-12, {"floor": float("inf")}, ValueError, "floor: expected"),
        (0.001, 0.0011, {"standard_error": 0.01}, ValueError, "this check is too loose"),
        (1.0, 1.0 + 1e-12, {"bite": 0.0}, ValueError, "bite"),
        (1.0, 1.0 + 1e-12, {"bite": float("nan")}, ValueError, "bite"),
        (HALF, HALF, {}, ValueError, "same object"),
        (1.0, 1.0 + 1e-12, {"tol": -1e-3}, ValueError, "tol: expected"),
        (1.0, 1.0 + 1e-12, {"tol": float("nan")}, ValueError, "tol: expected"),
        (1.0, 1.0 + 1e-12, {"tol": 1e-3, "standard_error": 1e-3}, ValueError, "one of the two"),
        (1.0, 1.0 + 1e-12, {"standard_error": 0.0}, ValueError, "standard_error: expected positive"),
        (1.0, 1.0 + 1e-12, {"standard_error": [1e-3, 1e-3]}, ValueError, "standard_error: expected positive"),
        (1.0, 1.0 + 1e-12, {"route": ""}, ValueError, "route"),
        (1.0, 1.0 + 1e-12, {"tag": " "}, ValueError, "tag"),
    ],
)
def test_verify_refuses_what_proves_nothing(left, right, options, error, message):
    arguments = {"tag": "9.4", "route": "quadrature", **options}
    with pytest.raises(error, match=message):
        verify(arguments.pop("tag"), left, right, **arguments)


def test_a_check_bites_in_both_directions():
    """0.6 % off, the left side moved by 1 % is 0.4 % off on the other side: a tolerance of 0.7 % is loose."""
    verify("9.4", 1.0, 1.006, route="quadrature", tol=0.007, bite=0.02)
    for left, right in ((1.0, 1.006), (1.006, 1.0), (-1.0, -1.006)):
        with pytest.raises(ValueError, match="too loose"):
            verify("9.4", left, right, route="quadrature", tol=0.007)


@pytest.mark.parametrize("standard_error", [0.0024, [0.0024, 0.0048]])
def test_monte_carlo_is_judged_by_its_own_standard_errors(standard_error):
    """Not by where the draws happened to fall."""
    for right in ([1.0, 2.0], [1.009, 2.009], [0.991, 1.991]):
        verify("9.4", [1.0, 2.0], right, route="Monte Carlo", standard_error=standard_error)
    with pytest.raises(AssertionError):
        verify("9.4", [1.0, 2.0], [1.0098, 2.0], route="Monte Carlo", standard_error=standard_error)


def test_refute_says_what_the_slip_gives(capsys):
    refute("9.31 wrong", [0.5, 2.0, 0.0], [0.5, 2.5, 0.1])
    assert capsys.readouterr().out == "no  (9.31 wrong)  gives 2.5 where 2 is right\n"
    with pytest.raises(AssertionError, match=r"\(9\.31 wrong\) is no slip: nowhere more than 1% off"):
        refute("9.31 wrong", [0.5, 2.0, 0.0], [0.504, 2.0, 0.0])
    for tag in ("9.31", "", None):
        with pytest.raises(ValueError, match="tag: expected the tag of a slip"):
            refute(tag, 1.0, 2.0)
    with pytest.raises(ValueError, match="same object"):
        refute("9.31 wrong", HALF, HALF)
    assert capsys.readouterr().out == ""


def test_claim_prints_or_raises(capsys):
    for truth in (True, np.bool_(True), torch.tensor(True)):
        claim("variance is preserved", truth)
    assert capsys.readouterr().out == "ok  variance is preserved\n" * 3
    for false in (False, torch.tensor(1.0) > 2):
        with pytest.raises(AssertionError, match="claim is false: variance is preserved"):
            claim("variance is preserved", false)
    for neither in (1, None, "yes", torch.tensor([True, True]), torch.tensor(1.0)):
        with pytest.raises(TypeError, match="expected one True or False"):
            claim("variance is preserved", neither)


def test_source_shows_the_text_and_where_it_lies(monkeypatch):
    shown = []
    monkeypatch.setattr(checks, "display", shown.append)
    source(claim)
    assert isinstance(shown[0], Markdown)
    style, _, first, where, *text, last, _, end = shown[0].data.splitlines()
    assert (first, where, last) == ("```python", "# diffusion_lib/teaching/checks.py", "```")
    assert style.startswith("<div style=") and "monospace" in style and end == "</div>"
    assert "\n".join(text) + "\n" == inspect.getsource(claim)


def test_source_of_an_explorer_is_folded_away(monkeypatch):
    """And the same listing is in it, in JupyterLab's Markdown and in nbconvert's."""
    shown, factory = [], registry.explorers()[0]
    monkeypatch.setattr(checks, "display", shown.append)
    source(factory)
    monkeypatch.setattr(registry, "is_explorer", lambda function: False)
    source(factory)
    folded, plain = (markdown.data for markdown in shown)
    assert plain.startswith("<div") and folded == checks.FOLDED.format(listing=plain)
    where = f"# diffusion_lib/lessons/{registry.lesson_of(factory)}/explorers.py"
    assert f"{where}\n{inspect.getsource(factory)}" in folded and "\n@explorer\ndef " in folded
    page = markdown2html_mistune(folded)
    assert re.match(r"<details>\s*<summary>The code behind these controls</summary>", page) and "open" not in page[:20]
    inside = page[: page.index("</details>")]
    assert page.strip().endswith("</details>") and "highlight" in inside and factory.__name__ in inside
    assert "```" not in page


@pytest.mark.parametrize(("thing", "error"), [(3, TypeError), (len, TypeError), (textwrap.indent, ValueError)])
def test_source_refuses_what_is_not_the_librarys(thing, error):
    with pytest.raises(error, match="function: expected"):
        source(thing)
