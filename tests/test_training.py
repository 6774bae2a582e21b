"""The trainer against recursions by hand in float64; checkpoints that are whole, cut, foreign or of another run."""

import errno
import math
from pathlib import Path

import pytest
import torch
from oracles import draw, names_everything, refusal
from safetensors.torch import save_file
from torch import nn

from diffusion_lib import training
from diffusion_lib.training import (
    CheckpointError,
    Trainer,
    TrainingConfig,
    TrainingError,
    differences,
    learning_rate,
    load_checkpoint,
    read_checkpoint,
    require_same_step,
    save_checkpoint,
    share_of,
    step_generator,
    write_atomically,
)

WISH = draw(3, seed=5)  # what the linear model should learn


def linear_model(dtype: torch.dtype = torch.float64) -> nn.Module:
    model = nn.Linear(3, 1, bias=False, dtype=dtype)
    with torch.no_grad():
        model.weight.copy_(draw(1, 3, seed=3))
    return model


def line_draw(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    return x, x @ WISH


def line_loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (model(x)[:, 0] - y) ** 2


class Pixels(nn.Module):
    """Two convolutions in the memory layout of real training; what a wrong order of moments would spoil."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.last = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)
        self.to(memory_format=torch.channels_last)
        self.seen: list[torch.dtype] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x.contiguous(memory_format=torch.channels_last))
        self.seen.append(hidden.dtype)
        return self.last(torch.nn.functional.silu(hidden))


def pixel_draw(generator: torch.Generator) -> tuple[torch.Tensor]:
    return (torch.randn(4, 2, 5, 5, generator=generator),)


def pixel_loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return (model(x) - x.flip(-1)).square().flatten(1).mean(1)


def pixel_trainer(steps: int = 8, seed: int = 0) -> Trainer:
    return Trainer(Pixels(), TrainingConfig(steps, lr=0.01, warmup=2, seed=seed))


def taken(trainer: Trainer, steps: int, picture: bool = True) -> Trainer:
    """Take so many steps."""
    run = trainer.train(pixel_draw, pixel_loss) if picture else trainer.train(line_draw, line_loss)
    for _ in range(steps):
        next(run)
    return trainer


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(left[k].equal(right[k]) for k in left)


# ---- one step after the other ----


def by_hand(config: TrainingConfig, weight: list[float], steps: int) -> list[dict]:
    """AdamW (Loshchilov and Hutter 2019, Algorithm 2), clipping and the average, number by number in Python floats."""
    w, m, v, ema, history = list(weight), [0.0] * 3, [0.0] * 3, list(weight), []
    for k in range(1, steps + 1):
        x, y = line_draw(torch.Generator().manual_seed(k))
        wrong = [sum(w[i] * float(row[i]) for i in range(3)) - float(target) for row, target in zip(x, y, strict=True)]
        grad = [sum(2 * e * float(row[i]) for e, row in zip(wrong, x, strict=True)) / 4 for i in range(3)]
        norm = math.sqrt(sum(g * g for g in grad))
        grad = [g * min(1.0, config.clip / (norm + 1e-6)) for g in grad]
        cosine = math.cos(math.pi * k / (2 * config.steps)) ** 2
        lr = config.lr * min(k / config.warmup, cosine)
        for i in range(3):
            m[i] = 0.9 * m[i] + 0.1 * grad[i]
            v[i] = 0.999 * v[i] + 0.001 * grad[i] ** 2
            step = (m[i] / (1 - 0.9**k)) / (math.sqrt(v[i] / (1 - 0.999**k)) + 1e-8)
            w[i] = w[i] - lr * config.weight_decay * w[i] - lr * step
            kept = min(config.ema, (1 + k) / (10 + k))
            ema[i] = kept * ema[i] + (1 - kept) * w[i]
        loss = sum(e * e for e in wrong) / 4
        history.append(
            {"loss": loss, "norm": norm, "lr": lr, "w": list(w), "ema": list(ema), "m": list(m), "v": list(v)}
        )
    return history


@pytest.mark.parametrize(
    "config",
    [
        TrainingConfig(40, lr=0.1, warmup=5, ema=0.5, clip=0.7, weight_decay=0.1),
        TrainingConfig(30, lr=0.02, warmup=1, ema=0.999, clip=100.0),
    ],
    ids=["clipped, decayed, short average", "plain, young average"],
)
def test_weights_average_moments_and_report_are_the_recursion_by_hand(config):
    trainer = Trainer(linear_model(), config)
    expected = by_hand(config, linear_model().weight[0].tolist(), config.steps)
    clipped = 0
    for k, (step, hand) in enumerate(zip(trainer.train(line_draw, line_loss), expected, strict=True), start=1):
        found = {name: tensor.flatten().tolist() for name, tensor in trainer.tensors().items()}
        assert found["model.weight"] == pytest.approx(hand["w"], rel=1e-10, abs=1e-12)
        assert found["ema.weight"] == pytest.approx(hand["ema"], rel=1e-10, abs=1e-12)
        assert found["exp_avg.weight"] == pytest.approx(hand["m"], rel=1e-10, abs=1e-12)
        assert found["exp_avg_sq.weight"] == pytest.approx(hand["v"], rel=1e-10, abs=1e-12)
        assert step == pytest.approx((k, hand["loss"], hand["norm"], hand["lr"]), rel=1e-10, abs=1e-15)
        clipped += step.norm > config.clip
    assert trainer.step == config.steps
    assert (clipped > 3) == (config.clip < 1)  # the first case does clip, the second never


def test_training_learns_and_the_average_follows():
    trainer = Trainer(linear_model(), TrainingConfig(400, lr=0.1, warmup=10, ema=0.9))
    losses = [step.loss for step in trainer.train(line_draw, line_loss)]
    assert losses[-1] < 1e-4 * losses[0]
    torch.testing.assert_close(trainer.ema["weight"][0], WISH, rtol=0, atol=1e-2)


def test_learning_rate_rises_then_falls_along_a_cosine():
    config = TrainingConfig(1000, lr=2.0, warmup=100)
    expected = {1: 0.02, 50: 1.0, 200: 2 * 0.9045084971874737, 500: 1.0, 750: 2 * 0.14644660940672624, 1000: 0.0}
    assert {k: learning_rate(config, k) for k in expected} == pytest.approx(expected, abs=1e-12)
    rates = [learning_rate(config, k) for k in range(1, 1001)]
    top = rates.index(max(rates))
    assert 90 < top < 100 and rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert learning_rate(TrainingConfig(10, lr=1.0, warmup=0), 1) == pytest.approx(math.cos(math.pi / 20) ** 2)


def test_a_step_draws_the_same_however_it_is_reached_and_seeds_differ():
    """PyTorch's generator reads 32 bits of its seed: a seed in the upper half would change nothing."""
    first = {(s, k): float(torch.rand(1, generator=step_generator(s, k))) for s in range(30) for k in range(1, 30)}
    assert len(set(first.values())) == len(first)
    assert step_generator(0, 7).initial_seed() == 7  # what step 7 of seed 0 has always drawn
    for seed in (0, 1, 2**32 - 1):
        left, right = (torch.randn(5, generator=step_generator(seed, 2**31)) for _ in range(2))
        assert left.equal(right)


def test_step_k_draws_with_the_generator_of_step_k():
    seen = []
    trainer = Trainer(linear_model(), TrainingConfig(4, seed=3))
    for _ in trainer.train(lambda g: (seen.append(g.initial_seed()), line_draw(g))[1], line_loss):
        pass
    assert seen == [step_generator(3, k).initial_seed() for k in (1, 2, 3, 4)]


def test_another_seed_is_another_run():
    left, right = (taken(pixel_trainer(seed=s), 3).tensors() for s in (0, 1))
    assert not left["model.first.weight"].equal(right["model.first.weight"])


def test_bf16_computes_in_bfloat16_and_keeps_weights_in_float32():
    for bf16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        trainer = taken(Trainer(Pixels(), TrainingConfig(2, bf16=bf16)), 2)
        assert set(trainer.model.seen) == {dtype}
        assert {tensor.dtype for tensor in trainer.tensors().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("poison", "words"),
    [
        (lambda x: x * math.nan, "got loss nan"),
        (lambda x: x / 0, "got loss inf"),
        (lambda x: (x - x.detach()).abs().sqrt(), "norm nan"),  # 0, with a gradient that is not finite
    ],
    ids=["NaN", "infinity", "gradient"],
)
def test_a_loss_that_is_not_finite_stops_before_it_spoils_anything(poison, words):
    trainer = taken(Trainer(linear_model(), TrainingConfig(9)), 4, picture=False)
    before = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
    with pytest.raises(TrainingError, match=rf"^step 5: expected a finite loss and gradient.*{words}"):
        next(trainer.train(line_draw, lambda *a: poison(line_loss(*a))))
    assert trainer.step == 4 and same(before, trainer.tensors())
    assert all(bool(tensor.isfinite().all()) for tensor in before.values())
    assert next(trainer.train(line_draw, line_loss)).step == 5  # and can go on


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", -1),
        ("steps", 2.0),
        ("lr", 0.0),
        ("lr", math.nan),
        ("warmup", -1),
        ("ema", 1.1),
        ("ema", math.nan),
        ("clip", 0.0),
        ("weight_decay", -0.1),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
def test_bad_settings_are_refused_at_once(name, value):
    error = refusal(lambda: TrainingConfig(**{"steps": 5, name: value}))
    assert names_everything(error, name, str(value)), error


# ---- several processes ----


@pytest.fixture
def rank(monkeypatch):
    """Pretend to be one of several processes."""

    def pretend(rank: int, world: int) -> None:
        monkeypatch.setattr(training.dist, "is_initialized", lambda: True)
        monkeypatch.setattr(training.dist, "get_world_size", lambda: world)
        monkeypatch.setattr(training.dist, "get_rank", lambda: rank)

    return pretend


def test_shares_are_the_batch_in_order(rank):
    whole = draw(6, 2)
    assert share_of(whole) is whole
    parts = []
    for k in range(3):
        rank(k, 3)
        parts.append(share_of(whole))
    assert [len(part) for part in parts] == [2, 2, 2] and torch.cat(parts).equal(whole)


def test_a_batch_that_does_not_divide_is_refused(rank):
    rank(0, 4)
    error = refusal(lambda: share_of(draw(6, 2)))
    assert names_everything(error, "batch", "6") and "4 processes" in str(error)


def test_processes_that_found_another_checkpoint_stop(rank, monkeypatch):
    trainer = taken(pixel_trainer(), 2)
    require_same_step(trainer)
    rank(0, 2)
    monkeypatch.setattr(training.dist, "all_reduce", lambda value: value.add_(4))  # the other process is at step 4
    with pytest.raises(CheckpointError, match="got step 2 here and a mean of 3.0"):
        require_same_step(trainer)


# ---- checkpoints ----

ABOUT = {"data": "noise", "unet": {"width": 8, "mults": [1, 2]}}


@pytest.mark.parametrize("stop", [1, 3, 7])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, stop):
    whole = taken(pixel_trainer(), 8)
    save_checkpoint(tmp_path / "c", taken(pixel_trainer(), stop), ABOUT)
    resumed = pixel_trainer()
    load_checkpoint(tmp_path / "c", resumed, ABOUT)
    assert resumed.step == stop
    steps = list(resumed.train(pixel_draw, pixel_loss))
    assert [step.step for step in steps] == list(range(stop + 1, 9))
    assert same(whole.tensors(), resumed.tensors())
    assert resumed.model.first.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_checkpoint_says_what_it_is(tmp_path: Path):
    trainer = taken(pixel_trainer(), 2)
    save_checkpoint(tmp_path / "c", trainer, ABOUT)
    found = read_checkpoint(tmp_path / "c")
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
        save_file({"weight": torch.zeros(3)}, path, {"format": training.FORMAT})
    elif how == "no JSON":
        save_file({"weight": torch.zeros(3)}, path, {"format": training.FORMAT, "run": "{", "step": "3"})
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
    save_checkpoint(tmp_path / "good", taken(pixel_trainer(), 2), ABOUT)
    spoilt(tmp_path / "bad", (tmp_path / "good").read_bytes(), how)
    trainer = taken(pixel_trainer(), 1)
    before = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
    with pytest.raises(CheckpointError, match="bad: expected a whole checkpoint, got a damaged or foreign") as caught:
        load_checkpoint(tmp_path / "bad", trainer, ABOUT)
    assert "\n" not in str(caught.value)
    assert trainer.step == 1 and same(before, trainer.tensors())


