"""What a lesson prints: an equation checked by another route, a slip refuted, a claim in words, a function's text."""

import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from IPython.display import Markdown, display

from diffusion_lib.teaching import registry

PACKAGE = Path(__file__).resolve().parents[1]
STANDARD_ERRORS = 4  # how many of its own standard errors a Monte Carlo estimate may lie from the truth
TOLERANCE = 1e-10
BITE = 0.01  # the share of its size by which a number may be off unseen
# Small enough that a line of 120 characters is not broken in JupyterLab; the font said again for exported pages.
LISTING = (
    '<div style="font-family: monospace; font-size: 0.8em; margin: 0.8em 0.4em">\n\n```python\n{text}\n```\n\n</div>'
)
FOLDED = "<details>\n<summary>The code behind these controls</summary>\n\n{listing}\n\n</details>"


def verify(
    tag: str,
    left: object,
    right: object,
    *,
    route: str,
    tol: float | None = None,
    standard_error: object = None,
    bite: float | None = None,
    floor: float | None = None,
) -> None:
    """Check that both sides of equation `tag` agree, `right` found by an independent `route`, and print one fixed line.

    With size(x) = max(|x|, `floor`), and `floor` = 0 where it is not given, every element must meet

        |left - right| <= tol * size(right), or |left - right| <= 4 standard_error for a Monte Carlo mean.

    tol is 1e-10 if neither is given. The check has to be sensitive in every element: it must fail when any one of them
    is moved by `bite` * size(left), up or down, and 4 standard_error must lie below `bite` * size(right). `bite` is
    0.01 if not given. `floor` is for numbers that may be 0 or next to nothing: covariances, the tails of a density.
    Shapes: both sides alike, any shape, real numbers; standard_error a number or of that shape.

    Raises AssertionError (tag and numbers) where the sides disagree; ValueError or TypeError for a check that proves
    nothing: one object on both sides, unlike shapes, NaN or infinity, no numbers, no route, too loose a tolerance.
    """
    if not (isinstance(tag, str) and tag.strip() and isinstance(route, str) and route.strip()):
        raise ValueError(f"tag, route: expected an equation's tag and where right comes from, got {tag!r}, {route!r}")
    lhs, rhs = _sides(tag, left, right)
    shift = _share(tag, "bite", bite, BITE)
    least = _share(tag, "floor", floor, 0.0)
    size, moved = np.maximum(np.abs(rhs), least), shift * np.maximum(np.abs(lhs), least)
    allowed, words = _allowed(tag, rhs, size, tol, standard_error)
    error = np.abs(lhs - rhs)
    if (error > allowed).any():
        raise AssertionError(_disagreement(tag, route, lhs, rhs, allowed))
    slack = allowed - shift * size if standard_error is not None else allowed - np.abs(moved - error)
    if not shift > 0 or (slack >= 0).any():
        raise ValueError(_looseness(tag, lhs, slack, shift))
    settings = [f"{name} {value:g}" for name, value in (("bite", bite), ("floor", floor)) if value is not None]
    print(f"ok  ({tag})  by {route}, {', '.join([words, *settings])}")


def refute(tag: str, right: object, wrong: object) -> None:
    """Check that the slip printed as equation `tag` is wrong, in numbers, and print by how much.

    `right` is what it should give, `wrong` what it gives; some element must differ by more than 1 % of its size. A
    slip's tag ends in " wrong": "9.31 wrong". Shapes: both alike, any shape, real numbers.

    Raises AssertionError where the two agree; ValueError or TypeError as `verify`.
    """
    if not (isinstance(tag, str) and tag.endswith(" wrong")):
        raise ValueError(f'tag: expected the tag of a slip, "9.31 wrong", got {tag!r}')
    truth, slip = _sides(tag, right, wrong)
    error, size = np.abs(slip - truth), np.abs(truth)
    if not (error > BITE * np.maximum(size, np.abs(slip))).any():
        raise AssertionError(f"({tag}) is no slip: nowhere more than {BITE:.0%} off")
    at, _ = _place(error)
    print(f"no  ({tag})  gives {slip[at]:.3g} where {truth[at]:.3g} is right")


def claim(text: str, truth: object) -> None:
    """Print `ok  text` if `truth` is true; AssertionError if it is false, TypeError if it is not one true-or-false."""
    value = truth.item() if isinstance(truth, torch.Tensor | np.ndarray | np.generic) and _is_single(truth) else truth
    if not isinstance(value, bool):
        raise TypeError(f"truth: expected one True or False for {text!r}, got {type(value).__name__} {value!r}")
    if not value:
        raise AssertionError(f"claim is false: {text}")
    print(f"ok  {text}")


