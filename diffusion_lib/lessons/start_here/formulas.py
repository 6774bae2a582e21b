r"""Seven formulas as six papers write them, in LaTeX, and a calculator that reads LaTeX: what is displayed is computed.

The letters and their numbers come from `diffusion_lib.notation`. Time s lies before t; epsilon_t is the noise of one
step, epsilon that of all steps together.
"""

import re
from collections import deque
from collections.abc import Mapping
from typing import Any

# what each formula says; its key in every paper's table
MEANINGS = {
    "step": "one noising step",
    "jump": "the jump from the data",
    "snr": "signal-to-noise ratio",
    "target": "what the network is asked for",
    "x0": "the data that its answer implies",
    "mean": "mean of DDPM's step back",
    "ddim": "DDIM's step to s",
}

FORMULAS = {
    "DDPM": {
        "step": r"x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,\epsilon_t",
        "jump": r"x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon",
        "snr": r"\mathrm{SNR}_t = \frac{\bar\alpha_t}{1-\bar\alpha_t}",
        "target": r"\epsilon_\theta \approx \epsilon",
        "x0": r"\hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\epsilon_\theta}{\sqrt{\bar\alpha_t}}",
        "mean": r"\mu = \frac{1}{\sqrt{\alpha_t}}"
        r"\left(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\epsilon_\theta\right)",
        "ddim": r"x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1-\bar\alpha_s}\,\epsilon_\theta",
    },
    "DDIM": {
        "step": r"x_t = \sqrt{\frac{\alpha_t}{\alpha_{t-1}}}\,x_{t-1}"
        r" + \sqrt{1-\frac{\alpha_t}{\alpha_{t-1}}}\,\epsilon_t",
        "jump": r"x_t = \sqrt{\alpha_t}\,x_0 + \sqrt{1-\alpha_t}\,\epsilon",
        "snr": r"\mathrm{SNR}_t = \frac{\alpha_t}{1-\alpha_t}",
        "target": r"\epsilon_\theta \approx \epsilon",
        "x0": r"\hat x_0 = \frac{x_t - \sqrt{1-\alpha_t}\,\epsilon_\theta}{\sqrt{\alpha_t}}",
        "mean": r"\mu = \sqrt{\frac{\alpha_{t-1}}{\alpha_t}}"
        r"\left(x_t - \frac{\alpha_{t-1}-\alpha_t}{\alpha_{t-1}\sqrt{1-\alpha_t}}\,\epsilon_\theta\right)",
        "ddim": r"x_s = \sqrt{\alpha_s}\,\hat x_0 + \sqrt{1-\alpha_s}\,\epsilon_\theta",
    },
    "Su Jianlin": {
        "step": r"x_t = \alpha_t\,x_{t-1} + \beta_t\,\epsilon_t",
        "jump": r"x_t = \bar\alpha_t\,x_0 + \bar\beta_t\,\epsilon",
        "snr": r"\mathrm{SNR}_t = \frac{\bar\alpha_t^2}{\bar\beta_t^2}",
        "target": r"\epsilon_\theta \approx \frac{\beta_t}{\bar\beta_t}\,\epsilon",
        "x0": r"\hat x_0 = \frac{1}{\bar\alpha_t}\left(x_t - \frac{\bar\beta_t^2}{\beta_t}\,\epsilon_\theta\right)",
        "mean": r"\mu = \frac{1}{\alpha_t}\left(x_t - \beta_t\,\epsilon_\theta\right)",
        "ddim": r"x_s = \bar\alpha_s\,\hat x_0 + \bar\beta_s\,\frac{\bar\beta_t}{\beta_t}\,\epsilon_\theta",
    },
    "score SDE": {
        "step": r"x_t = \sqrt{e^{B_{t-1}-B_t}}\,x_{t-1} + \sqrt{1-e^{B_{t-1}-B_t}}\,\epsilon_t",
        "jump": r"x_t = \sqrt{e^{-B_t}}\,x_0 + \sqrt{1-e^{-B_t}}\,\epsilon",
        "snr": r"\mathrm{SNR}_t = \frac{1}{e^{B_t}-1}",
        "target": r"s_\theta \approx -\frac{\epsilon}{\sqrt{1-e^{-B_t}}}",
        "x0": r"\hat x_0 = \sqrt{e^{B_t}}\left(x_t + (1-e^{-B_t})\,s_\theta\right)",
        "mean": r"\mu = \sqrt{e^{B_t-B_{t-1}}}\left(x_t + (1-e^{B_{t-1}-B_t})\,s_\theta\right)",
        "ddim": r"x_s = \sqrt{e^{-B_s}}\,\hat x_0 - \sqrt{(1-e^{-B_s})(1-e^{-B_t})}\,s_\theta",
    },
    "EDM": {
        "step": r"\tilde x_t = \tilde x_{t-1} + \sqrt{\sigma_t^2-\sigma_{t-1}^2}\,\epsilon_t",
        "jump": r"\tilde x_t = x_0 + \sigma_t\,\epsilon",
        "snr": r"\mathrm{SNR}_t = \frac{1}{\sigma_t^2}",
        "target": r"D_\theta \approx x_0",
        "x0": r"\hat x_0 = D_\theta",
        "mean": r"\mu = D_\theta + \frac{\sigma_{t-1}^2}{\sigma_t^2}\left(\tilde x_t - D_\theta\right)",
        "ddim": r"\tilde x_s = \tilde x_t + (\sigma_s-\sigma_t)\,\frac{\tilde x_t-D_\theta}{\sigma_t}",
    },
    "flow matching": {
        "step": r"x_{\tau_t} = \frac{1-\tau_t}{1-\tau_{t-1}}\,x_{\tau_{t-1}}"
        r" + \sqrt{\tau_t^2-\left(\frac{1-\tau_t}{1-\tau_{t-1}}\,\tau_{t-1}\right)^2}\,\epsilon_t",
        "jump": r"x_{\tau_t} = (1-\tau_t)\,x_0 + \tau_t\,\epsilon",
        "snr": r"\mathrm{SNR}_t = \left(\frac{1-\tau_t}{\tau_t}\right)^2",
        "target": r"v_\theta \approx \epsilon - x_0",
        "x0": r"\hat x_0 = x_{\tau_t} - \tau_t\,v_\theta",
        "mean": r"\mu = (1-\tau_{t-1})\left(x_{\tau_t}-\tau_t\,v_\theta\right)"
        r" + \frac{\tau_{t-1}^2(1-\tau_t)}{(1-\tau_{t-1})\,\tau_t}\left(x_{\tau_t}+(1-\tau_t)\,v_\theta\right)",
        "ddim": r"x_{\tau_s} = x_{\tau_t} + (\tau_s-\tau_t)\,v_\theta",
    },
}


