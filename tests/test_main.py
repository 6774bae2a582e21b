"""The command line: what a run leaves behind, what it says, and every mistake answered in one line."""

import errno
import functools
import io
import json
import math
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load, save_file

from diffusion_lib import __main__ as command
from diffusion_lib import checkpoints, data, files, pretrained, recipes, runs, training
from diffusion_lib.data import Digits

DIGITS = functools.cache(data.digits)  # reading them takes longer than a step
TINY = ["--width", "8", "--mults", "1", "2", "--blocks", "1", "--batch", "4", "--precision", "float32"]
SHORT = ["--steps", "6", "--warmup", "2", "--log-every", "2", "--save-every", "3"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Digits read once; grids of grey instead of 25 steps of 80 images, but where a test asks for real ones."""
    monkeypatch.setattr(data, "digits", DIGITS)
    monkeypatch.setattr(runs, "sample_images", lambda network, *options: torch.zeros(80, 1, 16, 16))
    monkeypatch.delenv("RANK", raising=False)


def train(out: Path, *more: object) -> int:
    """Run `train` with the tiny network; later options win."""
    return command.main(["train", "--out", str(out), *TINY, *SHORT, *map(str, more)])


def test_no_message_stops_a_run_whatever_the_terminal_can_write(tmp_path, monkeypatch):
    written = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in written.items():
        monkeypatch.setattr(sys, name, stream)
    assert train(tmp_path / "数字", "--resume") == 0  # "digits"
    assert train(tmp_path / "数字") == 1  # it is there: an error with the same name
    for name, words in (("stdout", rb"\u6570\u5b57: begun at step 0"), ("stderr", rb"\u6570\u5b57: holds a run")):
        written[name].flush()
        assert words in written[name].buffer.getvalue()


def lines(out: Path) -> list[dict]:
    """Return the metrics but the speed, which is the machine's."""
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(line.pop("images_per_s") > 0 for line in found)
    return found


def same_tensors(left: Path, right: Path) -> bool:
    a, b = (load(path.read_bytes()) for path in (left, right))
    return a.keys() == b.keys() and all(a[k].equal(b[k]) for k in a)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def stopped_after(monkeypatch, step: int, error: BaseException) -> None:
    """Let every training stop with `error` once this step is taken and logged."""
    original = runs.log_step

    def log(path: Path, taken: training.TrainingStep, mean: float, speed: float) -> None:
        original(path, taken, mean, speed)
        if taken.step == step:
            raise error

    monkeypatch.setattr(runs, "log_step", log)


# ---- a run ----


def test_a_run_leaves_checkpoint_weights_metrics_and_images(tmp_path: Path, capsys):
    out = tmp_path / "new" / "run"
    assert train(out) == 0
    assert capsys.readouterr().out == f"{out}: begun at step 0\n"
    assert sorted(contents(out)) == [
        "checkpoint.safetensors",
        "metrics.jsonl",
        "samples_000006.png",
        "weights.safetensors",
    ]
    found = checkpoints.read(out / "checkpoint.safetensors")
    assert found.step == 6 and found.run["training"]["steps"] == 6 and found.run["unet"]["width"] == 8
    assert found.run["init"] is None
    network = pretrained.load_weights(out / "weights.safetensors")
    for name, p in network.model.named_parameters():
        assert p.equal(found.tensors[f"ema.{name}"].half().float())
    assert network.run["step"] == 6 and network.run["data"] == "digits"


def test_metrics_have_a_line_for_each_interval(tmp_path: Path):
    """Steps 2, 4 and 6; 3 is a checkpoint's, so that the line of step 4 is the mean of step 4 alone."""
    train(tmp_path)
    train(tmp_path / "every", "--log-every", 1)
    each = {line["step"]: line for line in lines(tmp_path / "every")}
    assert sorted(each) == [1, 2, 3, 4, 5, 6]
    found = {line["step"]: line for line in lines(tmp_path)}
    assert sorted(found) == [2, 4, 6]
    assert found[2]["loss"] == pytest.approx((each[1]["loss"] + each[2]["loss"]) / 2, rel=1e-12)
    assert found[4] == each[4]
    assert found[6]["loss"] == pytest.approx((each[5]["loss"] + each[6]["loss"]) / 2, rel=1e-12)
    assert found[6]["lr"] == 0 and found[2]["lr"] == pytest.approx(4e-4 * math.cos(math.pi / 6) ** 2)


def test_the_first_loss_is_that_of_a_network_that_answers_nothing(tmp_path: Path):
    """A new network answers 0, so its loss is the mean of eps^2 over the first batch, drawn here by hand."""
    train(tmp_path, "--log-every", 1, "--seed", 0)
    generator = torch.Generator().manual_seed(1)
    torch.randperm(1437, generator=generator), torch.randint(1, 1001, (4,), generator=generator)
    eps = torch.randn(4, 1, 16, 16, generator=generator)
    assert lines(tmp_path)[0]["loss"] == pytest.approx(float(eps.square().mean()), rel=1e-6)


def test_the_same_seed_is_the_same_run_and_another_is_not(tmp_path: Path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(tmp_path / name, "--seed", seed)
    checkpoints = [tmp_path / name / "checkpoint.safetensors" for name in "abc"]
    assert same_tensors(checkpoints[0], checkpoints[1]) and not same_tensors(checkpoints[0], checkpoints[2])
    assert lines(tmp_path / "a") == lines(tmp_path / "b") != lines(tmp_path / "c")


@pytest.mark.parametrize(("data_name", "side"), [("digits", 16), ("mnist", 28)])
def test_the_images_of_a_run_have_the_right_size(tmp_path: Path, monkeypatch, data_name, side):
    """Eight rows of ten; MNIST's 32 x 32 are cropped back to 28 x 28."""
    monkeypatch.undo()
    original = runs.sample_images
    monkeypatch.setattr(runs, "sample_images", lambda network, *options: original(network, 2))
    few = Digits(
        torch.rand(8, 1, 28, 28) * 2 - 1, torch.arange(8) + 2, torch.zeros(1, 1, 28, 28), torch.zeros(1).long()
    )
    monkeypatch.setattr(data, "mnist", lambda folder=None: few)
    monkeypatch.setattr(data, "digits", DIGITS)
    assert train(tmp_path, "--data", data_name, "--steps", 2, "--sample-every", 1) == 0
    grids = [Image.open(tmp_path / f"samples_00000{k}.png") for k in (1, 2)]
    assert [(grid.size, grid.mode) for grid in grids] == [((10 * side, 8 * side), "L")] * 2
    assert len(set(grids[0].getdata())) > 10  # something is drawn
    weights = str(tmp_path / "weights.safetensors")
    assert command.main(["sample", weights, "--out", str(tmp_path / "s.png"), "--seed", "0"]) == 0
    assert list(Image.open(tmp_path / "s.png").getdata()) == list(grids[1].getdata())  # the same, as asked by hand


def test_a_grid_is_laid_row_by_row(tmp_path: Path):
    images = torch.linspace(-1, 1, 6)[:, None, None, None].expand(6, 1, 2, 3)
    runs.save_grid(tmp_path / "g.png", images, columns=2)
    grid = Image.open(tmp_path / "g.png")
    assert grid.size == (6, 6)
    assert [grid.getpixel((3 * (k % 2), 2 * (k // 2))) for k in range(6)] == [0, 51, 102, 153, 204, 255]


def test_the_bar_shows_loss_and_images_a_second(tmp_path: Path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    assert train(tmp_path) == 0
    shown = terminal.getvalue()
    assert "6/6" in shown and re.search(r"loss \d\.\d{4}, \d+ images/s", shown)
    quiet = io.StringIO()
    monkeypatch.setattr(sys, "stderr", quiet)
    assert train(tmp_path / "quiet") == 0 and quiet.getvalue() == ""  # no bar in a log file


def test_processes_that_do_not_lead_write_nothing(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "is_main_process", lambda: False)
    assert train(tmp_path) == 0
    assert contents(tmp_path) == {} and capsys.readouterr().out == ""


def test_precision_is_chosen_for_the_machine(monkeypatch):
    cpu = torch.device("cpu")
    for name in ("float32", "bf16", "float64"):
        assert runs.chosen_precision(name, cpu) == name
    for fast, expected in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda fast=fast: fast, raising=False)
        assert runs.chosen_precision("auto", cpu) == expected


# ---- interrupted and resumed (with kill -9 and at random moments: test_resume.py) ----


def test_ctrl_c_says_how_to_go_on_and_loses_nothing(tmp_path: Path, monkeypatch, capsys):
    train(tmp_path / "whole")
    with monkeypatch.context() as patch:
        stopped_after(patch, 4, KeyboardInterrupt())
        assert train(tmp_path / "run") == 130
    assert capsys.readouterr().err == "interrupted: --resume goes on from the last checkpoint\n"
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # a line that was cut
    assert [line["step"] for line in map(json.loads, (tmp_path / "run/metrics.jsonl").open().readlines()[:-1])] == [
        2,
        4,
    ]
    assert train(tmp_path / "run", "--resume") == 0
    assert capsys.readouterr().out.endswith("run: resumed after step 3\n")
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    for name in ("checkpoint.safetensors", "weights.safetensors"):
        assert same_tensors(tmp_path / "run" / name, tmp_path / "whole" / name)


def test_resume_before_the_first_checkpoint_begins_anew(tmp_path: Path, monkeypatch, capsys):
    train(tmp_path / "whole")
    with monkeypatch.context() as patch:
        stopped_after(patch, 2, KeyboardInterrupt())
        assert train(tmp_path / "run") == 130
    assert train(tmp_path / "run", "--resume") == 0
    assert capsys.readouterr().out.endswith("run: begun at step 0\n")
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    assert same_tensors(tmp_path / "run/checkpoint.safetensors", tmp_path / "whole/checkpoint.safetensors")


def test_resume_of_a_finished_run_changes_nothing(tmp_path: Path, capsys):
    train(tmp_path)
    before = contents(tmp_path)
    assert train(tmp_path, "--resume") == 0
    assert contents(tmp_path) == before and capsys.readouterr().out.endswith("resumed after step 6\n")


def test_an_older_checkpoint_leads_to_the_same_end(tmp_path: Path, monkeypatch):
    original, old = checkpoints.save, tmp_path / "old"

    def save(path: Path, trainer: training.Trainer, description: dict) -> None:
        original(path, trainer, description)
        if trainer.step == 3:
            old.write_bytes(path.read_bytes())

    monkeypatch.setattr(checkpoints, "save", save)
    train(tmp_path / "run")
    checkpoint, told = tmp_path / "run/checkpoint.safetensors", lines(tmp_path / "run")
    checkpoint.rename(tmp_path / "end"), old.rename(checkpoint)
    assert train(tmp_path / "run", "--resume") == 0
    assert same_tensors(checkpoint, tmp_path / "end") and lines(tmp_path / "run") == told


BEFORE = Path(__file__).parent / "data" / "before_families.safetensors"


def test_a_checkpoint_stored_before_families_is_resumed_to_the_end(tmp_path: Path):
    """Step 3 of 6, written by the library at commit 19e6a81, whose own steps 4 to 6 had these losses and norms."""
    options = ["--width", 2, "--mults", 1, "--blocks", 1, "--groups", 1, "--log-every", 1, "--attention-at"]
    stored = checkpoints.read(BEFORE)
    assert stored.step == 3 and stored.run["family"] == "unet" and "skips" not in stored.run["unet"]
    shutil.copy(BEFORE, tmp_path / "checkpoint.safetensors")
    assert train(tmp_path, "--resume", *options) == 0
    found = lines(tmp_path)
    assert [line["step"] for line in found] == [4, 5, 6]
    assert [line["loss"] for line in found] == pytest.approx([0.963858902, 0.955991745, 1.027207613], rel=1e-5)
    assert [line["norm"] for line in found] == pytest.approx([0.479367375, 0.439031929, 0.377206922], rel=1e-4)
    assert "skips" not in checkpoints.read(tmp_path / "checkpoint.safetensors").run["unet"]


@pytest.mark.parametrize("switch", ["skips", "time", "attention"])
def test_a_checkpoint_of_a_network_without_a_part_is_refused_by_name(tmp_path: Path, capsys, switch):
    stored = checkpoints.read(BEFORE)
    run = {**stored.run, "unet": {**stored.run["unet"], switch: False}}
    metadata = {"format": checkpoints.FORMAT, "step": "3", "run": json.dumps(run)}
    save_file(stored.tensors, tmp_path / "checkpoint.safetensors", metadata)
    assert train(tmp_path, "--resume") == 1
    words = f"expected the description of a run, got one that does not fit (unet.{switch}: expected true"
    assert words in one_error(capsys)


def test_parts_that_a_killed_run_left_are_removed_on_resuming(tmp_path: Path):
    train(tmp_path)
    for name in ("checkpoint.safetensors", "weights.safetensors", "metrics.jsonl"):
        (tmp_path / f"{name}.0123abcd.part").write_bytes(b"half")
    (tmp_path / "notes.part").write_text("keep me")
    before = {path.name for path in tmp_path.iterdir() if "0123abcd" not in path.name}
    assert train(tmp_path, "--resume") == 0
    assert {path.name for path in tmp_path.iterdir()} == before


# ---- beginning with weights ----


def test_init_begins_with_the_parameters_of_a_file(tmp_path: Path, monkeypatch):
    train(tmp_path / "first")
    weights = tmp_path / "first/weights.safetensors"
    seen = {}
    monkeypatch.setattr(runs, "take_steps", lambda options, trainer, *rest: seen.update(trainer.tensors()))
    assert train(tmp_path / "second", "--init", weights, "--seed", 5) == 0
    for name, tensor in load(weights.read_bytes()).items():
        assert seen[f"model.{name}"].equal(tensor.float()) and seen[f"ema.{name}"].equal(tensor.float())
    assert not any(bool(tensor.any()) for name, tensor in seen.items() if name.startswith("exp_avg"))


def test_init_is_recorded_and_the_checkpoint_wins_on_resume(tmp_path: Path, monkeypatch):
    train(tmp_path / "first", "--seed", 9)
    weights = tmp_path / "first/weights.safetensors"
    sha256 = pretrained.load_weights(weights).sha256
    train(tmp_path / "whole", "--init", weights)
    for name in ("checkpoint", "weights"):
        run = json.loads(json.dumps(dict(pretrained.load_weights(tmp_path / "whole/weights.safetensors").run)))
        if name == "checkpoint":
            run = checkpoints.read(tmp_path / "whole/checkpoint.safetensors").run
        assert run["init"] == {"weights": str(weights), "sha256": sha256}
    train(tmp_path / "plain")
    assert not same_tensors(tmp_path / "plain/checkpoint.safetensors", tmp_path / "whole/checkpoint.safetensors")
    for i, again in enumerate(([], ["--init", weights], ["--init", tmp_path / "nowhere"])):
        with monkeypatch.context() as patch:
            stopped_after(patch, 4, KeyboardInterrupt())
            assert train(tmp_path / f"{i}", "--init", weights) == 130
        assert train(tmp_path / f"{i}", "--resume", *again) == 0
        assert same_tensors(tmp_path / f"{i}/checkpoint.safetensors", tmp_path / "whole/checkpoint.safetensors")
        run = checkpoints.read(tmp_path / f"{i}/checkpoint.safetensors").run
        assert run["init"] == {"weights": str(weights), "sha256": sha256}


def test_init_with_resume_before_the_first_checkpoint_begins_with_the_weights(tmp_path: Path):
    train(tmp_path / "first")
    weights = tmp_path / "first/weights.safetensors"
    train(tmp_path / "a", "--init", weights), train(tmp_path / "b", "--init", weights, "--resume")
    assert same_tensors(tmp_path / "a/checkpoint.safetensors", tmp_path / "b/checkpoint.safetensors")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--width", 16], "unet.width is 16 here and 8 there"),
        (["--mults", 1, 1], r"unet.mults is \[1, 1\] here and \[1, 2\] there"),
        (["--attention-at", 16, "--blocks", 2], "unet.attention_at is .*unet.blocks is 2 here and 1 there"),
        (["--predict", "v"], "predict is v here and eps there"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(tmp_path: Path, capsys, options, words):
    train(tmp_path / "first")
    weights = tmp_path / "first/weights.safetensors"
    assert train(tmp_path / "second", "--init", weights, *options) == 1
    expected = rf"error: --init {re.escape(str(weights))}: expected the weights of this network; {words}\n"
    assert re.fullmatch(expected, capsys.readouterr().err)
    assert not (tmp_path / "second").exists()


# ---- mistakes ----


def one_error(capsys) -> str:
    """Return the one line on stderr."""
    found = capsys.readouterr().err
    assert found.startswith("error: ") and found.endswith("\n") and found.count("\n") == 1, found
    return found


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", 0], "steps: expected at least 1, got 0"),
        (["--steps", -3], "steps: expected at least 1, got -3"),
        (["--batch", 0], "batch: expected 1..1437, got 0"),
        (["--batch", 1438], "batch: expected 1..1437, got 1438"),
        (["--lr", "nan"], "lr: expected a number in"),
        (["--lr", 0], "lr: expected a finite number above 0"),
        (["--ema", 2], "ema: expected a number in"),
        (["--clip", -1], "clip: expected"),
        (["--drop", 1.5], "drop: expected a number in"),
        (["--seed", -1], "seed: expected 0..4294967295, got -1"),
        (["--warmup", -1], "warmup: expected at least 0"),
        (["--mults", 1, 2, 2, 2, 2, 2], "image_size: expected a multiple of 32 for 6 stages, got 16"),
        (["--width", 9], "width: expected channels that are even and divide by 2 groups"),
        (["--groups", 5], "width: expected channels that are even and divide by 5 groups"),
        (["--attention-at", 5], "attention_at: expected sides among"),
        (["--save-every", 0], "save_every: expected at least 1, got 0"),
        (["--log-every", 0], "log_every: expected at least 1, got 0"),
        (["--sample-every", -1], "sample_every: expected at least 1, got -1"),
        (["--data", "mnist", "--folder", "/nowhere"], "/nowhere/train-images-idx3-ubyte: expected this file or"),
        (["--data", "faces"], "faces: expected a folder of images, found none"),
        (["--data", "fashion-mnist"], "--folder: expected the folder of Fashion-MNIST's four files"),
        (["--init", "mnits"], "mnits: expected a file of weights, found none"),
    ],
)
def test_bad_options_are_one_line_and_leave_no_folder(tmp_path: Path, capsys, options, words):
    assert train(tmp_path / "run", *options) == 1
    assert words in one_error(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [["--steps", "many"], ["--damaged", "mend"], ["--predict", "x1"], ["--fast"]])
def test_argparse_has_its_own_status(tmp_path: Path, capsys, options):
    with pytest.raises(SystemExit) as caught:
        train(tmp_path / "run", *options)
    assert caught.value.code == 2 and "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Digits(torch.zeros(0, 1, 16, 16), torch.zeros(0).long(), None, None), "x0: expected at least one example"),
        (Digits(torch.zeros(9, 1, 16, 16), torch.zeros(7).long(), None, None), "labels: expected shape (9,), got (7,)"),
        (Digits(torch.zeros(9, 1, 16, 16) / 0, torch.zeros(9).long(), None, None), "x0: expected finite numbers"),
        (Digits(torch.zeros(9, 1, 16, 16), torch.full((9,), 30), None, None), "no_label: expected at least 31, got 10"),
    ],
    ids=["empty", "labels of another number", "not finite", "a label out of range"],
)
def test_data_that_do_not_fit_are_refused(tmp_path: Path, monkeypatch, capsys, found, words):
    monkeypatch.setattr(data, "digits", lambda size: found)
    assert train(tmp_path / "run") == 1
    assert words in one_error(capsys)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys):
    (tmp_path / "file").write_text("keep me")
    assert train(tmp_path / "file" / "run") == 1
    assert "Not a directory" in (words := one_error(capsys)) and "file/run" in words
    assert train(tmp_path / "file") == 1
    assert "File exists" in one_error(capsys) and (tmp_path / "file").read_text() == "keep me"


def test_a_folder_that_holds_a_run_is_left_alone(tmp_path: Path, capsys):
    train(tmp_path / "run")
    before = contents(tmp_path / "run")
    assert train(tmp_path / "run", "--seed", 3) == 1
    assert "run: holds a run already; add --resume to go on with it, or name another --out" in one_error(capsys)
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", 12], "training.steps is 12 here and 6 there"),
        (["--batch", 8], "batch is 8 here and 4 there"),
        (["--width", 16], "unet.width is 16 here and 8 there"),
        (
            ["--schedule", "cosine", "--predict", "v"],
            "predict is v here and eps there; schedule is cosine here and lin",
        ),
        (["--seed", 1], "training.seed is 1 here and 0 there"),
        (["--precision", "float64"], "precision is float64 here and float32 there"),
    ],
)
def test_resume_with_other_settings_is_refused_by_name(tmp_path: Path, capsys, options, words):
    train(tmp_path / "run")
    before = contents(tmp_path / "run")
    assert train(tmp_path / "run", "--resume", *options) == 1
    error = one_error(capsys)
    assert "checkpoint.safetensors: belongs to another run: " in error and words in error
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("cut", [0, 100, -1, None])
def test_resume_of_a_damaged_checkpoint_is_refused_and_replaces_nothing(tmp_path: Path, capsys, cut):
    train(tmp_path / "run")
    path = tmp_path / "run/checkpoint.safetensors"
    path.write_bytes(b"a letter\n" * 99 if cut is None else path.read_bytes()[:cut])
    before = contents(tmp_path / "run")
    for more in (["--resume"], []):
        assert train(tmp_path / "run", *more) == 1
        one_error(capsys)
        assert contents(tmp_path / "run") == before


