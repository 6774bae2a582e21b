"""The examples run as a reader would run them, in a process of their own, without a network."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_train_and_sample_draws_digits(tmp_path):
    script, out = EXAMPLES / "train_and_sample.py", tmp_path / "digits.png"
    command = [sys.executable, str(script), "--steps", "20", "--width", "8", "--out", str(out)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("step 20: loss ")
    assert 0 < float(done.stdout.split()[-1]) < 1.2  # v has about variance 1: an answer of 0 has loss 1
    with Image.open(out) as image:
        assert image.size == (1024, 64) and image.mode == "L"
        assert len(np.unique(np.asarray(image))) > 10  # greys
    assert len(script.read_text().splitlines()) <= 40