Number = Any  # a float, or an array or tensor
STRUCTURE = ("\\frac", "\\sqrt", *"{}()^+-")


def evaluate(formula: str, values: Mapping[str, Number]) -> Number:
    r"""Return the value of a formula's right side, which begins after = or \approx.

    Understood: + and -, factors side by side, \frac{}{}, \sqrt{}, ^, parentheses, digits, and the symbols in `values`,
    by LaTeX name. Raises: ValueError for anything else.
    """
    text = formula.replace("\\approx", "=").rpartition("=")[2]
    tokens = deque(_tokens(text, values))
    try:
        result = _sum(tokens, values)
    except (IndexError, KeyError) as error:
        raise ValueError(f"formula: expected LaTeX that can be computed, got {formula!r}") from error
    if tokens:
        raise ValueError(f"formula: expected LaTeX that can be computed, got {tokens[0]!r} left over in {formula!r}")
    return result


def _tokens(text: str, values: Mapping[str, Number]) -> list[str]:
    names = sorted((*values, *STRUCTURE), key=len, reverse=True)  # the longest name that fits is meant
    token = re.compile("|".join([r"\d+", *map(re.escape, names)]))
    space = re.compile(r"(\\,|\\left|\\right|\s)*")
    tokens, place = [], space.match(text).end()
    while place < len(text):
        found = token.match(text, place)
        if found is None:
            raise ValueError(f"formula: expected a known symbol at {text[place:]!r}, known are {', '.join(values)}")
        tokens.append(found.group())
        place = space.match(text, found.end()).end()
    return tokens


def _sum(tokens: deque[str], values: Mapping[str, Number]) -> Number:
    total = _product(tokens, values) if tokens[0] != "-" else 0.0
    while tokens and tokens[0] in "+-":
        sign = 1 if tokens.popleft() == "+" else -1
        total = total + sign * _product(tokens, values)
    return total


def _product(tokens: deque[str], values: Mapping[str, Number]) -> Number:
    product = _power(tokens, values)
    while tokens and tokens[0] not in "+-)}":
        product = product * _power(tokens, values)
    return product


def _power(tokens: deque[str], values: Mapping[str, Number]) -> Number:
    base = _atom(tokens, values)
    if tokens and tokens[0] == "^":
        tokens.popleft()
        return base ** _atom(tokens, values)
    return base


def _atom(tokens: deque[str], values: Mapping[str, Number]) -> Number:
    token = tokens.popleft()
    if token in "{(":
        inside = _sum(tokens, values)
        if tokens.popleft() != {"{": "}", "(": ")"}[token]:
            raise KeyError(token)
        return inside
    if token == "\\frac":
        return _atom(tokens, values) / _atom(tokens, values)
    if token == "\\sqrt":
        return _atom(tokens, values) ** 0.5
    return float(token) if token.isdigit() else values[token]