@pytest.mark.parametrize(
    ("config", "about", "words"),
    [
        ({"lr": 0.02}, {}, "training.lr is 0.02 here and 0.01 there"),
        ({"steps": 9}, {}, "training.steps is 9 here and 8 there"),
        ({"seed": 1}, {}, "training.seed is 1 here and 0 there"),
        ({}, {"data": "other"}, "data is other here and noise there"),
        ({}, {"unet": {"width": 16, "mults": [1, 2]}}, "unet.width is 16 here and 8 there"),
        ({"lr": 0.02}, {"data": "x"}, "data is x here and noise there; training.lr is 0.02 here and 0.01 there"),
    ],
)
def test_another_run_is_refused_by_name(tmp_path: Path, config, about, words):
    save_checkpoint(tmp_path / "c", taken(pixel_trainer(), 2), ABOUT)
    other = Trainer(Pixels(), TrainingConfig(**{"steps": 8, "lr": 0.01, "warmup": 2, **config}))
    with pytest.raises(CheckpointError, match="belongs to another run: " + words):
        load_checkpoint(tmp_path / "c", other, {**ABOUT, **about})
    assert other.step == 0


def test_another_model_dtype_or_number_of_steps_is_refused(tmp_path: Path):
    trainer = taken(pixel_trainer(), 2)
    save_checkpoint(tmp_path / "c", trainer, ABOUT)
    for model in (linear_model(), Pixels().double()):
        other = Trainer(model, trainer.config)
        with pytest.raises(CheckpointError, match="expected the model's tensors"):
            load_checkpoint(tmp_path / "c", other, ABOUT)
    for step in (-1, 0, 9):
        trainer.step = step
        save_checkpoint(tmp_path / "c", trainer, ABOUT)
        with pytest.raises(CheckpointError, match=rf"expected a step in 1..8, got {step}"):
            load_checkpoint(tmp_path / "c", pixel_trainer(), ABOUT)


