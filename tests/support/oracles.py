"""Independent routes to what the library computes: definitions, grids, quadrature, other people's algorithms.

Nothing here imports diffusion_lib. Names: `a` and `b` are the signal and noise rates, a^2 + b^2 = 1.
"""

import ast
import itertools
import math
import re
from dataclasses import dataclass

import mpmath
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

GRID = np.linspace(-12.0, 12.0, 24001)


def normal(x, mean, variance):
    """The density of N(mean, variance) at x."""
    return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * math.pi * variance)


def moments(density, grid=GRID):
    """Mean and variance of an unnormalised density on a grid, by the trapezium rule."""
    density = density / np.trapezoid(density, grid)
    mean = np.trapezoid(density * grid, grid)
    return mean, np.trapezoid(density * (grid - mean) ** 2, grid)


def bayes(alpha_bar, s, t, x0, x_t, grid=GRID):
    """Mean and variance of q(x_s | x_t, x_0) by Bayes' rule on a grid: jump to s, then the Markov steps up to t."""
    kept = np.prod([alpha_bar[i] / alpha_bar[i - 1] for i in range(s + 1, t + 1)])  # product of the alphas
    prior = normal(grid, math.sqrt(alpha_bar[s]) * x0, 1 - alpha_bar[s])
    return moments(prior * normal(x_t, math.sqrt(kept) * grid, 1 - kept), grid)


@dataclass
class Line:
    """A mixture of Gaussians on the line, in numpy."""

    weights: np.ndarray
    means: np.ndarray
    stds: np.ndarray

    def density(self, x):
        """p(x) from its definition."""
        return sum(w * normal(x, m, s**2) for w, m, s in zip(self.weights, self.means, self.stds, strict=True))

    def denoise(self, x, a, b, grid=GRID):
        """E[x_0 | x], E[eps | x] and log p(x) for x = a x_0 + b eps, by quadrature over x_0."""
        joint = self.density(grid) * normal(x, a * grid, b**2)
        total = np.trapezoid(joint, grid)
        x0 = np.trapezoid(joint * grid, grid) / total
        eps = np.trapezoid(joint * (x - a * grid) / b, grid) / total
        return x0, eps, math.log(total)

    def eps(self, x, a, b):
        """E[eps | x] in closed form, for many x at once (Tweedie, component by component)."""
        variances = a**2 * self.stds**2 + b**2
        offsets = x[:, None] - a * self.means
        weights = self.weights * normal(x[:, None], a * self.means, variances)
        weights = weights / weights.sum(1, keepdims=True)
        return b * (weights * offsets / variances).sum(1)


def brute_points(data, width, x, a, b):
    """E[x_0 | x], E[eps | x], log p(x) of one x = a x_0 + b eps, x_0 from N(point, width^2), sum by sum in long double.

    Shapes: data (N, D), x (D,); a, b numbers. The squares are taken point by point: no difference of large numbers.
    """
    data, x, a, b, width = (np.asarray(value, dtype=np.longdouble) for value in (data, x, a, b, width))
    variance = (a * width) ** 2 + b**2
    exponents = -((x - a * data) ** 2).sum(1) / (2 * variance)
    weights = np.exp(exponents - exponents.max())
    each = data + (a * width**2 / variance) * (x - a * data)  # E[x_0 | x, this point]
    x0 = (weights[:, None] * each).sum(0) / weights.sum()
    eps = (weights[:, None] * (b / variance) * (x - a * data)).sum(0) / weights.sum()
    log_norm = np.log(2 * np.pi * variance) * len(x) / 2 + np.log(np.longdouble(len(data)))
    return x0, eps, np.log(weights.sum()) + exponents.max() - log_norm


def model_chain(schedule, denoise, variance, decoder_variance):
    """Mean and covariance of p(x_0, ..., x_T) of a Gaussian chain, built backwards from x_T ~ N(0, 1) (numpy).

    The mean of each step back is the straight line through two answers of the posterior's mean, by Bayes' rule.
    """
    alpha_bar, T = schedule.alpha_bar.tolist(), schedule.T
    mixing, offset = np.eye(T + 1), np.zeros(T + 1)
    for t in range(T, 0, -1):
        kept = alpha_bar[t] / alpha_bar[t - 1]
        ends = []
        for x_t in (0.0, 1.0):
            guess = float(denoise(torch.tensor([[x_t]], dtype=torch.float64), torch.tensor([t])).x0)
            if t == 1:
                ends.append((guess, decoder_variance))
                continue
            precision = kept / (1 - kept) + 1 / (1 - alpha_bar[t - 1])
            pull = math.sqrt(kept) * x_t / (1 - kept) + math.sqrt(alpha_bar[t - 1]) * guess / (1 - alpha_bar[t - 1])
            ends.append((pull / precision, 1 / precision if variance == "posterior" else 1 - kept))
        (shift, spread), (at_one, _) = ends
        mixing[t - 1] = (at_one - shift) * mixing[t]
        mixing[t - 1, t - 1] = math.sqrt(spread)
        offset[t - 1] = (at_one - shift) * offset[t] + shift
    return offset, mixing @ mixing.T


