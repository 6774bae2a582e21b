"""A recipe a family: trained by the command line, resumed to the bit, shown, and options that fit or are refused."""

import json
import math

import pytest
import torch
from oracles import seeded
from PIL import Image
from safetensors.torch import load_file

from diffusion_lib import __main__ as command
from diffusion_lib import data, losses, recipes, runs
from diffusion_lib.models import FAMILIES
from diffusion_lib.pretrained import WeightsError, load_network, load_weights

SMALL = ["--batch", "4", "--warmup", "2", "--log-every", "2", "--save-every", "3", "--precision", "float32"]
SMALL += ["--steps", "6", "--width", "8"]
AUTOREGRESSIVE = ("gru", "transformer")
each = pytest.mark.parametrize("family", AUTOREGRESSIVE)


def train(out, family, *more):
    """Train a few steps; later options win."""
    return command.main(["train", "--out", str(out), "--family", family, *SMALL, *map(str, more)])


def test_every_family_has_a_recipe():
    assert set(recipes.RECIPES) == set(FAMILIES)


@pytest.mark.parametrize("family", [*AUTOREGRESSIVE, "vae", "flow", "gan"])
def test_a_family_is_trained_resumed_to_the_bit_and_sampled(tmp_path, family):
    assert train(tmp_path / "whole", family) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "log_step", stop_after(3, runs.log_step))
        assert train(tmp_path / "cut", family, "--log-every", 1) == 130
    assert train(tmp_path / "cut", family, "--resume") == 0
    for name in (runs.CHECKPOINT, runs.WEIGHTS):
        whole, cut = (load_file(tmp_path / run / name) for run in ("whole", "cut"))
        assert whole.keys() == cut.keys() and all(whole[key].equal(cut[key]) for key in whole)
    network = load_network(tmp_path / "whole" / runs.WEIGHTS)
    config = network.model.config
    assert isinstance(network.model, FAMILIES[family][0]) and network.run["family"] == family and config.width == 8
    decided = {"levels": 17, "classes": 10, "rows": 8, "columns": 8, "dimensions": 64}
    assert all(getattr(config, name) == value for name, value in decided.items() if hasattr(config, name))
    assert network.run["training"]["betas"] == ([0.0, 0.99] if family == "gan" else [0.9, 0.999])
    assert command.main(["sample", str(tmp_path / "whole" / runs.WEIGHTS), "--out", str(tmp_path / "s.png")]) == 0
    assert Image.open(tmp_path / "s.png").size == (80, 64)  # ten labels, eight rows


def stop_after(step, original):
    def log(path, taken, mean, speed):
        original(path, taken, mean, speed)
        if taken.step == step + 1:
            raise KeyboardInterrupt

    return log


@each
def test_the_first_loss_is_that_of_a_model_that_knows_nothing(tmp_path, family):
    assert train(tmp_path, family, "--steps", 1, "--log-every", 1) == 0
    line = json.loads((tmp_path / runs.METRICS).read_text().splitlines()[0])
    assert math.log(17) - 0.1 < line["loss"] / 64 < math.log(17) + 0.6  # nats a pixel


@pytest.mark.deep
@pytest.mark.parametrize(("family", "more"), [("gru", ["--lr", 1e-2]), ("transformer", ["--lr", 7e-3])])
def test_lesson_01s_networks_come_out_of_the_command(tmp_path, family, more):
    """At most 2.00 bits a pixel as models of p(x) on the test digits: the bar of foundations.md."""
    width = {"gru": 64, "transformer": 32}[family]
    options = ["--batch", 16, "--warmup", 50, "--ema", 0.99, "--drop", 0, "--width", width, *more]
    assert train(tmp_path, family, "--steps", {"gru": 500, "transformer": 600}[family], *options) == 0
    model, test = load_network(tmp_path / runs.WEIGHTS).model, data.to_levels(data.digits().test)
    told = torch.stack([model.log_prob(test, torch.full((360,), k)) for k in range(10)])  # (10, 360)
    bits = -(told.logsumexp(0) - math.log(10)).mean() / (64 * math.log(2))
    assert bits <= 2.00


