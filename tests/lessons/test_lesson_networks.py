"""Lesson 02: the worked network by torch, descents by closed forms, schedules by torch's own."""

import math
import re

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from diffusion_lib.lessons.networks import explorers, nets


def numbers(sentence):
    return [float(found.replace(",", "")) for found in re.findall(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]\d+)?", sentence)]


def by_torch(theta, target=1.0):
    t = {name: torch.tensor(value, dtype=torch.float64) for name, value in theta.items()}
    W1, b1 = torch.stack([t["w11"], t["w12"], t["w21"], t["w22"]]).view(2, 2), torch.stack([t["b11"], t["b12"]])
    hidden = torch.relu(W1 @ torch.tensor([1.0, 2.0], dtype=torch.float64) + b1)
    output = float(torch.stack([t["w31"], t["w32"]]) @ hidden + t["b2"])
    return output, 0.5 * (output - target) ** 2


@pytest.mark.parametrize("number", list(explorers.NUMBERS))
@pytest.mark.parametrize("add", [-1.0, 0.4, 1.0])
def test_the_worked_network_is_torchs(number, add):
    name = explorers.NUMBERS[number]
    said = numbers(explorers.worked().description(add=add, number=number).split(":")[1])
    assert said == pytest.approx(by_torch({**nets.WORKED, name: nets.WORKED[name] + add}), abs=6e-4)
    assert f"({nets.WORKED[name]:g})" in number


@pytest.mark.parametrize("target", [-1.5, -0.18, 1.0, 2.5])
def test_the_slope_is_the_derivative_of_the_loss(target):
    _, _, loss, slope = numbers(explorers.target().description(target=target))
    h = 1e-6
    found = (0.5 * (-0.18 + h - target) ** 2 - 0.5 * (-0.18 - h - target) ** 2) / (2 * h)
    assert slope == pytest.approx(found, abs=0.006) and loss == pytest.approx(0.5 * (-0.18 - target) ** 2, abs=6e-4)


@pytest.mark.parametrize("lr", [0.01, 0.06, 0.16, 0.17])
def test_a_plain_descent_is_its_closed_form(lr):
    x, y = -3 * (1 - lr) ** 20, 1.2 * (1 - 12 * lr) ** 20
    sentence = explorers.descent().description(lr=lr)
    assert float(sentence.split()[-4]) == pytest.approx(0.5 * (x**2 + 12 * y**2), rel=0.05)


