"""Measure the shipped MNIST weights: are the digits the ones that were asked for, and are they as varied as real ones?

    python benchmarks/quality.py measure [--weights PATH] [--folder ../shared/data/mnist] [--seeds 3] [--write]
    python benchmarks/quality.py peer --steps 4000 [--weights PATH]      first train diffusers' network the same way

A classifier, trained here on the same training images (and kept in .cache/), reads 1,000 samples, 100 of each label, of
50 DDIM steps: the share recognised as asked, and the Frechet distance in its features to all 10,000 test images. The
floor of that distance is what 1,000 real training images, 100 of each label, have: the mean of ten such draws.
"""

import argparse
import json
import statistics
import sys
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from unet_oracle import peer as peer_network  # noqa: E402

from diffusion_lib import data, losses, pretrained, training  # noqa: E402
from diffusion_lib.denoisers import Clipped, Guided, LearnedDenoiser  # noqa: E402
from diffusion_lib.metrics import frechet  # noqa: E402
from diffusion_lib.process import PARAMETERIZATIONS  # noqa: E402
from diffusion_lib.samplers import ddim, final  # noqa: E402
from diffusion_lib.schedules import SCHEDULES, uniform_steps  # noqa: E402

CACHE = ROOT / ".cache"
PER_LABEL, BATCH = 100, 200


class Classifier(nn.Module):
    """A small convolutional network; `features` are the 128 numbers before its last layer."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for c_in, c_out in ((1, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 9, 128), nn.ReLU())
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (B, 1, 28, 28) -> (B, 10)."""
        return self.head(self.body(x))


def seeded(seed: int) -> torch.Generator:
    """Return a generator that starts from a seed."""
    return torch.Generator().manual_seed(seed)


def trained_classifier(mnist: data.Digits, path: Path = CACHE / "classifier.safetensors") -> Classifier:
    """Return the classifier, trained once; its test accuracy has to be at least 99 %."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier()
    if path.exists():
        model.load_state_dict(load_file(path))
        return model.eval()
    config = training.TrainingConfig(steps=2000, lr=2e-3, warmup=100, clip=10.0)

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randperm(len(mnist.train), generator=generator)[:128]
        shift = torch.randint(-2, 3, (2,), generator=generator).tolist()  # the batch moved by up to two pixels
        return mnist.train[chosen].roll(shift, (-2, -1)), mnist.train_labels[chosen]

    def loss(network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(x), labels, reduction="none")

    for _ in tqdm(training.Trainer(model, config).train(draw, loss), total=config.steps, desc="classifier"):
        pass
    path.parent.mkdir(exist_ok=True)
    save_file(model.state_dict(), path)
    return model.eval()


@torch.inference_mode()
def read(model: Classifier, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return features (N, 128) and recognised labels (N,)."""
    features = torch.cat([model.body(part) for part in pictures.split(500)])
    return features, model.head(features).argmax(1)


def floor_of(features: Tensor, labels: Tensor, test: Tensor, draws: int = 10) -> list[float]:
    """Return the Frechet distances to the test images of draws of real training images, 100 of each label."""
    found = []
    for seed in range(draws):
        order = torch.randperm(len(labels), generator=seeded(seed))
        chosen = torch.cat([order[labels[order] == label][:PER_LABEL] for label in range(10)])
        found.append(float(frechet(features[chosen], test)))
    return found


class Peer(nn.Module):
    """diffusers' network of the same graph, at its defaults, called as ours is."""

    def __init__(self, config, seed: int) -> None:
        super().__init__()
        self.config, self.network, self.no_label = config, peer_network(config, seed=seed), config.classes

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return its answer, (B, C, H, W)."""
        return self.network(x_t, t, class_labels=labels).sample.to(x_t.dtype)


@torch.inference_mode()
def samples(model: nn.Module, run: dict, scale: float, seed: int, steps: int = 50) -> tuple[Tensor, Tensor]:
    """Return 1,000 pictures (N, 1, 28, 28) by DDIM and the labels that they were asked for."""
    schedule, prediction = SCHEDULES[run["schedule"]](), PARAMETERIZATIONS[run["predict"]]
    labels = torch.arange(10).repeat(PER_LABEL)
    generator, parts = seeded(seed), []
    for asked in tqdm(labels.split(BATCH), desc=f"scale {scale}, seed {seed}"):
        bound = [asked] if scale == 1 else [asked, torch.full_like(asked, model.no_label)]
        denoisers = [LearnedDenoiser(schedule, partial(model, labels=given), prediction) for given in bound]
        denoise = denoisers[0] if scale == 1 else Guided(*denoisers, scale)
        noise = torch.randn(len(asked), 1, 32, 32, generator=generator)
        drawn = final(ddim(Clipped(schedule, denoise), schedule, noise, uniform_steps(schedule, steps)))
        parts.append(data.crop(drawn, 28).clamp(-1, 1))
    return torch.cat(parts), labels


def measured(name: str, model: nn.Module, run: dict, classifier: Classifier, test: Tensor, seeds: int) -> list[dict]:
    """Return a row for each guidance scale."""
    rows = []
    for scale in (1.0, 2.0):
        found = [samples(model, run, scale, seed) for seed in range(seeds if scale == 1 else 1)]
        right, distances = [], []
        for pictures, labels in found:
            features, recognised = read(classifier, pictures)
            right.append(float((recognised == labels).float().mean()))
            distances.append(float(frechet(features, test)))
        row = {"network": name, "steps": run["step"], "scale": scale, "recognised": right, "distance": distances}
        print(json.dumps(row), flush=True)
        rows.append(row | {"pictures": found[0][0]})
    return rows


def nearest(pictures: Tensor, train: Tensor) -> Tensor:
    """Return each picture's distance to the nearest training image, root mean square a pixel, (N,)."""
    return torch.cdist(pictures.flatten(1), train.flatten(1)).amin(1) / 28