def test_metrics_of_something_else_are_refused_and_kept(tmp_path: Path, capsys):
    for content in (b'{"epoch": 1}\n', b"a letter\n", b"\xff\xfe\n", b"[1]\n"):
        (tmp_path / "metrics.jsonl").write_bytes(content)
        assert train(tmp_path) == 1
        assert "metrics.jsonl: expected lines of JSON with a step" in one_error(capsys)
        assert contents(tmp_path) == {"metrics.jsonl": content}


def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on_later(tmp_path: Path, monkeypatch, capsys):
    train(tmp_path / "whole")
    original = files.pieces

    def full(content: bytes):
        if b'"step":"6"' in content[:100_000]:  # the checkpoint's own header
            yield content[:1000]
            raise OSError(errno.ENOSPC, "No space left on device")
        yield from original(content)

    with monkeypatch.context() as patch:
        patch.setattr(files, "pieces", full)
        assert train(tmp_path / "run") == 1
    assert "No space left on device: " in one_error(capsys)
    assert checkpoints.read(tmp_path / "run/checkpoint.safetensors").step == 3
    assert not list((tmp_path / "run").glob("*.part"))
    assert train(tmp_path / "run", "--resume") == 0
    assert same_tensors(tmp_path / "run/checkpoint.safetensors", tmp_path / "whole/checkpoint.safetensors")
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")


