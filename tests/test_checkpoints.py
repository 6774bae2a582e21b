"""Checkpoints that are whole, cut, foreign or of another run; and those that were written before `family`."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_trainers import Pixels, linear_model, pixel_draw, pixel_loss, pixel_trainer, same, taken

from diffusion_lib import checkpoints, training
from diffusion_lib.checkpoints import CheckpointError, differences, load, read, require_same_step, save
from diffusion_lib.training import Trainer, TrainingConfig

RUN = {"data": "noise", "family": "unet", "unet": {"width": 8, "mults": [1, 2]}}


@pytest.mark.parametrize("stop", [1, 3, 7])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, stop):
    whole = taken(pixel_trainer(), 8)
    save(tmp_path / "c", taken(pixel_trainer(), stop), RUN)
    resumed = pixel_trainer()
    load(tmp_path / "c", resumed, RUN)
    assert resumed.step == stop
    steps = list(resumed.train(pixel_draw, pixel_loss))
    assert [step.step for step in steps] == list(range(stop + 1, 9))
    assert same(whole.tensors(), resumed.tensors())
    assert resumed.model.first.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_checkpoint_says_what_it_is(tmp_path: Path):
    trainer = taken(pixel_trainer(), 2)
    save(tmp_path / "c", trainer, RUN)
    found = read(tmp_path / "c")
    assert found.step == 2 and same(found.tensors, trainer.tensors())
    assert found.run["data"] == "noise" and found.run["training"]["lr"] == 0.01
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def spoilt(path: Path, good: bytes, how: int | str) -> None:
    """Write what is not a checkpoint of this run: cut after so many bytes, or of another kind."""
    if isinstance(how, int):
        path.write_bytes(good[:how])
    elif how == "text":
        path.write_text("a letter to a friend\n" * 100, encoding="utf-8")
    elif how == "long text":
        path.write_bytes(len("{}").to_bytes(8, "little") + b"no")
    elif how == "safetensors":
        save_file({"weight": torch.zeros(3)}, path)
    elif how == "no description":
        save_file({"weight": torch.zeros(3)}, path, {"format": checkpoints.FORMAT})
    elif how == "no JSON":
        save_file({"weight": torch.zeros(3)}, path, {"format": checkpoints.FORMAT, "run": "{", "step": "3"})
    elif how == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    "how",
    [
        0,
        1,
        8,
        9,
        200,
        2000,
        -1000,
        -1,
        "missing",
        "folder",
        "text",
        "long text",
        "safetensors",
        "no description",
        "no JSON",
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_line_and_changes_nothing(tmp_path: Path, how):
    save(tmp_path / "good", taken(pixel_trainer(), 2), RUN)
    spoilt(tmp_path / "bad", (tmp_path / "good").read_bytes(), how)
    trainer = taken(pixel_trainer(), 1)
    before = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
    with pytest.raises(CheckpointError, match="bad: expected a whole checkpoint, got a damaged or foreign") as caught:
        load(tmp_path / "bad", trainer, RUN)
    assert "\n" not in str(caught.value)
    assert trainer.step == 1 and same(before, trainer.tensors())


@pytest.mark.parametrize(
    ("config", "change", "words"),
    [
        ({"lr": 0.02}, {}, "training.lr is 0.02 here and 0.01 there"),
        ({"steps": 9}, {}, "training.steps is 9 here and 8 there"),
        ({"seed": 1}, {}, "training.seed is 1 here and 0 there"),
        ({}, {"data": "other"}, "data is other here and noise there"),
        ({}, {"unet": {"width": 16, "mults": [1, 2]}}, "unet.width is 16 here and 8 there"),
        ({"lr": 0.02}, {"data": "x"}, "data is x here and noise there; training.lr is 0.02 here and 0.01 there"),
    ],
)
def test_another_run_is_refused_by_name(tmp_path: Path, config, change, words):
    save(tmp_path / "c", taken(pixel_trainer(), 2), RUN)
    other = Trainer(Pixels(), TrainingConfig(**{"steps": 8, "lr": 0.01, "warmup": 2, **config}))
    with pytest.raises(CheckpointError, match="belongs to another run: " + words):
        load(tmp_path / "c", other, {**RUN, **change})
    assert other.step == 0


def test_another_model_dtype_or_number_of_steps_is_refused(tmp_path: Path):
    trainer = taken(pixel_trainer(), 2)
    save(tmp_path / "c", trainer, RUN)
    for model in (linear_model(), Pixels().double()):
        other = Trainer(model, trainer.config)
        with pytest.raises(CheckpointError, match="tensors are not the model's; the first: "):
            load(tmp_path / "c", other, RUN)
    for step in (-1, 0, 9):
        trainer.step = step
        save(tmp_path / "c", trainer, RUN)
        with pytest.raises(CheckpointError, match=rf"expected a step in 1..8, got {step}"):
            load(tmp_path / "c", pixel_trainer(), RUN)


def test_an_older_checkpoint_of_the_run_is_taken_up(tmp_path: Path):
    trainer = taken(pixel_trainer(), 2)
    save(tmp_path / "old", trainer, RUN)
    whole = taken(trainer, 6).tensors()
    other = taken(pixel_trainer(), 5)  # a trainer that had gone further
    load(tmp_path / "old", other, RUN)
    assert same(whole, taken(other, 6).tensors())


def normed(config: TrainingConfig) -> Trainer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3))
    return Trainer(model.double(), config)


def test_buffers_are_resumed_with_the_rest(tmp_path: Path):
    """Batch norm answers by its running statistics: without them a resumed network answers otherwise, silently."""
    config = TrainingConfig(steps=6, warmup=2, lr=0.01)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draw = lambda generator: [x[torch.randint(50, (8,), generator=generator)]]  # noqa: E731
    loss = lambda model, x: (model(x) - x).square().mean(1)  # noqa: E731
    walked = lambda trainer, steps: (list(islice(trainer.train(draw, loss), steps)), trainer)[1]  # noqa: E731
    whole = walked(normed(config), 6)
    save(tmp_path / "c", walked(normed(config), 3), RUN)
    resumed = normed(config)
    load(tmp_path / "c", resumed, RUN)
    walked(resumed, 3)
    assert same(whole.tensors(), resumed.tensors())
    assert torch.equal(whole.model.eval()(x), resumed.model.eval()(x))
    assert int(resumed.model[1].num_batches_tracked) == 6


@pytest.mark.parametrize("wrap", [torch.compile, torch.nn.DataParallel])
def test_a_wrapped_network_has_the_plain_ones_names(tmp_path: Path, wrap):
    trainer = Trainer(wrap(linear_model()), TrainingConfig(steps=4))
    plain = Trainer(linear_model(), TrainingConfig(steps=4))
    assert set(trainer.tensors()) == set(plain.tensors()) and set(trainer.ema) == set(plain.ema)
    trainer.step = 1
    save(tmp_path / "c", trainer, RUN)
    load(tmp_path / "c", plain, RUN)
    assert same(plain.tensors(), trainer.tensors())
    plain.model.load_state_dict(trainer.ema)


def test_the_first_tensor_that_differs_is_named(tmp_path: Path):
    trainer = taken(pixel_trainer(), 1)
    save(tmp_path / "c", trainer, RUN)
    other = Trainer(linear_model(), trainer.config)
    with pytest.raises(
        CheckpointError, match=r"tensors are not the model's; the first: .*\.\w+ is .* here and .* there"
    ):
        load(tmp_path / "c", other, RUN)


def test_differences_are_named_by_their_path():
    assert differences({"a": {"b": 1, "c": 2}, "d": None}, {"a": {"b": 1, "c": 3}}) == ["a.c is 2 here and 3 there"]
    assert differences({}, {"x": {"y": 1}}) == ["x is None here and {'y': 1} there"]


def test_processes_that_found_another_checkpoint_stop(monkeypatch):
    trainer = taken(pixel_trainer(), 2)
    require_same_step(trainer)
    monkeypatch.setattr(training.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(training.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(training.dist, "all_reduce", lambda value: value.add_(4))  # the other process is at step 4
    with pytest.raises(CheckpointError, match="got step 2 here and a mean of 3.0"):
        require_same_step(trainer)