def copying(name: str, distances: Tensor) -> str:
    """Return in words how far pictures are from the training images."""
    return f"{name}: median {distances.median():.3f}, nearest of all {distances.min():.3f}"


def table(rows: list[dict], floor: list[float], accuracy: float, copies: list[str]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| network | training steps | guidance scale | recognised as asked | Frechet distance |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        share = ", ".join(f"{100 * value:.1f} %" for value in row["recognised"])
        distance = ", ".join(f"{value:.1f}" for value in row["distance"])
        lines.append(f"| {row['network']} | {row['steps']:,} | {row['scale']:g} | {share} | {distance} |")
    mean, spread = statistics.mean(floor), (min(floor), max(floor))
    lines += ["", f"Real training images, ten draws: {mean:.1f} ({spread[0]:.1f} to {spread[1]:.1f}). "]
    lines += [f"Classifier's test accuracy: {100 * accuracy:.2f} %. One number for each seed."]
    lines += [
        "",
        "Distance to the nearest of the 60,000 training images, root mean square a pixel (white is 2 from black):",
    ]
    lines += [f"- {line}" for line in copies]
    return "\n".join(lines)


def train_peer(steps: int, mnist: data.Digits, ours: pretrained.Pretrained) -> Path:
    """Train diffusers' network for `steps` with our draws, optimizer and learning rates; return its weights' path."""
    run = ours.run
    config = training.TrainingConfig(**run["training"])
    model = Peer(ours.model.config, config.seed)
    trainer = training.Trainer(model, config)
    schedule = SCHEDULES[run["schedule"]]()
    pictures, labels = data.pad(mnist.train, 32), mnist.train_labels
    draw = losses.denoising_draw(pictures, schedule, run["batch"], labels, model.no_label, run["drop"])

    def loss(network: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, labels: Tensor) -> Tensor:
        asked = partial(network, labels=labels)
        return losses.denoising_loss(schedule, asked, x0, t, eps, PARAMETERIZATIONS[run["predict"]])

    out, about = CACHE / f"peer_{steps}.safetensors", {"peer": True}
    checkpoint = CACHE / "peer_checkpoint.safetensors"
    CACHE.mkdir(exist_ok=True)
    if checkpoint.exists():
        training.load_checkpoint(checkpoint, trainer, about)
    bar = tqdm(total=steps, initial=trainer.step, desc="diffusers")
    for step in trainer.train(draw, loss):
        bar.update()
        if step.step % 100 == 0 or step.step == steps:
            bar.set_postfix_str(f"loss {step.loss:.4f}")
            training.save_checkpoint(checkpoint, trainer, about)
        if step.step == steps:
            break
    save_file({name: tensor.contiguous() for name, tensor in trainer.ema.items()}, out)
    return out


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("measure", "peer"))
    parser.add_argument("--weights", help="a weights file; by default the shipped MNIST weights")
    parser.add_argument("--folder", default=str(ROOT.parent / "shared/data/mnist"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4000, help="steps to train the peer")
    parser.add_argument("--peer", type=Path, help="measure this file of the peer's weights too")
    parser.add_argument("--write", action="store_true", help="write benchmarks/quality.md")
    options = parser.parse_args()
    network = pretrained.load_weights(Path(options.weights)) if options.weights else pretrained.pretrained("mnist")
    mnist = data.mnist(options.folder)
    if options.command == "peer":
        print(train_peer(options.steps, mnist, network))
        return
    classifier = trained_classifier(mnist)
    test, recognised = read(classifier, mnist.test)
    accuracy = float((recognised == mnist.test_labels).float().mean())
    print(f"classifier: {100 * accuracy:.2f} % of the test images", flush=True)
    floor = floor_of(read(classifier, mnist.train)[0], mnist.train_labels, test)
    print(f"floor: {statistics.mean(floor):.2f} ({min(floor):.2f} to {max(floor):.2f})", flush=True)
    rows = measured("ours", network.model, dict(network.run), classifier, test, options.seeds)
    if options.peer:
        peer = Peer(network.model.config, 0)
        peer.load_state_dict(load_file(options.peer))
        run = {**network.run, "step": int(options.peer.stem.rpartition("_")[2])}
        rows += measured("diffusers' UNet2DModel", peer.eval(), run, classifier, test, options.seeds)
    parts = {"1,000 samples at scale 1": rows[0]["pictures"], "1,000 test images": mnist.test[:1000]}
    copies = [copying(name, nearest(part, mnist.train)) for name, part in parts.items()]
    text = table(rows, floor, accuracy, copies)
    print(text)
    if options.write:
        (ROOT / "benchmarks" / "quality.md").write_text(f"# Quality of the MNIST weights\n\n{text}\n")


if __name__ == "__main__":
    main()
