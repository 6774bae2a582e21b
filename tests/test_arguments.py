"""Every check of an argument: what it lets through, and what it refuses and how it says so."""

import math

import numpy as np
import pytest
import torch
from oracles import names_everything, refusal

from diffusion_lib import arguments
from diffusion_lib.arguments import (
    require_alike,
    require_between,
    require_choice,
    require_count,
    require_data,
    require_earlier,
    require_generator,
    require_inside,
    require_labels,
    require_points,
    require_positive,
    require_real,
    require_steps,
    require_symbols,
    require_table,
    require_tensor,
    require_time,
)

LIKE = torch.zeros(3, 2)


def test_what_is_right_comes_back():
    generator = torch.Generator()
    assert require_tensor("x", LIKE) is LIKE
    assert require_data("x", LIKE) is LIKE
    large = torch.full((4,), 3e38)  # finite, though their sum is not
    assert require_data("x", large) is large
    assert require_real("x", LIKE) is LIKE
    assert require_inside("start", 0.5, 0.0, 1.0) == 0.5
    assert require_alike("y", LIKE, "x", torch.ones(3, 2)) is LIKE
    assert require_points("x", LIKE, 2) is LIKE
    assert require_generator(generator) is generator
    assert require_choice("variance", "beta", ("posterior", "beta")) == "beta"
    assert (require_count("n", 3), require_count("n", 1), require_count("n", 5, 2, 5)) == (3, 1, 5)
    assert (require_between("eta", 0, 0.0, 1.0), require_between("eta", 1.0, 0.0, 1.0)) == (0.0, 1.0)
    assert require_between("eta", np.float64(0.5), 0.0, 1.0) == 0.5
    assert require_positive("std", 1e-300) == 1e-300
    table = require_table("beta", [1, 0.1], "(T,)", 1)
    assert table.dtype == torch.float64 and table.tolist() == [1.0, 0.1]
    labels = torch.tensor([0, 3])
    assert require_labels(labels, 3, 2) is labels and require_labels(None, 0, 2) is None
    assert require_earlier(torch.tensor(1), torch.tensor([2, 3])) is None
    assert require_symbols("x", [[0, 2]], 3, 2).tolist() == [[0, 2]] and require_symbols("x", [2], 3).tolist() == [2]


@pytest.mark.parametrize(
    ("t", "expected"),
    [
        (3, 3),
        (torch.tensor(3), 3),
        (torch.tensor([0, 3, 10]), [0, 3, 10]),
        (torch.tensor([1, 2, 3], dtype=torch.uint8), [1, 2, 3]),
        (torch.tensor([1, 2, 3], dtype=torch.int32), [1, 2, 3]),
    ],
)
def test_times_come_back_as_int64_on_the_cpu(t, expected):
    times = require_time("t", t, 0, 10, 3)
    assert times.tolist() == expected and times.dtype == torch.int64 and times.device.type == "cpu"


@pytest.mark.parametrize("steps", [[9, 4, 0], (9, 4, 0), range(9, -1, -3), torch.tensor([9, 4, 0])])
def test_steps_come_back_as_a_list_of_ints(steps):
    assert all(type(t) is int for t in require_steps(steps, 9))
    assert require_steps(steps, 9)[0] == 9 and require_steps(steps, 9)[-1] == 0
    assert require_steps([5, 3], 9) == [5, 3]  # neither T nor 0 has to be in it


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64])
def test_tables_come_back_as_a_float64_copy(dtype):
    given = torch.tensor([1, 0.5, 0.25]).to(dtype)
    table = require_table("beta", given, "(T,)", 1)
    assert table.dtype == torch.float64 and torch.equal(table, given.double())
    given += 1
    assert float(table[0]) == 1.0
    assert not require_table("beta", torch.ones(2, requires_grad=True), "(T,)", 1).requires_grad


def test_a_list_keeps_all_its_digits():
    assert require_table("beta", [0.1, 0.2], "(T,)", 1).tolist() == [0.1, 0.2]
    assert require_table("beta", np.array([0.1, 0.2]), "(T,)", 1).tolist() == [0.1, 0.2]