def test_an_older_checkpoint_of_the_run_is_taken_up(tmp_path: Path):
    trainer = taken(pixel_trainer(), 2)
    save_checkpoint(tmp_path / "old", trainer, ABOUT)
    whole = taken(trainer, 6).tensors()
    other = taken(pixel_trainer(), 5)  # a trainer that had gone further
    load_checkpoint(tmp_path / "old", other, ABOUT)
    assert same(whole, taken(other, 6).tensors())


def test_differences_are_named_by_their_path():
    assert differences({"a": {"b": 1, "c": 2}, "d": None}, {"a": {"b": 1, "c": 3}}) == ["a.c is 2 here and 3 there"]
    assert differences({}, {"x": {"y": 1}}) == ["x is None here and {'y': 1} there"]


# ---- files ----


def test_a_full_disk_leaves_the_good_file_and_makes_room(tmp_path: Path, monkeypatch):
    path = tmp_path / "checkpoint"
    write_atomically(path, b"good")

    def full(content: bytes):
        yield content[:3]
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(training, "pieces", full)
        with pytest.raises(OSError, match="No space left on device: '.*checkpoint'"):
            write_atomically(path, b"better")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"checkpoint": b"good"}
    write_atomically(path, b"better")
    assert path.read_bytes() == b"better"


def test_an_interrupted_write_leaves_the_good_file_and_the_next_one_succeeds(tmp_path: Path, monkeypatch):
    path = tmp_path / "checkpoint"
    write_atomically(path, b"good")

    def interrupted(content: bytes):
        yield content[:3]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "pieces", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(path, b"better")
    assert path.read_bytes() == b"good" and (tmp_path / "checkpoint.part").exists()
    write_atomically(path, b"b")  # shorter than the half-written part
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"checkpoint": b"b"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file/checkpoint"):
        write_atomically(tmp_path / "file" / "checkpoint", b"x")
    with pytest.raises(FileNotFoundError, match="nowhere/checkpoint"):
        write_atomically(tmp_path / "nowhere" / "checkpoint", b"x")


def test_pieces_are_the_whole_content_in_order():
    content = bytes(range(256)) * 9
    for size in (1, 7, 256, 5000):
        assert b"".join(training.pieces(content, size)) == content
    assert list(training.pieces(b"")) == []
