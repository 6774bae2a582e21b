"""Measure MNIST weights: are the digits the ones that were asked for, and are they as varied as real ones?

    python benchmarks/quality.py measure [FILE ...] [--folder FOLDER] [--scale 1 2] [--seeds 0 1 2] [--bf16]
    python benchmarks/quality.py peer FILE --steps 2000   train diffusers' network with the settings of FILE's own run
    python benchmarks/quality.py table                  write benchmarks/quality.md anew, from what was measured here

A classifier, trained here on the same training images (and kept in .cache/), reads 1,000 samples, 100 of each label, of
50 DDIM steps: the share recognised as asked, and the Frechet distance in its features to all 10,000 test images. The
baseline of that distance is what 1,000 real training images, 100 of each label, have: the mean of ten such draws.

Without a FILE, the shipped weights are measured. Each number is kept in .cache/: the work can be done in pieces, and a
number that was kept is not measured again (a line says so).
"""

import argparse
import hashlib
import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from unet_oracle import peer as peer_network  # noqa: E402

from diffusion_lib import checkpoints, data, images, losses, pretrained, training  # noqa: E402
from diffusion_lib.denoisers import Clipped, Guided, LearnedDenoiser  # noqa: E402
from diffusion_lib.metrics import frechet  # noqa: E402
from diffusion_lib.models.unet import UNetConfig  # noqa: E402
from diffusion_lib.process import PARAMETERIZATIONS  # noqa: E402
from diffusion_lib.samplers import ddim, final  # noqa: E402
from diffusion_lib.schedules import SCHEDULES, uniform_steps  # noqa: E402

CACHE = ROOT / ".cache"
FOUND = CACHE / "quality"  # one file of JSON for each measurement
PER_LABEL, BATCH, DDIM_STEPS = 100, 200, 50
PEER = "diffusers' weights"  # what a peer's file calls itself
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # of the networks; the classifier's is the CPU


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
def read(model: Classifier, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return features (N, 128) and recognised labels (N,)."""
    features = torch.cat([model.body(part) for part in x.split(500)])
    return features, model.head(features).argmax(1)


def baseline_of(features: Tensor, labels: Tensor, test: Tensor, draws: int = 10) -> list[float]:
    """Return the Frechet distances to the test images of draws of real training images, 100 of each label."""
    found = []
    for seed in range(draws):
        order = torch.randperm(len(labels), generator=seeded(seed))
        chosen = torch.cat([order[labels[order] == label][:PER_LABEL] for label in range(10)])
        found.append(float(frechet(features[chosen], test)))
    return found


class Peer(nn.Module):
    """diffusers' network of the same graph, called as ours is: our groups (its 32 do not divide 16), its own heads."""

    def __init__(self, config: UNetConfig, seed: int) -> None:
        super().__init__()
        self.config, self.no_label = config, config.classes
        self.network = peer_network(config, config.groups, seed=seed)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return its answer, (B, C, H, W)."""
        return self.network(x_t, t, class_labels=labels).sample.to(x_t.dtype)


class Network(NamedTuple):
    """A trained network: whose it is, the module, how it was trained, the SHA-256 of its file."""

    name: str
    model: nn.Module
    run: dict
    sha256: str


def load_network(path: Path) -> Network:
    """Return the network in a file of weights, ours or the peer's."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    if metadata["format"] != PEER:
        found = pretrained.load_weights(path)
        return Network("ours", found.model, dict(found.run), found.sha256)
    model = Peer(pretrained.pretrained("mnist").model.config, 0)
    model.load_state_dict(load_file(path))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Network("diffusers' UNet2DModel", model.eval(), json.loads(metadata["run"]), sha256)


@torch.inference_mode()
def samples(network: Network, scale: float, seed: int, bf16: bool) -> tuple[Tensor, Tensor]:
    """Return 1,000 images (N, 1, 28, 28) by DDIM and the labels that they were asked for."""
    model, run = network.model.to(DEVICE), network.run
    schedule, prediction = SCHEDULES[run["schedule"]](), PARAMETERIZATIONS[run["predict"]]
    labels = torch.arange(10).repeat(PER_LABEL)
    generator, parts = seeded(seed), []
    for asked in tqdm(labels.to(DEVICE).split(BATCH), desc=f"{network.name}, scale {scale}, seed {seed}"):
        bound = [asked] if scale == 1 else [asked, torch.full_like(asked, model.no_label)]
        denoisers = [LearnedDenoiser(schedule, partial(model, labels=given), prediction) for given in bound]
        denoise = denoisers[0] if scale == 1 else Guided(*denoisers, scale)
        noise = torch.randn(len(asked), 1, 32, 32, generator=generator).to(DEVICE)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
            drawn = final(ddim(Clipped(denoise), schedule, noise, uniform_steps(schedule, DDIM_STEPS)))
        parts.append(images.crop(drawn, 28).clamp(-1, 1).cpu())
    return torch.cat(parts), labels


def kept(name: str, measure: Callable[[], dict]) -> dict:
    """Return what was measured under this name before, or measure and keep it."""
    path = FOUND / f"{name}.json"
    if path.exists():
        print(f"measured before; delete it to measure again: {path}", file=sys.stderr)
    else:
        FOUND.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(measure(), indent=1))
    return json.loads(path.read_text())


