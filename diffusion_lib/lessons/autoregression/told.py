"""The two networks of the lesson, told the label as their first symbol, and ten digits that one of them drew."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_lib import losses, training
from diffusion_lib.models.autoregressive import Autoregressive, GRUConfig, TransformerConfig
from diffusion_lib.noise import course_seed, seeded


def trained(config: GRUConfig | TransformerConfig, x: Tensor, labels: Tensor, steps: int, lr: float) -> Autoregressive:
    """Return a network trained on sequences x (N, 64) with their labels (N,): a few seconds. Raises: ValueError.

    Its weights and its batches come from `course_seed(0)`, so that its claims can be tried under other seeds.
    """
    seed = course_seed(0)
    model = Autoregressive(config, seed=seed)
    draw = losses.labelled_draw(x, 16, labels, model.no_label, 0.0)

    def loss(net: Autoregressive, symbols: Tensor, told: Tensor) -> Tensor:
        return losses.nll(net(symbols, told), symbols)

    settings = training.TrainingConfig(steps=steps, lr=lr, warmup=50, ema=0.99, seed=seed)
    training.fit(model, draw, loss, settings)
    return model


@torch.no_grad()
def log_probs(model: Autoregressive, x: Tensor) -> Tensor:
    """Return log p(x | label) in nats for each of the ten labels: x (N, 64) -> (N, 10), float64."""
    return torch.stack([model.log_prob(x, [k] * len(x)) for k in range(10)], 1).double()


# What the Transformer drew for the labels 0 to 9, a letter a level (a = 0 ... q = 16), row by row.
# `python -m diffusion_lib.lessons.autoregression.told` prints them anew; another machine may round its way to others.
DRAWN: Sequence[str] = (
    "aabaagobaalbaepaaclaameaaemaamfaaejaahhaaeoaahnaaaaaehobaaaaphba",
    "aabojkaaaacqlgaaaagqnfaaaajqpaaaaagqhaaaaafqiaaaaagppaaaaabkqgaa",
    "aaillbaaaepjmfaaacjameaaaaaafdaaaaakqaaaaaakpaaaabhqqflaaaiqodaa",
    "aaepqlaaaamhjpaaaaaahqkaaaaahqeaaaahpqfaaaaaaqfaacifiqqbaabqqqqf",
    "aaahmaaaaacpkaaaaalpbhdaahqbdecaaqpakogaahqqqlfaaaelqcaaaaakqcaa",
    "abkqqqeaaiqokeaaagqoeaaaagpqlcaaaaignfaaadpdaoaaabqmmqcaacmqqqda",
    "aaabaaaaaaaohaaaaahnaaaaagkdaaaaaeqflnhaacqnalnaaaakdeiaaaahoqea",
    "aaknnohaabphpmeaaeiacmaaaenjokaaacpcenaaaaigqkaaaaakqfaaaampkaaa",
    "aadmqeaaaaimpocaaafjpgaaaabpocaaaahqlphaaacqqpiaaahqmmaaaaglbaaa",
    "aammlfaaafpqpqdaaalqnqcaaahqpqdaaaagqqdaaaabbpgaaaefaodaaaqqqkaa",
)


def drawn(label: int) -> Tensor:
    """Return the digit that the Transformer drew for a label, (64,) levels."""
    return torch.tensor([ord(letter) - ord("a") for letter in DRAWN[label]])


def draw_anew(steps: int = 600) -> list[str]:
    """Train the Transformer and draw a digit of each label; returns what `DRAWN` holds."""
    from diffusion_lib import data

    digits = data.digits()
    torch.set_num_threads(1)
    model = trained(TransformerConfig(classes=10), data.to_levels(digits.train), digits.train_labels, steps, 7e-3)
    return ["".join(chr(ord("a") + int(k)) for k in row) for row in model.sample(10, seeded(1), list(range(10)))]


if __name__ == "__main__":
    print(",\n".join(f'    "{row}"' for row in draw_anew()))