@pytest.mark.parametrize(
    ("call", "kind", "name", "came"),
    [
        (lambda: require_tensor("x", [1.0]), TypeError, "x", "list"),
        (lambda: require_tensor("x", np.zeros(2)), TypeError, "x", "ndarray"),
        (lambda: require_real("x", LIKE.int()), TypeError, "x", "torch.int32"),
        (lambda: require_real("x", 1.0), TypeError, "x", "float"),
        (lambda: require_data("x", LIKE.int()), TypeError, "x", "torch.int32"),
        (lambda: require_data("x", LIKE.bool()), TypeError, "x", "torch.bool"),
        (lambda: require_data("x", LIKE.to(torch.complex64)), TypeError, "x", "torch.complex64"),
        (lambda: require_data("x", torch.tensor(0.5)), ValueError, "x", "single number"),
        (lambda: require_data("x", torch.tensor([math.nan])), ValueError, "x", "NaN"),
        (lambda: require_data("x", torch.tensor([-math.inf])), ValueError, "x", "infinity"),
        (lambda: require_alike("y", LIKE.T, "x", LIKE), ValueError, "y", "(2, 3)"),
        (lambda: require_alike("y", LIKE.double(), "x", LIKE), TypeError, "y", "torch.float64"),
        (lambda: require_alike("y", LIKE.to("meta"), "x", LIKE), ValueError, "y", "meta"),
        (lambda: require_alike("y", 1.0, "x", LIKE), TypeError, "y", "float"),
        (lambda: require_points("x", LIKE, 3), ValueError, "x", "(3, 2)"),
        (lambda: require_points("x", LIKE[0], 2), ValueError, "x", "(2,)"),
        (lambda: require_points("x", LIKE.long(), 2), TypeError, "x", "int64"),
        (lambda: require_table("beta", None, "(T,)", 1), TypeError, "beta", "NoneType"),
        (lambda: require_table("beta", [0.1, math.inf], "(T,)", 1), ValueError, "beta", "inf"),
        (lambda: require_time("t", 11, 1, 10), ValueError, "t", "11"),
        (lambda: require_time("t", 0, 1, 10), ValueError, "t", "0"),
        (lambda: require_time("t", 5.0, 1, 10), TypeError, "t", "5.0"),
        (lambda: require_time("t", True, 1, 10), TypeError, "t", "True"),
        (lambda: require_time("t", "5", 1, 10), TypeError, "t", "'5'"),
        (lambda: require_time("t", [5.0], 1, 10), TypeError, "t", "[5.0]"),
        (lambda: require_time("t", [True], 1, 10), TypeError, "t", "[True]"),
        (lambda: require_time("t", np.array([0.5]), 1, 10), TypeError, "t", "float64"),
        (lambda: require_time("t", torch.tensor([5.0]), 1, 10), TypeError, "t", "torch.float32"),
        (lambda: require_time("t", torch.tensor([True]), 1, 10), TypeError, "t", "torch.bool"),
        (lambda: require_time("t", torch.tensor([[5]]), 1, 10), ValueError, "t", "(1, 1)"),
        (lambda: require_time("t", torch.tensor([5, 6]), 1, 10, 3), ValueError, "t", "(2,)"),
        (lambda: require_time("t", torch.tensor([5]), 1, 10, 3), ValueError, "t", "(1,)"),
        (lambda: require_time("t", torch.tensor([5, 11]), 1, 10, 2), ValueError, "t", "11"),
        (lambda: require_earlier(torch.tensor([1, 3]), torch.tensor([2, 3])), ValueError, "s", "s = 3 with t = 3"),
        (lambda: require_steps([5, 5], 9), ValueError, "steps", "5, 5 at place 1"),
        (lambda: require_steps([0, 5], 9), ValueError, "steps", "0, 5 at place 1"),
        (lambda: require_steps([10, 0], 9), ValueError, "steps", "10 at place 0"),
        (lambda: require_steps([9, -1], 9), ValueError, "steps", "9, -1 at place 1"),
        (lambda: require_steps([9], 9), ValueError, "steps", "[9]"),
        (lambda: require_steps([], 9), ValueError, "steps", "[]"),
        (lambda: require_steps(None, 9), TypeError, "steps", "None"),
        (lambda: require_steps(9, 9), TypeError, "steps", "9"),
        (lambda: require_steps(torch.tensor(9), 9), TypeError, "steps", "shape ()"),
        (lambda: require_steps(torch.tensor([[9, 0]]), 9), TypeError, "steps", "shape (1, 2)"),
        (lambda: require_steps([9, 0.0], 9), TypeError, "steps", "0.0 at place 1"),
        (lambda: require_steps([True, False], 9), TypeError, "steps", "True at place 0"),
        (lambda: require_steps(torch.tensor([9.0, 0.0]), 9), TypeError, "steps", "9.0 at place 0"),
        (lambda: require_steps(["9", "0"], 9), TypeError, "steps", "'9' at place 0"),
        (lambda: require_table("beta", [1, 1j], "(T,)", 1), TypeError, "beta", "list"),
        (lambda: require_table("beta", torch.ones(2) * 1j, "(T,)", 1), TypeError, "beta", "torch.complex64"),
        (lambda: require_table("beta", "0.1", "(T,)", 1), TypeError, "beta", "str"),
        (lambda: require_table("beta", 0.1, "(T,)", 1), ValueError, "beta", "()"),
        (lambda: require_table("beta", [[0.1]], "(T,)", 1), ValueError, "beta", "(1, 1)"),
        (lambda: require_table("beta", [], "(T,)", 1), ValueError, "beta", "(0,)"),
        (lambda: require_table("beta", [0.1, math.nan], "(T,)", 1), ValueError, "beta", "nan"),
        (lambda: require_between("eta", 1.1, 0.0, 1.0), ValueError, "eta", "1.1"),
        (lambda: require_between("eta", -0.1, 0.0, 1.0), ValueError, "eta", "-0.1"),
        (lambda: require_between("eta", math.nan, 0.0, 1.0), ValueError, "eta", "nan"),
        (lambda: require_between("eta", "1", 0.0, 1.0), TypeError, "eta", "'1'"),
        (lambda: require_between("eta", False, 0.0, 1.0), TypeError, "eta", "False"),
        (lambda: require_inside("start", 0.0, 0.0, 1.0), ValueError, "start", "0.0"),
        (lambda: require_inside("start", 1, 0.0, 1.0), ValueError, "start", "1"),
        (lambda: require_inside("start", math.nan, 0.0, 1.0), ValueError, "start", "nan"),
        (lambda: require_inside("start", None, 0.0, 1.0), TypeError, "start", "None"),
        (lambda: require_positive("std", 0.0), ValueError, "std", "0.0"),
        (lambda: require_positive("std", -1), ValueError, "std", "-1"),
        (lambda: require_positive("std", math.inf), ValueError, "std", "inf"),
        (lambda: require_positive("std", math.nan), ValueError, "std", "nan"),
        (lambda: require_count("n", 0), ValueError, "n", "0"),
        (lambda: require_count("n", 6, 2, 5), ValueError, "n", "6"),
        (lambda: require_count("n", 2.0), TypeError, "n", "2.0"),
        (lambda: require_count("n", True), TypeError, "n", "True"),
        (lambda: require_labels(None, 3, 2), ValueError, "labels", "None"),
        (lambda: require_labels(torch.tensor([0, 1]), 0, 2), ValueError, "labels", "got labels"),
        (lambda: require_labels([0, 1.0], 3, 2), TypeError, "labels", "[0, 1.0]"),
        (lambda: require_count("n", torch.tensor(3)), TypeError, "n", "Tensor"),
        (lambda: require_count("n", np.True_), TypeError, "n", "True"),
        (lambda: require_steps("90", 9), TypeError, "steps", "'90'"),
        (lambda: require_labels(torch.tensor([0.0, 1.0]), 3, 2), TypeError, "labels", "torch.float32"),
        (lambda: require_labels(torch.tensor([0]), 3, 2), ValueError, "labels", "(1,)"),
        (lambda: require_labels(torch.tensor([0, 4]), 3, 2), ValueError, "labels", "0..4"),
        (lambda: require_labels(torch.tensor([-1, 0]), 3, 2), ValueError, "labels", "-1..0"),
        (lambda: require_symbols("x", [[0, 3]], 3), ValueError, "x", "3"),
        (lambda: require_symbols("x", [[0, -1]], 3), ValueError, "x", "-1"),
        (lambda: require_symbols("x", torch.zeros(2, 2), 3), TypeError, "x", "float32"),
        (lambda: require_symbols("x", [0, 1], 3, 4), ValueError, "x", "(2,)"),
        (lambda: require_symbols("x", [[0] * 5], 3, 4), ValueError, "x", "(1, 5)"),
        (lambda: require_symbols("x", np.zeros((2, 0), int), 3, 4), ValueError, "x", "(2, 0)"),
        (lambda: require_generator(None), TypeError, "generator", "NoneType"),
        (lambda: require_generator(0), TypeError, "generator", "int"),
        (lambda: require_choice("variance", "small", ("posterior", "beta")), ValueError, "variance", "'small'"),
    ],
)
def test_what_is_wrong_is_named(call, kind, name, came):
    error = refusal(call)
    assert type(error) is kind and names_everything(error, name, came), error


