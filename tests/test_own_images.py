"""Training on a reader's own images and on Fashion-MNIST: classes, colour, samples, resuming; the page's ten lines."""

import json
import re
from pathlib import Path

import own_images
import pytest
import torch
from PIL import Image

from diffusion_lib import __main__ as command
from diffusion_lib import checkpoints, data, runs
from diffusion_lib.pretrained import load_weights

TINY = ["--size", "8", "--width", "8", "--mults", "1", "--blocks", "1", "--batch", "2", "--steps", "2", "--warmup", "0"]


def train(folder, out, *options):
    return command.main(["train", "--data", str(folder), "--out", str(out), *TINY, *map(str, options)])


# ---- training


def test_a_run_on_a_folder_draws_every_class_in_colour(animals, tmp_path, capsys):
    assert train(animals, tmp_path / "run", "--colour") == 0
    said = capsys.readouterr().out
    assert "5 images, 2 classes" in said and f"skipped: {animals / 'notes.txt'}" in said
    network = load_weights(tmp_path / "run" / runs.WEIGHTS)
    assert (network.model.config.classes, network.model.config.channels) == (2, 3)
    assert network.run["classes"] == ["dog", "猫"] and network.run["images"] == 5
    grid = Image.open(tmp_path / "run" / "samples_000002.png")
    assert grid.size == (2 * 8, 8 * 8) and grid.mode == "RGB"
    assert network.denoiser([0, 1])(torch.zeros(2, 3, 8, 8), 500).x0.shape == (2, 3, 8, 8)


def test_a_run_without_classes_has_a_network_without_labels(tmp_path, capsys):
    for k in range(3):
        own_images.save(tmp_path / "grey" / f"{k}.png", 100 * k, "L")
    assert train(tmp_path / "grey", tmp_path / "run") == 0
    weights = str(tmp_path / "run" / runs.WEIGHTS)
    assert load_weights(weights).model.label is None
    assert Image.open(tmp_path / "run" / "samples_000002.png").size == (80, 64)
    assert command.main(["sample", weights, "--scale", "2", "--out", str(tmp_path / "s.png")]) == 1
    assert "scale: expected 1.0 where there are no labels" in capsys.readouterr().err


def test_a_run_on_a_folder_goes_on_only_with_the_same_images(animals, tmp_path, capsys):
    assert train(animals, tmp_path / "run", "--steps", 1) == 0
    assert train(animals, tmp_path / "run", "--steps", 1, "--resume") == 0
    own_images.save(animals / "dog" / "another.png", (255, 0, 0))
    assert train(animals, tmp_path / "run", "--steps", 1, "--resume") == 1
    assert "images is 6 here and 5 there" in capsys.readouterr().err
    (animals / "dog" / "another.png").unlink()
    own_images.save(animals / "dog" / "deep" / "a.JPG", (0, 0, 255))  # as many, but another one
    assert train(animals, tmp_path / "run", "--steps", 1, "--resume") == 1
    said = capsys.readouterr().err
    assert "sha256 is" in said and "images is" not in said
    assert checkpoints.read(tmp_path / "run" / runs.CHECKPOINT).run["images"] == 5


def test_a_moved_folder_is_the_same_data(animals, tmp_path):
    assert train(animals, tmp_path / "run", "--steps", 1) == 0
    animals.rename(tmp_path / "moved")
    assert train(tmp_path / "moved", tmp_path / "run", "--steps", 1, "--resume") == 0


@pytest.mark.parametrize("option", [["--colour"], ["--damaged", "skip"]])
def test_options_of_a_folder_are_refused_elsewhere(tmp_path, capsys, option):
    assert command.main(["train", "--data", "digits", "--out", str(tmp_path / "run"), *option]) == 1
    assert "expected a folder of images in --data, got digits" in capsys.readouterr().err


def test_of_many_classes_the_first_ten_are_drawn(tmp_path):
    for k in range(12):
        own_images.save(tmp_path / "many" / f"{k:02d}" / "a.png", (20 * k, 0, 0))
    assert train(tmp_path / "many", tmp_path / "run", "--steps", 1) == 0
    assert Image.open(tmp_path / "run" / "samples_000001.png").size == (80, 64)


def test_damaged_images_stop_a_run_unless_they_may_be_skipped(animals, tmp_path, capsys):
    (animals / "dog" / "bad.png").write_bytes(b"bad")
    assert train(animals, tmp_path / "run") == 1
    assert "bad.png: data: expected an image file" in capsys.readouterr().err
    assert train(animals, tmp_path / "run", "--damaged", "skip") == 0
    assert "bad.png" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "first"), [("digits", 255), ("own", 0)])
def test_only_digits_are_written_as_dark_ink(tmp_path, monkeypatch, name, first):
    network = load_weights(runs.pretrained.ASSETS / "digits.safetensors")
    run = {**network.run, "data": name}
    monkeypatch.setattr(runs, "find_network", lambda weights: runs.pretrained.Pretrained(*network_parts(network), run))
    monkeypatch.setattr(runs, "sample_images", lambda *args: torch.full((80, 1, 2, 2), -1.0))
    assert command.main(["sample", "digits", "--out", str(tmp_path / "s.png")]) == 0
    assert Image.open(tmp_path / "s.png").getpixel((0, 0)) == first


def network_parts(network):
    return network.model, network.schedule, network.parameterization


def test_the_page_trains_on_a_folder_in_ten_lines(animals, monkeypatch, tmp_path):
    """docs/training.md's lines, as they stand there, on the animals."""
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    section = page[page.index("## Your own images") :]
    lines = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    assert len([line for line in lines.splitlines() if line.strip() and "import" not in line]) <= 10
    monkeypatch.chdir(tmp_path)
    made = {}
    exec(lines.replace("steps=2000", "steps=2").replace("schedule, 32,", "schedule, 2,"), made)
    assert made["drawn"].shape == (2, 3, 32, 32) and bool(made["drawn"].isfinite().all())


# ---- Fashion-MNIST


def test_a_run_on_fashion_mnist_is_padded_and_drawn_without_the_padding(clothes, tmp_path, monkeypatch):
    folder, md5 = clothes
    monkeypatch.setattr(data, "fashion_mnist", lambda place, real=data.fashion_mnist: real(place, md5=md5))
    small = ["--width", "8", "--mults", "1", "1", "1", "--blocks", "1", "--batch", "2", "--steps", "1"]
    out = tmp_path / "run"
    assert command.main(["train", "--data", "fashion-mnist", "--folder", str(folder), "--out", str(out), *small]) == 0
    assert Image.open(out / "samples_000001.png").size == (280, 224)
    assert json.loads((out / runs.METRICS).read_text().splitlines()[0])["step"] == 1