def noising_chain(schedule, x0):
    """Mean and covariance of q(x_1, ..., x_T | x_0), step by step (numpy)."""
    mixing, mean = np.zeros((schedule.T + 1, schedule.T + 1)), np.full(schedule.T + 1, x0)
    for t, beta in enumerate(schedule.beta.tolist()[1:], start=1):
        mixing[t] = math.sqrt(1 - beta) * mixing[t - 1]
        mixing[t, t] = math.sqrt(beta)
        mean[t] = math.sqrt(1 - beta) * mean[t - 1]
    return mean[1:], (mixing @ mixing.T)[1:, 1:]


def undecomposed(schedule, denoise, x0, variance, decoder_variance):
    """E_q[log q(x_1:T | x_0) - log p(x_0:T)] and -log p(x_0), by the algebra of joint Gaussians: no term in sight."""
    offset, covariance = model_chain(schedule, denoise, variance, decoder_variance)
    mean, spread = noising_chain(schedule, x0)
    states = np.concatenate([[x0], mean]) - offset
    cost = np.linalg.slogdet(2 * math.pi * covariance)[1] + states @ np.linalg.solve(covariance, states)
    cross = 0.5 * (cost + np.trace(np.linalg.inv(covariance)[1:, 1:] @ spread))
    entropy = 0.5 * np.linalg.slogdet(2 * math.pi * math.e * spread)[1]
    return cross - entropy, -math.log(normal(x0, offset[0], covariance[0, 0]))


def joint_of_three(mean, covariance, alpha_bar_s, alpha_bar_t):
    """Mean and covariance of the stacked vector (x_0, x_s, x_t) for Gaussian data, from x_s, x_t's definitions."""
    D = len(mean)
    one, nil = np.eye(D), np.zeros((D, D))
    r = alpha_bar_t / alpha_bar_s
    a_s, b_s = math.sqrt(alpha_bar_s), math.sqrt(1 - alpha_bar_s)
    # (x_0, x_s, x_t) = mixing @ (x_0, eps, noise)
    mixing = np.block(
        [
            [one, nil, nil],
            [a_s * one, b_s * one, nil],
            [math.sqrt(r) * a_s * one, math.sqrt(r) * b_s * one, math.sqrt(1 - r) * one],
        ]
    )
    sources = np.block([[covariance, nil, nil], [nil, one, nil], [nil, nil, one]])
    return mixing @ np.concatenate([mean, np.zeros(2 * D)]), mixing @ sources @ mixing.T


def condition(mean, covariance, unknown, known):
    """Gain, offset and covariance of `unknown` given `known` in a joint Gaussian: E = offset + gain @ known."""
    gain = np.linalg.solve(covariance[np.ix_(known, known)], covariance[np.ix_(known, unknown)]).T
    return (
        gain,
        mean[unknown] - gain @ mean[known],
        covariance[np.ix_(unknown, unknown)] - gain @ covariance[np.ix_(known, unknown)],
    )


def two_m(denoise_x0, alpha_bar, x, steps):
    """DPM-Solver++(2M), written from Algorithm 2 of Lu et al. 2022 (numpy). Yields the state after each step."""
    lam = lambda t: math.log(math.sqrt(alpha_bar[t]) / math.sqrt(1 - alpha_bar[t]))  # noqa: E731
    before = h_before = None
    for t, s in itertools.pairwise(steps):
        x0 = denoise_x0(x, t)
        if s == 0:  # sigma_s = 0 and e^-h = 0: the state is the estimate, at first order
            yield x0
            return
        h, sigma = lam(s) - lam(t), lambda i: math.sqrt(1 - alpha_bar[i])
        slope = x0 if before is None else x0 + (x0 - before) / (2 * (h_before / h))
        x = sigma(s) / sigma(t) * x - math.sqrt(alpha_bar[s]) * (math.exp(-h) - 1) * slope
        before, h_before = x0, h
        yield x