def quality(network: Network, scale: float, seed: int, bf16: bool, mnist: data.Digits) -> dict:
    """Return what the classifier says of 1,000 samples, and how near they come to training images."""
    drawn, labels = samples(network, scale, seed, bf16)
    classifier = trained_classifier(mnist)
    features, recognised = read(classifier, drawn)
    return {
        "network": network.name,
        "steps": network.run["step"],
        "planned": network.run["training"]["steps"],
        "init": bool(network.run.get("init")),
        "scale": scale,
        "seed": seed,
        "precision": f"{'bfloat16' if bf16 else 'float32'}, {DEVICE.type.upper()}",
        "recognised": float((recognised == labels).float().mean()),
        "distance": float(frechet(features, read(classifier, mnist.test)[0])),
        "nearest": nearest(drawn, mnist.train),
    }


def judge(mnist: data.Digits) -> dict:
    """Return what the numbers are to be read against: real images, and the classifier's accuracy."""
    classifier = trained_classifier(mnist)
    test, recognised = read(classifier, mnist.test)
    return {
        "accuracy": float((recognised == mnist.test_labels).float().mean()),
        "baseline": baseline_of(read(classifier, mnist.train)[0], mnist.train_labels, test),
        "nearest": nearest(mnist.test[:1000], mnist.train),
    }


def nearest(x: Tensor, train: Tensor) -> dict:
    """Return the median and the least distance to the nearest training image, root mean square a pixel."""
    distances = torch.cdist(x.flatten(1), train.flatten(1)).amin(1) / 28
    return {"median": float(distances.median()), "least": float(distances.min())}


