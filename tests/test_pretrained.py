"""Weights in a file: there and back, denoisers with labels bound, and every way in which a file can be wrong."""

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
from oracles import draw, refusal
from safetensors.torch import load_file, save_file

from diffusion_lib import pretrained
from diffusion_lib.models.unet import UNet, UNetConfig
from diffusion_lib.pretrained import WeightsError, load_weights
from diffusion_lib.process import PARAMETERIZATIONS
from diffusion_lib.runs import save_weights
from diffusion_lib.schedules import cosine
from diffusion_lib.training import Trainer, TrainingConfig

TINY = UNetConfig(image_size=8, width=8, mults=(1, 2), blocks=1, attention_at=(4,), classes=3)
RUN = {"data": "digits", "predict": "v", "schedule": "cosine"}


def tiny(config: UNetConfig = TINY) -> UNet:
    """A network that answers something: every parameter drawn at random."""
    model = UNet(config)
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(0.3 * draw(*p.shape, seed=i))
    return model


def described(config: UNetConfig) -> dict:
    return {**RUN, "family": "unet", "unet": json.loads(json.dumps(vars(config)))}


def stored(path: Path, config: UNetConfig = TINY) -> Path:
    """Write a file of weights as training does."""
    save_weights(path, Trainer(tiny(config), TrainingConfig(5)), described(config))
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return stored(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def rewritten(good: Path, path: Path, run: dict | str | None = None, tensors: dict | None = None) -> Path:
    """Write the good file again with another description or other tensors."""
    metadata = {"format": pretrained.FORMAT}
    if run is not None:
        metadata["run"] = run if isinstance(run, str) else json.dumps(run)
    save_file(load_file(good) if tensors is None else tensors, path, metadata)
    return path


def refused(path: Path, sha256: str | None = None) -> str:
    """Return the one line with which a file is refused."""
    with pytest.raises(WeightsError) as caught:
        load_weights(path, sha256)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    return str(caught.value)


# ---- there and back ----


def test_a_network_comes_back_rounded_to_half_precision(good):
    found = load_weights(good)
    assert found.model.config == TINY and found.parameterization is PARAMETERIZATIONS["v"]
    assert found.schedule.alpha_bar.equal(cosine().alpha_bar)
    assert (
        found.run["family"] == "unet"
        and found.run["step"] == 0
        and found.run["training"]["steps"] == 5
        and found.run["data"] == "digits"
    )
    assert found.sha256 == hashlib.sha256(good.read_bytes()).hexdigest()
    before, after = dict(tiny().named_parameters()), dict(found.model.named_parameters())
    assert before.keys() == after.keys()
    for name, p in after.items():
        assert p.dtype == torch.float32 and not p.requires_grad
        assert p.equal(torch.as_tensor(before[name].detach().numpy().astype("float16").astype("float32")))
    assert not found.model.training
    assert good.stat().st_size < 2.2 * sum(p.numel() for p in after.values()) + 12_000  # two bytes a number


def test_only_the_average_is_stored(tmp_path: Path):
    trainer = Trainer(tiny(), TrainingConfig(5))
    for p in trainer.ema.values():
        p.fill_(0.25)
    save_weights(tmp_path / "w", trainer, described(TINY))
    assert all(bool((p == 0.25).all()) for p in load_weights(tmp_path / "w").model.parameters())


def test_denoisers_with_and_without_labels(good):
    """What the network answers for bound labels, solved for x_0 and eps by hand: v = a eps - b x_0, a^2 + b^2 = 1."""
    found, x_t, t = load_weights(good), draw(2, 1, 8, 8, dtype=torch.float32), torch.tensor([3, 700])
    a, b = found.schedule.rates(t, x_t)
    answers = {}
    for labels in ([0, 2], [3, 3]):  # 3 is "no label"
        v = found.model(x_t, t, torch.tensor(labels))
        prediction = found.denoiser(None if labels == [3, 3] else torch.tensor(labels))(x_t, t)
        torch.testing.assert_close(prediction.x0, a * x_t - b * v, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(prediction.eps, b * x_t + a * v, rtol=1e-6, atol=1e-6)
        answers[labels[0]] = prediction.eps
    assert float((answers[0] - answers[3]).abs().max()) > 1e-2  # labels matter
    for scale in (0.0, 1.0, 2.5):
        guided = found.denoiser(torch.tensor([0, 2]), scale)(x_t, t).eps
        expected = scale * answers[0] + (1 - scale) * answers[3]
        torch.testing.assert_close(guided, expected, rtol=1e-5, atol=1e-5)


def test_a_network_without_classes_denoises_too(tmp_path: Path):
    config = UNetConfig(image_size=8, width=8, mults=(1,), blocks=1, attention_at=())
    found = load_weights(stored(tmp_path / "w", config))
    x_t = draw(2, 1, 8, 8, dtype=torch.float32)
    assert found.denoiser()(x_t, 500).eps.shape == x_t.shape
    with pytest.raises(ValueError, match="labels: expected None"):
        found.denoiser(torch.tensor([0, 1]))(x_t, 500)


@pytest.mark.parametrize(
    ("labels", "scale", "words"),
    [
        (torch.tensor([0, 1, 2]), 1.0, r"labels: expected shape \(2,\), got \(3,\)"),
        (torch.tensor([0, 4]), 1.0, "labels: expected 0..3 .*got 0..4"),
        (torch.tensor([0, -1]), 2.0, "labels: expected 0..3 .*got -1..0"),
        (torch.tensor([0.0, 1.0]), 1.0, "labels: expected int32 or int64, got torch.float32"),
        ([0, 1.0], 1.0, "labels: expected an integer, or a list"),
        (None, 2.0, "scale: expected 1.0 where there are no labels to be guided to, got 2.0"),
        (None, math.nan, "scale: expected 1.0 .*got nan"),
        (torch.tensor([0, 1]), -1.0, "scale: expected a number.*got -1.0"),
        (torch.tensor([0, 1]), math.nan, "scale: expected a number.*got nan"),
    ],
)
def test_labels_and_scales_that_do_not_fit_are_refused(good, labels, scale, words):
    error = refusal(lambda: load_weights(good).denoiser(labels, scale)(draw(2, 1, 8, 8, dtype=torch.float32), 5))
    with pytest.raises(type(error), match=words):
        raise error


# ---- files that are wrong ----


@pytest.mark.parametrize("cut", [0, 4, 8, 60, 3000, -5000, -1])
def test_a_cut_file_is_refused(good, tmp_path: Path, cut):
    (tmp_path / "w").write_bytes(good.read_bytes()[:cut])
    assert "expected a whole safetensors file, got a damaged or foreign one" in refused(tmp_path / "w")


@pytest.mark.parametrize("content", [b"a letter\n" * 50, (2).to_bytes(8, "little") + b"[]", b"\xff" * 100, b"{}"])
def test_another_file_is_refused(tmp_path: Path, content):
    (tmp_path / "w").write_bytes(content)
    assert "expected a whole safetensors file" in refused(tmp_path / "w")


def test_another_safetensors_file_is_refused(tmp_path: Path):
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.zeros(2)}, tmp_path / "w", metadata)
        assert "expected weights written by `python -m diffusion_lib train`" in refused(tmp_path / "w")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    assert "expected a file of weights, found none (No such file or directory)" in refused(tmp_path / "none")
    assert "expected a file of weights, found none (Is a directory)" in refused(tmp_path)


