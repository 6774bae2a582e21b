"""Run the tests with the lowest versions that requirements.txt and pyproject.toml declare, in a second environment.

PyTorch is taken as it comes: old CPU builds are not on every index. Images may differ from the stored ones in their
bytes, which nothing compares; everything that is printed has to be the same.

First a third environment, as a platform has it that pins its own Jupyter (Colab's versions): the bare library installs
there without moving a pin, and every module of it can be imported.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from kernels import ROOT

VENV, PINNED_VENV = ROOT / ".venv-lowest", ROOT / ".venv-pinned"
PINNED = ["ipykernel==6.17.1", "ipython==7.34.0", "jupyter-server==2.14.0"]
IMPORT_ALL = """
import importlib, pkgutil, diffusion_lib
names = [m.name for m in pkgutil.walk_packages(diffusion_lib.__path__, "diffusion_lib.")]
for name in names:
    importlib.import_module(name)
print(f"{len(names)} modules imported")
"""


def declared() -> list[str]:
    """Return every requirement, of the course and of the tests."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [line for line in lines if line and not line.startswith("#")] + project["optional-dependencies"]["test"]


def torch_and_pins() -> tuple[str, list[str]]:
    """Return PyTorch's requirement as it is and every other one pinned to its lowest version."""
    torch = next(requirement for requirement in declared() if requirement.startswith("torch>="))
    others = [requirement for requirement in declared() if requirement != torch]
    return torch, [re.sub(r">=([^,]+).*", r"==\1", requirement) for requirement in others]


def environment(folder: Path) -> Path:
    """Make a virtual environment, once, with PyTorch in it, and return its interpreter."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", torch_and_pins()[0]], check=True)
    return python


def pinned() -> None:
    """Install the bare library beside a platform's own Jupyter and import all of it. Raises: CalledProcessError."""
    python = environment(PINNED_VENV)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PINNED], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PINNED, "-e", str(ROOT)], check=True)
    subprocess.run([python, "-c", IMPORT_ALL], check=True)


def main() -> int:
    """Make the environments, install, import, run the suite; returns the exit code."""
    pinned()
    python, pins = environment(VENV), torch_and_pins()[1]
    print("\n".join(pins), flush=True)
    install = [python, "-m", "pip", "install", "--quiet"]
    have = subprocess.run([python, "-c", "import torch; print(torch.__version__)"], stdout=subprocess.PIPE, check=True)
    subprocess.run([*install, f"torch=={have.stdout.decode().strip()}", *pins], check=True)
    subprocess.run([*install, "--no-deps", "-e", str(ROOT)], check=True)
    subprocess.run([python, "-m", "diffusion_lib.teaching.server"], check=True)
    return subprocess.run([python, str(ROOT / "tools" / "suite.py")], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