def flow(line, x, lam_from, lam_to, n=4000):
    """The probability flow of a `Line` from one lambda to another, by Runge-Kutta of order 4 with n steps.

    In y = x / a the flow reads dy/d(b/a) = eps(x), and b / a = e^-lambda (Song et al. 2021, DDIM, eq. 14).
    """
    rates = lambda lam: (1 / math.sqrt(1 + math.exp(-2 * lam)), 1 / math.sqrt(1 + math.exp(2 * lam)))  # noqa: E731
    slope = lambda y, lam: -math.exp(-lam) * line.eps(rates(lam)[0] * y, *rates(lam))  # noqa: E731
    y, h = x / rates(lam_from)[0], (lam_to - lam_from) / n
    for i in range(n):
        lam = lam_from + i * h
        k1 = slope(y, lam)
        k2 = slope(y + h / 2 * k1, lam + h / 2)
        k3 = slope(y + h / 2 * k2, lam + h / 2)
        k4 = slope(y + h * k3, lam + h)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return rates(lam_to)[0] * y


def float64_tables(scheduler, schedule_beta, schedule_alpha_bar):
    """Give a diffusers scheduler our float64 values for t = 1..T; it counts from k = t - 1. Returns the scheduler.

    Its own tables are float32, which alone moves a step by 1e-6 (linear) to 6e-5 (cosine), and `.double()` on them does
    not bring the lost digits back.
    """
    scheduler.betas, scheduler.alphas = schedule_beta[1:], 1 - schedule_beta[1:]
    scheduler.alphas_cumprod = schedule_alpha_bar[1:]
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    if hasattr(scheduler, "final_alpha_cumprod"):
        scheduler.final_alpha_cumprod = scheduler.one
    return scheduler


class LargestTensor(TorchDispatchMode):
    """While active, `bytes` is the size of the largest tensor that any operation has returned."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return result


def seeded(seed=0):
    """A generator of its own for each draw."""
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0, dtype=torch.float64):
    """Standard normal numbers."""
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def refusal(call):
    """The error that a call raises, which must be a ValueError or TypeError; AssertionError if it raises none."""
    try:
        call()
    except (ValueError, TypeError) as error:
        return error
    raise AssertionError("the mistake was accepted")


def names_everything(error, name, value):
    """True if a message names the argument, what was expected and what came."""
    text = str(error)
    return text.startswith(f"{name}:") and "expected" in text and value in text


def numbers(text):
    """The numbers of an explorer's sentence that are not part of a name, such as the 1 of t-1."""
    return [float(found.replace(",", "")) for found in re.findall(r"(?<![\w(-])-?\d[\d,]*\.?\d*(?:e-?\d+)?", text)]


def rates(schedule, t):
    """Signal and noise rates as (B, 1, 1), written out."""
    alpha_bar = schedule.alpha_bar[t].reshape(-1, 1, 1)
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def network(x, t):
    """A network with nothing learned: any smooth function of x and t."""
    return torch.tanh(0.7 * x) - (t.to(x) / 1000).reshape(-1, *[1] * (x.ndim - 1))


def forty_digits():
    """Every paper's table for DDPM's linear schedule, by the paper's name, with 40 digits and from its betas alone."""
    with mpmath.workdps(40):
        beta = [mpmath.mpf(0), *(mpmath.mpf(float(b)) for b in torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))]
        alpha_bar = list(itertools.accumulate((1 - b for b in beta), lambda x, y: x * y))
        sigma = [mpmath.sqrt((1 - a) / a) for a in alpha_bar]
        return {
            "DDPM": beta,
            "DDIM": alpha_bar,
            "Su Jianlin": [mpmath.sqrt(b) for b in beta],
            "score SDE": [-1000 * mpmath.log(1 - b) for b in beta],
            "EDM": sigma,
            "flow matching": [s / (1 + s) for s in sigma],
            "signal": [mpmath.sqrt(a) for a in alpha_bar],
            "noise": [mpmath.sqrt(1 - a) for a in alpha_bar],
        }


def state_amplitudes(convention, exact, t):
    """How much of x_0 and eps is in this paper's state: squares sum to 1, or full strength, or the sum is 1."""
    a, b = exact["signal"][t], exact["noise"][t]
    scale = {"EDM": a, "flow matching": a + b}.get(convention.name, 1)
    return float(a / scale), float(b / scale)


def two_peaks(x, a, variance):
    """The density of a x_0 + noise of this variance; x_0 on the line has two peaks, N(-1, 0.04) and N(1, 0.04)."""
    return (normal(x, -a, (0.2 * a) ** 2 + variance) + normal(x, a, (0.2 * a) ** 2 + variance)) / 2


def divergence(p, q, x):
    """KL(p || q) of densities on a grid."""
    return np.trapezoid(np.where(p > 0, p * (np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(q, 1e-300))), 0), x)


def declared_explorers(folder):
    """The functions under @explorer in <lesson>/explorers.py, in full and sorted by module and name, from its text."""
    found = []
    for path in folder.glob("*/explorers.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and "explorer" in map(ast.unparse, node.decorator_list):
                found.append((f"diffusion_lib.lessons.{path.parent.name}.explorers", node.name))
    return [".".join(pair) for pair in sorted(found)]
