"""Measure speed as ratios against diffusers: in one process all contenders of a case, interleaved; then in the next.

    python benchmarks/speed.py [--rounds 7] [--processes 5] [--write]   `make bench`; let nothing else run meanwhile

With --write the tables go to benchmarks/speed.md, one section a processor and set of vector instructions. Where PyTorch
would emulate bfloat16 number by number, its lines are left out.

Cases: (a) 16x16x1, width 32, mults (1, 2, 4), batch 128; (b) 32x32x1, mults (1, 2, 2), batch 64; two blocks a stage,
attention at the lowest. A training step is forward, backward, clipping left out, and AdamW. The peer is diffusers'
UNet2DModel of the same graph at its defaults (32 groups, heads of 8 channels), and once with our groups and heads.
"""

import argparse
import datetime
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

# For the processes that measure: two threads, and the same allocator for all, glibc's, told to keep what is freed. Left
# alone it gives a step's memory back, and the operating system clears it page by page for the next: up to a quarter of
# a step, now for one contender, now for the other.
os.environ |= {
    "OMP_NUM_THREADS": "2",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**36),
    "MALLOC_TOP_PAD_": str(2**30),
}

import diffusers
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from unet_oracle import head_dim, peer  # noqa: E402

from diffusion_lib.models.unet import UNet, UNetConfig  # noqa: E402
from diffusion_lib.process import Prediction  # noqa: E402
from diffusion_lib.runs import chosen_precision  # noqa: E402
from diffusion_lib.samplers import ddim, ddpm, dpmpp_2m, final  # noqa: E402
from diffusion_lib.schedules import linear, uniform_steps  # noqa: E402

CASES = {
    "(a) 16x16, mults (1, 2, 4), batch 128": (UNetConfig(image_size=16, mults=(1, 2, 4), attention_at=(4,)), 128),
    "(b) 32x32, mults (1, 2, 2), batch 64": (UNetConfig(), 64),
}
FAST_BF16 = chosen_precision("auto", torch.device("cpu")) == "bf16"
WORK = {
    "training, float32": (True, False),
    "training, bfloat16": (True, True),
    "inference, float32": (False, False),
    "inference, bfloat16": (False, True),
}