def source(function: Callable) -> None:
    """Display the text of one of the library's functions or classes, so that the page cannot drift from the code.

    That of an explorer is folded away: a reader of the page came for its controls.

    Raises TypeError for what has no text of its own, ValueError for what is not the library's.
    """
    try:
        text, path = inspect.getsource(function), Path(inspect.getfile(function)).resolve()
    except (TypeError, OSError) as error:
        raise TypeError(f"function: expected a function or class of diffusion_lib, got {function!r}") from error
    if PACKAGE not in path.parents:
        raise ValueError(f"function: expected one of diffusion_lib's own, got {function!r} from {path.name}")
    where = path.relative_to(PACKAGE.parent).as_posix()
    listing = LISTING.format(text=f"# {where}\n{textwrap.dedent(text).strip()}")
    display(Markdown(FOLDED.format(listing=listing) if registry.is_explorer(function) else listing))


def _sides(tag: str, left: object, right: object) -> tuple[np.ndarray, np.ndarray]:
    """Both sides in float64: of one shape, and no object compared with itself."""
    raw_left, raw_right = _array(tag, "left", left), _array(tag, "right", right)
    same = left is right and not isinstance(left, int)  # Python keeps one object for each small int
    if same or np.shares_memory(raw_left, raw_right):
        raise ValueError(f"({tag}) right: expected a second computation, got the same object as left")
    if raw_left.shape != raw_right.shape:
        raise ValueError(f"({tag}) right: expected the shape of left, {raw_left.shape}, got {raw_right.shape}")
    return _numbers(tag, "left", raw_left), _numbers(tag, "right", raw_right)


def _array(tag: str, name: str, value: object) -> np.ndarray:
    """One side as the array it is, without a copy where it has memory of its own."""
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.dtype.kind not in "iufO":
        raise TypeError(f"({tag}) {name}: expected real numbers, got {array.dtype}")
    if array.size == 0:
        raise ValueError(f"({tag}) {name}: expected at least one number, got shape {array.shape}")
    return array


def _numbers(tag: str, name: str, array: np.ndarray) -> np.ndarray:
    """The array in float64, every entry finite."""
    try:
        numbers = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"({tag}) {name}: expected real numbers, got {array!r}") from error
    if not np.isfinite(numbers).all():
        raise ValueError(f"({tag}) {name}: expected finite numbers, got NaN or infinity")
    return numbers


def _share(tag: str, name: str, value: float | None, usual: float) -> float:
    """A size that the author may set, or the usual one."""
    number = usual if value is None else value
    if not 0 <= number < np.inf:
        raise ValueError(f"({tag}) {name}: expected a finite number, at least 0, got {number}")
    return number


def _allowed(
    tag: str, rhs: np.ndarray, size: np.ndarray, tol: float | None, standard_error: object
) -> tuple[np.ndarray, str]:
    """How far the sides may lie apart, element by element, and how the printed line says so."""
    if tol is not None and standard_error is not None:
        raise ValueError(f"({tag}) tol, standard_error: expected one of the two, got both")
    if standard_error is None:
        tol = TOLERANCE if tol is None else tol
        if not 0 <= tol < 1:
            raise ValueError(f"({tag}) tol: expected a number in [0, 1), got {tol}")
        return tol * size, f"to {tol:g}" if tol else "exactly"
    deviation = _numbers(tag, "standard_error", _array(tag, "standard_error", standard_error))
    if deviation.shape not in ((), rhs.shape) or not (deviation > 0).all():
        raise ValueError(
            f"({tag}) standard_error: expected positive numbers, () or {rhs.shape}, got shape {deviation.shape}, "
            f"least {deviation.min():.3g}"
        )
    return np.broadcast_to(STANDARD_ERRORS * deviation, rhs.shape), f"within {STANDARD_ERRORS} standard errors"


def _place(excess: np.ndarray) -> tuple[tuple[int, ...], str]:
    """Where an array is largest, and how a message says so."""
    at = tuple(int(i) for i in np.unravel_index(np.argmax(excess), excess.shape))
    return at, f" at {at}" if at else ""


def _disagreement(tag: str, route: str, lhs: np.ndarray, rhs: np.ndarray, allowed: np.ndarray) -> str:
    """Where the two sides differ most beyond what is allowed, in numbers."""
    excess = np.abs(lhs - rhs) - allowed
    at, place = _place(excess)
    many = f"; {int((excess > 0).sum())} of {excess.size} elements disagree" if excess.size > 1 else ""
    return f"({tag}) left {lhs[at]:.6g} is not right {rhs[at]:.6g}{place} by {route}: allowed {allowed[at]:.3g}{many}"


def _looseness(tag: str, lhs: np.ndarray, slack: np.ndarray, shift: float) -> str:
    """Which element the check would accept although it is off, and the two cures."""
    at, place = _place(slack)
    return (
        f"({tag}) bite: this check is too loose: it would also accept left {lhs[at]:.6g}{place} if it were "
        f"{100 * shift:g}% off; tighten tol, draw more, or give the size that counts as floor"
    )


def _is_single(value: torch.Tensor | np.ndarray | np.generic) -> bool:
    """True for one value without axes."""
    return value.ndim == 0