@pytest.mark.parametrize(
    ("family", "options", "words"),
    [
        ("gru", ["--heads", 2], "--heads: expected an option of the family gru, got 2"),
        ("transformer", ["--mults", 1, 2], r"--mults: expected an option of the family transformer, got [1, 2]"),
        ("gru", ["--predict", "v"], "--predict: expected an option of the family gru, got v"),
        ("unet", ["--spread", 0.1], "--spread: expected an option of the family unet, got 0.1"),
        ("transformer", ["--heads", 3], "width: expected a multiple of 3 heads, got 8"),
        ("gru", ["--spread", -1], "spread: expected"),
        ("gan", ["--beta", 2], "--beta: expected an option of the family gan, got 2"),
        ("vae", ["--r1", 2], "--r1: expected an option of the family vae, got 2"),
        ("vae", ["--activation", "sin"], "activation: expected"),
        ("gan", ["--betas", 1, 0.9], "betas: expected numbers below 1, got 1"),
    ],
)
def test_options_of_another_family_are_refused(tmp_path, capsys, family, options, words):
    assert train(tmp_path / "run", family, *options) == 1
    assert words in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_help_says_each_familys_default(capsys):
    with pytest.raises(SystemExit):
        command.main(["train", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "unet: 32; gru: 64; transformer: 32" in told and "unet: 1; transformer: 4" in told


@pytest.mark.parametrize("option", [["--steps", "5"], ["--scale", "2"]])
def test_an_autoregressive_model_has_no_steps_and_no_scale(tmp_path, capsys, option):
    assert train(tmp_path, "gru", "--steps", 1) == 0
    assert command.main(["sample", str(tmp_path / runs.WEIGHTS), *option]) == 1
    assert f"{option[0]}: expected none for the family gru, got {option[1]}" in capsys.readouterr().err


def test_weights_of_another_family_are_no_denoiser_and_no_beginning(tmp_path, capsys):
    assert train(tmp_path / "gru", "gru", "--steps", 1) == 0
    weights = tmp_path / "gru" / runs.WEIGHTS
    with pytest.raises(WeightsError, match="expected a U-Net, got the family gru"):
        load_weights(weights)
    assert train(tmp_path / "second", "transformer", "--init", weights) == 1
    assert "family is transformer here and gru there" in capsys.readouterr().err


@each
def test_colour_is_refused_by_a_model_of_grey_levels(tmp_path, capsys, family):
    (tmp_path / "own").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "own" / "a.png")
    options = ["--data", tmp_path / "own", "--size", 8, "--colour", "--batch", 1]
    assert train(tmp_path / "run", family, *options) == 1
    assert "expected grey images" in capsys.readouterr().err


def test_own_grey_images_have_256_levels(tmp_path):
    (tmp_path / "own").mkdir()
    Image.new("L", (8, 8), 200).save(tmp_path / "own" / "a.png")
    options = ["--data", tmp_path / "own", "--size", 8, "--batch", 1, "--steps", 1]
    assert train(tmp_path / "run", "gru", *options) == 0
    config = load_network(tmp_path / "run" / runs.WEIGHTS).model.config
    assert (config.levels, config.classes, config.rows, config.columns) == (256, 0, 8, 8)
    assert Image.open(tmp_path / "run" / "samples_000001.png").size == (80, 64)  # ten without labels


def batch_of(family, *more, options=("--batch", "300")):
    """What a recipe's draw gives, on the digits, with its model and options."""
    chosen = command.arguments().parse_args(["train", "--out", "x", "--family", family, *options, *map(str, more)])
    recipes.settle(chosen)
    recipe = recipes.RECIPES[family]
    found = recipe.data(chosen)
    model = recipes.new_model(chosen, found._replace(images=found.images.float()))
    draw = recipe.draw(chosen, model, found._replace(images=found.images.float()))
    return recipe, chosen, model, draw(seeded(1))


def test_a_flow_reads_digits_with_noise_of_one_level():
    _, _, _, (x,) = batch_of("flow")
    images = data.digits().train.flatten(1).float()
    nearest = torch.cdist(x, images, p=float("inf")).amin(1)  # the largest difference from the nearest digit
    assert x.shape == (300, 64) and nearest.min() > 0.05 and nearest.max() <= 1 / 16
    levels = 8 * x + 8
    assert 0.27 < (levels - levels.round()).std() < 0.31  # uniform: 1 / sqrt(12)


def test_a_vaes_loss_weighs_the_divergence_by_beta():
    recipe, options, model, (x, eps) = batch_of("vae", "--beta", 3)
    terms = model(x, eps)
    expected = 3 * terms.kl - terms.log_likelihood
    torch.testing.assert_close(recipe.loss(options, model)(model, x, eps), expected)
    assert eps.shape == (300, 8) and abs(eps.mean()) < 0.1


def test_a_gans_players_get_noise_of_their_own():
    recipe, options, model, (x, own, other) = batch_of("gan", "--r1", 2)
    assert not own.equal(other) and own.shape == other.shape == (300, 2) and x.shape == (300, 64)
    of_generator, of_discriminator = recipe.loss(options, model)
    made = of_generator(model.generator, x, own, other)
    torch.testing.assert_close(made, losses.generator_loss(model.generator, model.discriminator, other))
    judged = of_discriminator(model.discriminator, x, own, other)
    expected = losses.discriminator_loss(model.discriminator, model.generator, x, own, 2.0)
    torch.testing.assert_close(judged, expected)