def seconds(call: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


WARM_UP = 4  # rounds until the allocator has what all contenders need; before, one pays for the memory of the other


def interleaved(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return each contender's median time; the first rounds warm up.

    A round calls all of them, each time in another order: what one leaves in the caches is met by every other.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    dice = random.Random(0)
    for _ in range(WARM_UP + rounds):
        for name in dice.sample(list(contenders), len(contenders)):
            found[name].append(seconds(contenders[name]))
    return {name: statistics.median(measured[WARM_UP:]) for name, measured in found.items()}


def apart(measure: Callable, *args: object) -> object:
    """Return what a function measures in a process of its own, whose memory no case before has cut to pieces.

    Where memory comes to lie differs from process to process, and a ratio with it, by up to a fifth.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *args).result()


def networks(config: UNetConfig) -> dict[str, tuple[nn.Module, Callable[[nn.Module, Tensor, Tensor], Tensor]]]:
    """Return the contenders and how each is called."""

    def ask(model: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        return model(x, t).sample

    return {
        "ours": (UNet(config), lambda model, x, t: model(x, t)),
        "diffusers": (peer(config), ask),
        "diffusers, our groups and heads": (peer(config, config.groups, head_dim(config)), ask),
    }


def times(config: UNetConfig, batch: int, train: bool, bf16: bool, rounds: int) -> dict[str, float]:
    """Return the median seconds of each contender."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, config.channels, config.image_size, config.image_size, generator=generator)
    target, t = torch.randn(x.shape, generator=generator), torch.randint(1, 1000, (batch,), generator=generator)
    contenders = networks(config).items()
    return interleaved({name: one(model, ask, x, t, target, train, bf16) for name, (model, ask) in contenders}, rounds)


def one(model, ask, x, t, target, train, bf16) -> Callable[[], object]:
    """Return a function that takes one training step or makes one prediction."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=isinstance(model, UNet))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = (ask(model, x, t).float() - target).square().mean()
        loss.backward()
        optimizer.step()

    @torch.inference_mode()
    def predict() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            ask(model, x, t)

    return step if train else predict


def flops(config: UNetConfig, batch: int) -> int:
    """Return the floating-point operations of a forward and a backward pass of the graph, as diffusers goes through it.

    Ours needs 6 to 8 % fewer: it doubles an image's side in a cheaper way.
    """
    model = peer(config)
    x = torch.randn(batch, config.channels, config.image_size, config.image_size)
    with FlopCounterMode(display=False) as counter:
        model(x, torch.full((batch,), 500)).sample.square().mean().backward()
    return counter.get_total_flops()


def convolution_peak(rounds: int, dtype: torch.dtype) -> float:
    """Return the best rate of a single convolution of the U-Net's shapes, in operations a second."""
    best = 0.0
    for channels, side in ((32, 32), (64, 32), (64, 16), (128, 16), (128, 8)):
        x = torch.randn(64, channels, side, side).to(dtype, memory_format=torch.channels_last)
        conv = nn.Conv2d(channels, channels, 3, padding=1).to(dtype, memory_format=torch.channels_last)
        with torch.inference_mode():
            times = [seconds(lambda conv=conv, x=x: conv(x)) for _ in range(4 * rounds)]
        best = max(best, 2 * 9 * channels**2 * x[:, 0].numel() / min(times))
    return best


def five(call: Callable[[], object]) -> Callable[[], None]:
    """Return a function that calls five times: one walk of a sampler is a millisecond, too short to time."""

    def calls() -> None:
        for _ in range(5):
            call()

    return calls


def sampler_overheads(rounds: int) -> dict[str, dict[str, float]]:
    """Return for each sampler each contender's seconds a step, denoiser excluded; 50 steps of 64x1x16x16."""
    x = torch.randn(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    schedule, guess = linear(), Prediction(torch.zeros_like(x), torch.zeros_like(x))
    steps = uniform_steps(schedule, 50)

    def stub(_x: Tensor, _t: Tensor) -> Prediction:
        return guess

    theirs = {
        "DDIM": DDIMScheduler(clip_sample=False),
        "DDPM": DDPMScheduler(clip_sample=False),
        "DPM-Solver++(2M)": DPMSolverMultistepScheduler(final_sigmas_type="zero"),
    }
    ours = {
        "DDIM": lambda: final(ddim(stub, schedule, x, steps)),
        "DDPM": lambda: final(ddpm(stub, schedule, x, steps, generator=torch.Generator().manual_seed(0))),
        "DPM-Solver++(2M)": lambda: final(dpmpp_2m(stub, schedule, x, steps)),
    }

    def walk(scheduler) -> None:
        scheduler.set_timesteps(50)
        state = x
        for t in scheduler.timesteps:
            state = scheduler.step(guess.eps, t, state).prev_sample

    found = {}
    for name, call in ours.items():
        pair = {"ours": five(call), "diffusers": five(lambda name=name: walk(theirs[name]))}
        found[name] = {who: median / 250 for who, median in interleaved(pair, 5 * rounds).items()}
    return found


def import_seconds(module: str, after: str = "time", rounds: int = 7) -> float:
    """Return the median time that a fresh interpreter, which has imported `after`, takes to import a module."""
    code = f"import time, {after}; s = time.perf_counter(); import {module}; print(time.perf_counter() - s)"
    return statistics.median(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(rounds)
    )


def processor() -> str:
    """Return the processor, with family and model where they are told, and the widest instructions used on it.

    A name alone can stand for processors that are twice as fast as each other.
    """
    about = Path("/proc/cpuinfo")  # Linux has it
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    kind = ", ".join(f"{key.split()[-1]} {told[key]}" for key in ("cpu family", "model") if key in told)
    name = told.get("model name", platform.processor())
    return f"{name}{kind and f' ({kind})'}, {torch.backends.cpu.get_cpu_capability()}"


def versions() -> str:
    """Return threads, versions and day in one line."""
    names = f"torch {torch.__version__}, diffusers {diffusers.__version__}, Python {platform.python_version()}"
    return f"{torch.get_num_threads()} threads; {names}; {datetime.date.today()}"


COUNTED = "The operations counted are the graph's, as diffusers goes through it; ours needs 6 to 8 % fewer of them."


def compared(found: list[dict[str, float]], unit: float, digits: int) -> str:
    """Return the cells of a row: our median time, then for each other contender its own and the ratio to ours.

    A ratio is the median of the processes' ratios; the least and the greatest stand behind it.
    """
    middle = {name: statistics.median(each[name] for each in found) / unit for name in found[0]}
    cells = [f"{middle.pop('ours'):.{digits}f}"]
    for name, value in middle.items():
        ratios = sorted(each[name] / each["ours"] for each in found)
        low, mid, high = (f"{ratio:.2f}" for ratio in (ratios[0], statistics.median(ratios), ratios[-1]))
        cells += [f"{value:.{digits}f}", f"{mid} ({low} to {high})"]
    return " | ".join(cells)


def report(rounds: int, processes: int) -> Iterator[str]:
    """Yield the section of this machine line by line: its name, then the tables."""
    how = f"{processes} processes for each line, of {rounds} rounds each, the contenders interleaved; medians"
    yield from [processor(), "", f"{versions()}. {how} (least to greatest of the processes' ratios).", ""]
    yield from [
        "| case | work | ours, ms | diffusers, ms | ratio | with our groups and heads | ratio |",
        "|" + "---|" * 7,
    ]
    rates = []
    for case, (config, batch) in CASES.items():
        for work, (train, bf16) in WORK.items():
            if bf16 and not FAST_BF16:
                continue
            found = [apart(times, config, batch, train, bf16, rounds) for _ in range(processes)]
            yield f"| {case} | {work} | {compared(found, 1e-3, 0)} |"
            if train:
                rates.append((case, work, flops(config, batch) / statistics.median(each["ours"] for each in found)))
    names = ("float32", "bfloat16") if FAST_BF16 else ("float32",)
    peaks = {name: apart(convolution_peak, rounds, getattr(torch, name)) for name in names}
    yield from ["", "| case | work | GFLOP/s | share of the best single convolution |", "|---|---|---|---|"]
    for case, work, rate in rates:
        peak = peaks[work.rpartition(" ")[2]]
        yield f"| {case} | {work} | {rate / 1e9:.0f} | {100 * rate / peak:.0f} % of {peak / 1e9:.0f} |"
    yield from ["", COUNTED, ""]
    yield from ["| sampler, 64x1x16x16 | ours, microseconds a step | diffusers | ratio |", "|---|---|---|---|"]
    overheads = [apart(sampler_overheads, rounds) for _ in range(processes)]
    for name in overheads[0]:
        yield f"| {name} | {compared([found[name] for found in overheads], 1e-6, 1)} |"
    alone, more = import_seconds("torch"), import_seconds("diffusion_lib.samplers", after="torch")
    yield from ["", f"`import torch`: {alone:.2f} s; `import diffusion_lib.samplers` after it: {more:.3f} s."]


def stored(text: str, section: str) -> str:
    """Return the document with a section put in the place of the one for the same processor, or at the end."""
    head, *sections = text.strip().split("\n\n## ")
    kept = {old.partition("\n")[0]: old for old in sections}
    kept[section.partition("\n")[0]] = section
    return "\n\n## ".join([head, *kept.values()]) + "\n"


def main() -> None:
    """Print the report; with --write, store it too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processes", type=int, default=5, help="for each line")
    parser.add_argument("--write", action="store_true", help="write benchmarks/speed.md")
    options = parser.parse_args()
    torch.set_num_threads(2)
    lines = []
    for line in report(options.rounds, options.processes):
        print(line, flush=True)
        lines.append(line)
    if options.write:
        table = ROOT / "benchmarks" / "speed.md"
        table.write_text(stored(table.read_text(encoding="utf-8"), "\n".join(lines)), encoding="utf-8")


if __name__ == "__main__":
    main()