def table(rows: list[dict], real: dict) -> str:
    """Return the rows as Markdown."""
    head = "network | training steps | guidance scale | sampled in | recognised as asked | Frechet distance | nearest"
    lines = [f"| {head} |", "|" + "---|" * 7]
    groups: dict[tuple, list[dict]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        steps = f"{row['steps']:,}" + f" of {row['planned']:,}" * (row["steps"] < row["planned"])
        steps += " more" * row["init"]
        groups.setdefault((row["network"], steps, f"{row['scale']:g}", row["precision"]), []).append(row)
    for named, group in sorted(groups.items()):
        share = ", ".join(f"{100 * row['recognised']:.1f} %" for row in group)
        distance = ", ".join(f"{row['distance']:.2f}" for row in group)
        lines.append(f"| {' | '.join((*named, share, distance, in_words(group[0]['nearest'])))} |")
    baseline = f"{statistics.mean(real['baseline']):.2f} ({min(real['baseline']):.2f} to {max(real['baseline']):.2f})"
    cells = ("real images", "", "", "", f"{100 * real['accuracy']:.2f} %", baseline, in_words(real["nearest"]))
    return "\n".join([*lines, f"| {' | '.join(cells)} |"])


def in_words(near: dict) -> str:
    """Return a cell of the table's last column."""
    return f"{near['median']:.3f}, least {near['least']:.3f}"


LEGEND = """One number for each seed. "More" steps come after those of the weights that the run began with; the card in
diffusion_lib/assets tells both. "N of M": stopped after N steps of a run planned for M, while its learning rate was
still falling. The last column is the distance to the nearest of the 60,000 training images, root
mean square a pixel (white is 2 from black): median and least of 1,000, for the first seed. The last row: accuracy of
the classifier on the test images, the baseline, and how near 1,000 test images come to the training images."""


def train_peer(steps: int, mnist: data.Digits, ours: Network) -> Path:
    """Train diffusers' network for `steps` with our draws, optimizer and learning rates; return its weights' path."""
    run = ours.run
    config = training.TrainingConfig(**run["training"])
    model = Peer(ours.model.config, config.seed).to(DEVICE)
    trainer = training.Trainer(model, config)
    schedule = SCHEDULES[run["schedule"]]()
    padded, labels = images.pad(mnist.train, 32), mnist.train_labels
    draw = losses.denoising_draw(padded, schedule, run["batch"], labels, model.no_label, run["drop"])

    def loss(network: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, labels: Tensor) -> Tensor:
        asked = partial(network, labels=labels)
        return losses.denoising_loss(schedule, asked, x0, t, eps, PARAMETERIZATIONS[run["predict"]])

    out, description = CACHE / f"peer_{steps}.safetensors", {"peer": True}
    checkpoint = CACHE / f"peer_{steps}_checkpoint.safetensors"
    CACHE.mkdir(exist_ok=True)
    if checkpoint.exists():
        checkpoints.load(checkpoint, trainer, description)
    bar = tqdm(total=steps, initial=trainer.step, desc="diffusers")
    for step in trainer.train(draw, loss):
        bar.update()
        if step.step % 100 == 0 or step.step == steps:
            bar.set_postfix_str(f"loss {step.loss:.4f}")
            checkpoints.save(checkpoint, trainer, description)
        if step.step == steps:
            break
    metadata = {"format": PEER, "run": json.dumps({**run, "step": steps, "init": None})}
    save_file({name: tensor.cpu().contiguous() for name, tensor in trainer.ema.items()}, out, metadata)
    return out


def main() -> None:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("measure", "peer", "table"))
    parser.add_argument("files", nargs="*", type=Path, default=[pretrained.ASSETS / "mnist.safetensors"])
    parser.add_argument("--folder", default=str(ROOT.parent / "shared/data/mnist"))
    parser.add_argument("--scale", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--bf16", action="store_true", help="sample in bfloat16, as the networks were trained")
    parser.add_argument("--steps", type=int, default=2000, help="steps to train the peer")
    options = parser.parse_intermixed_args()  # files may come after options
    mnist = data.mnist(options.folder)
    if options.command == "peer":
        print(train_peer(options.steps, mnist, load_network(options.files[0])))
    elif options.command == "measure":
        for network, scale, seed in product(map(load_network, options.files), options.scale, options.seeds):
            name = f"{network.sha256[:16]}_{scale:g}_{seed}" + "_bf16" * options.bf16
            print(json.dumps(kept(name, partial(quality, network, scale, seed, options.bf16, mnist))), flush=True)
    else:
        rows = [json.loads(path.read_text()) for path in FOUND.glob("*_*.json")]
        how = __doc__.split("\n\n")[2]
        parts = ["# Quality of the MNIST weights", how, table(rows, kept("real", partial(judge, mnist))), LEGEND]
        text = "\n\n".join(parts) + "\n"
        (ROOT / "benchmarks" / "quality.md").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
