"""Run the tests with the lowest versions that requirements.txt and pyproject.toml declare, in a second environment.

PyTorch is taken as it comes: old CPU builds are not on every index. Pictures may differ from the stored ones in their
bytes, which nothing compares; everything that is printed has to be the same.
"""

import re
import subprocess
import sys
import tomllib

from notebooks import ROOT

VENV = ROOT / ".venv-lowest"


def declared() -> list[str]:
    """Return every requirement, of the runtime and of the tests."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [line for line in lines if line and not line.startswith("#")] + project["optional-dependencies"]["test"]


def torch_and_pins() -> tuple[str, list[str]]:
    """Return PyTorch's requirement as it is and every other one pinned to its lowest version."""
    torch = next(requirement for requirement in declared() if requirement.startswith("torch>="))
    others = [requirement for requirement in declared() if requirement != torch]
    return torch, [re.sub(r">=([^,]+).*", r"==\1", requirement) for requirement in others]


def main() -> int:
    """Make the environment, install, run the suite; returns the exit code."""
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    torch, pins = torch_and_pins()
    print("\n".join([torch, *pins]), flush=True)
    install = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, torch], check=True)
    have = subprocess.run([python, "-c", "import torch; print(torch.__version__)"], stdout=subprocess.PIPE, check=True)
    subprocess.run([*install, f"torch=={have.stdout.decode().strip()}", *pins], check=True)
    subprocess.run([*install, "--no-deps", "-e", str(ROOT)], check=True)
    return subprocess.run([python, str(ROOT / "tools" / "suite.py")], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