def test_momentum_is_torchs():
    point = torch.tensor([-3.0, 1.2], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([point], lr=0.06, momentum=0.8)
    for _ in range(20):
        optimizer.zero_grad()
        (0.5 * (point[0] ** 2 + 12 * point[1] ** 2)).backward()
        optimizer.step()
    torch.testing.assert_close(explorers.path(0.06, 0.8)[-1], point.detach(), rtol=1e-10, atol=1e-12)


def test_the_noise_falls_as_the_root_of_the_batch_size():
    one = explorers.noise()
    sizes = (1, 4, 64, 512)
    plane, whole = zip(*(numbers(one.description(batch=b))[1:4:2] for b in sizes), strict=True)
    for found in (plane, whole):
        slope = np.polyfit(np.log(sizes), np.log(found), 1)[0]
        assert slope == pytest.approx(-0.5, abs=0.04)


def test_schedules_begin_and_end_where_they_should():
    ends = {
        "constant": (1, 1),
        "step": (1, 0.01),
        "exponential": (1, 0.01),
        "cosine": (1, 0),
        "warm-up, then cosine": (0, 0),
    }
    for name, (first, last) in ends.items():
        schedule = nets.SCHEDULES[name]
        assert schedule(0.0) == pytest.approx(first) and schedule(0.999999) == pytest.approx(last, abs=1e-4)
    assert nets.warm_up(0.05) == pytest.approx(0.5) and nets.warm_up(0.5) == pytest.approx(0.5)
    assert [nets.step(u) for u in (0.33, 0.34, 0.66, 0.67)] == pytest.approx([1, 0.1, 0.1, 0.01])
    assert nets.exponential(0.5) == pytest.approx(0.1) and nets.cosine(0.25) == pytest.approx(0.8536, abs=1e-4)


def test_a_plateau_is_seen_and_a_falling_loss_is_none():
    falling, flat = nets.Plateau(), nets.Plateau()
    assert {falling(1 / k) for k in range(1, 400)} == {1.0}
    shares = [flat(1.0) for _ in range(260)]
    assert shares[:149] == [1.0] * 149 and shares[149:250] == pytest.approx([0.1] * 101)
    assert shares[250:] == pytest.approx([0.01] * 10)
    with pytest.raises(ValueError, match="patience: expected"):
        nets.Plateau(0)


@pytest.mark.parametrize(("schedule", "lr"), [("cosine", 0.2), ("plateau", 0.5)])
def test_a_descent_is_numpys(schedule, lr):
    x, y = (part.numpy() for part in nets.regression())
    W, losses, share, best, since = np.zeros((65, 10)), [], 1.0, np.inf, 0
    generator = torch.Generator().manual_seed(0)
    for k, (rate, found) in enumerate(nets.descend(schedule, lr, steps=700)):
        last = found
        i = torch.randint(len(x), (16,), generator=generator).numpy()
        p = np.exp(x[i] @ W)
        p = p / p.sum(1, keepdims=True)
        losses.append(-np.log(p[np.arange(16), y[i]]).mean())
        if schedule == "cosine":
            share = 0.5 + 0.5 * np.cos(np.pi * k / 700)
        elif k >= 49:
            mean = np.mean(losses[-50:])
            best, since = (mean, 0) if mean < best else (best, since + 1)
            if since == 100:
                share, best, since = share / 10, np.inf, 0
        W = W - lr * share * (x[i].T @ (p - np.eye(10)[y[i]]) / 16 + 0.01 * W)
        assert rate == pytest.approx(lr * share)
    np.testing.assert_allclose(last.numpy(), W, rtol=1e-8, atol=1e-10)
    assert schedule == "cosine" or share < 1


def test_the_optimum_is_scipys():
    x, y = (part.numpy() for part in nets.regression())
    hot = np.eye(10)[y]

    def loss_and_gradient(flat):
        W = flat.reshape(65, 10)
        a = x @ W
        log_p = a - a.max(1, keepdims=True)
        log_p = log_p - np.log(np.exp(log_p).sum(1, keepdims=True))
        gradient = x.T @ (np.exp(log_p) - hot) / len(x) + 0.01 * W
        return -(hot * log_p).sum(1).mean() + 0.005 * (W**2).sum(), gradient.ravel()

    found = minimize(
        loss_and_gradient, np.zeros(650), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-14}
    )
    assert nets.optimum() == pytest.approx(found.fun, abs=1e-6) and nets.optimum() == pytest.approx(0.3712542, abs=1e-6)


def test_a_descent_follows_its_schedule_and_lowers_the_loss():
    taken = list(nets.descend("cosine", 0.2, steps=200))
    assert [rate for rate, _ in taken[::50]] == pytest.approx([0.2 * nets.cosine(k / 200) for k in range(0, 200, 50)])
    assert float(nets.regression_loss(taken[-1][1])) < 0.5 < math.log(10)
    with pytest.raises(ValueError, match="lr: expected"):
        next(nets.descend("cosine", 0.0))


@pytest.mark.parametrize(("schedule", "lr"), [("cosine", 0.2), ("plateau", 0.2), ("step", 0.02)])
def test_the_schedules_sentence_is_what_is_left(schedule, lr):
    *_, (_, W) = nets.descend(schedule, lr)
    left = float(nets.regression_loss(W)) - nets.optimum()
    assert float(explorers.schedules().description(schedule=schedule, lr=lr).split()[-4]) == pytest.approx(
        left, rel=0.5
    )