def test_one_altered_byte_is_refused(good, tmp_path: Path):
    content = bytearray(good.read_bytes())
    sha256 = hashlib.sha256(content).hexdigest()
    assert load_weights(good, sha256).sha256 == sha256
    content[-100] ^= 1
    (tmp_path / "w").write_bytes(content)
    words = refused(tmp_path / "w", sha256)
    assert f"expected SHA-256 {sha256}" in words and "altered or damaged" in words
    assert load_weights(tmp_path / "w").model.config == TINY  # only the checksum can tell


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 16}, "tensors contradict the configuration; down.0.blocks.0"),
        ({"mults": [1, 2, 2], "attention_at": [2]}, "tensors contradict the configuration"),
        ({"blocks": 2}, "got None"),
        ({"classes": 0}, "label.weight: expected None, got (4, 32)"),
        ({"classes": 5}, "1 tensors contradict the configuration; label.weight: expected (6, 32), got (4, 32)"),
        ({"image_size": 7}, "expected a description of the network.*image_size"),
        ({"width": -8}, "expected a description of the network.*width: expected at least 1, got -8"),
        ({"colour": True}, "expected a description of the network.*colour"),
    ],
)
def test_a_configuration_that_contradicts_the_tensors_is_refused(good, tmp_path: Path, change, words):
    run = load_weights(good).run
    path = rewritten(good, tmp_path / "w", {**run, "unet": {**run["unet"], **change}})
    found = refused(path)
    first, _, second = words.partition(".*")
    assert first in found and second in found


@pytest.mark.parametrize(
    "run",
    [None, "{", "[]", "{}", "3", {"unet": 3}, {"family": "vae"}, {"schedule": "bent"}, {"predict": "past"}],
    ids=["none", "no JSON", "list", "empty", "number", "network", "family", "schedule", "prediction"],
)
def test_a_description_that_does_not_fit_is_refused(good, tmp_path: Path, run):
    whole = {**load_weights(good).run, **run} if isinstance(run, dict) else run
    words = refused(rewritten(good, tmp_path / "w", whole))
    assert "expected a description of the network, got one that does not fit" in words


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("head.bias"),
        lambda t: t.update(extra=torch.zeros(1)),
        lambda t: t.update({"head.bias": torch.zeros(2)}),
    ],
    ids=["one missing", "one more", "another shape"],
)
def test_tensors_that_contradict_the_configuration_are_refused(good, tmp_path: Path, change):
    tensors = load_file(good)
    change(tensors)
    path = rewritten(good, tmp_path / "w", dict(load_weights(good).run), tensors)
    assert "1 tensors contradict the configuration" in refused(path)


