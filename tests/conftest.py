"""What every test shares: one thread, the offline block, the counts that `make test` prints last, the browser."""

import os
import runpy
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
OFFLINE = TESTS / "support" / "offline"

# Before anything else is imported. The block holds in this process and, through PYTHONPATH, in every child of it.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH", "")]))
os.environ.update(TQDM_DISABLE="1", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
runpy.run_path(str(OFFLINE / "sitecustomize.py"))
sys.path[:0] = [str(TESTS / "support"), str(TESTS.parent / "tools")]

import binaries  # noqa: E402
import own_images  # noqa: E402
import pytest  # noqa: E402


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test marked `browser` is skipped on a machine without one; under CI=true that is a failure."""
    if not item.get_closest_marker("browser"):
        return
    item.user_properties.append(("browser", item.name))
    if not binaries.chromium():
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up("no Chromium found: install it or set CHROMIUM to its path")


@pytest.fixture
def record_count(record_property):
    """`record_count("controls swept", 3)` adds 3 to the number of that name that `make test` prints."""
    return lambda name, number: record_property(f"count: {name}", int(number))


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """A folder of two classes: upper-case suffixes, a name in Chinese, another file and a hidden one among them."""
    for k in range(4):
        own_images.save(tmp_path / "animals" / "猫" / f"{k}.png", (60 * k, 0, 0))
    own_images.save(tmp_path / "animals" / "dog" / "deep" / "a.JPG", (0, 255, 0))
    (tmp_path / "animals" / "notes.txt").write_text("mine")
    (tmp_path / "animals" / "dog" / ".hidden.png").write_bytes(b"")
    return tmp_path / "animals"


@pytest.fixture
def clothes(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder with four small packed files of Fashion-MNIST's names, and their MD5."""
    return tmp_path, own_images.write_clothes(tmp_path)