def test_what_numpy_gives_is_taken():
    """Integers of numpy, arrays that are reversed views, lists of integers."""
    count, fraction = require_count("n", np.int64(3)), require_between("eta", np.float32(0.5), 0, 1)
    assert (type(count), count, type(fraction), fraction) == (int, 3, float, 0.5)
    assert require_steps(np.arange(4)[::-1], 9) == require_steps([np.int64(t) for t in (3, 2, 1, 0)], 9) == [3, 2, 1, 0]
    assert require_table("beta", np.array([1.0, 0.5])[::-1], "(T,)", 1).tolist() == [0.5, 1.0]
    for t in ([3, 1], (3, 1), np.array([1, 3])[::-1], np.array([3, 1], np.uint16)):
        assert require_time("t", t, 1, 9, 2).tolist() == [3, 1]
    assert require_time("t", np.int32(3), 1, 9).tolist() == 3
    assert require_labels([0, 3], 3, 2).tolist() == require_labels(np.array([3, 0])[::-1], 3, 2).tolist() == [0, 3]


MANY = 5000


@pytest.mark.parametrize(
    "call",
    [
        lambda: require_steps(list(range(MANY)), MANY),
        lambda: require_steps([0.5] * MANY, MANY),
        lambda: require_steps("9" * MANY, MANY),
        lambda: require_steps(torch.rand(MANY, MANY), 9),
        lambda: require_earlier(torch.arange(MANY), torch.zeros(MANY)),
        lambda: require_time("t", ["x"] * MANY, 1, 9),
        lambda: require_time("t", torch.arange(MANY), 1, 9),
        lambda: require_count("n", "n" * MANY),
        lambda: require_between("eta", "n" * MANY, 0, 1),
        lambda: require_labels(list(range(MANY)), 9, MANY),
        lambda: require_labels([0.5] * MANY, 9, MANY),
        lambda: require_symbols("x", list(range(MANY)), 9),
        lambda: require_choice("variance", "b" * MANY, ("beta",)),
        lambda: require_table("beta", [math.inf] * MANY, "(T,)", 1),
    ],
)
def test_no_error_is_longer_than_300_characters(call):
    assert len(str(refusal(call))) <= 300


def test_every_check_is_tested_here():
    checks = {name for name in vars(arguments) if name.startswith("require_")}
    assert checks <= set(globals())