# ---- files that were written before `family`, when a U-Net had switches for ablations ----


def before(run: dict, **switches: bool) -> dict:
    """Return a description as it was then."""
    old = {name: value for name, value in run.items() if name != "family"}
    return {**old, "unet": {**old["unet"], "skips": True, "time": True, "attention": True, **switches}}


def test_a_description_written_before_is_read(good, tmp_path: Path):
    found = load_weights(good)
    old = load_weights(rewritten(good, tmp_path / "w", before(dict(found.run))))
    assert old.run == found.run and old.model.config == TINY
    for left, right in zip(old.model.parameters(), found.model.parameters(), strict=True):
        assert left.equal(right)


@pytest.mark.parametrize("switch", ["skips", "time", "attention"])
def test_a_network_without_a_part_is_refused_by_name(good, tmp_path: Path, switch):
    path = rewritten(good, tmp_path / "w", before(dict(load_weights(good).run), **{switch: False}))
    assert f"unet.{switch}: expected true, a U-Net with all its parts, got False" in refused(path)


# Answers of the shipped networks in float64, from the library of the commit before the change (19e6a81): of the second
# of three images, the mean, the mean square and the pixel in the middle.
ANSWERS = {
    "mnist": (0.7510518722255, 1.018142862185, -0.8805762026375),
    "digits": (0.4008559076712, 0.6377782366401, -0.3883140988116),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_shipped_files_answer_as_before(name):
    network = pretrained.pretrained(name).model.double()
    side, generator = network.config.image_size, torch.Generator().manual_seed(3)
    x = torch.randn(3, 1, side, side, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        answer = network(x, torch.tensor([1, 400, 1000]), torch.tensor([0, 7, 10]))[1, 0]
    found = answer.mean(), answer.square().mean(), answer[side // 2, side // 2]
    assert [float(value) for value in found] == pytest.approx(ANSWERS[name], rel=1e-9)


# ---- what ships ----


def test_an_unknown_name_is_refused():
    for name in ("mnits", "", "../mnist"):
        with pytest.raises(ValueError, match=rf"name: expected one of .*, got '{name}'"):
            pretrained.pretrained(name)


def test_names_lead_to_checked_files(good, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(pretrained, "ASSETS", good.parent)
    monkeypatch.setattr(pretrained, "SHA256", {"tiny": hashlib.sha256(good.read_bytes()).hexdigest()})
    assert pretrained.pretrained("tiny").model.config == TINY
    monkeypatch.setattr(pretrained, "SHA256", {"tiny": "0" * 64})
    with pytest.raises(WeightsError, match="expected SHA-256 000"):
        pretrained.pretrained("tiny")


def test_every_shipped_network_loads_answers_and_is_small(record_count):
    """All of pretrained.SHA256: loaded by name, one guided guess at noise; together at most 5 MB; no file besides."""
    sizes = []
    for name in pretrained.SHA256:
        found = pretrained.pretrained(name)
        config = found.model.config
        x_t = draw(2, config.channels, config.image_size, config.image_size, dtype=torch.float32)
        guess = found.denoiser(torch.tensor([0, 7]), 2.0)(x_t, found.schedule.T)
        assert bool(guess.x0.isfinite().all() & guess.eps.isfinite().all())
        assert float((guess.eps - x_t).square().mean()) < 0.1  # at t = T, x_t is the noise, nearly
        sizes.append((pretrained.ASSETS / f"{name}.safetensors").stat().st_size)
        record_count("shipped weights", 1)
    assert sum(sizes) <= 5_000_000
    shipped = {path.stem for path in pretrained.ASSETS.glob("*.safetensors")}
    assert shipped == set(pretrained.SHA256)


def test_the_card_tells_size_checksum_steps_and_command_of_each_network():
    card = (pretrained.ASSETS / "README.md").read_text()
    for name, digest in pretrained.SHA256.items():
        found = pretrained.pretrained(name)
        run, size = found.run, sum(p.numel() for p in found.model.parameters())
        assert f"## {name}" in card
        part = card.split(f"## {name}")[1].split("\n## ")[0]
        assert digest in part and f"{run['step']:,} steps" in part and f"{size:,} parameters" in part
        assert f"python -m diffusion_lib train --data {run['data']}" in part