def test_a_loss_that_is_not_a_number_names_the_step_and_keeps_the_checkpoint(tmp_path: Path, monkeypatch, capsys):
    original, calls = recipes.image_loss, []

    def loss(*arguments: object) -> torch.Tensor:
        calls.append(1)
        return original(*arguments) * (math.nan if len(calls) == 5 else 1.0)

    monkeypatch.setattr(recipes, "image_loss", loss)
    assert train(tmp_path) == 1
    assert "error: step 5: expected a finite loss and gradient, got loss nan" in one_error(capsys)
    found = checkpoints.read(tmp_path / "checkpoint.safetensors")
    assert found.step == 3 and all(bool(tensor.isfinite().all()) for tensor in found.tensors.values())


# ---- the other two commands ----


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["mnits"], "mnits: expected a file of weights, found none (No such file or directory)"),
        (["{run}/checkpoint.safetensors"], "expected weights written by `python -m diffusion_lib train`"),
        (["{run}/metrics.jsonl"], "expected a whole safetensors file"),
        (["{run}/weights.safetensors", "--steps", "0"], "steps: expected 2..1000, got 0"),
        (["{run}/weights.safetensors", "--scale", "-1"], "scale: expected a number in"),
        (["{run}/weights.safetensors", "--scale", "nan"], "scale: expected a number in"),
        (["{run}/weights.safetensors", "--steps", "2", "--out", "{run}/none/s.png"], "No such file or directory"),
        (["{run}/weights.safetensors", "--steps", "2", "--out", "{run}/s.txt"], "unknown file extension: .txt"),
    ],
)
def test_sample_refuses_in_one_line(tmp_path: Path, monkeypatch, capsys, options, words):
    train(tmp_path)
    monkeypatch.undo()
    assert command.main(["sample", *(option.replace("{run}", str(tmp_path)) for option in options)]) == 1
    assert words in one_error(capsys)


def test_sample_draws_what_is_asked(tmp_path: Path, monkeypatch):
    train(tmp_path)
    monkeypatch.undo()
    drawn = {}
    for name, more in {"a": [], "b": ["--seed", "1"], "c": ["--scale", "3"], "d": ["--steps", "3"]}.items():
        out = tmp_path / f"{name}.png"
        arguments = ["sample", str(tmp_path / "weights.safetensors"), "--steps", "2", "--out", str(out), *more]
        assert command.main(arguments) == 0
        drawn[name] = list(Image.open(out).getdata())
    assert len({tuple(pixels) for pixels in drawn.values()}) >= 3


def test_download_says_what_is_there_and_fails_in_one_line(tmp_path: Path, monkeypatch, capsys):
    assert command.main(["download", "--cache", str(tmp_path)]) == 1  # the tests have no network
    assert "no whole copy was found" in one_error(capsys)
    few = Digits(torch.zeros(5, 1, 28, 28), None, torch.zeros(2, 1, 28, 28), None)
    monkeypatch.setattr(data, "mnist", lambda folder=None, cache=None: few)
    assert command.main(["download"]) == 0
    assert capsys.readouterr().out == "MNIST: 5 training and 2 test images are there\n"
